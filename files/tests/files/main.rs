//! What the pages say of the house is true: its picture has every arrow, and the files that pages name are there.
//!
//! These tests stand here because they need nothing but this crate's neighbours on the disk.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pages;
mod picture;

use std::path::{Path, PathBuf};

/// The folder of the whole project.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
