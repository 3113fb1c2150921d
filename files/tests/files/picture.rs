//! The picture of the crates in docs/architecture.md against the `Cargo.toml` files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::root;

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Name and own dependencies of the package that a `Cargo.toml` describes, without those of tests and benches.
fn package(manifest: &str) -> Option<(String, BTreeSet<String>)> {
    let (mut name, mut uses, mut table) = (None, BTreeSet::new(), "");
    for line in manifest.lines().map(str::trim) {
        if let Some(heading) = line.strip_prefix('[') {
            table = heading.trim_matches(['[', ']']);
            if let Some(used) = table.strip_prefix("dependencies.blindsum-") {
                uses.insert(used.to_owned());
            }
        } else if table == "package" && line.starts_with("name =") {
            name = line.split('"').nth(1).and_then(|name| name.strip_prefix("blindsum-")).map(str::to_owned);
        } else if matches!(table, "dependencies" | "build-dependencies")
            && let Some(used) = line.strip_prefix("blindsum-")
        {
            uses.insert(used.split(['.', ' ', '=']).next().unwrap().to_owned());
        }
    }
    Some((name?, uses))
}

/// The packages in this folder and two floors below it.
fn collect(folder: &Path, floors: u32, found: &mut Arrows) {
    if let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) {
        found.extend(package(&manifest));
    }
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if floors > 0 && path.is_dir() && !path.is_symlink() && !name.starts_with('.') && name != "target" {
            collect(&path, floors - 1, found);
        }
    }
}

/// The lines of the picture, from the top: a crate and those that it points to.
fn drawn(page: &str) -> Vec<(String, BTreeSet<String>)> {
    let picture = page.split("```text crates\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines = picture.expect("docs/architecture.md has a block `text crates`").lines();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    lines.filter_map(|line| line.split_once("─►")).map(|(name, uses)| (name.trim().to_owned(), words(uses))).collect()
}

#[test]
fn the_picture_of_the_crates_has_every_arrow_and_no_other() {
    let mut built = Arrows::new();
    collect(&root(), 2, &mut built);
    assert!(built.len() > 10, "the packages are not where they were: {built:?}");
    let drawn = drawn(&fs::read_to_string(root().join("docs/architecture.md")).unwrap());
    let mut wrong = Vec::new();
    for (name, uses) in &built {
        match drawn.iter().find(|(crate_drawn, _)| crate_drawn == name) {
            None => wrong.push(format!("{name} is not drawn")),
            Some((_, arrows)) => {
                wrong.extend(uses.difference(arrows).map(|to| format!("{name} ─► {to} is missing")));
                wrong.extend(arrows.difference(uses).map(|to| format!("{name} ─► {to} is drawn, and is not so")));
            }
        }
    }
    wrong.extend(drawn.iter().filter(|(name, _)| !built.contains_key(name)).map(|(name, _)| format!("no {name}")));
    assert!(wrong.is_empty(), "docs/architecture.md, picture of the crates:\n  {}", wrong.join("\n  "));
    assert_eq!(drawn.len(), built.len(), "a crate is drawn twice");
}

#[test]
fn every_arrow_of_the_picture_points_down() {
    let drawn = drawn(&fs::read_to_string(root().join("docs/architecture.md")).unwrap());
    for (line, (name, uses)) in drawn.iter().enumerate() {
        let above: Vec<&str> = drawn[..=line].iter().map(|(name, _)| name.as_str()).collect();
        for to in uses {
            assert!(!above.contains(&to.as_str()), "{name} ─► {to} points up");
        }
    }
}

#[test]
fn a_manifest_is_read_for_what_programs_get() {
    let text = "[package]\nname = \"blindsum-a\"\n[dependencies]\nblindsum-b.workspace = true\nserde = \"1\"\n\
                blindsum-c = { path = \"c\" }\n[dependencies.blindsum-d]\npath = \"d\"\n[dev-dependencies]\nblindsum-e = \"1\"\n";
    let uses = ["b", "c", "d"].map(str::to_owned).into();
    assert_eq!(package(text), Some(("a".to_owned(), uses)));
    assert_eq!(package("[workspace]\nmembers = []\n"), None);
}
