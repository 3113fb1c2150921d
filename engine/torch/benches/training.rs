//! One contender of `make bench-training`: this engine, step by step, as `training.py` beside this file asks for it.
//!
//! `training floor [TOKENS HIDDEN INNER]` prints the rates of matrix products through tch, `training CONTENDER MODEL
//! BATCHES` serves steps: it reads the number of a batch from a line of standard input, takes one training step of the
//! product on it (gradients, noise, optimiser), and answers with milliseconds; at the end of the input it prints its
//! memory. Contenders are `f32`, `bf16` and, under DP-SGD, `f32-dp` and `bf16-dp`. `training parity MODEL TASK` prints how far
//! logits and clipped gradients on the device are from those of the processor in f32. The device is the environment's
//! `BENCH_DEVICE`, or the processor.

#![allow(missing_docs)]

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use blindsum_adapter::training::Optimizer;
use blindsum_adapter::{
    Adapter, AdapterLayout, Head, Init, LoraConfig, Method, RoundKind, Targets, TaskKind, initial_values,
};
use blindsum_engine::data::Example;
use blindsum_engine::local::{LocalTrainer, StepPrivacy, TrainSpec, os_rng};
use blindsum_engine::model::ModelDir;
use blindsum_engine::{ComputeDevice, Engine, EngineSettings, Precision, each_alone};
use blindsum_torch::{FrozenParts, TorchEngine};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// As `training.py` has it for every contender.
const THREADS: usize = 2;

#[derive(Deserialize)]
struct Batches {
    task: TaskKind,
    labels: usize,
    targets: Vec<String>,
    batches: Vec<Vec<Row>>,
}

#[derive(Deserialize)]
struct Row {
    ids: Vec<u32>,
    label: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["floor", tokens, hidden, inner] => floor(tokens.parse()?, hidden.parse()?, inner.parse()?),
        ["parity", model, task] => parity(Path::new(model), task),
        [contender, model, batches] => serve(contender, Path::new(model), Path::new(batches)),
        _ => Err("make bench-training runs this".into()),
    }
}

/// The device that the environment names.
fn device() -> Result<ComputeDevice, Box<dyn Error>> {
    Ok(std::env::var("BENCH_DEVICE").unwrap_or_else(|_| "cpu".to_owned()).parse()?)
}

fn lora(targets: Option<Targets>, task: TaskKind) -> LoraConfig {
    LoraConfig {
        method: Method::FfaLora,
        r: 8,
        lora_alpha: 16.0,
        target_modules: targets,
        init: Init::Orthonormal,
        seed: 1,
        head: if task == TaskKind::CausalLm { Head::Frozen } else { Head::Trained },
        refresh_rounds: None,
    }
}

/// Relative distances of the device's logits and gradients from the processor's, in f32 and in bf16.
fn parity(model: &Path, task: &str) -> Result<(), Box<dyn Error>> {
    let task = if task == "causal-lm" { TaskKind::CausalLm } else { TaskKind::SequenceClassification };
    let model = ModelDir::open(model)?;
    let layout = AdapterLayout::new(model.shape(), &lora(None, task), task.with_labels(2))?;
    let mut values = initial_values(&layout);
    values.iter_mut().enumerate().for_each(|(i, x)| *x += 0.05 * (i as f32 * 0.37).sin());
    let vocab = model.shape().vocab as u32;
    let example = |k: u32| {
        let ids = (0..7 + 13 * k).map(|t| 5 + (t * 7919 + k * 104_729) % (vocab - 5)).collect();
        if task == TaskKind::CausalLm { Example::text(ids, k) } else { Example::labelled(ids, k % 2) }
    };
    let rows: Vec<Example> = (0..8).map(example).collect();
    let batch: Vec<&Example> = rows.iter().collect();
    let compute = |device, precision| -> Result<[Vec<f32>; 2], Box<dyn Error>> {
        let options = EngineSettings { device, precision, threads: THREADS, ..EngineSettings::default() };
        let mut engine = TorchEngine::open(&model.weights(), &layout, &FrozenParts::from_seed(&layout), options)?;
        let logits = engine.logits(Adapter::of(&values), &batch)?.concat();
        let clipped = engine.clipped_sum(Adapter::of(&values), RoundKind::TrainB, &each_alone(&batch), 1.0)?.sum;
        Ok([logits, clipped.into_iter().map(|z| z as f32).collect()])
    };
    let exact = compute(ComputeDevice::Cpu, Precision::F32)?;
    for (name, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
        let found = compute(device()?, precision)?;
        let far = |k: usize| {
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            let apart = norm(&mut found[k].iter().zip(&exact[k]).map(|(x, y)| f64::from(x - y)));
            apart / norm(&mut exact[k].iter().map(|&y| f64::from(y)))
        };
        println!(
            "{:?} {name} against the processor's f32: logits {:.1e}, gradients {:.1e} (relative)",
            device()?,
            far(0),
            far(1)
        );
    }
    Ok(())
}

