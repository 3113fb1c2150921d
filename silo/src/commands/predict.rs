//! `blindsum-silo predict`: a classifier's answers to rows without labels.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use blindsum_adapter::{Adapter, TaskKind};
use blindsum_engine::data::{Columns, Example, Goal, Reading};
use blindsum_engine::{Engine, best};
use blindsum_files::{FileError, probe, write_atomic};
use blindsum_service::say;
use clap::Args;
use serde::Serialize;

use super::AdapterArgs;
use super::error::CommandError;

/// `blindsum-silo predict`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    blindsum-silo predict --model all-MiniLM-L6-v2 --adapter adapter --input rows.jsonl --output answers.jsonl\n\n\
    The output has one object for each input row, in order, and never the text:\n  \
    {\"row\":1,\"label\":\"positive\",\"probability\":0.934}")]
pub struct PredictArgs {
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Rows: .jsonl, .csv or .tsv
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where the answers go, as JSON Lines; replaced if it holds earlier answers
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Column (or JSON key) of the text
    #[arg(long, default_value = "text", value_name = "NAME")]
    text_column: String,
    /// Write the classifier's outputs too, in the order of the labels
    #[arg(long)]
    logits: bool,
}

/// As much of a file as tells answers from anything else, bytes.
const MAX_LINE: u64 = 64;

#[derive(Serialize)]
struct Answer<'a> {
    row: usize,
    label: &'a str,
    probability: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<&'a [f32]>,
}

/// Runs the command.
///
/// # Errors
/// One sentence, and its exit code.
pub fn predict(args: &PredictArgs) -> Result<(), CommandError> {
    if same_file(&args.input, &args.output) {
        let what = format!("--output {} is --input: the answers would replace the rows", args.output.display());
        return Err(CommandError::Usage(what));
    }
    if !may_replace(&args.output)? {
        let what = format!(
            "--output {} holds something else than answers, which would be lost: name another file, or move that one away",
            args.output.display()
        );
        return Err(CommandError::Usage(what));
    }
    // Before the work, and not after it.
    probe::file(&args.output)?;
    let mut ready = args.adapter.open()?;
    if ready.task == TaskKind::CausalLm {
        let what = "this adapter continues texts; write them with Hugging Face: PeftModel.from_pretrained(base, \
                    adapter).generate(...). blindsum-silo evaluate measures its next tokens";
        return Err(CommandError::Usage(what.to_owned()));
    }
    let columns = Columns { text: args.text_column.clone(), ..Columns::default() };
    let data = Reading { columns: &columns, goal: Goal::Answer, tokens: &ready.tokens }.read(&args.input)?;
    data.remarks().iter().for_each(say);
    let rows = data.rows.all();
    let rows: Vec<&Example> = rows.iter().collect();
    let adapter = Adapter { values: &ready.values, folded: &ready.folded };
    let mut out = String::new();
    for (i, logits) in ready.engine.logits(adapter, &rows)?.iter().enumerate() {
        let top = best(logits);
        let rest: f64 = logits.iter().map(|&x| (f64::from(x) - f64::from(logits[top])).exp()).sum();
        let probability = 1.0 / rest;
        if !probability.is_finite() {
            return Err(CommandError::NotANumber { row: Some(i + 1) });
        }
        let answer =
            Answer { row: i + 1, label: &ready.labels[top], probability, logits: args.logits.then_some(logits) };
        let line = serde_json::to_string(&answer).map_err(|e| CommandError::Usage(e.to_string()))?;
        out.push_str(&line);
        out.push('\n');
    }
    write_atomic(&args.output, out.as_bytes(), 0o600)?;
    say(format!("wrote {} answers to {}", rows.len(), args.output.display()));
    Ok(())
}

/// Whether nothing is there but earlier answers, or nothing at all.
fn may_replace(output: &Path) -> Result<bool, FileError> {
    let failed = |e| FileError::from_io("read", output, e);
    let mut file = match std::fs::symlink_metadata(output) {
        Err(_) => return Ok(true),
        // What is neither file nor folder is refused in words of its own when it is written.
        Ok(meta) if !meta.is_file() => return Ok(!meta.is_dir()),
        Ok(_) => File::open(output).map_err(failed)?.take(MAX_LINE),
    };
    let mut start = Vec::new();
    file.read_to_end(&mut start).map_err(failed)?;
    Ok(start.is_empty() || start.starts_with(b"{\"row\":1,\"label\":"))
}

/// Whether both names lead to one file, by a link or by another spelling.
fn same_file(one: &Path, other: &Path) -> bool {
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.dev() == other.dev() && one.ino() == other.ino(),
        _ => false,
    }
}
