//! `blindsum-silo run` and `check` in fresh processes: what they refuse, with which exit code, and how they stop.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use blindsum_certs::{Credentials, Role};
use blindsum_crypto::sha256;
use blindsum_engine::data::Identity;
use blindsum_protocol::message::{AttemptId, CoordinatorMessage, Envelope, Open, SiloMessage};
use blindsum_protocol::silo::JournalEntry;
use blindsum_protocol::{Limits, Plan, RoundKind, codec};
use blindsum_service::config;
use blindsum_silo::agent::prepare;
use blindsum_silo::config::SiloConfig;
use blindsum_silo::journal::JournalFile;
use blindsum_silo::ledger::{Ledger, OverJobs};
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
        let rows = |text: &str, count: usize| -> String {
            (0..count).map(|i| format!("{{\"text\": \"{text} {i}\", \"label\": \"positive\"}}\n")).collect()
        };
        std::fs::create_dir(dir.join("data")).unwrap();
        std::fs::write(dir.join("data/train.jsonl"), rows("good film", 200)).unwrap();
        std::fs::write(dir.join("data/validation.jsonl"), rows("film good", 20)).unwrap();

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

    /// Every file and folder, with its size.
    fn files(&self) -> Vec<(PathBuf, u64)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.dir.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let meta = entry.metadata().unwrap();
                if meta.is_dir() {
                    folders.push(entry.path());
                }
                found.push((entry.path(), if meta.is_dir() { 0 } else { meta.len() }));
            }
        }
        found.sort();
        found
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(self.path(file), text.replace(from, to)).unwrap();
    }

    /// Ten rows to each of twenty persons, and to two others.
    fn give_rows_to_persons(&self) {
        for (file, first) in [("data/train.jsonl", 0), ("data/validation.jsonl", 20)] {
            let rows = std::fs::read_to_string(self.path(file)).unwrap();
            let row = |(i, row): (usize, &str)| {
                format!("{}\n", row.replacen('{', &format!("{{\"patient\": {}, ", first + i / 10), 1))
            };
            std::fs::write(self.path(file), rows.lines().enumerate().map(row).collect::<String>()).unwrap();
        }
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

    /// Runs `budget` with this silo's configuration.
    fn budget(&self, arguments: &[&str]) -> (i32, String) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_blindsum-silo"));
        program.arg("budget").arg(arguments[0]).arg("--config").arg(self.path("silo.toml")).args(&arguments[1..]);
        let output = program.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
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
    let before = silo.files();
    let (code, log) = silo.ends(&["check"]);
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("fingerprint") && log.contains("m = 3") && !log.contains("PROBLEM"), "{log}");
    assert_eq!(silo.files(), before);
}

