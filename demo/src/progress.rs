//! Progress bars that look the same everywhere in the demo.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over optimiser steps, with elapsed and remaining time.
pub fn steps(total: u64, what: String) -> ProgressBar {
    let template = "  {bar:30} {pos:>4}/{len} steps  {elapsed} elapsed, {eta} left  {msg}";
    // the template is a constant: a mistake in it shows in the first test that draws a bar
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what)
}
