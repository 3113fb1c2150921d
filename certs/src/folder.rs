//! The folders of the authority and of the members, and the steps that fill them.
//!
//! A member's folder (0700) is made on the member's machine and its private keys never leave it. The authority's folder
//! keeps every certificate that it issued, so that one can be revoked by name. No step overwrites a key, and a step
//! that fails leaves nothing behind.

mod authority;
mod install;
mod issued;

use std::fs;
use std::path::{Path, PathBuf};

use blindsum_crypto::{Digest, IdentityKey, IdentityPublic};
use blindsum_files::{FileError, PUBLIC_LIMIT, private_dir, read_public, write_new};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::credentials::{IDENTITY_KEY_FILE, TLS_KEY_FILE};
use crate::error::{CertsError, ErrorKind, fail};
use crate::names::{Role, check_name};
use crate::paper::Paper;
use crate::request::new_request;
use crate::roster::parse_toml;

pub use authority::AuthorityFolder;
pub use install::{Installation, Installed, install};
pub use issued::{Issued, Standing};

/// The authority's private key, 0600.
pub const AUTHORITY_KEY_FILE: &str = "authority.key";

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
        let bytes = read_public(path, PUBLIC_LIMIT).map_err(|e| e.or_missing(Paper::Identity.origin()))?;
        let file: IdentityFile = parse_toml(path, &bytes, Paper::Identity)?;
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
    let identity = IdentityKey::generate(&mut rand::rng());
    let secret = Zeroizing::new(hex::encode(identity.to_bytes().as_slice()) + "\n");
    let public = IdentityFile { name: name.to_owned(), identity: identity.public() };
    let text = toml::to_string(&public)
        .map_err(|e| CertsError::new(ErrorKind::Internal, format!("the identity file cannot be written: {e}")))?;
    let path = dir.join(format!("{name}.identity.toml"));
    let more = [
        NewFile { path: dir.join(IDENTITY_KEY_FILE), bytes: secret.as_bytes(), mode: 0o600 },
        NewFile { path: path.clone(), bytes: text.as_bytes(), mode: 0o644 },
    ];
    let enrolment = member_init(dir, Role::Silo, name, &[], more.into())?;
    Ok(Enrolment { identity: Some(path), ..enrolment })
}

/// Makes the coordinator's key and request in `dir`; `hosts` are the names and addresses under which silos reach it.
pub fn coordinator_init(dir: &Path, name: &str, hosts: &[String]) -> Result<Enrolment, CertsError> {
    member_init(dir, Role::Coordinator, name, hosts, Vec::new())
}

fn member_init<'a>(
    dir: &Path,
    role: Role,
    name: &str,
    hosts: &[String],
    more: Vec<NewFile<'a>>,
) -> Result<Enrolment, CertsError> {
    let request = new_request(role, name, hosts)?;
    if dir.join(AUTHORITY_KEY_FILE).exists() {
        let text = format!("{} is the authority's folder: choose another one for a member's keys", dir.display());
        return fail(ErrorKind::Refused, text);
    }
    // A coordinator's keys beside a silo's would be taken for its own.
    if let Some(path) = Some(dir.join(IDENTITY_KEY_FILE)).filter(|path| path.exists()) {
        return Err(FileError::Exists { path }.into());
    }
    private_dir(dir)?;
    let csr = dir.join(format!("{name}.csr"));
    let mut files = vec![
        NewFile { path: dir.join(TLS_KEY_FILE), bytes: request.key_pem.as_bytes(), mode: 0o600 },
        NewFile { path: csr.clone(), bytes: request.csr_pem.as_bytes(), mode: 0o644 },
    ];
    files.extend(more);
    write_all_new(&files)?;
    Ok(Enrolment { csr, identity: None, key_fingerprint: request.key_fingerprint })
}

/// A file that does not exist yet.
struct NewFile<'a> {
    path: PathBuf,
    bytes: &'a [u8],
    mode: u32,
}

/// Writes all of `files` or none: a second run must not leave a new TLS key beside an old identity.
fn write_all_new(files: &[NewFile<'_>]) -> Result<(), CertsError> {
    if let Some(file) = files.iter().find(|file| file.path.symlink_metadata().is_ok()) {
        return Err(FileError::Exists { path: file.path.clone() }.into());
    }
    for (i, file) in files.iter().enumerate() {
        if let Err(e) = write_new(&file.path, file.bytes, file.mode) {
            for made in &files[..i] {
                let _ = fs::remove_file(&made.path);
            }
            return Err(e.into());
        }
    }
    Ok(())
}
