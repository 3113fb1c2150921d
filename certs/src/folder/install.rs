//! Putting what the authority signed into a member's folder.
//!
//! Contract: all checks come before the first write. A member's authority, name and key change only on purpose: whoever
//! chooses the authority chooses whom this member believes.

use std::path::Path;

use blindsum_crypto::{Digest, sha256};
use blindsum_files::{FileError, PUBLIC_LIMIT, read_public, read_secret, write_atomic};
use rustls::pki_types::CertificateDer;

use crate::authority::revoked_in;
use crate::credentials::{
    AUTHORITY_FILE, CERTIFICATE_FILE, Credentials, REVOKED_FILE, TLS_KEY_FILE, read_certificate, revocations_from_pem,
};
use crate::error::{CertsError, ErrorKind, fail};
use crate::inspect::{CertificateInfo, certificate_from_pem, date, parse_x509};
use crate::paper::{self, Paper};

/// What is to be put where.
#[derive(Clone, Copy, Debug)]
pub struct Installation<'a> {
    /// The member's folder, with its keys.
    pub dir: &'a Path,
    /// The signed certificate.
    pub certificate: &'a Path,
    /// The authority's certificate.
    pub authority: &'a Path,
    /// The authority's revocation list.
    pub revoked: Option<&'a Path>,
    /// The folder may get another authority than the one that it has.
    pub replace_authority: bool,
}

/// What lies in the folder now.
#[derive(Debug)]
pub struct Installed {
    /// The member's certificate.
    pub info: CertificateInfo,
    /// The fingerprint of the authority's certificate, to be compared with what the authority reads out.
    pub authority: Digest,
    /// Whether any file is another than before.
    pub changed: bool,
}

/// [`Installation::run`] for a folder that keeps the authority that it has.
pub fn install(
    dir: &Path,
    certificate: &Path,
    authority: &Path,
    revoked: Option<&Path>,
) -> Result<CertificateInfo, CertsError> {
    let installation = Installation { dir, certificate, authority, revoked, replace_authority: false };
    installation.run().map(|installed| installed.info)
}

