//! Where an adopted adapter is kept: in the state directory for a restart, and in `output_dir` for its user.

use std::path::PathBuf;

use blindsum_adapter::peft::{self, PeftMeta};
use blindsum_adapter::provenance::Provenance;
use blindsum_protocol::plan::Plan;
use blindsum_protocol::silo::HeldResult;

use crate::agent::error::AgentError;
use crate::agent::held;

/// Paths, and what belongs to the adapter besides its numbers.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    /// The adapter in the state directory.
    pub held: PathBuf,
    /// PEFT's format, where the operator asked for it.
    pub output_dir: Option<PathBuf>,
    /// Named in `adapter_config.json`.
    pub base_model: String,
}

impl Keep {
    /// Keeps the adapter of an adopted round; durable on return.
    pub fn keep(&self, held: &HeldResult, plan: &Plan) -> Result<(), AgentError> {
        held::save(&self.held, plan.job_digest(), held)?;
        if let Some(dir) = &self.output_dir {
            let layout = plan.layout();
            let (base_model_name_or_path, labels) = (self.base_model.clone(), plan.job().model.labels.clone());
            // The closing round measures and trains nothing.
            let round = held.round.min(plan.job().rounds);
            let provenance = Some(Provenance::after(plan.job().output_name(), round));
            let meta = PeftMeta { base_model_name_or_path, labels, provenance };
            let adapter = plan.state().adapter(&held.global);
            peft::export(dir, layout, adapter, &meta)?;
        }
        Ok(())
    }
}
