//! Adapters on disk, in the format that Hugging Face PEFT loads.
//!
//! ```text
//! DIR/blindsum.json              what PEFT has no place for: the job's [lora] table, the labels in order, and how many
//!                                generations of A there are, where it was drawn anew
//! DIR/adapter_config.json        PEFT's LoraConfig (peft_type LORA, task_type SEQ_CLS or CAUSAL_LM)
//! DIR/adapter_model.safetensors  lora_A, lora_B and the whole head, f32, under PEFT's names
//! ```
//!
//! Contract: the same adapter of the same job gives the same bytes, but for the time in its provenance. Each file is written aside, synced and renamed into place, the
//! weights last, so that a reader finds the old file or the new one, never half of one; the two small files are the
//! same in every round of a generation, and a reader who meets a new generation half way gets an error, not an adapter.
//! With g generations PEFT sees one adapter of rank g·r and alpha g·`lora_alpha`: the same scaling. [`load`] trusts nothing: sizes are bounded before reading, names, shapes and types are
//! those of the layout, every number is finite.

mod origin;
mod tensors;

use std::path::{Path, PathBuf};

use blindsum_files::{ExitCode, Exits, FileError, read_public, write_atomic};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::provenance::Provenance;
use crate::{
    Adapter, AdapterLayout, BaseShape, LayoutError, LoraConfig, MAX_GENERATIONS, Targets, TaskKind, a_stack, init_head,
};

const META_FILE: &str = "blindsum.json";
const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// Longest of the two JSON files that is read, in bytes.
const MAX_JSON_BYTES: u64 = 1 << 20;

/// Why an adapter could not be written or read.
#[derive(Debug, Error)]
pub enum PeftError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not hold what an adapter holds.
    #[error("{path}: {why}", path = path.display())]
    Invalid {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The adapter was made for another base model.
    #[error("{path}: the adapter does not fit this base model: {source}", path = path.display())]
    Layout {
        /// The file that holds the adapter's configuration.
        path: PathBuf,
        /// Why it does not fit.
        source: LayoutError,
    },
    /// What is to be saved contradicts itself; a bug of the caller.
    #[error("cannot save the adapter: {0}")]
    Inconsistent(String),
}

impl Exits for PeftError {
    fn exit_code(&self) -> ExitCode {
        match self {
            // what is to be read is not there, or is no adapter
            PeftError::File(FileError::Missing { .. } | FileError::TooLarge { .. })
            | PeftError::Invalid { .. }
            | PeftError::Layout { .. } => ExitCode::Data,
            PeftError::File(e) => e.exit_code(),
            PeftError::Inconsistent(_) => ExitCode::Internal,
        }
    }
}

impl PeftError {
    fn invalid(path: &Path, why: impl Into<String>) -> Self {
        PeftError::Invalid { path: path.to_owned(), why: why.into() }
    }
}

/// What belongs to an adapter besides its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftMeta {
    /// Name or directory under which PEFT finds the base model.
    pub base_model_name_or_path: String,
    /// The classes in the order of the classifier's rows; empty where the model continues texts.
    pub labels: Vec<String>,
    /// Which job the weights come from; none for an adapter that no job made.
    pub provenance: Option<Provenance>,
}

/// An adapter as read from disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Layout from the stored `[lora]` table on the given base model.
    pub layout: AdapterLayout,
    /// A of each module, `[generations·r, in_features]` row-major, oldest generation first.
    pub a: Vec<Vec<f32>>,
    /// The head in force: weights of its layers, row-major, one after the other, and their biases
    /// ([`AdapterLayout::head_parts`]).
    pub head: (Vec<f32>, Vec<f32>),
    /// The trained coordinates in the layout's order.
    pub values: Vec<f32>,
    /// B of each generation before the newest.
    pub folded: Vec<f32>,
    /// Base model and labels.
    pub meta: PeftMeta,
}

