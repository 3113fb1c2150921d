//! The links between protocol page, code and tests hold: every invariant of the table is cited where it is kept and named
//! by a test, every check has teeth, nothing cites an invariant that does not exist, and every page can be found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use blindsum_crypto::verify::Check;

type Numbers = BTreeSet<u32>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files with this ending below a folder, with what stands in them.
fn files(folder: &str, ending: &str) -> BTreeMap<PathBuf, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                found.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(!found.is_empty(), "nothing ends in {ending} below {folder}");
    found
}

/// Sources of every crate, tests included.
fn sources() -> BTreeMap<PathBuf, String> {
    let crates = ["crypto", "adapter", "privacy", "protocol", "transport", "certs", "coordinator", "silo", "demo"];
    let mut all: BTreeMap<PathBuf, String> = crates.iter().flat_map(|c| files(&format!("{c}/src"), "rs")).collect();
    for folder in ["crypto/tests", "protocol/tests", "testkit", "tests"] {
        all.extend(files(folder, "rs"));
    }
    all
}

fn is_verify(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "verify") || path.file_stem().is_some_and(|s| s == "verify")
}

fn is_teeth(path: &Path) -> bool {
    let folder = path.parent().and_then(Path::file_name).is_some_and(|f| f == "teeth");
    folder || path.file_name().unwrap().to_string_lossy().starts_with("teeth_")
}

/// Numbers after `SA-`.
fn cited(text: &str) -> Numbers {
    let after = text.split("SA-").skip(1);
    let digits = after.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    digits.filter_map(|number| number.parse().ok()).collect()
}

/// Numbers in the names of tests: `fn sa01_sa02_…`. Their full names come along.
fn test_names(text: &str) -> Vec<(String, Numbers)> {
    let names = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")).map(|rest| {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let numbers = name.split('_').map_while(|part| part.strip_prefix("sa")?.parse().ok()).collect();
        (name, numbers)
    });
    names.filter(|(_, numbers): &(String, Numbers)| !numbers.is_empty()).collect()
}

/// The invariants of docs/protocol.md.
fn table() -> Numbers {
    let page = fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| SA-"));
    let numbers: Vec<u32> = rows.map(|row| cited(row.split('|').nth(1).unwrap()).into_iter().next().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "the table counts {numbers:?}");
    assert!(numbers.len() >= 16, "the table has lost rows: {numbers:?}");
    numbers.into_iter().collect()
}

#[test]
fn every_invariant_is_cited_in_a_verify_module_or_by_the_types_that_keep_it() {
    let verify: Numbers =
        sources().iter().filter(|(path, _)| is_verify(path)).flat_map(|(_, text)| cited(text)).collect();
    let left: Vec<u32> = table().difference(&verify).copied().collect();
    // secrets are hidden and erased by their types
    assert_eq!(left, [11], "cited in no verify module");
    assert!(cited(&fs::read_to_string(root().join("crypto/src/keys.rs")).unwrap()).contains(&11));
}

#[test]
fn every_invariant_is_named_by_a_test() {
    let named: Numbers =
        sources().values().flat_map(|text| test_names(text)).flat_map(|(_, numbers)| numbers).collect();
    assert_eq!(named, table());
}

#[test]
fn every_check_has_teeth_and_the_teeth_cover_every_invariant() {
    let sources = sources();
    let teeth: Vec<&String> = sources.iter().filter(|(path, _)| is_teeth(path)).map(|(_, text)| text).collect();
    assert!(teeth.len() >= 8, "the teeth tests are not where they were");
    for check in Check::ALL {
        let bitten = teeth.iter().any(|text| names(text, *check));
        assert!(bitten, "{check:?} has no test in which it is switched off");
    }
    let names = sources.values().flat_map(|text| test_names(text));
    let covered: Numbers =
        names.filter(|(name, _)| name.contains("_teeth_")).flat_map(|(_, numbers)| numbers).collect();
    assert_eq!(covered, table());
}

#[test]
fn every_check_names_invariants_of_the_table() {
    let table = table();
    for check in Check::ALL {
        assert!(
            !check.rules().is_empty() && check.rules().iter().all(|rule| cited(rule).is_subset(&table)),
            "{check:?}"
        );
    }
}

