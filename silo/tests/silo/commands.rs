//! The program's commands that need no federation, as a person would type them: train, evaluate, predict.

use std::path::Path;
use std::process::{Command, Output};

use blindsum_adapter::Family;
use blindsum_engine::model::ModelDir;
use blindsum_testkit::models::{family_tensors, tiny_config, uniform, write_model, write_tokenizer};

/// A word that stands in bad rows and must never be shown.
const SECRET: &str = "xylophone";

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// A tiny model with tokenizer, rows of two kinds of sentences, and a job on them.
    fn new(privacy: &str) -> Self {
        Place::of(Family::Bert, privacy)
    }

    fn of(family: Family, privacy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path(), tiny_config(family), &family_tensors(family));
        write_tokenizer(dir.path(), true);
        let place = Place { dir };
        place.write("train.jsonl", &rows(400, 1));
        place.write("test.jsonl", &rows(100, 2));
        place.write("job.toml", &place.job(privacy));
        place
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.dir.path().join(name), content).unwrap();
    }

    fn job(&self, privacy: &str) -> String {
        let hashes = ModelDir::open(self.dir.path()).unwrap().hashes().unwrap();
        let bound = if privacy.contains("none") { "max_grad_norm = 1.0" } else { "" };
        format!(
            "schema = 1\nname = \"toy\"\nfederation = \"test\"\nrounds = 4\n[model]\nconfig_sha256 = \"{}\"\n\
             weights_sha256 = \"{}\"\ntokenizer_sha256 = \"{}\"\nlabels = [\"down\", \"up\"]\nmax_sequence_tokens = 32\n\
             [lora]\nmethod = \"ffa-lora\"\nr = 4\nlora_alpha = 8.0\nseed = 3\nhead = \"trained\"\n[training]\n\
             local_steps = 30\nexpected_batch_examples = 40\noptimizer = \"sgd\"\nlearning_rate = 1.0\n{bound}\n\
             [privacy]\n{privacy}\n[aggregation]\nvalue_bits = 16\nmetrics = \"held-out\"\n[deadlines]\n\
             training_seconds = 60\nphase_seconds = 10\n",
            hex::encode(hashes.config),
            hex::encode(hashes.weights),
            hex::encode(hashes.tokenizer)
        )
    }

    fn run(&self, line: &str) -> Output {
        let program = env!("CARGO_BIN_EXE_blindsum-silo");
        let mut command = Command::new(program);
        command.args(line.split(' ')).current_dir(self.dir.path()).env("RUST_LOG", "trace").output().unwrap()
    }

    /// Standard output of a command that succeeds.
    fn good(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a command that ends with `code`: one line of ours, without the secret.
    fn bad(&self, line: &str, code: i32, words: &[&str]) {
        let output = self.run(line);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {error}");
        assert!(error.starts_with("blindsum-silo: ") && error.lines().count() == 1, "{error}");
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
        let all = format!("{error}{}", String::from_utf8_lossy(&output.stdout)).to_lowercase();
        assert!(!all.contains(SECRET), "{all}");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }
}

/// Sentences of noise words with one word of feeling.
fn rows(count: usize, stream: u32) -> String {
    let mut draw = uniform(stream, 20 * count).into_iter().map(|u| ((u + 1.0) * 50.0) as usize);
    let mut next = move || draw.next().unwrap();
    let row = |k: usize| {
        let (word, label) = if k.is_multiple_of(2) { ("good", "up") } else { ("bad", "down") };
        let noise: Vec<String> = (0..3 + next() % 8).map(|_| format!("w{}", next())).collect();
        format!("{{\"text\": \"{} {word} {}\", \"label\": \"{label}\"}}\n", noise[0], noise[1..].join(" "))
    };
    (0..count).map(row).collect()
}

const NONE: &str = "mode = \"none\"";
const DP: &str = "mode = \"record-dp\"\nsampling_rate = 0.1\nnoise_multiplier = 0.90257\nclip_norm = 1.0\nbatch_max = 250\nepsilon = 8.0\ndelta = 1e-4";
const TRAIN: &str = "train --job job.toml --model . --data-train train.jsonl --data-validation test.jsonl --out adapter \
                     --ledger-dir ledger --threads 1";

fn number_after(text: &str, words: &str) -> f64 {
    let rest = text.split(words).nth(1).unwrap_or_else(|| panic!("no {words:?} in {text}"));
    rest.trim_start().split([' ', '\n', ',']).next().unwrap().parse().unwrap()
}

