//! Local training on the tiny model learns what can be learnt, in both formats, with privacy and without.

use blindsum_adapter::training::Optimizer;
use blindsum_adapter::{Adapter, Head};
use blindsum_engine::data::Example;
use blindsum_engine::local::{LocalTrainer, StepPrivacy, TrainSpec};
use blindsum_engine::{Engine, Precision, evaluate};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::common::{tiny_engine, uniform};

/// Sequences that hold one of two marks at a random place.
fn separable(n: usize) -> Vec<Example> {
    let mut draw = uniform(4, 40 * n).into_iter().map(|u| ((u + 1.0) * 50.0) as u32);
    let mut next = move || draw.next().unwrap();
    let example = |k: usize| {
        let length = 4 + next() as usize % 12;
        let mut ids: Vec<u32> = (0..length).map(|_| 20 + next()).collect();
        ids[1 + next() as usize % (length - 1)] = if k.is_multiple_of(2) { 6 } else { 9 };
        Example::labelled(ids, (k % 2) as u32)
    };
    (0..n).map(example).collect()
}

/// Trains the tiny model for some rounds; returns loss and accuracy on rows of their own, before and after.
fn learn(precision: Precision, privacy: StepPrivacy) -> ((f64, f64), (f64, f64)) {
    let (_dir, mut engine, _) = tiny_engine(precision, Head::Trained);
    let mut data = separable(600);
    let held_out = data.split_off(400);
    let held_out: Vec<&Example> = held_out.iter().collect();
    let learning_rate = 1.0.into();
    let spec = TrainSpec { local_steps: 40, expected_batch: 40, optimizer: Optimizer::Sgd, learning_rate, privacy };
    let trainer = LocalTrainer::new(data, spec).unwrap();
    let mut adapter = blindsum_adapter::initial_values(engine.layout());
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let measure = |engine: &mut dyn Engine, adapter: &[f32]| {
        let result = evaluate(engine, Adapter::of(adapter), &held_out).unwrap();
        (result.mean_loss, result.accuracy())
    };
    let before = measure(&mut engine, &adapter);
    for _ in 0..5 {
        let update = trainer.round(&mut engine, 1, Adapter::of(&adapter), &mut rng, &mut |_| true).unwrap();
        adapter.iter_mut().zip(&update.values).for_each(|(a, u)| *a += u);
    }
    let after = measure(&mut engine, &adapter);
    println!(
        "{precision:?} {privacy:?}: loss {:.3} to {:.3}, accuracy {:.3} to {:.3}",
        before.0, after.0, before.1, after.1
    );
    (before, after)
}

#[test]
fn it_learns_what_can_be_learnt() {
    let none = StepPrivacy::None { max_grad_norm: 1.0 };
    let private = StepPrivacy::RecordDp { q: 0.1, noise_multiplier: 0.5, clip_norm: 1.0, batch_max: 1 << 20 };
    for (precision, privacy) in [(Precision::F32, none), (Precision::Bf16, none), (Precision::F32, private)] {
        let (before, after) = learn(precision, privacy);
        assert!(after.0 < 0.6 * before.0, "loss {} to {}", before.0, after.0);
        assert!(before.1 < 0.65 && after.1 > 0.85, "accuracy {} to {}", before.1, after.1);
    }
}