#[test]
fn a_bare_file_name_is_a_file_of_the_current_folder() {
    let silo = Silo::new();
    let mut program = Command::new(env!("CARGO_BIN_EXE_blindsum-silo"));
    let output = program.args(["check", "--config", "silo.toml"]).current_dir(silo.dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn check_tries_everything_that_run_needs_and_names_the_remedy() {
    let silo = Silo::new();
    silo.replace("silo.toml", "# output_dir", "output_dir");
    let address = std::fs::read_to_string(silo.path("silo.toml")).unwrap();
    let address = address.lines().find_map(|line| line.strip_prefix("coordinator = ")).unwrap().to_owned();
    for wrong in ["\"localhost\"", "\"https://localhost:4433\"", "\"localhost:99999\"", "\":4433\""] {
        silo.replace("silo.toml", &format!("coordinator = {address}"), &format!("coordinator = {wrong}"));
        let (code, said) = silo.ends(&["check"]);
        assert!(code == 2 && said.contains("`coordinator`") && said.contains("host:port"), "{wrong}: {code} {said}");
        assert!(said.contains("1 problem"), "what does not depend on it is tried too: {said}");
        silo.replace("silo.toml", &format!("coordinator = {wrong}"), &format!("coordinator = {address}"));
    }

    std::fs::create_dir(silo.path("state")).unwrap();
    std::fs::set_permissions(silo.path("state"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 7 && said.contains("chmod 700"), "{code} {said}");
    std::fs::set_permissions(silo.path("state"), std::fs::Permissions::from_mode(0o700)).unwrap();
    if std::os::unix::fs::chown(silo.path("state"), Some(12345), None).is_ok() {
        let (code, said) = silo.ends(&["check"]);
        assert!(code == 7 && said.contains("belongs to user 12345"), "{code} {said}");
    }
    std::fs::remove_dir(silo.path("state")).unwrap();

    // Where nobody can write, as root too: below a file.
    silo.replace("silo.toml", "output_dir = \"adapter\"", "output_dir = \"job.toml/adapter\"");
    for command in ["check", "run"] {
        let (code, said) = silo.ends(&[command]);
        assert!(code == 7 && said.contains("job.toml/adapter"), "{command}: {code} {said}");
    }
    assert!(!std::fs::exists(silo.path("ledger")).unwrap(), "nothing was spent");
    silo.replace("silo.toml", "job.toml/adapter", "adapter");

    // The ledger is opened for these very records; other ones are found before the start, however few.
    let (code, log) = silo.ends(&["run", "--connect-timeout-seconds", "1"]);
    assert!(code == 5, "{code} {log}");
    silo.replace("data/train.jsonl", "good", "bad");
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 6 && said.contains("does not hold the same rows"), "{code} {said}");
    silo.replace("data/train.jsonl", "bad", "  GOOD ");
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 0, "the same records, written otherwise: {code} {said}");
    silo.replace("data/train.jsonl", "  GOOD ", "good");
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 0 && said.contains("nothing adopted yet"), "{code} {said}");

    // Several problems at once, the code of the first.
    silo.replace("silo.toml", "device = \"cpu\"", "device = \"tpu\"");
    std::fs::rename(silo.path("model"), silo.path("away")).unwrap();
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 2 && said.contains("2 problems") && said.contains("not tried"), "{code} {said}");
}

#[test]
fn what_was_cut_is_said_by_check_and_in_the_log_of_every_start() {
    let silo = Silo::new();
    silo.replace("data/train.jsonl", "good film", &"good ".repeat(129));
    let said = "train.jsonl: 200 of 200 rows were cut to 128 tokens (the first in line 1)";
    let (code, log) = silo.ends(&["check"]);
    assert!(code == 0 && log.lines().any(|line| line.starts_with("note") && line.contains(said)), "{code} {log}");
    for start in ["first, which tokenises the rows", "second, which finds them"] {
        let (code, log) = silo.ends(&["run", "--connect-timeout-seconds", "1"]);
        assert!(code == 5 && log.lines().any(|line| line.contains(said)), "{start}: {code} {log}");
        assert!(silo.path("state/tokens-train").exists());
    }
}

#[test]
fn a_value_that_makes_no_sense_is_reported_where_it_stands() {
    let silo = Silo::new();
    for (from, to, key) in [
        ("rounds = 20", "rounds = 0", "rounds"),
        ("local_steps = 5", "local_steps = 0", "training.local_steps"),
        ("clip_norm = ", "clip_norm = -", "privacy.clip_norm"),
        ("value_bits = 16", "value_bits = 60", "aggregation.value_bits"),
        ("lora_alpha = ", "lora_alpha = -", "lora.lora_alpha"),
        ("federation = \"clinics\"", "federation = \"banks\"", "federation"),
        ("max_sequence_tokens = 128", "max_sequence_tokens = 4096", "model.max_sequence_tokens"),
    ] {
        silo.replace("job.toml", from, to);
        let text = std::fs::read_to_string(silo.path("job.toml")).unwrap();
        let line = 1 + text.lines().position(|line| line.contains(to)).unwrap();
        let (code, log) = silo.ends(&["run"]);
        let place = format!("job.toml:{line}: `{key}`");
        assert!(code == 2 && log.contains(&place), "{place}: {code} {log}");
        silo.replace("job.toml", to, from);
    }
    for (from, to) in [("max_epsilon = 8.0", "max_epsilon = inf"), ("max_delta = 1e-5", "max_delta = 1e300")] {
        silo.replace("silo.toml", from, to);
        for command in ["check", "run"] {
            let (code, log) = silo.ends(&[command]);
            let key = from.split(' ').next().unwrap();
            assert!(
                code == 2 && log.contains(&format!("policy.{key}")) && log.contains("limits nothing"),
                "{code} {log}"
            );
        }
        silo.replace("silo.toml", to, from);
    }
}