#[test]
fn training_alone_gives_an_adapter_that_evaluates_and_predicts() {
    let place = Place::new(NONE);
    let said = place.good(TRAIN);
    assert!(
        said.contains("400 training rows, 4 rounds of 30 steps") && said.contains("no differential privacy"),
        "{said}"
    );
    let accuracy = number_after(&said, "after training: accuracy");
    assert!(number_after(&said, "before training: accuracy") < 0.7 && accuracy > 0.9, "{said}");

    let evaluate = "evaluate --model . --adapter adapter --data test.jsonl --threads 1";
    let said = place.good(evaluate);
    assert!((number_after(&said, "accuracy") - accuracy).abs() < 0.021);
    assert!(said.contains("the adapter says that it is of job"), "{said}");
    assert!(said.contains("after round 4 of 4, trained by one silo alone, no differential privacy"), "{said}");
    let json: serde_json::Value = serde_json::from_str(&place.good(&format!("{evaluate} --json"))).unwrap();
    assert_eq!(json["rows"], 100);
    let correct = json["correct"].as_u64().unwrap();

    let said =
        place.good("predict --model . --adapter adapter --input test.jsonl --output out.jsonl --logits --threads 1");
    assert!(said.contains("wrote 100 answers"), "{said}");
    let answers: Vec<serde_json::Value> =
        place.read("out.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let truth = place.read("test.jsonl");
    let right = answers
        .iter()
        .zip(truth.lines())
        .filter(|(answer, row)| row.contains(&format!("\"label\": {}", answer["label"])));
    assert_eq!(right.count() as u64, correct);
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer["row"], i as u64 + 1);
        let logits: Vec<f64> = answer["logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let up = 1.0 / (1.0 + (logits[0] - logits[1]).exp());
        let expected = if answer["label"] == "up" { up } else { 1.0 - up };
        assert!((answer["probability"].as_f64().unwrap() - expected).abs() < 1e-6);
    }
    assert!(!place.read("out.jsonl").contains("w1"), "answers hold no text");
    std::os::unix::fs::symlink("test.jsonl", place.dir.path().join("link.jsonl")).unwrap();
    for output in ["test.jsonl", "./test.jsonl", "link.jsonl"] {
        let command = format!("predict --model . --adapter adapter --input test.jsonl --output {output}");
        place.bad(&command, 2, &["--output", "--input"]);
    }
    assert_eq!(place.read("test.jsonl"), truth, "the rows are still there");
    let predict = "predict --model . --adapter adapter --input test.jsonl --output";
    for precious in ["job.toml", "train.jsonl", "adapter/adapter_config.json"] {
        let before = place.read(precious);
        place.bad(&format!("{predict} {precious}"), 2, &[precious, "would be lost"]);
        assert_eq!(place.read(precious), before);
    }
    place.bad(&format!("{predict} /dev/null"), 7, &["/dev/null", "no ordinary file"]);
    place.bad(&format!("{predict} nowhere/out.jsonl"), 7, &["the folder nowhere does not exist"]);
    std::fs::create_dir_all(place.dir.path().join("results/last")).unwrap();
    place.bad(&evaluate.replace("--adapter adapter", "--adapter results"), 2, &["output_dir", "results/last"]);
    place.good(&format!("{predict} out.jsonl --threads 1"));
    let far = TRAIN.replace("--out adapter", "--out far") + " --learning-rate 1e30";
    place.bad(&far, 3, &["training diverged", "learning_rate"]);
    place.write("none.jsonl", "");
    place.bad(&evaluate.replace("test.jsonl", "none.jsonl"), 3, &["none.jsonl: the file holds no rows"]);
    let blank = "{\"text\": \" \", \"label\": \"up\"}\n";
    place.write("test.jsonl", &format!("{blank}{}", rows(10, 3)));
    let said = place.good(TRAIN);
    assert!(said.contains("test.jsonl: 1 of 11 rows have a blank text (the first in line 1)"), "{said}");

    // what was cut is said wherever rows are read
    place.write("test.jsonl", &format!("{{\"text\": \"{}\", \"label\": \"up\"}}\n", "w1 ".repeat(500)).repeat(20));
    let cut = |tokens: u32| format!("test.jsonl: 20 of 20 rows were cut to {tokens} tokens (the first in line 1)");
    let said = place.good(TRAIN);
    assert!(said.contains(&cut(32)), "{said}");
    let evaluate = format!("{evaluate} --max-sequence-tokens 16");
    let said = place.good(&evaluate);
    assert!(said.contains(&cut(16)), "{said}");
    let json: serde_json::Value = serde_json::from_str(&place.good(&format!("{evaluate} --json"))).unwrap();
    assert!(json["remarks"][0].as_str().unwrap().contains(&cut(16)), "{json}");
    let said = place.good(&format!("{predict} out.jsonl --max-sequence-tokens 16 --threads 1"));
    assert!(said.contains(&cut(16)) && said.contains("wrote 20 answers"), "{said}");
}

