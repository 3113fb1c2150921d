//! Rows whose gradients are known, an engine that has them, and the way through the real trainer.

use blindsum_adapter::training::Optimizer;
use blindsum_adapter::{Adapter, AdapterLayout, BaseShape, Head, RoundKind, Task};
use blindsum_engine::data::Example;
use blindsum_engine::local::{LocalTrainer, LocalUpdate, StepPrivacy, TrainSpec};
use blindsum_engine::{ClippedSum, Engine, EngineError, GradientSum, grid};
use blindsum_testkit::models::{TINY_CONFIG, lora};
use rand_chacha::ChaCha12Rng;
use rand_core::{CryptoRng, SeedableRng};

/// A row whose gradient is `size` in each of these coordinates, ascending.
pub fn row(coordinates: &[usize], size: u32) -> Example {
    Example::labelled(coordinates.iter().map(|&c| c as u32).collect(), size)
}

/// A row that has no gradient: in the place of one that is not there, it leaves the random words of all others as they are.
pub fn absent() -> Example {
    row(&[0], 0)
}

/// An engine for such rows. Each half of the adapter is a layer.
pub struct Known {
    layout: AdapterLayout,
    /// Units of each batch so far.
    pub batches: Vec<usize>,
}

impl Known {
    /// Over an adapter of 49,152 coordinates.
    pub fn wide() -> Self {
        let config = TINY_CONFIG.replace("\"hidden_size\": 32", "\"hidden_size\": 128");
        Known::over(&config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4"), 32)
    }

    /// Over one of 384.
    pub fn narrow() -> Self {
        Known::over(TINY_CONFIG, 2)
    }

    fn over(config: &str, r: u32) -> Self {
        let shape = BaseShape::from_config_json(config).unwrap();
        let lora = lora(r, &["query", "value", "key"], Head::Frozen);
        let layout = AdapterLayout::new(&shape, &lora, Task::classify(2)).unwrap();
        Known { layout, batches: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// The real trainer's round over these rows, from an adapter of zeros.
    pub fn round(&mut self, rows: Vec<Example>, spec: TrainSpec, rng: &mut impl CryptoRng) -> LocalUpdate {
        let (trainer, global) = (LocalTrainer::new(rows, spec).unwrap(), vec![0.0; self.len()]);
        trainer.round(self, 1, Adapter::of(&global), rng, &mut |_| true).unwrap()
    }

    /// What that round releases: the sum over its steps of the noised sums of gradients, in clip norms.
    pub fn released(&mut self, rows: Vec<Example>, spec: TrainSpec, seed: u64) -> Vec<f64> {
        self.releases(rows, spec, 1, seed).next().unwrap()
    }

    /// What so many rounds release, one after the other.
    pub fn releases(
        &mut self,
        rows: Vec<Example>,
        spec: TrainSpec,
        rounds: u64,
        seed: u64,
    ) -> impl Iterator<Item = Vec<f64>> {
        let (trainer, global) = (LocalTrainer::new(rows, spec).unwrap(), vec![0.0; self.len()]);
        let (unit, mut rng) = (unit(&spec), ChaCha12Rng::seed_from_u64(seed));
        (0..rounds).map(move |_| {
            let update = trainer.round(self, 1, Adapter::of(&global), &mut rng, &mut |_| true).unwrap();
            update.values.into_iter().map(|x| f64::from(x) / unit).collect()
        })
    }
}

/// What one clip norm in the sum of a step changes the update by.
pub fn unit(spec: &TrainSpec) -> f64 {
    let StepPrivacy::RecordDp { clip_norm, .. } = spec.privacy else { panic!("no clip norm") };
    -spec.learning_rate.at(1) * clip_norm / f64::from(spec.expected_batch)
}

/// The demo's job.
pub fn demo() -> toml::Table {
    toml::from_str(include_str!("../../../demo/job.toml")).unwrap()
}

/// Steps of plain SGD under record-DP; learning rate, clip norm and divisor are powers of two.
pub fn spec(q: f64, noise_multiplier: f64, local_steps: u32) -> TrainSpec {
    TrainSpec {
        local_steps,
        expected_batch: 32,
        optimizer: Optimizer::Sgd,
        learning_rate: 0.25.into(),
        privacy: StepPrivacy::RecordDp { q, noise_multiplier, clip_norm: 0.5, batch_max: 1 << 20 },
    }
}

impl Engine for Known {
    fn layout(&self) -> &AdapterLayout {
        &self.layout
    }

    fn gradient_sum(&mut self, _: Adapter<'_>, _: RoundKind, _: &[&Example]) -> Result<GradientSum, EngineError> {
        Err(EngineError::Argument("not asked for here".to_owned()))
    }

    fn clipped_sum(
        &mut self,
        _: Adapter<'_>,
        _: RoundKind,
        units: &[&[Example]],
        clip_norm: f64,
    ) -> Result<ClippedSum, EngineError> {
        self.batches.push(units.len());
        let mut sum = vec![0; self.len()];
        let add = |unit: &&[Example]| {
            // only from the first coordinate to the last: the others are zero
            let ids = || unit.iter().flat_map(|row| row.ids.iter().map(|&c| c as usize));
            let (first, last) = (ids().min().unwrap(), ids().max().unwrap());
            let mut gradient = vec![0.0f32; last + 1 - first];
            for row in *unit {
                row.ids.iter().for_each(|&c| gradient[c as usize - first] += row.label().unwrap() as f32);
            }
            let layers = gradient.split_at((self.layout.len() / 2).clamp(first, last) - first);
            grid::add_clipped(&mut sum[first..], &[layers.0, layers.1], clip_norm)
        };
        let norms = units.iter().map(add).collect();
        Ok(ClippedSum { sum, losses: vec![0.0; units.concat().len()], norms })
    }

    fn logits(&mut self, _: Adapter<'_>, _: &[&Example]) -> Result<Vec<Vec<f32>>, EngineError> {
        Err(EngineError::Argument("not asked for here".to_owned()))
    }
}
