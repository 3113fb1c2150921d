//! Tells this package's programs where a libtorch of the user's own lies, as engine/torch/build.rs found it, and where
//! `make install` puts one.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(folder) = std::env::var("DEP_BLINDSUM_TORCH_RPATH") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
    println!("cargo::rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../lib/blindsum");
}