impl Loaded {
    /// The adapter itself.
    pub fn adapter(&self) -> Adapter<'_> {
        Adapter { values: &self.values, folded: &self.folded }
    }
}

/// `blindsum.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetaFile {
    schema: u32,
    #[serde(default)]
    task: TaskKind,
    labels: Vec<String>,
    lora: LoraConfig,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    generations: u32,
}

fn one() -> u32 {
    1
}

fn is_one(generations: &u32) -> bool {
    *generations == 1
}

/// `adapter_config.json`: the keys that decide what PEFT computes, which fills in the others. Closed, because a further
/// key (`rank_pattern`, `alpha_pattern`) would make PEFT compute something else than we do.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    base_model_name_or_path: String,
    bias: String,
    fan_in_fan_out: bool,
    inference_mode: bool,
    init_lora_weights: bool,
    lora_alpha: serde_json::Number,
    lora_dropout: f64,
    modules_to_save: Option<Vec<String>>,
    peft_type: String,
    r: u32,
    target_modules: Targets,
    task_type: String,
    use_dora: bool,
    use_rslora: bool,
}

impl ConfigFile {
    fn of(layout: &AdapterLayout, generations: u32, base: &str) -> Result<Self, PeftError> {
        let lora = layout.lora();
        // PEFT declares lora_alpha an integer, so a whole number is written as one.
        let alpha = lora.lora_alpha * f64::from(generations);
        let whole = alpha.fract() == 0.0 && alpha.abs() < 1e9;
        let lora_alpha = if whole { Some((alpha as i64).into()) } else { serde_json::Number::from_f64(alpha) };
        Ok(ConfigFile {
            base_model_name_or_path: base.to_owned(),
            bias: "none".to_owned(),
            fan_in_fan_out: layout.shape().family.stores_transposed(),
            inference_mode: true,
            init_lora_weights: true,
            lora_alpha: lora_alpha.ok_or_else(|| PeftError::Inconsistent("lora_alpha is not finite".to_owned()))?,
            lora_dropout: 0.0,
            modules_to_save: layout.shape().family.modules_to_save(layout.task()),
            peft_type: "LORA".to_owned(),
            r: lora.r * generations,
            target_modules: layout.target_modules().clone(),
            task_type: layout.task().peft_name().to_owned(),
            use_dora: false,
            use_rslora: false,
        })
    }
}

/// Writes the adapter into `dir`, made if it does not exist; files there under other names stay.
///
/// `a` is A of each module, `[generations·r, in_features]` ([`crate::a_stack`]), `head` the initial head
/// ([`crate::init_head`]). A trained A and a trained head are taken from the adapter's values.
///
/// # Errors
/// Where lengths contradict the layout, a number is not finite, or the file system refuses; then no file is half
/// written.
pub fn save(
    dir: &Path,
    layout: &AdapterLayout,
    a: &[Vec<f32>],
    head: &(Vec<f32>, Vec<f32>),
    adapter: Adapter<'_>,
    meta: &PeftMeta,
) -> Result<(), PeftError> {
    if meta.labels.len() != layout.labels() {
        let why = format!("{} label names for {} labels", meta.labels.len(), layout.labels());
        return Err(PeftError::Inconsistent(why));
    }
    let mut weights = tensors::to_bytes(layout, a, head, adapter)?;
    if let Some(provenance) = &meta.provenance {
        weights = origin::add(&weights, provenance)?;
    }
    // `to_bytes` has refused an adapter whose lengths give no number of generations
    let generations = adapter.generations(layout).map_or(1, |generations| generations as u32);
    let (task, labels, lora) = (layout.task().kind(), meta.labels.clone(), layout.lora().clone());
    let meta_file = MetaFile { schema: 1, task, labels, lora, generations };
    let config = ConfigFile::of(layout, generations, &meta.base_model_name_or_path)?;
    std::fs::create_dir_all(dir).map_err(|e| FileError::from_io("make the folder", dir, e))?;
    let (meta_file, config) = (to_json(&meta_file)?, to_json(&config)?);
    for (name, bytes) in [(META_FILE, meta_file), (CONFIG_FILE, config), (WEIGHTS_FILE, weights)] {
        write_atomic(&dir.join(name), &bytes, 0o644)?;
    }
    Ok(())
}

