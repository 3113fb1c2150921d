//! What needs two processes: one state directory, and signals. The test program starts itself again as the other one.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use blindsum_files::StateDir;
use blindsum_service::signals;

const ROLE: &str = "BLINDSUM_TEST_CHILD";

/// Starts `child` of this program with `argument`; returns once it said `ready`.
fn start(argument: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::child", "--nocapture"])
        .env(ROLE, argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the child ended early");
    }
    (child, lines)
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Not a test by itself: what the other process does.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    if let Some(path) = role.strip_prefix("hold ") {
        let _state = StateDir::open(path.as_ref()).unwrap();
        println!("ready");
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let stop = signals::stop().unwrap();
        println!("ready");
        stop.stopped().await;
        println!("stopping");
        if role == "orderly" {
            std::process::exit(i32::from(stop.reason().unwrap().exit_code().number()));
        }
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_second_process_on_one_state_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (mut other, _lines) = start(&format!("hold {}", path.display()));
    let text = StateDir::open(&path).unwrap_err().to_string();
    assert!(text.contains("in use by another process") && text.contains(&other.id().to_string()), "{text}");
    other.kill().unwrap();
    other.wait().unwrap();
    StateDir::open(&path).unwrap();
}

#[test]
fn the_first_signal_stops_in_order_and_the_second_at_once() {
    let (mut orderly, _lines) = start("orderly");
    signal(&orderly, "TERM");
    assert_eq!(orderly.wait().unwrap().code(), Some(143));

    let (mut stuck, mut lines) = start("stuck");
    signal(&stuck, "INT");
    let mut line = String::new();
    while !line.contains("stopping") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the child ended at the first signal");
    }
    signal(&stuck, "INT");
    assert_eq!(stuck.wait().unwrap().code(), Some(130));
}
