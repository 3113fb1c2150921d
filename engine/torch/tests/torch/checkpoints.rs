//! Checkpoints as people have them: one file, shards with an index, or what `torch.save` wrote, are one model.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use blindsum_adapter::{Adapter, Head};
use blindsum_engine::data::Example;
use blindsum_engine::model;
use blindsum_engine::{Engine, EngineSettings, Precision};
use blindsum_torch::{FrozenParts, TorchEngine};
use zip::write::FileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::common::{TINY_CONFIG, Tensors, examples, tiny_engine, tiny_tensors, write_model};

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

fn read_index(dir: &Path) -> BTreeMap<String, String> {
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join(INDEX)).unwrap()).unwrap();
    serde_json::from_value(index["weight_map"].clone()).unwrap()
}

/// Writes `pytorch_model.bin` as torch does, with an ordered dictionary and a storage for each tensor.
fn write_bin(dir: &Path, tensors: &Tensors) {
    std::fs::write(dir.join("config.json"), TINY_CONFIG).unwrap();
    let mut zip = ZipWriter::new(std::fs::File::create(dir.join("pytorch_model.bin")).unwrap());
    let options = FileOptions::default().compression_method(CompressionMethod::Stored);
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let text = |pickle: &mut Vec<u8>, text: &str| {
        pickle.push(b'X');
        pickle.extend((text.len() as u32).to_le_bytes());
        pickle.extend(text.as_bytes());
    };
    let int = |pickle: &mut Vec<u8>, n: usize| {
        pickle.push(b'J');
        pickle.extend((n as i32).to_le_bytes());
    };
    for (i, (name, (shape, values))) in tensors.iter().enumerate() {
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(b"ctorch\nFloatStorage\n");
        text(&mut pickle, &i.to_string());
        text(&mut pickle, "cpu");
        int(&mut pickle, values.len());
        pickle.extend(b"tQK\x00(");
        shape.iter().for_each(|&n| int(&mut pickle, n));
        pickle.extend(b"t(");
        (0..shape.len()).for_each(|d| int(&mut pickle, shape[d + 1..].iter().product()));
        pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
        zip.start_file(format!("pytorch_model/data/{i}"), options).unwrap();
        zip.write_all(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    }
    pickle.extend(b"u.");
    zip.start_file("pytorch_model/data.pkl", options).unwrap();
    zip.write_all(&pickle).unwrap();
    zip.finish().unwrap();
}

#[test]
fn one_file_shards_and_a_bin_are_one_model() {
    let (_dir, mut engine, adapter) = tiny_engine(Precision::F32, Head::Frozen);
    let owned = examples(&[9, 20]);
    let batch: Vec<&Example> = owned.iter().collect();
    let expected = engine.logits(Adapter::of(&adapter), &batch).unwrap();
    for write in [write_shards, write_bin] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &tiny_tensors());
        let options = EngineSettings { precision: Precision::F32, ..EngineSettings::default() };
        let frozen = FrozenParts::from_seed(engine.layout());
        let mut other = TorchEngine::open(&model::weights(dir.path()), engine.layout(), &frozen, options).unwrap();
        assert_eq!(other.logits(Adapter::of(&adapter), &batch).unwrap(), expected);
    }
}

/// What is wrong with the shards after a change.
fn refused(change: impl Fn(&Path)) -> String {
    let (_dir, engine, _) = tiny_engine(Precision::F32, Head::Frozen);
    let dir = tempfile::tempdir().unwrap();
    write_shards(dir.path(), &tiny_tensors());
    change(dir.path());
    let (layout, options) = (engine.layout(), EngineSettings::default());
    let opened = TorchEngine::open(&dir.path().join(INDEX), layout, &FrozenParts::from_seed(layout), options);
    opened.err().expect("must be refused").to_string()
}

#[test]
fn an_index_and_shards_that_do_not_belong_together_are_refused_by_name() {
    let key = "bert.encoder.layer.1.attention.self.key.bias";
    let says = |error: String, words: &[&str]| assert!(words.iter().all(|w| error.contains(w)), "{error}");
    let map = |change: &dyn Fn(&mut BTreeMap<String, String>)| {
        refused(|dir| {
            let mut map = read_index(dir);
            change(&mut map);
            write_index(dir, &map);
        })
    };
    says(refused(|dir| std::fs::remove_file(dir.join(shard(2))).unwrap()), &[&shard(2)]);
    says(refused(|dir| std::fs::write(dir.join(shard(2)), "no").unwrap()), &[&shard(2), "not a safetensors"]);
    says(refused(|dir| std::fs::write(dir.join(INDEX), "no").unwrap()), &[INDEX, "no index"]);
    // in another shard than the index says, in none, and in a shard that the index does not mention it in
    let other = |map: &mut BTreeMap<String, String>| {
        let place = map.get_mut(key).unwrap();
        *place = shard(if *place == shard(1) { 2 } else { 1 });
    };
    says(map(&other), &[INDEX, key, "save the model again"]);
    says(map(&|map| drop(map.insert("extra".to_owned(), shard(1)))), &[INDEX, "extra", &shard(1), "fetch"]);
    says(map(&|map| drop(map.remove(key))), &[key, "nowhere"]);
    // one tensor in both shards
    let twice = refused(|dir| {
        let second: Tensors =
            tiny_tensors().into_iter().skip(1).step_by(2).chain(tiny_tensors().into_iter().take(1)).collect();
        write_model(dir, TINY_CONFIG, &second);
        std::fs::rename(dir.join("model.safetensors"), dir.join(shard(2))).unwrap();
    });
    says(twice, &[&shard(2), tiny_tensors().keys().next().unwrap(), &shard(1)]);
    says(map(&|map| map.values_mut().for_each(|v| *v = format!("../{v}"))), &[INDEX, "plain name"]);
}
