//! A tiny model of each family, whose weights are a formula, the one of `tests/golden_hf.py`, and what the tests build on
//! it. Where no family is named it is BERT.
#![allow(dead_code)] // each test file uses its own part

use std::collections::BTreeMap;
use std::path::Path;

use blindsum_adapter::{AdapterLayout, BaseShape, Family, Head, Init, LoraConfig, Method};
use blindsum_silo::data::Example;
use blindsum_silo::engine::torch::{FrozenParts, Precision, TorchEngine, TorchOptions};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

pub const TINY_CONFIG: &str = r#"{"model_type": "bert", "vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 512, "type_vocab_size": 2,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12}"#;

pub const TINY_ROBERTA_CONFIG: &str = r#"{"model_type": "roberta", "vocab_size": 128, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 514,
    "type_vocab_size": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "pad_token_id": 1}"#;

pub const TINY_DISTILBERT_CONFIG: &str = r#"{"model_type": "distilbert", "vocab_size": 128, "dim": 32, "n_layers": 2,
    "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 512, "activation": "gelu"}"#;

/// `config.json` of the tiny model of a family.
pub fn tiny_config(family: Family) -> &'static str {
    match family {
        Family::Bert => TINY_CONFIG,
        Family::Roberta => TINY_ROBERTA_CONFIG,
        Family::DistilBert => TINY_DISTILBERT_CONFIG,
    }
}

/// Tensors of a checkpoint by name: shape and values.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Numbers in [−1, 1) from a linear congruential generator, the high 24 bits of each.
pub fn uniform(stream: u32, count: usize) -> Vec<f64> {
    let mut x = stream.wrapping_mul(0x9E37_79B9);
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(x >> 8) / f64::from(1 << 23) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The tiny model's tensors, named with the prefix `bert.`.
pub fn tiny_tensors() -> Tensors {
    family_tensors(Family::Bert)
}

/// The tensors of the tiny model of a family, named with its prefix.
pub fn family_tensors(family: Family) -> Tensors {
    let (hidden, inner) = (32, 64);
    let mut shapes = BTreeMap::new();
    let mut add = |name: &str, shape: &[usize]| {
        shapes.insert(format!("{}.{name}", family.model_type()), shape.to_vec());
    };
    let (positions, token_types) = match family {
        Family::Bert => (512, 2),
        Family::Roberta => (514, 1),
        Family::DistilBert => (512, 0),
    };
    add("embeddings.word_embeddings.weight", &[128, hidden]);
    add("embeddings.position_embeddings.weight", &[positions, hidden]);
    if token_types > 0 {
        add("embeddings.token_type_embeddings.weight", &[token_types, hidden]);
    }
    let mut linears = Vec::new();
    if family == Family::Bert {
        linears.push(("pooler.dense".to_owned(), hidden, hidden));
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    let bert = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"];
    let (layer, square, [first, second], layer_norms) = match family {
        Family::Bert | Family::Roberta => {
            let norms = ["attention.output.LayerNorm", "output.LayerNorm"];
            ("encoder.layer", bert, ["intermediate.dense", "output.dense"], norms)
        }
        Family::DistilBert => {
            let square = ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"];
            ("transformer.layer", square, ["ffn.lin1", "ffn.lin2"], ["sa_layer_norm", "output_layer_norm"])
        }
    };
    for i in 0..2 {
        let path = |rest: &str| format!("{layer}.{i}.{rest}");
        linears.extend(square.map(|part| (path(part), hidden, hidden)));
        linears.extend([(path(first), hidden, inner), (path(second), inner, hidden)]);
        norms.extend(layer_norms.map(path));
    }
    for (path, inputs, outputs) in linears {
        add(&format!("{path}.weight"), &[outputs, inputs]);
        add(&format!("{path}.bias"), &[outputs]);
    }
    for path in norms {
        add(&format!("{path}.weight"), &[hidden]);
        add(&format!("{path}.bias"), &[hidden]);
    }
    let fill = |(t, (name, shape)): (usize, (String, Vec<usize>))| {
        let norm = name.ends_with("LayerNorm.weight") || name.ends_with("layer_norm.weight");
        let middle = if norm { 1.0 } else { 0.0 };
        let count = shape.iter().product();
        let values = uniform(t as u32 + 1, count).into_iter().map(|u| (middle + 0.25 * u) as f32).collect();
        (name, (shape, values))
    };
    shapes.into_iter().enumerate().map(fill).collect()
}

/// Writes `config.json` and `model.safetensors` into `dir`.
pub fn write_model(dir: &Path, config: &str, tensors: &Tensors) {
    std::fs::write(dir.join("config.json"), config).unwrap();
    let bytes: BTreeMap<&String, Vec<u8>> =
        tensors.iter().map(|(n, (_, v))| (n, v.iter().flat_map(|x| x.to_le_bytes()).collect())).collect();
    let views = tensors
        .iter()
        .map(|(name, (shape, _))| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).unwrap()));
    let file = safetensors::serialize(views, None).unwrap();
    std::fs::write(dir.join("model.safetensors"), file).unwrap();
}

