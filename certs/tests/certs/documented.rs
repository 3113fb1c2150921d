//! The documented commands of enrolment and revocation, literally. `demo/tests` runs the services' lines as well.

use std::fs;
use std::path::Path;

use blindsum_certs::credentials::IDENTITY_KEY_FILE;
use blindsum_certs::{Credentials, ErrorKind, Role, load_identity, roster};
use blindsum_testkit::documented::{Machines, OPERATIONS, SECTION, Step, blocks, steps};

const SILOS: [&str; 4] = ["clinic-a", "clinic-b", "clinic-c", "clinic-d"];

/// Whether a line is run here: enrolment; the services' lines are for a test that has them.
fn enrols(step: &Step) -> bool {
    ["blindsum-certs ", "scp "].iter().any(|program| step.line.starts_with(program))
}

#[test]
fn the_documented_commands_make_a_federation() {
    let programs = Path::new(env!("CARGO_BIN_EXE_blindsum-certs")).parent().unwrap();
    let machines = Machines::new(programs);
    let blocks = blocks(OPERATIONS, SECTION);
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
