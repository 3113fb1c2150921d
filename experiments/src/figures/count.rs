//! Counts over the tracked Rust sources: lines per room, sizes of files, heads that are missing; type names; circles.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::Subcommand;

use crate::{graph, output_of, types};

/// What can be counted.
#[derive(Debug, Subcommand)]
pub enum Countable {
    /// Lines of Rust in every room: a folder at top level, with all that is in it.
    Lines,
    /// Origin files: how many, the largest, the median, and those that do not open with `//!`.
    Files,
    /// Type names that are defined more than once (what counts is said in src/figures/types.rs).
    Types,
    /// Circles in the workspace's dependencies, without and with dev-dependencies.
    Circles,
}

/// Counts and prints one `name: figure` to a line.
///
/// # Errors
/// When git or cargo fail, or a source cannot be read.
pub fn print(what: &Countable) -> Result<u8> {
    match what {
        Countable::Lines => print!("{}", lines(&sources()?)),
        Countable::Files => print!("{}", files(&sources()?)),
        Countable::Types => print!("{}", types::twice(&sources()?)),
        Countable::Circles => print!("{}", graph::circles(&graph::Workspace::load()?)),
    }
    Ok(0)
}

/// Path and text of every tracked Rust source that is there.
fn sources() -> Result<Vec<(String, String)>> {
    let listed = output_of(Command::new("git").args(["ls-files", "-z", "*.rs"]))?;
    let there = listed.split('\0').filter(|path| Path::new(path).is_file());
    there.map(|path| Ok((path.to_owned(), fs::read_to_string(path)?))).collect()
}

fn lines(sources: &[(String, String)]) -> String {
    let mut rooms: BTreeMap<&str, usize> = BTreeMap::new();
    for (path, text) in sources {
        *rooms.entry(path.split('/').next().unwrap_or_default()).or_default() += text.lines().count();
    }
    let all: usize = rooms.values().sum();
    rooms.into_iter().chain([("all", all)]).map(|(room, lines)| format!("{room}: {lines}\n")).collect()
}

fn files(sources: &[(String, String)]) -> String {
    let mut sizes: Vec<(usize, &str)> =
        sources.iter().map(|(path, text)| (text.lines().count(), path.as_str())).collect();
    sizes.sort();
    let median = sizes.get(sizes.len() / 2).map_or(0, |size| size.0);
    let (largest, path) = sizes.last().copied().unwrap_or_default();
    // an attribute may stand before the head
    let opens =
        |text: &str| text.lines().find(|line| !line.starts_with("#![")).is_some_and(|line| line.starts_with("//!"));
    let bare: Vec<&str> = sources.iter().filter(|(_, text)| !opens(text)).map(|(path, _)| path.as_str()).collect();
    let list: String = bare.iter().map(|path| format!("    {path}\n")).collect();
    let count = sizes.len();
    format!("files: {count}\nlargest: {largest} ({path})\nmedian: {median}\nwithout head: {}\n{list}", bare.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Vec<(String, String)> {
        let source = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        vec![
            source("a/src/lib.rs", "//! Head.\n\nmod b;\n"),
            source("a/src/b.rs", "#![allow(x)]\n//! Head.\n"),
            source("c/tests/d.rs", "// no head\n//! too late\n\n\n"),
        ]
    }

    #[test]
    fn lines_are_counted_per_room() {
        assert_eq!(lines(&sources()), "a: 5\nc: 4\nall: 9\n");
    }

    #[test]
    fn files_have_sizes_and_heads() {
        let expected = "files: 3\nlargest: 4 (c/tests/d.rs)\nmedian: 3\nwithout head: 1\n    c/tests/d.rs\n";
        assert_eq!(files(&sources()), expected);
    }
}
