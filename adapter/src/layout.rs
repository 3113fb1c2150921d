//! Where each trained coordinate lies in the flat vector that travels.
//!
//! ```text
//! [ B of module 0: out×r, row-major | B of module 1 | … | weights of the head: labels×hidden last | its biases ]
//!   └────────────── segment "lora_B" ─────────────────┘ └───── segment "head", only where trained ───────────┘
//! [ A of module 0: r×in, row-major | A of module 1 | … ]
//!   └──── segment "lora_A", only where A is trained ───┘
//! ```
//!
//! Which segments travel in which round is the method's ([`RoundKind`](crate::RoundKind)).
//!
//! Modules stand in the order of the base model's layers, inside a layer query, key, value, attention output,
//! intermediate, output, last the pooler where there is one. A head of two layers has the weights of both, then the
//! biases of both. The order is part of [`AdapterLayout::hash`] and so of the model hash.

use std::ops::Range;

use blindsum_files::{ExitCode, Exits};
use thiserror::Error;

use crate::hash::FieldHasher;
use crate::targets::{Matcher, Targets};
use crate::{BaseShape, Family, Head, LoraConfig, Method, Task};

/// Labels that a job may have.
const MAX_LABELS: usize = 1000;
/// Trained coordinates: 1 GiB of `f32`, the largest vector this version moves.
const MAX_LEN: usize = 1 << 28;

/// Why an adapter does not fit a base model.
#[derive(Debug, Error, PartialEq)]
pub enum LayoutError {
    /// A value of the `[lora]` table is out of range.
    #[error("lora.{key} is {value}: {why}")]
    Value {
        /// The key below `[lora]`.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what would be accepted.
        why: String,
    },
    /// A target that names no linear layer of the base model.
    #[error("lora.target_modules names {target:?}, which matches no layer that can be adapted; {layers}", layers = family.describe_layers())]
    NoSuchModule {
        /// The entry of `target_modules`, or the pattern.
        target: String,
        /// The base model's family.
        family: Family,
    },
    /// A target that names layers of the head too, where PEFT would put an adapter and we do not.
    #[error(
        "lora.target_modules also matches {layer} in the classification head; the head is trained or frozen as a whole \
         (lora.head): name more of the path, as in \"output.dense\""
    )]
    InHead {
        /// Path of the head's layer.
        layer: &'static str,
    },
    /// A family that cannot do the job's task.
    #[error("model.task is \"causal-lm\", but a {name} model reads texts in both directions and cannot continue them; take one of {decoders}, or model.task = \"sequence-classification\"", name = family.model_type(), decoders = Family::decoder_names())]
    NotADecoder {
        /// The base model's family.
        family: Family,
    },
    /// The job's labels do not make a classifier.
    #[error("the job names {0} labels; a classifier needs 2 to {MAX_LABELS}")]
    Labels(usize),
    /// More coordinates than may travel.
    #[error(
        "the adapter would have {0} trained coordinates, at most {MAX_LEN}; choose a smaller r or fewer target_modules"
    )]
    TooLarge(usize),
}

impl Exits for LayoutError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }
}

impl LayoutError {
    /// The key of the job whose value is at fault, dotted.
    pub fn key(&self) -> String {
        match self {
            LayoutError::Value { key, .. } => format!("lora.{key}"),
            LayoutError::NoSuchModule { .. } | LayoutError::InHead { .. } => "lora.target_modules".to_owned(),
            LayoutError::NotADecoder { .. } => "model.task".to_owned(),
            LayoutError::Labels(_) => "model.labels".to_owned(),
            LayoutError::TooLarge(_) => "lora.r".to_owned(),
        }
    }
}

/// One adapted linear layer, `y = x·W0ᵀ + scaling · (x·Aᵀ)·Bᵀ`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Path inside Hugging Face's model, e.g. `bert.encoder.layer.0.attention.self.query`.
    pub path: String,
    /// Columns of W0 and of A `[r, in_features]`.
    pub in_features: usize,
    /// Rows of W0 and of B `[out_features, r]`.
    pub out_features: usize,
}

/// One linear layer of the classification head, `y = x·Wᵀ + b`; what stands between two of them is the family's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLayer {
    /// Path inside Hugging Face's model for sequence classification, e.g. `classifier`.
    pub path: &'static str,
    /// Columns of W.
    pub in_features: usize,
    /// Rows of W `[out_features, in_features]` and length of b.
    pub out_features: usize,
    /// Whether there is a b.
    pub bias: bool,
}

impl HeadLayer {
    /// Numbers in b.
    pub fn biases(&self) -> usize {
        if self.bias { self.out_features } else { 0 }
    }
}

