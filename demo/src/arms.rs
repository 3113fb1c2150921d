//! What the federation is compared with: each silo alone, the pooled rows, and the federation itself in one process.
//!
//! All arms use the product's own pieces: the same engine, [`LocalTrainer`], plan, fixed point and server step. The
//! federation here adds up the integers that silos would mask, in the clear: secure aggregation yields the same sum, bit
//! for bit (the cluster tests show it), so this is the federation without its network, for sweeps over seeds.
//!
//! Every arm takes the same number of optimiser steps. The pooled arm is one training that draws the silos' expected
//! batches together from all rows. It bounds nothing: its noise and its learning rate are its own.

use anyhow::{Context, Result};
use blindsum_adapter::{Adapter, AdapterLayout, StateLayout};
use blindsum_crypto::{IdentityKey, Roster, RosterEntry, SegmentKind, fixed_point};
use blindsum_engine::data::Example;
use blindsum_engine::local::{LocalError, LocalTrainer, LocalUpdate, TrainSpec, os_rng, whole_job};
use blindsum_engine::{Engine, best};
use blindsum_protocol::job::{Job, JobFile};
use blindsum_protocol::plan::Plan;

use crate::corpus::Corpus;
use crate::progress::Steps;

/// Which rows an arm trains on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// All silos, by secure aggregation of their updates.
    Federation,
    /// One silo, by index, on its own rows.
    Alone(usize),
    /// All rows in one place.
    Pooled,
}

/// The job with another learning rate and seed.
///
/// # Errors
/// When the numbers do not make a job.
pub fn vary(job: &Job, learning_rate: f64, seed: u64) -> Result<Job> {
    let mut file = JobFile::from(job.clone());
    file.training.learning_rate = learning_rate;
    file.lora.seed = seed;
    Ok(Job::try_from(file)?)
}

/// What the job carries from round to round with this engine.
///
/// # Errors
/// When the job is not one for it.
pub fn state(job: &Job, engine: &dyn Engine) -> Result<StateLayout> {
    Ok(StateLayout::new(engine.layout().clone(), job.server_step(), job.rounds)?)
}

/// Trains an arm for the whole job and returns the last [`state`]. Ticks `bar` once per optimiser step.
///
/// # Errors
/// When the job cannot be had with these rows, or the engine fails.
pub fn train(arm: Arm, job: &Job, engine: &mut dyn Engine, corpus: &Corpus, bar: &Steps) -> Result<Vec<f32>> {
    match arm {
        Arm::Federation => federation(job, engine, corpus, bar),
        Arm::Alone(silo) => single(job, engine, &corpus.sources[silo].train, bar),
        Arm::Pooled => {
            let mut file = JobFile::from(job.clone());
            file.training.expected_batch_examples *= u32::try_from(corpus.sources.len())?;
            let rows: Vec<Example> = corpus.sources.iter().flat_map(|source| source.train.iter().cloned()).collect();
            single(&Job::try_from(file)?, engine, &rows, bar)
        }
    }
}

fn single(job: &Job, engine: &mut dyn Engine, rows: &[Example], bar: &Steps) -> Result<Vec<f32>> {
    let trainer = trainer(job, rows)?;
    let state = state(job, engine)?;
    Ok(whole_job(&[trainer], engine, &state, job.rounds, &mut || bar.tick(), &mut |_, took| Ok(took[0].sum()))?)
}

fn trainer(job: &Job, rows: &[Example]) -> Result<LocalTrainer> {
    let (spec, _) = TrainSpec::derive(&job.local_training())?;
    Ok(LocalTrainer::new(rows.to_vec(), spec)?)
}

fn federation(job: &Job, engine: &mut dyn Engine, corpus: &Corpus, bar: &Steps) -> Result<Vec<f32>> {
    let plan = plan(job, engine.layout(), corpus.sources.len())?;
    let trainers = corpus.sources.iter().map(|source| trainer(job, &source.train)).collect::<Result<Vec<_>>>()?;
    let mut rng = os_rng()?;
    let mut sum = |round, took: &[LocalUpdate]| {
        let kind = plan.kind(round).ok_or_else(|| LocalError::Spec(format!("the job has no round {round}")))?;
        let segments = plan.params(kind).segments.iter();
        let mut start = 0;
        let mut total = Vec::new();
        for segment in segments.filter(|segment| matches!(segment.kind, SegmentKind::FixedPoint { .. })) {
            let range = start..start + segment.length as usize;
            start = range.end;
            let mut lanes = vec![0u32; range.len()];
            for own in took {
                let mut encoded = Vec::with_capacity(range.len());
                fixed_point::encode(&own.values[range.clone()], segment, &mut rng, &mut encoded)
                    .map_err(|e| LocalError::Spec(e.to_string()))?;
                lanes.iter_mut().zip(&encoded).for_each(|(total, lane)| *total = total.wrapping_add(*lane));
            }
            total.extend(fixed_point::decode_sum(&lanes, segment));
        }
        Ok(total)
    };
    Ok(whole_job(&trainers, engine, plan.state(), job.rounds, &mut || bar.tick(), &mut sum)?)
}

/// The plan of a federation of `names` silos; the keys are drawn for the occasion and sign nothing.
fn plan(job: &Job, layout: &AdapterLayout, names: usize) -> Result<Plan> {
    let mut rng = os_rng()?;
    let entries = (0..names)
        .map(|i| RosterEntry { name: format!("silo-{i}"), identity: IdentityKey::generate(&mut rng).public() })
        .collect();
    let roster = Roster::new(job.federation.clone(), 1, entries)?;
    Ok(Plan::derive(job, &roster, layout)?)
}

/// Optimiser steps that [`train`] takes in all, for a progress bar.
pub fn steps(arm: Arm, job: &Job, corpus: &Corpus) -> u64 {
    let steps = u64::from(job.rounds) * u64::from(job.training.local_steps);
    if arm == Arm::Federation { steps * corpus.sources.len() as u64 } else { steps }
}

/// Which rows an adapter gets right, source by source.
///
/// # Errors
/// When the engine fails.
pub fn hits(engine: &mut dyn Engine, adapter: Adapter<'_>, sources: &[&[Example]]) -> Result<Vec<Vec<bool>>> {
    sources
        .iter()
        .map(|rows| {
            let examples: Vec<&Example> = rows.iter().collect();
            let logits = engine.logits(adapter, &examples).context("cannot evaluate the adapter")?;
            Ok(logits.iter().zip(&examples).map(|(row, example)| Some(best(row) as u32) == example.label()).collect())
        })
        .collect()
}
