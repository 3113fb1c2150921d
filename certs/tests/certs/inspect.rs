//! What a certificate says, and bytes that are none.

use blindsum_certs::{CertificateInfo, ErrorKind, Role, peer_name};
use blindsum_testkit::mint;
use rustls::pki_types::CertificateDer;

#[test]
fn a_certificate_says_who_and_until_when() {
    let federation = mint::federation("demo", &["a", "b", "c"]);
    let info = CertificateInfo::parse(&federation.silos[1].credentials.certificate).unwrap();
    assert_eq!((info.name.as_str(), info.role), ("b", Role::Silo));
    assert!(info.hosts.is_empty());
    assert!(info.not_before < info.not_after);
    let info = CertificateInfo::parse(&federation.coordinator.certificate).unwrap();
    assert_eq!((info.name.as_str(), info.role), ("coordinator", Role::Coordinator));
    assert!(info.hosts.contains(&"127.0.0.1".to_owned()) && info.hosts.contains(&"localhost".to_owned()));
    assert_eq!(peer_name(&federation.coordinator.certificate).unwrap(), "coordinator");
}

#[test]
fn truncated_flipped_and_extended_certificates_never_panic() {
    let federation = mint::federation("demo", &["a", "b", "c"]);
    let der = federation.coordinator.certificate.to_vec();
    for cut in 0..der.len() {
        assert!(CertificateInfo::parse(&CertificateDer::from(der[..cut].to_vec())).is_err());
    }
    for i in 0..der.len() {
        let mut bad = der.clone();
        bad[i] ^= 0x21;
        let _ = CertificateInfo::parse(&CertificateDer::from(bad));
    }
    let mut long = der.clone();
    long.push(0);
    assert!(CertificateInfo::parse(&CertificateDer::from(long)).is_err());
}

#[test]
fn the_authority_itself_is_nobody() {
    let federation = mint::federation("demo", &["a", "b", "c"]);
    let error = CertificateInfo::parse(federation.authority.certificate()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Name);
}
