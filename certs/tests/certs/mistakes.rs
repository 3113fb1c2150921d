//! What people get wrong: each answer has the code of the table, names the file and the remedy, and changes no file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use blindsum_certs::Role;
use blindsum_certs::authority::Validity;
use blindsum_certs::folder::AuthorityFolder;
use blindsum_certs::request::Request;

use crate::program::{done, failed};

const SILOS: [&str; 4] = ["east", "north", "south", "west"];

/// A federation of four with everything that one can confuse: another federation, and files of no use.
fn prepare(dir: &Path) {
    for authority in ["authority", "other"] {
        done(dir, &["authority-init", "--dir", authority, "--federation", authority]);
    }
    done(dir, &["coordinator-init", "--dir", "hub", "--name", "hub", "--host", "hub.example.org"]);
    done(
        dir,
        &["sign", "--authority", "authority", "--role", "coordinator", "--csr", "hub/hub.csr", "--out", "hub.pem"],
    );
    for name in SILOS {
        done(dir, &["silo-init", "--dir", name, "--name", name]);
        let (csr, out) = (format!("{name}/{name}.csr"), format!("{name}.pem"));
        done(dir, &["sign", "--authority", "authority", "--role", "silo", "--csr", &csr, "--out", &out]);
    }
    done(dir, &["sign", "--authority", "other", "--role", "silo", "--csr", "north/north.csr", "--out", "foreign.pem"]);
    done(dir, &["revoke", "--authority", "authority", "--name", "west"]);
    let install = "install --dir north --certificate north.pem --authority-certificate authority/authority.pem";
    done(dir, &[&words(install)[..], &["--revoked", "authority/revoked.pem"]].concat());
    done(dir, &words("install --dir hub --certificate hub.pem --authority-certificate authority/authority.pem"));
    done(dir, &["silo-init", "--dir", "fresh", "--name", "fresh"]);

    let identities = SILOS.map(|name| format!("{name}/{name}.identity.toml"));
    let make = ["roster", "make", "--federation", "authority", "--out", "roster.toml"];
    done(dir, &[&make[..], &identities.each_ref().map(String::as_str)].concat());
    let roster = fs::read_to_string(dir.join("roster.toml")).unwrap();
    fs::write(dir.join("stale.toml"), roster.replace("version = 1", "version = 2")).unwrap();
    fs::write(dir.join("broken.toml"), roster.replace("version = 1", "version = \"one\"")).unwrap();
    fs::write(dir.join("empty.pem"), "").unwrap();
    fs::write(dir.join("noise.pem"), [0xff, 0xfe, 0, 1, 2, 0x80]).unwrap();
    fs::write(dir.join("huge.toml"), vec![b'#'; 2 << 20]).unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    fs::create_dir(dir.join("half")).unwrap();
    fs::set_permissions(dir.join("half"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(dir.join("half/half.identity.toml"), "").unwrap();
    fs::copy(dir.join("other/revoked.pem"), dir.join("foreign-list.pem")).unwrap();

    let folder = AuthorityFolder::open(&dir.join("authority")).unwrap();
    let request = Request::from_pem(&fs::read_to_string(dir.join("east/east.csr")).unwrap()).unwrap();
    let ago = |hours: u64| SystemTime::now() - Duration::from_secs(3600 * hours);
    let past = Validity { not_before: ago(48), not_after: ago(24) };
    folder.sign(&request, Role::Silo, past, true, &dir.join("expired.pem")).unwrap();
    let request = Request::from_pem(&fs::read_to_string(dir.join("north/north.csr")).unwrap()).unwrap();
    let older = Validity { not_before: ago(48), not_after: SystemTime::now() + Duration::from_secs(3600) };
    folder.sign(&request, Role::Silo, older, true, &dir.join("older.pem")).unwrap();
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').map(|word| if word == "''" { "" } else { word }).collect()
}

/// Every file with its content and mode.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.metadata().unwrap().permissions().mode();
            if path.is_dir() {
                folders.push(path.clone());
                found.insert(path, (mode, Vec::new()));
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, (mode, bytes));
            }
        }
    }
    found
}

