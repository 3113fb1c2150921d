//! The documented commands, literally: every machine is a folder, `scp` copies between the folders.
//!
//! ```text
//! docs/operations.md ─► blocks() ─► steps(): machine, line ─► sh in the machine's folder
//! ```
//! Nothing here knows a program: a test runs the lines of those that it has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How to run a federation on several machines.
pub const OPERATIONS: &str = include_str!("../../docs/operations.md");
/// The heading of the section whose commands make one.
pub const SECTION: &str = "## Several machines";

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

    /// A line about to be typed.
    pub fn shell(&self, step: &Step) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-ec", &step.line]).current_dir(self.folder(&step.machine)).env("PATH", &self.path);
        shell
    }

    /// Types a line; what it says, when it succeeds.
    pub fn type_in(&self, step: &Step) -> String {
        let output = self.shell(step).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {}: {error}", step.machine, step.line);
        String::from_utf8(output.stdout).unwrap()
    }
}
