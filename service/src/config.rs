//! Configuration files: closed TOML, errors that name file, line and key.
//!
//! ```text
//! file ─► Document ─► parse::<T>() ─► checks elsewhere ─► Document::wrong(key, …)
//! ```
//! A [`Document`] keeps the text, so that whoever finds later that a value makes no sense can still say where it stands.
//!
//! ```
//! use blindsum_service::Document;
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Patience {
//!     seconds: u32,
//! }
//!
//! let file = Document::new("silo.toml", "# how long to wait\nseconds = 0\n");
//! let patience: Patience = file.parse()?;
//! assert_eq!(patience.seconds, 0);
//! let error = file.wrong("seconds", "is 0; choose 1 or more");
//! assert_eq!(error.to_string(), "silo.toml:2: `seconds`: is 0; choose 1 or more");
//! # Ok::<(), blindsum_service::ConfigError>(())
//! ```

use std::fmt;
use std::path::{Component, Path, PathBuf};

use blindsum_files::{ExitCode, Exits, FileError, PUBLIC_LIMIT, read_public};
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

/// A configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("the configuration cannot be read: {0}")]
    File(#[from] FileError),
    /// A key is unknown, missing or has a wrong value.
    #[error(
        "{}{}: {}{message}",
        .path.display(),
        line.map(|line| format!(":{line}")).unwrap_or_default(),
        key.as_ref().map(|k| format!("`{k}`: ")).unwrap_or_default()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1; none where it is about the file as a whole.
        line: Option<usize>,
        /// The key on that line, where there is one.
        key: Option<String>,
        /// What is wrong.
        message: String,
    },
}

impl Exits for ConfigError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }
}

/// What a service reads from its configuration file.
pub trait ServiceConfig: DeserializeOwned {
    /// What it is.
    const KIND: Kind;

    /// Its paths: a relative one is read from the folder that holds the file.
    fn paths(&mut self) -> Vec<&mut PathBuf>;
}

/// The files that an operator writes, each told by a key at its top that the others do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `coordinator.toml`
    Coordinator,
    /// `silo.toml`
    Silo,
    /// `job.toml`
    Job,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Coordinator, Kind::Silo, Kind::Job];

    fn key(self) -> &'static str {
        match self {
            Kind::Coordinator => "listen",
            Kind::Silo => "coordinator",
            Kind::Job => "rounds",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Coordinator => "a coordinator's configuration",
            Kind::Silo => "a silo's configuration",
            Kind::Job => "a job",
        }
    }
}

/// Reads a service's configuration and makes its paths absolute.
///
/// # Errors
/// [`ConfigError`]; an unknown key is answered with the list of known ones.
pub fn load<C: ServiceConfig>(path: &Path) -> Result<(C, Document), ConfigError> {
    let document = Document::read(path)?;
    let mut config: C = document.parse().map_err(|e| document.mistaken_for(C::KIND).unwrap_or(e))?;
    let whole = std::path::absolute(path).map_err(|e| FileError::from_io("find the folder of", path, e))?;
    let base = whole.parent().unwrap_or(Path::new("/"));
    for path in config.paths() {
        *path = base.join(&*path);
    }
    Ok((config, document))
}

