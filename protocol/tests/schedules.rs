//! Timing probe.
#![allow(clippy::unwrap_used)]
mod common;
use common::ops::{pairs, schedule};
use common::simulate;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
#[test]
fn probe() {
    let pairs = pairs();
    let start = std::time::Instant::now();
    let mut sums = 0;
    let mut fired = 0;
    let mut total = 0;
    let count = 400;
    for i in 0..count {
        let mut seed = [0u8; 32];
        seed[..8].copy_from_slice(&(i as u64).to_le_bytes());
        let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let first = [pairs[i % pairs.len()], pairs[(i * 7 + 3) % pairs.len()]];
        let tree = schedule(&first, 3).new_tree(&mut runner).unwrap();
        let s = tree.current();
        let result = std::panic::catch_unwind(|| simulate::check(&s));
        match result {
            Ok(o) => { sums += usize::from(o.summed); fired += o.fired.iter().filter(|f| **f).count(); total += o.fired.len(); }
            Err(_) => println!("FAILED {i}: {s:?}"),
        }
    }
    println!("{count} in {:?}, sums {sums}, fired {fired}/{total}", start.elapsed());
}
