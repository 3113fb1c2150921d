//! The roster as a file: made from the silos' identity files, read by everybody, compared by its fingerprint.
//!
//! Contract: entries are sorted by name, so that the same silos give the same fingerprint in whatever order they were
//! listed. The file is no secret; its authenticity comes from comparing the fingerprint over another channel. The
//! comment that carries the fingerprint for people is checked against the silos below it whenever the file is read.

use std::path::Path;

use blindsum_crypto::{Quorum, Roster, RosterEntry};
use blindsum_files::{PUBLIC_LIMIT, read_public, write_atomic};
use blindsum_service::Document;

use crate::error::{CertsError, ErrorKind, fail};
use crate::folder::IdentityFile;
use crate::paper::{Paper, check_out};

/// Makes a roster from the silos' identity files.
pub fn make(federation: &str, version: u32, silos: Vec<IdentityFile>) -> Result<Roster, CertsError> {
    let mut entries: Vec<RosterEntry> =
        silos.into_iter().map(|silo| RosterEntry { name: silo.name, identity: silo.identity }).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Roster::new(federation, version, entries)
        .map_err(|e| CertsError::new(ErrorKind::Format, format!("{e}: name the .identity.toml file of each silo once")))
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

/// Writes a roster to `out`. An older version of the same federation is replaced; nothing else is.
pub fn write(roster: &Roster, out: &Path) -> Result<(), CertsError> {
    check_out(out, Paper::Roster, |bytes| {
        let old = parse(out, bytes)?;
        Ok(if old.federation_id() != roster.federation_id() {
            Some(format!("the roster of federation `{}`", old.federation_id()))
        } else if old.version() >= roster.version() && old.hash() != roster.hash() {
            Some(format!(
                "another roster of version {} (a changed one takes --roster-version {})",
                old.version(),
                old.version().saturating_add(1)
            ))
        } else {
            None
        })
    })?;
    Ok(write_atomic(out, to_toml(roster)?.as_bytes(), 0o644)?)
}

/// Reads a roster file.
///
/// # Errors
/// The file and the line that cannot be read, or a comment whose fingerprint is not the roster's.
pub fn load(path: &Path) -> Result<Roster, CertsError> {
    parse(path, &read_public(path, PUBLIC_LIMIT).map_err(|e| e.or_missing(Paper::Roster.origin()))?)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Roster, CertsError> {
    let roster: Roster = parse_toml(path, bytes, Paper::Roster)?;
    let text = String::from_utf8_lossy(bytes);
    match text.lines().find_map(|line| stale(line, &roster.hash().to_string())) {
        None => Ok(roster),
        Some(said) => fail(
            ErrorKind::Untrusted,
            format!(
                "{}: the fingerprint in its comment is {said}, but its silos and version give {}: it was changed \
                 after it was made. Get it again from whoever keeps it; if the change is yours, make it anew with \
                 `blindsum-certs roster make` and a higher --roster-version",
                path.display(),
                roster.hash()
            ),
        ),
    }
}

/// The fingerprint in the comment of a line, where it is not `hash`. People compare comments: half a fingerprint counts
/// as one. An entry that was commented out is none.
fn stale<'a>(line: &'a str, hash: &str) -> Option<&'a str> {
    const HALF: usize = 32;
    let (_, comment) = line.split_once('#')?;
    let mut words = comment.split(|c: char| !c.is_ascii_alphanumeric());
    let is_fingerprint = |word: &&str| word.len() >= HALF && word.bytes().all(|b| b.is_ascii_hexdigit());
    if comment.contains("identity") {
        return None;
    }
    words.find(|word| is_fingerprint(word) && !word.eq_ignore_ascii_case(hash))
}

/// Reads a TOML file of this program; an error names its line, and what the file is where it is none of `wanted`.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    wanted: Paper,
) -> Result<T, CertsError> {
    let found = Paper::of(bytes);
    if found != wanted && found != Paper::Unknown {
        return Err(wanted.expected(path, found));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return Err(wanted.expected(path, Paper::Unknown)) };
    Document::new(path, text)
        .parse()
        .map_err(|e| CertsError::new(ErrorKind::Format, format!("{e}. This is not {wanted}: {}", wanted.origin())))
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

/// The same in one line, for `check`.
pub fn short_quorum(quorum: &Quorum) -> String {
    let silos = if quorum.c == 1 { "one colluding silo".to_owned() } else { format!("{} colluding silos", quorum.c) };
    format!("a round needs m = {} of {} silos and withstands {silos}", quorum.m, quorum.n)
}

/// What a small federation must know before it starts; `None` from four names on.
pub fn small_federation_warning(roster: &Roster) -> Option<String> {
    let colluders = Quorum::derive(roster.len() as u16, None, None).map_or(0, |quorum| quorum.c);
    (colluders == 0).then(|| {
        format!(
            "this federation has {} silos: no silo may collude with the coordinator. If one hands what it knows to the \
             coordinator, the two together learn the sum of the other {} silos' updates, and a cheating coordinator \
             could open a single one. With four or more names at least one colluding silo is tolerated.",
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
        std::fs::write(&path, text.replace("version = 1", "version = 1\nextra = 1")).unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("roster.toml:5: `extra`"), "{error}");
    }

    #[test]
    fn a_comment_with_another_fingerprint_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roster.toml");
        let made = make("demo", 1, silos(&["a", "b", "c"])).unwrap();
        let (text, hash) = (to_toml(&made).unwrap(), made.hash().to_string());
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(&path)
        };
        let other = hash.chars().rev().collect::<String>();
        for stale in [
            text.replace("version = 1", "version = 2"),
            text.replace(&hash, &other),
            text.replace(&hash, &hash[..63]),
            text.replace("version = 1", &format!("version = 1 # fingerprint: {other}")),
        ] {
            let error = read(&stale).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Untrusted, "{stale}");
            assert!(error.to_string().contains("roster make"), "{error}");
        }
        let without: String = text.lines().filter(|line| !line.starts_with('#')).map(|l| format!("{l}\n")).collect();
        let commented_out = format!("{text}# identity = \"{other}\"\n# kept by the clinics' office\n");
        for good in [&text, &without, &text.replace(&hash, &hash.to_uppercase()), &commented_out] {
            assert_eq!(read(good).unwrap(), made, "{good}");
        }
    }

    #[test]
    fn a_roster_replaces_only_an_older_version_of_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roster.toml");
        let first = make("demo", 1, silos(&["a", "b", "c"])).unwrap();
        write(&first, &path).unwrap();
        write(&first, &path).unwrap();
        for other in [make("demo", 1, silos(&["a", "b", "d"])), make("other", 2, silos(&["a", "b", "c"]))] {
            assert_eq!(write(&other.unwrap(), &path).unwrap_err().kind(), ErrorKind::Refused);
            assert_eq!(load(&path).unwrap(), first);
        }
        write(&make("demo", 2, silos(&["a", "b", "d"])).unwrap(), &path).unwrap();
        assert_eq!(load(&path).unwrap().version(), 2);
        std::fs::write(&path, "identity = \"x\"\n").unwrap();
        assert!(write(&first, &path).unwrap_err().to_string().contains("a silo's identity file"));
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
