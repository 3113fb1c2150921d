//! `blindsum-silo run` and `check` in fresh processes: what they refuse, with which exit code, and how they stop.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use blindsum_certs::{Credentials, Role};
use blindsum_crypto::sha256;
use blindsum_protocol::message::{AttemptId, CoordinatorMessage, Envelope, Open, SiloMessage};
use blindsum_protocol::{Limits, Plan, RoundKind};
use blindsum_service::config;
use blindsum_silo::agent::prepare;
use blindsum_silo::config::SiloConfig;
use blindsum_testkit::enrol;
use blindsum_testkit::models::{TINY_CONFIG, tiny_tensors, write_model};
use blindsum_transport::codec::CoordinatorCodec;
use blindsum_transport::{Listener, Settings, listen};

const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "good": 1, "bad": 2, "film": 3}, "unk_token": "[UNK]"}}"#;

/// The silo "a" of a federation of four, with everything that it reads; nobody answers at its coordinator's address.
struct Silo {
    dir: tempfile::TempDir,
    /// Holds the port, so that nobody else answers there.
    _silent: UdpSocket,
}

impl Silo {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        enrol::federation(dir, "clinics", &["a", "b", "c", "d"]);
        std::fs::create_dir(dir.join("model")).unwrap();
        write_model(&dir.join("model"), TINY_CONFIG, &tiny_tensors());
        std::fs::write(dir.join("model/tokenizer.json"), TOKENIZER).unwrap();
        let rows = |count: usize| "{\"text\": \"good film\", \"label\": \"positive\"}\n".repeat(count);
        std::fs::create_dir(dir.join("data")).unwrap();
        std::fs::write(dir.join("data/train.jsonl"), rows(200)).unwrap();
        std::fs::write(dir.join("data/validation.jsonl"), rows(20)).unwrap();

        let mut job = include_str!("../../../protocol/job.sample.toml").replace("examples = 96", "examples = 8");
        for (key, file) in [
            ("config_sha256", "config.json"),
            ("weights_sha256", "model.safetensors"),
            ("tokenizer_sha256", "tokenizer.json"),
        ] {
            let hash = sha256(&std::fs::read(dir.join("model").join(file)).unwrap());
            let line = job.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap().to_owned();
            job = job.replace(&line, &format!("{key} = \"{hash}\""));
        }
        std::fs::write(dir.join("job.toml"), job).unwrap();

        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("localhost:{}", silent.local_addr().unwrap().port());
        let config = include_str!("../../silo.sample.toml")
            .replace("coordinator.example.org:4433", &address)
            .replace("name = \"clinic-a\"", "name = \"a\"")
            .replace("credentials_dir = \"keys\"", "credentials_dir = \"a\"")
            .replace("# threads = 2", "threads = 1");
        std::fs::write(dir.join("silo.toml"), config).unwrap();
        Silo { dir: temporary, _silent: silent }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(self.path(file), text.replace(from, to)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_blindsum-silo"));
        program.args(arguments).args(["--log-format", "json", "--config"]).arg(self.path("silo.toml"));
        program.env_remove("RUST_LOG");
        program
    }

    /// A coordinator for a test to speak for, with the credentials of `federation`'s; the silo is told its address. Needs
    /// a runtime.
    fn coordinator(&self, federation: &Silo) -> (Plan, Listener<CoordinatorCodec>) {
        let (parsed, document): (SiloConfig, _) = config::load(&self.path("silo.toml")).unwrap();
        let plan = prepare(parsed.clone(), &document).unwrap().plan;
        let credentials = Credentials::load(&federation.path("hub"), Role::Coordinator).unwrap();
        let (names, codec) = (["a", "b", "c", "d"].map(str::to_owned), CoordinatorCodec::new(Limits::new(&plan)));
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = listen(any, &credentials, names, codec, Settings::default()).unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        self.replace("silo.toml", &parsed.coordinator, &address);
        (Plan::clone(&plan), listener)
    }

    /// Runs `check` (or what is given) to its end: exit code and what it said.
    fn ends(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }
}