pub fn lora(r: u32, targets: &[&str], head: Head) -> LoraConfig {
    LoraConfig {
        method: Method::FfaLora,
        r,
        lora_alpha: 8.0,
        target_modules: targets.iter().map(|&t| t.to_owned()).collect(),
        init: Init::KaimingUniform,
        seed: 7,
        head,
        refresh_rounds: None,
    }
}

pub fn layout_of(dir: &Path, lora: &LoraConfig, labels: usize) -> AdapterLayout {
    let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
    AdapterLayout::new(&BaseShape::from_config_json(&config).unwrap(), lora, labels).unwrap()
}

pub fn open(dir: &Path, layout: &AdapterLayout, frozen: &FrozenParts, precision: Precision) -> TorchEngine {
    let options = TorchOptions { precision, threads: 2, micro_batch_tokens: 256 };
    TorchEngine::open(&dir.join("model.safetensors"), layout, frozen, options).unwrap()
}

/// The tiny model with its own A and head, and an adapter that is not zero.
pub fn tiny_engine(precision: Precision, head: Head) -> (tempfile::TempDir, TorchEngine, Vec<f32>) {
    family_engine(Family::Bert, precision, head)
}

/// The same in any family, with PEFT's default targets.
pub fn family_engine(family: Family, precision: Precision, head: Head) -> (tempfile::TempDir, TorchEngine, Vec<f32>) {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), tiny_config(family), &family_tensors(family));
    let layout = layout_of(dir.path(), &lora(4, family.default_target_modules(), head), 3);
    let adapter = uniform(999, layout.len()).into_iter().map(|u| 0.1 * u as f32).collect();
    let engine = open(dir.path(), &layout, &FrozenParts::from_seed(&layout), precision);
    (dir, engine, adapter)
}

/// Examples of these lengths for the tiny model, labels in turn.
pub fn examples(lengths: &[usize]) -> Vec<Example> {
    let ids = |k: usize, n: usize| (0..n).map(|t| ((t * 37 + k * 11) % 120 + 5) as u32).collect();
    lengths.iter().enumerate().map(|(k, &n)| Example { ids: ids(k, n), label: (k % 3) as u32 }).collect()
}

pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// ‖x − y‖ / ‖y‖.
pub fn distance(x: &[f32], y: &[f32]) -> f64 {
    assert_eq!(x.len(), y.len());
    let difference: Vec<f32> = x.iter().zip(y).map(|(x, y)| x - y).collect();
    norm(&difference) / norm(y)
}

/// A tokenizer of whole words for the tiny model: `w0` … `w99`, and some words of feeling. Its file asks for padding to
/// 128 tokens, as published ones do, which must be ignored. `[UNK]` can be left out to make it fail on other words.
pub fn write_tokenizer(dir: &Path, unknown: bool) {
    let mut words: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(str::to_owned).to_vec();
    words.extend(["good", "fine", "bad", "poor", "the", "film", "was"].map(str::to_owned));
    words.extend((0..100).map(|i| format!("w{i}")));
    if !unknown {
        words[1] = "[unused]".to_owned();
    }
    let vocab: serde_json::Map<_, _> = words.into_iter().enumerate().map(|(i, w)| (w, i.into())).collect();
    let file = serde_json::json!({
        "version": "1.0", "truncation": null,
        "padding": {"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [], "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    });
    std::fs::write(dir.join("tokenizer.json"), file.to_string()).unwrap();
}
