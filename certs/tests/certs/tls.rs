//! Handshakes in memory: what is negotiated, and who is refused.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, ProtocolVersion, RootCertStore,
    ServerConfig, ServerConnection,
};

use blindsum_certs::request::{Request, new_request};
use blindsum_certs::tls::{ALPN, coordinator_config, silo_config};
use blindsum_certs::{Credentials, ErrorKind, Role, peer_name};
use blindsum_testkit::mint::{self, Federation};

fn demo() -> Federation {
    mint::federation("demo", &["east", "north", "south"])
}

/// Runs a handshake to the end; the first error of each end, where it met one.
fn handshake(
    silo: ClientConfig,
    coordinator: ServerConfig,
    host: &str,
) -> (ClientConnection, ServerConnection, [Option<Error>; 2]) {
    let mut silo = ClientConnection::new(Arc::new(silo), ServerName::try_from(host.to_owned()).unwrap()).unwrap();
    let mut coordinator = ServerConnection::new(Arc::new(coordinator)).unwrap();
    let mut errors = [None, None];
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while silo.wants_write() {
            silo.write_tls(&mut bytes).unwrap();
        }
        let mut input = bytes.as_slice();
        while errors[1].is_none() && !input.is_empty() {
            coordinator.read_tls(&mut input).unwrap();
            errors[1] = coordinator.process_new_packets().err();
        }
        let mut bytes = Vec::new();
        while coordinator.wants_write() {
            coordinator.write_tls(&mut bytes).unwrap();
        }
        let mut input = bytes.as_slice();
        while errors[0].is_none() && !input.is_empty() {
            silo.read_tls(&mut input).unwrap();
            errors[0] = silo.process_new_packets().err();
        }
    }
    (silo, coordinator, errors)
}

