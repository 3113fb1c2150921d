//! The program itself, in fresh processes: what it refuses, with which exit code, and how it stops.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use blindsum_certs::credentials::{IDENTITY_KEY_FILE, load_identity};
use blindsum_certs::roster;
use blindsum_crypto::evidence::{Fault, Over};
use blindsum_crypto::{AbandonVote, CommitVote, Context, Digest, Evidence, SiloId, sha256};
use blindsum_protocol::Job;
use blindsum_testkit::enrol;

const MODEL: &str = r#"{"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 16,
    "num_attention_heads": 2, "vocab_size": 10, "max_position_embeddings": 128}"#;

/// A federation of four with everything that the coordinator reads.
struct Federation(tempfile::TempDir);

impl Federation {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        enrol::federation(dir, "clinics", &["a", "b", "c", "d"]);
        std::fs::create_dir(dir.join("model")).unwrap();
        std::fs::write(dir.join("model/config.json"), MODEL).unwrap();
        std::fs::write(dir.join("model/tokenizer.json"), "{}").unwrap();
        let job = include_str!("../../../protocol/job.sample.toml");
        let job = pin(job, "config_sha256", &sha256(MODEL.as_bytes()).to_string());
        let job = pin(&job, "tokenizer_sha256", &sha256(b"{}").to_string());
        std::fs::write(dir.join("job.toml"), job).unwrap();
        let config = include_str!("../../coordinator.sample.toml")
            .replace("0.0.0.0:4433", "127.0.0.1:0")
            .replace("credentials_dir = \"keys\"", "credentials_dir = \"hub\"");
        std::fs::write(dir.join("coordinator.toml"), config).unwrap();
        Federation(temporary)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(self.path(file), text.replace(from, to)).unwrap();
    }

    fn command(&self, command: &str) -> Command {
        program(command, &self.path("coordinator.toml"))
    }

    /// Runs to its end: exit code and what it said.
    fn ends(&self, command: &str) -> (i32, String) {
        ends(self.command(command))
    }

    /// Starts it and waits until it listens: the process, its address, and the rest of its log.
    fn listens(&self) -> (Child, String, BufReader<std::process::ChildStderr>) {
        let mut child = self.command("run").stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while log.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once("\"address\":\"") {
                return (child, rest.split('"').next().unwrap().to_owned(), log);
            }
            line.clear();
        }
        panic!("it ended before it listened: {:?}", child.wait());
    }
}

/// Gives the key of a TOML text another string value.
fn pin(text: &str, key: &str, value: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
    text.replace(line, &format!("{key} = \"{value}\""))
}

fn program(command: &str, config: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_blindsum-coordinator"));
    program.args([command, "--log-format", "json", "--config"]).arg(config).env_remove("RUST_LOG");
    program
}

fn ends(mut command: Command) -> (i32, String) {
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_good_configuration_is_checked_without_a_trace() {
    let federation = Federation::new();
    let (code, log) = federation.ends("check");
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("fingerprint") && log.contains("m = 3") && !log.contains("PROBLEM"), "{log}");
    assert!(!federation.path("state").exists() && !federation.path("adapter").exists());
}

