//! What the engine on libtorch promises: parity with Hugging Face, exact gradients, and that training learns.
#![allow(clippy::unwrap_used)]

mod checkpoints;
mod common;
mod company;
mod engine;
mod families;
mod golden;
mod keys;
mod local;
mod methods;
mod reference;
mod units;
