//! The program itself, in fresh processes: a federation from nothing, and exit codes with one clear sentence.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in `dir`.
pub fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blindsum-certs")).args(args).current_dir(dir).output().unwrap()
}

/// What a command that succeeded said.
pub fn said(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Code and sentence of a command that failed.
pub fn refusal(output: &Output) -> (i32, String) {
    assert!(!output.status.success(), "it succeeded: {}", String::from_utf8_lossy(&output.stdout));
    (output.status.code().unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

/// [`run`], then [`said`].
pub fn done(dir: &Path, args: &[&str]) -> String {
    said(run(dir, args))
}

/// [`run`], then [`refusal`].
pub fn failed(dir: &Path, args: &[&str]) -> (i32, String) {
    refusal(&run(dir, args))
}

#[test]
fn a_federation_from_nothing_and_what_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    done(dir, &["authority-init", "--dir", "authority", "--federation", "demo"]);
    let said =
        done(dir, &["coordinator-init", "--dir", "hub", "--name", "hub", "--host", "localhost", "--host", "::1"]);
    let fingerprint = said.lines().find(|line| line.starts_with("key fingerprint")).unwrap();
    let sign =
        ["sign", "--authority", "authority", "--role", "coordinator", "--csr", "hub/hub.csr", "--out", "hub.pem"];
    assert!(done(dir, &sign).contains(fingerprint));
    for name in ["north", "south", "west"] {
        done(dir, &["silo-init", "--dir", name, "--name", name]);
        let (csr, out) = (format!("{name}/{name}.csr"), format!("{name}.pem"));
        done(dir, &["sign", "--authority", "authority", "--role", "silo", "--csr", &csr, "--out", &out]);
        let install =
            ["install", "--dir", name, "--certificate", &out, "--authority-certificate", "authority/authority.pem"];
        done(dir, &install);
    }
    let files = ["north/north.identity.toml", "south/south.identity.toml", "west/west.identity.toml"];
    let make = [&["roster", "make", "--federation", "demo", "--out", "roster.toml"][..], &files].concat();
    let made = done(dir, &make);
    assert!(made.contains("no silo may collude"), "{made}");
    let shown = done(dir, &["roster", "show", "roster.toml"]);
    let line = shown.lines().find(|line| line.starts_with("fingerprint")).unwrap();
    assert!(made.contains(line));

    assert!(done(dir, &["show", "north.pem"]).contains("silo"));
    assert!(done(dir, &["show", "north/north.csr"]).contains("key fingerprint"));
    assert!(done(dir, &["show", "authority/authority.pem"]).contains("demo"));
    done(dir, &["revoke", "--authority", "authority", "--name", "north"]);
    assert!(done(dir, &["show", "authority/revoked.pem"]).contains("1 certificate(s)"));

    let (code, text) = failed(dir, &["silo-init", "--dir", "north", "--name", "north"]);
    assert!(code == 7 && text.contains("exists already"), "{code} {text}");
    let (code, text) = failed(dir, &["silo-init", "--dir", "x", "--name", "No Good"]);
    assert!(code == 4 && text.contains("a-z, 0-9"), "{code} {text}");
    let (code, text) = failed(
        dir,
        &["sign", "--authority", "authority", "--role", "coordinator", "--csr", "south/south.csr", "--out", "x"],
    );
    assert!(code == 4 && text.contains("nothing was signed"), "{code} {text}");
    let (code, text) = failed(dir, &["show", "north/tls.key"]);
    assert!(code == 4 && text.contains("not shown"), "{code} {text}");
    assert_eq!(failed(dir, &["sign"]).0, 2);
    assert!(!dir.join("x").exists());
}
