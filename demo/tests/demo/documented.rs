//! The documented commands, literally, with the shipped programs: whoever types them gets a federation and its adapter.
//!
//! Adapted are the host's name, which resolves on no machine of a test, and what people write by hand: the configuration
//! files, after the samples, and a job of two rounds.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use blindsum_crypto::sha256;
use blindsum_testkit::documented::{Machines, OPERATIONS, SECTION, Step, blocks, steps};
use blindsum_testkit::models::{TINY_CONFIG, tiny_tensors, write_model};

const SILOS: [&str; 4] = ["clinic-a", "clinic-b", "clinic-c", "clinic-d"];
const HOST: &str = "coordinator.example.org";
const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "good": 1, "bad": 2, "film": 3}, "unk_token": "[UNK]"}}"#;
const PATIENCE: Duration = Duration::from_secs(300);

/// The folder of the programs, where all of them are: a build of the workspace puts them beside its tests.
fn programs() -> Option<PathBuf> {
    let folder = std::env::current_exe().unwrap().parent()?.parent()?.to_owned();
    let all = ["certs", "coordinator", "silo"].iter().all(|name| folder.join(format!("blindsum-{name}")).exists());
    if !all {
        assert!(std::env::var_os("BLINDSUM_NO_SKIP").is_none(), "the programs are not in {}", folder.display());
        eprintln!("SKIPPED: the programs are not in {}; `make build` puts them there", folder.display());
    }
    all.then_some(folder)
}

fn model(folder: &Path) {
    let dir = folder.join("model");
    std::fs::create_dir_all(&dir).unwrap();
    write_model(&dir, TINY_CONFIG, &tiny_tensors());
    std::fs::write(dir.join("tokenizer.json"), TOKENIZER).unwrap();
}

/// The sample job for two rounds on the tiny model.
fn job(model: &Path) -> String {
    let mut job = include_str!("../../../protocol/job.sample.toml")
        .replace("examples = 96", "examples = 8")
        .replace("rounds = 20", "rounds = 2");
    for (key, file) in [
        ("config_sha256", "config.json"),
        ("weights_sha256", "model.safetensors"),
        ("tokenizer_sha256", "tokenizer.json"),
    ] {
        let hash = sha256(&std::fs::read(model.join(file)).unwrap());
        let line = job.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap().to_owned();
        job = job.replace(&line, &format!("{key} = \"{hash}\""));
    }
    job
}

/// What people write by hand.
fn write_configuration(machines: &Machines) {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let coordinator = machines.folder("coordinator");
    model(&coordinator);
    let job = job(&coordinator.join("model"));
    let config = include_str!("../../../coordinator/coordinator.sample.toml");
    std::fs::write(coordinator.join("coordinator.toml"), config.replace("0.0.0.0:4433", &format!("127.0.0.1:{port}")))
        .unwrap();
    std::fs::write(coordinator.join("job.toml"), &job).unwrap();
    for silo in SILOS {
        let folder = machines.folder(silo);
        model(&folder);
        std::fs::create_dir(folder.join("data")).unwrap();
        let rows = |more: &str, count: usize| -> String {
            let row = |i: usize| {
                let (word, label) = if i.is_multiple_of(2) { ("good", "positive") } else { ("bad", "negative") };
                format!("{{\"text\": \"{more}{word} film\", \"label\": \"{label}\"}}\n")
            };
            (0..count).map(row).collect()
        };
        std::fs::write(folder.join("data/train.jsonl"), rows("", 200)).unwrap();
        std::fs::write(folder.join("data/validation.jsonl"), rows("film ", 20)).unwrap();
        std::fs::write(folder.join("job.toml"), &job).unwrap();
        let config = include_str!("../../../silo/silo.sample.toml")
            .replace("clinic-a", silo)
            .replace(&format!("{HOST}:4433"), &format!("localhost:{port}"))
            .replace("# threads = 2", "threads = 1");
        std::fs::write(folder.join("silo.toml"), config).unwrap();
    }
}

