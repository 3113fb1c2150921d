//! What the privacy argument needs of the real engine: with one row more, a sum moves by that row's clipped gradient and
//! by nothing else, in integers.

use blindsum_adapter::{Adapter, Family, Head, RoundKind, Task};
use blindsum_engine::data::Example;
use blindsum_engine::{Engine, EngineSettings, Precision, each_alone, grid};
use blindsum_torch::{FrozenParts, TorchEngine};

use crate::common::{OPTIONS, distance, examples_for, family_engine, layout_of, lora, norm, open, tasks, uniform};

/// Rows of 1 to 150 tokens.
fn rows(task: Task, n: usize) -> Vec<Example> {
    let lengths: Vec<usize> = uniform(17, n).into_iter().map(|u| 1 + ((u + 1.0).powi(3) * 18.7) as usize).collect();
    examples_for(task, &lengths)
}

/// Draws below the bounds given.
fn draws(seed: u32) -> impl FnMut(usize) -> usize {
    let mut numbers = uniform(seed, 200_000).into_iter();
    move |bound| ((numbers.next().unwrap() + 1.0) / 2.0 * bound as f64) as usize % bound
}

fn sum(engine: &mut TorchEngine, adapter: &[f32], batch: &[&Example], clip_norm: f64) -> Vec<i64> {
    sum_of(engine, adapter, &each_alone(batch), clip_norm)
}

fn sum_of(engine: &mut TorchEngine, adapter: &[f32], units: &[&[Example]], clip_norm: f64) -> Vec<i64> {
    engine.clipped_sum(Adapter::of(adapter), RoundKind::TrainB, units, clip_norm).unwrap().sum
}

/// A clip that half of the rows exceed.
fn middle(engine: &mut TorchEngine, adapter: &[f32], rows: &[Example]) -> f64 {
    let batch: Vec<&Example> = rows.iter().collect();
    let mut norms =
        engine.clipped_sum(Adapter::of(adapter), RoundKind::TrainB, &each_alone(&batch), 1.0).unwrap().norms;
    norms.sort_by(f64::total_cmp);
    norms[norms.len() / 2]
}

#[test]
fn one_row_more_moves_a_sum_by_its_own_clipped_gradient_alone() {
    for precision in [Precision::F32, Precision::Bf16] {
        let (task, options) = (Task::classify(3), EngineSettings { precision, ..OPTIONS });
        let (_dir, mut engine, adapter) = family_engine(Family::Bert, task, Head::Trained, options);
        let rows = rows(task, 200);
        let clip_norm = middle(&mut engine, &adapter, &rows);
        let alone: Vec<Vec<i64>> = rows.iter().map(|row| sum(&mut engine, &adapter, &[row], clip_norm)).collect();
        let mut draw = draws(5);
        let (mut longest, mut packed) = (0.0f64, 0.0f64);
        for pair in 0..1000 {
            let n = draw(12);
            let mut batch: Vec<&Example> = (0..n).map(|_| &rows[draw(rows.len())]).collect();
            let (x, place) = (draw(rows.len()), draw(n + 1));
            let without = sum(&mut engine, &adapter, &batch, clip_norm);
            let others = batch.clone();
            batch.insert(place, &rows[x]);
            let with = sum(&mut engine, &adapter, &batch, clip_norm);
            let moved: Vec<i64> = with.iter().zip(&without).map(|(a, b)| a - b).collect();
            let square: u128 = moved.iter().map(|m| u128::from(m.unsigned_abs()).pow(2)).sum();
            assert!(square <= u128::from(grid::STEPS).pow(2), "{precision:?}, pair {pair}: {square}");
            assert_eq!(moved, alone[x], "{precision:?}, pair {pair}");
            longest = longest.max((square as f64).sqrt() / f64::from(grid::STEPS));
            if pair >= 100 {
                continue;
            }
            // several rows in one row of the attention, as without privacy: what the others are moved by
            let plain = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &others).unwrap().sum;
            let together = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &batch).unwrap().sum;
            let own = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &[&rows[x]]).unwrap().sum;
            let others: Vec<f32> = together.iter().zip(&plain).zip(&own).map(|((a, b), c)| a - b - c).collect();
            packed = packed.max(norm(&others) / clip_norm);
        }
        println!("{precision:?}: moved by at most {longest:.9} C; packed, others move by up to {packed:.1e} C");
        assert!(longest > 0.999_99, "some rows must be clipped for this test to say anything");
        assert!(packed > 1e-7, "packing is why rows stand apart");
    }
}

