//! `blindsum-silo evaluate`: how well an adapter does on rows with known answers.

use std::path::PathBuf;

use blindsum_adapter::Adapter;
use blindsum_engine as engine;
use blindsum_engine::data::{Example, Goal, Reading};
use blindsum_service::say;
use clap::Args;

use super::error::CommandError;
use super::{AdapterArgs, ColumnArgs, describe};

/// `blindsum-silo evaluate`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    blindsum-silo evaluate --model all-MiniLM-L6-v2 --adapter adapter --data test.jsonl\n  \
    accuracy 0.8312 (1596 of 1920 rows), mean loss 0.4107\n\n\
    An adapter that continues texts is measured by the next tokens that it predicts rightly.")]
pub struct EvaluateArgs {
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Labelled rows, or texts for an adapter that continues them: .jsonl, .csv or .tsv
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    columns: ColumnArgs,
    /// Print one JSON object instead of a sentence
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// One sentence, and its exit code.
pub fn evaluate(args: &EvaluateArgs) -> Result<(), CommandError> {
    let mut ready = args.adapter.open()?;
    let goal = Goal::of(ready.task, &ready.labels, &ready.shape);
    let columns = args.columns.columns();
    let data = Reading { columns: &columns, goal, tokens: &ready.tokens }.read(&args.data)?.some()?;
    let remarks = data.remarks();
    let rows = data.rows.all();
    let rows: Vec<&Example> = rows.iter().collect();
    let adapter = Adapter { values: &ready.values, folded: &ready.folded };
    let result = engine::evaluate(&mut ready.engine, adapter, &rows)?;
    if !result.mean_loss.is_finite() {
        return Err(CommandError::NotANumber { row: None });
    }
    if args.json {
        let object = serde_json::json!({
            "provenance": ready.provenance, "rows": result.examples, "counted": result.counted, "correct": result.correct, "accuracy": result.accuracy(),
            "mean_loss": result.mean_loss, "remarks": remarks,
        });
        say(object);
    } else {
        remarks.iter().for_each(say);
        if let Some(provenance) = &ready.provenance {
            say(format_args!("the adapter says that it is of {provenance}"));
        }
        say(describe(ready.task, &result));
    }
    Ok(())
}
