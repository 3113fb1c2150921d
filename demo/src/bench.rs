//! The base model of the demo, opened once per seed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use blindsum_adapter::{Adapter, AdapterLayout};
use blindsum_engine::data::Example;
use blindsum_engine::model::ModelDir;
use blindsum_engine::{Engine, EngineSettings, each_alone};
use blindsum_protocol::job::Job;
use blindsum_torch::{FrozenParts, TorchEngine};

/// Opens engines for jobs that differ in their seed.
pub struct Bench {
    model: PathBuf,
    open: Option<(u64, TorchEngine)>,
}

impl Bench {
    /// For the Hugging Face directory `model`; nothing is read yet.
    pub fn new(model: &Path) -> Self {
        Self { model: model.into(), open: None }
    }

    /// The engine for this job, opened if the last one had another seed.
    ///
    /// # Errors
    /// When the model cannot be read or does not fit the job.
    pub fn engine(&mut self, job: &Job) -> Result<&mut dyn Engine> {
        if self.open.as_ref().is_none_or(|(seed, _)| *seed != job.lora.seed) {
            let engine = open(&self.model, job)?;
            self.open = Some((job.lora.seed, engine));
        }
        match &mut self.open {
            Some((_, engine)) => Ok(engine),
            None => anyhow::bail!("the engine is not open"),
        }
    }
}

impl Bench {
    /// Whether the engine multiplies in bf16 on this machine.
    ///
    /// # Errors
    /// As [`Bench::engine`].
    pub fn uses_bf16(&mut self, job: &Job) -> Result<bool> {
        self.engine(job)?;
        Ok(self.open.as_ref().is_some_and(|(_, engine)| engine.uses_bf16()))
    }

    /// Seconds that one row takes in a training step on this machine, from a step on real rows.
    ///
    /// # Errors
    /// As [`Bench::engine`].
    pub fn seconds_per_example(&mut self, job: &Job, rows: &[Example]) -> Result<f64> {
        let engine = self.engine(job)?;
        let values = blindsum_adapter::initial_values(engine.layout());
        let batch: Vec<&Example> = rows.iter().take(job.training.expected_batch_examples as usize).collect();
        let (adapter, kind) = (Adapter::of(&values), engine.layout().training_kind(1));
        engine.clipped_sum(adapter, kind, &each_alone(&batch), 1.0)?; // the first step pays for set-up
        let started = Instant::now();
        engine.clipped_sum(adapter, kind, &each_alone(&batch), 1.0)?;
        Ok(started.elapsed().as_secs_f64() / batch.len().max(1) as f64)
    }
}

fn open(model: &Path, job: &Job) -> Result<TorchEngine> {
    let model = ModelDir::open(model)?;
    let layout = AdapterLayout::new(model.shape(), &job.lora, job.model.task())?;
    let frozen = FrozenParts::from_seed(&layout);
    Ok(TorchEngine::open(&model.weights(), &layout, &frozen, EngineSettings::default())?)
}