#[test]
fn both_ends_agree_on_tls13_hybrid_key_exchange_and_protocol() {
    let federation = demo();
    let silo = silo_config(&federation.silos[0].credentials).unwrap();
    let coordinator = coordinator_config(&federation.coordinator).unwrap();
    let offered: Vec<String> =
        silo.crypto_provider().kx_groups.iter().map(|group| format!("{:?}", group.name())).collect();
    assert_eq!(offered, ["X25519MLKEM768", "X25519"]);
    let (mut silo, mut coordinator, errors) = handshake(silo, coordinator, "localhost");
    assert_eq!(errors, [None, None]);
    assert_eq!(silo.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = silo.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(format!("{group:?}"), "X25519MLKEM768");
    assert_eq!((silo.alpn_protocol(), coordinator.alpn_protocol()), (Some(ALPN), Some(ALPN)));
    assert_eq!(silo.tls13_tickets_received(), 0);
    let peer = coordinator.peer_certificates().unwrap()[0].clone();
    assert_eq!(peer_name(&peer).unwrap(), "east");

    silo.writer().write_all(b"hello").unwrap();
    let mut bytes = Vec::new();
    silo.write_tls(&mut bytes).unwrap();
    coordinator.read_tls(&mut bytes.as_slice()).unwrap();
    coordinator.process_new_packets().unwrap();
    let mut text = [0; 5];
    coordinator.reader().read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");
}

#[test]
fn a_silos_certificate_cannot_pose_as_the_coordinator() {
    let federation = demo();
    let traitor = &federation.silos[1].credentials;
    assert_eq!(coordinator_config(traitor).unwrap_err().kind(), ErrorKind::Role);
    let pose = coordinator_config(&mint::posing(traitor, Role::Coordinator)).unwrap();
    let (_, _, errors) = handshake(silo_config(&federation.silos[0].credentials).unwrap(), pose, "localhost");
    assert!(matches!(errors[0], Some(Error::InvalidCertificate(_))), "{errors:?}");
    // Not only the name is wrong: with a fitting host name the key usage still is.
    let authority = &federation.authority;
    let made = new_request(Role::Coordinator, "hub", &["localhost".into()]).unwrap();
    let mut request = Request::from_pem(&made.csr_pem).unwrap();
    request.role = Role::Silo;
    let certificate = authority.sign(&request, mint::valid_now()).unwrap().der;
    let traitor =
        Credentials::new(authority.certificate().clone(), certificate, made.key_pem.as_bytes(), None).unwrap();
    let pose = coordinator_config(&mint::posing(&traitor, Role::Coordinator)).unwrap();
    let (_, _, errors) = handshake(silo_config(&federation.silos[0].credentials).unwrap(), pose, "localhost");
    assert!(
        matches!(errors[0], Some(Error::InvalidCertificate(CertificateError::InvalidPurposeContext { .. }))),
        "{errors:?}"
    );
}

#[test]
fn the_coordinators_certificate_cannot_pose_as_a_silo() {
    let federation = demo();
    assert_eq!(silo_config(&federation.coordinator).unwrap_err().kind(), ErrorKind::Role);
    let pose = silo_config(&mint::posing(&federation.coordinator, Role::Silo)).unwrap();
    let (_, _, errors) = handshake(pose, coordinator_config(&federation.coordinator).unwrap(), "localhost");
    assert!(
        matches!(errors[1], Some(Error::InvalidCertificate(CertificateError::InvalidPurposeContext { .. }))),
        "{errors:?}"
    );
    assert_eq!(errors[0], Some(Error::AlertReceived(AlertDescription::UnsupportedCertificate)));
}

#[test]
fn strangers_expired_revoked_and_misnamed_are_refused() {
    let federation = demo();
    let other = demo();
    let coordinator = || coordinator_config(&federation.coordinator).unwrap();
    let silo = || silo_config(&federation.silos[0].credentials).unwrap();

    let (_, _, errors) = handshake(silo(), coordinator_config(&other.coordinator).unwrap(), "localhost");
    assert!(matches!(errors[0], Some(Error::InvalidCertificate(_))), "{errors:?}");
    let mut stranger = other.silos[0].credentials.clone();
    stranger.authority = federation.authority.certificate().clone();
    let (_, _, errors) = handshake(silo_config(&stranger).unwrap(), coordinator(), "localhost");
    assert!(matches!(errors[1], Some(Error::InvalidCertificate(_))), "{errors:?}");

    let old = mint::credentials(&federation.authority, Role::Silo, "east", mint::expired());
    let (_, _, errors) = handshake(silo_config(&old).unwrap(), coordinator(), "localhost");
    assert_eq!(errors[0], Some(Error::AlertReceived(AlertDescription::CertificateExpired)));

    let (_, _, errors) = handshake(silo(), coordinator(), "coordinator.example.org");
    assert!(
        matches!(errors[0], Some(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))),
        "{errors:?}"
    );

    let mut strict = federation.coordinator.clone();
    strict.revocations = Some(mint::revocations(&federation.authority, &[&federation.silos[0].credentials]));
    strict.check(Role::Coordinator).unwrap();
    let (_, _, errors) = handshake(silo(), coordinator_config(&strict).unwrap(), "localhost");
    assert_eq!(errors[1], Some(Error::InvalidCertificate(CertificateError::Revoked)));
    assert_eq!(errors[0], Some(Error::AlertReceived(AlertDescription::CertificateRevoked)));
    let (_, _, errors) = handshake(
        silo_config(&federation.silos[1].credentials).unwrap(),
        coordinator_config(&strict).unwrap(),
        "localhost",
    );
    assert_eq!(errors, [None, None], "the others are let in");

    strict.revocations = Some(mint::revocations(&other.authority, &[]));
    assert!(strict.check(Role::Coordinator).unwrap_err().to_string().contains("revocation list"));
}

#[test]
fn a_silo_without_a_certificate_is_refused() {
    let federation = demo();
    let mut roots = RootCertStore::empty();
    roots.add(federation.authority.certificate().clone()).unwrap();
    let bare = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (_, _, errors) = handshake(bare, coordinator_config(&federation.coordinator).unwrap(), "localhost");
    assert_eq!(errors[1], Some(Error::NoCertificatesPresented));
}
