//! The folders of the authority and of the members, and the steps that fill them.
//!
//! A member's folder (0700) is made on the member's machine and its private keys never leave it. The authority's folder
//! keeps every certificate that it issued, so that one can be revoked by name. No step overwrites a key.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use blindsum_crypto::{Digest, IdentityKey, IdentityPublic};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::authority::{Authority, Revoked, Validity, revoked_in};
use crate::credentials::{
    AUTHORITY_FILE, CERTIFICATE_FILE, Credentials, IDENTITY_KEY_FILE, REVOKED_FILE, TLS_KEY_FILE, read_certificate,
    revocations_from_pem,
};
use crate::error::{CertsError, ErrorKind, fail};
use crate::inspect::{CertificateInfo, certificate_from_pem};
use crate::names::{Role, check_name};
use crate::request::{Request, new_request};
use blindsum_files::{FileError, PUBLIC_LIMIT, private_dir, read_public, read_secret, write_atomic, write_new};

/// The authority's private key, 0600.
pub const AUTHORITY_KEY_FILE: &str = "authority.key";
const ISSUED_FOLDER: &str = "issued";

/// The public half of a silo's identity, to be put into the roster: `<name>.identity.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFile {
    /// The silo's name.
    pub name: String,
    /// Its Ed25519 public key, hexadecimal.
    pub identity: IdentityPublic,
}

impl IdentityFile {
    /// Reads `<name>.identity.toml`.
    pub fn load(path: &Path) -> Result<IdentityFile, CertsError> {
        let bytes =
            read_public(path, PUBLIC_LIMIT).map_err(|e| e.or_missing("ask the silo for its .identity.toml file"))?;
        let bad = |e: &dyn std::fmt::Display| {
            CertsError::new(ErrorKind::Format, format!("{} is no identity file of a silo: {e}", path.display()))
        };
        let file: IdentityFile =
            toml::from_str(std::str::from_utf8(&bytes).map_err(|e| bad(&e))?).map_err(|e| bad(&e.message()))?;
        check_name(&file.name).map_err(|e| e.within(path.display()))?;
        Ok(file)
    }
}

/// What a member's `init` left behind.
#[derive(Debug)]
pub struct Enrolment {
    /// The request to send to the authority.
    pub csr: PathBuf,
    /// The identity file to send to whoever makes the roster (silos only).
    pub identity: Option<PathBuf>,
    /// Fingerprint of the TLS key, to be compared by telephone.
    pub key_fingerprint: Digest,
}

/// Makes a silo's keys and request in `dir`.
pub fn silo_init(dir: &Path, name: &str) -> Result<Enrolment, CertsError> {
    let mut enrolment = member_init(dir, Role::Silo, name, &[])?;
    let identity = IdentityKey::generate(&mut rand::rng());
    let secret = Zeroizing::new(hex::encode(identity.to_bytes().as_slice()) + "\n");
    write_new(&dir.join(IDENTITY_KEY_FILE), secret.as_bytes(), 0o600)?;
    let public = IdentityFile { name: name.to_owned(), identity: identity.public() };
    let text = toml::to_string(&public)
        .map_err(|e| CertsError::new(ErrorKind::Internal, format!("the identity file cannot be written: {e}")))?;
    let path = dir.join(format!("{name}.identity.toml"));
    write_new(&path, text.as_bytes(), 0o644)?;
    enrolment.identity = Some(path);
    Ok(enrolment)
}

/// Makes the coordinator's key and request in `dir`; `hosts` are the names and addresses under which silos reach it.
pub fn coordinator_init(dir: &Path, name: &str, hosts: &[String]) -> Result<Enrolment, CertsError> {
    member_init(dir, Role::Coordinator, name, hosts)
}