/// The text of a TOML file.
#[derive(Debug, Clone)]
pub struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// It is missing, too large, or not UTF-8.
    pub fn read(path: &Path) -> Result<Document, ConfigError> {
        let bytes = read_public(path, PUBLIC_LIMIT).map_err(|e| e.or_missing("check the path"))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Document { path: path.to_path_buf(), text }),
            Err(e) => {
                let good = e.utf8_error().valid_up_to();
                let line = Some(1 + e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count());
                let message = "this is not UTF-8 text".to_owned();
                Err(ConfigError::Content { path: path.to_path_buf(), line, key: None, message })
            }
        }
    }

    /// Text that came from `path`.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Document {
        Document { path: path.into(), text: text.into() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Parses it into `T`, whose structures deny unknown fields.
    ///
    /// # Errors
    /// [`ConfigError::Content`]; an unknown key is answered with the list of known ones.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|e| {
            let line = e.span().map(|span| self.line_at(span.start));
            let key = line.and_then(|line| self.text.lines().nth(line - 1)).and_then(key_of);
            let message = in_words(e.message().trim_end());
            ConfigError::Content { path: self.path.clone(), line, key, message }
        })
    }

    /// The error that it is a file of another kind than `wanted`; none where its keys do not say so.
    fn mistaken_for(&self, wanted: Kind) -> Option<ConfigError> {
        let root = DeTable::parse(&self.text).ok()?;
        let has = |kind: &Kind| root.get_ref().iter().any(|(name, _)| name.get_ref() == kind.key());
        let found = Kind::ALL.into_iter().find(has).filter(|_| !has(&wanted))?;
        let (found, wanted) = (found.name(), wanted.name());
        let message = format!("this is {found}, where {wanted} is expected: give --config the other file");
        Some(ConfigError::Content { path: self.path.clone(), line: None, key: None, message })
    }

    /// Parses it into `F`, and checks that into `T`; `check` says which key is at fault, and why.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and what `check` finds, at the line of its key.
    pub fn checked<F, T, E>(&self, check: impl FnOnce(F) -> Result<T, E>) -> Result<T, ConfigError>
    where
        F: DeserializeOwned,
        E: Into<(String, String)>,
    {
        check(self.parse()?).map_err(|error| self.at_key(error))
    }

    /// An error that names its key, at the line of that key.
    #[must_use]
    pub fn at_key(&self, error: impl Into<(String, String)>) -> ConfigError {
        let (key, problem) = error.into();
        self.wrong(&key, problem)
    }

    /// An error about the value of `key` (dotted, as `training.learning_rate`), at the line where it stands; where it does
    /// not stand, at its table.
    #[must_use]
    pub fn wrong(&self, key: &str, problem: impl fmt::Display) -> ConfigError {
        let line = Some(self.line_at(self.find(key)));
        ConfigError::Content { path: self.path.clone(), line, key: Some(key.to_owned()), message: problem.to_string() }
    }

    /// Where the last part of `key` that is there begins, bytes.
    fn find(&self, key: &str) -> usize {
        let Ok(root) = DeTable::parse(&self.text) else { return 0 };
        let (mut table, mut at) = (root.get_ref(), 0);
        for part in key.split('.') {
            let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else { break };
            at = name.span().start;
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => break,
            }
        }
        at
    }

    /// Refuses folders that are one and the same, or of which one lies in the other: what belongs to each would get mixed.
    /// Links are followed, as whoever writes there would.
    ///
    /// # Errors
    /// At the later of the two keys.
    pub fn apart(&self, folders: &[(&str, &Path)]) -> Result<(), ConfigError> {
        let real: Vec<PathBuf> = folders.iter().map(|(_, path)| real(path)).collect();
        for (index, (key, _)) in folders.iter().enumerate() {
            for (before, (other, elsewhere)) in folders[..index].iter().enumerate() {
                if real[index].starts_with(&real[before]) || real[before].starts_with(&real[index]) {
                    let problem = format!("lies in one folder with `{other}` ({}); name another", elsewhere.display());
                    return Err(self.wrong(key, problem));
                }
            }
        }
        Ok(())
    }

    fn line_at(&self, byte: usize) -> usize {
        1 + self.text.as_bytes().iter().take(byte).filter(|b| **b == b'\n').count()
    }
}

/// serde's message in a user's words.
fn in_words(message: &str) -> String {
    let message = message.replace("unknown field", "unknown key").replace("missing field", "missing key");
    if message.contains("unknown key") {
        return message.replace(", expected one of", "; known keys:").replace(", expected `", "; known key: `");
    }
    let Some((found, wanted)) = message.rsplit_once(", expected ") else { return message };
    let wanted = wanted.strip_prefix("a nonzero ").map_or((wanted, 0), |inner| (inner, 1));
    let words = match wanted {
        ("u8", from) => format!("a whole number from {from} to {}", u8::MAX),
        ("u16", from) => format!("a whole number from {from} to {}", u16::MAX),
        ("u32" | "u64" | "usize", from) => format!("a whole number, {from} or more"),
        ("i8" | "i16" | "i32" | "i64", _) => "a whole number".to_owned(),
        ("f32" | "f64", _) => "a number".to_owned(),
        ("a boolean", _) => "true or false".to_owned(),
        ("a string" | "path string", _) => "text in quotation marks".to_owned(),
        ("a sequence", _) => "a list, in [ ]".to_owned(),
        (wanted, _) if wanted.starts_with("struct ") || wanted == "a map" => "a table".to_owned(),
        (wanted, _) => wanted.to_owned(),
    };
    format!("{found}, expected {words}")
}

