//! A whole federation on this machine: keys, configuration files, and the processes that run it.
//!
//! Everything is made with the shipped programs, by the commands that the README gives for several machines:
//! an authority, one folder of keys for the coordinator and for each silo, requests, certificates, the roster.
//!
//! ```text
//! <root>/authority/               the federation's authority
//! <root>/roster.toml, job.toml    what everyone agreed on
//! <root>/coordinator/{keys,state,adapter}, coordinator.toml
//! <root>/<silo>/{keys,state}, silo.toml
//! <root>/logs/<name>.jsonl        what each process says, one JSON object a line
//! ```

use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command as AsyncCommand};

/// Where the programs, the model and the rows are.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Folder with `blindsum-coordinator`, `blindsum-silo` and `blindsum-certs`.
    pub programs: PathBuf,
    /// Hugging Face directory of the base model.
    pub model: PathBuf,
    /// Folder with `<source>/{train,validation,test}.jsonl`.
    pub data: PathBuf,
}

/// A federation laid out on disk, not yet running.
#[derive(Debug)]
pub struct Federation {
    /// Folder that holds all of it.
    pub root: PathBuf,
    silos: Vec<String>,
    inputs: Inputs,
}

/// The running processes; dropping it kills what still runs.
#[derive(Debug)]
pub struct Running {
    /// The coordinator.
    pub coordinator: Child,
    /// The silos by name.
    pub silos: Vec<(String, Child)>,
}

impl Federation {
    /// Makes keys, certificates, roster and configuration files under `root` (emptied first) for the silos named.
    ///
    /// # Errors
    /// When a program fails (with what it said) or a file cannot be written.
    pub fn set_up(root: &Path, inputs: &Inputs, silos: &[&str], job: &str, private: bool) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("cannot empty {}", root.display()))?;
        }
        fs::create_dir_all(root.join("logs")).with_context(|| format!("cannot make {}", root.display()))?;
        let federation =
            Self { root: root.into(), silos: silos.iter().map(|s| (*s).to_owned()).collect(), inputs: inputs.clone() };
        fs::write(root.join("job.toml"), job)?;
        federation.enrol()?;
        let port = free_port()?;
        federation.write("coordinator", "coordinator.toml", &federation.coordinator_toml(port))?;
        for silo in &federation.silos {
            federation.write(silo, "silo.toml", &federation.silo_toml(silo, port, private))?;
        }
        Ok(federation)
    }

    fn certs(&self, arguments: &[&str]) -> Result<()> {
        self.command("blindsum-certs", arguments).map(drop)
    }

    /// Runs a program to its end; what it printed.
    fn command(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let path = self.inputs.programs.join(program);
        let output = Command::new(&path)
            .args(arguments)
            .current_dir(&self.root)
            .output()
            .with_context(|| format!("cannot run {}", path.display()))?;
        if !output.status.success() {
            bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What a silo's data-protection officer reads.
    ///
    /// # Errors
    /// What the program says.
    pub fn privacy_report(&self, silo: &str) -> Result<String> {
        self.command("blindsum-silo", &["privacy-report", "--config", &format!("{silo}/silo.toml")])
    }

    /// The enrolment of a federation, command for command as between organisations.
    fn enrol(&self) -> Result<()> {
        self.certs(&["authority-init", "--dir", "authority", "--federation", "demo"])?;
        self.certs(&["coordinator-init", "--dir", "coordinator/keys", "--host", "localhost"])?;
        self.admit("coordinator", "coordinator", "coordinator/keys")?;
        let mut identities = Vec::new();
        for silo in &self.silos {
            let keys = format!("{silo}/keys");
            self.certs(&["silo-init", "--dir", &keys, "--name", silo])?;
            self.admit("silo", silo, &keys)?;
            identities.push(format!("{keys}/{silo}.identity.toml"));
        }
        let mut make = vec!["roster", "make", "--federation", "demo", "--out", "roster.toml"];
        make.extend(identities.iter().map(String::as_str));
        self.certs(&make)
    }

    fn admit(&self, role: &str, name: &str, keys: &str) -> Result<()> {
        let request = format!("{keys}/{name}.csr");
        let certificate = format!("{keys}/{name}.pem");
        self.certs(&["sign", "--authority", "authority", "--role", role, "--csr", &request, "--out", &certificate])?;
        let authority = "authority/authority.pem";
        self.certs(&["install", "--dir", keys, "--certificate", &certificate, "--authority-certificate", authority])
    }

    fn write(&self, folder: &str, name: &str, text: &str) -> Result<()> {
        let path = self.root.join(folder).join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn coordinator_toml(&self, port: u16) -> String {
        format!(
            "listen = \"127.0.0.1:{port}\"\nroster = \"../roster.toml\"\njob = \"../job.toml\"\nbase_model_dir = {:?}\n\
             base_model_name = {:?}\nstate_dir = \"state\"\noutput_dir = \"adapter\"\ncredentials_dir = \"keys\"\nlinger_seconds = 20\n",
            self.inputs.model, self.inputs.model
        )
    }

    fn silo_toml(&self, silo: &str, port: u16, private: bool) -> String {
        let data = self.inputs.data.join(silo);
        format!(
            "name = \"{silo}\"\ncoordinator = \"localhost:{port}\"\nroster = \"../roster.toml\"\njob = \"../job.toml\"\ncredentials_dir = \"keys\"\n\
             model_dir = {:?}\nstate_dir = \"state\"\nledger_dir = \"ledger\"\nthreads = 1\n\n\
             [data]\ntrain = {:?}\nheld_out = {:?}\n\n[policy]\nmax_epsilon = 8.0\nmax_delta = 1e-5\nmin_names = 4\n\
             danger_allow_no_privacy = {}\n",
            self.inputs.model,
            data.join("train.jsonl"),
            data.join("test.jsonl"),
            !private
        )
    }

    /// Where a process's JSON log goes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.jsonl"))
    }

    /// The folder of the newest adapter.
    pub fn adapter(&self) -> PathBuf {
        self.root.join("coordinator/adapter/last")
    }

    /// Where a silo writes what ε it has spent.
    pub fn ledger(&self, silo: &str) -> PathBuf {
        self.root.join(silo).join("ledger/ledger.jsonl")
    }

    /// The names of the silos.
    pub fn silos(&self) -> &[String] {
        &self.silos
    }

    /// Starts the coordinator and the silos.
    ///
    /// # Errors
    /// When a program cannot be started.
    pub fn start(&self) -> Result<Running> {
        let coordinator = self.spawn("blindsum-coordinator", "coordinator", "coordinator/coordinator.toml")?;
        let silos = self
            .silos
            .iter()
            .map(|silo| Ok((silo.clone(), self.spawn("blindsum-silo", silo, &format!("{silo}/silo.toml"))?)))
            .collect::<Result<_>>()?;
        Ok(Running { coordinator, silos })
    }

    fn spawn(&self, program: &str, name: &str, config: &str) -> Result<Child> {
        let path = self.inputs.programs.join(program);
        let log = File::create(self.log(name)).with_context(|| format!("cannot write {}", self.log(name).display()))?;
        AsyncCommand::new(&path)
            .args(["run", "--log-format", "json", "--config", config])
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", path.display()))
    }
}

/// A UDP port that is free now.
fn free_port() -> Result<u16> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("no free UDP port on the loopback interface")?;
    Ok(socket.local_addr()?.port())
}
