//! The roster as a file: made from the silos' identity files, read by everybody, compared by its fingerprint.
//!
//! Contract: entries are sorted by name, so that the same silos give the same fingerprint in whatever order they were
//! listed. The file is no secret; its authenticity comes from comparing the fingerprint over another channel.

use std::path::Path;

use blindsum_crypto::{Quorum, Roster, RosterEntry};

use crate::error::{CertsError, ErrorKind};
use crate::folder::IdentityFile;
use blindsum_files::{PUBLIC_LIMIT, read_public};

/// Makes a roster from the silos' identity files.
pub fn make(federation: &str, version: u32, silos: Vec<IdentityFile>) -> Result<Roster, CertsError> {
    let mut entries: Vec<RosterEntry> =
        silos.into_iter().map(|silo| RosterEntry { name: silo.name, identity: silo.identity }).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Roster::new(federation, version, entries).map_err(|e| CertsError::new(ErrorKind::Format, e.to_string()))
}

/// The roster as TOML text.
pub fn to_toml(roster: &Roster) -> Result<String, CertsError> {
    let body = toml::to_string(roster)
        .map_err(|e| CertsError::new(ErrorKind::Internal, format!("the roster cannot be written: {e}")))?;
    Ok(format!(
        "# The silos of this federation. Compare the fingerprint over another channel:\n# {}\n{body}",
        roster.hash()
    ))
}

/// Reads a roster file.
pub fn load(path: &Path) -> Result<Roster, CertsError> {
    let bytes = read_public(path, PUBLIC_LIMIT)
        .map_err(|e| e.or_missing("make it with `blindsum-certs roster make`, or get it from whoever keeps it"))?;
    let bad =
        |e: &dyn std::fmt::Display| CertsError::new(ErrorKind::Format, format!("{} is no roster: {e}", path.display()));
    let text = std::str::from_utf8(&bytes).map_err(|e| bad(&e))?;
    toml::from_str(text).map_err(|e| bad(&e.message()))
}

/// Names, keys and fingerprint for people.
pub fn describe(roster: &Roster) -> String {
    let mut text = format!("federation   {}\nversion      {}\n", roster.federation_id(), roster.version());
    for entry in roster.entries() {
        text += &format!("silo         {:<24} {}\n", entry.name, entry.identity);
    }
    text + &format!("fingerprint  {}", roster.hash())
}

/// The quorum numbers as sentences, for the first lines that both services print.
pub fn describe_quorum(quorum: &Quorum) -> Vec<String> {
    let Quorum { n, c, t, q, m } = *quorum;
    let hidden_from = match c {
        0 => "alone, but not from the coordinator together with a silo".to_owned(),
        1 => "even if any one other silo works with it".to_owned(),
        _ => format!("even if any {c} other silos work with it"),
    };
    vec![
        format!("n = {n} silos in the roster; a round completes with at least m = {m} of them"),
        format!("c = {c}: the sum hides each silo's update from the coordinator {hidden_from}"),
        format!("t = {t} shares open a mask, q = {q} signatures fix who is in a sum"),
    ]
}

/// What a small federation must know before it starts; `None` from four names on.
pub fn small_federation_warning(roster: &Roster) -> Option<String> {
    let colluders = Quorum::derive(roster.len() as u16, None, None).map_or(0, |quorum| quorum.c);
    (colluders == 0).then(|| {
        format!(
            "this federation has {} silos: no silo may collude with the coordinator. If one hands what it knows to the \
             coordinator, the two together learn the sum of the other {} silos' updates, and a cheating coordinator could \
             open a single one. With four or more names at least one colluding silo is tolerated.",
            roster.len(),
            roster.len() - 1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindsum_crypto::IdentityKey;

    fn silos(names: &[&str]) -> Vec<IdentityFile> {
        let file = |(i, name): (usize, &&str)| IdentityFile {
            name: (*name).to_owned(),
            identity: IdentityKey::from_bytes(&[1 + u8::try_from(i).unwrap(); 32]).public(),
        };
        names.iter().enumerate().map(file).collect()
    }

    #[test]
    fn a_roster_file_reads_back_and_order_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let mut listed = silos(&["south", "north", "east", "west"]);
        let roster = make("demo", 1, listed.clone()).unwrap();
        listed.reverse();
        assert_eq!(make("demo", 1, listed).unwrap().hash(), roster.hash());
        let path = dir.path().join("roster.toml");
        std::fs::write(&path, to_toml(&roster).unwrap()).unwrap();
        assert_eq!(load(&path).unwrap(), roster);
        assert!(describe(&roster).contains(&roster.hash().to_string()));

        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("version = 1", "version = 2")).unwrap();
        assert_ne!(load(&path).unwrap().hash(), roster.hash());
        std::fs::write(&path, text.replace("version = 1", "version = 1\nextra = 1")).unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("extra"));
    }

    #[test]
    fn small_federations_are_told_what_that_means() {
        let warning = small_federation_warning(&make("demo", 1, silos(&["a", "b", "c"])).unwrap()).unwrap();
        assert!(warning.contains("no silo may collude"), "{warning}");
        assert_eq!(small_federation_warning(&make("demo", 1, silos(&["a", "b", "c", "d"])).unwrap()), None);
        assert!(make("demo", 1, silos(&["a", "b"])).is_err());
        assert!(make("demo", 1, silos(&["a", "b", "b"])).is_err());
    }
}
