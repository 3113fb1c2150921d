//! Whole federations in memory: authority, coordinator for this machine, silos, roster.
//!
//! Certificates in a repository expire; these are made in milliseconds. Nothing here touches a disk.

use std::time::{Duration, SystemTime};

use blindsum_certs::authority::{Authority, Revoked, Validity};
use blindsum_certs::folder::IdentityFile;
use blindsum_certs::request::{Request, new_request};
use blindsum_certs::{Credentials, Role, roster};
use blindsum_crypto::{IdentityKey, Roster};
use rustls::pki_types::CertificateRevocationListDer;

/// A silo's credentials and identity.
pub struct Member {
    pub name: String,
    pub credentials: Credentials,
    /// As pinned in the roster.
    pub identity: IdentityKey,
}

/// A minted federation.
pub struct Federation {
    /// To mint more.
    pub authority: Authority,
    /// Named `coordinator`, for `localhost`, `127.0.0.1` and `::1`.
    pub coordinator: Credentials,
    /// In roster order (sorted by name).
    pub silos: Vec<Member>,
    pub roster: Roster,
}

/// An hour from now.
pub fn valid_now() -> Validity {
    let now = SystemTime::now();
    Validity { not_before: now - Duration::from_secs(3600), not_after: now + Duration::from_secs(3600) }
}

/// Ended an hour ago.
pub fn expired() -> Validity {
    let now = SystemTime::now();
    Validity { not_before: now - Duration::from_secs(7200), not_after: now - Duration::from_secs(3600) }
}

/// Mints a federation with at least three silos.
pub fn federation(federation_id: &str, names: &[&str]) -> Federation {
    let (authority, _) = Authority::generate(federation_id, valid_now()).unwrap();
    let member = |name: &&str| Member {
        name: (*name).to_owned(),
        credentials: credentials(&authority, Role::Silo, name, valid_now()),
        identity: IdentityKey::generate(&mut rand::rng()),
    };
    let mut silos: Vec<Member> = names.iter().map(member).collect();
    silos.sort_by(|a, b| a.name.cmp(&b.name));
    let files = silos.iter().map(|s| IdentityFile { name: s.name.clone(), identity: s.identity.public() }).collect();
    let roster = roster::make(federation_id, 1, files).unwrap();
    Federation { coordinator: coordinator(&authority, valid_now()), authority, silos, roster }
}

/// Mints a coordinator for this machine.
pub fn coordinator(authority: &Authority, validity: Validity) -> Credentials {
    credentials(authority, Role::Coordinator, "coordinator", validity)
}

/// Mints credentials, unchecked: they may be expired.
pub fn credentials(authority: &Authority, role: Role, name: &str, validity: Validity) -> Credentials {
    let hosts: &[&str] = if role == Role::Coordinator { &["localhost", "127.0.0.1", "::1"] } else { &[] };
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let made = new_request(role, name, &hosts).unwrap();
    let certificate = authority.sign(&Request::from_pem(&made.csr_pem).unwrap(), validity).unwrap().der;
    Credentials::new(authority.certificate().clone(), certificate, made.key_pem.as_bytes(), None).unwrap()
}

/// The same credentials, taken for those of `role` by the own end: what will the other end say?
pub fn posing(credentials: &Credentials, role: Role) -> Credentials {
    let mut posing = credentials.clone();
    posing.info.role = role;
    posing
}

/// A revocation list with the certificates of `revoked`.
pub fn revocations(authority: &Authority, revoked: &[&Credentials]) -> CertificateRevocationListDer<'static> {
    let entry = |c: &&Credentials| Revoked { serial: c.info.serial.clone(), at: SystemTime::now() };
    authority.revocation_list(&revoked.iter().map(entry).collect::<Vec<_>>()).unwrap().der
}
