//! Certificate requests: made on the machine that keeps the private key, checked by the authority.
//!
//! A request proves possession of the TLS key by its own signature and carries the wished role, name and hosts. The
//! authority takes only these and the public key from it: validity, usages and serial are the authority's.

use blindsum_crypto::{Digest, sha256};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, KeyPair, PublicKey, PublicKeyData,
    SanType,
};
use zeroize::Zeroizing;

use crate::error::{CertsError, ErrorKind, fail};
use crate::names::{Role, check_host, check_name, from_uri, to_uri};

/// Most host names and addresses in one coordinator certificate.
const MAX_HOSTS: usize = 32;

/// A new TLS key (ECDSA P-256) and the request for its certificate.
pub struct NewRequest {
    /// PKCS#8 private key in PEM: stays on this machine.
    pub key_pem: Zeroizing<String>,
    /// The request in PEM: goes to the authority.
    pub csr_pem: String,
    /// SHA-256 of the public key, to compare by telephone.
    pub key_fingerprint: Digest,
}

/// Makes a TLS key and a request. `hosts` is empty for a silo and not empty for a coordinator.
pub fn new_request(role: Role, name: &str, hosts: &[String]) -> Result<NewRequest, CertsError> {
    check_subject(role, name, hosts)?;
    let key = KeyPair::generate()?;
    let csr = subject(role, name, hosts)?.serialize_request(&key)?;
    Ok(NewRequest {
        key_pem: Zeroizing::new(key.serialize_pem()),
        csr_pem: csr.pem()?,
        key_fingerprint: sha256(&key.subject_public_key_info()),
    })
}

fn check_subject(role: Role, name: &str, hosts: &[String]) -> Result<(), CertsError> {
    check_name(name)?;
    hosts.iter().try_for_each(|host| check_host(host))?;
    match role {
        Role::Silo if !hosts.is_empty() => {
            fail(ErrorKind::Name, "a silo's certificate carries no host names: silos only dial out")
        }
        Role::Coordinator if hosts.is_empty() || hosts.len() > MAX_HOSTS => fail(
            ErrorKind::Name,
            format!(
                "a coordinator needs 1 to {MAX_HOSTS} host names or addresses under which silos reach it: pass --host"
            ),
        ),
        _ => Ok(()),
    }
}

/// Subject and names for `role` and `name`; everything else is at rcgen's defaults.
pub(crate) fn subject(role: Role, name: &str, hosts: &[String]) -> Result<CertificateParams, CertsError> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.subject_alt_names.push(SanType::URI(to_uri(role, name).try_into()?));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// A request whose signature and names were checked.
pub struct Request {
    /// The role that it asks for.
    pub role: Role,
    /// The name that it asks for.
    pub name: String,
    /// The hosts that it asks for (coordinator only).
    pub hosts: Vec<String>,
    /// SHA-256 of the public key, to compare with what the sender read out.
    pub key_fingerprint: Digest,
    pub(crate) public_key: PublicKey,
}

impl Request {
    /// Reads a request from PEM and checks its self-signature, its names and its key type.
    pub fn from_pem(pem: &str) -> Result<Request, CertsError> {
        let csr = CertificateSigningRequestParams::from_pem(pem).map_err(|e| {
            let what = match e {
                rcgen::Error::InvalidCertificationRequestSignature => {
                    "its signature does not match its key: it was changed on the way, ask for it again"
                }
                rcgen::Error::UnsupportedExtension => "it asks for extensions that are not granted",
                rcgen::Error::UnsupportedSignatureAlgorithm => "its key type is not supported: use ECDSA P-256",
                _ => "it is not a certificate request in PEM format",
            };
            CertsError::new(ErrorKind::Format, format!("the request is refused: {what}"))
        })?;
        let algorithm = csr.public_key.algorithm();
        if ![&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519].contains(&algorithm)
        {
            return fail(ErrorKind::Format, "the request is refused: its key must be ECDSA P-256, P-384 or Ed25519");
        }
        let mut found = None;
        let mut hosts = Vec::new();
        for name in &csr.params.subject_alt_names {
            match name {
                SanType::URI(uri) if found.is_none() => found = from_uri(uri.as_str()).map(|(r, n)| (r, n.to_owned())),
                SanType::DnsName(host) => hosts.push(host.as_str().to_owned()),
                SanType::IpAddress(ip) => hosts.push(ip.to_string()),
                _ => {
                    return fail(
                        ErrorKind::Name,
                        "the request is refused: it asks for a kind of name that is not granted",
                    );
                }
            }
        }
        let Some((role, name)) = found else {
            return fail(
                ErrorKind::Name,
                "the request names neither a silo nor a coordinator: make it with `blindsum-certs silo-init` or \
                 `coordinator-init`",
            );
        };
        check_subject(role, &name, &hosts)?;
        let key_fingerprint = sha256(&csr.public_key.subject_public_key_info());
        Ok(Request { role, name, hosts, key_fingerprint, public_key: csr.public_key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateSigningRequestDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn a_request_carries_role_name_hosts_and_key() {
        let made = new_request(Role::Coordinator, "hub", &["localhost".into(), "10.0.0.7".into()]).unwrap();
        let read = Request::from_pem(&made.csr_pem).unwrap();
        assert_eq!((read.role, read.name.as_str()), (Role::Coordinator, "hub"));
        assert_eq!(read.hosts, ["localhost", "10.0.0.7"]);
        assert_eq!(read.key_fingerprint, made.key_fingerprint);
    }

    #[test]
    fn a_changed_request_is_refused() {
        let made = new_request(Role::Silo, "north", &[]).unwrap();
        let mut der = CertificateSigningRequestDer::from_pem_slice(made.csr_pem.as_bytes()).unwrap().to_vec();
        let at = der.windows(5).position(|w| w == b"north").unwrap();
        der[at] = b'f';
        let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der));
        assert!(matches!(csr, Err(rcgen::Error::InvalidCertificationRequestSignature)));
        let text = Request::from_pem("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n");
        assert_eq!(text.err().unwrap().kind(), ErrorKind::Format);
    }

    #[test]
    fn names_hosts_and_roles_must_fit() {
        assert!(new_request(Role::Silo, "North", &[]).is_err());
        assert!(new_request(Role::Silo, "north", &["localhost".into()]).is_err());
        assert!(new_request(Role::Coordinator, "hub", &[]).is_err());
        assert!(new_request(Role::Coordinator, "hub", &["*.example.org".into()]).is_err());
    }

    #[test]
    fn a_request_without_our_name_or_for_an_authority_is_refused() {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().serialize_request(&key).unwrap();
        assert_eq!(Request::from_pem(&csr.pem().unwrap()).err().unwrap().kind(), ErrorKind::Name);
    }
}