#[test]
fn a_good_configuration_is_checked_without_a_trace() {
    let silo = Silo::new();
    let (code, log) = silo.ends(&["check"]);
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("fingerprint") && log.contains("m = 3"), "{log}");
    assert!(!silo.path("state").exists());
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let silo = Silo::new();
    silo.replace("silo.toml", "state_dir", "state_dri");
    let (code, log) = silo.ends(&["run"]);
    assert!(code == 2 && log.contains("state_dri"), "{code} {log}");
    silo.replace("silo.toml", "state_dri", "state_dir");

    silo.replace("silo.toml", "credentials_dir = \"a\"", "credentials_dir = \"b\"");
    let (code, log) = silo.ends(&["run"]);
    assert!(code == 4 && log.contains("certificate") && log.contains("silo.toml:5: `name`"), "{code} {log}");
    silo.replace("silo.toml", "credentials_dir = \"b\"", "credentials_dir = \"a\"");

    silo.replace("model/config.json", "128,", "128 ,");
    let (code, log) = silo.ends(&["run"]);
    assert!(code == 3 && log.contains("another base model"), "{code} {log}");
    silo.replace("model/config.json", "128 ,", "128,");

    silo.replace("silo.toml", "max_epsilon = 8.0", "max_epsilon = 1.0");
    let (code, log) = silo.ends(&["run"]);
    assert!(code == 6 && log.contains("policy.max_epsilon"), "{code} {log}");
    silo.replace("silo.toml", "max_epsilon = 1.0", "max_epsilon = 8.0");

    silo.replace("job.toml", "delta = 1e-5", "delta = 1e-2");
    silo.replace("silo.toml", "max_delta = 1e-5", "max_delta = 1e-1");
    let (code, log) = silo.ends(&["run"]);
    assert!(code == 6 && log.contains("1/200"), "{code} {log}");

    std::fs::set_permissions(silo.path("a/identity.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let (code, log) = silo.ends(&["run"]);
    assert!(code == 4 && log.contains("identity.key"), "{code} {log}");

    let other = Silo::new();
    std::fs::copy(other.path("a/certificate.pem"), silo.path("a/certificate.pem")).unwrap();
    let (code, log) = silo.ends(&["run"]);
    assert!(code == 4, "{code} {log}");
    assert!(!silo.path("state").exists(), "nothing was written");
}

#[test]
fn a_malformed_row_is_named_but_not_shown() {
    let silo = Silo::new();
    let rows = "{\"text\": \"good film\", \"label\": \"positive\"}\n";
    for bad in [
        "{\"text\": \"xylophone\", \"label\": \"zeppelin\"}\n",
        "{\"text\": \"xylophone\" \"label\": zeppelin\n",
        "{\"xylophone\": \"zeppelin\"}\n",
    ] {
        std::fs::write(silo.path("data/train.jsonl"), rows.repeat(3) + bad).unwrap();
        let (code, log) = silo.ends(&["run", "--log-level", "trace"]);
        assert!(code == 3 && log.contains("train.jsonl:4"), "{code} {log}");
        assert!(!log.contains("xylophone") && !log.contains("zeppelin"), "{log}");
    }
}

#[test]
fn an_unreachable_coordinator_is_given_up_when_asked() {
    let silo = Silo::new();
    let started = Instant::now();
    let (code, log) = silo.ends(&["run", "--connect-timeout-seconds", "1"]);
    assert!(code == 5 && log.contains("does not answer"), "{code} {log}");
    assert!(started.elapsed() < Duration::from_secs(60));

    // The ledger is opened for this very file.
    silo.replace("data/train.jsonl", "good", "bad");
    let (code, log) = silo.ends(&["run", "--connect-timeout-seconds", "1"]);
    assert!(code == 6 && log.contains("not the one that the privacy ledger"), "{code} {log}");
}

#[test]
fn a_signal_stops_it_in_order_and_its_state_has_one_owner() {
    let silo = Silo::new();
    let mut child = silo.command(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    let journal = silo.path("state/journal");
    let deadline = Instant::now() + Duration::from_secs(60);
    // Its first entry says whose journal it is.
    while std::fs::metadata(&journal).map_or(0, |file| file.len()) < 60 {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it did not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (code, log) = silo.ends(&["run"]);
    assert!(code == 7 && log.contains("in use by another process"), "{code} {log}");
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(std::fs::metadata(silo.path("state")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(&journal).unwrap().permissions().mode() & 0o777, 0o600);

    let mut bytes = std::fs::read(&journal).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    let (code, log) = silo.ends(&["run"]);
    assert!(code == 7 && log.contains("damaged in entry 1"), "{code} {log}");
}

#[test]
fn missing_files_and_keys_that_others_can_read_are_refused() {
    let silo = Silo::new();
    for (file, expected) in [
        ("silo.toml", 2),
        ("job.toml", 2),
        ("roster.toml", 4),
        ("a/identity.key", 4),
        ("model/model.safetensors", 3),
        ("data/train.jsonl", 3),
    ] {
        let (path, away) = (silo.path(file), silo.path("away"));
        std::fs::rename(&path, &away).unwrap();
        let (code, log) = silo.ends(&["run"]);
        assert!(code == expected && log.contains(file), "{file}: {code} {log}");
        std::fs::rename(&away, &path).unwrap();
    }
    for key in ["a/tls.key", "a/identity.key"] {
        std::fs::set_permissions(silo.path(key), std::fs::Permissions::from_mode(0o644)).unwrap();
        let (code, log) = silo.ends(&["run"]);
        assert!(code == 4 && log.contains(key) && log.contains("chmod 600"), "{code} {log}");
        std::fs::set_permissions(silo.path(key), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert!(!silo.path("state").exists(), "nothing was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_of_another_authority_is_refused_for_good() {
    let (silo, other) = (Silo::new(), Silo::new());
    let (_plan, listener) = silo.coordinator(&other);
    let (code, log) = tokio::task::spawn_blocking(move || silo.ends(&["run"])).await.unwrap();
    assert!(code == 4 && log.contains("authority"), "{code} {log}");
    drop(listener);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_while_it_trains_stops_it_in_order_and_its_debit_stands() {
    let silo = Silo::new();
    // Far longer than the test, were it not stopped.
    silo.replace("job.toml", "local_steps = 5", "local_steps = 10000");
    silo.replace("job.toml", "rounds = 20", "rounds = 1");
    let (plan, mut listener) = silo.coordinator(&silo);
    let mut child = silo.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut connection = listener.accept().await.unwrap().unwrap();
    assert!(matches!(connection.recv().await.unwrap().message, SiloMessage::Hello(_)));
    let at = AttemptId { round: 1, attempt: 1 };
    let context = plan.context(at, RoundKind::Train, plan.job_digest(), plan.model_hash(&plan.initial_global()));
    let open = CoordinatorMessage::Open(Open { context, abandoned: Vec::new() });
    connection.send(Envelope::bare(open)).await.unwrap();

    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let training = log.any(|line| line.contains("\"event\":\"training\""));
    assert!(training, "it ended before it trained: {:?}", child.wait());
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = log.collect();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("\"event\":\"stopping\"")), "{rest:?}");
    let ledger = std::fs::read_to_string(silo.path("state/ledger.jsonl")).unwrap();
    assert!(ledger.contains("10000"), "what was begun is charged: {ledger}");
}
