//! Local training: what the privacy argument and the coordinate bound rely on, and that it learns.

use blindsum_adapter::training::Optimizer;
use blindsum_adapter::{Adapter, AdapterLayout, BaseShape, Head, RoundKind, Task};
use blindsum_engine::data::Example;
use blindsum_engine::local::{LocalError, LocalTrainer, LocalUpdate, StepPrivacy, TrainSpec, os_rng};
use blindsum_engine::{ClippedSum, Engine, EngineError, GradientSum, grid};
use blindsum_testkit::models::{TINY_CONFIG, lora, norm};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// An engine whose every example has the same gradient, `slope` in each coordinate; notes what it was asked.
struct Constant {
    layout: AdapterLayout,
    slope: f32,
    batches: Vec<usize>,
    clips: Vec<f64>,
}

impl Constant {
    fn new(slope: f32) -> Self {
        let shape = BaseShape::from_config_json(TINY_CONFIG).unwrap();
        let layout =
            AdapterLayout::new(&shape, &lora(16, &["query", "value", "key"], Head::Frozen), Task::classify(2)).unwrap();
        Constant { layout, slope, batches: Vec::new(), clips: Vec::new() }
    }

    fn len(&self) -> usize {
        self.layout.len()
    }
}

impl Engine for Constant {
    fn layout(&self) -> &AdapterLayout {
        &self.layout
    }

    fn gradient_sum(&mut self, _: Adapter<'_>, _: RoundKind, batch: &[&Example]) -> Result<GradientSum, EngineError> {
        self.batches.push(batch.len());
        Ok(GradientSum {
            sum: vec![self.slope * batch.len() as f32; self.len()],
            losses: vec![0.5 + 0.0 * self.slope; batch.len()],
        })
    }

    fn clipped_sum(
        &mut self,
        _: Adapter<'_>,
        _: RoundKind,
        units: &[&[Example]],
        clip_norm: f64,
    ) -> Result<ClippedSum, EngineError> {
        self.batches.push(units.len());
        self.clips.push(clip_norm);
        let mut sum = vec![0; self.len()];
        let mut add = |unit: &&[Example]| {
            let gradient = vec![self.slope * unit.len() as f32; self.len()];
            grid::add_clipped(&mut sum, &[&gradient], clip_norm)
        };
        let norms = units.iter().map(&mut add).collect();
        Ok(ClippedSum { sum, losses: vec![0.5 + 0.0 * self.slope; units.concat().len()], norms })
    }

    fn logits(&mut self, _: Adapter<'_>, _: &[&Example]) -> Result<Vec<Vec<f32>>, EngineError> {
        Err(EngineError::Argument("not asked for here".to_owned()))
    }
}

const NONE: StepPrivacy = StepPrivacy::None { max_grad_norm: 1e9 };

fn spec(privacy: StepPrivacy) -> TrainSpec {
    TrainSpec { local_steps: 3, expected_batch: 10, optimizer: Optimizer::Sgd, learning_rate: 0.5.into(), privacy }
}

fn rows(n: usize) -> Vec<Example> {
    vec![Example::labelled(vec![1], 0); n]
}

fn round(engine: &mut Constant, n: usize, spec: TrainSpec, seed: u64) -> Result<LocalUpdate, LocalError> {
    let global = vec![0.25; engine.len()];
    let trainer = LocalTrainer::new(rows(n), spec).unwrap();
    trainer.round(engine, 1, Adapter::of(&global), &mut ChaCha20Rng::seed_from_u64(seed), &mut |_| true)
}

#[test]
fn the_divisor_is_the_expected_batch_and_not_the_drawn_one() {
    let mut engine = Constant::new(1.0);
    let update = round(&mut engine, 100, spec(NONE), 1).unwrap();
    let drawn: usize = engine.batches.iter().sum();
    assert_eq!((engine.batches.len(), update.drawn, update.steps), (3, drawn as u64, 3));
    assert!(engine.batches.iter().any(|&b| b != 10), "Poisson batches vary: {:?}", engine.batches);
    let expected = -0.5 * drawn as f32 / 10.0;
    assert!(update.values.iter().all(|v| (v - expected).abs() < 1e-5), "{} {expected}", update.values[0]);
    assert_eq!((update.mean_loss, update.clipped), (Some(0.5), 0.0));
}

