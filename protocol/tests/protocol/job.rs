//! The job file: read, checked, named where it is wrong.

use blindsum_adapter::ServerStep;
use blindsum_adapter::training::{PrivacyUnit, Protection};
use blindsum_protocol::Job;

const TEXT: &str = r#"
schema = 1
name = "sentiment"
federation = "wards"
rounds = 20
[model]
config_sha256 = "abababababababababababababababababababababababababababababababab"
weights_sha256 = "abababababababababababababababababababababababababababababababab"
tokenizer_sha256 = "abababababababababababababababababababababababababababababababab"
labels = ["negative", "positive"]
max_sequence_tokens = 128
[lora]
method = "ffa-lora"
r = 8
lora_alpha = 16.0
seed = 7
[training]
local_steps = 5
expected_batch_examples = 96
optimizer = "sgd"
learning_rate = 16.0
[privacy]
mode = "record-dp"
sampling_rate = 0.05
noise_multiplier = 2.0
clip_norm = 0.5
batch_max = 512
epsilon = 6.0
delta = 1e-5
[aggregation]
value_bits = 16
metrics = "held-out"
[deadlines]
training_seconds = 600
phase_seconds = 30
"#;

fn read(change: &[(&str, &str)]) -> Result<Job, String> {
    let mut text = TEXT.to_owned();
    for (from, to) in change {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    toml::from_str(&text).map_err(|e| e.to_string())
}

#[test]
fn a_job_survives_its_own_text_with_the_same_digest() {
    let job = read(&[]).unwrap();
    assert!(job.is_private());
    let again: Job = toml::from_str(&toml::to_string(&job).unwrap()).unwrap();
    assert_eq!((job.digest(), &job), (again.digest(), &again));
}

#[test]
fn sa02_every_changed_value_changes_the_digest() {
    let mut seen = std::collections::BTreeSet::from([read(&[]).unwrap().digest().to_string()]);
    for change in [
        ("rounds = 20", "rounds = 21"),
        ("name = \"sentiment\"", "name = \"sentiments\""),
        ("[\"negative\", \"positive\"]", "[\"positive\", \"negative\"]"),
        ("seed = 7", "seed = 8"),
        ("learning_rate = 16.0", "learning_rate = 16.000001"),
        ("clip_norm = 0.5", "clip_norm = 0.25"),
        ("sampling_rate = 0.05", "sampling_rate = 0.050001"),
        ("batch_max = 512", "batch_max = 513"),
        ("batch_max = 512", "batch_max = 512\nunit = \"person\"\nrows_max_per_unit = 8"),
        ("batch_max = 512", "batch_max = 512\nunit = \"person\"\nrows_max_per_unit = 9"),
        ("noise_multiplier = 2.0", "noise_multiplier = 2.000001"),
        ("metrics = \"held-out\"", "metrics = \"off\""),
        ("metrics = \"held-out\"", "metrics = \"held-out\"\nmax_colluders = 1"),
        ("phase_seconds = 30", "phase_seconds = 31"),
        ("phase_seconds = 30", "phase_seconds = 30\nrelease_seconds = 60"),
        ("epsilon = 6.0", "epsilon = 6.0\nspare_rounds = 2"),
        ("seed = 7", "seed = 7\nrefresh_rounds = 5"),
        ("\"ffa-lora\"", "\"rolora\""),
        ("learning_rate = 16.0", "learning_rate = 16.0\nlearning_rate_schedule = \"cosine\""),
        ("learning_rate = 16.0", "learning_rate = 16.0\nwarmup_rounds = 5"),
        ("[deadlines]", "[server]\noptimizer = \"fedavgm\"\n[deadlines]"),
        ("[deadlines]", "[server]\noptimizer = \"fedadam\"\nbeta1 = 0.9\n[deadlines]"),
        ("[deadlines]", "[server]\noptimizer = \"fedadam\"\nbeta2 = 0.9\n[deadlines]"),
    ] {
        assert!(seen.insert(read(&[change]).unwrap().digest().to_string()), "{change:?}");
    }
}

#[test]
fn a_key_at_its_default_makes_no_other_job() {
    let base = read(&[]).unwrap();
    let spelt = read(&[
        ("learning_rate = 16.0", "learning_rate = 16.0\nlearning_rate_schedule = \"constant\"\nwarmup_rounds = 0"),
        ("mode = \"record-dp\"", "mode = \"record-dp\"\nunit = \"record\""),
        ("[deadlines]", "[server]\noptimizer = \"fedavg\"\n[deadlines]"),
    ]);
    assert_eq!(spelt.unwrap().digest(), base.digest());
}

/// Every optional key of the sample file that belongs to its job, as it stands there.
#[test]
fn the_sample_files_optional_keys_are_keys() {
    let sample = include_str!("../../job.sample.toml");
    let mut text = sample.to_owned();
    for line in [
        "refresh_rounds = 10",
        "learning_rate_schedule = \"cosine\"",
        "warmup_rounds = 2",
        "unit = \"person\"",
        "rows_max_per_unit = 8",
        "[server]",
        "optimizer = \"fedadam\"",
        "learning_rate = 0.01",
        "beta1 = 0.9",
        "beta2 = 0.99",
        "tau = 0.001",
    ] {
        let commented = format!("\n# {line}\n");
        assert!(text.contains(&commented), "{line}");
        text = text.replacen(&commented, &format!("\n{line}\n"), 1);
    }
    let (plain, all): (Job, Job) = (toml::from_str(sample).unwrap(), toml::from_str(&text).unwrap());
    assert_eq!(plain.server_step(), ServerStep::FedAvg);
    let defaults = ServerStep::FedAdam { learning_rate: 0.01, beta1: 0.9, beta2: 0.99, tau: 0.001 };
    assert_eq!((all.server_step(), all.lora.refresh_rounds, all.training.warmup_rounds), (defaults, Some(10), 2));
    let Protection::RecordDp { unit, .. } = all.protection() else { panic!("{:?}", all.protection()) };
    assert_eq!(unit, PrivacyUnit::Person { rows_max: 8 });
}

#[test]
fn the_keys_of_each_server_optimizer_have_defaults() {
    let server =
        |text: &str| read(&[("[deadlines]", &format!("[server]\n{text}\n[deadlines]"))]).unwrap().server_step();
    assert_eq!(read(&[]).unwrap().server_step(), ServerStep::FedAvg);
    let momentum = ServerStep::FedAvgM { learning_rate: 1.0, momentum: 0.9 };
    assert_eq!(server("optimizer = \"fedavgm\""), momentum);
    let adam = |learning_rate, beta1, tau| ServerStep::FedAdam { learning_rate, beta1, beta2: 0.99, tau };
    assert_eq!(server("optimizer = \"fedadam\""), adam(0.01, 0.9, 0.001));
    assert_eq!(server("optimizer = \"fedadam\"\nlearning_rate = 0.1\nbeta1 = 0.0\ntau = 1.0"), adam(0.1, 0.0, 1.0));
}

#[test]
fn a_job_with_every_optional_key_survives_its_own_text() {
    let job = read(&[
        ("seed = 7", "seed = 7\nrefresh_rounds = 5"),
        ("learning_rate = 16.0", "learning_rate = 16.0\nlearning_rate_schedule = \"linear\"\nwarmup_rounds = 3"),
        ("[deadlines]", "[server]\noptimizer = \"fedadam\"\ntau = 0.01\n[deadlines]"),
    ]);
    let job = job.unwrap();
    let again: Job = toml::from_str(&toml::to_string(&job).unwrap()).unwrap();
    assert_eq!((job.digest(), &job), (again.digest(), &again));
    assert_eq!((job.learning_rate().at(4), job.learning_rate().at(20)), (16.0, 16.0 * (1.0 - 16.0 / 17.0)));
}

#[test]
fn a_wrong_value_is_named_with_its_remedy() {
    for (from, to, key, remedy) in [
        ("schema = 1", "schema = 2", "`schema`", "schema = 1"),
        ("rounds = 20", "rounds = 0", "`rounds`", "1 to 10000"),
        ("\"wards\"", "\"The Wards\"", "`federation`", "lower-case"),
        ("abababab", "ABABABAB", "config_sha256", "sha256sum"),
        ("[\"negative\", \"positive\"]", "[\"a\", \"a\"]", "model.labels", "once"),
        ("[\"negative\", \"positive\"]", "[\"a\"]", "model.labels", "2 to 1,000"),
        ("local_steps = 5", "local_steps = 0", "training.local_steps", "1 to"),
        ("learning_rate = 16.0", "learning_rate = -1.0", "training.learning_rate", "above 0"),
        ("learning_rate = 16.0", "learning_rate = nan", "training.learning_rate", "above 0"),
        ("learning_rate = 16.0", "learning_rate = 1.0\nmax_grad_norm = 1.0", "training.max_grad_norm", "remove"),
        ("epsilon = 6.0\n", "", "privacy.epsilon", "record-dp"),
        ("sampling_rate = 0.05\n", "", "privacy.sampling_rate", "blindsum-silo plan"),
        ("sampling_rate = 0.05", "sampling_rate = 1.5", "privacy.sampling_rate", "at most 1"),
        ("noise_multiplier = 2.0", "noise_multiplier = 0.0", "privacy.noise_multiplier", "above 0"),
        ("noise_multiplier = 2.0", "noise_multiplier = 65.0", "privacy.noise_multiplier", "at most 64"),
        ("batch_max = 512\n", "", "privacy.batch_max", "blindsum-silo plan"),
        ("batch_max = 512", "batch_max = 0", "privacy.batch_max", "1 to"),
        ("delta = 1e-5", "delta = 1.0", "privacy.delta", "below"),
        ("mode = \"record-dp\"", "mode = \"none\"", "privacy.sampling_rate", "remove it"),
        ("epsilon = 6.0", "epsilon = 6.0\nspare_rounds = 10001", "privacy.spare_rounds", "0 to"),
        (
            "epsilon = 6.0",
            "epsilon = 6.0\nunit = \"person\"",
            "privacy.rows_max_per_unit",
            "how many rows of one person",
        ),
        ("epsilon = 6.0", "epsilon = 6.0\nrows_max_per_unit = 8", "privacy.rows_max_per_unit", "unit = \"person\""),
        (
            "epsilon = 6.0",
            "epsilon = 6.0\nunit = \"person\"\nrows_max_per_unit = 0",
            "privacy.rows_max_per_unit",
            "1 to 10000",
        ),
        ("epsilon = 6.0", "epsilon = 6.0\nunit = \"patient\"", "patient", "`record` or `person`"),
        ("value_bits = 16", "value_bits = 25", "aggregation.value_bits", "2 to 24"),
        ("phase_seconds = 30", "phase_seconds = 0", "deadlines.phase_seconds", "1 to 3600"),
        ("phase_seconds = 30", "phase_seconds = 30\nrelease_seconds = 601", "deadlines.release_seconds", "1 to 600"),
        (
            "learning_rate = 16.0",
            "learning_rate = 1.0\nwarmup_rounds = 20",
            "training.warmup_rounds",
            "fewer than the 20",
        ),
        ("[deadlines]", "[server]\nlearning_rate = 1.0\n[deadlines]", "server.learning_rate", "remove it"),
        ("[deadlines]", "[server]\nmomentum = 0.5\n[deadlines]", "server.momentum", "fedavgm"),
        ("[deadlines]", "[server]\ntau = 0.5\n[deadlines]", "server.tau", "fedadam"),
        ("[deadlines]", "[server]\noptimizer = \"fedavgm\"\nbeta1 = 0.5\n[deadlines]", "server.beta1", "fedadam"),
        ("[deadlines]", "[server]\noptimizer = \"fedavgm\"\nbeta2 = 0.5\n[deadlines]", "server.beta2", "fedadam"),
        ("[deadlines]", "[server]\noptimizer = \"fedavgm\"\nmomentum = 1.0\n[deadlines]", "server.momentum", "below 1"),
        (
            "[deadlines]",
            "[server]\noptimizer = \"fedadam\"\nmomentum = 0.5\n[deadlines]",
            "server.momentum",
            "remove it",
        ),
        (
            "[deadlines]",
            "[server]\noptimizer = \"fedadam\"\nlearning_rate = 0.0\n[deadlines]",
            "server.learning_rate",
            "above 0",
        ),
        ("[deadlines]", "[server]\noptimizer = \"fedadam\"\nbeta2 = nan\n[deadlines]", "server.beta2", "below 1"),
        ("[deadlines]", "[server]\noptimizer = \"fedadam\"\ntau = 0.0\n[deadlines]", "server.tau", "1e-12 to 1"),
    ] {
        let error = read(&[(from, to)]).unwrap_err();
        assert!(error.contains(key) && error.contains(remedy), "{to}: {error}");
    }
}

#[test]
fn without_privacy_there_are_no_persons() {
    let keys = ["sampling_rate = 0.05", "noise_multiplier = 2.0", "clip_norm = 0.5", "batch_max = 512"];
    let removed = keys.into_iter().chain(["epsilon = 6.0", "delta = 1e-5"]).map(|key| (key, ""));
    let none = [("learning_rate = 16.0", "learning_rate = 16.0\nmax_grad_norm = 1.0")].into_iter().chain(removed);
    let with = |mode| read(&none.clone().chain([("mode = \"record-dp\"", mode)]).collect::<Vec<_>>());
    assert!(!with("mode = \"none\"").unwrap().is_private());
    let error = with("mode = \"none\"\nunit = \"person\"\nrows_max_per_unit = 3").unwrap_err();
    assert!(error.contains("privacy.unit") && error.contains("record-dp"), "{error}");
    let error = with("mode = \"none\"\nrows_max_per_unit = 3").unwrap_err();
    assert!(error.contains("privacy.rows_max_per_unit") && error.contains("remove it"), "{error}");
}

#[test]
fn spare_rounds_are_charged_besides_the_rounds() {
    assert_eq!(read(&[]).unwrap().charged_rounds(), 20);
    assert_eq!(read(&[("epsilon = 6.0", "epsilon = 6.0\nspare_rounds = 2")]).unwrap().charged_rounds(), 22);
}

#[test]
fn unknown_keys_are_refused_in_every_table() {
    for table in ["[model]", "[lora]", "[training]", "[privacy]", "[aggregation]", "[deadlines]", "[server]"] {
        let last = ("phase_seconds = 30", "phase_seconds = 30\n[server]\noptimizer = \"fedavg\"");
        let error = read(&[last, (table, &format!("{table}\nsurprise = 1"))]).unwrap_err();
        assert!(error.contains("surprise"), "{table}: {error}");
    }
    assert!(read(&[("schema = 1", "schema = 1\nsurprise = 1")]).unwrap_err().contains("surprise"));
}
