//! A folder with a tokenizer, files of rows in it, and what is said of them.

use std::path::PathBuf;

use blindsum_adapter::BaseShape;
use blindsum_engine::data::{Columns, DataError, Dataset, Goal, Reading, Tokens};
use blindsum_files::{ExitCode, Exits};
use blindsum_testkit::models::{TINY_CONFIG, write_tokenizer};

/// A word that stands in the bad rows and must stand nowhere else.
pub const SECRET: &str = "xylophone";

/// The tiny model's shape: a vocabulary of 128.
pub fn shape() -> BaseShape {
    BaseShape::from_config_json(TINY_CONFIG).unwrap()
}

pub struct Files {
    pub dir: tempfile::TempDir,
}

impl Files {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_tokenizer(dir.path(), true);
        Files { dir }
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn tokens(&self, max: usize) -> Tokens {
        Tokens::open(&self.dir.path().join("tokenizer.json"), &shape(), max).unwrap()
    }

    pub fn read(&self, name: &str, content: impl AsRef<[u8]>) -> Result<Dataset, DataError> {
        self.write(name, content);
        self.read_for(name, Goal::Label(&["no", "yes", "3"].map(str::to_owned)), None, 16)
    }

    pub fn read_for(&self, name: &str, goal: Goal, prompt: Option<&str>, max: usize) -> Result<Dataset, DataError> {
        let columns = Columns { prompt: prompt.map(str::to_owned), ..Columns::default() };
        Reading { columns: &columns, goal, tokens: &self.tokens(max) }.read(&self.dir.path().join(name))
    }

    /// The error for this file: one line, names file and line, and never the secret, however it is shown.
    pub fn refused(&self, name: &str, content: impl AsRef<[u8]>, line: Option<u64>, word: &str) {
        let error = self.read(name, content).unwrap_err();
        let shown = error.to_string();
        let found = if let DataError::Row { line, .. } = error { Some(line) } else { None };
        assert_eq!(found, line, "{shown}");
        assert_eq!(error.exit_code(), ExitCode::Data);
        let place = line.map_or(format!("{name}: "), |line| format!("{name}:{line}: "));
        assert!(shown.contains(&place) && shown.contains(word), "{shown}");
        assert!(std::error::Error::source(&error).is_none());
        for text in [shown, format!("{error:?}"), format!("{error:#?}")] {
            assert!(!text.to_lowercase().contains(SECRET), "{text}");
        }
    }
}
