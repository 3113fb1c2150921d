//! Rows, base models and local steps, without libtorch.
#![allow(clippy::unwrap_used)]

mod data;
mod local;
mod model;