fn serve(contender: &str, model: &Path, batches: &Path) -> Result<(), Box<dyn Error>> {
    let (precision, private) = match contender.strip_suffix("-dp") {
        Some(precision) => (precision, true),
        None => (contender, false),
    };
    let Batches { task, labels, targets, batches } = serde_json::from_str(&std::fs::read_to_string(batches)?)?;
    let model = ModelDir::open(model)?;
    let layout =
        AdapterLayout::new(model.shape(), &lora(Some(Targets::Names(targets)), task), task.with_labels(labels))?;
    let (device, precision) = (device()?, precision.parse::<Precision>()?);
    let options = EngineSettings { device, precision, threads: THREADS, ..EngineSettings::default() };
    let mut engine = TorchEngine::open(&model.weights(), &layout, &FrozenParts::from_seed(&layout), options)?;
    let privacy = match private {
        true => StepPrivacy::RecordDp { q: 1.0, noise_multiplier: 1.0, clip_norm: 1.0, batch_max: 1 << 20 },
        false => StepPrivacy::None { max_grad_norm: 1.0 },
    };
    let trainer = |rows: Vec<Row>| {
        let example = |row: Row| match task {
            TaskKind::SequenceClassification => Example::labelled(row.ids, row.label),
            TaskKind::CausalLm => Example::text(row.ids, 0),
        };
        let rows: Vec<Example> = rows.into_iter().map(example).collect();
        let expected_batch = rows.len() as u32;
        let (optimizer, learning_rate) = (Optimizer::Sgd, 0.01.into());
        LocalTrainer::new(rows, TrainSpec { local_steps: 1, expected_batch, optimizer, learning_rate, privacy })
    };
    let trainers = batches.into_iter().map(trainer).collect::<Result<Vec<_>, _>>()?;
    let mut rng = os_rng()?;
    let mut values = initial_values(&layout);
    let loaded = peak_kb();
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        let batch: usize = line?.parse()?;
        let started = Instant::now();
        let update = trainers[batch].round(&mut engine, 1, Adapter::of(&values), &mut rng, &mut |_| true)?;
        values.iter_mut().zip(&update.values).for_each(|(value, step)| *value += step);
        writeln!(out, "{:.4}", started.elapsed().as_secs_f64() * 1e3)?;
    }
    writeln!(out, "{{\"loaded_kb\": {loaded}, \"peak_kb\": {}}}", peak_kb())?;
    Ok(())
}

/// GFLOP/s of the feed-forward products of one layer, in each format, one product on each of two threads at a time as
/// the engine works, and each product on both threads as PyTorch works; the best of several runs.
fn floor(tokens: i64, hidden: i64, inner: i64) -> Result<(), Box<dyn Error>> {
    let rate = |kind: Kind, threads: usize, each: i32| -> Result<f64, Box<dyn Error>> {
        let rows = tokens / threads as i64;
        let mut best = 0.0f64;
        for _ in 0..5 {
            let started = Instant::now();
            let work = || -> Result<(), tch::TchError> {
                tch::set_num_threads(each);
                let x = Tensor::f_ones([rows, hidden], (kind, Device::Cpu))?;
                let w = Tensor::f_ones([inner, hidden], (kind, Device::Cpu))?.f_transpose(0, 1)?;
                let y = Tensor::f_ones([rows, inner], (kind, Device::Cpu))?;
                for _ in 0..100 {
                    // into memory that is there already: what allocation costs is not the product's
                    drop(x.f_mm_out(&y, &w)?);
                }
                Ok(())
            };
            let run = || {
                std::thread::scope(|s| {
                    (0..threads)
                        .map(|_| s.spawn(work))
                        .collect::<Vec<_>>()
                        .into_iter()
                        .try_for_each(|t| t.join().unwrap_or(Ok(())))
                })
            };
            run()?;
            let flop = 100.0 * 2.0 * (rows * threads as i64 * hidden * inner) as f64;
            best = best.max(flop / started.elapsed().as_secs_f64() / 1e9);
        }
        Ok(best)
    };
    let _guard = tch::no_grad_guard();
    let (apart, together) = ((THREADS, 1), (1, THREADS as i32));
    println!(
        "{{\"bf16\": {:.0}, \"f32\": {:.0}, \"bf16_together\": {:.0}, \"f32_together\": {:.0}}}",
        rate(Kind::BFloat16, apart.0, apart.1)?,
        rate(Kind::Float, apart.0, apart.1)?,
        rate(Kind::BFloat16, together.0, together.1)?,
        rate(Kind::Float, together.0, together.1)?
    );
    Ok(())
}

/// Highest resident memory so far, from Linux's /proc; 0 elsewhere.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
