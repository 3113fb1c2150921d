//! Type names that the workspace defines more than once.
//!
//! Contract, what counts as a definition:
//! - a line that begins in its first column (rustfmt puts every item of a file's own module there) with `struct`, `enum`,
//!   `union`, `trait` or `type`, behind a visibility or `unsafe` if there is one, followed by a name. So items of an
//!   inline module (`mod tests { … }`), associated types and what macros make are left out;
//! - in a tracked file below a folder `src`, but not in one of the `fuzz` workspace, nor in the rooms `tests` and
//!   `testkit`, nor with `tests`, `testing`, `benches` or `examples` in its path, nor in a file
//!   named `tests.rs` or `…_tests.rs`;
//! - two definitions of one name count as twice wherever they are, two `cfg` variants in different files too.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

const TEST_ROOMS: [&str; 3] = ["fuzz", "tests", "testkit"];
const TEST_PARTS: [&str; 5] = ["tests", "tests.rs", "testing", "benches", "examples"];

/// How many names are defined more than once, then each with its files.
pub fn twice(sources: &[(String, String)]) -> String {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, text) in sources.iter().filter(|(path, _)| ships(path)) {
        for name in text.lines().filter_map(defined) {
            match found.entry(name) {
                Entry::Vacant(new) => drop(new.insert(vec![path])),
                Entry::Occupied(mut again) => again.get_mut().push(path),
            }
        }
    }
    found.retain(|_, paths| paths.len() > 1);
    let names: String = found.iter().map(|(name, paths)| format!("    {name}: {}\n", paths.join(" "))).collect();
    format!("defined more than once: {}\n{names}", found.len())
}

fn ships(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let test = path.ends_with("_tests.rs")
        || TEST_ROOMS.contains(&parts[0])
        || parts.iter().any(|part| TEST_PARTS.contains(part));
    parts.contains(&"src") && !test
}

/// The name of the type that a line defines.
fn defined(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.strip_prefix(' ')?,
        None => line,
    };
    let line = line.strip_prefix("unsafe ").unwrap_or(line);
    let name =
        ["struct ", "enum ", "union ", "trait ", "type "].iter().find_map(|keyword| line.strip_prefix(keyword))?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    Some(&name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_begins_in_the_first_column() {
        for line in [
            "struct Own;",
            "pub struct Own<'a> {",
            "pub(crate) enum Own {",
            "pub(in crate::a) type Own = u8;",
            "pub unsafe trait Own: Sized {",
        ] {
            assert_eq!(defined(line), Some("Own"), "{line}");
        }
        for line in [
            "    struct Own;",
            "    type Item = u8;",
            "structure!();",
            "// struct Own",
            "pub use a::Own;",
            "pub fn own() {",
            "public",
            "",
        ] {
            assert_eq!(defined(line), None, "{line}");
        }
    }

    #[test]
    fn names_are_counted_over_all_rooms_and_tests_are_left_out() {
        let source = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let sources = [
            source("a/src/lib.rs", "pub struct Head;\nstruct Once;\n#[cfg(test)]\nmod tests {\n    struct Once;\n}\n"),
            source("b/src/x.rs", "enum Head {}\n"),
            source("b/src/testing/x.rs", "struct Once;\n"),
            source("b/tests/x.rs", "struct Once;\n"),
            source("b/src/x_tests.rs", "struct Once;\n"),
            source("tests/src/x.rs", "struct Once;\n"),
            source("testkit/src/x.rs", "struct Once;\n"),
        ];
        assert_eq!(twice(&sources), "defined more than once: 1\n    Head: a/src/lib.rs b/src/x.rs\n");
    }
}
