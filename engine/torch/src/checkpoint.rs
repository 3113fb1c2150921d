//! Reads the tensors of a base model, memory-mapped, and checks them by name and shape: from `model.safetensors`, from an
//! index with its shards, or from a `pytorch_model.bin`.
//!
//! Contract: names are those of Hugging Face's model with or without the family's prefix (`bert.`), layer norms also
//! under their old names `gamma` and `beta`; integer tensors (`position_ids`) and the heads of other tasks (`cls.…`,
//! `classifier.…`) are skipped; whatever else lies inside the encoder and is not read is an error, since it would
//! change the model.

mod bin;
mod pickle;
mod stored;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use blindsum_adapter::Family;
use blindsum_engine::EngineError;
use blindsum_engine::model::{self, index::Index};
use tch::{Kind, Tensor};

use self::stored::{Format, Mapped, Table};
use super::{Result, torch_error};

/// What a family's checkpoint holds.
pub(super) struct Contents {
    /// Stands before every name of the encoder, unless the encoder was saved by itself: `bert.`, say.
    pub prefix: &'static str,
    /// Beginnings of the names (without prefix) that belong to the model; nothing of these may be left unread.
    pub parts: &'static [&'static str],
    /// Ends of the names of tensors that belong to the model but follow from its configuration.
    pub ignored: &'static [&'static str],
    /// What to say where a tensor whose name begins so is missing.
    pub hints: &'static [(&'static str, &'static str)],
}

/// The mapped files of a checkpoint.
pub(super) struct Checkpoint {
    /// The file that names the others, or the only one.
    path: PathBuf,
    files: Vec<Mapped>,
    /// Of a sharded checkpoint.
    index: Option<Index>,
}

impl Checkpoint {
    /// Maps the file at `path`, or the shards of the index there; contents are looked at by [`read`](Self::read).
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut files = vec![path.to_owned()];
        let mut index = None;
        if model::is_index(path) {
            let read = Index::read(path).map_err(|e| EngineError::Model(e.to_string()))?;
            let dir = path.parent().unwrap_or(Path::new(""));
            files = read.shards().into_iter().map(|shard| dir.join(shard)).collect();
            index = Some(read);
        }
        let files = files.iter().map(|file| Mapped::open(file)).collect::<Result<_>>()?;
        Ok(Checkpoint { path: path.to_owned(), files, index })
    }

    /// Reads tensors through `build`, then checks that nothing of the encoder was left unread.
    pub(super) fn read<T>(
        &self,
        contents: &'static Contents,
        family: Family,
        build: impl FnOnce(&mut Reader) -> Result<T>,
    ) -> Result<T> {
        let tensors = self.table()?;
        let prefixed = tensors.keys().any(|n| n.starts_with(contents.prefix));
        let prefix = if prefixed { contents.prefix } else { "" };
        let mut reader = Reader { path: &self.path, tensors, contents, family, prefix, read: HashSet::new() };
        let built = build(&mut reader)?;
        reader.check_all_read()?;
        Ok(built)
    }

    /// Every tensor of every file; with an index, each lies where the index says and nowhere else.
    fn table(&self) -> Result<Table<'_>> {
        let mut all = Table::new();
        for file in &self.files {
            let table = file.table()?;
            let Some(index) = &self.index else { return Ok(table) };
            let shard = file.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if let Some(name) = table.keys().find(|n| index.weight_map.get(*n).is_none_or(|s| s != shard)) {
                let says = index.weight_map.get(name).map_or("nowhere".to_owned(), |s| format!("in {s}"));
                return Err(EngineError::Model(format!(
                    "{}: the tensor {name:?} lies here, but {} has it {says}: these files do not belong together; save the \
                     model again",
                    file.path.display(),
                    self.path.display()
                )));
            }
            all.extend(table);
        }
        let missing = self.index.iter().flat_map(|i| &i.weight_map).find(|(name, _)| !all.contains_key(*name));
        match missing {
            None => Ok(all),
            Some((name, shard)) => Err(EngineError::Model(format!(
                "{}: the tensor {name:?} should lie in {shard}, which does not hold it; fetch the files again",
                self.path.display()
            ))),
        }
    }
}

/// Hands out tensors by name and remembers which.
pub(super) struct Reader<'a> {
    path: &'a Path,
    tensors: Table<'a>,
    contents: &'static Contents,
    family: Family,
    prefix: &'static str,
    read: HashSet<String>,
}

impl Reader<'_> {
    /// The tensor `name` (without prefix) as f32, of exactly this shape.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.read_tensor(self.prefix, name, shape)
    }

    /// The same for a tensor that stands beside what the prefix names.
    pub(super) fn outer_tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.read_tensor("", name, shape)
    }

    /// Whether the file holds the tensor `name` (without prefix).
    pub(super) fn holds(&self, name: &str) -> bool {
        self.find(self.prefix, name).is_some()
    }

    /// The same for a tensor that stands beside what the prefix names.
    pub(super) fn holds_outer(&self, name: &str) -> bool {
        self.find("", name).is_some()
    }

    fn read_tensor(&mut self, prefix: &str, name: &str, shape: &[usize]) -> Result<Tensor> {
        let full = self.find(prefix, name).ok_or_else(|| {
            let full = format!("{prefix}{name}");
            let hint = match self.contents.hints.iter().find(|(start, _)| name.starts_with(start)) {
                Some((_, hint)) => (*hint).to_owned(),
                None => {
                    format!("the file must hold every weight of the {} model that config.json describes", self.family())
                }
            };
            EngineError::Model(format!("{}: the tensor {full:?} is missing; {hint}", self.path.display()))
        })?;
        let stored = &self.tensors[&full];
        let path = stored.file.display();
        if stored.shape != shape {
            let found = &stored.shape;
            let message = format!("{path}: {full} has shape {found:?}, config.json makes it {shape:?}");
            return Err(EngineError::Model(message));
        }
        let kind = match &stored.format {
            Format::Float(kind) => *kind,
            Format::Other(name) => {
                let message = format!("{path}: {full} is stored as {name}; supported: F32, F16, BF16, F64");
                return Err(EngineError::Model(message));
            }
        };
        let tensor = stored.copy(kind)?.f_to_dtype(Kind::Float, false, false).map_err(torch_error)?;
        self.read.insert(full);
        Ok(tensor)
    }

    /// The family's `model_type`.
    fn family(&self) -> &'static str {
        self.family.model_type()
    }

    /// The name under which the file holds `name`.
    fn find(&self, prefix: &str, name: &str) -> Option<String> {
        let full = format!("{prefix}{name}");
        let old = full.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        [full, old].into_iter().find(|n| self.tensors.contains_key(n))
    }

    fn check_all_read(&self) -> Result<()> {
        for (name, stored) in &self.tensors {
            let inner = name.strip_prefix(self.prefix).unwrap_or(name);
            let float = matches!(stored.format, Format::Float(_));
            let ours = self.contents.parts.iter().any(|part| inner.starts_with(part));
            let ignored = !float || self.contents.ignored.iter().any(|end| inner.ends_with(end));
            if ours && !ignored && !self.read.contains(name) {
                return Err(EngineError::Model(format!(
                    "{}: the tensor {name:?} is not part of the {} model that config.json describes; supported: \
                     as many layers as are stored, and the settings that config.json can name",
                    stored.file.display(),
                    self.family()
                )));
            }
        }
        Ok(())
    }
}
