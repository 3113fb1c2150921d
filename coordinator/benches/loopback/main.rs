//! A round through the real service: the coordinator as a process of its own with its SQLite store, n silos in this one,
//! real QUIC with mutual TLS over 127.0.0.1.
//!
//! ```text
//! cargo bench -p blindsum-coordinator --bench loopback -- 16 2097152        16 silos, d coordinates
//! ```
//!
//! It prints how long the session took from the first advert to the last adopted result (training is instant here), the
//! processor time of the silos' work values (masks, sketches, checks) and of everything else in their process (QUIC, TLS,
//! copies, their machines), that of the coordinator's process, and its peak memory (VmHWM).
#![allow(clippy::unwrap_used)] // a failed step of a benchmark ends it

mod federation;
mod silo;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use blindsum_coordinator::{Coordinator, prepare};
use blindsum_service::signals;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, config] = &arguments[..]
        && role == "coordinator"
    {
        return coordinate(config);
    }
    let numbers: Vec<u64> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    let runs = match numbers[..] {
        [n, d] => vec![[n, d]],
        _ => vec![[4, 393_216], [16, 393_216], [64, 393_216], [16, 2_097_152]],
    };
    println!(
        "  n        d   seconds   CPU s: silos' work   silos' rest   coordinator   coordinator VmHWM, MB   masked input, MB"
    );
    for [n, d] in runs {
        run(u16::try_from(n).unwrap(), d);
    }
}

/// The service, as `blindsum-coordinator run` has it.
fn coordinate(config: &str) {
    let path = std::path::Path::new(config);
    let (config, document) = blindsum_service::config::load(path).unwrap();
    let prepared = prepare(config, &document).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (_trigger, stop) = signals::manual();
        let coordinator = Coordinator::bind(prepared).await.unwrap();
        println!("{}", coordinator.local_addr());
        coordinator.run(&stop).await.unwrap();
    });
    println!("cpu {}", process_cpu());
    println!("peak {}", peak_kib());
}

/// The most memory that this process ever had resident, KiB (proc(5)).
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A process that does not outlive a step of this one that failed.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

/// Processor time of this process so far, s (proc(5): utime and stime, in hundredths).
fn process_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name: Vec<&str> = stat[stat.rfind(')').unwrap()..].split_ascii_whitespace().collect();
    let ticks = |i: usize| after_name[i].parse::<f64>().unwrap();
    (ticks(12) + ticks(13)) / 100.0
}

fn run(n: u16, d: u64) {
    let site = federation::make(n, d);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["coordinator", site.path("coordinator.toml").to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ended(child);
    let mut said = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let address = said.next().unwrap().unwrap();
    let work = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (seconds, cpu) = runtime.block_on(async {
        let mut silos = Vec::new();
        for i in 0..n {
            silos.push(silo::Silo::connect(&site, i, &address, Arc::clone(&work)).await);
        }
        let (started, cpu) = (Instant::now(), process_cpu());
        let mut tasks = tokio::task::JoinSet::new();
        for silo in silos {
            tasks.spawn(silo.run());
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        (started.elapsed().as_secs_f64(), process_cpu() - cpu)
    });
    let mut number = |name: &str| said.find_map(|line| line.unwrap().strip_prefix(name).map(|n| n.parse().unwrap()));
    let (theirs, peak): (Option<f64>, Option<f64>) = (number("cpu "), number("peak "));
    assert!(child.0.wait().unwrap().success());
    let masked = site.plan.params(blindsum_protocol::RoundKind::TrainB).packed_bytes() as f64 / 1e6;
    let work = work.load(Relaxed) as f64 / 1e9;
    let (theirs, peak) = (theirs.unwrap(), peak.unwrap() * 1024.0 / 1e6);
    let rest = cpu - work;
    println!("{n:>4} {d:>8} {seconds:>9.2} {work:>20.2} {rest:>13.2} {theirs:>13.2} {peak:>23.1} {masked:>18.2}");
}
