//! Configuration files: closed TOML, errors that name file, line and key.

use std::path::{Path, PathBuf};

use blindsum_certs::files::{FileError, PUBLIC_LIMIT, read_public};
use serde::de::DeserializeOwned;

/// A configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("the configuration cannot be read: {0}")]
    File(#[from] FileError),
    /// A key is unknown, missing or has a wrong value.
    #[error("{}:{line}: {}{message}", .path.display(), key.as_ref().map(|k| format!("`{k}`: ")).unwrap_or_default())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// The key on that line, where there is one.
        key: Option<String>,
        /// What is wrong.
        message: String,
    },
}

/// Reads a TOML file into `T`, whose structures deny unknown fields.
///
/// # Errors
/// [`ConfigError`]; an unknown key is answered with the list of known ones.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let bytes = read_public(path, PUBLIC_LIMIT).map_err(|e| e.or_missing("name the file with --config"))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count();
        ConfigError::Content { path: path.to_path_buf(), line, key: None, message: "this is not UTF-8 text".to_owned() }
    })?;
    parse(path, &text)
}

/// Parses text that came from `path`.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|e| {
        let start = e.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..start).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let key = text.lines().nth(line - 1).and_then(key_of);
        let message =
            e.message().trim_end().replace("unknown field", "unknown key").replace("missing field", "missing key");
        ConfigError::Content {
            path: path.to_path_buf(),
            line,
            key,
            message: message.replace(", expected one of", "; known keys:"),
        }
    })
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
        parse::<Sample>(Path::new("silo.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_good_file_is_read() {
        let text = "listen = \"[::]:7443\"\n[limits]\ndeadline_seconds = 5\n";
        let expected = Sample { listen: "[::]:7443".into(), limits: Limits { deadline_seconds: 5 } };
        assert_eq!(parse::<Sample>(Path::new("silo.toml"), text).unwrap(), expected);
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
        assert!(load::<Sample>(&path).unwrap_err().to_string().contains("does not exist"));
        std::fs::write(&path, b"listen = 1\n\xff\xfe").unwrap();
        let text = load::<Sample>(&path).unwrap_err().to_string();
        assert!(text.contains("silo.toml:2:") && text.contains("UTF-8"), "{text}");
    }
}
