//! JSON Lines: one object a line.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::{DataError, EachRow, MAX_ROW_BYTES};

/// Calls `take` for each line that is not blank.
pub(super) fn each(
    path: &Path,
    source: impl Read,
    text: &str,
    beside: Option<&str>,
    take: &mut EachRow,
) -> Result<(), DataError> {
    let mut reader = BufReader::with_capacity(1 << 16, source);
    let mut row = Vec::new();
    for line in 1.. {
        row.clear();
        let count = (&mut reader).take(MAX_ROW_BYTES + 1).read_until(b'\n', &mut row);
        if count.map_err(|e| DataError::file(path, &e))? == 0 {
            break;
        }
        if row.len() as u64 > MAX_ROW_BYTES {
            return Err(DataError::too_long(path, line));
        }
        let line_text = std::str::from_utf8(&row).map_err(|_| DataError::not_utf8(path, line))?;
        let line_text = if line == 1 { line_text.trim_start_matches('\u{feff}') } else { line_text };
        if line_text.trim().is_empty() {
            continue;
        }
        let object: Map<String, Value> = serde_json::from_str(line_text).map_err(|e| {
            let what = if e.is_data() { "not a JSON object" } else { "not valid JSON" };
            DataError::row(path, line, format!("{what} (noticed at column {})", e.column()))
        })?;
        let field = |name: &str| {
            object.get(name).ok_or_else(|| DataError::row(path, line, format!("the object has no key {name:?}")))
        };
        let Value::String(words) = field(text)? else {
            return Err(DataError::row(path, line, format!("the value of {text:?} is not a string")));
        };
        let beside = match beside.map(|name| (name, field(name))) {
            None => None,
            Some((name, value)) => Some(match value? {
                Value::String(words) => words.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(value) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    let what = format!("the value of {name:?} is no string, number or boolean");
                    return Err(DataError::row(path, line, what));
                }
            }),
        };
        take(line, words, beside.as_deref())?;
    }
    Ok(())
}