/// Whether a text names a check.
fn names(text: &str, check: Check) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
    text.split(&format!("Check::{check:?}")).skip(1).any(ends)
}

/// The functions of these files that stand for themselves, with what is written in them; comments are left out.
fn functions<'a>(texts: impl Iterator<Item = &'a String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for text in texts {
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        let code = code.split("\n#[cfg(test)]\n").next().unwrap_or_default();
        for part in code.split("\n").collect::<Vec<_>>().split(|line| *line == "}") {
            let is_head = |line: &&str| {
                let line = line.strip_prefix("pub ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line);
                line.starts_with("fn ")
            };
            let Some(start) = part.iter().position(is_head) else { continue };
            let (_, head) = part[start].split_once("fn ").unwrap();
            let name = head.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.insert(name, part[start + 1..].join("\n"));
        }
    }
    found
}

/// Whether a text calls a function that stands for itself, written with this prefix.
fn calls(text: &str, prefix: &str, name: &str) -> bool {
    let other = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    text.match_indices(&format!("{prefix}{name}(")).any(|(at, _)| !text[..at].ends_with(other))
}

#[test]
fn every_stateless_check_is_made_by_a_program() {
    let verify = files("crypto/src/verify", "rs");
    let functions = functions(verify.values());
    let is_shipped = |path: &Path| {
        let test = path.components().any(|c| c.as_os_str() == "testing");
        !test && !path.file_stem().unwrap().to_string_lossy().ends_with("tests") && !verify.contains_key(path)
    };
    // programs call the stateless checks by their module's name; the types of `crypto` that they hold do it for them
    let crates = ["crypto/src", "protocol/src", "coordinator/src", "silo/src"].map(|folder| files(folder, "rs"));
    let code = |text: &String| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let callers: Vec<String> =
        crates.iter().flatten().filter(|(path, _)| is_shipped(path)).map(|(_, text)| code(text)).collect();
    let by_program =
        |name: &String| callers.iter().any(|text| calls(text, "verify::", name) || calls(text, "stateless::", name));
    let mut made: BTreeSet<&String> = functions.keys().filter(|name| by_program(name)).collect();
    assert!(made.len() > 15, "programs call {made:?} alone");
    loop {
        let is_made = |name: &&String| made.iter().any(|by| calls(&functions[*by], "", name));
        let more: BTreeSet<&String> = functions.keys().filter(is_made).filter(|name| !made.contains(name)).collect();
        if more.is_empty() {
            break;
        }
        made.extend(more);
    }
    let dead: Vec<&String> = functions.keys().filter(|name| !made.contains(name)).collect();
    assert!(dead.is_empty(), "no program comes to the checks of {dead:?}");
    for check in Check::ALL {
        let asked = made.iter().map(|name| &functions[*name]).chain(&callers).any(|text| names(text, *check));
        assert!(asked, "no program comes to {check:?}");
    }
}

#[test]
fn nothing_cites_an_invariant_that_the_table_does_not_have() {
    let table = table();
    let mut texts = sources();
    texts.extend(files("docs", "md"));
    for (path, text) in &texts {
        let unknown: Vec<u32> = cited(text).difference(&table).copied().collect();
        assert!(unknown.is_empty(), "{} cites SA numbers {unknown:?}", path.display());
        for (name, numbers) in test_names(text) {
            assert!(numbers.is_subset(&table), "{}: {name}", path.display());
        }
    }
}

/// Targets of `](…)` that are files here, without the heading after `#`.
fn linked(page: &str) -> Vec<&str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

#[test]
fn every_link_of_a_page_leads_to_a_file() {
    let mut pages = files("docs", "md");
    let readme = root().join("README.md");
    pages.insert(readme.clone(), fs::read_to_string(readme).unwrap());
    let mut links = 0;
    for (path, text) in &pages {
        for target in linked(text) {
            assert!(path.parent().unwrap().join(target).exists(), "{} links to {target}", path.display());
            links += 1;
        }
    }
    assert!(links > 20, "only {links} links found");
}

#[test]
fn every_page_is_reached_from_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for page in files("docs", "md").keys() {
        let name = page.strip_prefix(root()).unwrap().to_str().unwrap();
        assert!(linked(&readme).contains(&name), "{name} is not linked from README.md");
    }
}