#[test]
fn held_out_rows_that_are_the_training_rows_are_refused() {
    let silo = Silo::new();
    let held_out = silo.path("data/validation.jsonl");
    for how in ["copy", "link", "symlink"] {
        std::fs::remove_file(&held_out).unwrap();
        let train = silo.path("data/train.jsonl");
        match how {
            "copy" => drop(std::fs::copy(&train, &held_out).unwrap()),
            "link" => std::fs::hard_link(&train, &held_out).unwrap(),
            _ => std::os::unix::fs::symlink(&train, &held_out).unwrap(),
        }
        let (code, log) = silo.ends(&["run"]);
        assert!(code == 3 && log.contains("validation.jsonl") && log.contains("train.jsonl"), "{how}: {code} {log}");
    }
    std::fs::remove_file(&held_out).unwrap();
    let row = "{\"label\": \"positive\", \"text\": \"good film 7\"}\n";
    std::fs::write(&held_out, format!("{{\"text\": \"film\", \"label\": \"positive\"}}\n{row}")).unwrap();
    let (code, log) = silo.ends(&["run"]);
    assert!(code == 3 && log.contains("1 of 2 held-out rows") && log.contains("row 2"), "{code} {log}");
    assert!(!silo.path("state").exists(), "nothing was written");
}

#[test]
fn the_folder_of_another_job_is_refused_before_anything_is_trained() {
    let silo = Silo::new();
    silo.replace("silo.toml", "# output_dir", "output_dir");
    let (code, log) = silo.ends(&["run", "--connect-timeout-seconds", "1"]);
    assert!(code == 5 && silo.path("adapter/job.json").exists(), "{code} {log}");
    silo.replace("job.toml", "name = \"sentiment\"", "name = \"another\"");
    silo.replace("silo.toml", "state_dir = \"state\"", "state_dir = \"state-of-the-second\"");
    for command in ["check", "run"] {
        let (code, log) = silo.ends(&[command]);
        assert!(code == 7 && log.contains("another folder"), "{command}: {code} {log}");
    }
    let debits = std::fs::read_to_string(silo.path("ledger/ledger.jsonl")).unwrap().matches("\"debit\"").count();
    assert_eq!(debits, 0, "nothing was spent");
    // Its state directory is another matter, with a remedy of its own.
    silo.replace("silo.toml", "output_dir = \"adapter\"", "output_dir = \"adapter-of-the-second\"");
    silo.replace("silo.toml", "state-of-the-second", "state");
    let (code, log) = silo.ends(&["run"]);
    assert!(matches!(code, 6 | 7) && log.contains("state_dir") && !log.contains("remove the file"), "{code} {log}");
}

/// As after a training that was debited and went out in attempt 1 of round 1; what was debited has `steps` steps.
fn took_part(silo: &Silo, steps: Option<u64>) {
    if let Some(steps) = steps {
        let mut ledger = Ledger::open(&silo.path("ledger"), OverJobs { max_epsilon: 8.0, delta: 1e-5 }).unwrap();
        let account = ledger.spendings()[0].account.clone();
        let rows = std::fs::read_to_string(silo.path("data/train.jsonl")).unwrap();
        let rows: Vec<serde_json::Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
        let persons = std::fs::read_to_string(silo.path("silo.toml")).unwrap().contains("\nunit_column");
        let persons = rows.iter().filter(|_| persons).map(|row| Identity::of_person(&row["patient"].to_string()));
        let records = rows.iter().map(|row| Identity::of_words([row["text"].as_str().unwrap()]));
        let number = ledger.admit(account, &persons.chain(records).collect::<Vec<_>>()).unwrap();
        ledger.debit(number, 1, 1, steps).unwrap();
        ledger.mark().write(&silo.path("state/ledger-mark.json")).unwrap();
    }
    let mut journal = JournalFile::open(&silo.path("state/journal")).unwrap().journal;
    let at = AttemptId { round: 1, attempt: 1 };
    for entry in [JournalEntry::Joined { at }, JournalEntry::Peers { marks: Vec::new() }, JournalEntry::Masked { at }] {
        journal.append(&codec::encode(&entry).unwrap()).unwrap();
    }
}