#[test]
fn a_sum_is_the_same_in_any_order_and_any_micro_batch() {
    for family in Family::ALL {
        for task in tasks(family) {
            for precision in [Precision::F32, Precision::Bf16] {
                let options = EngineSettings { precision, ..OPTIONS };
                let (_dir, mut engine, adapter) = family_engine(family, task, Head::Frozen, options);
                let rows = rows(task, 40);
                let clip_norm = middle(&mut engine, &adapter, &rows);
                let mut batch: Vec<&Example> = rows.iter().collect();
                let all = sum(&mut engine, &adapter, &batch, clip_norm);
                let mut each = vec![0; all.len()];
                for row in &rows {
                    let own = sum(&mut engine, &adapter, &[row], clip_norm);
                    each.iter_mut().zip(own).for_each(|(each, z)| *each += z);
                }
                assert_eq!(all, each, "{family:?} {task:?} {precision:?}: one by one");
                let mut draw = draws(6);
                for (threads, micro_batch_tokens) in [(1, 4096), (2, 64), (3, 1)] {
                    (1..batch.len()).for_each(|i| batch.swap(i, draw(i + 1)));
                    let options = EngineSettings { threads, micro_batch_tokens, ..options };
                    let (_dir, mut other, _) = family_engine(family, task, Head::Frozen, options);
                    let again = sum(&mut other, &adapter, &batch, clip_norm);
                    assert_eq!(all, again, "{family:?} {task:?} {precision:?}: {micro_batch_tokens} tokens");
                }
            }
        }
    }
}

/// Matrices of the size that the demo has, where libtorch has most ways to choose from.
#[test]
fn minilm_gives_each_row_what_it_gets_alone() {
    let Some(dir) = crate::golden::minilm() else { return };
    let layout = layout_of(&dir, &lora(8, Family::Bert.default_target_modules(), Head::Trained), Task::classify(3));
    let adapter: Vec<f32> = uniform(999, layout.len()).into_iter().map(|u| 0.1 * u as f32).collect();
    let rows = rows(Task::classify(3), 40);
    let batch: Vec<&Example> = rows.iter().filter(|row| row.ids.len() <= 64).collect();
    for precision in [Precision::F32, Precision::Bf16] {
        let mut engine = open(&dir, &layout, &FrozenParts::from_seed(&layout), precision);
        let mut rest = sum(&mut engine, &adapter, &batch, 1.0);
        for (i, row) in batch.iter().enumerate() {
            let own = sum(&mut engine, &adapter, &[row], 1.0);
            let others: Vec<&Example> = batch[i + 1..].to_vec();
            let without = if i % 4 == 0 { Some(sum(&mut engine, &adapter, &others, 1.0)) } else { None };
            rest.iter_mut().zip(own).for_each(|(rest, z)| *rest -= z);
            assert!(without.is_none_or(|without| without == rest), "{precision:?}: row {i}");
        }
        assert!(rest.iter().all(|&z| z == 0), "{precision:?}");
    }
}

/// The old sum: f32, each row's own gradient times its factor.
#[test]
fn the_integers_are_what_the_numbers_were() {
    let (task, clips) = (Task::classify(3), [0.5, 1.0, 2.0]);
    let (_dir, mut engine, adapter) = family_engine(Family::Bert, task, Head::Trained, OPTIONS);
    let rows = rows(task, 60);
    let middle = middle(&mut engine, &adapter, &rows);
    let batch: Vec<&Example> = rows.iter().collect();
    for clip_norm in clips.map(|factor| factor * middle) {
        let mut old = vec![0.0f64; adapter.len()];
        for row in &batch {
            let own = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &[row]).unwrap().sum;
            let factor = (clip_norm / norm(&own)).min(1.0);
            old.iter_mut().zip(own).for_each(|(sum, x)| *sum += factor * f64::from(x));
        }
        let new = sum(&mut engine, &adapter, &batch, clip_norm);
        let new: Vec<f64> = new.into_iter().map(|z| z as f64 * grid::step(clip_norm)).collect();
        let far = old.iter().zip(&new).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        assert!(far < 1e-6 * clip_norm * (batch.len() as f64 * old.len() as f64).sqrt(), "{far} of {clip_norm}");
        let narrow = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        assert!(distance(&narrow(new), &narrow(old)) < 1e-5);
    }
}