#[test]
fn an_adapter_learns_to_continue_texts() {
    let place = Place::of(Family::Llama, NONE);
    let causal = |job: String| {
        let job = job.replace("labels = [\"down\", \"up\"]", "task = \"causal-lm\"");
        job.replace("head = \"trained\"\n", "")
            .replace("learning_rate = 1.0", "learning_rate = 0.04")
            .replace("sgd", "adamw")
    };
    place.write("job.toml", &causal(place.job(NONE)));
    // after good always the film, after bad always the same word
    let rows: String = (0..400)
        .map(|k| {
            let (prompt, text) = if k % 2 == 0 { ("good", " the film was fine") } else { ("bad", " w7 w7 poor") };
            format!("{{\"prompt\": \"w{} {prompt}\", \"text\": \"{text}\"}}\n", k % 90)
        })
        .collect();
    place.write("train.jsonl", &rows);
    place.write("test.jsonl", &rows.lines().rev().map(|row| format!("{row}\n")).collect::<String>());
    let said = place.good(&format!("{TRAIN} --prompt-column prompt"));
    let (before, after) =
        (number_after(&said, "before training: accuracy"), number_after(&said, "after training: accuracy"));
    assert!(before < 0.3 && after > 0.9 && said.contains("next tokens"), "{said}");
    let evaluate = "evaluate --model . --adapter adapter --data test.jsonl --prompt-column prompt --threads 1";
    assert!((number_after(&place.good(evaluate), "accuracy") - after).abs() < 0.01);
    let json: serde_json::Value = serde_json::from_str(&place.good(&format!("{evaluate} --json"))).unwrap();
    assert_eq!((json["rows"].as_u64(), json["counted"].as_u64()), (Some(400), Some(200 * 5 + 200 * 4)));
    place.bad(
        "predict --model . --adapter adapter --input test.jsonl --output out.jsonl",
        2,
        &["generate", "evaluate"],
    );

    // words that run together are said
    place.write("test.jsonl", "{\"prompt\": \"w1 good\", \"text\": \"the film\"}\n");
    let said = place.good(evaluate);
    assert!(said.contains("test.jsonl: 1 of 1 rows have nothing between the prompt and the text"), "{said}");

    place.write("job.toml", &place.job(NONE).replace("max_seq", "task = \"causal-lm\"\nmax_seq"));
    place.bad(TRAIN, 2, &["model.labels", "leave it out"]);
}

