//! Real processes of a federation: started, listened to line by line, killed.
//!
//! Contract: waiting for a process means waiting for a line that it writes, never for time to pass. Every process is
//! killed when its value is dropped; a failure shows what the process said last.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::seams::{Milestone, Pause};

/// The signal's number.
const SIGKILL: i32 = 9;

/// A running process.
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Process {
    /// Starts `command` and listens to both of its outputs.
    pub fn start(name: &str, mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        let (sink, lines) = mpsc::channel();
        listen(child.stdout.take().unwrap(), sink.clone());
        listen(child.stderr.take().unwrap(), sink);
        let stdin = child.stdin.take();
        Process { name: name.into(), child, stdin, lines, said: Vec::new() }
    }

    /// A silo of the harness, from the binary at `program`.
    pub fn silo(program: &str, config: &Path, record: &Path, seed: u64, pauses: &[Pause]) -> Self {
        Self::silo_with(program, config, record, seed, pauses, &[])
    }

    /// [`Process::silo`] with further arguments.
    pub fn silo_with(
        program: &str,
        config: &Path,
        record: &Path,
        seed: u64,
        pauses: &[Pause],
        more: &[String],
    ) -> Self {
        let mut command = traced(program, record);
        command.arg("--config").arg(config).arg("--record").arg(record).arg("--seed").arg(seed.to_string());
        for pause in pauses {
            command.arg("--pause").arg(format!("{}:{}", pause.before, pause.round));
        }
        command.args(more);
        Self::start(&config.file_stem().unwrap_or_default().to_string_lossy(), command)
    }

    /// A coordinator, from the binary at `program`; returns it and the address that it listens on.
    pub fn coordinator(program: &str, config: &Path) -> (Self, String) {
        Self::coordinator_with(program, config, &[])
    }

    /// [`Process::coordinator`] with further arguments.
    pub fn coordinator_with(program: &str, config: &Path, more: &[String]) -> (Self, String) {
        let mut command = Command::new(program);
        command.arg("--config").arg(config).args(more);
        let mut process = Self::start("coordinator", command);
        let line = process.line(|line| line.contains("\"event\":\"listening\""));
        let log: serde_json::Value = serde_json::from_str(&line).unwrap();
        (process, log["address"].as_str().unwrap().to_owned())
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line, also among those that came already.
    pub fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        match self.line_or_end(wanted) {
            Some(line) => line,
            None => self.give_up("ended before it said what was waited for"),
        }
    }

    /// Waits for a line, also among those that came already, or for the end of the process, which gives none.
    pub fn line_or_end(&mut self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        if let Some(line) = self.said.iter().find(|line| wanted(line)) {
            return Some(line.clone());
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if wanted(&line) {
                        return Some(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.give_up("did not say in time what was waited for"),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Waits for a silo's milestone.
    pub fn reached(&mut self, milestone: &Milestone) {
        let wanted = milestone.to_string();
        self.line(|line| line == wanted);
    }

    /// Lets a paused silo go on.
    pub fn resume(&mut self) {
        writeln!(self.stdin.as_mut().unwrap(), "go on").unwrap();
    }

    /// SIGKILL; returns when it is dead.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let sent = Command::new("kill").args(["-s", "TERM", &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end by SIGKILL, which it gave itself: everything that it said. None where it ended otherwise.
    pub fn killed(mut self) -> Option<String> {
        let status = self.wait();
        (status.signal() == Some(SIGKILL)).then(|| self.said.join("\n"))
    }

    /// Waits for its end: the exit code and everything that it said.
    pub fn end(mut self) -> (i32, String) {
        let status = self.wait();
        (status.code().unwrap_or(-1), self.said.join("\n"))
    }

    /// Waits for its end, and for everything that it said.
    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                self.give_up("did not end in time");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // Both listeners end with their pipes.
        let rest: Vec<String> = self.lines.iter().collect();
        self.said.extend(rest);
        status
    }

    fn give_up(&self, why: &str) -> ! {
        let said: Vec<String> = self.said.iter().cloned().chain(self.lines.try_iter()).collect();
        let tail: Vec<&str> = said.iter().rev().take(40).rev().map(String::as_str).collect();
        panic!("{} {why}; its last lines:\n{}", self.name, tail.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The program, under strace where BLINDSUM_STRACE names a folder for what it writes (see tests/fsync_order.py).
fn traced(program: &str, record: &Path) -> Command {
    let Some(dir) = std::env::var_os("BLINDSUM_STRACE") else { return Command::new(program) };
    let silo = record.file_name().unwrap_or_default().to_string_lossy();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-s", "64", "-e", "trace=openat,write,fsync,sendmsg,sendmmsg,sendto", "-o"]);
    command.arg(Path::new(&dir).join(format!("{silo}.strace"))).arg(program);
    command
}

fn listen(pipe: impl Read + Send + 'static, sink: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sink.send(line).is_err() {
                break;
            }
        }
    });
}
