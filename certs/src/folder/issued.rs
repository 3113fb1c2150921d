//! What an authority issued: to whom, until when, and how it stands now.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use blindsum_files::FileError;

use super::AuthorityFolder;
use super::authority::ISSUED_FOLDER;
use crate::credentials::read_certificate;
use crate::error::{CertsError, ErrorKind};
use crate::inspect::{CertificateInfo, date, unix};
use crate::paper::Typed;

/// Most names or serial numbers that a message proposes.
const NEAREST: usize = 3;

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It opens doors.
    Valid,
    /// Its time is over.
    Expired,
    /// The authority revoked it.
    Revoked(SystemTime),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Valid => f.write_str("valid"),
            Standing::Expired => f.write_str("expired"),
            Standing::Revoked(at) => write!(f, "revoked on {}", date(unix(*at))),
        }
    }
}

/// A certificate that the authority issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// What it says.
    pub info: CertificateInfo,
    /// How it stands.
    pub standing: Standing,
}

impl AuthorityFolder {
    /// Every certificate that was issued, by name and age.
    pub fn issued(&self) -> Result<Vec<Issued>, CertsError> {
        let folder = self.dir.join(ISSUED_FOLDER);
        let remedy = "restore it from a backup: it holds what was issued";
        let failed = |e| FileError::from_io("list", &folder, e).or_missing(remedy);
        let revoked = self.revoked()?;
        let now = unix(SystemTime::now());
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let info = read_record(&entry.map_err(failed)?.path())?;
            let standing = match revoked.iter().find(|entry| entry.serial == info.serial) {
                Some(entry) => Standing::Revoked(entry.at),
                None if info.not_after < now => Standing::Expired,
                None => Standing::Valid,
            };
            found.push(Issued { info, standing });
        }
        let key = |issued: &Issued| (issued.info.name.clone(), issued.info.not_before, issued.info.serial.clone());
        found.sort_by_key(key);
        Ok(found)
    }

    /// Certificates issued under `name` that are neither revoked nor expired.
    pub fn valid_certificates(&self, name: &str) -> Result<Vec<CertificateInfo>, CertsError> {
        let mut issued = self.issued()?;
        issued.retain(|issued| issued.info.name == name && issued.standing == Standing::Valid);
        Ok(issued.into_iter().map(|issued| issued.info).collect())
    }

    /// The certificate with a serial number (hexadecimal, with or without colons).
    ///
    /// # Errors
    /// None has it; the nearest ones are listed.
    pub fn find_serial<'a>(&self, issued: &'a [Issued], serial: &str) -> Result<&'a Issued, CertsError> {
        let wanted = serial.replace(':', "").to_lowercase();
        let found = issued.iter().find(|issued| issued.info.serial_hex() == wanted);
        found
            .ok_or_else(|| self.unknown("a certificate with serial", serial, issued, |info| info.serial_hex(), &wanted))
    }

    /// The certificates of a name, at least one.
    ///
    /// # Errors
    /// The name has none; the nearest names are listed.
    pub fn find_name<'a>(&self, issued: &'a [Issued], name: &str) -> Result<Vec<&'a Issued>, CertsError> {
        let found: Vec<&Issued> = issued.iter().filter(|issued| issued.info.name == name).collect();
        if found.is_empty() {
            return Err(self.unknown("a certificate for", name, issued, |info| info.name.clone(), name));
        }
        Ok(found)
    }

    fn unknown(
        &self,
        what: &str,
        asked: &str,
        issued: &[Issued],
        key: impl Fn(&CertificateInfo) -> String,
        wanted: &str,
    ) -> CertsError {
        let mut near: Vec<(usize, &CertificateInfo)> =
            issued.iter().map(|issued| (distance(&key(&issued.info), wanted), &issued.info)).collect();
        near.sort_by_key(|(distance, _)| *distance);
        let shown: String = asked.chars().take(80).flat_map(char::escape_debug).collect();
        let mut text = format!("this authority never issued {what} `{shown}`: nothing was changed. ");
        if near.is_empty() {
            text += "It has issued none at all: is this the right folder?";
        } else {
            text += "Nearest:";
            for (_, info) in near.iter().take(NEAREST) {
                text += &format!("\n  {} ({} `{}`)", info.serial_hex(), info.role, info.name);
            }
            text += &format!("\n`blindsum-certs authority list --authority {}` shows all of them", Typed(&self.dir));
        }
        CertsError::new(ErrorKind::Name, text)
    }
}

fn read_record(path: &Path) -> Result<CertificateInfo, CertsError> {
    let certificate = read_certificate(path, "it was removed meanwhile: try again");
    certificate.and_then(|der| CertificateInfo::parse(&der)).map_err(|e| match e.kind() {
        ErrorKind::Format | ErrorKind::Name | ErrorKind::Role => {
            e.followed_by(format!("{} was never issued: move it out of that folder", path.display()))
        }
        _ => e,
    })
}

/// How many characters must change, come or go (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distance_counts_changes() {
        for (a, b, wanted) in
            [("", "", 0), ("north", "north", 0), ("north", "nroth", 2), ("abc", "", 3), ("south", "mouth", 1)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (wanted, wanted), "{a} {b}");
        }
    }
}
