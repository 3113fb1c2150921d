//! Which linear layers get an adapter, by the rules of PEFT's `target_modules`.
//!
//! ```text
//! ["query", "output.dense"]   a list: each layer whose path is a name, or ends in one after a dot
//! ".*\\.(q|v)_proj"            a string: a regular expression that a layer's whole path must match
//! left out                    what PEFT takes for the family
//! ```
//!
//! Contract: PEFT, given the same value, adapts the same layers. Python's `re` knows look-around and back-references,
//! this crate's `regex` does not: a pattern that uses them is refused, never read otherwise.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Family, LayoutError};

/// Longest regular expression, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;
/// Names in a list.
const MAX_NAMES: usize = 64;

/// A value of `lora.target_modules`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    /// A regular expression over whole paths.
    Pattern(String),
    /// Paths or their ends.
    Names(Vec<String>),
}

impl Targets {
    /// A list of names.
    pub fn names(names: &[&str]) -> Self {
        Targets::Names(names.iter().map(|&name| name.to_owned()).collect())
    }
}

/// As written where people read it; tagged where bytes are hashed, so that no pattern meets a list.
impl Serialize for Targets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Targets::Names(names) if serializer.is_human_readable() => names.serialize(serializer),
            Targets::Pattern(pattern) if serializer.is_human_readable() => pattern.serialize(serializer),
            Targets::Names(names) => serializer.serialize_newtype_variant("Targets", 0, "Names", names),
            Targets::Pattern(pattern) => serializer.serialize_newtype_variant("Targets", 1, "Pattern", pattern),
        }
    }
}

/// Targets after they were checked, ready to be asked about paths.
pub(crate) enum Matcher {
    Pattern(Regex),
    Names(Vec<String>),
}

impl Matcher {
    /// Checks `targets`, or takes the family's where there are none.
    pub(crate) fn new(targets: Option<&Targets>, family: Family) -> Result<(Self, Targets), LayoutError> {
        let refuse =
            |value: String, why: &str| Err(LayoutError::Value { key: "target_modules", value, why: why.to_owned() });
        let default = || Targets::names(family.default_target_modules());
        let targets = targets.cloned().unwrap_or_else(default);
        let matcher = match &targets {
            Targets::Pattern(pattern) if pattern.len() > MAX_PATTERN_BYTES => {
                return refuse(format!("{} bytes long", pattern.len()), "a pattern has at most 1024 bytes");
            }
            Targets::Pattern(pattern) => {
                let whole = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build();
                match whole {
                    Ok(regex) => Matcher::Pattern(regex),
                    Err(_) => {
                        let why = "it is no regular expression that can be read here: look-around and back-references \
                                   are not supported; give a list of names instead";
                        return refuse(format!("{pattern:?}"), why);
                    }
                }
            }
            Targets::Names(names) if names.is_empty() || names.len() > MAX_NAMES => {
                let why = "give 1 to 64 names, or leave the key out for PEFT's default";
                return refuse(format!("{} names", names.len()), why);
            }
            Targets::Names(names) => {
                if let Some((_, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
                    return refuse(format!("{name:?} twice"), "give each name once");
                }
                Matcher::Names(names.clone())
            }
        };
        Ok((matcher, targets))
    }

    /// Whether the layer at `path` is adapted.
    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            Matcher::Pattern(regex) => regex.is_match(path),
            Matcher::Names(names) => names.iter().any(|name| is_end_of(name, path)),
        }
    }

    /// The first part of the targets that matches none of `paths`.
    pub(crate) fn without_match<'a>(&self, paths: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
        match self {
            Matcher::Pattern(regex) => {
                let some = paths.clone().any(|path| regex.is_match(path));
                (!some).then(|| regex.as_str().trim_start_matches("^(?:").trim_end_matches(")$").to_owned())
            }
            Matcher::Names(names) => {
                names.iter().find(|name| !paths.clone().any(|path| is_end_of(name, path))).cloned()
            }
        }
    }
}

/// PEFT's rule for a list of targets: the whole path or its end after a dot.
fn is_end_of(target: &str, path: &str) -> bool {
    path == target || path.strip_suffix(target).is_some_and(|before| before.ends_with('.'))
}
