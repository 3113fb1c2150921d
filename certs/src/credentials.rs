//! One member's credentials: its certificate and key, the federation's authority, and what was revoked.
//!
//! Contract: a [`Credentials`] value has passed the very checks that the other end will make (signature, validity, role,
//! revocation) and its key matches its certificate, so that a wrong file is one clear sentence at start instead of a
//! failed handshake later. `Debug` shows no key.

use std::fmt;
use std::path::Path;

use blindsum_crypto::IdentityKey;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::error::{CertsError, ErrorKind, fail};
use crate::inspect::{CertificateInfo, certificate_from_pem};
use crate::names::Role;
use crate::tls;
use blindsum_files::{FileError, PUBLIC_LIMIT, read_public, read_secret};

/// The authority's certificate, in every member's folder.
pub const AUTHORITY_FILE: &str = "authority.pem";
/// The member's own certificate.
pub const CERTIFICATE_FILE: &str = "certificate.pem";
/// The member's TLS key, 0600.
pub const TLS_KEY_FILE: &str = "tls.key";
/// The silo's identity key (Ed25519, 64 hexadecimal digits), 0600.
pub const IDENTITY_KEY_FILE: &str = "identity.key";
/// The revocation list that the authority signed; optional in a member's folder.
pub const REVOKED_FILE: &str = "revoked.pem";

/// Everything that one end needs for mutual TLS.
pub struct Credentials {
    /// The only authority that is trusted.
    pub authority: CertificateDer<'static>,
    /// The member's own certificate.
    pub certificate: CertificateDer<'static>,
    /// What the own certificate says.
    pub info: CertificateInfo,
    /// The revocation list, where there is one.
    pub revocations: Option<CertificateRevocationListDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("info", &self.info).field("key", &"[secret]").finish_non_exhaustive()
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Credentials {
        Credentials {
            authority: self.authority.clone(),
            certificate: self.certificate.clone(),
            info: self.info.clone(),
            revocations: self.revocations.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Credentials {
    /// Puts credentials together without checking them against the authority: [`Credentials::check`] does.
    ///
    /// # Errors
    /// When the certificate or the key cannot be read, or when they do not belong together.
    pub fn new(
        authority: CertificateDer<'static>,
        certificate: CertificateDer<'static>,
        key_pem: &[u8],
        revocations: Option<CertificateRevocationListDer<'static>>,
    ) -> Result<Credentials, CertsError> {
        let info = CertificateInfo::parse(&certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem)
            .map_err(|_| CertsError::new(ErrorKind::Format, "this is no private key in PEM format"))?;
        tls::check_key(&certificate, &key)?;
        Ok(Credentials { authority, certificate, info, revocations, key })
    }

    /// Reads and checks the credentials in `dir` (files as the constants of this module name them).
    pub fn load(dir: &Path, role: Role) -> Result<Credentials, CertsError> {
        let key_file = dir.join(TLS_KEY_FILE);
        let key = read_secret(&key_file).map_err(|e| {
            e.or_missing("make the keys with `blindsum-certs silo-init` (or `coordinator-init`) on this machine")
        })?;
        let authority =
            read_certificate(&dir.join(AUTHORITY_FILE), "ask the federation's authority for its certificate")?;
        let certificate = read_certificate(
            &dir.join(CERTIFICATE_FILE),
            "send the .csr file to the federation's authority and put the certificate that it signs here",
        )?;
        let revoked_file = dir.join(REVOKED_FILE);
        let revocations = match read_public(&revoked_file, PUBLIC_LIMIT) {
            Ok(pem) => Some(revocations_from_pem(&pem).map_err(|e| e.within(revoked_file.display()))?),
            Err(FileError::Missing { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        let credentials =
            Credentials::new(authority, certificate, &key, revocations).map_err(|e| e.within(dir.display()))?;
        credentials.check(role).map_err(|e| e.within(dir.join(CERTIFICATE_FILE).display()))?;
        Ok(credentials)
    }

    /// Checks the own certificate as the other end will: authority, validity, role, revocation.
    pub fn check(&self, role: Role) -> Result<(), CertsError> {
        if self.info.role != role {
            return fail(
                ErrorKind::Role,
                format!("this is a {}'s certificate, but a {role}'s is needed here", self.info.role),
            );
        }
        tls::check_own_certificate(self)
    }
}

/// Reads one PEM certificate; `remedy` is said when the file is missing.
pub(crate) fn read_certificate(path: &Path, remedy: &'static str) -> Result<CertificateDer<'static>, CertsError> {
    let pem = read_public(path, PUBLIC_LIMIT).map_err(|e| e.or_missing(remedy))?;
    certificate_from_pem(&pem).map_err(|e| e.within(path.display()))
}

/// Reads one PEM revocation list.
pub(crate) fn revocations_from_pem(pem: &[u8]) -> Result<CertificateRevocationListDer<'static>, CertsError> {
    CertificateRevocationListDer::from_pem_slice(pem).map_err(|_| {
        CertsError::new(ErrorKind::Format, "this is no revocation list in PEM format (-----BEGIN X509 CRL-----)")
    })
}

/// Reads a silo's identity key: 64 hexadecimal digits in a file that only its owner may read.
pub fn load_identity(path: &Path) -> Result<IdentityKey, CertsError> {
    let text =
        read_secret(path).map_err(|e| e.or_missing("make it with `blindsum-certs silo-init` on this machine"))?;
    let mut bytes = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(text.trim_ascii(), bytes.as_mut_slice()).map_err(|_| {
        CertsError::new(
            ErrorKind::Format,
            format!("{} is no identity key: 64 hexadecimal digits are expected", path.display()),
        )
    })?;
    Ok(IdentityKey::from_bytes(&bytes))
}
