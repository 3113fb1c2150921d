//! Rows, base models and local steps, without libtorch.
#![allow(clippy::unwrap_used)]

mod data;
mod files;
mod local;
mod model;
mod tables;
mod texts;
mod units;
mod words;
