//! In which number format the large matrix products run.

use serde::Deserialize;
use tch::{Device, Kind};

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

    /// The format on this device; every graphics card that libtorch 2.11 supports multiplies bf16 in hardware.
    pub(super) fn kind(self, device: Device) -> Kind {
        let bf16 = self.uses_bf16() || (self == Precision::Auto && device != Device::Cpu);
        if bf16 { Kind::BFloat16 } else { Kind::Float }
    }
}

impl std::str::FromStr for Precision {
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
