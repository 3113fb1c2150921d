//! Tells this package's programs where a libtorch of the user's own lies (see silo/build.rs, which checks it).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    // the project's own folder is found by the paths in .cargo/config.toml
    if let Some(path) = std::env::var_os("LIBTORCH").filter(|path| !path.to_string_lossy().contains(".libtorch")) {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}/lib", path.to_string_lossy());
    }
}