#[test]
fn a_ledger_that_is_gone_put_back_or_begun_anew_is_refused() {
    let silo = Silo::new();
    let (code, log) = silo.ends(&["run", "--connect-timeout-seconds", "1"]);
    assert!(code == 5, "{code} {log}");
    let whole = |name: &str| std::fs::read(silo.path(name)).unwrap();
    let (ledger, mark) = (silo.path("ledger/ledger.jsonl"), silo.path("state/ledger-mark.json"));
    let (before, head_before) = (whole("ledger/ledger.jsonl"), whole("ledger/head.json"));
    took_part(&silo, Some(5));
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 0 && said.contains("over all jobs"), "{code} {said}");
    let (after, head_after) = (whole("ledger/ledger.jsonl"), whole("ledger/head.json"));

    // The attacks: put an old copy back; also without the mark, which alone would tell; begin it anew, there or elsewhere.
    let refused = |words: &str| {
        for command in ["check", "run"] {
            let (code, said) = silo.ends(&[command]);
            assert!(code == 6 && said.contains(words), "{words}: {code} {said}");
        }
        let (code, said) = silo.ends(&["privacy-report"]);
        assert!(code == 6 && said.contains("no longer known") || said.contains("name the ledger_dir"), "{code} {said}");
    };
    std::fs::write(&ledger, &before).unwrap();
    refused("head.json remembers a line 4");
    std::fs::write(silo.path("ledger/head.json"), &head_before).unwrap();
    refused("ledger-mark.json remembers a line 4");
    let kept = whole("state/ledger-mark.json");
    std::fs::remove_file(&mark).unwrap();
    refused("of which it holds no debit");
    std::fs::write(&mark, &kept).unwrap();
    std::fs::rename(silo.path("ledger"), silo.path("away")).unwrap();
    refused("is not there");
    assert!(!silo.path("ledger").exists());
    Ledger::open(&silo.path("ledger"), OverJobs { max_epsilon: 8.0, delta: 1e-5 }).unwrap();
    refused("name the ledger_dir that it used before");
    std::fs::remove_dir_all(silo.path("ledger")).unwrap();
    silo.replace("silo.toml", "ledger_dir = \"ledger\"", "ledger_dir = \"elsewhere\"");
    refused("is not there");
    silo.replace("silo.toml", "ledger_dir = \"elsewhere\"", "ledger_dir = \"away\"");
    std::fs::write(silo.path("away/ledger.jsonl"), &after).unwrap();
    std::fs::write(silo.path("away/head.json"), &head_after).unwrap();
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 0, "moved as a whole it is the same: {code} {said}");
}

#[test]
fn a_second_job_on_the_same_records_is_charged_for_both() {
    let silo = Silo::new();
    let (code, log) = silo.ends(&["run", "--connect-timeout-seconds", "1"]);
    assert!(code == 5, "{code} {log}");
    took_part(&silo, Some(100));
    // Another job, another state directory, the rows in another format and order, one of them left out.
    let rows = std::fs::read_to_string(silo.path("data/train.jsonl")).unwrap();
    let mut csv = String::from("label,id,text\n");
    for row in rows.lines().skip(1).collect::<Vec<_>>().into_iter().rev() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        csv += &format!("{},7,\" {}\"\n", row["label"].as_str().unwrap(), row["text"].as_str().unwrap().to_uppercase());
    }
    std::fs::write(silo.path("data/train.csv"), csv).unwrap();
    silo.replace("silo.toml", "data/train.jsonl", "data/train.csv");
    silo.replace("silo.toml", "state_dir = \"state\"", "state_dir = \"state-2\"");
    silo.replace("job.toml", "name = \"sentiment\"", "name = \"another\"");
    for command in ["check", "run"] {
        let (code, said) = silo.ends(&[command]);
        assert!(code == 6 && said.contains("199 of 199 units are in other jobs too"), "{command}: {code} {said}");
        assert!(said.contains("limit of 8 (policy.max_epsilon") && said.contains("budget show"), "{said}");
    }
    assert!(!silo.path("state-2/journal").exists() || !silo.path("state-2/ledger-mark.json").exists());
    let (code, said) = silo.budget(&["show"]);
    assert!(code == 0 && said.contains("sentiment") && !said.contains("another"), "{said}");
    // The organisation decides that more may be spent.
    silo.replace("silo.toml", "max_epsilon = 8.0", "max_epsilon = 20.0");
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 0 && said.contains("over all jobs"), "{code} {said}");
}

