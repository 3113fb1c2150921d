//! What a file holds, told by its markers: a file given in another's place is named for what it is.
//!
//! ```text
//! path ─► read(path, wanted) ─► bytes, or "north.csr is a certificate request, where a certificate is expected: …"
//! ```
//! Contract: a marker is no proof. Whoever reads the bytes afterwards parses and checks them.

use std::fmt;
use std::path::Path;

use blindsum_files::{FileError, PUBLIC_LIMIT, probe, read_public};

use crate::error::{CertsError, ErrorKind, fail};
use crate::inspect::{certificate_from_pem, parse_x509};

/// The kinds of files that travel between members, and the one that never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paper {
    PrivateKey,
    Request,
    Revocations,
    AuthorityCertificate,
    Certificate,
    Identity,
    Roster,
    Unknown,
}

impl Paper {
    /// What `bytes` are.
    pub(crate) fn of(bytes: &[u8]) -> Paper {
        let text = String::from_utf8_lossy(bytes);
        let begins = |key: &str| text.lines().any(|line| line.trim_start().starts_with(key));
        match () {
            () if text.contains("PRIVATE KEY-----") => Paper::PrivateKey,
            () if text.contains("BEGIN CERTIFICATE REQUEST") => Paper::Request,
            () if text.contains("BEGIN X509 CRL") => Paper::Revocations,
            () if text.contains("BEGIN CERTIFICATE") => {
                let is_ca = |der| parse_x509(&der).is_ok_and(|certificate| certificate.is_ca());
                if certificate_from_pem(bytes).is_ok_and(is_ca) {
                    Paper::AuthorityCertificate
                } else {
                    Paper::Certificate
                }
            }
            () if begins("[[silos]]") => Paper::Roster,
            () if begins("identity") => Paper::Identity,
            () => Paper::Unknown,
        }
    }

    /// Where such a file comes from, as the remedy for a missing or a wrong one.
    pub(crate) fn origin(self) -> &'static str {
        match self {
            Paper::PrivateKey => "`blindsum-certs silo-init` and `coordinator-init` make it on the member's machine",
            Paper::Request => {
                "it is the .csr file that `blindsum-certs silo-init` or `coordinator-init` left in the member's folder"
            }
            Paper::Revocations => "it is revoked.pem in the authority's folder: ask whoever keeps that",
            Paper::AuthorityCertificate => "it is authority.pem in the authority's folder: ask whoever keeps that",
            Paper::Certificate => "the authority makes it from the member's .csr file with `blindsum-certs sign`",
            Paper::Identity => "it is the .identity.toml file in the silo's folder: ask the silo for it",
            Paper::Roster => "make it with `blindsum-certs roster make`, or get it from whoever keeps it",
            Paper::Unknown => "check the path",
        }
    }

    /// The error that `path` holds `found` instead.
    pub(crate) fn expected(self, path: &Path, found: Paper) -> CertsError {
        let text = format!("{} is {found}, where {self} is expected: {}", path.display(), self.origin());
        CertsError::new(ErrorKind::Format, text)
    }
}

impl fmt::Display for Paper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Paper::PrivateKey => "a private key",
            Paper::Request => "a certificate request",
            Paper::Revocations => "a revocation list",
            Paper::AuthorityCertificate => "an authority's certificate",
            Paper::Certificate => "a member's certificate",
            Paper::Identity => "a silo's identity file",
            Paper::Roster => "a roster",
            Paper::Unknown => "nothing that this program makes",
        })
    }
}

/// Reads the file at `path`, refused unless it looks like `wanted`.
pub(crate) fn read(path: &Path, wanted: Paper) -> Result<Vec<u8>, CertsError> {
    let bytes = read_public(path, PUBLIC_LIMIT).map_err(|e| e.or_missing(wanted.origin()))?;
    match Paper::of(&bytes) {
        found if found == wanted => Ok(bytes),
        found => Err(wanted.expected(path, found)),
    }
}

/// Refuses to write to `out` over anything but an older `kind`; `another` says what such a file is, where it may not be
/// replaced either. A mistyped `--out` costs nobody a key.
pub(crate) fn check_out(
    out: &Path,
    kind: Paper,
    another: impl FnOnce(&[u8]) -> Result<Option<String>, CertsError>,
) -> Result<(), CertsError> {
    let bytes = match read_public(out, PUBLIC_LIMIT) {
        Ok(bytes) => bytes,
        Err(FileError::Missing { .. }) => return Ok(probe::file(out)?),
        Err(e) => return Err(e.into()),
    };
    let found = Paper::of(&bytes);
    let what = if found == kind { another(&bytes)? } else { Some(found.to_string()) };
    match what {
        None => Ok(probe::file(out)?),
        Some(what) => fail(
            ErrorKind::Refused,
            format!("{} exists already and is {what}: it is not overwritten. Choose another --out", out.display()),
        ),
    }
}

/// A path as it is typed in a shell.
pub(crate) struct Typed<'a>(pub(crate) &'a Path);

impl fmt::Display for Typed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        let plain = |c: char| c.is_alphanumeric() || "/._-+,@%:".contains(c);
        if text.chars().all(plain) { f.write_str(&text) } else { write!(f, "'{}'", text.replace('\'', r"'\''")) }
    }
}
