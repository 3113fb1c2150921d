//! Puts the commit and libtorch's version into the program, for `--version`; `unknown` where they cannot be told.

use std::path::Path;
use std::process::Command;

fn main() {
    let commit = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    println!("cargo::rustc-env=BLINDSUM_COMMIT={}", commit.as_deref().map_or("unknown", str::trim));
    println!("cargo::rerun-if-changed=../.git/HEAD");
    println!("cargo::rerun-if-changed=../.git/logs/HEAD");

    // A wheel says it in version.py, a plain libtorch in build-version.
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let libtorch = std::env::var("LIBTORCH").unwrap_or_default();
    let read = |name: &str| std::fs::read_to_string(Path::new(&libtorch).join(name)).ok();
    let version = read("build-version").map(|text| text.trim().to_owned()).or_else(|| {
        let text = read("version.py")?;
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        line.split('\'').nth(1).map(str::to_owned)
    });
    println!("cargo::rustc-env=BLINDSUM_LIBTORCH={}", version.as_deref().unwrap_or("unknown"));
}
