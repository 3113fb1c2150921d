//! The product's engine: libtorch, set up as this silo's configuration says.

use blindsum_engine::model;
use blindsum_engine::{EngineError, EngineSettings};
use blindsum_protocol::Plan;
use blindsum_torch::{FrozenParts, TorchEngine};

use crate::agent::EngineFactory;
use crate::config::SiloConfig;

/// Makes the engine when the agent asks for it.
#[must_use]
pub fn torch() -> EngineFactory {
    Box::new(|config, plan| Ok(Box::new(open_torch(config, plan)?)))
}

/// Opens the base model that this configuration names, for the plan's layout.
///
/// # Errors
/// As [`TorchEngine::open`].
pub fn open_torch(config: &SiloConfig, plan: &Plan) -> Result<TorchEngine, EngineError> {
    let options = EngineSettings {
        device: config.device.parse().map_err(EngineError::Argument)?,
        gradient_checkpointing: config.gradient_checkpointing,
        precision: config.precision,
        threads: config.threads.map_or(0, |threads| threads.get().into()),
        ..EngineSettings::default()
    };
    let layout = plan.layout();
    let frozen = FrozenParts::from_seed(layout);
    let engine = TorchEngine::open(&model::weights(&config.model_dir), layout, &frozen, options)?;
    tracing::info!(
        event = "engine",
        bf16 = engine.uses_bf16(),
        "engine: libtorch on {}, {}",
        config.device,
        match engine.uses_bf16() {
            true => "matrix products in bf16",
            false => "f32",
        }
    );
    Ok(engine)
}