#[test]
fn a_job_on_persons_and_one_on_their_rows_are_charged_for_both() {
    for persons_first in [true, false] {
        let silo = Silo::new();
        silo.give_rows_to_persons();
        silo.replace("job.toml", "rows_max_per_unit = 8", "rows_max_per_unit = 10");
        let keys =
            [("silo.toml", "unit_column"), ("job.toml", "unit = \"person\""), ("job.toml", "rows_max_per_unit = 10")];
        let protect = |persons: bool| {
            for (file, key) in keys {
                let (off, on) = (format!("\n# {key}"), format!("\n{key}"));
                if persons { silo.replace(file, &off, &on) } else { silo.replace(file, &on, &off) }
            }
        };
        if persons_first {
            protect(true);
        }
        let (code, log) = silo.ends(&["run", "--connect-timeout-seconds", "1"]);
        assert!(code == 5, "{code} {log}");
        took_part(&silo, Some(100));
        let (code, said) = silo.budget(&["who", "GOOD film 77"]);
        assert!(code == 0 && said.contains("may hold it in rounds 1,"), "{code} {said}");
        let (code, said) = silo.budget(&["who", "7"]);
        assert!(code == 0 && said.contains("may hold it in rounds 1,") == persons_first, "{code} {said}");
        // the same rows, with the other unit, in another state directory
        protect(!persons_first);
        silo.replace("silo.toml", "state_dir = \"state\"", "state_dir = \"state-2\"");
        let known =
            if persons_first { "(200 of 200 units are in other jobs" } else { "(200 of 220 persons and rows are" };
        for command in ["check", "run"] {
            let (code, said) = silo.ends(&[command]);
            assert!(code == 6 && said.contains(known) && said.contains("limit of 8"), "{command}: {code} {said}");
        }
        // other words of other persons are free
        for file in ["data/train.jsonl", "data/validation.jsonl"] {
            silo.replace(file, "film", "play");
            silo.replace(file, "\"patient\": ", "\"patient\": 100");
        }
        let (code, said) = silo.ends(&["check"]);
        assert!(code == 0, "{code} {said}");
    }
}

#[test]
fn the_budget_commands_say_what_was_spent_on_whom() {
    let silo = Silo::new();
    let (code, said) = silo.budget(&["show"]);
    assert!(code == 2 && said.contains("nothing was spent yet"), "{code} {said}");
    let (code, log) = silo.ends(&["run", "--connect-timeout-seconds", "1"]);
    assert!(code == 5, "{code} {log}");
    took_part(&silo, Some(5));
    let (code, said) = silo.budget(&["show"]);
    assert!(code == 0 && said.contains("training") && said.contains("200"), "{said}");
    let (code, said) = silo.budget(&["verify"]);
    assert!(code == 0 && said.contains("all that mark and journal know"), "{code} {said}");
    let (code, said) = silo.budget(&["forecast"]);
    assert!(code == 0 && said.contains("the 19 rounds to come fit"), "{code} {said}");
    let rows = std::fs::read_to_string(silo.path("data/train.jsonl")).unwrap();
    let row: serde_json::Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    let text = format!("  {}\n", row["text"].as_str().unwrap().to_uppercase());
    let (code, said) = silo.budget(&["who", &text]);
    assert!(code == 0 && said.contains("may hold it in rounds 1,") && said.contains("sentiment"), "{code} {said}");
    let (code, said) = silo.budget(&["who", "somebody else"]);
    assert!(code == 0 && said.contains("no job in this ledger"), "{code} {said}");
    let (code, said) = silo.budget(&["who", rows.lines().next().unwrap()]);
    assert!(code == 0 && said.contains("by its text alone"), "{code} {said}");
    let (code, said) = silo.budget(&["who", " "]);
    assert!(code == 2 && said.contains("blank"), "{code} {said}");
    silo.replace("ledger/ledger.jsonl", "\"steps\":5,", "\"steps\":1,");
    let (code, said) = silo.budget(&["verify"]);
    assert!(code == 6 && said.contains("line 4") && said.contains("does not follow"), "{code} {said}");
}

