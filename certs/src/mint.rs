//! Whole federations in memory, for tests: authority, coordinator for this machine, silos, roster.
//!
//! Certificates in a repository expire; these are made in milliseconds. Nothing here touches a disk.

use std::time::{Duration, SystemTime};

use blindsum_crypto::{IdentityKey, Roster};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::{ClientConfig, ServerConfig};

use crate::authority::{Authority, Revoked, Validity};
use crate::credentials::Credentials;
use crate::error::CertsError;
use crate::folder::IdentityFile;
use crate::names::Role;
use crate::request::{Request, new_request};
use crate::{roster, tls};

/// A silo's credentials and identity.
pub struct Member {
    /// The silo's name.
    pub name: String,
    /// TLS credentials.
    pub credentials: Credentials,
    /// Identity key, as pinned in the roster.
    pub identity: IdentityKey,
}

/// A minted federation.
pub struct Federation {
    /// Its authority, to mint more.
    pub authority: Authority,
    /// The coordinator, named `coordinator`, for `localhost`, `127.0.0.1` and `::1`.
    pub coordinator: Credentials,
    /// The silos, in roster order (sorted by name).
    pub silos: Vec<Member>,
    /// The roster with all of them.
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
pub fn federation(federation_id: &str, names: &[&str]) -> Result<Federation, CertsError> {
    let (authority, _) = Authority::generate(federation_id, valid_now())?;
    let coordinator = coordinator(&authority, valid_now())?;
    let mut silos = Vec::new();
    for name in names {
        silos.push(Member {
            name: (*name).to_owned(),
            credentials: credentials(&authority, Role::Silo, name, valid_now())?,
            identity: IdentityKey::generate(&mut rand::rng()),
        });
    }
    silos.sort_by(|a, b| a.name.cmp(&b.name));
    let files = silos.iter().map(|s| IdentityFile { name: s.name.clone(), identity: s.identity.public() }).collect();
    let roster = roster::make(federation_id, 1, files)?;
    Ok(Federation { authority, coordinator, silos, roster })
}

/// Mints a coordinator for this machine.
pub fn coordinator(authority: &Authority, validity: Validity) -> Result<Credentials, CertsError> {
    credentials(authority, Role::Coordinator, "coordinator", validity)
}

/// Mints credentials, unchecked: they may be expired.
pub fn credentials(
    authority: &Authority,
    role: Role,
    name: &str,
    validity: Validity,
) -> Result<Credentials, CertsError> {
    let hosts: &[&str] = if role == Role::Coordinator { &["localhost", "127.0.0.1", "::1"] } else { &[] };
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let made = new_request(role, name, &hosts)?;
    let certificate = authority.sign(&Request::from_pem(&made.csr_pem)?, validity)?.der;
    Credentials::new(authority.certificate().clone(), certificate, made.key_pem.as_bytes(), None)
}

/// A coordinator's configuration with whatever certificate: for tests of what silos refuse.
pub fn impostor_coordinator_config(credentials: &Credentials) -> Result<ServerConfig, CertsError> {
    tls::coordinator_config_for_any_role(credentials)
}

/// A silo's configuration with whatever certificate: for tests of what coordinators refuse.
pub fn impostor_silo_config(credentials: &Credentials) -> Result<ClientConfig, CertsError> {
    tls::silo_config_for_any_role(credentials)
}

/// A revocation list with the certificates of `revoked`.
pub fn revocations(
    authority: &Authority,
    revoked: &[&Credentials],
) -> Result<CertificateRevocationListDer<'static>, CertsError> {
    let entry = |c: &&Credentials| Revoked { serial: c.info.serial.clone(), at: SystemTime::now() };
    Ok(authority.revocation_list(&revoked.iter().map(entry).collect::<Vec<_>>())?.der)
}