fn member_init(dir: &Path, role: Role, name: &str, hosts: &[String]) -> Result<Enrolment, CertsError> {
    let request = new_request(role, name, hosts)?;
    private_dir(dir)?;
    let csr = dir.join(format!("{name}.csr"));
    // All or nothing: a second run must not leave a new TLS key beside an old identity.
    for existing in [&dir.join(TLS_KEY_FILE), &dir.join(IDENTITY_KEY_FILE), &csr] {
        if existing.exists() {
            return Err(FileError::Exists { path: existing.clone() }.into());
        }
    }
    write_new(&dir.join(TLS_KEY_FILE), request.key_pem.as_bytes(), 0o600)?;
    write_new(&csr, request.csr_pem.as_bytes(), 0o644)?;
    Ok(Enrolment { csr, identity: None, key_fingerprint: request.key_fingerprint })
}

/// Puts a signed certificate, the authority's certificate and, where given, the revocation list into a member's folder,
/// after checking that they fit the key that lies there.
pub fn install(
    dir: &Path,
    certificate: &Path,
    authority: &Path,
    revoked: Option<&Path>,
) -> Result<CertificateInfo, CertsError> {
    let read = |path: &Path| read_public(path, PUBLIC_LIMIT);
    let (certificate_pem, authority_pem) = (read(certificate)?, read(authority)?);
    let revoked_pem = revoked.map(read).transpose()?;
    let key = read_secret(&dir.join(TLS_KEY_FILE)).map_err(|e| e.or_missing("make the keys in this folder first"))?;
    let credentials = Credentials::new(
        certificate_from_pem(&authority_pem).map_err(|e| e.within(authority.display()))?,
        certificate_from_pem(&certificate_pem).map_err(|e| e.within(certificate.display()))?,
        &key,
        revoked_pem.as_deref().map(revocations_from_pem).transpose()?,
    )?;
    credentials.check(credentials.info.role)?;
    write_atomic(&dir.join(AUTHORITY_FILE), &authority_pem, 0o644)?;
    write_atomic(&dir.join(CERTIFICATE_FILE), &certificate_pem, 0o644)?;
    if let Some(pem) = revoked_pem {
        write_atomic(&dir.join(REVOKED_FILE), &pem, 0o644)?;
    }
    Ok(credentials.info)
}

/// The authority's folder.
pub struct AuthorityFolder {
    dir: PathBuf,
    authority: Authority,
}

impl AuthorityFolder {
    /// Makes a new authority in `dir`, with an empty revocation list.
    pub fn init(dir: &Path, federation: &str, validity: Validity) -> Result<AuthorityFolder, CertsError> {
        let (authority, text) = Authority::generate(federation, validity)?;
        private_dir(dir)?;
        private_dir(&dir.join(ISSUED_FOLDER))?;
        write_new(&dir.join(AUTHORITY_KEY_FILE), text.key_pem.as_bytes(), 0o600)?;
        write_new(&dir.join(AUTHORITY_FILE), text.certificate_pem.as_bytes(), 0o644)?;
        let folder = AuthorityFolder { dir: dir.to_path_buf(), authority };
        folder.write_revocations(&[])?;
        Ok(folder)
    }

    /// Opens an authority's folder.
    pub fn open(dir: &Path) -> Result<AuthorityFolder, CertsError> {
        private_dir(dir)?;
        let remedy = "make an authority with `blindsum-certs authority-init`, or name its folder";
        let key = read_secret(&dir.join(AUTHORITY_KEY_FILE)).map_err(|e| e.or_missing(remedy))?;
        let certificate = read_certificate(&dir.join(AUTHORITY_FILE), remedy)?;
        let key = std::str::from_utf8(&key)
            .map_err(|_| CertsError::new(ErrorKind::Format, "the authority's key is no PEM"))?;
        let authority = Authority::from_parts(certificate, key).map_err(|e| e.within(dir.display()))?;
        Ok(AuthorityFolder { dir: dir.to_path_buf(), authority })
    }

    /// The authority's certificate file.
    pub fn certificate_path(&self) -> PathBuf {
        self.dir.join(AUTHORITY_FILE)
    }