/// Where `path` leads: links followed as far as there is something, the rest as spelt, `..` taken back.
fn real(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let Ok(mut whole) = there.canonicalize() {
            for part in path.strip_prefix(there).unwrap_or(Path::new("")).components() {
                match part {
                    Component::ParentDir => drop(whole.pop()),
                    Component::Normal(name) => whole.push(name),
                    _ => {}
                }
            }
            return whole;
        }
    }
    path.to_path_buf()
}

/// The key or table name that a line starts with.
fn key_of(line: &str) -> Option<String> {
    let line = line.trim();
    let name = match line.strip_prefix('[') {
        Some(table) => table.trim_matches(['[', ']']),
        None => line.split_once('=')?.0.trim(),
    };
    let good =
        !name.is_empty() && name.len() < 80 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.\"".contains(c));
    good.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        listen: String,
        limits: Limits,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limits {
        deadline_seconds: u32,
    }

    fn error(text: &str) -> String {
        Document::new("silo.toml", text).parse::<Sample>().unwrap_err().to_string()
    }

    #[test]
    fn a_good_file_is_read() {
        let text = "listen = \"[::]:7443\"\n[limits]\ndeadline_seconds = 5\n";
        let expected = Sample { listen: "[::]:7443".into(), limits: Limits { deadline_seconds: 5 } };
        assert_eq!(Document::new("silo.toml", text).parse::<Sample>().unwrap(), expected);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let text = error("listen = \"a\"\n[limits]\ndeadline_second = 5\n");
        assert!(text.starts_with("silo.toml:3: `deadline_second`: unknown key"), "{text}");
        assert!(text.contains("deadline_seconds"), "known keys are listed: {text}");
        let text = error("listen = \"a\"\n[limits]\ndeadline_seconds = \"soon\"\n");
        assert!(text.starts_with("silo.toml:3: `deadline_seconds`: invalid type"), "{text}");
        let text = error("listen = \"a\"\n[limits]\n");
        assert!(text.contains("missing key `deadline_seconds`"), "{text}");
        let text = error("listen = \"a\n");
        assert!(text.starts_with("silo.toml:1:"), "{text}");
        let text = error("listen = \"a\"\nlisten = \"b\"\n");
        assert!(text.starts_with("silo.toml:2:"), "{text}");
    }

    #[test]
    fn a_missing_or_binary_file_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("silo.toml");
        assert!(Document::read(&path).unwrap_err().to_string().contains("does not exist"));
        std::fs::write(&path, b"listen = 1\n\xff\xfe").unwrap();
        let text = Document::read(&path).unwrap_err().to_string();
        assert!(text.contains("silo.toml:2:") && text.contains("UTF-8"), "{text}");
    }

    #[test]
    fn a_value_that_makes_no_sense_is_found_again() {
        let text = "# a job\nlisten = \"a\"\n\n[limits]\n# seconds\ndeadline_seconds = 5\n";
        let document = Document::new("job.toml", text);
        let said = |key: &str| document.wrong(key, "is too small; choose 6 or more").to_string();
        assert_eq!(
            said("limits.deadline_seconds"),
            "job.toml:6: `limits.deadline_seconds`: is too small; choose 6 or more"
        );
        assert!(said("listen").starts_with("job.toml:2: "), "{}", said("listen"));
        assert!(said("limits.grace_seconds").starts_with("job.toml:4: "), "a missing key is reported at its table");
        assert!(said("privacy.epsilon").starts_with("job.toml:1: "));
        let inline = Document::new("job.toml", "a = 1\nlimits = { deadline_seconds = 5 }\n");
        assert!(inline.wrong("limits.deadline_seconds", "x").to_string().starts_with("job.toml:2: "));
    }

    #[test]
    fn folders_of_different_things_lie_apart() {
        let document = Document::new("silo.toml", "keys = \"k\"\nstate = \"k/s\"\n");
        let apart = |state: &str| document.apart(&[("keys", Path::new("/x/k")), ("state", Path::new(state))]);
        assert!(apart("/x/keys").is_ok());
        for wrong in ["/x/k", "/x/k/s", "/x"] {
            let said = apart(wrong).unwrap_err().to_string();
            assert!(said.starts_with("silo.toml:2: `state`") && said.contains("`keys`"), "{said}");
        }
        let dir = tempfile::tempdir().unwrap();
        let (keys, link) = (dir.path().join("keys"), dir.path().join("link"));
        std::fs::create_dir(&keys).unwrap();
        std::os::unix::fs::symlink(&keys, &link).unwrap();
        for same in [link.clone(), link.join("below"), dir.path().join("other/../keys/state")] {
            assert!(document.apart(&[("keys", &keys), ("state", &same)]).is_err(), "{}", same.display());
        }
        assert!(document.apart(&[("keys", &keys), ("state", &dir.path().join("keys/../state"))]).is_ok());
    }

    #[derive(Debug, Deserialize)]
    struct Paths {
        state_dir: PathBuf,
    }

    impl ServiceConfig for Paths {
        const KIND: Kind = Kind::Silo;

        fn paths(&mut self) -> Vec<&mut PathBuf> {
            vec![&mut self.state_dir]
        }
    }

    #[test]
    fn a_file_of_another_kind_is_named_for_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("given.toml");
        for (text, said) in [("listen = 1\n", "a coordinator's configuration"), ("rounds = 3\n", "a job")] {
            std::fs::write(&path, text).unwrap();
            let error = load::<Paths>(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("given.toml: this is {said}, where a silo's")), "{error}");
        }
        std::fs::write(&path, "coordinator = 1\nlisten = 1\n").unwrap();
        assert!(load::<Paths>(&path).unwrap_err().to_string().contains("missing key"));
    }

    #[test]
    fn what_is_expected_is_said_in_words() {
        for (message, words) in [
            ("invalid type: string \"soon\", expected f64", "expected a number"),
            ("invalid value: integer `0`, expected a nonzero u16", "expected a whole number from 1 to 65535"),
            ("invalid value: integer `-1`, expected u32", "expected a whole number, 0 or more"),
            ("invalid type: integer `1`, expected a string", "expected text in quotation marks"),
            ("unknown variant `x`, expected `a` or `b`", "expected `a` or `b`"),
        ] {
            assert!(in_words(message).ends_with(words), "{}", in_words(message));
        }
        assert_eq!(in_words("unknown field `a`, expected one of `b`, `c`"), "unknown key `a`; known keys: `b`, `c`");
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "Sample")]
    struct Whole;

    impl TryFrom<Sample> for Whole {
        type Error = String;

        fn try_from(sample: Sample) -> Result<Self, String> {
            Err(format!("{} is no good", sample.listen))
        }
    }

    #[test]
    fn what_is_about_the_whole_file_names_no_line() {
        let text = "listen = \"x\"\nlimits = { deadline_seconds = 5 }\n";
        let error = Document::new("silo.toml", text).parse::<Whole>().unwrap_err();
        assert_eq!(error.to_string(), "silo.toml: x is no good");
    }

    #[test]
    fn a_bare_name_is_a_file_of_the_current_folder() {
        // Tests run in the package's folder.
        let file = tempfile::NamedTempFile::with_prefix_in("bare-", ".").unwrap();
        std::fs::write(file.path(), "state_dir = \"state\"\n").unwrap();
        let here = std::env::current_dir().unwrap();
        for name in [Path::new(file.path().file_name().unwrap()), &here.join(file.path().file_name().unwrap())] {
            let (config, _) = load::<Paths>(name).unwrap();
            assert_eq!(config.state_dir, here.join("state"));
        }
    }
}
