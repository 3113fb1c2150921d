//! What one changed line costs: touches a file, builds all programs, counts the crates that cargo built again.
//!
//! Contract: everything is built first, outside the clock. The file keeps its text and gets its old time back. Other work
//! on the machine shows in the seconds, little of it in the processor's, so the load before is printed too.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::graph::Workspace;

/// The one profile of this workspace.
const PROFILE: [&str; 2] = ["--release", "--locked"];

#[derive(Deserialize)]
struct Built {
    reason: String,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    fresh: bool,
}

/// Measures and prints crates, seconds and load.
///
/// # Errors
/// When the file is not there or cargo fails.
pub fn print(file: &Path) -> Result<u8> {
    let before = fs::metadata(file).and_then(|about| about.modified());
    let before = before.with_context(|| format!("cannot look at {}", file.display()))?;
    build()?;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    set_time(file, SystemTime::now())?;
    let (started, used) = (Instant::now(), processor_seconds());
    let crates = build();
    let (seconds, used) = (started.elapsed().as_secs_f64(), processor_seconds() - used);
    set_time(file, before)?;
    let crates = crates?;
    ensure!(!crates.is_empty(), "nothing was built again: no program is made of {}", file.display());
    println!("crates: {}\nseconds: {seconds:.1}\nprocessor-seconds: {used:.1}\nload: {load}", crates.len());
    crates.iter().for_each(|name| println!("    {name}"));
    Ok(0)
}

/// What the children of this process have used of all processors, user and system (proc(5); 100 ticks a second on Linux).
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn set_time(file: &Path, time: SystemTime) -> Result<()> {
    let set = File::options().append(true).open(file).and_then(|open| open.set_modified(time));
    set.with_context(|| format!("cannot touch {}", file.display()))
}

/// Builds all programs; the packages that were not fresh.
fn build() -> Result<BTreeSet<String>> {
    let mut cargo = Command::new("cargo");
    cargo.arg("build").args(PROFILE).args(["--workspace", "--bins", "--message-format", "json-render-diagnostics"]);
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo build failed");
    built_again(&String::from_utf8_lossy(&output.stdout))
}

fn built_again(messages: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let built: Built = serde_json::from_str(line).context("what cargo build printed is not understood")?;
        if built.reason == "compiler-artifact" && !built.fresh {
            names.insert(built.package_id.rsplit('/').next().unwrap_or_default().to_owned());
        }
    }
    Ok(names)
}

/// Checks all members that need no libtorch, tests and benches too, with `LIBTORCH` naming nothing.
///
/// # Errors
/// When cargo cannot be run.
pub fn check_without_libtorch() -> Result<u8> {
    let workspace = Workspace::load()?;
    let (without, with) = workspace.by_libtorch();
    ensure!(!without.is_empty(), "every crate needs libtorch");
    println!("without libtorch: {}\n    {}", without.len(), without.join(" "));
    println!("with libtorch: {}\n    {}", with.len(), with.join(" "));
    let mut cargo = Command::new("cargo");
    cargo.arg("check").args(PROFILE).arg("--all-targets").args(without.iter().flat_map(|name| ["-p", name]));
    let status = cargo.env("LIBTORCH", "/nonexistent").status().context("cannot start cargo")?;
    Ok(u8::from(!status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_seconds_are_those_of_children() {
        let before = processor_seconds();
        let busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", busy]).status().unwrap().success());
        let used = processor_seconds() - before;
        assert!(used > 0.0 && used < 60.0, "{used}");
    }

    #[test]
    fn crates_that_are_not_fresh_count_once_and_nothing_else_does() {
        let line = |reason: &str, id: &str, fresh: bool| {
            format!(r#"{{"reason":"{reason}","package_id":"{id}","target":{{}},"fresh":{fresh}}}"#)
        };
        let messages = [
            line("compiler-artifact", "path+file:///house/crypto#blindsum-crypto@0.1.0", false),
            line("compiler-artifact", "path+file:///house/silo#blindsum-silo@0.1.0", false),
            line("compiler-artifact", "path+file:///house/silo#blindsum-silo@0.1.0", false),
            line("compiler-artifact", "path+file:///house/files#blindsum-files@0.1.0", true),
            r#"{"reason":"build-script-executed","package_id":"path+file:///house/demo#d@0.1.0"}"#.to_owned(),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let names = built_again(&messages.join("\n")).unwrap();
        assert_eq!(
            names.iter().map(String::as_str).collect::<Vec<_>>(),
            ["crypto#blindsum-crypto@0.1.0", "silo#blindsum-silo@0.1.0"]
        );
        assert!(built_again("{broken").is_err());
    }
}
