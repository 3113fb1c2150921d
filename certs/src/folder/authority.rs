//! The authority's folder: its key, what it issued, what it revoked.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use blindsum_crypto::{Digest, sha256};
use blindsum_files::{FileError, PUBLIC_LIMIT, private_dir, read_public, read_secret, write_atomic, write_new};

use super::{AUTHORITY_KEY_FILE, NewFile, write_all_new};
use crate::authority::{Authority, Revoked, Validity, revoked_in};
use crate::credentials::{AUTHORITY_FILE, REVOKED_FILE, TLS_KEY_FILE, read_certificate, revocations_from_pem};
use crate::error::{CertsError, ErrorKind, fail};
use crate::inspect::{CertificateInfo, certificate_from_pem};
use crate::names::Role;
use crate::paper::{Paper, check_out};
use crate::request::Request;

pub(super) const ISSUED_FOLDER: &str = "issued";

/// The authority's folder.
pub struct AuthorityFolder {
    pub(super) dir: PathBuf,
    authority: Authority,
}

impl AuthorityFolder {
    /// Makes a new authority in `dir`, with an empty revocation list.
    pub fn init(dir: &Path, federation: &str, validity: Validity) -> Result<AuthorityFolder, CertsError> {
        let (authority, text) = Authority::generate(federation, validity)?;
        if dir.join(TLS_KEY_FILE).exists() {
            let text = format!("{} is a member's folder: choose another one for the authority", dir.display());
            return fail(ErrorKind::Refused, text);
        }
        private_dir(dir)?;
        private_dir(&dir.join(ISSUED_FOLDER))?;
        let list = authority.revocation_list(&[])?;
        write_all_new(&[
            NewFile { path: dir.join(AUTHORITY_KEY_FILE), bytes: text.key_pem.as_bytes(), mode: 0o600 },
            NewFile { path: dir.join(AUTHORITY_FILE), bytes: text.certificate_pem.as_bytes(), mode: 0o644 },
            NewFile { path: dir.join(REVOKED_FILE), bytes: list.pem.as_bytes(), mode: 0o644 },
        ])?;
        Ok(AuthorityFolder { dir: dir.to_path_buf(), authority })
    }

    /// Opens an authority's folder.
    pub fn open(dir: &Path) -> Result<AuthorityFolder, CertsError> {
        let remedy = "make an authority with `blindsum-certs authority-init`, or name its folder";
        if !dir.exists() {
            return Err(FileError::Missing { path: dir.to_path_buf(), remedy }.into());
        }
        private_dir(dir)?;
        let key_file = dir.join(AUTHORITY_KEY_FILE);
        let key = read_secret(&key_file).map_err(|e| e.or_missing(remedy))?;
        let certificate = read_certificate(&dir.join(AUTHORITY_FILE), remedy)?;
        let key = std::str::from_utf8(&key).map_err(|_| {
            CertsError::new(ErrorKind::Format, format!("{} is no PEM: restore it from your backup", key_file.display()))
        })?;
        let authority = Authority::from_parts(certificate, key).map_err(|e| e.within(dir.display()))?;
        Ok(AuthorityFolder { dir: dir.to_path_buf(), authority })
    }

    /// The federation's name.
    pub fn federation(&self) -> Result<String, CertsError> {
        self.authority.federation()
    }

    /// The fingerprint of the authority's certificate, for members to compare.
    pub fn fingerprint(&self) -> Digest {
        sha256(self.authority.certificate())
    }

    /// The authority's certificate file.
    pub fn certificate_path(&self) -> PathBuf {
        self.dir.join(AUTHORITY_FILE)
    }

    /// The revocation list's file.
    pub fn revoked_path(&self) -> PathBuf {
        self.dir.join(REVOKED_FILE)
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
                    "the request asks for a {}'s certificate, not for a {role}'s: nothing was signed. Pass --role {} \
                     if that is what you mean to grant",
                    request.role, request.role
                ),
            );
        }
        if !renew && let Some(old) = self.valid_certificates(&request.name)?.first() {
            return fail(
                ErrorKind::Refused,
                format!(
                    "`{}` already holds a valid certificate (serial {}): revoke it first, or pass --renew if you \
                     know that the same organisation asks",
                    request.name,
                    old.serial_hex()
                ),
            );
        }
        check_out(out, Paper::Certificate, |bytes| {
            let old = certificate_from_pem(bytes).and_then(|der| CertificateInfo::parse(&der));
            let old = old.map_err(|e| e.within(out.display()))?;
            let same = old.name == request.name && old.role == request.role;
            Ok((!same).then(|| format!("the certificate of the {} `{}`", old.role, old.name)))
        })?;
        let certificate = self.authority.sign(request, validity)?;
        let info = CertificateInfo::parse(&certificate.der)?;
        // Recorded before it is handed out: what was issued can be revoked.
        let record = self.dir.join(ISSUED_FOLDER).join(format!("{}-{}.pem", info.name, info.serial_hex()));
        write_new(&record, certificate.pem.as_bytes(), 0o600)?;
        write_atomic(out, certificate.pem.as_bytes(), 0o644).map_err(|e| {
            let signed = format!("the certificate is signed and lies in {}: copy it from there", record.display());
            CertsError::from(e).followed_by(signed)
        })?;
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

    /// Revokes certificates that this authority issued; those already revoked stay as they are. Returns how many are
    /// new.
    ///
    /// # Errors
    /// A serial number that was never issued, with the nearest ones; nothing is revoked then.
    pub fn revoke(&self, serials: &[Vec<u8>]) -> Result<usize, CertsError> {
        let issued = self.issued()?;
        let mut entries = self.revoked()?;
        let before = entries.len();
        for serial in serials {
            self.find_serial(&issued, &hex::encode(serial))?;
            if entries.iter().all(|entry| &entry.serial != serial) {
                entries.push(Revoked { serial: serial.clone(), at: SystemTime::now() });
            }
        }
        if entries.len() > before {
            let list = self.authority.revocation_list(&entries)?;
            write_atomic(&self.revoked_path(), list.pem.as_bytes(), 0o644)?;
        }
        Ok(entries.len() - before)
    }
}
