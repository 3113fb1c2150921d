//! The provenance of weights inside their own file, so that both are replaced together.
//!
//! ```text
//! 8 bytes: length of the header │ header: {"__metadata__":{"blindsum":"…","format":"pt"}, tensors} │ tensors
//! ```
//! PEFT and other readers skip keys of `__metadata__` that they do not know. The header is written here and not by the
//! safetensors crate, which writes more than one key in the order of a hash map: the same adapter would not give the same
//! bytes.

use safetensors::SafeTensors;
use serde_json::Value;

use super::PeftError;
use crate::provenance::Provenance;

const KEY: &str = "blindsum";
const METADATA: &str = "__metadata__";
/// More than a provenance takes, bytes.
pub(super) const MAX_BYTES: u64 = 2048;
/// Headers are filled up to a multiple of this, so that tensors stay aligned.
const ALIGNMENT: usize = 8;

/// The same file with the provenance in its header.
pub(super) fn add(file: &[u8], provenance: &Provenance) -> Result<Vec<u8>, PeftError> {
    let broken = |why: String| PeftError::Inconsistent(format!("the provenance cannot be added: {why}"));
    let (header, tensors) = split(file).ok_or_else(|| broken("the file has no header".to_owned()))?;
    let mut header: Value = serde_json::from_slice(header).map_err(|e| broken(e.to_string()))?;
    let text = serde_json::to_string(provenance).map_err(|e| broken(e.to_string()))?;
    header[METADATA][KEY] = Value::String(text);
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    let mut out = Vec::with_capacity(8 + header.len() + tensors.len());
    out.extend_from_slice(&(header.len() as u64).to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(tensors);
    Ok(out)
}

/// The provenance in a file's header; none where there is none.
pub(super) fn read(file: &[u8]) -> Result<Option<Provenance>, String> {
    let (_, metadata) = SafeTensors::read_metadata(file).map_err(|e| format!("not a safetensors file: {e}"))?;
    let Some(text) = metadata.metadata().as_ref().and_then(|keys| keys.get(KEY)) else { return Ok(None) };
    if text.len() as u64 > MAX_BYTES {
        return Err("its provenance is too long".to_owned());
    }
    let wrong = |why: &dyn std::fmt::Display| format!("its provenance is not of this version: {why}");
    let provenance: Provenance = serde_json::from_str(text).map_err(|e| wrong(&e))?;
    provenance.of.sound().map_err(|e| wrong(&e))?;
    Ok(Some(provenance))
}

fn split(file: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = file.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}
