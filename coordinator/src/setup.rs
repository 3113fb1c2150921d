//! From configuration files to a plan: everything that can be wrong is found before a socket is opened.
//!
//! Contract: [`prepare`] reads only; it makes no directory and opens no port. Of the base model it reads `config.json` and
//! hashes `tokenizer.json`; weights are never needed here.

use std::path::Path;
use std::sync::Arc;

use blindsum_adapter::{AdapterLayout, BaseShape};
use blindsum_certs::credentials::Credentials;
use blindsum_certs::names::Role;
use blindsum_certs::roster;
use blindsum_crypto::Roster;
use blindsum_engine::local::TrainSpec;
use blindsum_engine::model::ModelDir;
use blindsum_protocol::job::{Job, JobFile};
use blindsum_protocol::plan::Plan;
use blindsum_service::Document;
use tracing::{info, warn};

use crate::config::CoordinatorConfig;
use crate::error::CoordinatorError;

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

/// Reads and checks every file that the configuration names; `document` is where it came from, for errors about its
/// values.
///
/// # Errors
/// Names the file and what to do about it.
pub fn prepare(config: CoordinatorConfig, document: &Document) -> Result<Prepared, CoordinatorError> {
    settings(&config, document)?;
    let credentials = Credentials::load(&config.credentials_dir, Role::Coordinator)?;
    let roster = roster::load(&config.roster)?;
    let job = job(&config)?;
    let shape = shape(&config, &job.0)?;
    let plan = plan(&job, &shape, &roster)?;
    Ok(Prepared { config, roster: Arc::new(roster), plan: Arc::new(plan), credentials })
}

/// Values of the configuration that can be wrong by themselves.
pub(crate) fn settings(config: &CoordinatorConfig, document: &Document) -> Result<(), CoordinatorError> {
    let folders: [(&str, &Path); 4] = [
        ("credentials_dir", &config.credentials_dir),
        ("base_model_dir", &config.base_model_dir),
        ("state_dir", &config.state_dir),
        ("output_dir", &config.output_dir),
    ];
    Ok(document.apart(&folders)?)
}

/// The job and where it stands.
pub(crate) fn job(config: &CoordinatorConfig) -> Result<(Job, Document), CoordinatorError> {
    let document = Document::read(&config.job)?;
    let job = document.checked(JobFile::checked)?;
    // Every silo refuses a job that spends more than it states: better to hear it here.
    TrainSpec::derive(&job.local_training()).map_err(|e| document.wrong("privacy.epsilon", e))?;
    Ok((job, document))
}

/// The shape of the base model that the job pins.
pub(crate) fn shape(config: &CoordinatorConfig, job: &Job) -> Result<BaseShape, CoordinatorError> {
    let model = ModelDir::open(&config.base_model_dir)?;
    model.check_without_weights(&job.base())?;
    Ok(model.shape().clone())
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
