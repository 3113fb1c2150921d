//! What differs between the families of base models, as far as the adapter is concerned: keys of `config.json`, paths
//! of the linear layers, PEFT's default targets, and the layers of the classification head.
//!
//! One file per family; every other part of this crate asks [`Family`] and knows no family by name. How a family
//! computes is the training engine's business.

mod bert;
mod distilbert;
mod gpt2;
pub(crate) mod keys;
mod llama;
mod mistral;
mod qwen2;
mod roberta;
mod rotary;
mod windows;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::shape::Dimensions;
use crate::{BaseShape, HeadLayer, Module, ShapeError, Task};

/// An architecture that can be adapted, by the `model_type` of its `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// BERT (Devlin et al. 2019): `BertForSequenceClassification`.
    Bert,
    /// RoBERTa (Liu et al. 2019): `RobertaForSequenceClassification`.
    Roberta,
    /// DistilBERT (Sanh et al. 2019): `DistilBertForSequenceClassification`.
    DistilBert,
    /// Llama (Touvron et al. 2023) and its successors.
    Llama,
    /// Mistral (Jiang et al. 2023).
    Mistral,
    /// Qwen2 and Qwen2.5 (Yang et al. 2024).
    Qwen2,
    /// GPT-2 (Radford et al. 2019).
    Gpt2,
}

impl Family {
    /// Every family that is supported.
    pub const ALL: [Family; 7] = [
        Family::Bert,
        Family::Roberta,
        Family::DistilBert,
        Family::Llama,
        Family::Mistral,
        Family::Qwen2,
        Family::Gpt2,
    ];

    /// The family of this `model_type`; `None` where it is not supported.
    pub fn of(model_type: &str) -> Option<Self> {
        Family::ALL.into_iter().find(|family| family.model_type() == model_type)
    }

    /// The name in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Bert => "bert",
            Family::Roberta => "roberta",
            Family::DistilBert => "distilbert",
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Qwen2 => "qwen2",
            Family::Gpt2 => "gpt2",
        }
    }

    /// What stands before the names of the base model's tensors (Hugging Face's `base_model_prefix`).
    pub fn prefix(self) -> &'static str {
        match self {
            Family::Bert | Family::Roberta | Family::DistilBert => self.model_type(),
            Family::Llama | Family::Mistral | Family::Qwen2 => "model",
            Family::Gpt2 => "transformer",
        }
    }

    /// Whether a token reads only those before it, so that the family can continue texts.
    pub fn is_decoder(self) -> bool {
        match self {
            Family::Bert | Family::Roberta | Family::DistilBert => false,
            Family::Llama | Family::Mistral | Family::Qwen2 | Family::Gpt2 => true,
        }
    }

    /// Whether its linear layers lie in the checkpoint as `[in, out]` (Hugging Face's `Conv1D`).
    pub fn stores_transposed(self) -> bool {
        self == Family::Gpt2
    }

    /// The layers that PEFT adapts where `target_modules` is not given.
    pub fn default_target_modules(self) -> &'static [&'static str] {
        match self {
            Family::Bert | Family::Roberta => &["query", "value"],
            Family::DistilBert => &["q_lin", "v_lin"],
            Family::Llama | Family::Mistral | Family::Qwen2 => &["q_proj", "v_proj"],
            Family::Gpt2 => &["c_attn"],
        }
    }

    /// Reads the keys that the family's `config.json` has; settings are checked, dimensions not yet.
    pub(crate) fn read(self, mut config: Map<String, Value>) -> Result<Dimensions, ShapeError> {
        keys::check(self, &mut config)?;
        match self {
            Family::Bert => bert::read(config),
            Family::Roberta => roberta::read(config),
            Family::DistilBert => distilbert::read(config),
            Family::Llama => llama::read(config),
            Family::Mistral => mistral::read(config),
            Family::Qwen2 => qwen2::read(config),
            Family::Gpt2 => gpt2::read(config),
        }
    }

    /// All linear layers in the order of the model, paths as in Hugging Face's `…ForSequenceClassification` or
    /// `…ForCausalLM`. The head's are not among them: it is trained or frozen as a whole; nor is the output matrix of a
    /// causal language model.
    pub(crate) fn linear_layers(self, shape: &BaseShape) -> Vec<Module> {
        match self {
            Family::Bert => bert::linear_layers(shape),
            Family::Roberta => roberta::linear_layers(shape),
            Family::DistilBert => distilbert::linear_layers(shape),
            Family::Llama | Family::Mistral | Family::Qwen2 => llama::linear_layers(shape),
            Family::Gpt2 => gpt2::linear_layers(shape),
        }
    }

    /// Ends of the paths of [`linear_layers`](Self::linear_layers), for messages.
    fn adaptable(self) -> String {
        match self {
            Family::Bert => format!("{} and pooler.dense", bert::LAYER.join(", ")),
            Family::Roberta => bert::LAYER.join(", "),
            Family::DistilBert => distilbert::LAYER.join(", "),
            Family::Llama | Family::Mistral | Family::Qwen2 => llama::LAYER.join(", "),
            Family::Gpt2 => gpt2::LAYER.join(", "),
        }
    }

    /// The head's linear layers, the one that gives the logits last; none where the model continues texts.
    pub(crate) fn head_layers(self, shape: &BaseShape, task: Task) -> Vec<HeadLayer> {
        let Task::SequenceClassification { labels } = task else { return Vec::new() };
        let layer = |path, out_features| HeadLayer { path, in_features: shape.hidden, out_features, bias: true };
        match self {
            Family::Bert => vec![layer("classifier", labels)],
            Family::Roberta => vec![layer("classifier.dense", shape.hidden), layer("classifier.out_proj", labels)],
            Family::DistilBert => vec![layer("pre_classifier", shape.hidden), layer("classifier", labels)],
            Family::Llama | Family::Mistral | Family::Qwen2 | Family::Gpt2 => {
                vec![HeadLayer { bias: false, ..layer("score", labels) }]
            }
        }
    }

    /// PEFT's `modules_to_save`: the modules that together are the head.
    pub(crate) fn modules_to_save(self, task: Task) -> Option<Vec<String>> {
        let names: &[&str] = match (task, self) {
            (Task::CausalLm, _) => return None,
            (_, Family::Bert | Family::Roberta) => &["classifier"],
            (_, Family::DistilBert) => &["pre_classifier", "classifier"],
            (_, Family::Llama | Family::Mistral | Family::Qwen2 | Family::Gpt2) => &["score"],
        };
        Some(names.iter().map(|&name| name.to_owned()).collect())
    }

    /// The supported `model_type`s, for messages.
    pub(crate) fn names() -> String {
        Family::ALL.map(Family::model_type).join(", ")
    }

    /// Those that continue texts, for messages.
    pub(crate) fn decoder_names() -> String {
        Family::ALL.into_iter().filter(|f| f.is_decoder()).map(Family::model_type).collect::<Vec<_>>().join(", ")
    }

    /// Which layers the family has and which PEFT takes by default, for messages.
    pub(crate) fn describe_layers(self) -> String {
        let (name, layers) = (self.model_type(), self.adaptable());
        format!("a {name} model has {layers} (PEFT's default: {})", self.default_target_modules().join(", "))
    }
}