/// Where the weights and the biases of a head lie, or of one of its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadRanges {
    /// Weights, each row-major `[out_features, in_features]`, one layer after the other.
    pub weight: Range<usize>,
    /// Biases, `[out_features]` each.
    pub bias: Range<usize>,
}

/// The adapter of one job on one base model: its modules and the order of its trained coordinates.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterLayout {
    shape: BaseShape,
    lora: LoraConfig,
    task: Task,
    targets: Targets,
    modules: Vec<Module>,
    head_layers: Vec<HeadLayer>,
    /// Start of each module's B, then the end of the last.
    b_offsets: Vec<usize>,
}

impl AdapterLayout {
    /// Lays out the adapter that `lora` asks for on a base model of this shape, for this task.
    ///
    /// # Errors
    /// Names the key where a value is out of range, the family cannot do the task, a target matches nothing or a part of
    /// the head, or the adapter is too large.
    pub fn new(shape: &BaseShape, lora: &LoraConfig, task: Task) -> Result<Self, LayoutError> {
        check_lora(lora)?;
        match task {
            Task::SequenceClassification { labels } if !(2..=MAX_LABELS).contains(&labels) => {
                return Err(LayoutError::Labels(labels));
            }
            Task::CausalLm if !shape.family.is_decoder() => {
                return Err(LayoutError::NotADecoder { family: shape.family });
            }
            Task::CausalLm if lora.head == Head::Trained => {
                let why = "a causal language model has no head to train; leave the key out".to_owned();
                return Err(LayoutError::Value { key: "head", value: "\"trained\"".to_owned(), why });
            }
            _ => {}
        }
        let (matcher, targets) = Matcher::new(lora.target_modules.as_ref(), shape.family)?;
        let linear = shape.family.linear_layers(shape);
        let head_layers = shape.family.head_layers(shape, task);
        if let Some(target) = matcher.without_match(linear.iter().map(|m| m.path.as_str())) {
            return Err(LayoutError::NoSuchModule { target, family: shape.family });
        }
        if let Some(layer) = head_layers.iter().find(|l| matcher.matches(l.path)) {
            return Err(LayoutError::InHead { layer: layer.path });
        }
        let modules: Vec<Module> = linear.into_iter().filter(|m| matcher.matches(&m.path)).collect();
        let r = lora.r as usize;
        let mut b_offsets = vec![0];
        let mut end = 0usize;
        for module in &modules {
            let side = module.in_features.min(module.out_features);
            if r > side {
                let why = format!("it exceeds {side}, the smaller side of {}", module.path);
                return Err(LayoutError::Value { key: "r", value: r.to_string(), why });
            }
            // r ≤ out ≤ 2^32 and at most 1000 layers of 7 modules: far below usize::MAX.
            end += module.out_features * r;
            b_offsets.push(end);
        }
        let (shape, lora) = (shape.clone(), lora.clone());
        let layout = AdapterLayout { shape, lora, task, targets, modules, head_layers, b_offsets };
        if layout.len() > MAX_LEN {
            return Err(LayoutError::TooLarge(layout.len()));
        }
        Ok(layout)
    }

    /// Number of coordinates that are trained in some round, d.
    pub fn len(&self) -> usize {
        self.b_len() + if self.lora.head == Head::Trained { self.head_len() } else { 0 } + self.a_len()
    }

    /// Never true: a layout has at least one module.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The adapted layers in order.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The configuration this layout was made from.
    pub fn lora(&self) -> &LoraConfig {
        &self.lora
    }

    /// The base model's shape.
    pub fn shape(&self) -> &BaseShape {
        &self.shape
    }

    /// What the model is taught.
    pub fn task(&self) -> Task {
        self.task
    }

    /// Number of classes; 0 where the model continues texts.
    pub fn labels(&self) -> usize {
        self.task.labels()
    }

    /// The targets in force: the job's, or PEFT's default for the family.
    pub fn target_modules(&self) -> &Targets {
        &self.targets
    }

    /// Rank r.
    pub fn rank(&self) -> usize {
        self.lora.r as usize
    }

    /// Width of the residual stream and of every input of the head.
    pub fn hidden(&self) -> usize {
        self.shape.hidden
    }

    /// Where `lora_B` of module `i` lies, row-major `[out_features, r]`; panics if there is no such module.
    pub fn b_range(&self, i: usize) -> Range<usize> {
        self.b_offsets[i]..self.b_offsets[i + 1]
    }

    /// Coordinates of all B's together.
    pub fn b_len(&self) -> usize {
        self.b_offsets[self.modules.len()]
    }

    /// The head's linear layers, the one that gives the logits last.
    pub fn head_layers(&self) -> &[HeadLayer] {
        &self.head_layers
    }

