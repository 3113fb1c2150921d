//! `blindsum-figures`: the figures that this project claims, each measured by a command that can be typed by hand.
//!
//! ```text
//! experiments/figures/TOPIC.toml ─► show ─► each row's command ─► figure ─► bar: met or missed
//! experiments/long.toml ─► long ─► each step's command ─► .long/STEP.toml ─► table in docs/testing.md ─► show
//! ```
//!
//! Contract: standard output holds the table alone, standard error everything else. Exit code 0: every bar is met;
//! 1: a bar is missed or a command failed; 2: the question or a table is wrong; 130: stopped.

mod bar;
mod count;
mod graph;
mod long;
mod reading;
mod rebuild;
mod report;
mod run;
mod show;
mod tables;
mod text;
mod types;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use run::Interrupt;

/// Reruns what this project claims in figures, and says which bars are met.
#[derive(Debug, Parser)]
#[command(name = "blindsum-figures", version, arg_required_else_help = true)]
struct Asked {
    #[command(subcommand)]
    task: Errand,
}

#[derive(Debug, Subcommand)]
enum Errand {
    /// Run the rows of one topic and print figure, bar, and whether it is met.
    Show {
        /// The topic: a file of experiments/figures, without its ending.
        topic: Option<String>,
        /// This row alone.
        #[arg(long)]
        row: Option<String>,
        /// How the table is printed.
        #[arg(long, value_enum, default_value_t = text::Style::Text)]
        format: text::Style,
    },
    /// Run what is too long for the gate; what succeeded with the same files is not run again.
    Long(long::Wanted),
    /// Count something of the sources.
    #[command(subcommand)]
    Count(count::Countable),
    /// Touch one file, build all programs, and count the crates that were built again.
    Rebuild {
        /// The file, a source of this workspace.
        file: PathBuf,
    },
    /// Check every crate that does not need libtorch where there is none.
    CheckWithoutLibtorch,
}

fn main() -> ExitCode {
    let asked = Asked::parse();
    let done = enter_root().and_then(|()| match asked.task {
        Errand::Show { topic, row, format } => {
            show::show(topic.as_deref(), row.as_deref(), format, &Interrupt::listen()?)
        }
        Errand::Long(wanted) => long::long(&wanted, &Interrupt::listen()?),
        Errand::Count(what) => count::print(&what),
        Errand::Rebuild { file } => rebuild::print(&file),
        Errand::CheckWithoutLibtorch => rebuild::check_without_libtorch(),
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("figures: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Goes to the repository's root, where every command is meant to be typed.
fn enter_root() -> Result<()> {
    let root = output_of(Command::new("git").args(["rev-parse", "--show-toplevel"]))?;
    std::env::set_current_dir(root.trim_end()).with_context(|| format!("cannot enter {}", root.trim_end()))
}

/// The standard output of a program that must succeed.
fn output_of(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}: install it"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    String::from_utf8(output.stdout).with_context(|| format!("what {name} printed is not UTF-8"))
}