#[test]
fn a_bare_file_name_is_a_file_of_the_current_folder() {
    let federation = Federation::new();
    let mut program = Command::new(env!("CARGO_BIN_EXE_blindsum-coordinator"));
    program.args(["check", "--config", "coordinator.toml"]).current_dir(federation.0.path());
    let output = program.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_folder_of_another_job_is_refused() {
    let federation = Federation::new();
    let (mut child, _, _log) = federation.listens();
    signal(&child, "-HUP");
    assert_eq!(child.wait().unwrap().code(), Some(129));
    assert!(federation.path("adapter/job.json").exists());
    federation.replace("job.toml", "name = \"sentiment\"", "name = \"another\"");
    federation.replace("coordinator.toml", "state_dir = \"state\"", "state_dir = \"state-of-the-second\"");
    let before = std::fs::read(federation.path("adapter/job.json")).unwrap();
    for command in ["check", "run"] {
        let (code, log) = federation.ends(command);
        assert!(code == 7 && log.contains("another folder"), "{command}: {code} {log}");
    }
    assert_eq!(std::fs::read(federation.path("adapter/job.json")).unwrap(), before);
}

#[test]
fn check_says_every_problem_and_its_remedy() {
    let federation = Federation::new();
    federation.replace("coordinator.toml", "output_dir = \"adapter\"", "output_dir = \"job.toml/adapter\"");
    federation.replace("coordinator.toml", "credentials_dir = \"hub\"", "credentials_dir = \"a\"");
    let (code, said) = federation.ends("check");
    assert!(code == 4 && said.contains("2 problems") && said.contains("job.toml/adapter"), "{code} {said}");
}

#[test]
fn errors_of_the_quorum_name_their_own_key() {
    let federation = Federation::new();
    federation.replace("job.toml", "# min_survivors = 3", "min_survivors = 2");
    let (code, said) = federation.ends("check");
    assert!(code == 2 && said.contains("`aggregation.min_survivors`: is 2; choose 3 to 4"), "{code} {said}");
    federation.replace("job.toml", "min_survivors = 2", "# min_survivors = 3");
    federation.replace("coordinator.toml", "output_dir = \"adapter\"", "output_dir = \"hub/adapter\"");
    for command in ["check", "run"] {
        let (code, said) = federation.ends(command);
        assert!(code == 2 && said.contains("`output_dir`") && said.contains("`credentials_dir`"), "{code} {said}");
    }
    federation.replace("coordinator.toml", "output_dir = \"hub/adapter\"", "output_dir = \"adapter\"");
    federation.replace("coordinator.toml", "listen = \"127.0.0.1:0\"", "listen = \"localhost:4433\"");
    let (code, said) = federation.ends("check");
    assert!(code == 2 && said.contains("0.0.0.0:4433"), "{code} {said}");
}

#[test]
fn a_coordinator_that_waits_says_for_whom() {
    let federation = Federation::new();
    let (mut child, _, log) = federation.listens();
    let mut lines = log.lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("\"event\":\"waiting_for\"")).unwrap();
    assert!(line.contains("0 of 4 silos are here; not connected: a, b, c, d; round 1 needs 3 of them"), "{line}");
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn what_is_wrong_is_said_with_its_exit_code() {
    let (code, log) = ends(program("run", Path::new("/nowhere/coordinator.toml")));
    assert!(code == 2 && log.contains("/nowhere/coordinator.toml"), "{code} {log}");

    let federation = Federation::new();
    federation.replace("coordinator.toml", "output_dir", "outptu_dir");
    let (code, log) = federation.ends("run");
    assert!(code == 2 && log.contains("outptu_dir"), "{code} {log}");
    federation.replace("coordinator.toml", "outptu_dir", "output_dir");

    federation.replace("job.toml", "rounds = 20", "rounds = 0");
    let (code, log) = federation.ends("run");
    assert!(code == 2 && log.contains("job.toml:") && log.contains("`rounds`"), "{code} {log}");
    federation.replace("job.toml", "rounds = 0", "rounds = 20");

    federation.replace("model/config.json", "0", "0 ");
    let (code, log) = federation.ends("run");
    assert!(code == 3 && log.contains("another base model"), "{code} {log}");
    federation.replace("model/config.json", "0 ", "0");

    let key = federation.path("hub/tls.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (code, log) = federation.ends("run");
    assert!(code == 4 && log.contains("tls.key"), "{code} {log}");
}

#[test]
fn a_port_and_a_state_directory_have_one_owner() {
    let first = Federation::new();
    let (mut child, address, _log) = first.listens();

    let (code, log) = first.ends("run");
    assert!(code == 7 && log.contains("in use by another process"), "{code} {log}");

    let second = Federation::new();
    second.replace("coordinator.toml", "127.0.0.1:0", &address);
    let (code, log) = second.ends("run");
    assert!(code == 5 && log.contains("is in use already") && log.contains(&address), "{code} {log}");

    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_signal_stops_it_in_order_and_a_restart_goes_on() {
    let federation = Federation::new();
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        let (mut child, _, _log) = federation.listens();
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
    federation.replace("job.toml", "name = \"sentiment\"", "name = \"another\"");
    let (code, log) = federation.ends("run");
    assert!(code == 7 && log.contains("belongs to job"), "{code} {log}");
}

/// Both votes of silo `b`, signed with its own identity key, as an evidence file.
fn both_votes(federation: &Federation) -> serde_json::Value {
    let roster = roster::load(&federation.path("roster.toml")).unwrap();
    let job: Job = toml::from_str(&std::fs::read_to_string(federation.path("job.toml")).unwrap()).unwrap();
    let key = load_identity(&federation.path("b").join(IDENTITY_KEY_FILE)).unwrap();
    let (silo, t3, zero) = (SiloId(1), sha256(b"t3"), Digest([0; 32]));
    let context = Context {
        federation_id: roster.federation_id().into(),
        roster_hash: roster.hash(),
        roster_version: roster.version(),
        job_digest: job.digest(),
        round: 1,
        attempt: 2,
        params_hash: zero,
        previous_result_hash: job.digest(),
        model_hash: zero,
    };
    let ctx = context.digest();
    let commit = Over { over: t3, message: CommitVote::sign(&key, &ctx, silo, &t3) };
    let fault = Fault::CommitAndAbandon { commit, abandon: AbandonVote::sign(&key, &ctx, silo) };
    let evidence = Evidence { context, fault };
    serde_json::json!({
        "format": "blindsum-evidence/1", "silo": "b", "rule": "SA-07", "what": "", "evidence": evidence,
    })
}

/// The verdict on a text: exit code, standard output and standard error.
fn verdict(federation: &Federation, text: &str) -> (i32, String, String) {
    std::fs::write(federation.path("evidence.json"), text).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_blindsum-coordinator"));
    program.arg("evidence").arg(federation.path("evidence.json"));
    program.arg("--roster").arg(federation.path("roster.toml")).arg("--job").arg(federation.path("job.toml"));
    let output = program.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn evidence_is_judged_offline_without_configuration_model_or_keys() {
    let federation = Federation::new();
    let file = both_votes(&federation);
    std::fs::remove_dir_all(federation.path("model")).unwrap();
    std::fs::remove_dir_all(federation.path("hub")).unwrap();
    let (code, said, _) = verdict(&federation, &file.to_string());
    assert!(code == 0 && said.contains("b is at fault") && said.contains("SA-07"), "{code} {said}");

    let judge = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut changed = file.clone();
        change(&mut changed);
        verdict(&federation, &changed.to_string())
    };
    let vote = "/evidence/fault/CommitAndAbandon/abandon/signature";
    let (code, said, why) = judge(&|file| {
        let signature = file.pointer(vote).unwrap().as_str().unwrap();
        let other = if signature.starts_with('0') { "1" } else { "0" };
        let forged = format!("{other}{}", &signature[1..]);
        *file.pointer_mut(vote).unwrap() = forged.into();
    });
    assert!(code == 6 && said.is_empty() && why.contains("proves nothing"), "{code} {said} {why}");
    let (code, _, why) = judge(&|file| file["silo"] = "a".into());
    assert!(code == 6 && why.contains("against \"b\""), "{code} {why}");
    let (code, _, why) = judge(&|file| file["format"] = "blindsum-evidence/2".into());
    assert!(code == 3 && why.contains("blindsum-evidence/2"), "{code} {why}");
    let (code, _, why) = verdict(&federation, "no evidence");
    assert!(code == 3 && why.contains("evidence.json"), "{code} {why}");

    federation.replace("job.toml", "name = \"sentiment\"", "name = \"another\"");
    let (code, _, why) = verdict(&federation, &file.to_string());
    assert!(code == 6 && why.contains("another job"), "{code} {why}");
    federation.replace("job.toml", "rounds = 20", "rounds = 0");
    let (code, _, why) = verdict(&federation, &file.to_string());
    assert!(code == 2 && why.contains("rounds"), "{code} {why}");
}

#[test]
fn the_help_of_evidence_says_what_its_exit_codes_mean() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_blindsum-coordinator"));
    let help = String::from_utf8(program.args(["evidence", "--help"]).output().unwrap().stdout).unwrap();
    for part in ["--roster", "--job", "proves nothing", "Exit codes: 0", "6 it proves nothing", "Example"] {
        assert!(help.contains(part), "{part}: {help}");
    }
}
