//! A tiny model of each family, whose weights are a formula, the one of `tests/golden_hf.py`, and a tokenizer of whole
//! words. Where no family is named it is BERT.

use std::collections::BTreeMap;
use std::path::Path;

use blindsum_adapter::{AdapterLayout, BaseShape, Family, Head, Init, LoraConfig, Method, Targets, Task};
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

/// Llama, its embeddings tied, its rotary positions stretched.
pub const TINY_LLAMA_CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 128, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "pad_token_id": 0,
    "eos_token_id": 3, "rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}"#;

/// A window of 16 tokens.
pub const TINY_MISTRAL_CONFIG: &str = r#"{"model_type": "mistral", "vocab_size": 128, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "sliding_window": 16, "pad_token_id": 0, "eos_token_id": 3}"#;

/// A window of 16 tokens in the second layer.
pub const TINY_QWEN2_CONFIG: &str = r#"{"model_type": "qwen2", "vocab_size": 128, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "use_sliding_window": true, "sliding_window": 16,
    "max_window_layers": 1, "pad_token_id": 0, "eos_token_id": 3}"#;

pub const TINY_GPT2_CONFIG: &str = r#"{"model_type": "gpt2", "vocab_size": 128, "n_embd": 32, "n_layer": 2, "n_head": 4,
    "n_inner": 64, "n_positions": 512, "pad_token_id": 0, "eos_token_id": 3}"#;

/// `config.json` of the tiny model of a family.
pub fn tiny_config(family: Family) -> &'static str {
    match family {
        Family::Bert => TINY_CONFIG,
        Family::Roberta => TINY_ROBERTA_CONFIG,
        Family::DistilBert => TINY_DISTILBERT_CONFIG,
        Family::Llama => TINY_LLAMA_CONFIG,
        Family::Mistral => TINY_MISTRAL_CONFIG,
        Family::Qwen2 => TINY_QWEN2_CONFIG,
        Family::Gpt2 => TINY_GPT2_CONFIG,
    }
}

