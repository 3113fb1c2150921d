//! Reading a certificate: who, which role, until when, and which key.
//!
//! The bytes may come from a peer: nothing here panics or allocates beyond the certificate's size. What is read here is
//! *claimed*; trust comes from [`crate::tls`], which has checked the authority's signature before anything asks for a name.

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use blindsum_crypto::{Digest, sha256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::error::{CertsError, ErrorKind, fail};
use crate::names::{Role, from_uri};

/// What a certificate of this federation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The holder's name.
    pub name: String,
    /// The holder's role; the URI and the extended key usage agree on it.
    pub role: Role,
    /// Host names and addresses (coordinator only).
    pub hosts: Vec<String>,
    /// Serial number, big-endian.
    pub serial: Vec<u8>,
    /// First second of validity, Unix time.
    pub not_before: i64,
    /// Last second of validity, Unix time.
    pub not_after: i64,
    /// SHA-256 of the certificate.
    pub fingerprint: Digest,
    /// SHA-256 of the holder's public key (SubjectPublicKeyInfo); the same as in the request.
    pub key_fingerprint: Digest,
}

impl CertificateInfo {
    /// Reads a certificate that the federation's authority made for a silo or the coordinator.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it is no certificate, [`ErrorKind::Role`] when URI and extended key usage disagree,
    /// [`ErrorKind::Name`] when it carries no name of ours.
    pub fn parse(der: &CertificateDer<'_>) -> Result<CertificateInfo, CertsError> {
        let cert = parse_x509(der)?;
        let bad = |what: &str| CertsError::new(ErrorKind::Format, format!("the certificate's {what} cannot be read"));
        let usage = cert.extended_key_usage().map_err(|_| bad("extended key usage"))?;
        let by_usage = match usage.map(|u| u.value) {
            Some(u) if u.client_auth && !u.server_auth && !u.any => Some(Role::Silo),
            Some(u) if u.server_auth && !u.client_auth && !u.any => Some(Role::Coordinator),
            _ => None,
        };
        let names = cert.subject_alternative_name().map_err(|_| bad("subject alternative names"))?;
        let names = names.map(|n| n.value.general_names.as_slice()).unwrap_or_default();
        let mut found = None;
        let mut hosts = Vec::new();
        for name in names {
            match name {
                GeneralName::URI(uri) => match (found, from_uri(uri)) {
                    (None, Some(ours)) => found = Some(ours),
                    _ => {
                        return fail(
                            ErrorKind::Name,
                            "the certificate carries a URI that is no name of this federation",
                        );
                    }
                },
                GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    hosts.push(address(bytes).ok_or_else(|| bad("IP address"))?.to_string())
                }
                _ => {
                    return fail(
                        ErrorKind::Name,
                        "the certificate carries a kind of name that this federation does not use",
                    );
                }
            }
        }
        let Some((role, name)) = found else {
            return fail(
                ErrorKind::Name,
                "the certificate names neither a silo nor a coordinator: only certificates made by `blindsum-certs sign` are \
                 accepted",
            );
        };
        if by_usage != Some(role) {
            return fail(
                ErrorKind::Role,
                format!("the certificate of `{name}` says {role} but its key usage is another"),
            );
        }
        Ok(CertificateInfo {
            name: name.to_owned(),
            role,
            hosts,
            serial: cert.raw_serial().to_vec(),
            not_before: cert.validity().not_before.timestamp(),
            not_after: cert.validity().not_after.timestamp(),
            fingerprint: sha256(der),
            key_fingerprint: sha256(cert.public_key().raw),
        })
    }

    /// Until when it is valid, in words.
    pub fn until(&self) -> String {
        date(self.not_after)
    }

    /// The serial number as lower-case hex, the form that `revoke --serial` takes.
    pub fn serial_hex(&self) -> String {
        hex::encode(&self.serial)
    }
}

impl fmt::Display for CertificateInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "role              {}", self.role)?;
        writeln!(f, "name              {}", self.name)?;
        if !self.hosts.is_empty() {
            writeln!(f, "hosts             {}", self.hosts.join(", "))?;
        }
        writeln!(f, "serial            {}", self.serial_hex())?;
        writeln!(f, "valid from        {}", date(self.not_before))?;
        writeln!(f, "valid until       {}", date(self.not_after))?;
        writeln!(f, "key fingerprint   {}", self.key_fingerprint)?;
        write!(f, "certificate       {}", self.fingerprint)
    }
}

/// The name in a peer's certificate, for either role. Use [`CertificateInfo::parse`] where the role matters.
pub fn peer_name(der: &CertificateDer<'_>) -> Result<String, CertsError> {
    CertificateInfo::parse(der).map(|info| info.name)
}

/// Parses one certificate and refuses anything after it.
pub(crate) fn parse_x509<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertsError> {
    match X509Certificate::from_der(der) {
        Ok(([], cert)) => Ok(cert),
        _ => fail(ErrorKind::Format, "this is not a well-formed X.509 certificate"),
    }
}

/// Reads the one certificate in a PEM text.
pub(crate) fn certificate_from_pem(pem: &[u8]) -> Result<CertificateDer<'static>, CertsError> {
    let mut certs = CertificateDer::pem_slice_iter(pem);
    match (certs.next(), certs.next()) {
        (Some(Ok(cert)), None) => Ok(cert),
        (Some(Ok(_)), Some(_)) => {
            fail(ErrorKind::Format, "the file holds more than one certificate: keep only the right one")
        }
        _ => fail(ErrorKind::Format, "the file holds no certificate in PEM format (-----BEGIN CERTIFICATE-----)"),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A Unix time as text, UTC.
pub(crate) fn date(unix: i64) -> String {
    ASN1Time::from_timestamp(unix).map_or_else(|_| format!("Unix time {unix}"), |t| t.to_string())
}

/// A moment as Unix time.
pub(crate) fn unix(at: SystemTime) -> i64 {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
