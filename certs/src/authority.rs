//! The federation's authority: signs certificates for silos and the coordinator, and the list of revoked ones.
//!
//! A federation has one authority and trusts nobody else. Its key stays in its folder (0600) and is needed only to sign
//! and to revoke. Certificates are made from scratch: of a request only names and public key are taken.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use zeroize::Zeroizing;

use crate::error::{CertsError, ErrorKind, fail};
use crate::inspect::parse_x509;
use crate::names::{Role, check_name};
use crate::request::{Request, subject};

const DAY: u64 = 24 * 3600;
/// Clocks of the silos may be behind the authority's by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(10 * 60);
/// Longest validity that is issued, in days.
pub const MAX_DAYS: u64 = 7305;

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// First moment.
    pub not_before: SystemTime,
    /// Last moment.
    pub not_after: SystemTime,
}

impl Validity {
    /// From now (less ten minutes for clocks that are behind) for `days` days, 1 to [`MAX_DAYS`].
    pub fn days(days: u64) -> Result<Validity, CertsError> {
        if !(1..=MAX_DAYS).contains(&days) {
            return fail(ErrorKind::Refused, format!("a validity of {days} days is not allowed: use 1 to {MAX_DAYS}"));
        }
        let now = SystemTime::now();
        Ok(Validity { not_before: now - CLOCK_SKEW, not_after: now + Duration::from_secs(days * DAY) })
    }
}

/// One entry of the revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Serial number of the certificate, big-endian.
    pub serial: Vec<u8>,
    /// When it was revoked.
    pub at: SystemTime,
}

/// A structure that the authority signed.
pub struct Signed<T> {
    /// Its bytes.
    pub der: T,
    /// The same as PEM text.
    pub pem: String,
}

/// What a new authority's folder holds.
pub struct AuthorityText {
    /// The certificate, public.
    pub certificate_pem: String,
    /// The private key: 0600, never copied.
    pub key_pem: Zeroizing<String>,
}

/// The authority's certificate and key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
}

impl Authority {
    /// Makes a new authority (ECDSA P-256, self-signed, signs end certificates and revocation lists only).
    pub fn generate(federation: &str, validity: Validity) -> Result<(Authority, AuthorityText), CertsError> {
        check_name(federation)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "blindsum federation");
        params.distinguished_name.push(DnType::CommonName, federation);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(random_serial()?);
        params.not_before = validity.not_before.into();
        params.not_after = validity.not_after.into();
        let certificate = params.self_signed(&key)?;
        let text = AuthorityText { certificate_pem: certificate.pem(), key_pem: Zeroizing::new(key.serialize_pem()) };
        Ok((Authority::new(certificate.der().clone(), key)?, text))
    }

    /// Puts an authority together from its certificate and its PEM key; refused when they do not belong together.
    pub fn from_parts(certificate: CertificateDer<'static>, key_pem: &str) -> Result<Authority, CertsError> {
        let key = KeyPair::from_pem(key_pem).map_err(|_| {
            CertsError::new(ErrorKind::Format, "the authority's key is not a PKCS#8 private key in PEM")
        })?;
        let cert = parse_x509(&certificate)?;
        if cert.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key).as_slice() {
            return fail(ErrorKind::KeyMismatch, "the authority's key does not match the authority's certificate");
        }
        Authority::new(certificate, key)
    }

    fn new(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Authority, CertsError> {
        let cert = parse_x509(&certificate)?;
        if !cert.is_ca() {
            return fail(ErrorKind::Role, "this certificate is no authority's: it may not sign others");
        }
        let seconds = u64::try_from(cert.validity().not_after.timestamp()).unwrap_or(0);
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Authority { certificate, issuer, not_after })
    }

    /// The authority's certificate, which every member pins.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The federation's name, as the authority's certificate has it.
    pub fn federation(&self) -> Result<String, CertsError> {
        let certificate = parse_x509(&self.certificate)?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(name.unwrap_or_default().to_owned())
    }

    /// Signs a checked request. The certificate never outlives the authority's own.
    pub fn sign(&self, request: &Request, validity: Validity) -> Result<Signed<CertificateDer<'static>>, CertsError> {
        if self.not_after < SystemTime::now() && validity.not_after > SystemTime::now() {
            return fail(ErrorKind::Validity, "the authority's own certificate is expired: make a new authority");
        }
        let mut params = subject(request.role, &request.name, &request.hosts)?;
        params.serial_number = Some(random_serial()?);
        params.not_before = validity.not_before.into();
        params.not_after = validity.not_after.min(self.not_after).into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match request.role {
            Role::Silo => ExtendedKeyUsagePurpose::ClientAuth,
            Role::Coordinator => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&request.public_key, &self.issuer)?;
        Ok(Signed { der: certificate.der().clone(), pem: certificate.pem() })
    }

    /// Signs the list of all revoked certificates. It holds as long as the authority does: it is carried by hand, and a
    /// list that expired by itself would lock everybody out.
    pub fn revocation_list(
        &self,
        revoked: &[Revoked],
    ) -> Result<Signed<CertificateRevocationListDer<'static>>, CertsError> {
        let now = SystemTime::now();
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: self.not_after.max(now + Duration::from_secs(DAY)).into(),
            crl_number: SerialNumber::from(revoked.len() as u64),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|entry| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&entry.serial),
                    revocation_time: entry.at.into(),
                    reason_code: Some(RevocationReason::PrivilegeWithdrawn),
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer)?;
        Ok(Signed { der: list.der().clone(), pem: list.pem()? })
    }
}

