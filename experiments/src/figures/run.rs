//! Runs one command from the repository's root, shows that it goes on, and stops it with this program.
//!
//! Contract: the command is a process group of its own without standard input; what it prints goes to a log file. On
//! Ctrl-C (or SIGTERM) the group is interrupted, and killed when it is still there five seconds later. Variables of the
//! make that called this program are not passed on: a command runs as if typed by hand.

use std::fs::{self, File};
use std::io::IsTerminal;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

/// How long a command runs before something is shown.
const SILENT: Duration = Duration::from_secs(2);
/// How long a command may take to end when it is interrupted.
const GRACE: Duration = Duration::from_secs(5);
const FROM_MAKE: [&str; 11] = [
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "TOPIC",
    "ROW",
    "FORMAT",
    "STEP",
    "SECONDS",
    "FORCE",
    "REPORT",
];

/// Whether this program was asked to stop. The default one never is, unless a test sets it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C and SIGTERM from now on.
    pub fn listen() -> Result<Self> {
        let asked = Self::default();
        let flag = asked.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let signals = runtime.block_on(async { (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) });
        let (mut interrupt, mut terminate) =
            (signals.0.context("cannot listen for signals")?, signals.1.context("cannot listen for signals")?);
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
                flag.0.store(true, Ordering::Relaxed);
            });
        });
        Ok(asked)
    }

    /// True from the first signal on.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A command that ran to its end.
#[derive(Clone, Debug)]
pub struct Exited {
    /// Its exit code, or 128 and the signal that killed it.
    pub code: i32,
    /// How long it ran.
    pub seconds: f64,
    /// What it printed, both streams together.
    pub output: String,
}

impl Exited {
    /// The last lines, for a person to see what went wrong.
    pub fn tail(&self) -> String {
        let lines: Vec<&str> = self.output.lines().collect();
        lines[lines.len().saturating_sub(15)..].iter().map(|line| format!("    {line}\n")).collect()
    }
}

/// Runs `command` with the shell; `None` when this program was asked to stop.
///
/// # Errors
/// When the shell cannot be started or the log not be written.
pub fn run(command: &str, title: &str, log: &Path, interrupt: &Interrupt) -> Result<Option<Exited>> {
    let folder = log.parent().context("a log without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    for name in FROM_MAKE {
        shell.env_remove(name);
    }
    let started = Instant::now();
    let mut child = shell.spawn().context("cannot start sh")?;
    let status = wait(&mut child, title, started, interrupt)?;
    if interrupt.is_asked() {
        return Ok(None);
    }
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    let output = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let output = String::from_utf8_lossy(&output).into_owned();
    Ok(Some(Exited { code, seconds: started.elapsed().as_secs_f64(), output }))
}

fn wait(child: &mut Child, title: &str, started: Instant, interrupt: &Interrupt) -> Result<ExitStatus> {
    let group = Pid::from_child(child);
    let mut shown: Option<ProgressBar> = None;
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the command")? {
            if asked.is_some() {
                let _ = kill_process_group(group, Signal::KILL); // whatever of the group outlived its shell
            }
            shown.inspect(ProgressBar::finish_and_clear);
            return Ok(status);
        }
        if interrupt.is_asked() && asked.is_none() {
            asked = Some(Instant::now());
            let _ = kill_process_group(group, Signal::INT); // a group that has just ended is seen above
        }
        if asked.is_some_and(|at| at.elapsed() > GRACE) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        if shown.is_none() && started.elapsed() > SILENT {
            shown = Some(spinner(title));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A line that moves; where nobody would see it move, a line that is printed once.
fn spinner(title: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("{title} …");
    }
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed} elapsed");
    let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_message(title.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_with_its_code_and_both_its_streams() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/a");
        let ended = run("echo out; echo err >&2; exit 3", "a", &log, &Interrupt::default()).unwrap().unwrap();
        assert_eq!((ended.code, ended.output.as_str()), (3, "out\nerr\n"));
        assert_eq!(ended.tail(), "    out\n    err\n");
        let killed = run("kill -9 $$", "b", &log, &Interrupt::default()).unwrap().unwrap();
        assert_eq!(killed.code, 137);
    }

    #[test]
    fn an_interrupt_ends_the_command_and_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let (log, pid) = (folder.path().join("log"), folder.path().join("pid"));
        let interrupt = Interrupt::default();
        let command = format!("trap '' INT; sleep 100 & echo $! > {}; wait; true", pid.display());
        let flag = interrupt.clone();
        let seen = pid.clone();
        let asker = std::thread::spawn(move || {
            while !fs::read_to_string(&seen).is_ok_and(|text| text.ends_with('\n')) {
                std::thread::sleep(Duration::from_millis(5));
            }
            flag.0.store(true, Ordering::Relaxed);
        });
        let started = Instant::now();
        assert!(run(&command, "deaf to SIGINT", &log, &interrupt).unwrap().is_none());
        assert!(started.elapsed() > GRACE && started.elapsed() < 4 * GRACE);
        asker.join().unwrap();
        let pid = fs::read_to_string(pid).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "the sleep goes on: {state}");
    }
}
