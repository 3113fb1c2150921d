//! Says early and in one sentence when libtorch is missing or of another version, tells binaries where a libtorch of the
//! user's own lies (those of this package, and through `links` those of packages above), and keeps libtorch's version for
//! `--version`.

use std::path::{Path, PathBuf};

/// The PyTorch release that the `tch` crate in Cargo.toml binds.
const LIBTORCH_VERSION: &str = "2.11.0";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");

    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.libtorch/torch");
    let path = std::env::var_os("LIBTORCH").map_or(own.clone(), PathBuf::from);
    let remedy = format!(
        "run `python3 engine/torch/libtorch/fetch.py`, which fetches PyTorch {LIBTORCH_VERSION} for the CPU, or set \
         LIBTORCH to the torch folder of an install of that version"
    );
    let found = version(&path);
    println!("cargo::rustc-env=BLINDSUM_LIBTORCH={}", found.as_deref().unwrap_or("unknown"));
    let library = path.join("lib/libtorch_cpu.so");
    println!("cargo::rerun-if-changed={}", library.display());
    if !library.exists() {
        println!("cargo::error=libtorch is not at {}: {remedy}", path.display());
        return;
    }
    match found {
        Some(found) if !found.starts_with(LIBTORCH_VERSION) => {
            println!("cargo::error=libtorch at {} is version {found}: {remedy}", path.display());
        }
        Some(_) => {}
        None => println!(
            "cargo::warning=libtorch at {} does not say its version; {LIBTORCH_VERSION} is needed",
            path.display()
        ),
    }
    // the project's own folder is found by the paths in .cargo/config.toml, which survive moving the checkout
    let same = path.canonicalize().ok().zip(own.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    if !same {
        let folder = path.join("lib");
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
        println!("cargo::metadata=rpath={}", folder.display());
    }
}

/// What the install says of itself: `build-version` (archives, fetch.py) or `version.py` (Python packages).
fn version(path: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(path.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = std::fs::read_to_string(path.join("version.py")).ok()?;
    let line = text.lines().find(|l| l.starts_with("__version__"))?;
    Some(line.split('\'').nth(1)?.to_owned())
}
