//! How figures are read out of what a command printed.
//!
//! ```text
//! "exit code"                              the number that the command ended with
//! "seconds"                                how long it ran
//! 'took (\d+) ms'                          a regex with one group, by lines (`^` and `$`)
//! '^(?<name>\S+): (?<figure>\d+) lines$'   a figure for every match, each with a name of its own
//! ```
//!
//! Contract: commas between digits are dropped. A pattern without a match is an error, never a zero, unless the matches
//! are counted.

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::run::Exited;

/// What a command's output is read for.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum FigureReading {
    /// The exit code: the command may fail.
    ExitCode,
    /// The time it took.
    Seconds,
    /// The group of a pattern.
    Pattern(Regex),
}

/// What becomes of several matches.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Take {
    /// The first one counts.
    #[default]
    First,
    /// The last one counts.
    Last,
    /// They are added up.
    Sum,
    /// The largest counts.
    Max,
    /// The number of matches; none is 0.
    Count,
}

impl TryFrom<String> for FigureReading {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "exit code" => return Ok(Self::ExitCode),
            "seconds" => return Ok(Self::Seconds),
            _ => {}
        }
        let pattern = RegexBuilder::new(&text).multi_line(true).build().map_err(|error| error.to_string())?;
        let names: Vec<&str> = pattern.capture_names().flatten().collect();
        if pattern.captures_len() == 2 && names.is_empty() || names == ["name", "figure"] {
            return Ok(Self::Pattern(pattern));
        }
        Err(format!("{text:?} needs one group around the figure, or the groups (?<name>…) and (?<figure>…)"))
    }
}

impl FigureReading {
    /// The figures, each with the name that its match gave it (empty where there is one figure only).
    ///
    /// # Errors
    /// When the command failed, nothing matches, or what matches is no number.
    pub fn read(&self, take: Take, ended: &Exited) -> Result<Vec<(String, f64)>, String> {
        let pattern = match self {
            Self::ExitCode => return Ok(vec![(String::new(), f64::from(ended.code))]),
            _ if ended.code != 0 => return Err(format!("exit code {}", ended.code)),
            Self::Seconds => return Ok(vec![(String::new(), ended.seconds)]),
            Self::Pattern(pattern) => pattern,
        };
        let matches = pattern.captures_iter(&ended.output);
        if matches!(take, Take::Count) {
            return Ok(vec![(String::new(), matches.count() as f64)]);
        }
        let named = matches.map(|found| match found.name("figure") {
            Some(figure) => number(figure.as_str()).map(|figure| (found["name"].to_owned(), figure)),
            None => number(&found[1]).map(|figure| (String::new(), figure)),
        });
        let figures = named.collect::<Result<Vec<_>, String>>()?;
        if pattern.captures_len() == 3 && !figures.is_empty() {
            return Ok(figures);
        }
        let mut values = figures.into_iter().map(|(_, value)| value);
        let value = match take {
            Take::Last => values.next_back(),
            Take::Sum => values.reduce(|sum, value| sum + value),
            Take::Max => values.reduce(f64::max),
            Take::First | Take::Count => values.next(),
        };
        value.map(|value| vec![(String::new(), value)]).ok_or_else(|| format!("no match of {pattern} in the output"))
    }
}

fn number(text: &str) -> Result<f64, String> {
    let plain = text.replace(',', "");
    let value = plain.parse().ok().filter(|value: &f64| value.is_finite());
    value.ok_or_else(|| format!("{text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reading: &str, take: Take, output: &str) -> Result<Vec<(String, f64)>, String> {
        let ended = Exited { code: 0, seconds: 2.5, output: output.to_owned() };
        FigureReading::try_from(reading.to_owned())?.read(take, &ended)
    }

    fn one(reading: &str, take: Take, output: &str) -> f64 {
        let found = read(reading, take, output).unwrap();
        assert_eq!((found.len(), found[0].0.as_str()), (1, ""));
        found[0].1
    }

    #[test]
    fn a_figure_is_the_group_of_the_match_that_counts() {
        let output = "a 1,234 ms\nb -5.5 ms\nc +7 ms\n";
        let pattern = r"^\w ([-+\d.,]+) ms$";
        assert_eq!(one(pattern, Take::First, output), 1234.0);
        assert_eq!(one(pattern, Take::Last, output), 7.0);
        assert_eq!(one(pattern, Take::Max, output), 1234.0);
        assert_eq!(one(pattern, Take::Sum, output), 1235.5);
        assert_eq!(one(pattern, Take::Count, output), 3.0);
        assert_eq!(one(pattern, Take::Count, "nothing"), 0.0);
        assert_eq!(one("seconds", Take::First, output), 2.5);
        let named = read(r"^(?<name>\w) (?<figure>[-+\d.,]+)", Take::First, output).unwrap();
        assert_eq!(named, [("a".to_owned(), 1234.0), ("b".to_owned(), -5.5), ("c".to_owned(), 7.0)]);
    }

    #[test]
    fn no_match_or_no_number_or_a_failed_command_is_no_figure() {
        assert!(read(r"took (\d+)", Take::First, "it took long").is_err());
        assert!(read(r"took (\d+)", Take::Sum, "it took long").is_err());
        assert!(read(r"^(?<name>\w+) (?<figure>\d+)$", Take::First, "it took long").is_err());
        assert!(read(r"took (\w+)", Take::First, "it took long").is_err());
        let failed = Exited { code: 3, seconds: 1.0, output: "took 4".to_owned() };
        let of = |text: &str| FigureReading::try_from(text.to_owned()).unwrap().read(Take::First, &failed);
        assert_eq!(of("exit code").unwrap(), [(String::new(), 3.0)]);
        assert!(of("seconds").is_err() && of(r"took (\d+)").is_err());
    }

    #[test]
    fn a_pattern_has_one_group_or_a_name_and_a_figure() {
        for pattern in ["took", r"(\d) (\d)", r"(?<name>\d)", r"(?<name>.) (?<number>.)", "(unclosed"] {
            assert!(FigureReading::try_from(pattern.to_owned()).is_err(), "{pattern}");
        }
    }
}
