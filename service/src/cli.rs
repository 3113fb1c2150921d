//! Command-line options that several programs have, and how they print.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::Args;

use crate::config::{self, ConfigError, Document, ServiceConfig};
use crate::telemetry::LogFormat;

/// How a program logs.
#[derive(Debug, Clone, Default, Args)]
pub struct LogArgs {
    /// Form of the log on standard error: `text` for people, `json` with one object per line for programs.
    #[arg(long, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// error, warn, info, debug, trace or off, or a filter such as `info,blindsum_protocol=debug`; else RUST_LOG, else info.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// What every command of a service takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The configuration file; paths in it are relative to its folder. The sample file explains every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

impl Common {
    /// How to log.
    #[must_use]
    pub fn log(&self) -> &LogArgs {
        &self.log
    }

    /// Reads the configuration and makes its paths absolute; the document is for errors about its values.
    ///
    /// # Errors
    /// [`ConfigError`], which names file, line and key.
    pub fn load<C: ServiceConfig>(&self) -> Result<(C, Document), ConfigError> {
        config::load(&self.config)
    }
}

/// Why a line could not be written to standard output; the first counts.
static LOST: OnceLock<String> = OnceLock::new();

/// Writes a line to standard output. A reader that went away (`… | head`) is no error of ours; a full disk is, and the
/// program says so at its end.
pub fn say(line: impl fmt::Display) {
    match writeln!(std::io::stdout(), "{line}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => drop(LOST.set(e.to_string())),
        _ => {}
    }
}

/// Why a line of [`say`] was lost, if one was.
pub(crate) fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// Writes a line to standard error; a closed one is no error either, and never hides how a program ends.
pub(crate) fn complain(line: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
