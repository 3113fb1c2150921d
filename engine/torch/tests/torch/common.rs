//! Engines on the tiny models, and examples for them. Where no family is named it is BERT.

use std::path::Path;

use blindsum_adapter::{Adapter, AdapterLayout, Family, Head, RoundKind, Task};
use blindsum_engine::data::Example;
use blindsum_engine::{ClippedSum, ComputeDevice, Engine, EngineSettings, Precision, each_alone, grid};
use blindsum_torch::{FrozenParts, TorchEngine};

pub use blindsum_testkit::models::*;

pub fn open(dir: &Path, layout: &AdapterLayout, frozen: &FrozenParts, precision: Precision) -> TorchEngine {
    open_with(dir, layout, frozen, EngineSettings { precision, ..OPTIONS })
}

/// Small micro-batches, so that a batch makes several.
pub const OPTIONS: EngineSettings = EngineSettings {
    device: ComputeDevice::Cpu,
    precision: Precision::F32,
    gradient_checkpointing: false,
    threads: 2,
    micro_batch_tokens: 256,
};

pub fn open_with(dir: &Path, layout: &AdapterLayout, frozen: &FrozenParts, options: EngineSettings) -> TorchEngine {
    TorchEngine::open(&dir.join("model.safetensors"), layout, frozen, options).unwrap()
}

/// The tiny model with its own A and head, and an adapter that is not zero.
pub fn tiny_engine(precision: Precision, head: Head) -> (tempfile::TempDir, TorchEngine, Vec<f32>) {
    family_engine(Family::Bert, Task::classify(3), head, EngineSettings { precision, ..OPTIONS })
}

/// The same in any family, with PEFT's default targets.
pub fn family_engine(
    family: Family,
    task: Task,
    head: Head,
    options: EngineSettings,
) -> (tempfile::TempDir, TorchEngine, Vec<f32>) {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), tiny_config(family), &family_tensors(family));
    let layout = layout_of(dir.path(), &lora(4, family.default_target_modules(), head), task);
    let adapter = uniform(999, layout.len()).into_iter().map(|u| 0.1 * u as f32).collect();
    let engine = open_with(dir.path(), &layout, &FrozenParts::from_seed(&layout), options);
    (dir, engine, adapter)
}

/// Examples of these lengths for the tiny model, labels in turn.
pub fn examples(lengths: &[usize]) -> Vec<Example> {
    examples_for(Task::classify(3), lengths)
}

/// The same for any task: labels in turn, or prompts of different lengths, one of which is the whole text.
pub fn examples_for(task: Task, lengths: &[usize]) -> Vec<Example> {
    let ids = |k: usize, n: usize| (0..n).map(|t| ((t * 37 + k * 11) % 120 + 5) as u32).collect();
    let example = |(k, &n): (usize, &usize)| match task {
        Task::SequenceClassification { .. } => Example::labelled(ids(k, n), (k % 3) as u32),
        Task::CausalLm => Example::text(ids(k, n), [0, 1, 7, 33, 2, 30, 0][k % 7]),
    };
    lengths.iter().enumerate().map(example).collect()
}

/// The sum of clipped gradients as numbers, and the norms before clipping.
pub fn clipped(
    engine: &mut TorchEngine,
    adapter: Adapter<'_>,
    kind: RoundKind,
    batch: &[&Example],
    clip_norm: f64,
) -> (Vec<f32>, ClippedSum) {
    let result = engine.clipped_sum(adapter, kind, &each_alone(batch), clip_norm).unwrap();
    (result.sum.iter().map(|&z| (z as f64 * grid::step(clip_norm)) as f32).collect(), result)
}

/// The same with a clip at the largest norm, which clips nothing.
pub fn unclipped(
    engine: &mut TorchEngine,
    adapter: Adapter<'_>,
    kind: RoundKind,
    batch: &[&Example],
) -> (Vec<f32>, ClippedSum) {
    let norms = engine.clipped_sum(adapter, kind, &each_alone(batch), 1.0).unwrap().norms;
    let largest = norms.into_iter().fold(0.0, f64::max);
    clipped(engine, adapter, kind, batch, if largest > 0.0 { largest } else { 1.0 })
}

/// The head that the golden losses were computed with: weights and biases of all its layers.
pub fn head_of_formulas(layout: &AdapterLayout) -> (Vec<f32>, Vec<f32>) {
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    let last = layout.head_layers().len().saturating_sub(1);
    for (k, layer) in layout.head_layers().iter().enumerate() {
        let (shift, bias) = if k == last { (0.5, 0.0) } else { (1.5, 0.05) };
        let (rows, columns) = (layer.out_features, layer.in_features);
        weights.extend(table(rows, columns, |i, j| 0.1 * (0.9 * i + 0.2 * j + shift).sin()));
        biases.extend(table(layer.biases(), 1, |i, _| bias * (0.4 * i).cos()));
    }
    (weights, biases)
}
