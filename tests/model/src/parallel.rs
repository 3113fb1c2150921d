//! Work on all cores, with a line on standard error now and then that says how far it is.
//!
//! Contract: answers come in the order of the work, whatever order they were found in; work of less than two seconds
//! prints nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

const FIRST_LINE: Duration = Duration::from_secs(2);
const NEXT_LINE: Duration = Duration::from_secs(10);

/// Does all of `work`. `what` is its name in the lines on standard error.
pub fn in_parallel<T: Sync, R: Send>(what: &str, work: &[T], act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let (answer, answers) = mpsc::channel();
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get()).min(work.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (answer, next, act) = (answer.clone(), &next, &act);
            scope.spawn(move || {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = work.get(place) else { break };
                    answer.send((place, act(item))).expect("answers are awaited until every worker is done");
                }
            });
        }
        drop(answer);
        collect(what, work.len(), &answers)
    })
}

fn collect<R>(what: &str, all: usize, answers: &Receiver<(usize, R)>) -> Vec<R> {
    let start = Instant::now();
    let mut due = start + FIRST_LINE;
    let mut done = BTreeMap::new();
    loop {
        match answers.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok((place, found)) => drop(done.insert(place, found)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return done.into_values().collect(),
        }
        if Instant::now() >= due {
            eprintln!("{what}: {} of {all} after {} s", done.len(), start.elapsed().as_secs());
            due += NEXT_LINE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_work() {
        let slow_first = |&n: &u64| {
            std::thread::sleep(Duration::from_millis(20 - n));
            n * n
        };
        let work: Vec<u64> = (0..20).collect();
        let squares: Vec<u64> = work.iter().map(|n| n * n).collect();
        assert_eq!(in_parallel("squares", &work, slow_first), squares);
        assert!(in_parallel("nothing", &[], slow_first).is_empty());
    }
}
