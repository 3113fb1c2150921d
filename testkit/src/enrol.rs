//! A federation on disk, by the steps that people take: what each process of it reads.
//!
//! ```text
//! root/authority/   root/hub/ (the coordinator, for this machine)   root/<silo>/   root/roster.toml
//! ```

use std::path::Path;

use blindsum_certs::authority::Validity;
use blindsum_certs::folder::{AuthorityFolder, IdentityFile, coordinator_init, install, silo_init};
use blindsum_certs::request::Request;
use blindsum_certs::{Role, roster};
use blindsum_crypto::Roster;

/// Makes keys, has the authority sign them, installs what it signed, and writes the roster.
pub fn federation<S: AsRef<str>>(root: &Path, name: &str, silos: &[S]) -> Roster {
    let year = Validity::days(365).unwrap();
    let authority = AuthorityFolder::init(&root.join("authority"), name, year).unwrap();
    let certify = |member: &str, csr: &Path, role: Role| {
        let request = Request::from_pem(&std::fs::read_to_string(csr).unwrap()).unwrap();
        let signed = root.join(format!("{member}.pem"));
        authority.sign(&request, role, year, false, &signed).unwrap();
        install(&root.join(member), &signed, &authority.certificate_path(), None).unwrap();
    };
    let hosts = ["localhost", "127.0.0.1"].map(str::to_owned);
    certify("hub", &coordinator_init(&root.join("hub"), "hub", &hosts).unwrap().csr, Role::Coordinator);
    let enrolled = silos.iter().map(|silo| {
        let silo = silo.as_ref();
        let made = silo_init(&root.join(silo), silo).unwrap();
        certify(silo, &made.csr, Role::Silo);
        IdentityFile::load(&made.identity.unwrap()).unwrap()
    });
    let roster = roster::make(name, 1, enrolled.collect()).unwrap();
    std::fs::write(root.join("roster.toml"), roster::to_toml(&roster).unwrap()).unwrap();
    roster
}
