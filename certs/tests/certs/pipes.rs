//! A reader that went away (`… | head`) is no fault: no panic, and the code says how the command itself ended.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::done;

fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn nobody_listens_and_nothing_panics() {
    let temporary = tempfile::tempdir().unwrap();
    let dir: &Path = temporary.path();
    done(dir, &["authority-init", "--dir", "authority", "--federation", "demo"]);
    let list = &["authority", "list", "--authority", "authority"][..];
    for (code, args) in [
        (0, list),
        (0, &["show", "authority/authority.pem"]),
        (0, &["silo-init", "--dir", "keys", "--name", "north"]),
        (0, &["--help"]),
        (0, &["--version"]),
        (0, &["roster", "make", "--help"]),
        (2, &[]),
        (2, &["roster"]),
        (2, &["sign", "--role", "king"]),
        (4, &["show", "authority/authority.key"]),
        (4, &["show", "nothing"]),
        (7, &["show", "."]),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_blindsum-certs"));
        program.args(args).current_dir(dir);
        let output = program.stdout(closed()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code), "{args:?}: {:?} {error}", output.status);
        assert!(!error.contains("panicked"), "{args:?}: {error}");
        if args.first() != Some(&"silo-init") {
            let status = program.stdout(closed()).stderr(closed()).status().unwrap();
            assert_eq!(status.code(), Some(code), "{args:?} with both ends closed");
        }
    }
    assert!(dir.join("keys/north.csr").exists(), "what was asked for was done");
}