impl Installation<'_> {
    /// Puts the certificates and, where given, the revocation list into the folder, after checking that they fit the
    /// key and the certificates that lie there.
    ///
    /// # Errors
    /// The file at fault and the remedy; the folder is as it was.
    pub fn run(&self) -> Result<Installed, CertsError> {
        let key = read_secret(&self.dir.join(TLS_KEY_FILE)).map_err(|e| {
            e.or_missing(
                "name the folder that `blindsum-certs silo-init` (or `coordinator-init`) made, or make the keys first",
            )
        })?;
        let certificate_pem = paper::read(self.certificate, Paper::Certificate)?;
        let authority_pem = paper::read(self.authority, Paper::AuthorityCertificate)?;
        let revoked_pem = self.revoked.map(|path| paper::read(path, Paper::Revocations)).transpose()?;
        let authority = certificate_from_pem(&authority_pem).map_err(|e| e.within(self.authority.display()))?;
        let certificate = certificate_from_pem(&certificate_pem).map_err(|e| e.within(self.certificate.display()))?;
        let replaced = self.check_authority(&authority)?;

        let held_list = self.dir.join(REVOKED_FILE);
        let held = present(read_public(&held_list, PUBLIC_LIMIT))?;
        if replaced && held.is_some() && revoked_pem.is_none() {
            let list = held_list.display();
            let text = format!("{list} is the former authority's: pass --revoked with the new authority's revoked.pem");
            return fail(ErrorKind::Untrusted, text);
        }
        if let (false, Some(old), Some(new)) = (replaced, &held, &revoked_pem) {
            self.check_list(old, new)?;
        }
        let list = revoked_pem.as_ref().or(held.as_ref());
        let fits = |e: CertsError| e.within(format_args!("{} in {}", self.certificate.display(), self.dir.display()));
        let list = list.map(|pem| revocations_from_pem(pem)).transpose().map_err(|e| e.within(held_list.display()))?;
        let credentials = Credentials::new(authority, certificate, &key, list).map_err(fits)?;
        credentials.check(credentials.info.role).map_err(fits)?;
        if !replaced {
            self.check_certificate(&credentials.info)?;
        }

        let mut changed = false;
        let files = [(AUTHORITY_FILE, Some(authority_pem)), (CERTIFICATE_FILE, Some(certificate_pem))];
        for (name, pem) in files.into_iter().chain([(REVOKED_FILE, revoked_pem)]) {
            let (path, Some(pem)) = (self.dir.join(name), pem) else { continue };
            if present(read_public(&path, PUBLIC_LIMIT))?.as_ref() != Some(&pem) {
                write_atomic(&path, &pem, 0o644)?;
                changed = true;
            }
        }
        Ok(Installed { info: credentials.info, authority: sha256(&credentials.authority), changed })
    }

    /// Whether the folder gets another authority (one with another key); refused unless that was asked for.
    fn check_authority(&self, new: &CertificateDer<'static>) -> Result<bool, CertsError> {
        let path = self.dir.join(AUTHORITY_FILE);
        let old = match read_certificate(&path, "") {
            Ok(old) => old,
            Err(_) if !path.exists() => return Ok(false),
            Err(e) => return Err(e.followed_by("move it away and install again")),
        };
        if parse_x509(&old)?.public_key().raw == parse_x509(new)?.public_key().raw {
            return Ok(false);
        }
        if self.replace_authority {
            return Ok(true);
        }
        fail(
            ErrorKind::Untrusted,
            format!(
                "{} is the certificate of another authority than the one in {}: nothing was installed.\n\
                 installed   {}\n\
                 offered     {}\n\
                 Ask the authority by telephone which fingerprint is its own; pass --replace-authority if it is the \
                 second",
                self.authority.display(),
                path.display(),
                sha256(&old),
                sha256(new)
            ),
        )
    }

    /// Refuses a certificate for another name than the folder's, and an older one than it has.
    fn check_certificate(&self, new: &CertificateInfo) -> Result<(), CertsError> {
        let path = self.dir.join(CERTIFICATE_FILE);
        if !path.exists() {
            return Ok(());
        }
        let old = read_certificate(&path, "").and_then(|der| CertificateInfo::parse(&der));
        let old = old.map_err(|e| e.followed_by(format!("move {} away and install again", path.display())))?;
        let (offered, held) = (self.certificate.display(), path.display());
        if (old.role, &old.name) != (new.role, &new.name) {
            let text = format!(
                "{offered} is for the {} `{}`, {held} for the {} `{}`: nothing was installed. Name the folder of \
                 `{}`, or make one for it",
                new.role, new.name, old.role, old.name, new.name
            );
            return fail(ErrorKind::Name, text);
        }
        if new.not_before < old.not_before {
            let text = format!(
                "{offered} is older (valid from {}) than {held} (from {}): nothing was installed. Install the newest \
                 certificate; if you do mean the older one, move {held} away first",
                date(new.not_before),
                date(old.not_before)
            );
            return fail(ErrorKind::Validity, text);
        }
        Ok(())
    }

    /// Refuses a revocation list that would make a revoked certificate valid again.
    fn check_list(&self, old: &[u8], new: &[u8]) -> Result<(), CertsError> {
        let serials = |pem: &[u8]| revocations_from_pem(pem).and_then(|list| revoked_in(&list));
        let (old, new) = (serials(old)?, serials(new)?);
        match old.iter().find(|old| new.iter().all(|new| new.serial != old.serial)) {
            None => Ok(()),
            Some(lost) => fail(
                ErrorKind::Revoked,
                format!(
                    "the revocation list lacks serial {}, which the one in {} revokes: it is an older one. Ask the \
                     authority for the newest revoked.pem",
                    hex::encode(&lost.serial),
                    self.dir.display()
                ),
            ),
        }
    }
}

fn present(read: Result<Vec<u8>, FileError>) -> Result<Option<Vec<u8>>, CertsError> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(FileError::Missing { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