    /// Where the head lies in the vector; `None` where it is frozen and so not part of it.
    pub fn head_ranges(&self) -> Option<HeadRanges> {
        if self.lora.head == Head::Frozen {
            return None;
        }
        let weight = self.b_len()..self.b_len() + self.head_weights();
        let bias = weight.end..weight.end + self.head_biases();
        Some(HeadRanges { weight, bias })
    }

    /// Where each layer of the head lies within all its weights and within all its biases, in order.
    pub fn head_parts(&self) -> Vec<HeadRanges> {
        let mut parts: Vec<HeadRanges> = Vec::with_capacity(self.head_layers.len());
        for layer in &self.head_layers {
            let (weight, bias) = parts.last().map_or((0, 0), |before| (before.weight.end, before.bias.end));
            let weight = weight..weight + layer.out_features * layer.in_features;
            parts.push(HeadRanges { weight, bias: bias..bias + layer.biases() });
        }
        parts
    }

    /// Numbers in all the head's weights together.
    pub fn head_weights(&self) -> usize {
        self.head_layers.iter().map(|layer| layer.out_features * layer.in_features).sum()
    }

    /// Numbers in all the head's biases together.
    pub fn head_biases(&self) -> usize {
        self.head_layers.iter().map(HeadLayer::biases).sum()
    }

    /// The head that the model uses, weights and biases: from `values` where it is trained, else `frozen`.
    ///
    /// `values` must have the layout's length.
    pub fn head_in_force<'a>(&self, values: &'a [f32], frozen: &'a (Vec<f32>, Vec<f32>)) -> (&'a [f32], &'a [f32]) {
        match self.head_ranges() {
            Some(HeadRanges { weight, bias }) => (&values[weight], &values[bias]),
            None => (&frozen.0, &frozen.1),
        }
    }

    /// Numbers in the head, trained or not: `labels · hidden`, the biases, and those of a dense layer before.
    pub fn head_len(&self) -> usize {
        self.head_weights() + self.head_biases()
    }

    /// SHA-256 over everything that gives the vector its meaning: method, rank, scaling, initialisation, seed, head,
    /// labels, and each module's path and shape in order; then, where the head is not a single layer, each of its
    /// layers likewise; then, where there is one, the number of rounds between refreshes.
    pub fn hash(&self) -> [u8; 32] {
        let LoraConfig { method, r, lora_alpha, target_modules: _, init, seed, head, refresh_rounds } = &self.lora;
        let mut hasher = FieldHasher::new("blindsum adapter layout v1")
            .field(name_of(method).as_bytes())
            .u64(u64::from(*r))
            .u64(lora_alpha.to_bits())
            .field(name_of(init).as_bytes())
            .u64(*seed)
            .field(name_of(head).as_bytes())
            .u64(self.task.labels() as u64)
            .u64(self.shape.hidden as u64)
            .u64(self.shape.initializer_range.to_bits())
            .u64(self.modules.len() as u64);
        for module in &self.modules {
            hasher =
                hasher.field(module.path.as_bytes()).u64(module.in_features as u64).u64(module.out_features as u64);
        }
        if self.head_layers.len() > 1 {
            for layer in &self.head_layers {
                hasher =
                    hasher.field(layer.path.as_bytes()).u64(layer.in_features as u64).u64(layer.out_features as u64);
            }
        }
        if let Some(every) = refresh_rounds {
            hasher = hasher.field(b"refresh_rounds").u64(u64::from(*every));
        }
        hasher.finish()
    }
}

/// The kebab-case name under which a choice stands in the job.
fn name_of(choice: &impl serde::Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("a unit variant serialises as its name, not {other:?}"),
    }
}

fn check_lora(lora: &LoraConfig) -> Result<(), LayoutError> {
    let value = |key, value: String, why: &str| Err(LayoutError::Value { key, value, why: why.to_owned() });
    if lora.r == 0 {
        return value("r", "0".to_owned(), "the rank must be at least 1");
    }
    if !(lora.lora_alpha.is_finite() && lora.lora_alpha > 0.0) {
        return value("lora_alpha", lora.lora_alpha.to_string(), "it must be a finite number above 0");
    }
    match (lora.method, lora.refresh_rounds) {
        (Method::FfaLora, Some(0)) => {
            return value("refresh_rounds", "0".to_owned(), "give at least 1, or leave it out");
        }
        (Method::Lora | Method::RoLora, Some(every)) => {
            let why = "only lora.method = \"ffa-lora\" draws A anew, the others train it: leave it out";
            return value("refresh_rounds", every.to_string(), why);
        }
        _ => {}
    }
    Ok(())
}