/// The linear layers of an encoder at `prefix.<i>.name`, one layer after the other; `names` are query, key, value,
/// attention output, and the two of the feed-forward layer.
fn stacked(prefix: &str, layers: usize, names: [&str; 6], hidden: usize, inner: usize) -> Vec<Module> {
    let mut modules = Vec::with_capacity(layers * names.len() + 1);
    for i in 0..layers {
        for (k, name) in names.into_iter().enumerate() {
            let (in_features, out_features) = match k {
                4 => (hidden, inner),
                5 => (inner, hidden),
                _ => (hidden, hidden),
            };
            modules.push(Module { path: format!("{prefix}.{i}.{name}"), in_features, out_features });
        }
    }
    modules
}

/// Takes the keys of a `config.json` that `T` has.
fn parse<T: DeserializeOwned>(config: Map<String, Value>) -> Result<T, ShapeError> {
    let read = |config: &Map<String, Value>| serde_json::from_value(Value::Object(config.clone()));
    read(&config).map_err(|e: serde_json::Error| {
        let problem = e.to_string();
        if problem.starts_with("missing field") {
            return ShapeError::Unreadable(problem);
        }
        // serde names a key that is missing, not one whose value is wrong: without that one the problem is another, at
        // worst that it is missing
        let without = |key: &str| {
            let mut rest = config.clone();
            rest.remove(key);
            read(&rest).err().map(|e| e.to_string())
        };
        let mended = config.keys().find(|key| without(key).is_none());
        let wrong = mended.or_else(|| config.keys().find(|key| without(key).is_some_and(|other| other != problem)));
        ShapeError::Unreadable(wrong.map_or(problem.clone(), |key| format!("{key}: {problem}")))
    })
}

/// `pad_token_id`: early conversions write −1 where there is none.
fn token(id: Option<i64>) -> Option<u32> {
    id.and_then(|id| u32::try_from(id).ok())
}

fn default_initializer_range() -> f64 {
    0.02
}

fn default_activation() -> String {
    "gelu".to_owned()
}

/// Every family's feed-forward layer is computed with this activation alone.
fn check_activation(key: &'static str, value: &str) -> Result<(), ShapeError> {
    if value == "gelu" {
        return Ok(());
    }
    let value = format!("{:?}", value.chars().take(64).collect::<String>());
    Err(ShapeError::Unsupported { key, value, supported: "\"gelu\"" })
}
