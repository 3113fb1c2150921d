//! `blindsum-silo hashes`: what a job pins of a base model.

use std::path::PathBuf;

use blindsum_engine::model::ModelDir;
use blindsum_service::say;
use clap::Args;

use super::error::CommandError;

/// `blindsum-silo hashes`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    blindsum-silo hashes --model all-MiniLM-L6-v2\n\n\
    The three lines go into the job's [model] section. Weights in one file are pinned by its SHA-256. Shards are pinned by\n\
    the SHA-256 of the list of index and shards, in the directory:\n  \
    sha256sum model.safetensors.index.json model-*.safetensors | LC_ALL=C sort -k 2 | sha256sum")]
pub struct HashesArgs {
    /// Base model: a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// One sentence, and its exit code.
pub fn hashes(args: &HashesArgs) -> Result<(), CommandError> {
    let hashes = ModelDir::open(&args.model)?.hashes()?;
    for (key, hash) in [("config", hashes.config), ("weights", hashes.weights), ("tokenizer", hashes.tokenizer)] {
        say(format!("{key}_sha256 = \"{}\"", hex::encode(hash)));
    }
    Ok(())
}
