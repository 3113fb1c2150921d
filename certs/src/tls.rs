//! The TLS configurations of both ends.
//!
//! TLS 1.3 only, one explicit provider (aws-lc-rs), hybrid post-quantum key exchange X25519MLKEM768 preferred (X25519 as
//! the other choice), mutual authentication against the federation's one authority, no session resumption, no 0-RTT,
//! application protocol [`ALPN`]. The public web's authorities are never consulted.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};

use crate::credentials::Credentials;
use crate::error::{CertsError, ErrorKind, fail};
use crate::inspect::date;
use crate::names::Role;

/// The application protocol and its version; another version is another name.
pub const ALPN: &[u8] = b"blindsum/1";

/// The one provider: TLS 1.3 suites and two key exchanges, the hybrid first.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

fn roots(credentials: &Credentials) -> Result<Arc<RootCertStore>, CertsError> {
    let mut roots = RootCertStore::empty();
    roots.add(credentials.authority.clone()).map_err(|e| {
        CertsError::new(ErrorKind::Format, format!("the authority's certificate cannot be used as one: {e}"))
    })?;
    Ok(Arc::new(roots))
}

fn unusable_list(e: impl std::fmt::Display) -> CertsError {
    CertsError::new(ErrorKind::Format, format!("the revocation list cannot be used: {e}"))
}

/// The check that a coordinator makes of a silo.
fn silo_verifier(credentials: &Credentials) -> Result<Arc<dyn ClientCertVerifier>, CertsError> {
    WebPkiClientVerifier::builder_with_provider(roots(credentials)?, provider())
        .with_crls(credentials.revocations.clone())
        .build()
        .map_err(unusable_list)
}

/// The check that a silo makes of the coordinator.
fn coordinator_verifier(credentials: &Credentials) -> Result<Arc<WebPkiServerVerifier>, CertsError> {
    WebPkiServerVerifier::builder_with_provider(roots(credentials)?, provider())
        .with_crls(credentials.revocations.clone())
        .build()
        .map_err(unusable_list)
}

fn internal(e: rustls::Error) -> CertsError {
    CertsError::new(ErrorKind::Internal, format!("the TLS configuration cannot be made: {e}"))
}

/// The coordinator's end: asks every peer for a silo certificate of this federation that was not revoked.
pub fn coordinator_config(credentials: &Credentials) -> Result<ServerConfig, CertsError> {
    require_role(credentials, Role::Coordinator)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(internal)?
        .with_client_cert_verifier(silo_verifier(credentials)?)
        .with_single_cert(vec![credentials.certificate.clone()], credentials.key.clone_key())
        .map_err(internal)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// A silo's end: accepts only a coordinator certificate of this federation for the host that it dialled.
pub fn silo_config(credentials: &Credentials) -> Result<ClientConfig, CertsError> {
    require_role(credentials, Role::Silo)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(internal)?
        .with_webpki_verifier(coordinator_verifier(credentials)?)
        .with_client_auth_cert(vec![credentials.certificate.clone()], credentials.key.clone_key())
        .map_err(internal)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

fn require_role(credentials: &Credentials, role: Role) -> Result<(), CertsError> {
    if credentials.info.role == role {
        return Ok(());
    }
    fail(ErrorKind::Role, format!("a {}'s certificate cannot be used as a {role}'s", credentials.info.role))
}

/// Refuses a private key that is not the certificate's.
pub(crate) fn check_key(certificate: &CertificateDer<'static>, key: &PrivateKeyDer<'static>) -> Result<(), CertsError> {
    match CertifiedKey::from_der(vec![certificate.clone()], key.clone_key(), &provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => fail(
            ErrorKind::KeyMismatch,
            "the private key does not match the certificate: put the certificate that was signed for this key here, or make \
             a new key and have it signed",
        ),
        Err(e) => fail(ErrorKind::Format, format!("the private key cannot be used: {e}")),
    }
}

/// Checks the own certificate with the verifier of the other end.
pub(crate) fn check_own_certificate(credentials: &Credentials) -> Result<(), CertsError> {
    let now = UnixTime::now();
    let verified = match credentials.info.role {
        Role::Silo => silo_verifier(credentials)?.verify_client_cert(&credentials.certificate, &[], now).map(|_| ()),
        Role::Coordinator => {
            let host = credentials.info.hosts.first().and_then(|host| ServerName::try_from(host.as_str()).ok());
            let Some(host) = host else {
                return fail(ErrorKind::Name, "the coordinator's certificate names no host: ask for one with --host");
            };
            let verifier = coordinator_verifier(credentials)?;
            verifier.verify_server_cert(&credentials.certificate, &[], &host, &[], now).map(|_| ())
        }
    };
    let Err(error) = verified else { return Ok(()) };
    let rustls::Error::InvalidCertificate(why) = error else { return Err(internal(error)) };
    use CertificateError as E;
    let (kind, text) = match why {
        E::Expired | E::ExpiredContext { .. } => (
            ErrorKind::Validity,
            format!(
                "the certificate of `{}` expired on {}: have the authority sign a new one",
                credentials.info.name,
                date(credentials.info.not_after)
            ),
        ),
        E::NotValidYet | E::NotValidYetContext { .. } => (
            ErrorKind::Validity,
            format!(
                "the certificate of `{}` is valid only from {}: is this machine's clock right?",
                credentials.info.name,
                date(credentials.info.not_before)
            ),
        ),
        E::Revoked => (
            ErrorKind::Revoked,
            format!("the certificate of `{}` was revoked by the authority: make new keys", credentials.info.name),
        ),
        E::UnknownIssuer | E::BadSignature => (
            ErrorKind::Untrusted,
            "the certificate was not signed by the authority whose certificate it is used with: get both from the \
             federation's authority"
                .to_owned(),
        ),
        E::UnknownRevocationStatus => (
            ErrorKind::Untrusted,
            "the revocation list was not signed by this federation's authority: ask it for its revoked.pem".to_owned(),
        ),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            (ErrorKind::Role, format!("the certificate is not for a {}", credentials.info.role))
        }
        other => (ErrorKind::Untrusted, format!("the certificate is refused: {other}")),
    };
    fail(kind, text)
}
