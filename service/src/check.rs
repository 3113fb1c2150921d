//! What `check` prints: each thing that a service will need, whether it is there, and if not what to do.
//!
//! ```text
//! ok        keys          the certificate of silo "clinic-a", valid until 2027-11-30
//! PROBLEM   model         model/config.json has another SHA-256 than the job pins
//! not tried data          needs the model
//! ```
//!
//! Contract: a problem does not end the list: what does not depend on it is tried too, so that one run shows all of them.
//! The exit code is that of the first problem.

use std::fmt;

use crate::{ExitCode, Exits, say};

/// The list as it grows.
#[derive(Debug, Default)]
pub struct Checklist {
    problems: usize,
    first: Option<ExitCode>,
}

impl Checklist {
    /// Tries one thing; `words` says what was found. `None` where there is a problem, which is printed.
    pub fn find<T, E: Exits + fmt::Display>(
        &mut self,
        what: &str,
        tried: Result<T, E>,
        words: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match tried {
            Ok(value) => {
                line("ok", what, words(&value));
                Some(value)
            }
            Err(error) => {
                line("PROBLEM", what, &error);
                self.problems += 1;
                self.first.get_or_insert(error.exit_code());
                None
            }
        }
    }

    /// Says that something was not tried, because it needs what has a problem.
    pub fn not_tried(&mut self, what: &str, needs: &str) {
        line("not tried", what, format_args!("needs {needs}"));
    }

    /// Something that is no problem, but that its reader should know.
    pub fn note(&mut self, what: &str, words: impl fmt::Display) {
        line("note", what, words);
    }

    /// The last line, and the code.
    #[must_use]
    pub fn end(self) -> ExitCode {
        match self.first {
            None => {
                say("everything that the configuration names is in order");
                ExitCode::Done
            }
            Some(code) => {
                let plural = if self.problems == 1 { "problem" } else { "problems" };
                say(format_args!("{} {plural}", self.problems));
                code
            }
        }
    }
}

/// Sentences of several lines keep their column.
fn line(how: &str, what: &str, words: impl fmt::Display) {
    let words = words.to_string().replace('\n', &format!("\n{:25}", ""));
    say(format_args!("{how:9} {what:14} {words}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;

    #[test]
    fn the_first_problem_gives_the_code() {
        let mut check = Checklist::default();
        assert_eq!(check.find("a", Ok::<_, ConfigError>(3), |n| n.to_string()), Some(3));
        let problem = || crate::Document::new("silo.toml", "").wrong("device", "is no device");
        assert_eq!(check.find("b", Err::<u8, _>(problem()), u8::to_string), None);
        check.not_tried("c", "b");
        assert_eq!(check.end(), ExitCode::Usage);
        assert_eq!(Checklist::default().end(), ExitCode::Done);
    }
}
