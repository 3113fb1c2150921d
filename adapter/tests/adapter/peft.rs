//! Saved adapters: PEFT's names, the same bytes each time, and what `load` refuses.

use std::fs;
use std::path::Path;

use blindsum_adapter::peft::{PeftMeta, load, save};
use blindsum_adapter::provenance::{Budget, JobName, Provenance};
use blindsum_adapter::{
    Adapter, AdapterLayout, BaseShape, Head, Init, LoraConfig, Method, Targets, Task, a_hash, init_a, init_head,
    initial_values,
};

fn shape(hidden: usize) -> BaseShape {
    let text = format!(
        r#"{{"model_type": "bert", "hidden_size": {hidden}, "num_hidden_layers": 2, "intermediate_size": 16,
        "num_attention_heads": 2, "vocab_size": 50, "max_position_embeddings": 32}}"#
    );
    BaseShape::from_config_json(&text).unwrap()
}

fn layout(head: Head) -> AdapterLayout {
    let target_modules = Some(Targets::names(&["query", "value"]));
    let init = Init::Orthonormal;
    let lora = LoraConfig {
        method: Method::FfaLora,
        r: 2,
        lora_alpha: 4.0,
        target_modules,
        init,
        seed: 1,
        head,
        refresh_rounds: None,
    };
    AdapterLayout::new(&shape(8), &lora, Task::classify(3)).unwrap()
}

/// Initial values moved off zero, every coordinate to a number of its own.
fn values(layout: &AdapterLayout) -> Vec<f32> {
    initial_values(layout).iter().enumerate().map(|(i, x)| x + i as f32 / 128.0).collect()
}

fn meta() -> PeftMeta {
    let labels = ["bad", "so-so", "good"].map(str::to_owned).to_vec();
    PeftMeta { base_model_name_or_path: "some/base".to_owned(), labels, provenance: None }
}

fn saved(dir: &Path, head: Head) {
    let layout = layout(head);
    save(dir, &layout, &init_a(&layout), &init_head(&layout), Adapter::of(&values(&layout)), &meta()).unwrap();
}

#[test]
fn weights_name_the_job_that_they_come_from() {
    let layout = layout(Head::Trained);
    let of = JobName {
        job: "triage \"quoted\"".into(),
        job_digest: "ab".repeat(32),
        rounds: 20,
        alone: false,
        privacy: Some(Budget { epsilon: 6.0, delta: 1e-5, trainings: 22, rows_max_per_person: Some(8) }),
    };
    let provenance = Provenance { of, round: 7, time_unix_seconds: 1_800_000_000 };
    let meta = PeftMeta { provenance: Some(provenance), ..meta() };
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let (a, head, values) = (init_a(&layout), init_head(&layout), values(&layout));
        save(&dir.path().join(name), &layout, &a, &head, Adapter::of(&values), &meta).unwrap();
        fs::read(dir.path().join(name).join("adapter_model.safetensors")).unwrap()
    };
    let (one, other) = (write("one"), write("other"));
    assert_eq!(one, other, "the same bytes");
    let loaded = load(&dir.path().join("one"), &shape(8)).unwrap();
    assert_eq!((&loaded.meta, &loaded.values), (&meta, &values(&layout)));
    let said = loaded.meta.provenance.unwrap().to_string();
    assert!(said.contains("after round 7 of 20") && said.contains("ε ≤ 6 at δ = 1e-5"), "{said}");

    let torn = String::from_utf8_lossy(&one[8..]).find("round").unwrap() + 8;
    let mut forged = one.clone();
    forged[torn] = b'x';
    fs::write(dir.path().join("one/adapter_model.safetensors"), forged).unwrap();
    assert!(load(&dir.path().join("one"), &shape(8)).unwrap_err().to_string().contains("provenance"));
}

#[test]
fn what_is_saved_is_loaded() {
    for head in [Head::Frozen, Head::Trained] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new/adapter");
        saved(&dir, head);
        let loaded = load(&dir, &shape(8)).unwrap();
        let layout = layout(head);
        assert_eq!((&loaded.layout, &loaded.meta), (&layout, &meta()));
        assert_eq!(loaded.values, values(&layout));
        assert_eq!(a_hash(&loaded.a), a_hash(&init_a(&layout)));
        let frozen = init_head(&layout);
        let (weight, bias) = layout.head_in_force(&loaded.values, &frozen);
        assert_eq!((loaded.head.0.as_slice(), loaded.head.1.as_slice()), (weight, bias));
        assert_eq!(loaded.head == frozen, head == Head::Frozen);
    }
}

#[test]
fn the_same_adapter_gives_the_same_bytes_and_leaves_nothing_else() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    saved(one.path(), Head::Trained);
    saved(two.path(), Head::Frozen);
    saved(two.path(), Head::Trained); // replaces what is there
    fs::write(two.path().join("tokenizer.json"), "{}").unwrap();
    saved(two.path(), Head::Trained);
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(one.path()), ["adapter_config.json", "adapter_model.safetensors", "blindsum.json"]);
    assert_eq!(names(two.path()).len(), 4, "other files stay");
    for name in names(one.path()) {
        assert_eq!(fs::read(one.path().join(&name)).unwrap(), fs::read(two.path().join(&name)).unwrap());
    }
}

