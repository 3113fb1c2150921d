//! The documented commands, literally: every machine is a folder, `scp` copies between the folders.
//!
//! ```text
//! docs/operations.md ─► blocks() ─► steps(): machine, line ─► sh in the machine's folder
//! ```
//! [`blocks`], [`steps`] and [`Machines`] know no program: a test that has the services too can run their lines as
//! well.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use blindsum_certs::credentials::IDENTITY_KEY_FILE;
use blindsum_certs::{Credentials, ErrorKind, Role, load_identity, roster};

const PAGE: &str = include_str!("../../../docs/operations.md");
const SILOS: [&str; 4] = ["clinic-a", "clinic-b", "clinic-c", "clinic-d"];

/// One line of a documented block, on the machine that its comment names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The machine.
    pub machine: String,
    /// What is typed there.
    pub line: String,
}

/// The fenced `sh` blocks below `heading`, up to the next heading.
pub fn blocks<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, section) = page.split_once(&format!("{heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    section.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

/// The lines of a block in their order. A comment `# machine: …` says where the lines below it are typed; what says the
/// first of `silos` stands for all of them.
pub fn steps(block: &str, silos: &[&str]) -> Vec<Step> {
    let mut found = Vec::new();
    for section in block.trim().split("\n\n") {
        let (comment, lines) = section.split_once('\n').unwrap();
        let machine = comment.strip_prefix("# ").unwrap().split_once(':').unwrap().0;
        let as_silo = |silo: &str, line: &str| Step {
            machine: machine.replace(silos[0], silo),
            line: line.replace(silos[0], silo),
        };
        if machine == silos[0] {
            found.extend(silos.iter().flat_map(|silo| lines.lines().map(|line| as_silo(silo, line))));
        } else {
            for line in lines.lines() {
                let silos = if line.contains(silos[0]) { silos } else { &silos[..1] };
                found.extend(silos.iter().map(|silo| as_silo(silo, line)));
            }
        }
    }
    found
}

/// Machines as folders side by side.
pub struct Machines {
    dir: tempfile::TempDir,
    path: String,
}

impl Machines {
    /// Fresh ones; `programs` is the folder of the programs that they have.
    pub fn new(programs: &Path) -> Machines {
        let dir = tempfile::tempdir().unwrap();
        let scp = dir.path().join("bin/scp");
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(
            &scp,
            "#!/bin/sh\nfor to; do :; done\n\
             while [ $# -gt 1 ]; do cp -- \"$1\" \"../${to%%:*}/${to#*:}\" || exit 1; shift; done\n",
        )
        .unwrap();
        fs::set_permissions(&scp, fs::Permissions::from_mode(0o755)).unwrap();
        let path = [dir.path().join("bin"), programs.to_path_buf()].map(|p| p.display().to_string()).join(":");
        let path = format!("{path}:{}", std::env::var("PATH").unwrap());
        Machines { dir, path }
    }

    /// A machine's folder.
    pub fn folder(&self, machine: &str) -> PathBuf {
        let folder = self.dir.path().join(machine);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Types a line; what it says, when it succeeds.
    pub fn type_in(&self, step: &Step) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-ec", &step.line]).current_dir(self.folder(&step.machine)).env("PATH", &self.path);
        let output = shell.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {}: {error}", step.machine, step.line);
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Whether a line is run here: enrolment; the services' lines are for a test that has them.
fn enrols(step: &Step) -> bool {
    ["blindsum-certs ", "scp "].iter().any(|program| step.line.starts_with(program))
}

#[test]
fn the_documented_commands_make_a_federation() {
    let programs = Path::new(env!("CARGO_BIN_EXE_blindsum-certs")).parent().unwrap();
    let machines = Machines::new(programs);
    let blocks = blocks(PAGE, "## Several machines");
    let [enrolment, revocation] = blocks[..] else { panic!("{} blocks", blocks.len()) };
    for machine in ["authority", "coordinator"].iter().chain(&SILOS) {
        machines.folder(machine);
    }

    let all = steps(enrolment, &SILOS);
    let services: Vec<&Step> = all.iter().filter(|step| !enrols(step)).collect();
    assert_eq!(services.len(), 2 + 2 * SILOS.len(), "{services:?}");
    let mut fingerprints = Vec::new();
    let mut proposed = Vec::new();
    for step in all.iter().filter(|step| enrols(step)) {
        let said = machines.type_in(step);
        let commands = said.lines().filter_map(|line| line.strip_prefix("  blindsum-certs "));
        proposed.extend(
            commands.map(|line| Step { machine: step.machine.clone(), line: format!("blindsum-certs {line}") }),
        );
        if step.line.starts_with("blindsum-certs roster") {
            fingerprints.extend(said.lines().filter(|line| line.starts_with("fingerprint")).map(str::to_owned));
        }
    }
    assert_eq!(fingerprints.len(), 2 + SILOS.len());
    assert!(fingerprints.iter().all(|f| f == &fingerprints[0]), "{fingerprints:?}");
    // What a member's commands print as the next one is what stands on the page.
    let proposed: Vec<&Step> = proposed.iter().filter(|step| step.machine != "authority").collect();
    assert_eq!(proposed.iter().filter(|step| step.line.contains(" install ")).count(), 1 + SILOS.len());
    for step in proposed {
        assert!(all.contains(step), "{step:?} is proposed, but the page says otherwise");
    }

    let coordinator = machines.folder("coordinator");
    Credentials::load(&coordinator.join("keys"), Role::Coordinator).unwrap();
    let roster = roster::load(&coordinator.join("roster.toml")).unwrap();
    for silo in SILOS {
        let keys = machines.folder(silo).join("keys");
        assert_eq!(Credentials::load(&keys, Role::Silo).unwrap().info.name, silo);
        let identity = load_identity(&keys.join(IDENTITY_KEY_FILE)).unwrap().public();
        assert!(roster.entries().iter().any(|entry| entry.name == silo && entry.identity == identity));
    }

    for step in steps(revocation, &SILOS) {
        machines.type_in(&step);
    }
    for (silo, revoked) in [("clinic-a", false), ("clinic-d", true)] {
        let keys = machines.folder(silo).join("keys");
        fs::copy(coordinator.join("keys/revoked.pem"), keys.join("revoked.pem")).unwrap();
        let refused = Credentials::load(&keys, Role::Silo).err().map(|e| e.kind());
        assert_eq!(refused, revoked.then_some(ErrorKind::Revoked), "{silo}");
    }
}
