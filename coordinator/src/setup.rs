//! From configuration files to a plan: everything that can be wrong is found before a socket is opened.
//!
//! Contract: [`prepare`] reads only; it makes no directory and opens no port. Of the base model it reads `config.json` and hashes `tokenizer.json`; weights are never needed here.

use std::path::Path;
use std::sync::Arc;

use blindsum_adapter::{AdapterLayout, BaseShape};
use blindsum_certs::credentials::Credentials;
use blindsum_certs::names::Role;
use blindsum_certs::roster;
use blindsum_crypto::{Digest, Roster, sha256};
use blindsum_files::{FileError, read_public};
use blindsum_protocol::job::{Job, JobFile};
use blindsum_protocol::plan::Plan;
use blindsum_service::Document;
use tracing::{info, warn};

use crate::config::CoordinatorConfig;
use crate::error::CoordinatorError;

/// Longest `config.json` or job file, bytes.
const MAX_TEXT: u64 = 1 << 20;
/// Longest `tokenizer.json`, bytes.
const MAX_TOKENIZER: u64 = 1 << 28;

/// A configuration whose files were read, checked and found to belong together.
#[derive(Debug)]
pub struct Prepared {
    /// As given, paths absolute.
    pub config: CoordinatorConfig,
    /// The roster.
    pub roster: Arc<Roster>,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Certificate and key.
    pub credentials: Credentials,
}

/// Reads and checks every file that the configuration names.
///
/// # Errors
/// Names the file and what to do about it.
pub fn prepare(config: CoordinatorConfig) -> Result<Prepared, CoordinatorError> {
    let credentials = Credentials::load(&config.credentials_dir, Role::Coordinator)?;
    let roster = roster::load(&config.roster)?;
    let job = job(&config)?;
    let shape = shape(&config, &job.0)?;
    let plan = plan(&job, &shape, &roster)?;
    Ok(Prepared { config, roster: Arc::new(roster), plan: Arc::new(plan), credentials })
}

/// The job and where it stands.
pub(crate) fn job(config: &CoordinatorConfig) -> Result<(Job, Document), CoordinatorError> {
    let document = Document::read(&config.job)?;
    Ok((document.checked(JobFile::checked)?, document))
}

/// The shape of the base model that the job pins.
pub(crate) fn shape(config: &CoordinatorConfig, job: &Job) -> Result<BaseShape, CoordinatorError> {
    let text = base_file(&config.base_model_dir, "config.json", "config_sha256", job.model.config_sha256, MAX_TEXT)?;
    base_file(&config.base_model_dir, "tokenizer.json", "tokenizer_sha256", job.model.tokenizer_sha256, MAX_TOKENIZER)?;
    BaseShape::from_config_json(&String::from_utf8_lossy(&text))
        .map_err(|e| CoordinatorError::Model(format!("{}: {e}", config.base_model_dir.join("config.json").display())))
}

/// What the job means for this roster and base model.
pub(crate) fn plan(
    (job, file): &(Job, Document),
    shape: &BaseShape,
    roster: &Roster,
) -> Result<Plan, CoordinatorError> {
    let layout = AdapterLayout::new(shape, &job.lora, job.model.task()).map_err(|e| file.wrong(&e.key(), &e))?;
    Ok(Plan::derive(job, roster, &layout).map_err(|e| file.at_key(e))?)
}

/// Reads a file of the base model whose hash the job pins.
fn base_file(dir: &Path, name: &str, key: &str, expected: Digest, limit: u64) -> Result<Vec<u8>, CoordinatorError> {
    let path = dir.join(name);
    let bytes = match read_public(&path, limit) {
        Err(FileError::Missing { .. }) => {
            return Err(CoordinatorError::Model(format!(
                "{} is missing: base_model_dir must hold the base model's config.json and tokenizer.json",
                path.display()
            )));
        }
        other => other?,
    };
    let found = sha256(&bytes);
    if found != expected {
        return Err(CoordinatorError::Model(format!(
            "{} has the SHA-256 {found}, but the job pins model.{key} = {expected}: this is another base model than the \
             federation agreed on",
            path.display()
        )));
    }
    Ok(bytes)
}

/// The first lines of the log: who is here and what they agreed on.
pub fn announce(prepared: &Prepared, version: &str) {
    let (plan, roster) = (&prepared.plan, &prepared.roster);
    info!(event = "start", version, "blindsum-coordinator {version}");
    info!(
        event = "roster",
        fingerprint = %roster.hash(),
        silos = roster.len(),
        "roster of federation {:?}, version {}, {} silos, fingerprint {}",
        roster.federation_id(),
        roster.version(),
        roster.len(),
        roster.hash()
    );
    info!(
        event = "job",
        digest = %plan.job_digest(),
        rounds = plan.job().rounds,
        coordinates = plan.layout().len(),
        "job {:?}, {} rounds, {} trained coordinates, digest {}",
        plan.job().name,
        plan.job().rounds,
        plan.layout().len(),
        plan.job_digest()
    );
    for line in roster::describe_quorum(&plan.quorum()) {
        info!(event = "quorum", "{line}");
    }
    if let Some(warning) = roster::small_federation_warning(roster) {
        warn!(event = "small_federation", "{warning}");
    }
    if !plan.job().is_private() {
        warn!(
            event = "no_privacy",
            "the job has no differential privacy: secure aggregation hides single updates, but the sum and the adapter \
             may give records away"
        );
    }
}
