//! The `[lora]` part of a job: which layers get an adapter, how large it is, and how it starts.
//!
//! Closed (`deny_unknown_fields`): a key that this version does not know is refused rather than ignored. Whether the
//! values fit a particular base model is checked by [`AdapterLayout::new`](crate::AdapterLayout::new).

use serde::{Deserialize, Serialize};

use crate::Targets;

/// How the adapter is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// FFA-LoRA: A frozen at its initial value, only B trained (Sun et al., ICLR 2024).
    FfaLora,
    /// LoRA: A and B both trained and averaged, each on its own (the baseline of that paper).
    Lora,
    /// RoLoRA: B trained in odd rounds, A in even ones (Chen et al. 2025, arXiv 2502.01755).
    #[serde(rename = "rolora")]
    RoLora,
}

/// How A is drawn from the seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Uniform on (−1/√in, 1/√in): PEFT's default, `kaiming_uniform_(a=√5)`.
    #[default]
    KaimingUniform,
    /// Orthonormal rows (A·Aᵀ = I), from Gaussian rows by modified Gram–Schmidt.
    Orthonormal,
}

/// What happens to the classification head (BERT: `classifier`; RoBERTa and DistilBERT have a dense layer before;
/// decoders: `score`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// Stays at its seeded initial value, as in the FFA-LoRA paper.
    #[default]
    Frozen,
    /// Is trained with B: its coordinates join the update, the clipping and the sum.
    Trained,
}

/// The adapter that a job asks for; names as in PEFT's `LoraConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct LoraConfig {
    /// Training method: `"ffa-lora"`, `"lora"` or `"rolora"`; what each costs and guarantees stands in `docs/methods.md`.
    pub method: Method,
    /// Rank of B·A; at least 1, at most the smaller side of every targeted layer.
    pub r: u32,
    /// Numerator of the scaling `lora_alpha / r`; finite and above 0.
    pub lora_alpha: f64,
    /// Layers to adapt, by PEFT's rules: a list of paths or their ends at a dot (`["query", "value"]`), or a regular
    /// expression for whole paths. Without the key PEFT's default for the family: query and value (GPT-2: `c_attn`).
    #[serde(default)]
    pub target_modules: Option<Targets>,
    /// How A is drawn; `"kaiming-uniform"` (default) or `"orthonormal"`.
    #[serde(default)]
    pub init: Init,
    /// Public seed of A and of the head's initial value.
    pub seed: u64,
    /// `"frozen"` (default) or `"trained"`.
    #[serde(default)]
    pub head: Head,
    /// Every so many rounds B·A becomes a frozen part, A is drawn anew and B starts again at zero. Only with
    /// `"ffa-lora"`; without the key A stays the same.
    #[serde(default)]
    pub refresh_rounds: Option<u32>,
}

impl LoraConfig {
    /// The factor `lora_alpha / r` by which B·A is multiplied.
    pub fn scaling(&self) -> f64 {
        self.lora_alpha / f64::from(self.r)
    }
}