#[test]
fn record_dp_clips_each_example_and_adds_the_planned_noise() {
    let (noise_multiplier, clip_norm) = (0.8, 0.5);
    let privacy = StepPrivacy::RecordDp { q: 0.1, noise_multiplier, clip_norm, batch_max: 1 << 20 };
    let mut engine = Constant::new(0.0);
    let update = round(&mut engine, 100, spec(privacy), 2).unwrap();
    assert_eq!((engine.clips, update.clipped), (vec![clip_norm; 3], 0.0));
    // zero gradients: the update is noise alone, steps times, through learning rate and divisor
    let n = update.values.len() as f64;
    let mean = update.values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = update.values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    let expected = 3.0 * (0.5 * noise_multiplier * clip_norm / 10.0f64).powi(2);
    // relative standard error of a variance over n Gaussians is √(2/n)
    assert!((variance / expected - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{variance} instead of {expected}");
    assert!(mean.abs() < 5.0 * (expected / n).sqrt(), "{mean}");
    // all rows and hardly any noise: each row's clip, through learning rate and divisor, whatever its gradient
    let privacy = StepPrivacy::RecordDp { q: 1.0, noise_multiplier: 1e-6, clip_norm, batch_max: 1 << 20 };
    let update = round(&mut Constant::new(-7.0), 20, spec(privacy), 2).unwrap();
    assert!((norm(&update.values) - 3.0 * 0.5 * 20.0 * clip_norm / 10.0).abs() < 1e-5, "{}", norm(&update.values));
    assert!(update.clipped == 1.0 && update.values.iter().all(|&v| v > 0.0));
}

#[test]
fn persons_are_drawn_whole_and_clipped_once() {
    let persons: Vec<Vec<Example>> = (1..=60).map(|i| rows(1 + i % 5)).collect();
    let (rows, clip_norm) = (persons.concat().len() as u64, 0.5);
    let dp = |q| spec(StepPrivacy::RecordDp { q, noise_multiplier: 1e-6, clip_norm, batch_max: 1 << 20 });
    let mut engine = Constant::new(-7.0);
    let global = vec![0.25; engine.len()];
    let mut run = |q, persons: &Vec<Vec<Example>>, seed| {
        let trainer = LocalTrainer::new(persons.clone(), dp(q)).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        trainer.round(&mut engine, 1, Adapter::of(&global), &mut rng, &mut |_| true).unwrap()
    };
    // every person in every step: one clip each, through learning rate and divisor, however many rows there are
    let all = run(1.0, &persons, 1);
    assert_eq!((all.drawn, all.rows, all.clipped), (3 * 60, 3 * rows, 1.0));
    assert!((norm(&all.values) - 3.0 * 0.5 * 60.0 * clip_norm / 10.0).abs() < 1e-4, "{}", norm(&all.values));
    // at rate q a person is in a step or not, with all its rows: were rows drawn, some of the five would stay away
    let one = vec![persons[3].clone()];
    let drawn: Vec<(u64, u64)> = (0..200).map(|seed| run(0.3, &one, seed)).map(|u| (u.drawn, u.rows)).collect();
    assert!(drawn.iter().all(|&(persons, rows)| rows == 5 * persons), "{drawn:?}");
    let share = drawn.iter().map(|(persons, _)| persons).sum::<u64>() as f64 / 600.0;
    assert!((share - 0.3).abs() < 5.0 * (0.21f64 / 600.0).sqrt(), "{share}");
    // the largest batch counts persons
    let cut = StepPrivacy::RecordDp { q: 1.0, noise_multiplier: 1e-6, clip_norm, batch_max: 7 };
    let trainer = LocalTrainer::new(persons, spec(cut)).unwrap();
    let mut engine = Constant::new(1.0);
    trainer.round(&mut engine, 1, Adapter::of(&global), &mut os_rng().unwrap(), &mut |_| true).unwrap();
    assert_eq!(engine.batches, [7; 3]);
}

#[test]
fn a_silo_without_rows_sends_noise_or_nothing() {
    let mut engine = Constant::new(1.0);
    let nothing = round(&mut engine, 0, spec(NONE), 3).unwrap();
    assert!(nothing.values.iter().all(|&v| v == 0.0));
    assert_eq!((nothing.empty_batches, nothing.mean_loss), (3, None));
    let privacy = StepPrivacy::RecordDp { q: 0.1, noise_multiplier: 1.0, clip_norm: 1.0, batch_max: 1 << 20 };
    let noise = round(&mut engine, 0, spec(privacy), 3).unwrap();
    assert!(noise.values.iter().all(|&v| v != 0.0));
    // an odd row out
    assert_eq!(round(&mut engine, 1, spec(NONE), 3).unwrap().drawn, 3);
}

#[test]
fn without_privacy_the_mean_gradient_is_bounded() {
    let mut engine = Constant::new(1e6);
    let update = round(&mut engine, 100, spec(StepPrivacy::None { max_grad_norm: 0.2 }), 4).unwrap();
    assert!(engine.clips.is_empty());
    assert!((norm(&update.values) - 3.0 * 0.5 * 0.2).abs() < 1e-6, "{}", norm(&update.values));
}

#[test]
fn adam_moves_each_coordinate_by_the_learning_rate_at_first() {
    let mut engine = Constant::new(-3.0);
    let spec = TrainSpec { local_steps: 1, optimizer: Optimizer::AdamW, learning_rate: 0.01.into(), ..spec(NONE) };
    let update = round(&mut engine, 100, spec, 5).unwrap();
    assert!(update.values.iter().all(|v| (v - 0.01).abs() < 1e-6), "{}", update.values[0]);
}

#[test]
fn the_generator_decides_and_the_operating_system_seeds_it() {
    let privacy = StepPrivacy::RecordDp { q: 0.1, noise_multiplier: 1.0, clip_norm: 1.0, batch_max: 1 << 20 };
    let run = |seed| round(&mut Constant::new(1.0), 50, spec(privacy), seed).unwrap();
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).values, run(8).values);
    assert_ne!(os_rng().unwrap(), os_rng().unwrap());
}