/// Kills what still runs.
struct Services(Vec<(String, Child)>);

impl Drop for Services {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Machines with a folder each, and what is documented for them.
fn documented(programs: &Path) -> (Machines, Vec<Step>) {
    let machines = Machines::new(programs);
    for machine in ["authority", "coordinator"].iter().chain(&SILOS) {
        machines.folder(machine);
    }
    let block = blocks(OPERATIONS, SECTION)[0].replace(HOST, "localhost");
    (machines, steps(&block, &SILOS))
}

#[test]
fn whoever_types_the_documented_commands_gets_a_federation() {
    let Some(programs) = programs() else { return };
    let (machines, steps) = documented(&programs);
    let mut services = Services(Vec::new());
    let mut written = false;
    for step in steps {
        let is_service = step.line.starts_with("blindsum-silo") || step.line.starts_with("blindsum-coordinator");
        if is_service && !written {
            write_configuration(&machines);
            written = true;
        }
        match step.line.contains(" run ") {
            true => services.0.push((step.machine.clone(), start(&machines, &step))),
            false => drop(machines.type_in(&step)),
        }
    }
    assert_eq!(services.0.len(), 1 + SILOS.len());

    let deadline = Instant::now() + PATIENCE;
    for (machine, child) in &mut services.0 {
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{machine} still runs:\n{}", log(&machines, machine));
            std::thread::sleep(Duration::from_millis(100));
        };
        assert!(status.success(), "{machine} ended with {status}:\n{}", log(&machines, machine));
    }
    let output = machines.folder("coordinator").join("adapter");
    let history = std::fs::read_to_string(output.join("history.jsonl")).unwrap();
    assert_eq!(history.lines().count(), 3, "two rounds and the closing measurement");
    for file in ["last/adapter_model.safetensors", "last/adapter_config.json", "last/tokenizer.json", "job.json"] {
        assert!(output.join(file).exists(), "{file}");
    }
    let said = log(&machines, "coordinator");
    assert!(said.contains("round 2 of 2 completed") && said.contains("the closing measurement completed"), "{said}");
}

#[test]
fn after_a_loss_both_sides_say_again_for_whom_they_wait() {
    let Some(programs) = programs() else { return };
    let (machines, steps) = documented(&programs);
    for step in steps.iter().filter(|step| !step.line.contains(" check ") && !step.line.contains(" run ")) {
        machines.type_in(step);
    }
    write_configuration(&machines);
    let run = |machine: &str| {
        let step = steps.iter().find(|step| step.machine == machine && step.line.contains(" run ")).unwrap();
        (machine.to_owned(), start(&machines, step))
    };
    let mut services = Services(vec![run("coordinator"), run("clinic-a")]);
    says(&machines, "coordinator", "1 of 4 silos are here (clinic-a); not connected: clinic-b, clinic-c, clinic-d");
    stop(&mut services.0[1].1);
    says(&machines, "coordinator", "0 of 4 silos are here; not connected: clinic-a, clinic-b");

    services.0[1] = run("clinic-a");
    says(&machines, "clinic-a", "connected to ");
    stop(&mut services.0[0].1);
    says(&machines, "clinic-a", "the connection to the coordinator is lost; dialling again, for ");
}

/// Stops a service as an operator does.
fn stop(child: &mut Child) {
    assert!(std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap();
}

/// Waits until a machine's log has these words.
fn says(machines: &Machines, machine: &str, words: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !log(machines, machine).contains(words) {
        assert!(Instant::now() < deadline, "{machine} does not say {words:?}:\n{}", log(machines, machine));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Starts a service as a line says, its log in its folder.
fn start(machines: &Machines, step: &Step) -> Child {
    let log = std::fs::File::create(machines.folder(&step.machine).join("log")).unwrap();
    let mut shell = machines.shell(&Step { line: format!("exec {}", step.line), ..step.clone() });
    shell.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn log(machines: &Machines, machine: &str) -> String {
    std::fs::read_to_string(machines.folder(machine).join("log")).unwrap_or_default()
}