/// The same for an adapter of a job, whose A and head are those that its layout's seed gives.
///
/// # Errors
/// As [`save`].
pub fn export(dir: &Path, layout: &AdapterLayout, adapter: Adapter<'_>, meta: &PeftMeta) -> Result<(), PeftError> {
    let a = a_stack(layout, adapter.generations(layout).unwrap_or(1));
    save(dir, layout, &a, &init_head(layout), adapter, meta)
}

/// Reads the adapter that [`save`] wrote into `dir`, for a base model of this shape.
///
/// # Errors
/// Names the file and what is wrong: it is missing or too large, its configuration does not fit the base model or is
/// not what `save` writes, a tensor is missing, of another shape or type, unknown, or holds a number that is not finite.
pub fn load(dir: &Path, shape: &BaseShape) -> Result<Loaded, PeftError> {
    let meta_path = dir.join(META_FILE);
    let meta_file: MetaFile = from_json(&meta_path)?;
    if meta_file.schema != 1 {
        let why = format!("schema is {}; this version reads schema 1", meta_file.schema);
        return Err(PeftError::invalid(&meta_path, why));
    }
    let generations = meta_file.generations;
    let most = if meta_file.lora.refresh_rounds.is_some() { MAX_GENERATIONS as u32 } else { 1 };
    if !(1..=most).contains(&generations) {
        let why = format!("generations is {generations}; with this lora.refresh_rounds there are 1 to {most}");
        return Err(PeftError::invalid(&meta_path, why));
    }
    let layout = AdapterLayout::new(shape, &meta_file.lora, meta_file.task.with_labels(meta_file.labels.len()))
        .map_err(|source| PeftError::Layout { path: meta_path, source })?;

    let config_path = dir.join(CONFIG_FILE);
    let config: ConfigFile = from_json(&config_path)?;
    check_config(&config, &layout, generations).map_err(|why| PeftError::invalid(&config_path, why))?;

    let weights_path = dir.join(WEIGHTS_FILE);
    let bytes = read_public(&weights_path, tensors::max_file_bytes(&layout, generations as usize) + origin::MAX_BYTES)?;
    let tensors::Parts { a, head, values, folded } = tensors::from_bytes(&bytes, &layout, generations as usize)
        .map_err(|why| PeftError::invalid(&weights_path, why))?;
    let provenance = origin::read(&bytes).map_err(|why| PeftError::invalid(&weights_path, why))?;
    let (base_model_name_or_path, labels) = (config.base_model_name_or_path, meta_file.labels);
    let meta = PeftMeta { base_model_name_or_path, labels, provenance };
    Ok(Loaded { layout, a, head, values, folded, meta })
}

/// Compares every key that changes the computation with what [`save`] would have written for this layout.
fn check_config(found: &ConfigFile, layout: &AdapterLayout, generations: u32) -> Result<(), String> {
    let expected = ConfigFile::of(layout, generations, &found.base_model_name_or_path).map_err(|e| e.to_string())?;
    macro_rules! same {
        ($($key:ident),*) => {
            $(if found.$key != expected.$key {
                let (key, found, expected) = (stringify!($key), &found.$key, &expected.$key);
                return Err(format!(
                    "{key} is {found:?} where {META_FILE} asks for {expected:?}; the files are not from one adapter"
                ));
            })*
        };
    }
    same!(
        bias,
        fan_in_fan_out,
        lora_alpha,
        modules_to_save,
        peft_type,
        r,
        target_modules,
        task_type,
        use_dora,
        use_rslora
    );
    Ok(())
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, PeftError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| PeftError::Inconsistent(e.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

fn from_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, PeftError> {
    let bytes = read_public(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|e| PeftError::invalid(path, e.to_string()))
}
