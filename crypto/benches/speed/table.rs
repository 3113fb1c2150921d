//! Times closures and prints one line for each.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Fewest timed runs of a row.
const RUNS: usize = 25;
/// A row of short runs goes on for this long.
const LEAST: Duration = Duration::from_millis(300);

/// The table under way.
pub struct Table {
    filter: String,
    json: Option<String>,
    done: Vec<String>,
}

/// A row to be timed.
pub struct Row<'t> {
    table: &'t mut Table,
    name: String,
    target: Option<f64>,
    bytes: usize,
}

impl Table {
    /// From the command line: an optional part of the rows' names, and `--json FILE`. Cargo adds `--bench`.
    pub fn from_args(args: impl Iterator<Item = String>) -> Table {
        let (mut filter, mut json, mut args) = (String::new(), None, args.filter(|a| a != "--bench"));
        while let Some(arg) = args.next() {
            if arg == "--json" { json = args.next() } else { filter = arg }
        }
        println!("{:<62} {:>10} {:>10} {:>9} {:>8} {:>6}", "work", "median ms", "min ms", "target", "GB/s", "runs");
        Table { filter, json, done: Vec::new() }
    }

    /// A row over d coordinates, 0 where that says nothing.
    pub fn row(&mut self, name: &str, d: usize) -> Row<'_> {
        let name = if d == 0 { name.to_string() } else { format!("{name}; d = {d}") };
        Row { table: self, name, target: None, bytes: 0 }
    }

    /// A figure that is no time.
    pub fn value(&mut self, name: &str, value: f64) {
        println!("{name:<62} {value:>10.4}");
        self.done.push(format!("{{\"name\": {name:?}, \"value\": {value:.4}}}"));
    }

    /// Writes the figures where `--json` said.
    pub fn finish(self) {
        if let Some(path) = self.json {
            std::fs::write(&path, format!("[\n{}\n]\n", self.done.join(",\n"))).expect("the file of --json");
        }
    }
}

impl Row<'_> {
    /// The time to reach, ms.
    pub fn target(self, ms: impl Into<Option<f64>>) -> Self {
        Row { target: ms.into(), ..self }
    }

    /// What GB/s counts (at the median).
    pub fn bytes(self, bytes: usize) -> Self {
        Row { bytes, ..self }
    }

    /// Times `work`.
    pub fn time<O>(self, mut work: impl FnMut() -> O) {
        self.time_on(|| (), |()| work());
    }

    /// Times `work` on inputs that `input` makes outside the clock; the result is dropped outside it too.
    pub fn time_on<I, O>(self, mut input: impl FnMut() -> I, mut work: impl FnMut(I) -> O) {
        let Row { table, name, target, bytes } = self;
        if !name.contains(&table.filter) {
            return;
        }
        drop(black_box(work(input())));
        let (mut times, started) = (Vec::new(), Instant::now());
        while times.len() < RUNS || started.elapsed() < LEAST {
            let given = input();
            let clock = Instant::now();
            let out = black_box(work(given));
            times.push(clock.elapsed().as_secs_f64() * 1e3);
            drop(out);
        }
        times.sort_by(f64::total_cmp);
        let (median, least) = (times[times.len() / 2], times[0]);
        let target = target.map_or(String::new(), |t| format!("≤ {t}"));
        let rate = if bytes == 0 { String::new() } else { format!("{:.1}", bytes as f64 / median / 1e6) };
        println!("{name:<62} {median:>10.3} {least:>10.3} {target:>9} {rate:>8} {:>6}", times.len());
        table.done.push(format!("{{\"name\": {name:?}, \"median_ms\": {median:.4}, \"min_ms\": {least:.4}}}"));
    }
}
