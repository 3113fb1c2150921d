//! How many examples a second the training step takes, on the demo's model:
//! `bench_step [MODEL_DIR] [THREADS] [MICRO_BATCH_TOKENS]`.
//!
//! Random token ids, so that only the shape matters: a batch of 32 × 64 tokens, and one of 96 short sequences of 6 to
//! 58 tokens (25 on average, as in the demo's data); each in f32 and bf16, with per-example clipping and without, and
//! forward alone. The last column is processor time, which says more than the others on a machine that is busy.

use std::path::PathBuf;
use std::time::Instant;

use blindsum_adapter::{Adapter, AdapterLayout, BaseShape, Head, Init, LoraConfig, Method, RoundKind, Task};
use blindsum_engine::data::Example;
use blindsum_engine::{Engine, EngineSettings, Precision, each_alone};
use blindsum_torch::{FrozenParts, TorchEngine};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| ".demo/models/all-MiniLM-L6-v2".to_owned()));
    let threads = args.next().map_or(Ok(0), |a| a.parse())?;
    let micro_batch_tokens = args.next().map_or(Ok(EngineSettings::default().micro_batch_tokens), |a| a.parse())?;
    let shape = BaseShape::from_config_json(&std::fs::read_to_string(dir.join("config.json"))?)?;
    let lora = LoraConfig {
        method: Method::FfaLora,
        r: 8,
        lora_alpha: 16.0,
        target_modules: None,
        init: Init::Orthonormal,
        seed: 1,
        head: Head::Frozen,
        refresh_rounds: None,
    };
    let layout = AdapterLayout::new(&shape, &lora, Task::classify(2))?;
    let adapter: Vec<f32> = (0..layout.len()).map(|i| 0.01 * (i as f32).sin()).collect();
    let id = |i: usize| 1000 + (i * 7919 % 20_000) as u32;
    let of = |n: usize, k: usize| Example::labelled((0..n).map(|t| id(t + 64 * k)).collect(), (k % 2) as u32);
    let even: Vec<Example> = (0..32).map(|k| of(64, k)).collect();
    let lengths = [6, 9, 12, 15, 18, 21, 24, 27, 30, 36, 44, 58];
    let short: Vec<Example> = (0..96).map(|k| of(lengths[k % 12], k)).collect();
    println!(
        "{:<10} {:<10} {:<22} {:>12} {:>12} {:>12}",
        "batch", "precision", "pass", "examples/s", "tokens/s", "CPU ms/ex."
    );
    for precision in [Precision::F32, Precision::Bf16] {
        let options = EngineSettings { precision, threads, micro_batch_tokens, ..EngineSettings::default() };
        let frozen = FrozenParts::from_seed(&layout);
        let mut engine = TorchEngine::open(&blindsum_engine::model::weights(&dir), &layout, &frozen, options)?;
        for (name, batch) in [("32×64", &even), ("96 short", &short)] {
            let batch: Vec<&Example> = batch.iter().collect();
            let tokens: usize = batch.iter().map(|e| e.ids.len()).sum();
            for pass in ["forward and backward", "the same, clipped", "forward"] {
                let mut run = || -> Result<(), Box<dyn std::error::Error>> {
                    match pass {
                        "forward" => drop(engine.logits(Adapter::of(&adapter), &batch)?),
                        "the same, clipped" => drop(engine.clipped_sum(
                            Adapter::of(&adapter),
                            RoundKind::TrainB,
                            &each_alone(&batch),
                            0.5,
                        )?),
                        _ => drop(engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &batch)?),
                    }
                    Ok(())
                };
                run()?;
                let (start, busy, mut turns) = (Instant::now(), cpu_seconds(), 0);
                while turns < 3 || start.elapsed().as_secs_f64() < 2.0 {
                    run()?;
                    turns += 1;
                }
                let cpu = (cpu_seconds() - busy) * 1e3 / f64::from(turns) / batch.len() as f64;
                let rate = f64::from(turns) / start.elapsed().as_secs_f64();
                let (examples, tokens) = (batch.len() as f64 * rate, tokens as f64 * rate);
                println!("{name:<10} {precision:<10?} {pass:<22} {examples:>12.0} {tokens:>12.0} {cpu:>12.2}");
            }
        }
    }
    Ok(())
}

/// Processor time of this process so far, from Linux's /proc; 0 elsewhere.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // after the name in parentheses: user and system time are fields 14 and 15 of proc(5), in hundredths of a second
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}