#[test]
fn names_and_keys_are_those_of_peft() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), Head::Frozen);
    let bytes = fs::read(dir.path().join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort();
    let mut expected =
        vec!["base_model.model.classifier.bias".to_owned(), "base_model.model.classifier.weight".to_owned()];
    for layer in 0..2 {
        for part in ["query.lora_A", "query.lora_B", "value.lora_A", "value.lora_B"] {
            expected.push(format!("base_model.model.bert.encoder.layer.{layer}.attention.self.{part}.weight"));
        }
    }
    expected.sort();
    assert_eq!(names, expected);
    let b = file.tensor("base_model.model.bert.encoder.layer.0.attention.self.value.lora_B.weight").unwrap();
    assert_eq!(b.shape(), [8, 2]);
    // Module 1 starts at coordinate 16 of the flat vector, which holds 16/128.
    assert_eq!(b.data()[..4], 0.125f32.to_le_bytes());

    let text = fs::read_to_string(dir.path().join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&config["peft_type"], &config["task_type"]), (&"LORA".into(), &"SEQ_CLS".into()));
    assert_eq!((&config["r"], &config["bias"]), (&2.into(), &"none".into()));
    assert_eq!(config["lora_alpha"].as_i64(), Some(4), "PEFT declares lora_alpha an integer");
    assert_eq!(config["target_modules"], serde_json::json!(["query", "value"]));
    assert_eq!(config["modules_to_save"], serde_json::json!(["classifier"]));
    assert_eq!(config["base_model_name_or_path"], "some/base");
}

#[test]
fn what_contradicts_the_layout_is_not_saved() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("adapter");
    let layout = layout(Head::Trained);
    let (a, head, good) = (init_a(&layout), init_head(&layout), values(&layout));
    let refused = |a: &[Vec<f32>], values: &[f32], meta: &PeftMeta| {
        save(&dir, &layout, a, &head, Adapter::of(values), meta).unwrap_err().to_string()
    };
    assert!(refused(&a, &good[1..], &meta()).contains("trained values"));
    assert!(refused(&a[1..], &good, &meta()).contains("A matrices"));
    assert!(refused(&vec![vec![0.0; 3]; 4], &good, &meta()).contains("lora_A"));
    let mut bad = good.clone();
    bad[5] = f32::NAN;
    assert!(refused(&a, &bad, &meta()).contains("not finite"));
    let mut short = meta();
    short.labels.pop();
    assert!(refused(&a, &good, &short).contains("2 label names for 3 labels"));
    assert!(!dir.exists());
}

#[test]
fn another_base_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), Head::Frozen);
    let error = load(dir.path(), &shape(10)).unwrap_err().to_string();
    assert!(error.contains("adapter_model.safetensors") && error.contains("expected F32"), "{error}");
}

#[test]
fn damaged_files_are_refused_by_name() {
    let refused = |file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let dir = tempfile::tempdir().unwrap();
        saved(dir.path(), Head::Frozen);
        let path = dir.path().join(file);
        fs::write(&path, change(fs::read(&path).unwrap())).unwrap();
        let error = load(dir.path(), &shape(8)).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
        error
    };
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            let text = latin1(&bytes);
            assert!(text.contains(from));
            from_latin1(&text.replace(from, to))
        }
    };
    let weights = "adapter_model.safetensors";
    assert!(
        refused(weights, &replace("layer.0.attention.self.query.lora_A", "layer.7.attention.self.query.lora_A"))
            .contains("does not belong")
    );
    assert!(refused(weights, &replace("\"F32\",\"shape\":[3]", "\"I32\",\"shape\":[3]")).contains("expected F32 [3]"));
    assert!(refused(weights, &|b| b[..b.len() - 1].to_vec()).contains("not a safetensors file"));
    assert!(refused(weights, &|_| u64::MAX.to_le_bytes().to_vec()).contains("not a safetensors file"));
    assert!(refused(weights, &|b| [b, vec![0; 1 << 20]].concat()).contains("is larger than"));
    let nan = |mut b: Vec<u8>| {
        let at = b.len() - 4;
        b[at..].copy_from_slice(&f32::NAN.to_le_bytes());
        b
    };
    assert!(refused(weights, &nan).contains("not finite"));

    let config = "adapter_config.json";
    assert!(refused(config, &replace("\"r\": 2", "\"r\": 3")).contains("r is 3"));
    assert!(refused(config, &replace("\"lora_alpha\": 4", "\"lora_alpha\": 4.5")).contains("lora_alpha"));
    assert!(refused(config, &replace("\"use_rslora\": false", "\"use_rslora\": true")).contains("use_rslora"));
    assert!(refused(config, &|b| [b, vec![b' '; 1 << 20]].concat()).contains("is larger than"));
    assert!(refused(config, &replace("\"r\": 2", "\"rank_pattern\": {}, \"r\": 2")).contains("rank_pattern"));
    let own = "blindsum.json";
    assert!(refused(own, &replace("\"schema\": 1", "\"schema\": 2")).contains("schema is 2"));
    assert!(refused(own, &replace("\"schema\"", "\"more\": 1, \"schema\"")).contains("unknown field"));
    assert!(refused(own, &replace("\"query\"", "\"quary\"")).contains("quary"));
}

#[test]
fn a_missing_file_is_named() {
    for file in ["adapter_model.safetensors", "adapter_config.json", "blindsum.json"] {
        let dir = tempfile::tempdir().unwrap();
        saved(dir.path(), Head::Frozen);
        fs::remove_file(dir.path().join(file)).unwrap();
        let error = load(dir.path(), &shape(8)).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
    }
}

/// Bytes as text and back, one char per byte, so that a header can be edited in place.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

fn from_latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}
