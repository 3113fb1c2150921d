//! The workspace's crates and what each depends on, from `cargo metadata`: circles, and who needs libtorch.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::output_of;

/// The package that binds libtorch.
const BINDINGS: &str = "torch-sys";

/// The crates of the workspace, and all that they depend on.
#[derive(Debug, Default)]
pub struct Workspace {
    members: BTreeSet<String>,
    /// Of every package: what its library and programs need.
    needs: BTreeMap<String, BTreeSet<String>>,
    /// Of every package: what only its tests need.
    tests_need: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Named>,
    workspace_members: Vec<String>,
    resolve: Resolved,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolved {
    nodes: Vec<Needs>,
}

#[derive(Deserialize)]
struct Needs {
    id: String,
    deps: Vec<Need>,
}

#[derive(Deserialize)]
struct Need {
    pkg: String,
    dep_kinds: Vec<NeedKind>,
}

#[derive(Deserialize)]
struct NeedKind {
    kind: Option<String>,
}

impl Workspace {
    /// As cargo resolves it.
    ///
    /// # Errors
    /// When cargo fails.
    pub fn load() -> Result<Self> {
        let about = output_of(Command::new("rustc").arg("-vV"))?;
        let host = about.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
        // packages for other systems may not even be downloaded
        let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host];
        let text = output_of(Command::new("cargo").args(args))?;
        let metadata: Metadata =
            serde_json::from_str(&text).context("what cargo metadata printed is not understood")?;
        // names of foreign packages come in several versions: these run together, which hides no way to libtorch
        let names: BTreeMap<&str, &str> = metadata.packages.iter().map(|p| (p.id.as_str(), p.name.as_str())).collect();
        let name = |id: &str| names.get(id).copied().unwrap_or(id).to_owned();
        let mut workspace =
            Self { members: metadata.workspace_members.iter().map(|id| name(id)).collect(), ..Self::default() };
        for node in &metadata.resolve.nodes {
            for need in &node.deps {
                let only_tests = need.dep_kinds.iter().all(|kind| kind.kind.as_deref() == Some("dev"));
                let map = if only_tests { &mut workspace.tests_need } else { &mut workspace.needs };
                map.entry(name(&node.id)).or_default().insert(name(&need.pkg));
            }
        }
        Ok(workspace)
    }

    fn needs(&self, package: &str, tests: bool) -> impl Iterator<Item = &String> {
        let own = self.needs.get(package).into_iter().flatten();
        own.chain(self.tests_need.get(package).filter(|_| tests).into_iter().flatten())
    }

    /// Members without libtorch, and those that need it; tests count with a member, not with what it depends on.
    pub fn by_libtorch(&self) -> (Vec<&str>, Vec<&str>) {
        self.members.iter().map(String::as_str).partition(|member| {
            let mut seen: BTreeSet<&String> = self.needs(member, true).collect();
            let mut open: Vec<&String> = seen.iter().copied().collect();
            while let Some(package) = open.pop() {
                open.extend(self.needs(package, false).filter(|next| seen.insert(next)));
            }
            !seen.iter().any(|package| *package == BINDINGS)
        })
    }

    /// The members that can be reached from `start` through members.
    fn reached<'a>(&'a self, start: &'a str, tests: bool) -> BTreeSet<&'a str> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(package) = open.pop() {
            let next = self.needs(package, tests).map(String::as_str).filter(|name| self.members.contains(*name));
            open.extend(next.filter(|name| seen.insert(*name)));
        }
        seen
    }

    /// Groups of two or more members, each of which reaches every other one.
    fn groups(&self, tests: bool) -> BTreeSet<Vec<&str>> {
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            self.members.iter().map(|member| (member.as_str(), self.reached(member, tests))).collect();
        let group = |member: &str| -> Vec<&str> {
            let own = &reached[member];
            own.iter().copied().filter(|other| *other == member || reached[other].contains(member)).collect()
        };
        self.members.iter().map(|member| group(member)).filter(|group| group.len() > 1).collect()
    }
}

/// The number of circles with and without dev-dependencies. A crate whose tests switch a feature of itself on is none.
pub fn circles(workspace: &Workspace) -> String {
    let count = |title: &str, tests: bool| {
        let groups = workspace.groups(tests);
        let list: String = groups.iter().map(|group| format!("    {}\n", group.join(" "))).collect();
        format!("{title}: {}\n{list}", groups.len())
    };
    count("circles", false) + &count("circles with dev-dependencies", true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a>b` for what a needs, `a~b` for what only its tests need.
    fn workspace(members: &str, needs: &str) -> Workspace {
        let mut workspace =
            Workspace { members: members.split(' ').map(str::to_owned).collect(), ..Workspace::default() };
        for need in needs.split(' ') {
            let map = if need.contains('~') { &mut workspace.tests_need } else { &mut workspace.needs };
            let (from, to) = need.split_once(['>', '~']).unwrap();
            map.entry(from.to_owned()).or_default().insert(to.to_owned());
        }
        workspace
    }

    #[test]
    fn a_circle_is_a_group_of_crates_that_reach_each_other() {
        let house = workspace("a b c d", "b>a c>b d>c b~b");
        assert_eq!(circles(&house), "circles: 0\ncircles with dev-dependencies: 0\n");
        let house = workspace("a b c d kit", "b>a c>b d>c kit>b a~kit d>x x>d");
        assert_eq!(circles(&house), "circles: 0\ncircles with dev-dependencies: 1\n    a b kit\n");
        let house = workspace("a b c d", "a>b b>a c>d d>c");
        assert!(circles(&house).starts_with("circles: 2\n    a b\n    c d\n"));
    }

    #[test]
    fn a_crate_needs_libtorch_through_others_and_its_own_tests_but_not_through_tests_of_others() {
        let house = workspace("a b c d e", "a>serde b>tch tch>torch-sys c>b d~b e>d");
        assert_eq!(house.by_libtorch(), (vec!["a", "e"], vec!["b", "c", "d"]));
    }

    #[test]
    fn this_workspace_is_read() {
        let house = Workspace::load().unwrap();
        assert!(house.members.len() > 5 && house.members.contains("blindsum-crypto"));
        let (without, with) = house.by_libtorch();
        assert!(without.contains(&"blindsum-crypto") && !with.is_empty());
    }
}