/// What each family can be taught.
pub fn tasks(family: Family) -> Vec<Task> {
    let classify = Task::classify(3);
    if family.is_decoder() { vec![classify, Task::CausalLm] } else { vec![classify] }
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

/// The tensors of the tiny model of a family, named with its prefix; an output matrix of its own beside it.
pub fn family_tensors(family: Family) -> Tensors {
    let mut shapes = BTreeMap::new();
    match family {
        Family::Bert | Family::Roberta | Family::DistilBert => encoder_shapes(family, &mut shapes),
        Family::Llama | Family::Mistral | Family::Qwen2 => llama_shapes(family, &mut shapes),
        Family::Gpt2 => gpt2_shapes(&mut shapes),
    }
    let fill = |(t, (name, shape)): (usize, (String, Vec<usize>))| {
        let lower = name.to_lowercase();
        let norm = ["norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight"].iter().any(|end| lower.ends_with(end));
        let middle = if norm { 1.0 } else { 0.0 };
        let count = shape.iter().product();
        let values = uniform(t as u32 + 1, count).into_iter().map(|u| (middle + 0.25 * u) as f32).collect();
        (format!("{}.{name}", family.prefix()), (shape, values))
    };
    let mut tensors: Tensors = shapes.into_iter().enumerate().map(fill).collect();
    if matches!(family, Family::Mistral | Family::Qwen2) {
        let values = uniform(1000, 128 * 32).into_iter().map(|u| 0.25 * u as f32).collect();
        tensors.insert("lm_head.weight".to_owned(), (vec![128, 32], values));
    }
    tensors
}

type Shapes = BTreeMap<String, Vec<usize>>;

fn linear(shapes: &mut Shapes, path: &str, weight: [usize; 2], bias: Option<usize>) {
    shapes.insert(format!("{path}.weight"), weight.to_vec());
    if let Some(length) = bias {
        shapes.insert(format!("{path}.bias"), vec![length]);
    }
}

fn encoder_shapes(family: Family, shapes: &mut Shapes) {
    let (hidden, inner) = (32, 64);
    let (positions, token_types) = match family {
        Family::Roberta => (514, 1),
        Family::DistilBert => (512, 0),
        _ => (512, 2),
    };
    linear(shapes, "embeddings.word_embeddings", [128, hidden], None);
    linear(shapes, "embeddings.position_embeddings", [positions, hidden], None);
    if token_types > 0 {
        linear(shapes, "embeddings.token_type_embeddings", [token_types, hidden], None);
    }
    if family == Family::Bert {
        linear(shapes, "pooler.dense", [hidden, hidden], Some(hidden));
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    let (layer, square, [first, second], layer_norms) = if family == Family::DistilBert {
        let square = ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"];
        ("transformer.layer", square, ["ffn.lin1", "ffn.lin2"], ["sa_layer_norm", "output_layer_norm"])
    } else {
        let square = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"];
        let norms = ["attention.output.LayerNorm", "output.LayerNorm"];
        ("encoder.layer", square, ["intermediate.dense", "output.dense"], norms)
    };
    for i in 0..2 {
        let path = |rest: &str| format!("{layer}.{i}.{rest}");
        for part in square {
            linear(shapes, &path(part), [hidden, hidden], Some(hidden));
        }
        linear(shapes, &path(first), [inner, hidden], Some(inner));
        linear(shapes, &path(second), [hidden, inner], Some(hidden));
        norms.extend(layer_norms.map(path));
    }
    for path in norms {
        shapes.insert(format!("{path}.weight"), vec![hidden]);
        shapes.insert(format!("{path}.bias"), vec![hidden]);
    }
}

fn llama_shapes(family: Family, shapes: &mut Shapes) {
    let (hidden, keys, inner) = (32, 16, 64);
    let bias = |length| (family == Family::Qwen2).then_some(length);
    linear(shapes, "embed_tokens", [128, hidden], None);
    shapes.insert("norm.weight".to_owned(), vec![hidden]);
    for i in 0..2 {
        let path = |rest: &str| format!("layers.{i}.{rest}");
        linear(shapes, &path("self_attn.q_proj"), [hidden, hidden], bias(hidden));
        linear(shapes, &path("self_attn.k_proj"), [keys, hidden], bias(keys));
        linear(shapes, &path("self_attn.v_proj"), [keys, hidden], bias(keys));
        linear(shapes, &path("self_attn.o_proj"), [hidden, hidden], None);
        linear(shapes, &path("mlp.gate_proj"), [inner, hidden], None);
        linear(shapes, &path("mlp.up_proj"), [inner, hidden], None);
        linear(shapes, &path("mlp.down_proj"), [hidden, inner], None);
        shapes.insert(path("input_layernorm.weight"), vec![hidden]);
        shapes.insert(path("post_attention_layernorm.weight"), vec![hidden]);
    }
}

fn gpt2_shapes(shapes: &mut Shapes) {
    let (hidden, inner) = (32, 64);
    linear(shapes, "wte", [128, hidden], None);
    linear(shapes, "wpe", [512, hidden], None);
    for i in 0..2 {
        let path = |rest: &str| format!("h.{i}.{rest}");
        linear(shapes, &path("attn.c_attn"), [hidden, 3 * hidden], Some(3 * hidden));
        linear(shapes, &path("attn.c_proj"), [hidden, hidden], Some(hidden));
        linear(shapes, &path("mlp.c_fc"), [hidden, inner], Some(inner));
        linear(shapes, &path("mlp.c_proj"), [inner, hidden], Some(hidden));
        for norm in ["ln_1", "ln_2"] {
            shapes.insert(path(&format!("{norm}.weight")), vec![hidden]);
            shapes.insert(path(&format!("{norm}.bias")), vec![hidden]);
        }
    }
    shapes.insert("ln_f.weight".to_owned(), vec![hidden]);
    shapes.insert("ln_f.bias".to_owned(), vec![hidden]);
}

/// `rows × columns` numbers of a formula.
pub fn table(rows: usize, columns: usize, f: impl Fn(f64, f64) -> f64) -> Vec<f32> {
    (0..rows * columns).map(|k| f((k / columns) as f64, (k % columns) as f64) as f32).collect()
}

/// A of each module, and all B's one after the other, by the formulas of `tests/golden_hf.py`.
pub fn golden_adapter(layout: &AdapterLayout) -> (Vec<Vec<f32>>, Vec<f32>) {
    let (r, modules) = (layout.rank(), || layout.modules().iter().enumerate().map(|(m, module)| (m as f64, module)));
    let a = modules().map(|(m, s)| table(r, s.in_features, |i, j| 0.05 * (0.7 * i + 1.3 * j + m).sin()));
    let b = modules().flat_map(|(m, s)| table(s.out_features, r, |i, j| 0.02 * (1.1 * i + 0.3 * j + 2.0 * m).cos()));
    (a.collect(), b.collect())
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
        target_modules: Some(Targets::names(targets)),
        init: Init::KaimingUniform,
        seed: 7,
        head,
        refresh_rounds: None,
    }
}

pub fn layout_of(dir: &Path, lora: &LoraConfig, task: Task) -> AdapterLayout {
    let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
    AdapterLayout::new(&BaseShape::from_config_json(&config).unwrap(), lora, task).unwrap()
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