#[test]
fn private_training_says_what_it_spent() {
    let place = Place::new(DP);
    let said = place.good(TRAIN);
    assert!(said.contains("ε ≤ 8 at δ = 1e-4"), "{said}");
    let spent = number_after(&said, "ε =");
    assert!(spent > 7.9 && spent <= 8.0, "{spent}");
    assert!(number_after(&said, "after training: accuracy") > 0.7, "{said}");
    // half the rounds at the same noise spend less
    let other = format!("{TRAIN} --rounds 2 --learning-rate 0.5");
    let before = std::fs::read(place.dir.path().join("adapter/adapter_model.safetensors")).unwrap();
    place.bad(&other, 7, &["adapter belongs to job", "another folder"]);
    assert_eq!(std::fs::read(place.dir.path().join("adapter/adapter_model.safetensors")).unwrap(), before);
    // It is another use of the same rows, which the ledger adds to the first: whoever tunes on them pays for it.
    let other = other.replace("--out adapter", "--out adapter-of-fewer");
    place.bad(&other, 6, &["over all jobs", "limit of 8", "400 of 400 units"]);
    place.bad(&other.replace("--ledger-dir ledger ", ""), 2, &["--ledger-dir is missing"]);
    // Nor does a job that states more, by whoever wrote it, raise what the organisation allows.
    place.write("loose.toml", &place.read("job.toml").replace("epsilon = 8.0", "epsilon = 100.0"));
    place.bad(
        &other.replace("job.toml", "loose.toml").replace("of-fewer", "of-the-loose"),
        6,
        &["over all jobs", "limit of 8"],
    );
    for limit in ["inf", "nan", "0", "-1", "1e309"] {
        place.bad(&format!("{other} --max-epsilon={limit}"), 2, &["--max-epsilon", "has no meaning"]);
    }
    place.bad("budget show --ledger-dir ledger --max-delta 1e300", 2, &["--max-delta", "has no meaning"]);
    let fewer = place.good(&format!("{other} --max-epsilon 20"));
    let all = number_after(&fewer, "over all jobs in ledger/ledger.jsonl: ε =");
    assert!(all > spent && all <= 20.0, "{fewer}");
    assert!(place.good("budget show --ledger-dir ledger").contains("ε ≤ 20 at δ = 1e-4"), "as it was last used");
    let shown = place.good("budget show --ledger-dir ledger --max-epsilon 20 --max-delta 1e-4");
    assert!(shown.matches("training alone").count() == 2, "{shown}");
    assert!(shown.contains("another limit: ε ≤ 8 at δ = 1e-4"), "{shown}");
    let noise = |said: &str| number_after(said, "noise multiplier");
    assert!(noise(&fewer) == noise(&said) && number_after(&fewer, "ε =") < spent, "{fewer}");
}

const PERSONS: &str = "unit = \"person\"\nrows_max_per_unit = 3";

/// These rows, of persons with five each.
fn of_persons(rows: &str, first: usize) -> String {
    let row =
        |(i, row): (usize, &str)| row.replacen('{', &format!("{{\"patient\": \"P{}\", ", first + i / 5), 1) + "\n";
    rows.lines().enumerate().map(row).collect()
}

#[test]
fn private_training_protects_persons_where_the_job_says_so() {
    let place = Place::new(DP);
    let private = DP.replace("batch_max = 250", "batch_max = 60");
    place.write("job.toml", &place.job(&format!("{private}\n{PERSONS}")));
    place.write("train.jsonl", &of_persons(&rows(500, 1), 0));
    place.write("test.jsonl", &of_persons(&rows(100, 2), 500));
    place.bad(TRAIN, 2, &["--unit-column is missing", "privacy.unit = \"person\""]);
    let train = format!("{TRAIN} --unit-column patient");
    let said = place.good(&train);
    // 3 of each person's 5 rows, 100 persons drawn at rate 0.1
    let left_out = "train.jsonl: 200 of 500 rows are left out (the first in line ";
    assert!(said.contains(left_out) && said.contains("privacy.rows_max_per_unit"), "{said}");
    let counts = "300 training rows of 100 persons, 4 rounds of 30 steps, about 10 persons per step";
    assert!(said.contains(counts) && said.contains("ε ≤ 8 at δ = 1e-4 for each person"), "{said}");
    let spent = number_after(&said, "ε =");
    assert!(spent > 7.9 && spent <= 8.0 && said.contains("for each person\n"), "{said}");
    let said = place.good("evaluate --model . --adapter adapter --data test.jsonl --threads 1");
    assert!(said.contains("ε ≤ 8 at δ = 1e-4 on each person with all training records"), "{said}");

    // persons are counted, not rows: δ must be below 1/100, and batches of 60 persons are enough
    let train = train.replace("--out adapter", "--out other");
    place.write("job.toml", &place.job(&format!("{}\n{PERSONS}", private.replace("delta = 1e-4", "delta = 2e-2"))));
    place.bad(&train, 6, &["100 training persons", "1/100"]);
    place.write("job.toml", &place.job(&private));
    let rows_only = TRAIN.replace("--out adapter", "--out other");
    place.bad(&rows_only, 6, &["500 training records are too many", "batch_max = 60"]);
    place.bad(&train, 2, &["--unit-column is given", "does not protect persons"]);
    place.write("job.toml", &place.job(&format!("{private}\n{PERSONS}")));
    place.write("nobody.jsonl", &format!("{}{}", of_persons(&rows(5, 1), 0), rows(1, 7)));
    let of = |data: &str| train.replace("train.jsonl", data);
    place.bad(&of("nobody.jsonl"), 3, &["nobody.jsonl:6", "the object has no key \"patient\""]);
    let blank = of_persons(&rows(1, 7), 0).replace("P0", SECRET).replace(SECRET, " ");
    place.write("nobody.jsonl", &format!("{}{blank}", of_persons(&rows(5, 1), 0)));
    place.bad(&of("nobody.jsonl"), 3, &["nobody.jsonl:6", "\"patient\" is blank"]);
    // a person with rows in both files
    place.write("test.jsonl", &of_persons(&rows(100, 2), 99));
    place.bad(&train, 3, &["test.jsonl: 1 of 20 persons with held-out rows have rows in the training file"]);

    let said = place.good("plan job.toml --rows 400");
    assert!(
        said.contains("for each person, in every silo") && said.contains("a silo of 800 persons draws 80.0"),
        "{said}"
    );
}