    /// The revocation list's file.
    pub fn revoked_path(&self) -> PathBuf {
        self.dir.join(REVOKED_FILE)
    }

    /// Certificates issued under `name` that are neither revoked nor expired.
    pub fn valid_certificates(&self, name: &str) -> Result<Vec<CertificateInfo>, CertsError> {
        let folder = self.dir.join(ISSUED_FOLDER);
        let listing = fs::read_dir(&folder).map_err(|e| FileError::from_io("list", &folder, e))?;
        let revoked = self.revoked()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut found = Vec::new();
        for entry in listing {
            let path = entry.map_err(|e| FileError::from_io("list", &folder, e))?.path();
            let certificate = read_certificate(&path, "the folder was changed meanwhile")?;
            let info = CertificateInfo::parse(&certificate).map_err(|e| e.within(path.display()))?;
            let live = u64::try_from(info.not_after).is_ok_and(|until| until >= now);
            if info.name == name && live && revoked.iter().all(|r| r.serial != info.serial) {
                found.push(info);
            }
        }
        Ok(found)
    }

    /// Signs `request` for `role` and writes the certificate to `out`. A name that holds a valid certificate gets
    /// another only with `renew`: otherwise whoever asks could take an organisation's place.
    pub fn sign(
        &self,
        request: &Request,
        role: Role,
        validity: Validity,
        renew: bool,
        out: &Path,
    ) -> Result<CertificateInfo, CertsError> {
        if request.role != role {
            return fail(
                ErrorKind::Role,
                format!(
                    "the request asks for a {}'s certificate, not for a {role}'s: nothing was signed",
                    request.role
                ),
            );
        }
        if !renew && let Some(old) = self.valid_certificates(&request.name)?.first() {
            return fail(
                ErrorKind::Refused,
                format!(
                    "`{}` already holds a valid certificate (serial {}): revoke it first, or pass --renew if you know that the \
                     same organisation asks",
                    request.name,
                    old.serial_hex()
                ),
            );
        }
        let certificate = self.authority.sign(request, validity)?;
        let info = CertificateInfo::parse(&certificate.der)?;
        // Recorded before it is handed out: what was issued can be revoked.
        let record = self.dir.join(ISSUED_FOLDER).join(format!("{}-{}.pem", info.name, info.serial_hex()));
        write_new(&record, certificate.pem.as_bytes(), 0o600)?;
        write_atomic(out, certificate.pem.as_bytes(), 0o644)?;
        Ok(info)
    }

    /// The entries of the revocation list.
    pub fn revoked(&self) -> Result<Vec<Revoked>, CertsError> {
        let path = self.revoked_path();
        let pem = read_public(&path, PUBLIC_LIMIT).map_err(|e| {
            e.or_missing("restore it from a backup: without it revoked certificates would become valid again")
        })?;
        revocations_from_pem(&pem).and_then(|list| revoked_in(&list)).map_err(|e| e.within(path.display()))
    }

    /// Revokes certificates by serial number; those already revoked stay as they are. Returns how many are new.
    pub fn revoke(&self, serials: &[Vec<u8>]) -> Result<usize, CertsError> {
        let mut entries = self.revoked()?;
        let before = entries.len();
        for serial in serials {
            if serial.is_empty() || serial.len() > 20 {
                return fail(
                    ErrorKind::Format,
                    "a serial number has 1 to 20 bytes: copy it from `blindsum-certs show`",
                );
            }
            if entries.iter().all(|entry| &entry.serial != serial) {
                entries.push(Revoked { serial: serial.clone(), at: SystemTime::now() });
            }
        }
        self.write_revocations(&entries)?;
        Ok(entries.len() - before)
    }

    fn write_revocations(&self, entries: &[Revoked]) -> Result<(), CertsError> {
        let list = self.authority.revocation_list(entries)?;
        write_atomic(&self.revoked_path(), list.pem.as_bytes(), 0o644)?;
        Ok(())
    }
}
