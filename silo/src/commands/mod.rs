//! The commands that need no federation: train one silo alone, evaluate an adapter, predict with it, say what a job pins
//! of a base model, propose its privacy numbers, and look into the privacy ledger.
//!
//! Contract: each reads its files, prints what it found on standard output, and ends with one sentence and an exit code
//! of the common table where something is wrong. Nothing that is printed quotes a record.

mod budget;
mod error;
mod evaluate;
mod hashes;
mod plan;
mod predict;
mod release;
mod report;
mod train;

use std::path::{Path, PathBuf};

use blindsum_adapter::provenance::Provenance;
use blindsum_adapter::{AdapterLayout, BaseShape, TaskKind, peft};
use blindsum_engine::data::{Columns, Tokens};
use blindsum_engine::model::ModelDir;
use blindsum_engine::{ComputeDevice, EngineSettings, Evaluation, Precision};
use blindsum_protocol::job::Job;
use blindsum_torch::{FrozenParts, TorchEngine};
use clap::Args;

pub use self::budget::{BudgetArgs, budget};
pub use self::error::CommandError;
pub use self::evaluate::{EvaluateArgs, evaluate};
pub use self::hashes::{HashesArgs, hashes};
pub use self::plan::{PlanArgs, plan};
pub use self::predict::{PredictArgs, predict};
pub use self::report::{ReportArgs, privacy_report};
pub use self::train::{TrainArgs, train};

/// How the engine computes: the same options for every command.
#[derive(Debug, Args)]
struct EngineArgs {
    /// Number format of the large matrix products: auto (bf16 where the processor has it), f32 or bf16
    #[arg(long, default_value = "auto", value_name = "FORMAT")]
    precision: Precision,
    /// Where to compute: cpu, or cuda:0 for the first NVIDIA card
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: ComputeDevice,
    /// Compute each layer again in the backward pass instead of keeping its activations: for long sequences
    #[arg(long)]
    gradient_checkpointing: bool,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroU16>,
}

impl EngineArgs {
    fn options(&self) -> EngineSettings {
        let threads = self.threads.map_or(0, |n| usize::from(n.get()));
        let EngineArgs { precision, device, gradient_checkpointing, .. } = *self;
        EngineSettings { precision, device, gradient_checkpointing, threads, ..EngineSettings::default() }
    }
}

/// Where rows keep what is read.
#[derive(Debug, Args)]
struct ColumnArgs {
    /// Column (or JSON key) of the text
    #[arg(long, default_value = "text", value_name = "NAME")]
    text_column: String,
    /// Column (or JSON key) of the label
    #[arg(long, default_value = "label", value_name = "NAME")]
    label_column: String,
    /// Where texts are continued: column (or JSON key) of what stands before each and is not predicted
    #[arg(long, value_name = "NAME")]
    prompt_column: Option<String>,
}

impl ColumnArgs {
    fn columns(&self) -> Columns {
        let (text, label) = (self.text_column.clone(), self.label_column.clone());
        Columns { text, label, prompt: self.prompt_column.clone(), unit: None }
    }
}

/// A base model and a trained adapter on it.
#[derive(Debug, Args)]
struct AdapterArgs {
    /// Base model: a Hugging Face directory with config.json, tokenizer.json and the weights
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Adapter: the directory that training wrote (PEFT's format)
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// Cut texts to this many tokens, as the job did (its model.max_sequence_tokens) [default: what the model reads]
    #[arg(long, value_name = "N")]
    max_sequence_tokens: Option<std::num::NonZeroU32>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// An adapter on its base model, ready to run.
struct Ready {
    engine: TorchEngine,
    tokens: Tokens,
    values: Vec<f32>,
    folded: Vec<f32>,
    shape: BaseShape,
    task: TaskKind,
    /// Empty where the adapter continues texts.
    labels: Vec<String>,
    provenance: Option<Provenance>,
}

impl AdapterArgs {
    fn open(&self) -> Result<Ready, CommandError> {
        let last = self.adapter.join("last");
        if last.is_dir() && !self.adapter.join("adapter_config.json").exists() {
            let (dir, last) = (self.adapter.display(), last.display());
            let what = format!(
                "--adapter {dir} is a coordinator's output_dir: name the adapter in it, {last} (or best/ beside it)"
            );
            return Err(CommandError::Usage(what));
        }
        let model = ModelDir::open(&self.model)?;
        let adapter = peft::load(&self.adapter, model.shape())?;
        let longest = model.shape().max_positions;
        let wanted = self.max_sequence_tokens.map_or(longest, |n| n.get() as usize);
        let tokens = Tokens::open(&model.tokenizer(), model.shape(), wanted.min(longest))?;
        let frozen = FrozenParts { a: adapter.a, head: adapter.head };
        let engine = TorchEngine::open(&model.weights(), &adapter.layout, &frozen, self.engine.options())?;
        let (shape, task) = (model.shape().clone(), adapter.layout.task().kind());
        let (values, folded) = (adapter.values, adapter.folded);
        Ok(Ready {
            engine,
            tokens,
            values,
            folded,
            shape,
            task,
            labels: adapter.meta.labels,
            provenance: adapter.meta.provenance,
        })
    }
}

/// The job's base model in `dir`, and the layout of an adapter on it.
fn base_and_layout(job: &Job, dir: &Path) -> Result<(ModelDir, AdapterLayout), CommandError> {
    let model = ModelDir::open(dir)?;
    model.check(&job.base())?;
    let layout = AdapterLayout::new(model.shape(), &job.lora, job.model.task())?;
    let (max_tokens, longest) = (job.model.max_sequence_tokens as usize, model.shape().max_positions);
    if max_tokens > longest {
        let message =
            format!("job: model.max_sequence_tokens is {max_tokens}, but the base model reads at most {longest}");
        return Err(CommandError::Usage(message));
    }
    Ok((model, layout))
}

/// An evaluation in words.
fn describe(task: TaskKind, found: &Evaluation) -> String {
    let what = match task {
        TaskKind::SequenceClassification => "rows",
        TaskKind::CausalLm => "next tokens",
    };
    let (accuracy, loss) = (found.accuracy(), found.mean_loss);
    format!("accuracy {accuracy:.4} ({} of {} {what}), mean loss {loss:.4}", found.correct, found.counted)
}