#[test]
fn the_officers_report_says_what_was_spent_and_touches_nothing() {
    let silo = Silo::new();
    let report = |format: &str| silo.ends(&["privacy-report", "--format", format]);
    let (code, said) = report("text");
    assert!(code == 0 && said.contains("one row of the training file"), "{code} {said}");
    assert!(!silo.path("state").exists() && !silo.path("ledger").exists());
    let (code, log) = silo.ends(&["run", "--connect-timeout-seconds", "1"]);
    assert!(code == 5, "{code} {log}");
    took_part(&silo, Some(5));
    let ledger = silo.path("ledger/ledger.jsonl");
    let before = std::fs::read_to_string(&ledger).unwrap();

    let (code, said) = report("json");
    let json: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!(code, 0);
    assert_eq!((&json["protected"]["units"], &json["spent"]["debits"]), (&200.into(), &1.into()));
    let epsilon = |key: &str| json["spent"][key].as_f64().unwrap();
    assert!(epsilon("epsilon_job") > 5.9 && epsilon("epsilon_job") <= 6.0, "{json}");
    // All of it by the accountant, not as the ledger's line says.
    let spent = blindsum_privacy::spent(0.04174, 0.73525, 5, 1e-5);
    assert!((epsilon("epsilon_spent") - spent).abs() < 1e-9 && spent > 1.0, "{json}");
    assert!(epsilon("epsilon_spent_rdp") > spent && epsilon("epsilon_job_rdp") > 6.0, "{json}");
    let group = |key: &str| json["groups"][key].as_f64().unwrap();
    assert!(epsilon("epsilon_job") < group("epsilon_2") && group("epsilon_2") < group("epsilon_5"), "{json}");
    let (code, page) = report("html");
    assert!(code == 0 && page.contains("</html>") && !page.contains("<script"), "{page}");
    assert_eq!(std::fs::read_to_string(&ledger).unwrap(), before);

    silo.replace("job.toml", "name = \"sentiment\"", "name = \"another\"");
    let (code, said) = report("text");
    assert!(code == 2 && said.contains("is of job") && said.contains("state_dir"), "{code} {said}");
}

#[test]
fn persons_are_counted_where_the_job_protects_them() {
    let silo = Silo::new();
    silo.replace("silo.toml", "# unit_column", "unit_column");
    for command in ["check", "run"] {
        let (code, said) = silo.ends(&[command]);
        assert!(code == 2 && said.contains("data.unit_column") && said.contains("leave it out"), "{code} {said}");
    }
    for key in ["unit = \"person\"", "rows_max_per_unit = 8"] {
        silo.replace("job.toml", &format!("# {key}"), key);
    }
    silo.give_rows_to_persons();
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 0 && said.contains("160 of 20 persons for training, 16 held out"), "{code} {said}");
    assert!(said.contains("train.jsonl: 40 of 200 rows are left out"), "{said}");
    let (code, said) = silo.ends(&["privacy-report", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
    let protected = &json["protected"];
    assert_eq!((code, &protected["privacy_unit"]), (0, &"one person with all its rows".into()));
    assert_eq!((&protected["unit_column"], &protected["rows_max_per_unit"]), (&"patient".into(), &8.into()));
    assert!(protected["adjacency"].as_str().unwrap().contains("one person with all its rows more"), "{json}");
    let (code, said) = silo.ends(&["privacy-report"]);
    assert!(
        code == 0
            && said.contains("What this job spends on each person")
            && said.contains("person by person")
            && said.contains("not for a person's rows together"),
        "{said}"
    );

    // half of the persons, the same each time
    silo.replace("silo.toml", "# train_share", "train_share");
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 0 && said.contains("of 200 rows are not brought in, as data.train_share says"), "{code} {said}");
    let persons = |said: &str| {
        said.split(" persons for training").next().unwrap().rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    assert!((1..20).contains(&persons(&said)), "{said}");
    assert_eq!(persons(&silo.ends(&["check"]).1), persons(&said));
    silo.replace("silo.toml", "train_share", "# train_share");

    silo.replace("silo.toml", "unit_column = \"patient\"", "# none");
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 2 && said.contains("data.unit_column") && said.contains("is missing"), "{code} {said}");
    silo.replace("silo.toml", "# none", "unit_column = \"label\"");
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 3 && said.contains("1 of 1 persons with held-out rows have rows in the training file"), "{said}");
}

