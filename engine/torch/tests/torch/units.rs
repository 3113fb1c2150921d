//! What the privacy argument needs of the real engine where a person has several rows: one clip for all of them, and the
//! same integers in any company.

use blindsum_adapter::{Adapter, Family, Head, RoundKind, Task};
use blindsum_engine::data::Example;
use blindsum_engine::{ClippedSum, Engine, EngineSettings, Precision, each_alone, grid};
use blindsum_torch::TorchEngine;

use crate::common::{OPTIONS, distance, examples_for, family_engine, norm, tasks};

/// Persons of one to five rows, of lengths that make a person's rows stand in micro-batches of several widths.
fn persons(task: Task) -> Vec<Vec<Example>> {
    let lengths: Vec<usize> = (0..42).map(|i| 1 + (i * i * 7) % 90).collect();
    let mut rows = examples_for(task, &lengths).into_iter();
    let persons = (0..14).map(|i| rows.by_ref().take(1 + i % 5).collect()).collect();
    assert!(rows.next().is_some(), "there were rows for all");
    persons
}

fn clipped(engine: &mut TorchEngine, adapter: &[f32], units: &[&[Example]], clip_norm: f64) -> ClippedSum {
    engine.clipped_sum(Adapter::of(adapter), RoundKind::TrainB, units, clip_norm).unwrap()
}

/// A clip that half of the units exceed.
fn middle(engine: &mut TorchEngine, adapter: &[f32], units: &[&[Example]]) -> f64 {
    let mut norms = clipped(engine, adapter, units, 1.0).norms;
    norms.sort_by(f64::total_cmp);
    norms[norms.len() / 2]
}

fn square(z: &[i64]) -> u128 {
    z.iter().map(|z| u128::from(z.unsigned_abs()).pow(2)).sum()
}

#[test]
fn five_equal_rows_of_one_person_move_a_sum_by_one_clip() {
    for precision in [Precision::F32, Precision::Bf16] {
        let (task, options) = (Task::classify(3), EngineSettings { precision, ..OPTIONS });
        let (_dir, mut engine, adapter) = family_engine(Family::Bert, task, Head::Trained, options);
        let row = &examples_for(task, &[30])[0];
        let five = vec![row.clone(); 5];
        let free = clipped(&mut engine, &adapter, &[std::slice::from_ref(row)], 1e9).norms[0];
        let clip_norm = free / 2.0;
        let others = examples_for(task, &[7, 19, 40]);
        let others: Vec<&Example> = others.iter().collect();
        let mut units = each_alone(&others);
        let without = clipped(&mut engine, &adapter, &units, clip_norm).sum;
        units.insert(1, &five);
        let with = clipped(&mut engine, &adapter, &units, clip_norm);
        let moved: Vec<i64> = with.sum.iter().zip(&without).map(|(a, b)| a - b).collect();
        let most = u128::from(grid::STEPS).pow(2);
        assert!(square(&moved) <= most && square(&moved) > most / 1000 * 999, "{precision:?}: {}", square(&moved));
        assert!((with.norms[1] / (5.0 * free) - 1.0).abs() < 1e-6, "{precision:?}: {} of {free}", with.norms[1]);
        assert_eq!((with.norms.len(), with.losses.len()), (4, 8));
        // each row clipped by itself is what would give five times as much
        let apart = clipped(&mut engine, &adapter, &each_alone(&five.iter().collect::<Vec<_>>()), clip_norm).sum;
        assert!(square(&apart) > 24 * most, "the clip must matter for this test to say anything");
    }
}

#[test]
fn a_person_gives_alone_and_in_company_the_same_integers() {
    for family in Family::ALL {
        for task in tasks(family) {
            for precision in [Precision::F32, Precision::Bf16] {
                let options = EngineSettings { precision, ..OPTIONS };
                let (_dir, mut engine, adapter) = family_engine(family, task, Head::Frozen, options);
                let persons = persons(task);
                let mut units: Vec<&[Example]> = persons.iter().map(Vec::as_slice).collect();
                let clip_norm = middle(&mut engine, &adapter, &units);
                let all = clipped(&mut engine, &adapter, &units, clip_norm);
                let mut each = vec![0; all.sum.len()];
                for (i, unit) in units.iter().enumerate() {
                    let own = clipped(&mut engine, &adapter, &[unit], clip_norm);
                    assert_eq!(own.norms[0].to_bits(), all.norms[i].to_bits());
                    assert!(square(&own.sum) <= u128::from(grid::STEPS).pow(2));
                    each.iter_mut().zip(own.sum).for_each(|(each, z)| *each += z);
                }
                assert_eq!(all.sum, each, "{family:?} {task:?} {precision:?}: one by one");
                // (3, 1): each row is a micro-batch, so every person with several is spread over as many
                for (threads, micro_batch_tokens, turn) in [(1, 4096, 5), (2, 64, 3), (3, 1, 9)] {
                    units.rotate_left(turn);
                    let options = EngineSettings { threads, micro_batch_tokens, ..options };
                    let (_dir, mut other, _) = family_engine(family, task, Head::Frozen, options);
                    let again = clipped(&mut other, &adapter, &units, clip_norm).sum;
                    assert_eq!(all.sum, again, "{family:?} {task:?} {precision:?}: {micro_batch_tokens} tokens");
                }
            }
        }
    }
}

#[test]
fn a_persons_gradient_is_the_plain_sum_of_its_rows() {
    let (task, head) = (Task::classify(3), Head::Trained);
    let (_dir, mut engine, adapter) = family_engine(Family::Bert, task, head, OPTIONS);
    let persons = persons(task);
    let units: Vec<&[Example]> = persons.iter().map(Vec::as_slice).collect();
    let clip_norm = middle(&mut engine, &adapter, &units);
    let found = clipped(&mut engine, &adapter, &units, clip_norm);
    let mut expected = vec![0.0f32; adapter.len()];
    for (unit, found) in persons.iter().zip(&found.norms) {
        let rows: Vec<&Example> = unit.iter().collect();
        let own = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &rows).unwrap().sum;
        assert!((norm(&own) / found - 1.0).abs() < 1e-4, "{} and {found}", norm(&own));
        let factor = (clip_norm / norm(&own)).min(1.0) as f32;
        expected.iter_mut().zip(own).for_each(|(sum, x)| *sum += factor * x);
    }
    let sum: Vec<f32> = found.sum.iter().map(|&z| (z as f64 * grid::step(clip_norm)) as f32).collect();
    assert!(distance(&sum, &expected) < 1e-5, "{}", distance(&sum, &expected));
    let nobody = clipped(&mut engine, &adapter, &[&[], units[2], &[]], clip_norm);
    assert_eq!((nobody.norms[0], nobody.norms[2], nobody.losses.len()), (0.0, 0.0, units[2].len()));
    assert_eq!(nobody.sum, clipped(&mut engine, &adapter, &units[2..3], clip_norm).sum);
}

#[test]
fn a_person_with_a_row_that_gives_no_number_adds_nothing() {
    let (_dir, mut engine, adapter) = family_engine(Family::Bert, Task::classify(3), Head::Frozen, OPTIONS);
    let huge: Vec<f32> = adapter.iter().map(|x| x * 1e38).collect();
    let rows = examples_for(Task::classify(3), &[5, 30, 60]);
    let found = clipped(&mut engine, &huge, &[&rows], 1.0);
    assert!(!found.norms[0].is_finite() && found.sum.iter().all(|&z| z == 0), "{:?}", found.norms);
}
