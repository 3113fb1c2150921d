//! How an engine computes: where, in which number format, and how much at a time.

use std::str::FromStr;

use serde::Deserialize;

/// How an engine computes.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineSettings {
    /// Where the model lies and computes.
    pub device: ComputeDevice,
    /// Number format of the large matrix products and of the base weights.
    pub precision: Precision,
    /// Whether to keep each layer's input only and compute the layer again in the backward pass: a third more time, and
    /// memory for one layer's activations instead of all (Chen et al. 2016). For long sequences.
    pub gradient_checkpointing: bool,
    /// Micro-batches at a time, each on a thread; 0 for one per core. On a graphics card always one.
    pub threads: usize,
    /// Tokens in one micro-batch; 0 for as many as the memory that is free allows, at most 1,024 on a processor.
    pub micro_batch_tokens: usize,
}

/// `device` of silo.toml.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComputeDevice {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA card with this index.
    Cuda(usize),
}

impl FromStr for ComputeDevice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.strip_prefix("cuda:").map(usize::from_str) {
            None if name == "cpu" => Ok(ComputeDevice::Cpu),
            Some(Ok(index)) => Ok(ComputeDevice::Cuda(index)),
            _ => Err(format!("{name:?} is no device; choose \"cpu\", or \"cuda:0\" for the first NVIDIA card")),
        }
    }
}

/// Number format of the base model's matrix products and of the activations between them.
///
/// Layer norms, softmax and matrix products accumulate in f32 either way; the pooler, the head, the loss, and
/// per-example gradients with their norms and sums are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// bf16 where the processor multiplies it in hardware, else f32.
    #[default]
    Auto,
    /// 32-bit floating point: slower, equal to Hugging Face within 1e-4.
    F32,
    /// bfloat16, also where the processor has to emulate it.
    Bf16,
}

impl Precision {
    /// Every name, as written in configuration and on the command line.
    pub const NAMES: [&'static str; 3] = ["auto", "f32", "bf16"];

    /// Whether bf16 is used on this machine.
    pub fn uses_bf16(self) -> bool {
        match self {
            Precision::Auto => processor_multiplies_bf16(),
            Precision::F32 => false,
            Precision::Bf16 => true,
        }
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Precision::Auto),
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            _ => Err(format!("{name:?} is no precision; choose one of {}", Precision::NAMES.join(", "))),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn processor_multiplies_bf16() -> bool {
    // every processor with AMX tiles for bf16 has these instructions too
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_multiplies_bf16() -> bool {
    false
}