#[test]
fn a_record_that_gives_no_number_stops_nobody_under_record_dp() {
    let (private, open) = (StepPrivacy::RecordDp { q: 0.1, noise_multiplier: 1.0, clip_norm: 1.0, batch_max: 9 }, NONE);
    let update = round(&mut Constant::new(f32::NAN), 50, spec(private), 4).unwrap();
    assert!(update.values.iter().all(|value| value.is_finite()), "such gradients add nothing");
    let error = round(&mut Constant::new(f32::NAN), 50, spec(open), 4).unwrap_err();
    assert!(matches!(error, LocalError::Diverged { .. }), "{error}");
}

#[test]
fn divergence_and_a_stop_are_errors() {
    let mut engine = Constant::new(f32::MAX);
    let wild = TrainSpec { learning_rate: 1e30.into(), ..spec(StepPrivacy::None { max_grad_norm: 1e30 }) };
    let error = round(&mut engine, 100, wild, 9).unwrap_err();
    assert!(matches!(error, LocalError::Diverged { step: 1 }), "{error}");
    let trainer = LocalTrainer::new(rows(9), spec(NONE)).unwrap();
    let (mut engine, global) = (Constant::new(1.0), vec![0.0; engine.len()]);
    let stopped = trainer.round(&mut engine, 1, Adapter::of(&global), &mut os_rng().unwrap(), &mut |step| step < 2);
    assert!(matches!(stopped, Err(LocalError::Stopped)));
}

#[test]
fn numbers_without_meaning_are_refused() {
    for bad in [
        TrainSpec { learning_rate: f64::NAN.into(), ..spec(NONE) },
        TrainSpec { expected_batch: 0, ..spec(NONE) },
        spec(StepPrivacy::None { max_grad_norm: 0.0 }),
        spec(StepPrivacy::RecordDp { q: 1.5, noise_multiplier: 1.0, clip_norm: 1.0, batch_max: 1 << 20 }),
        spec(StepPrivacy::RecordDp { q: 0.5, noise_multiplier: -1.0, clip_norm: 1.0, batch_max: 1 << 20 }),
        spec(StepPrivacy::RecordDp { q: 0.5, noise_multiplier: 0.0, clip_norm: 1.0, batch_max: 1 << 20 }),
        spec(StepPrivacy::RecordDp { q: 0.5, noise_multiplier: 65.0, clip_norm: 1.0, batch_max: 1 << 20 }),
        spec(StepPrivacy::RecordDp { q: 0.5, noise_multiplier: 1.0, clip_norm: 1.0, batch_max: u32::MAX }),
        spec(StepPrivacy::RecordDp { q: 0.5, noise_multiplier: 1.0, clip_norm: f64::INFINITY, batch_max: 1 << 20 }),
    ] {
        assert!(matches!(LocalTrainer::new(rows(4), bad), Err(LocalError::Spec(_))), "{bad:?}");
    }
}
