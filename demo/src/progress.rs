//! Progress bars that look the same everywhere in the demo, and the stop that long training listens to.

use blindsum_service::signals::Stop;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar over optimiser steps that ends training when the program is asked to stop.
#[derive(Clone, Debug)]
pub struct Steps {
    bar: ProgressBar,
    stop: Option<Stop>,
}

impl Steps {
    /// A bar over `total` steps, with elapsed and remaining time.
    pub fn new(total: u64, what: String, stop: Option<Stop>) -> Self {
        let template = "  {bar:30} {pos:>4}/{len} steps  {elapsed} elapsed, {eta} left  {msg}";
        Self { bar: ProgressBar::new(total).with_style(style(template)).with_message(what), stop }
    }

    /// One more step; false when training should stop.
    pub fn tick(&self) -> bool {
        self.bar.inc(1);
        self.stop.as_ref().is_none_or(|stop| stop.reason().is_none())
    }

    /// Removes the bar.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }
}

/// A bar's style; the plain one should the template not be understood.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
