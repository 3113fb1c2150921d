//! What pages name is there: files (`crypto/src/mask.rs`, or behind a link), and tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

/// All pages, README and its neighbours included.
fn pages() -> BTreeMap<PathBuf, String> {
    let entries = [root(), root().join("docs")].map(|folder| fs::read_dir(folder).unwrap());
    let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .map(|p| (p.clone(), fs::read_to_string(p).unwrap()))
        .collect()
}

/// What stands between backticks outside of blocks of code.
fn quoted(page: &str) -> Vec<String> {
    let text: Vec<&str> = page.split("```").step_by(2).collect();
    text.iter().flat_map(|text| text.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Targets of `](…)` that are files here, without the heading after `#`.
fn linked(page: &str) -> impl Iterator<Item = &str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn spelt_out(name: &str) -> Vec<String> {
    match (name.split_once('{'), name.split_once('}')) {
        (Some((before, _)), Some((upto, after))) => {
            let inner = &upto[before.len() + 1..];
            inner.split(',').map(|part| format!("{before}{part}{after}")).collect()
        }
        _ => vec![name.to_owned()],
    }
}

/// Whether this can only be meant as a file or folder of the project: it begins with one of its folders, ends like one, and
/// has no part in capitals that stands for another name.
fn is_own(name: &str) -> bool {
    let Some((first, rest)) = name.split_once('/') else { return false };
    let placeholder = name.split('/').any(|part| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase()));
    let plain = !placeholder && name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-{},".contains(c));
    let ends = rest.is_empty()
        || name.ends_with('/')
        || [".rs", ".toml", ".md", ".py", ".json"].iter().any(|e| name.ends_with(e));
    plain && ends && root().join(first).is_dir()
}

#[test]
fn files_that_pages_name_are_there() {
    let (mut wrong, mut named) = (Vec::new(), 0);
    for (page, text) in pages() {
        for name in quoted(&text).into_iter().filter(|name| is_own(name)).flat_map(|name| spelt_out(&name)) {
            named += 1;
            if !root().join(&name).exists() {
                wrong.push(format!("{}: {name}", page.display()));
            }
        }
        for target in linked(&text) {
            named += 1;
            if !page.parent().unwrap().join(target).exists() {
                wrong.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(named > 100, "only {named} files found in pages");
    assert!(wrong.is_empty(), "pages name what is not there:\n  {}", wrong.join("\n  "));
}

/// Every source below a folder.
fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() && !name.starts_with('.') && name != "target" {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn tests_that_pages_name_are_there() {
    let mut code = String::new();
    sources(&root(), &mut code);
    let is_test = |name: &String| {
        name.matches('_').count() > 3 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let (mut wrong, mut named) = (Vec::new(), 0);
    for (page, text) in pages() {
        for name in quoted(&text).into_iter().filter(is_test) {
            named += 1;
            // A key of a base model's configuration may look like one.
            if !code.contains(&format!("fn {name}(")) && !code.contains(&format!("\"{name}\"")) {
                wrong.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(named > 20, "only {named} tests found in pages");
    assert!(wrong.is_empty(), "pages name tests that are not there:\n  {}", wrong.join("\n  "));
}

#[test]
fn lines_of_prose_fit_on_a_screen() {
    for (page, text) in pages() {
        let mut code = false;
        for (number, line) in text.lines().enumerate() {
            code ^= line.trim_start().starts_with("```");
            let length = line.chars().count();
            let free = code || line.starts_with('|');
            assert!(free || length <= 120, "{}:{} has {length} characters", page.display(), number + 1);
        }
    }
}
