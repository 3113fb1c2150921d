//! One whole session with many silos in one process: how long it takes, what travels, and what the coordinator holds.
//!
//! ```text
//! cargo bench -p blindsum-protocol --bench scale -- 100 393216 10       100 silos, d coordinates, 10 lost after P2
//! ```
//!
//! Real machines and real cryptography, messages handed over by value; no network, no disk. The coordinator's store is a
//! file, as it is in the service, so that masked inputs do not count as its memory. Work runs on all cores, everything
//! else on one. Memory: every allocation carries its owner, and those made while the coordinator's machine or work runs
//! are the coordinator's until they are freed, whoever frees them; messages to silos count as its own until read.
#![allow(clippy::unwrap_used, unsafe_code)] // a failed step of a benchmark ends it; the allocator says why it is sound

mod owner;
mod session;

use std::sync::Arc;

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let runs: Vec<[u64; 3]> = match numbers[..] {
        [n, d, drops] => vec![[n, d, drops]],
        _ => vec![[16, 4096, 1], [64, 4096, 1], [16, 393_216, 1], [64, 393_216, 1]],
    };
    println!(
        "  n        d  lost   seconds  coordinator MB (of it shares)  up/silo payload  control  down/silo control"
    );
    for [n, d, drops] in runs {
        let setup = Arc::new(session::setup(u16::try_from(n).unwrap(), d));
        let run = session::run(&setup, u16::try_from(drops).unwrap());
        let mb = |bytes: u64| bytes as f64 / 1e6;
        println!(
            "{n:>4} {d:>8} {drops:>5} {:>9.2} {:>15.1} {:>14.1} {:>16} {:>8} {:>18}",
            run.seconds,
            mb(run.peak_bytes),
            mb(run.shares_bytes),
            run.payload_up,
            run.control_up,
            run.control_down,
        );
        for (phase, seconds) in run.phases {
            println!("        {phase:<16} {seconds:>8.2} s");
        }
    }
}
