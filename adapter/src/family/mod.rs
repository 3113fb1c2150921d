//! What differs between the families of base models, as far as the adapter is concerned: keys of `config.json`, paths
//! of the linear layers, PEFT's default targets, and the layers of the classification head.
//!
//! One file per family; every other part of this crate asks [`Family`] and knows no family by name. How a family
//! computes is the training engine's business.

mod bert;
mod distilbert;
mod roberta;

use serde::Deserialize;

use crate::shape::Dimensions;
use crate::{BaseShape, HeadLayer, Module, ShapeError};

/// An architecture that can be adapted, by the `model_type` of its `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// BERT (Devlin et al. 2019): `BertForSequenceClassification`.
    Bert,
    /// RoBERTa (Liu et al. 2019): `RobertaForSequenceClassification`.
    Roberta,
    /// DistilBERT (Sanh et al. 2019): `DistilBertForSequenceClassification`.
    DistilBert,
}

impl Family {
    /// Every family that is supported.
    pub const ALL: [Family; 3] = [Family::Bert, Family::Roberta, Family::DistilBert];

    /// The family of this `model_type`; `None` where it is not supported.
    pub fn of(model_type: &str) -> Option<Self> {
        Family::ALL.into_iter().find(|family| family.model_type() == model_type)
    }

    /// The name in `config.json`, which is also the prefix of the encoder's tensors.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Bert => "bert",
            Family::Roberta => "roberta",
            Family::DistilBert => "distilbert",
        }
    }

    /// The layers that PEFT adapts where `target_modules` is not given.
    pub fn default_target_modules(self) -> &'static [&'static str] {
        match self {
            Family::Bert | Family::Roberta => &["query", "value"],
            Family::DistilBert => &["q_lin", "v_lin"],
        }
    }

    /// Reads the keys that the family's `config.json` has; settings are checked, dimensions not yet.
    pub(crate) fn read(self, config: &str) -> Result<Dimensions, ShapeError> {
        match self {
            Family::Bert => bert::read(config),
            Family::Roberta => roberta::read(config),
            Family::DistilBert => distilbert::read(config),
        }
    }

    /// All linear layers in the order of the model, paths as in Hugging Face's `…ForSequenceClassification`. The head's
    /// are not among them: it is trained or frozen as a whole.
    pub(crate) fn linear_layers(self, shape: &BaseShape) -> Vec<Module> {
        match self {
            Family::Bert => bert::linear_layers(shape),
            Family::Roberta => roberta::linear_layers(shape),
            Family::DistilBert => distilbert::linear_layers(shape),
        }
    }

    /// Ends of the paths of [`linear_layers`](Self::linear_layers), for messages.
    fn adaptable(self) -> String {
        match self {
            Family::Bert => format!("{} and pooler.dense", bert::LAYER.join(", ")),
            Family::Roberta => bert::LAYER.join(", "),
            Family::DistilBert => distilbert::LAYER.join(", "),
        }
    }

    /// The head's linear layers, the one that gives the logits last.
    pub(crate) fn head_layers(self, shape: &BaseShape, labels: usize) -> Vec<HeadLayer> {
        let layer = |path, out_features| HeadLayer { path, in_features: shape.hidden, out_features };
        match self {
            Family::Bert => vec![layer("classifier", labels)],
            Family::Roberta => vec![layer("classifier.dense", shape.hidden), layer("classifier.out_proj", labels)],
            Family::DistilBert => vec![layer("pre_classifier", shape.hidden), layer("classifier", labels)],
        }
    }

    /// PEFT's `modules_to_save`: the modules that together are the head.
    pub(crate) fn modules_to_save(self) -> Vec<String> {
        let names: &[&str] = match self {
            Family::Bert | Family::Roberta => &["classifier"],
            Family::DistilBert => &["pre_classifier", "classifier"],
        };
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// The supported `model_type`s, for messages.
    pub(crate) fn names() -> String {
        Family::ALL.map(Family::model_type).join(", ")
    }

    /// Which layers each family has and which PEFT takes by default, for messages.
    pub(crate) fn all_adaptable() -> String {
        let one = |family: Family| {
            let (name, layers) = (family.model_type(), family.adaptable());
            format!("a {name} model has {layers} (PEFT's default: {})", family.default_target_modules().join(", "))
        };
        Family::ALL.map(one).join("; ")
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

/// Parses the text of a `config.json`.
fn parse<'a, T: Deserialize<'a>>(config: &'a str) -> Result<T, ShapeError> {
    serde_json::from_str(config).map_err(|e| ShapeError::Unreadable(e.to_string()))
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
