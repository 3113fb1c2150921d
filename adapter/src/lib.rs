//! FFA-LoRA itself and its relatives: layout, A from a public seed, server step, PEFT files.
//!
//! FFA-LoRA (Sun et al., "Improving LoRA in Privacy-preserving Federated Learning", ICLR 2024) changes each targeted
//! linear layer to `W = W0 + (lora_alpha / r) · B · A`. A comes from a public seed and never moves, B starts at zero
//! and is all that is trained, so the mean of the silos' B's is exactly the mean of their products.
//!
//! ```text
//! config.json ─► BaseShape ─┐   (by Family: one file for each architecture)
//! job [lora], task ─────────┴─► AdapterLayout ─► init_a, init_head, initial_values   (bit-equal on every machine)
//!                                    │              │
//! job [server] ─► ServerStep ────────┼─► StateLayout┴─► state ─► step ─► state ─► model_hash
//!                                    └─► peft::save / peft::load
//! ```
//!
//! The other methods ([`Method`]) train A too, or draw it anew; which part a round trains is [`RoundKind`].
//!
//! Contract: an adapter's values are one flat `f32` vector in the order of [`AdapterLayout`], and what a job carries from
//! round to round is one in the order of [`StateLayout`]. Every silo computes the next model
//! hash for itself, so all arithmetic here is scalar `f64` in a fixed order, with `libm` instead of the platform's
//! mathematics library, and the outcome is frozen in tests.
//!
//! ```
//! use blindsum_adapter::{AdapterLayout, BaseShape, LoraConfig, Task, init_a};
//!
//! let shape = BaseShape::from_config_json(
//!     r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 16,
//!         "num_attention_heads": 2, "vocab_size": 50, "max_position_embeddings": 32}"#,
//! )?;
//! let lora: LoraConfig = serde_json::from_str(r#"{"method": "ffa-lora", "r": 2, "lora_alpha": 4.0, "seed": 1}"#)?;
//! let layout = AdapterLayout::new(&shape, &lora, Task::classify(3))?;
//! // query and value of two layers; B of each has 8 rows of r = 2
//! assert_eq!((layout.modules().len(), layout.len()), (4, 4 * 8 * 2));
//! // A is the same wherever it is drawn
//! assert_eq!(init_a(&layout), init_a(&layout));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decoder;
mod family;
mod hash;
mod init;
mod layout;
mod lora;
mod method;
pub mod peft;
pub mod provenance;
pub mod server;
mod shape;
mod state;
mod targets;
mod task;
pub mod training;

pub use decoder::{Activation, Biases, DecoderShape, Rotary, RotaryScaling, Window};
pub use family::Family;
pub use hash::{BaseHashes, a_hash, a_hashes, model_hash};
pub use init::{a_stack, init_a, init_head, initial_values};
pub use layout::{AdapterLayout, HeadLayer, HeadRanges, LayoutError, Module};
pub use lora::{Head, Init, LoraConfig, Method};
pub use method::RoundKind;
pub use server::ServerStep;
pub use shape::{BaseShape, ShapeError};
pub use state::{Adapter, MAX_GENERATIONS, StateLayout};
pub use targets::Targets;
pub use task::{Task, TaskKind};