#[test]
fn what_is_wrong_is_one_sentence_and_a_code() {
    let place = Place::new(DP);
    place.write("bad.jsonl", &format!("{}{{\"text\": \"{SECRET}\", \"label\": \"{SECRET}\"}}\n", rows(1, 1)));
    place.write("broken.jsonl", &format!("{{\"text\": \"{SECRET}"));
    place.write("few.jsonl", &rows(100, 1));
    let train = |data: &str| TRAIN.replace("train.jsonl", data);
    place.bad(&train("bad.jsonl"), 3, &["bad.jsonl:2", "none of the job's 2 labels"]);
    place.bad(&train("broken.jsonl"), 3, &["broken.jsonl:1", "not valid JSON"]);
    place.bad(&train("missing.jsonl"), 3, &["missing.jsonl"]);
    place.write("none.jsonl", "\n");
    place.bad(&train("none.jsonl"), 3, &["none.jsonl: the file holds no rows"]);
    place.write("same.jsonl", &rows(400, 1).lines().step_by(2).map(|row| format!("{row}\n")).collect::<String>());
    place.bad(&train("same.jsonl"), 3, &["same.jsonl: all 200 rows have one label"]);
    place.write("copy.jsonl", &place.read("train.jsonl"));
    place.bad(&TRAIN.replace("test.jsonl", "copy.jsonl"), 3, &["copy.jsonl holds the very rows"]);
    place.write("job.toml", &place.job(&DP.replace("delta = 1e-4", "delta = 1e-2")));
    place.bad(&train("few.jsonl"), 6, &["100 training records", "1/100"]);
    place.write("job.toml", &place.job(&DP.replace("0.90257", "0.5")));
    place.bad(TRAIN, 6, &["is stated as 8", "blindsum-silo plan"]);
    place.write("job.toml", &place.job(DP));
    place.bad(&TRAIN.replace("job.toml", "nojob.toml"), 2, &["nojob.toml"]);
    place.bad(&TRAIN.replace("--model .", "--model nowhere"), 3, &["nowhere/config.json", "tokenizer.json"]);
    place.bad(&format!("{TRAIN} --learning-rate=-1"), 2, &["learning_rate"]);
    place.bad("evaluate --model . --adapter nothing --data test.jsonl", 3, &["nothing"]);
    place.write("job.toml", &format!("{}color = 1\n", place.job(DP)));
    place.bad(TRAIN, 2, &["job.toml:", "color"]);
    place.write("job.toml", &place.job(DP));
    place.write("tokenizer.json", "{}");
    place.bad(TRAIN, 3, &["tokenizer.json has the SHA-256", "model.tokenizer_sha256"]);
    assert!(!Path::new(&place.dir.path().join("adapter")).exists(), "nothing was written");
}

#[test]
fn hashes_prints_the_lines_of_a_job() {
    let place = Place::new(NONE);
    let said = place.good("hashes --model .");
    let job = place.read("job.toml");
    assert!(said.lines().count() == 3 && said.lines().all(|line| job.contains(line)), "{said}");
}