const SIGN: &str = "sign --authority authority --role silo --csr";
const INTO_NORTH: &str = "install --dir north --authority-certificate authority/authority.pem --certificate";
const INTO_EAST: &str = "install --dir east --authority-certificate authority/authority.pem --certificate";
const MAKE: &str = "roster make --federation authority --out";
const THREE: &str = "north/north.identity.toml south/south.identity.toml west/west.identity.toml";

#[test]
fn mistakes_are_named_with_their_remedy_and_cost_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    prepare(dir);
    let before = tree(dir);
    let table: &[(i32, String, &[&str])] = &[
        // usage
        (2, "sing".into(), &["sing", "sign"]),
        (2, format!("{SIGN} fresh/fresh.csr"), &["--out"]),
        (2, "sign --authority authority --role king --csr a --out b".into(), &["king", "`silo` or `coordinator`"]),
        (2, format!("{SIGN} fresh/fresh.csr --out x.pem --days 0"), &["--days", "1..=7305"]),
        (2, "coordinator-init --dir x".into(), &["--host"]),
        (2, format!("{SIGN} fresh/fresh.csr --out ''"), &["--out"]),
        (2, "revoke --authority authority".into(), &["--name", "--serial"]),
        // names
        (4, "silo-init --dir x --name ''".into(), &["``", "a-z, 0-9"]),
        (4, "silo-init --dir x --name North".into(), &["`North`", "a-z, 0-9"]),
        (4, "authority-init --dir x --federation Clinics".into(), &["`Clinics`", "a-z, 0-9"]),
        (4, "coordinator-init --dir x --host hub:7443".into(), &["`hub:7443`", "no port"]),
        // folders in each other's place, and twice
        (7, "silo-init --dir north --name north".into(), &["north/identity.key exists already", "another folder"]),
        (7, "silo-init --dir half --name half".into(), &["half/half.identity.toml exists already"]),
        (7, "coordinator-init --dir north --host h".into(), &["north/identity.key exists already"]),
        (7, "authority-init --dir authority --federation demo".into(), &["authority/authority.key exists already"]),
        (4, "silo-init --dir authority --name north".into(), &["the authority's folder", "choose another"]),
        (4, "authority-init --dir north --federation demo".into(), &["a member's folder", "choose another"]),
        (7, "silo-init --dir north.pem --name x".into(), &["north.pem is no folder"]),
        (4, "sign --authority typo --role silo --csr a --out b".into(), &["typo does not exist", "authority-init"]),
        (4, "authority list --authority north".into(), &["north/authority.key does not exist", "name its folder"]),
        // sign
        (
            4,
            "sign --authority authority --role coordinator --csr fresh/fresh.csr --out x".into(),
            &["fresh/fresh.csr", "nothing was signed", "--role silo"],
        ),
        (4, format!("{SIGN} north.pem --out x"), &["north.pem is a member's certificate", ".csr"]),
        (4, format!("{SIGN} fresh/fresh.identity.toml --out x"), &["a silo's identity file", ".csr"]),
        (4, format!("{SIGN} empty.pem --out x"), &["empty.pem is nothing that this program makes", ".csr"]),
        (4, format!("{SIGN} fresh.csr --out x"), &["fresh.csr does not exist", ".csr file"]),
        (7, format!("{SIGN} folder --out x"), &["folder is a folder, and a file is expected"]),
        (4, format!("{SIGN} huge.toml --out x"), &["huge.toml is larger"]),
        (4, format!("{SIGN} north/north.csr --out x"), &["`north` already holds", "--renew"]),
        (4, format!("{SIGN} fresh/fresh.csr --out fresh/tls.key"), &["fresh/tls.key exists", "a private key", "--out"]),
        (4, format!("{SIGN} fresh/fresh.csr --out fresh/fresh.csr"), &["a certificate request", "--out"]),
        (4, format!("{SIGN} fresh/fresh.csr --out authority/authority.pem"), &["an authority's certificate", "--out"]),
        (4, format!("{SIGN} fresh/fresh.csr --out south.pem"), &["certificate of the silo `south`", "--out"]),
        (7, format!("{SIGN} fresh/fresh.csr --out folder"), &["folder is a folder"]),
        (7, format!("{SIGN} fresh/fresh.csr --out none/x.pem"), &["folder none does not exist", "make it first"]),
        // install
        (4, format!("{INTO_EAST} east/east.csr"), &["east/east.csr is a certificate request", "blindsum-certs sign"]),
        (4, format!("{INTO_EAST} authority/authority.pem"), &["is an authority's certificate, where a member's"]),
        (
            4,
            "install --dir east --certificate east.pem --authority-certificate north.pem".into(),
            &["north.pem is a member's certificate, where an authority's", "authority.pem in the authority's folder"],
        ),
        (4, format!("{INTO_EAST} south.pem"), &["south.pem in east", "does not match", "signed for this key"]),
        (4, format!("{INTO_EAST} expired.pem"), &["expired.pem in east", "expired on", "sign a new one"]),
        (4, format!("{INTO_NORTH} foreign.pem"), &["foreign.pem in north", "not signed by the authority", "get both"]),
        (4, format!("{INTO_NORTH} older.pem"), &["older.pem is older", "newest"]),
        (
            4,
            "install --dir north --certificate foreign.pem --authority-certificate other/authority.pem".into(),
            &["another authority than", "installed", "offered", "--replace-authority"],
        ),
        (
            4,
            format!("{INTO_NORTH} north.pem --revoked foreign-list.pem"),
            &["lacks serial", "older", "newest revoked.pem"],
        ),
        (
            4,
            format!("{INTO_EAST} east.pem --revoked foreign-list.pem"),
            &["revocation list was not signed", "revoked.pem"],
        ),
        (4, format!("{INTO_EAST} east.pem --revoked roster.toml"), &["roster.toml is a roster", "revoked.pem"]),
        (
            4,
            "install --dir west --certificate west.pem --authority-certificate authority/authority.pem --revoked \
             authority/revoked.pem"
                .into(),
            &["west.pem in west", "revoked", "make new keys"],
        ),
        (4, format!("{INTO_EAST} none.pem"), &["none.pem does not exist", "blindsum-certs sign"]),
        (
            4,
            "install --dir authority --certificate east.pem --authority-certificate authority/authority.pem".into(),
            &["authority/tls.key does not exist", "silo-init"],
        ),
        // roster
        (
            4,
            format!("{MAKE} x.toml north/north.identity.toml south/south.identity.toml"),
            &["3 to", "has 2", "each silo once"],
        ),
        (4, format!("{MAKE} x.toml {THREE} north/north.identity.toml"), &["\"north\" occurs twice", "once"]),
        (
            4,
            format!("{MAKE} x.toml {THREE} east/east.csr"),
            &["east/east.csr is a certificate request", ".identity.toml"],
        ),
        (
            4,
            format!("{MAKE} east/east.identity.toml {THREE}"),
            &["east/east.identity.toml exists", "a silo's identity file"],
        ),
        (4, format!("{MAKE} roster.toml {THREE}"), &["another roster of version 1", "--roster-version 2"]),
        (4, format!("roster make --federation other --out roster.toml {THREE}"), &["roster of federation `authority`"]),
        (4, format!("{MAKE} x.toml *.identity.toml"), &["*.identity.toml does not exist", "ask the silo"]),
        (7, format!("{MAKE} none/x.toml {THREE}"), &["folder none does not exist", "make it first"]),
        (4, "roster show stale.toml".into(), &["stale.toml: the fingerprint", "changed", "roster make"]),
        (4, "roster show broken.toml".into(), &["broken.toml:4: `version`", "not a roster", "roster make"]),
        (4, "roster show north.pem".into(), &["north.pem is a member's certificate, where a roster"]),
        (4, "roster show none.toml".into(), &["none.toml does not exist", "roster make"]),
        // revoke and show
        (4, "revoke --authority authority --serial zz".into(), &["`zz`", "Nearest", "authority list"]),
        (4, "revoke --authority authority --name nroth".into(), &["`nroth`", "Nearest", "`north`"]),
        (4, "show north/tls.key".into(), &["north/tls.key is a private key", "not shown"]),
        (4, "show empty.pem".into(), &["empty.pem is nothing", "(.csr)"]),
        (4, "show noise.pem".into(), &["noise.pem is nothing", "(.csr)"]),
        (7, "show folder".into(), &["folder is a folder"]),
        (4, "show none".into(), &["none does not exist", "check the path"]),
    ];
    let mut faults = Vec::new();
    for (code, line, wanted) in table {
        let (found, text) = failed(dir, &words(line));
        if found != *code {
            faults.push(format!("{line}: code {found} instead of {code}: {text}"));
        }
        for word in wanted.iter().filter(|word| !text.contains(*word)) {
            faults.push(format!("{line}: no {word:?} in: {text}"));
        }
        for never in ["os error", "entity not", "panicked", "internal error"] {
            assert!(!text.contains(never), "{line}: {text}");
        }
        let after = tree(dir);
        let changed: Vec<&PathBuf> =
            before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)).collect();
        assert!(changed.is_empty(), "{line} changed {changed:?}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn keys_that_others_can_read_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    prepare(dir);
    for (path, mode, line) in [
        ("east/tls.key", 0o644, format!("{INTO_EAST} east.pem")),
        ("authority/authority.key", 0o640, format!("{SIGN} fresh/fresh.csr --out x.pem")),
        ("other", 0o755, "authority list --authority other".to_owned()),
    ] {
        fs::set_permissions(dir.join(path), fs::Permissions::from_mode(mode)).unwrap();
        let (code, text) = failed(dir, &words(&line));
        assert!(code == 4 && text.contains("run `chmod") && text.contains(path), "{line}: {code} {text}");
    }
}

