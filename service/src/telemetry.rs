//! Logs of both services: text for people or one JSON object per line, to standard error.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("use `text` or `json`".to_owned()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

/// Logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is none.
    #[error(
        "{given}: `{filter}` is no log level: use error, warn, info, debug, trace or off, or `target=level,…` ({why})"
    )]
    Filter {
        /// Where it was given.
        given: &'static str,
        /// What was given.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// It was started before.
    #[error("logging is running already")]
    Twice,
}

/// Starts logging. `level` (the `--log-level` option) wins over `RUST_LOG`, which wins over `info`.
pub fn init(format: LogFormat, level: Option<&str>) -> Result<(), TelemetryError> {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let filter = match (level, from_environment) {
        (Some(level), _) => filter("--log-level", level)?,
        (None, Some(text)) => filter("the environment's RUST_LOG", &text)?,
        (None, None) => filter("", "info")?,
    };
    // A log that cannot be written (a full disk, a reader that went away) ends no service.
    let base =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let started = match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            base.with_target(false).with_ansi(ansi).fmt_fields(Sentence).try_init()
        }
        LogFormat::Json => base.json().flatten_event(true).with_span_list(false).try_init(),
    };
    started.map_err(|_| TelemetryError::Twice)
}

/// A line for people: the sentence, and of the fields only those whose value it does not contain.
struct Sentence;

impl<'w> FormatFields<'w> for Sentence {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let (mut sentence, mut rest) = (String::new(), Vec::new());
        fields.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            // What steers a terminal is not passed on.
            let value = format!("{value:?}").replace(|c: char| c.is_control() && c != '\n', "?");
            match field.name() {
                "message" => sentence = value,
                name => rest.push((name, value)),
            }
        });
        rest.retain(|(name, value)| {
            *name != "event" && !name.starts_with("log.") && !sentence.contains(value.trim_matches('"'))
        });
        writer.write_str(&sentence)?;
        rest.iter().try_for_each(|(name, value)| write!(writer, " {name}={value}"))
    }
}

/// Levels that a filter may name.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn filter(given: &'static str, text: &str) -> Result<EnvFilter, TelemetryError> {
    let wrong = |why: String| TelemetryError::Filter { given, filter: text.escape_debug().to_string(), why };
    if text.trim().is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    // A lone word that is no level would be taken for a target, and silence everything else.
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty() && !word.contains('='));
    for word in words {
        if !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(wrong(format!("`{}` is neither a level nor `target=level`", word.escape_debug())));
        }
    }
    EnvFilter::try_new(text).map_err(|e| wrong(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_levels_are_read() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert!("yaml".parse::<LogFormat>().is_err());
        let filter = |text| filter("the environment's RUST_LOG", text);
        assert!(filter("debug,quinn=warn").is_ok());
        assert!(filter("warning").unwrap_err().to_string().starts_with("the environment's RUST_LOG: `warning` is no"));
        for wrong in ["loud=very=much", "warning", "info,blindsum_protocol", "", "verbose"] {
            assert!(filter(wrong).unwrap_err().to_string().contains("no log level"), "{wrong:?}");
        }
        for right in ["WARN", "off", "info,blindsum_protocol=debug"] {
            assert!(filter(right).is_ok(), "{right:?}");
        }
    }

    #[test]
    fn text_says_nothing_twice() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let file = log.reopen().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .fmt_fields(Sentence)
            .with_writer(std::sync::Mutex::new(file))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(event = "phase", round = 3, phase = "joined", seconds = 7, "round 3: joined\x1b[31m");
            tracing::info!(event = "message", name = "Advert", "received");
        });
        let text = std::fs::read_to_string(log.path()).unwrap();
        assert_eq!(text, " INFO round 3: joined?[31m seconds=7\n INFO received name=\"Advert\"\n");
    }
}
