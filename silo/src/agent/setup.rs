//! From configuration files to a plan that this organisation accepts: everything that can be wrong with files is found
//! before a connection is opened.
//!
//! ```text
//! keys, roster, job ─► model's hashes ─► layout, plan ─► policy ─► data ─► privacy of this silo
//! ```
//!
//! Contract: [`prepare`] reads only; it makes no directory and connects to nobody. Errors about data name file and line,
//! never a text or a label.

use std::path::Path;
use std::sync::Arc;

use blindsum_adapter::AdapterLayout;
use blindsum_adapter::training::Protection;
use blindsum_certs::credentials::IDENTITY_KEY_FILE;
use blindsum_certs::{Credentials, Role, load_identity, roster};
use blindsum_crypto::{IdentityKey, Roster, SiloId};
use blindsum_engine::ComputeDevice;
use blindsum_engine::local::{LocalError, TrainSpec};
use blindsum_engine::model::ModelDir;
use blindsum_privacy::Mechanism;
use blindsum_protocol::job::{Job, JobFile};
use blindsum_protocol::plan::Plan;
use blindsum_service::Document;
use blindsum_transport::check_address;
use tracing::{info, warn};

use crate::agent::data::{self, Rows};
use crate::agent::error::AgentError;
use crate::config::{PolicyConfig, SiloConfig};
use crate::policy;

/// A configuration whose files were read, checked, accepted by the policy and found to belong together.
pub struct Prepared {
    /// As given, paths absolute.
    pub config: SiloConfig,
    /// Our place in the roster.
    pub me: SiloId,
    /// Our identity key.
    pub identity: IdentityKey,
    /// The roster.
    pub roster: Arc<Roster>,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Certificate and key.
    pub credentials: Credentials,
    /// The rows, tokenised.
    pub rows: Rows,
    /// What each round does here.
    pub spec: TrainSpec,
    /// What is charged for; none where the job has no privacy.
    pub privacy: Option<Mechanism>,
}

/// Reads and checks every file that the configuration names; `document` is where it came from, for errors about its
/// values.
///
/// # Errors
/// Names the file and what to do about it.
pub fn prepare(config: SiloConfig, document: &Document) -> Result<Prepared, AgentError> {
    settings(&config, document)?;
    let credentials = Credentials::load(&config.credentials_dir, Role::Silo)?;
    let identity = identity(&config)?;
    let roster = roster::load(&config.roster)?;
    let me = place(&config, document, &credentials, &identity, &roster)?;
    let job = job(&config)?;
    let model = model(&config, &job.0)?;
    let (spec, privacy) = training(&job)?;
    let plan = plan(&job, &model, &roster)?;
    policy::check(&config.policy, plan.job(), &roster, &plan.quorum())?;
    let rows = data::load(&config, plan.job(), &model)?;
    rows.remarks().iter().for_each(|remark| warn!(event = "rows", "{remark}"));
    if let Some(mechanism) = &privacy {
        allows(mechanism, &rows)?;
        for remark in mechanism.remarks(rows.train.units() as u64) {
            warn!(event = "weak_privacy", "{remark}");
        }
    }
    Ok(Prepared {
        config,
        me,
        identity,
        roster: Arc::new(roster),
        plan: Arc::new(plan),
        credentials,
        rows,
        spec,
        privacy,
    })
}

/// Values of the configuration that can be wrong by themselves.
pub(super) fn settings(config: &SiloConfig, document: &Document) -> Result<(), AgentError> {
    check_address(&config.coordinator).map_err(|e| document.wrong("coordinator", e))?;
    let mut folders: Vec<(&str, &Path)> = vec![
        ("credentials_dir", &config.credentials_dir),
        ("model_dir", &config.model_dir),
        ("state_dir", &config.state_dir),
    ];
    folders.extend(config.ledger_dir.as_deref().map(|dir| ("ledger_dir", dir)));
    folders.extend(config.output_dir.as_deref().map(|dir| ("output_dir", dir)));
    document.apart(&folders)?;
    let PolicyConfig { max_epsilon, max_delta, .. } = config.policy;
    if !(max_epsilon > 0.0 && max_epsilon.is_finite()) {
        return Err(document
            .wrong("policy.max_epsilon", format!("{max_epsilon} limits nothing: a number above 0"))
            .into());
    }
    if !(max_delta > 0.0 && max_delta < 1.0) {
        return Err(document
            .wrong("policy.max_delta", format!("{max_delta} limits nothing: above 0 and below 1"))
            .into());
    }
    config.device.parse::<ComputeDevice>().map_err(|e| document.wrong("device", e))?;
    Ok(())
}

