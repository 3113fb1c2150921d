//! Loss curves in bf16 and in f32 side by side: the same rows, the same batches, 200 steps.
//!
//! ```text
//! cargo run --release -p blindsum-torch --example precision -- MODEL ROWS.jsonl [causal-lm]
//! ```
//! ROWS has `text` and, for classification (the default task), `label`. Each line shows ten steps' mean loss in each format,
//! before the steps change the adapter; the batches are drawn from a fixed seed, so that nothing but rounding differs.

#![allow(missing_docs)]

use std::error::Error;
use std::path::Path;

use blindsum_adapter::training::Optimizer;
use blindsum_adapter::{Adapter, AdapterLayout, Head, Init, LoraConfig, Method, TaskKind, initial_values};
use blindsum_engine::data::{Columns, Example, Goal, Reading, Tokens};
use blindsum_engine::local::{LocalTrainer, StepPrivacy, TrainSpec};
use blindsum_engine::model::ModelDir;
use blindsum_engine::{Engine, EngineSettings, Precision, evaluate};
use blindsum_torch::{FrozenParts, TorchEngine};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const STEPS: u32 = 200;
const SHOWN: u32 = 10;
/// Rows set apart to measure with at the end.
const HELD_OUT: usize = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (model, rows, causal) = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [model, rows] => (ModelDir::open(Path::new(model))?, Path::new(rows).to_owned(), false),
        [model, rows, "causal-lm"] => (ModelDir::open(Path::new(model))?, Path::new(rows).to_owned(), true),
        _ => return Err("usage: precision MODEL ROWS.jsonl [causal-lm]".into()),
    };
    let task = if causal { TaskKind::CausalLm } else { TaskKind::SequenceClassification };
    let labels = if causal { Vec::new() } else { labels_of(&rows)? };
    let (batch, learning_rate, max_tokens) = if causal { (8, 0.5, 128) } else { (32, 0.5, 64) };
    let lora = LoraConfig {
        method: Method::FfaLora,
        r: 8,
        lora_alpha: 16.0,
        target_modules: None,
        init: Init::Orthonormal,
        seed: 1,
        head: if causal { Head::Frozen } else { Head::Trained },
        refresh_rounds: None,
    };
    let layout = AdapterLayout::new(model.shape(), &lora, task.with_labels(labels.len()))?;
    let tokens = Tokens::open(&model.tokenizer(), model.shape(), max_tokens)?;
    let goal = Goal::of(task, &labels, model.shape());
    let columns = Columns::default();
    let mut train = Reading { columns: &columns, goal, tokens: &tokens }.read(&rows)?.rows.all();
    let held_out = train.split_off(train.len().saturating_sub(HELD_OUT));
    let held_out: Vec<&Example> = held_out.iter().collect();

    let curve = |precision: Precision| -> Result<(Vec<f64>, f64), Box<dyn Error>> {
        let options = EngineSettings { precision, ..EngineSettings::default() };
        let mut engine = TorchEngine::open(&model.weights(), &layout, &FrozenParts::from_seed(&layout), options)?;
        let privacy = StepPrivacy::None { max_grad_norm: 1.0 };
        let optimizer = Optimizer::Sgd;
        let spec = TrainSpec {
            local_steps: SHOWN,
            expected_batch: batch,
            optimizer,
            learning_rate: learning_rate.into(),
            privacy,
        };
        let trainer = LocalTrainer::new(train.clone(), spec)?;
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let mut values = initial_values(&layout);
        let mut losses = Vec::new();
        for _ in 0..STEPS / SHOWN {
            let update = trainer.round(&mut engine, 1, Adapter::of(&values), &mut rng, &mut |_| true)?;
            values.iter_mut().zip(&update.values).for_each(|(value, step)| *value += step);
            losses.push(update.mean_loss.unwrap_or(f64::NAN));
        }
        Ok((losses, evaluate(&mut engine as &mut dyn Engine, Adapter::of(&values), &held_out)?.accuracy()))
    };
    let (f32, f32_accuracy) = curve(Precision::F32)?;
    let (bf16, bf16_accuracy) = curve(Precision::Bf16)?;
    println!("{:<12}{:>10}{:>10}{:>12}", "steps", "f32", "bf16", "difference");
    for (i, (f32, bf16)) in f32.iter().zip(&bf16).enumerate() {
        let steps = format!("{}–{}", i * SHOWN as usize + 1, (i + 1) * SHOWN as usize);
        println!("{steps:<12}{f32:>10.4}{bf16:>10.4}{:>12.4}", bf16 - f32);
    }
    println!("held-out accuracy after {STEPS} steps: f32 {f32_accuracy:.4}, bf16 {bf16_accuracy:.4}");
    Ok(())
}

/// The labels of a file, in order.
fn labels_of(rows: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut labels = Vec::new();
    for line in std::fs::read_to_string(rows)?.lines().filter(|line| !line.trim().is_empty()) {
        let row: serde_json::Value = serde_json::from_str(line)?;
        labels.push(row["label"].as_str().ok_or("a row has no label that is a string")?.to_owned());
    }
    labels.sort();
    labels.dedup();
    Ok(labels)
}
