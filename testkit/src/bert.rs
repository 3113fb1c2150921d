//! A tiny random BERT with a tokenizer of whole words, as a Hugging Face directory.
//!
//! Two layers of 32, so that query and value with r = 8 have 1024 trained coordinates. The weights are a formula: every
//! run writes the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

const HIDDEN: usize = 32;
const INNER: usize = 64;
const WORDS: usize = 60;
const VOCABULARY: usize = 4 + WORDS;
const POSITIONS: usize = 64;
const LAYERS: usize = 2;

/// Small reproducible numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD134_2543_DE82_EF95))
    }

    /// The next 64 bits.
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// A whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: i32, high: i32) -> i32 {
        let span = u64::try_from(i64::from(high) - i64::from(low) + 1).unwrap();
        low + i32::try_from(self.draw() % span).unwrap()
    }
}

/// Writes `config.json`, `model.safetensors` and `tokenizer.json` into `dir`.
pub fn write(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let config = serde_json::json!({
        "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "intermediate_size": INNER, "max_position_embeddings": POSITIONS, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    std::fs::write(dir.join("model.safetensors"), weights()).unwrap();
    std::fs::write(dir.join("tokenizer.json"), tokenizer()).unwrap();
}

/// Word number `i`, which the tokenizer knows.
pub fn word(i: usize) -> String {
    format!("w{}", i % WORDS)
}

fn weights() -> Vec<u8> {
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut add = |name: &str, shape: &[usize]| {
        shapes.insert(format!("bert.{name}"), shape.to_vec());
    };
    add("embeddings.word_embeddings.weight", &[VOCABULARY, HIDDEN]);
    add("embeddings.position_embeddings.weight", &[POSITIONS, HIDDEN]);
    add("embeddings.token_type_embeddings.weight", &[2, HIDDEN]);
    let mut norm = |path: &str| {
        add(&format!("{path}.weight"), &[HIDDEN]);
        add(&format!("{path}.bias"), &[HIDDEN]);
    };
    norm("embeddings.LayerNorm");
    for layer in 0..LAYERS {
        norm(&format!("encoder.layer.{layer}.attention.output.LayerNorm"));
        norm(&format!("encoder.layer.{layer}.output.LayerNorm"));
    }
    let mut linear = |path: &str, inputs: usize, outputs: usize| {
        add(&format!("{path}.weight"), &[outputs, inputs]);
        add(&format!("{path}.bias"), &[outputs]);
    };
    linear("pooler.dense", HIDDEN, HIDDEN);
    for layer in 0..LAYERS {
        let path = format!("encoder.layer.{layer}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            linear(&format!("{path}.{part}"), HIDDEN, HIDDEN);
        }
        linear(&format!("{path}.intermediate.dense"), HIDDEN, INNER);
        linear(&format!("{path}.output.dense"), INNER, HIDDEN);
    }
    let mut noise = Noise::new(1);
    let bytes: Vec<Vec<u8>> = shapes
        .iter()
        .map(|(name, shape)| {
            let middle = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
            let values = (0..shape.iter().product()).map(|_| middle + noise.between(-1000, 1000) as f32 / 4000.0);
            values.flat_map(f32::to_le_bytes).collect()
        })
        .collect();
    let views = shapes
        .iter()
        .zip(&bytes)
        .map(|((name, shape), bytes)| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn tokenizer() -> String {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(str::to_owned);
    let words = special.into_iter().chain((0..WORDS).map(word));
    let vocabulary: serde_json::Map<_, _> = words.enumerate().map(|(i, word)| (word, i.into())).collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    })
    .to_string()
}