/// The key that signs inside the protocol.
pub(super) fn identity(config: &SiloConfig) -> Result<IdentityKey, AgentError> {
    Ok(load_identity(&config.credentials_dir.join(IDENTITY_KEY_FILE))?)
}

/// The job and where it stands.
pub(super) fn job(config: &SiloConfig) -> Result<(Job, Document), AgentError> {
    let document = Document::read(&config.job)?;
    Ok((document.checked(JobFile::checked)?, document))
}

/// The base model that the job pins.
pub(super) fn model(config: &SiloConfig, job: &Job) -> Result<ModelDir, AgentError> {
    let model = ModelDir::open(&config.model_dir)?;
    model.check(&job.base())?;
    Ok(model)
}

/// What each round does, and what is charged for it: the job's numbers, which must keep what it states.
pub(super) fn training((job, file): &(Job, Document)) -> Result<(TrainSpec, Option<Mechanism>), AgentError> {
    Ok(TrainSpec::derive(&job.local_training()).map_err(|e| file.wrong("privacy.epsilon", e))?)
}

/// Whether these rows may take part: said here and to nobody else, before the job.
pub(super) fn allows(mechanism: &Mechanism, rows: &Rows) -> Result<(), AgentError> {
    Ok(mechanism.allows(rows.train.units() as u64).map_err(LocalError::from)?)
}

/// What the job means for this roster and base model.
pub(super) fn plan((job, file): &(Job, Document), model: &ModelDir, roster: &Roster) -> Result<Plan, AgentError> {
    let layout =
        AdapterLayout::new(model.shape(), &job.lora, job.model.task()).map_err(|e| file.wrong(&e.key(), &e))?;
    let plan = Plan::derive(job, roster, &layout).map_err(|e| file.at_key(e))?;
    let (max_tokens, longest) = (job.model.max_sequence_tokens as usize, model.shape().max_positions);
    if max_tokens > longest {
        let problem = format!("is {max_tokens}, but the base model reads at most {longest}; choose {longest} or less");
        return Err(file.wrong("model.max_sequence_tokens", problem).into());
    }
    Ok(plan)
}

/// Finds ourselves in the roster, and refuses where name, certificate and identity key do not agree.
pub(super) fn place(
    config: &SiloConfig,
    document: &Document,
    credentials: &Credentials,
    identity: &IdentityKey,
    roster: &Roster,
) -> Result<SiloId, AgentError> {
    let name = &config.name;
    if credentials.info.name != *name {
        let problem = format!(
            "is {name:?}, but the certificate in {} is {:?}'s",
            config.credentials_dir.display(),
            credentials.info.name
        );
        return Err(AgentError::Identity(document.wrong("name", problem).to_string()));
    }
    let found = roster.id_of(name).and_then(|me| roster.entry(me).map(|entry| (me, entry)));
    let Some((me, entry)) = found else {
        return Err(AgentError::Identity(format!("{}: the roster has no silo {name:?}", config.roster.display())));
    };
    if entry.identity != identity.public() {
        return Err(AgentError::Identity(format!(
            "{}: the roster has another identity key for {name:?} than the one in {}; the roster must be made from this \
             silo's own {name}.identity.toml",
            config.roster.display(),
            config.credentials_dir.display()
        )));
    }
    Ok(me)
}

impl Prepared {
    /// The first lines of the log: who is here and what was agreed on.
    pub fn announce(&self, version: &str) {
        let (plan, roster) = (&self.plan, &self.roster);
        let name = &self.config.name;
        info!(event = "start", version, silo = %name, "blindsum-silo {version}, silo {name:?}");
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
        match plan.job().protection() {
            Protection::RecordDp { epsilon, delta, clip_norm, unit, .. } => info!(
                event = "privacy",
                epsilon,
                delta,
                clip_norm,
                "privacy: at most ε = {epsilon} at δ = {delta:e} for each {unit} over the whole job"
            ),
            Protection::None { .. } => warn!(
                event = "no_privacy",
                "the job has no differential privacy: the coordinator sees only the sum, but the sum and the adapter may \
                 give records away"
            ),
        }
    }
}
