//! What `install` and `revoke` change, and what they leave alone.

use std::path::Path;

use crate::program::{done, failed, refusal, run, said};

fn federation(dir: &Path, authority: &str, names: &[&str]) {
    done(dir, &["authority-init", "--dir", authority, "--federation", "demo"]);
    for name in names {
        if !dir.join(name).exists() {
            done(dir, &["silo-init", "--dir", name, "--name", name]);
        }
        sign(dir, authority, name, &format!("{name}.{authority}.pem"), &[]);
    }
}

fn sign(dir: &Path, authority: &str, name: &str, out: &str, more: &[&str]) -> String {
    let csr = format!("{name}/{name}.csr");
    let args = ["sign", "--authority", authority, "--role", "silo", "--csr", &csr, "--out", out];
    done(dir, &[&args[..], more].concat())
}

fn word_after<'a>(text: &'a str, start: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {text}"));
    line[start.len()..].trim()
}

#[test]
fn another_authority_comes_only_on_purpose() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    federation(dir, "first", &["north"]);
    federation(dir, "second", &["north"]);
    let fingerprint = |authority: &str| {
        let shown = done(dir, &["show", &format!("{authority}/authority.pem")]);
        word_after(&shown, "certificate").to_owned()
    };
    let install = |authority: &str, more: &[&str]| {
        let (certificate, authority) = (format!("north.{authority}.pem"), format!("{authority}/authority.pem"));
        let args = ["install", "--dir", "north", "--certificate", &certificate, "--authority-certificate", &authority];
        run(dir, &[&args[..], more].concat())
    };
    let go = |authority: &str, more: &[&str]| said(install(authority, more));
    let refused = |authority: &str, more: &[&str]| refusal(&install(authority, more));

    let said = go("first", &["--revoked", "first/revoked.pem"]);
    assert_eq!(word_after(&said, "authority"), fingerprint("first"));
    let again = go("first", &[]);
    assert!(again.contains("the same files lie already in north"), "{again}");

    let held = |name: &str| std::fs::read(dir.join("north").join(name)).unwrap();
    let before = (held("authority.pem"), held("certificate.pem"), held("revoked.pem"));
    let (code, text) = refused("second", &[]);
    assert!(code == 4 && text.contains("--replace-authority"), "{text}");
    assert_eq!(word_after(&text, "installed"), fingerprint("first"));
    assert_eq!(word_after(&text, "offered"), fingerprint("second"));
    let (code, text) = refused("second", &["--replace-authority"]);
    assert!(code == 4 && text.contains("former authority's"), "{text}");
    assert_eq!(before, (held("authority.pem"), held("certificate.pem"), held("revoked.pem")), "nothing was installed");

    let said = go("second", &["--replace-authority", "--revoked", "second/revoked.pem"]);
    assert_eq!(word_after(&said, "authority"), fingerprint("second"));
    assert_ne!(before.0, held("authority.pem"));
}

#[test]
fn who_holds_what_is_shown_and_only_that_is_revoked() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let list = ["authority", "list", "--authority", "authority"];
    done(dir, &["authority-init", "--dir", "authority", "--federation", "clinics"]);
    assert!(done(dir, &list).contains("issued 0 certificate(s)"));
    assert!(failed(dir, &["revoke", "--authority", "authority", "--name", "north"]).1.contains("none at all"));
    done(
        dir,
        &["coordinator-init", "--dir", "hub", "--name", "hub", "--host", "hub.example.org", "--host", "10.0.0.7"],
    );
    done(
        dir,
        &["sign", "--authority", "authority", "--role", "coordinator", "--csr", "hub/hub.csr", "--out", "hub.pem"],
    );
    for name in ["north", "south"] {
        done(dir, &["silo-init", "--dir", name, "--name", name]);
        sign(dir, "authority", name, &format!("{name}.pem"), &[]);
    }
    let line = |name: &str| {
        let shown = done(dir, &list);
        shown.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {shown}")).to_owned()
    };
    let serial = word_after(&done(dir, &["show", "north.pem"]), "serial").to_owned();
    for word in ["hub", "coordinator", "valid", "hub.example.org, 10.0.0.7"] {
        assert!(line("hub").contains(word), "{}", line("hub"));
    }
    for word in ["north", "silo", " valid ", &serial, "20"] {
        assert!(line("north").contains(word), "{}", line("north"));
    }

    let list_before = std::fs::read(dir.join("authority/revoked.pem")).unwrap();
    let digit = if serial.ends_with('0') { "1" } else { "0" };
    let wrong = format!("{}{digit}", &serial[..serial.len() - 1]);
    let (code, text) = failed(dir, &["revoke", "--authority", "authority", "--serial", &serial, "--serial", &wrong]);
    let nearest = text.lines().skip_while(|line| !line.contains("Nearest")).nth(1).unwrap();
    assert!(code == 4 && text.contains(&wrong) && nearest.contains(&serial) && nearest.contains("north"), "{text}");
    assert_eq!(std::fs::read(dir.join("authority/revoked.pem")).unwrap(), list_before, "nothing was revoked");

    let with_colons =
        serial.as_bytes().chunks(2).map(|b| String::from_utf8_lossy(b).to_uppercase()).collect::<Vec<_>>();
    let said = done(dir, &["revoke", "--authority", "authority", "--serial", &with_colons.join(":")]);
    assert!(said.contains(&format!("revoked the certificate {serial} of the silo `north`")), "{said}");
    assert!(line("north").contains("revoked on") && line("south").contains(" valid "));
    let list_before = std::fs::read(dir.join("authority/revoked.pem")).unwrap();
    let said = done(dir, &["revoke", "--authority", "authority", "--name", "north"]);
    assert!(said.contains("was already revoked on") && said.contains("nothing was changed"), "{said}");
    assert_eq!(std::fs::read(dir.join("authority/revoked.pem")).unwrap(), list_before);
}