/// The entries of a revocation list.
pub fn revoked_in(list: &CertificateRevocationListDer<'_>) -> Result<Vec<Revoked>, CertsError> {
    match CertificateRevocationList::from_der(list) {
        Ok(([], crl)) => Ok(crl
            .iter_revoked_certificates()
            .map(|entry| Revoked {
                serial: entry.raw_serial().to_vec(),
                at: SystemTime::UNIX_EPOCH
                    + Duration::from_secs(u64::try_from(entry.revocation_date.timestamp()).unwrap_or(0)),
            })
            .collect()),
        _ => fail(ErrorKind::Format, "this is not a well-formed revocation list"),
    }
}

/// Sixteen random bytes, positive and without leading zero, so that a re-issued certificate has a serial of its own.
fn random_serial() -> Result<SerialNumber, CertsError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| CertsError::new(ErrorKind::Internal, format!("the operating system gave no random bytes: {e}")))?;
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::CertificateInfo;
    use crate::request::new_request;

    fn authority() -> (Authority, Zeroizing<String>) {
        let (authority, text) = Authority::generate("demo", Validity::days(30).unwrap()).unwrap();
        (authority, text.key_pem)
    }

    #[test]
    fn a_signed_certificate_has_the_authoritys_terms() {
        let (authority, _) = authority();
        let request = Request::from_pem(&new_request(Role::Silo, "north", &[]).unwrap().csr_pem).unwrap();
        let first = authority.sign(&request, Validity::days(365).unwrap()).unwrap();
        let second = authority.sign(&request, Validity::days(1).unwrap()).unwrap();
        let (first, second) =
            (CertificateInfo::parse(&first.der).unwrap(), CertificateInfo::parse(&second.der).unwrap());
        assert_eq!((first.name.as_str(), first.role), ("north", Role::Silo));
        assert_eq!(first.key_fingerprint, request.key_fingerprint);
        assert_ne!(first.serial, second.serial, "a re-issued certificate can be revoked alone");
        assert!(first.not_after - first.not_before <= 30 * DAY as i64 + 1200, "never longer than the authority");
    }

    #[test]
    fn the_revocation_list_reads_back() {
        let (authority, _) = authority();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let entries = vec![Revoked { serial: vec![0x41; 16], at }, Revoked { serial: vec![0x42, 7], at }];
        assert_eq!(revoked_in(&authority.revocation_list(&entries).unwrap().der).unwrap(), entries);
        assert_eq!(revoked_in(&authority.revocation_list(&[]).unwrap().der).unwrap(), []);
        assert!(revoked_in(&CertificateRevocationListDer::from(vec![1, 2, 3])).is_err());
    }

    #[test]
    fn another_key_is_not_the_authoritys() {
        let (one, key) = authority();
        let (_, other_key) = authority();
        assert!(Authority::from_parts(one.certificate().clone(), &key).is_ok());
        let error = Authority::from_parts(one.certificate().clone(), &other_key).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::KeyMismatch);
        assert!(Validity::days(0).is_err() && Validity::days(MAX_DAYS + 1).is_err());
    }
}
