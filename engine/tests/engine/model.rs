//! A base model's directory: which weights are chosen, and what a job pins of them.

use std::collections::BTreeMap;
use std::path::Path;

use blindsum_engine::model::{self, ModelDir};
use blindsum_testkit::models::{TINY_CONFIG, Tensors, tiny_tensors, write_model, write_tokenizer};
use sha2::{Digest, Sha256};

const INDEX: &str = "model.safetensors.index.json";

fn shard(n: usize) -> String {
    format!("model-0000{n}-of-00002.safetensors")
}

/// Writes the tiny model in two shards: every second tensor in the second.
fn write_shards(dir: &Path, tensors: &Tensors) {
    let mut map = BTreeMap::new();
    for n in [1, 2] {
        let part: Tensors = tensors.iter().skip(n - 1).step_by(2).map(|(k, v)| (k.clone(), v.clone())).collect();
        write_model(dir, TINY_CONFIG, &part);
        std::fs::rename(dir.join("model.safetensors"), dir.join(shard(n))).unwrap();
        map.extend(part.into_keys().map(|name| (name, shard(n))));
    }
    write_index(dir, &map);
}

fn write_index(dir: &Path, map: &BTreeMap<String, String>) {
    let text = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    std::fs::write(dir.join(INDEX), text).unwrap();
}

#[test]
fn safetensors_come_first_then_their_index_then_a_bin() {
    let dir = tempfile::tempdir().unwrap();
    let chosen = || model::weights(dir.path()).file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(chosen(), "model.safetensors");
    for name in ["pytorch_model.bin", INDEX, "model.safetensors"] {
        std::fs::write(dir.path().join(name), "").unwrap();
        assert_eq!(chosen(), name);
    }
}

#[test]
fn an_adapter_beside_the_model_is_refused_since_transformers_would_add_it() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), TINY_CONFIG, &tiny_tensors());
    ModelDir::open(dir.path()).unwrap();
    std::fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    let error = ModelDir::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("adapter_config.json") && error.contains("move it to a folder of its own"), "{error}");
}

#[test]
fn a_job_pins_the_list_that_sha256sum_prints() {
    let dir = tempfile::tempdir().unwrap();
    write_shards(dir.path(), &tiny_tensors());
    write_tokenizer(dir.path(), true);
    let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let line = |name: &str| format!("{}  {name}\n", hash(&std::fs::read(dir.path().join(name)).unwrap()));
    // the dash of the shards sorts before the dot of the index
    let list = [line(&shard(1)), line(&shard(2)), line(INDEX)].concat();
    let hashes = || ModelDir::open(dir.path()).unwrap().hashes().unwrap();
    assert_eq!(hex::encode(hashes().weights), hash(list.as_bytes()));

    let before = hashes().weights;
    let mut bytes = std::fs::read(dir.path().join(shard(2))).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(dir.path().join(shard(2)), bytes).unwrap();
    assert_ne!(hashes().weights, before);
    std::fs::remove_file(dir.path().join(shard(2))).unwrap();
    let error = ModelDir::open(dir.path()).unwrap().hashes().unwrap_err().to_string();
    assert!(error.contains(&shard(2)), "{error}");

    // one file is pinned by its own hash
    write_model(dir.path(), TINY_CONFIG, &tiny_tensors());
    assert_eq!(hex::encode(hashes().weights), hash(&std::fs::read(dir.path().join("model.safetensors")).unwrap()));
}
