//! Files that people and the services write: roster, job, requests, certificates, adapters.

use blindsum_certs::authority::{Authority, Revoked, Validity};
use blindsum_certs::names::Role;
use blindsum_certs::request::{Request, new_request};
use blindsum_testkit::{DP, NONE, job_text};

use super::Seed;
use crate::adapter::{CONFIG, saved};
use crate::world::World;

/// Everything that these targets start from.
pub fn all() -> Vec<Seed> {
    let with = |which: u8, bytes: &[u8]| [&[which], bytes].concat();
    let roster = toml::to_string(&*World::get(false).setup.roster).unwrap();
    let mut seeds = vec![
        ("texts", "roster".to_owned(), with(0, roster.as_bytes())),
        ("texts", "job".to_owned(), with(1, job_text(3, NONE, "held-out").as_bytes())),
        ("texts", "job-private".to_owned(), with(1, job_text(3, DP, "off").as_bytes())),
        ("packing", "one".to_owned(), [&[1, 5, 0, 20][..], &[0x11; 12], &[1]].concat()),
        (
            "packing",
            "three".to_owned(),
            [&[3, 3, 0, 3, 1, 0, 12, 1, 0, 32][..], &[0x9d, 1, 0xbc, 0x0a, 4, 3, 2, 1]].concat(),
        ),
        ("adapter", "config".to_owned(), with(3, CONFIG.as_bytes())),
    ];
    for (i, bytes) in saved().iter().enumerate() {
        seeds.push(("adapter", crate::adapter::FILES[i].replace('.', "-"), with(i as u8, bytes)));
    }
    seeds
        .extend(certificates().into_iter().map(|(name, which, bytes)| ("certs", name.to_owned(), with(which, &bytes))));
    seeds
}

/// Keys and serials are random: these files differ in every corpus.
fn certificates() -> Vec<(&'static str, u8, Vec<u8>)> {
    let validity = || Validity::days(365).unwrap();
    let (authority, _) = Authority::generate("wards", validity()).unwrap();
    let silo = new_request(Role::Silo, "north", &[]).unwrap();
    let hub = new_request(Role::Coordinator, "hub", &["localhost".into(), "10.0.0.7".into()]).unwrap();
    let mut seeds = vec![
        ("request-silo", 0, silo.csr_pem.clone().into_bytes()),
        ("request-hub", 0, hub.csr_pem.clone().into_bytes()),
        ("authority", 1, authority.certificate().to_vec()),
        ("name", 4, b"north".to_vec()),
        ("host", 4, b"hub.example.org".to_vec()),
        ("role", 4, b"coordinator".to_vec()),
    ];
    let identity = format!("name = \"north\"\nidentity = \"{}\"\n", World::get(false).keys[0].public());
    seeds.push(("identity", 3, identity.into_bytes()));
    for (name, request) in [("certificate-silo", &silo), ("certificate-hub", &hub)] {
        let signed = authority.sign(&Request::from_pem(&request.csr_pem).unwrap(), validity()).unwrap();
        seeds.push((name, 1, signed.der.to_vec()));
    }
    let revoked = [Revoked { serial: vec![0x42; 16], at: std::time::SystemTime::UNIX_EPOCH }];
    seeds.push(("revoked", 2, authority.revocation_list(&revoked).unwrap().der.to_vec()));
    for (name, request) in [("request-silo-der", &silo), ("request-hub-der", &hub)] {
        seeds.push((name, 5, der(&request.csr_pem)));
    }
    seeds
}

/// What a PEM text holds.
fn der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateSigningRequestDer;
    use rustls::pki_types::pem::PemObject;
    CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}
