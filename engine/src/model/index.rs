//! `model.safetensors.index.json`: which file of a sharded checkpoint holds which tensor.
//!
//! Contract: a shard's name is a plain file name, so that an index reaches no file outside the model's directory; no
//! tensor is named twice; the file is bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use blindsum_files::read_public;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{ModelError, REMEDY};

/// Longest index, in bytes: that of a model with 100,000 tensors is about a tenth.
const MAX_BYTES: u64 = 64 << 20;
/// Longest name of a shard, in bytes.
const MAX_NAME: usize = 255;

/// What an index says.
#[derive(Debug)]
pub struct Index {
    /// Tensor to shard.
    pub weight_map: BTreeMap<String, String>,
}

/// The parts of the file that matter; `metadata` is for people.
#[derive(Deserialize)]
struct IndexFile {
    weight_map: UniqueMap,
}

/// A JSON object of strings in which no key stands twice (serde's maps keep the last).
struct UniqueMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for UniqueMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = UniqueMap;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object from tensor names to file names")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut entries: M) -> Result<UniqueMap, M::Error> {
                let mut map = BTreeMap::new();
                while let Some((tensor, file)) = entries.next_entry::<String, String>()? {
                    if map.contains_key(&tensor) {
                        return Err(serde::de::Error::custom(format!("the tensor {tensor:?} stands twice")));
                    }
                    map.insert(tensor, file);
                }
                Ok(UniqueMap(map))
            }
        }
        deserializer.deserialize_map(Unique)
    }
}

impl Index {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let bytes = read_public(path, MAX_BYTES).map_err(|e| e.or_missing(REMEDY))?;
        Self::parse(&bytes).map_err(|problem| ModelError::Index { path: path.to_owned(), problem })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let UniqueMap(weight_map) = serde_json::from_slice::<IndexFile>(bytes)
            .map_err(|e| format!("no index of a checkpoint: {e}"))?
            .weight_map;
        if weight_map.is_empty() {
            return Err("weight_map is empty".to_owned());
        }
        for (tensor, shard) in &weight_map {
            if !plain(shard) {
                return Err(format!(
                    "the tensor {tensor:?} lies in {shard:?}, which is no plain name of a .safetensors file; shards lie \
                     beside the index"
                ));
            }
        }
        Ok(Index { weight_map })
    }

    /// Every shard once, by name.
    pub fn shards(&self) -> Vec<&str> {
        let mut shards: Vec<&str> = self.weight_map.values().map(String::as_str).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }
}

/// Whether this names a file in the same directory; the characters are those that `sha256sum` prints as they are.
fn plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.len() <= MAX_NAME && name.ends_with(".safetensors") && !name.starts_with('.') && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blindsum_files::FileError;

    use super::*;

    #[test]
    fn shards_are_listed_once_and_sorted() {
        let index = Index::parse(
            br#"{"metadata": {"total_size": 8}, "weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors",
                "c": "model-2.safetensors"}}"#,
        );
        assert_eq!(index.unwrap().shards(), ["model-1.safetensors", "model-2.safetensors"]);
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for (text, word) in [
            ("", "no index"),
            ("[]", "no index"),
            ("{}", "weight_map"),
            (r#"{"weight_map": {}}"#, "empty"),
            (r#"{"weight_map": {"a": 1}}"#, "no index"),
            (r#"{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}"#, "twice"),
            (r#"{"weight_map": {"a": "../x.safetensors"}}"#, "plain"),
            (r#"{"weight_map": {"a": "/x.safetensors"}}"#, "plain"),
            (r#"{"weight_map": {"a": ".safetensors"}}"#, "plain"),
            (r#"{"weight_map": {"a": "x\ny.safetensors"}}"#, "plain"),
            (r#"{"weight_map": {"a": "config.json"}}"#, "plain"),
        ] {
            let error = Index::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn an_endless_index_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        assert!(matches!(Index::read(file.path()), Err(ModelError::File(FileError::TooLarge { .. }))));
    }
}
