//! A round through the real service: the coordinator as a process of its own with its SQLite store, n silos in this one,
//! real QUIC with mutual TLS over 127.0.0.1.
//!
//! ```text
//! cargo bench -p blindsum-coordinator --bench loopback -- 16 2097152        16 silos, d coordinates
//! ```
//!
//! It prints how long the session took from the first advert to the last adopted result (training is instant here), what of
//! it the silos' work values and the coordinator's phases took, and the coordinator's peak memory (VmHWM).
#![allow(clippy::unwrap_used)] // a failed step of a benchmark ends it

#[path = "parts/federation.rs"]
mod federation;
#[path = "parts/silo.rs"]
mod silo;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use blindsum_coordinator::{Coordinator, prepare};
use blindsum_transport::signals;

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
    println!("  n        d   seconds   silos' work, s (all together)   coordinator VmHWM, MB   masked input, MB");
    for [n, d] in runs {
        run(u16::try_from(n).unwrap(), d);
    }
}

/// The service, as `blindsum-coordinator run` has it.
fn coordinate(config: &str) {
    let path = std::path::Path::new(config);
    let config: blindsum_coordinator::config::CoordinatorConfig = blindsum_transport::config::load(path).unwrap();
    let prepared = prepare(config.resolved(path.parent().unwrap())).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (_trigger, stop) = signals::manual();
        let coordinator = Coordinator::bind(prepared).await.unwrap();
        println!("{}", coordinator.local_addr());
        coordinator.run(&stop).await.unwrap();
    });
    println!("peak {}", peak_kib());
}

/// The most memory that this process ever had resident, KiB (proc(5)).
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn run(n: u16, d: u64) {
    let site = federation::make(n, d);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["coordinator", site.path("coordinator.toml").to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = said.next().unwrap().unwrap();
    let work = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let seconds = runtime.block_on(async {
        let mut silos = Vec::new();
        for i in 0..n {
            silos.push(silo::Silo::connect(&site, i, &address, Arc::clone(&work)).await);
        }
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for silo in silos {
            tasks.spawn(silo.run());
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        started.elapsed().as_secs_f64()
    });
    let peak = said.find_map(|line| line.unwrap().strip_prefix("peak ").map(|kib| kib.parse::<f64>().unwrap()));
    assert!(child.wait().unwrap().success());
    let masked = site.plan.params(blindsum_protocol::RoundKind::Train).packed_bytes() as f64 / 1e6;
    let work = work.load(Relaxed) as f64 / 1e6;
    println!("{n:>4} {d:>8} {seconds:>9.2} {work:>31.2} {:>23.1} {masked:>18.2}", peak.unwrap() * 1024.0 / 1e6);
}