#[test]
fn what_is_said_into_a_full_disk_is_no_success() {
    let silo = Silo::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_blindsum-silo"));
    let output = program.args(["hashes", "--model"]).arg(silo.path("model")).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"), "{output:?}");
    // A log that cannot be written ends nothing, and the code of a fatal error stays its own.
    silo.replace("silo.toml", "max_epsilon = 8.0", "max_epsilon = 1.0");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = silo.command(&["run"]).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(6));
}

#[test]
fn folders_that_get_mixed_are_refused() {
    let silo = Silo::new();
    silo.replace("silo.toml", "# output_dir = \"adapter\"", "output_dir = \"model\"");
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 2 && said.contains("`output_dir`") && said.contains("`model_dir`"), "{code} {said}");
    silo.replace("silo.toml", "output_dir = \"model\"", "output_dir = \"adapter\"");
    let pipe = silo.path("data/pipe.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    silo.replace("silo.toml", "data/train.jsonl", "data/pipe.jsonl");
    let (code, said) = silo.ends(&["check"]);
    assert!(code == 3 && said.contains("pipe.jsonl"), "nobody waits for a pipe: {code} {said}");
}

#[test]
fn a_fatal_error_is_heard_whatever_the_log_level_and_a_bad_level_is_an_error() {
    let silo = Silo::new();
    let (code, log) = silo.ends(&["run", "--log-level", "warning"]);
    assert!(code == 2 && log.contains("--log-level: `warning`") && log.contains("warn,"), "{code} {log}");
    silo.replace("silo.toml", "max_epsilon = 8.0", "max_epsilon = 1.0");
    for level in ["off", "error", "blindsum_protocol=error"] {
        let (code, log) = silo.ends(&["run", "--log-level", level]);
        assert!(code == 6 && log.contains("policy.max_epsilon"), "{level}: {code} {log}");
    }
}

#[test]
fn a_hang_up_stops_it_in_order() {
    let silo = Silo::new();
    let mut child = silo.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(log.any(|line| line.contains("\"event\":\"engine\"")), "{:?}", child.wait());
    assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = log.collect();
    assert_eq!(child.wait().unwrap().code(), Some(129), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("\"event\":\"stopping\"")), "{rest:?}");
}

#[test]
fn a_silo_that_waits_says_for_what() {
    let silo = Silo::new();
    let mut child = silo.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = log.find(|line| line.contains("\"event\":\"waiting_for\"")).unwrap();
    assert!(line.contains("no connection to localhost:"), "{line}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    child.kill().unwrap();
    child.wait().unwrap();
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

    // The ledger is opened for these very records.
    silo.replace("data/train.jsonl", "good", "bad");
    let (code, log) = silo.ends(&["run", "--connect-timeout-seconds", "1"]);
    assert!(code == 6 && log.contains("does not hold the same rows"), "{code} {log}");
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
    silo.replace("job.toml", "noise_multiplier = ", "noise_multiplier = 5");
    silo.replace("job.toml", "rounds = 20", "rounds = 1");
    let (plan, mut listener) = silo.coordinator(&silo);
    let mut child = silo.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut connection = listener.accept().await.unwrap().unwrap();
    assert!(matches!(connection.recv().await.unwrap().message, SiloMessage::Hello(_)));
    let at = AttemptId { round: 1, attempt: 1 };
    let context = plan.context(at, RoundKind::TrainB, plan.job_digest(), plan.model_hash(&plan.initial_global()));
    let open = CoordinatorMessage::Open(Open { context, abandoned: Vec::new() });
    connection.send(Envelope::bare(open)).await.unwrap();

    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let training = log.any(|line| line.contains("\"event\":\"training\""));
    assert!(training, "it ended before it trained: {:?}", child.wait());
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = log.collect();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("\"event\":\"stopping\"")), "{rest:?}");
    let ledger = std::fs::read_to_string(silo.path("ledger/ledger.jsonl")).unwrap();
    assert!(ledger.contains("\"debit\"") && ledger.contains("10000"), "what was begun is charged: {ledger}");
}