#[test]
fn plan_proposes_lines_that_make_a_job() {
    let place = Place::new(DP);
    let bare = place.job(DP);
    let bare: String = bare
        .lines()
        .filter(|line| !["sampling_rate", "noise_multiplier", "batch_max"].iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    place.write("job.toml", &bare);
    place.bad(TRAIN, 2, &["privacy.sampling_rate", "blindsum-silo plan"]);
    let said = place.good("plan job.toml --rows 400");
    assert!(said.contains("# a silo of 800 rows draws 80.0 of them in a step and pulls 2.00 times"), "{said}");
    let lines = |said: &str| -> String {
        let keys = ["sampling_rate", "noise_multiplier", "batch_max", "epsilon", "delta"];
        let kept = |line: &&str| keys.iter().any(|key| line.starts_with(key));
        said.lines().filter(kept).map(|line| format!("{line}\n")).collect()
    };
    let without = bare.lines().filter(|line| !line.starts_with("epsilon") && !line.starts_with("delta"));
    let without: String = without.map(|line| format!("{line}\n")).collect();
    place.write("job.toml", &without.replace("[privacy]\n", &format!("[privacy]\n{}", lines(&said))));
    assert!(place.good(TRAIN).contains("ε ≤ 8"), "the lines as they stand make a job that keeps its word");
    let weak = place.good("plan job.toml --rows 400 --epsilon 20 --delta 1e-3");
    assert!(weak.contains("weak promise") && weak.contains("40 % of 1/400"), "{weak}");
    place.bad("plan job.toml --rows 30", 2, &["a batch of 40", "30 rows"]);
    place.bad("plan job.toml --rows 400 --epsilon 0", 2, &["epsilon is 0", "above 0"]);
    place.write("open.toml", &place.job(NONE));
    place.bad("plan open.toml --rows 400", 2, &["open.toml:", "privacy.mode", "nothing to plan"]);
}

#[test]
fn plan_proposes_when_updates_leave() {
    let place = Place::new(DP);
    let release = |said: &str| {
        let (before, line) = said.trim_end().rsplit_once('\n').unwrap();
        assert!(
            before.rsplit('\n').next().unwrap().starts_with("# this line belongs to [deadlines]: 30 steps"),
            "{said}"
        );
        line.strip_prefix("release_seconds = ").unwrap().parse::<u32>().unwrap()
    };
    let plan = "plan job.toml --rows 400";
    assert!(!place.good(plan).contains("release_seconds"));
    let said = place.good(&format!("{plan} --step-seconds 0.5"));
    assert!(release(&said) == 19 && said.contains("held-out rows are counted before the steps"), "{said}");
    assert_eq!(release(&place.good(&format!("{plan} --step-seconds 1.6"))), 60);
    place.bad(
        &format!("{plan} --step-seconds 1.61"),
        2,
        &["job.toml:", "deadlines.training_seconds", "is 60, but", "are 61 s"],
    );
    for wrong in ["0", "-1", "inf", "NaN"] {
        place.bad(&format!("{plan} --step-seconds={wrong}"), 2, &["--step-seconds is", "above 0"]);
    }
    // timed: a step of as many units as the proposed batch_max, for persons with all the rows that count
    let model = format!("{plan} --model . --threads 1");
    let said = place.good(&model);
    let (seconds, least) = (number_after(&said, "30 steps of "), release(&said));
    assert!((1..=60).contains(&least) && f64::from(least) >= 30.0 * 1.25 * (seconds - 0.001), "{said}");
    let job = place.read("job.toml").replace("[deadlines]\n", &format!("[deadlines]\nrelease_seconds = {least}\n"));
    place.write("job.toml", &job);
    assert!(place.good(TRAIN).contains("ε ≤ 8"), "the line makes a job");
    place.write("job.toml", &job.replace("[aggregation]", &format!("{PERSONS}\n[aggregation]")));
    assert!(release(&place.good(&model)) >= 1);
    let job = job.replace("max_sequence_tokens = 32", "max_sequence_tokens = 8192");
    place.write("job.toml", &job);
    place.bad(&model, 2, &["model.max_sequence_tokens is 8192", "reads at most"]);
    let both = place.run(&format!("{model} --step-seconds 1"));
    assert!(both.status.code() == Some(2) && both.stdout.is_empty(), "either is given or timed");
}

#[test]
fn help_shows_examples_and_exit_codes() {
    let place = Place::new(NONE);
    assert!(place.good("--help").contains("Exit codes"));
    for command in ["train", "evaluate", "predict", "plan"] {
        assert!(place.good(&format!("{command} --help")).contains("Example:"), "{command}");
    }
    let version = place.good("--version");
    assert!(version.contains("commit") && version.contains("libtorch 2.11.0"), "{version}");
}