#[test]
fn bare_names_work_in_every_option() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    prepare(dir);
    let hold = dir.join("hold");
    fs::create_dir(&hold).unwrap();
    fs::set_permissions(&hold, fs::Permissions::from_mode(0o700)).unwrap();
    // In the folder itself: `--dir .`, `--authority .`, and files without any folder.
    done(&hold, &["silo-init", "--dir", ".", "--name", "a"]);
    fs::copy(hold.join("a.csr"), dir.join("authority/a.csr")).unwrap();
    done(&dir.join("authority"), &words("sign --authority . --role silo --csr a.csr --out a.pem"));
    for file in ["a.pem", "authority.pem", "revoked.pem"] {
        fs::copy(dir.join("authority").join(file), hold.join(if file == "revoked.pem" { "list.pem" } else { file }))
            .unwrap();
    }
    let install = "install --dir . --certificate a.pem --authority-certificate authority.pem --revoked list.pem";
    assert!(done(&hold, &words(install)).contains("silo"));
    for name in ["east", "north"] {
        let file = format!("{name}.identity.toml");
        fs::copy(dir.join(name).join(&file), hold.join(&file)).unwrap();
    }
    let make = "roster make --federation f --out roster.toml a.identity.toml east.identity.toml north.identity.toml";
    done(&hold, &words(make));
    for shown in ["roster.toml", "a.pem", "a.csr", "list.pem", "a.identity.toml"] {
        done(&hold, &["show", shown]);
    }
    done(&hold, &words("roster show roster.toml"));
    done(&dir.join("authority"), &words("revoke --authority . --name a"));
}
