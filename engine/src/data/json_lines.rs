//! JSON Lines: one object a line, no key twice in it.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::{DataError, EachRow, Fields, MAX_ROW_BYTES};

/// Calls `take` for each line that is not blank.
pub(super) fn each(path: &Path, source: impl Read, names: Fields<'_>, take: &mut EachRow) -> Result<(), DataError> {
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
        let Object { object, twice } = serde_json::from_str(line_text).map_err(|e| {
            let what = if e.is_data() { "not a JSON object" } else { "not valid JSON" };
            DataError::row(path, line, format!("{what} (noticed at column {})", e.column()))
        })?;
        if let Some(key) = twice {
            // a key that nobody asked for may be part of a record
            let which = [Some(names.text), names.beside, names.unit].into_iter().flatten().find(|name| *name == key);
            let which = which.map_or("a key".to_owned(), |name| format!("the key {name:?}"));
            let what = format!("{which} stands twice in the object, and programs differ in which of the two counts");
            return Err(DataError::row(path, line, what));
        }
        let field = |name: &str| {
            object.get(name).ok_or_else(|| DataError::row(path, line, format!("the object has no key {name:?}")))
        };
        let Value::String(text) = field(names.text)? else {
            return Err(DataError::row(path, line, format!("the value of {:?} is not a string", names.text)));
        };
        let spelt = |name: &str| match field(name)? {
            Value::String(words) => Ok(words.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(value) => Ok(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                let what = format!("the value of {name:?} is no string, number or boolean");
                Err(DataError::row(path, line, what))
            }
        };
        let [beside, unit] = [names.beside.map(spelt).transpose()?, names.unit.map(spelt).transpose()?];
        take(line, Fields { text, beside: beside.as_deref(), unit: unit.as_deref() })?;
    }
    Ok(())
}

/// An object, and a key that stands twice in it, if there is one.
struct Object {
    object: Map<String, Value>,
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Object, A::Error> {
                let (mut object, mut twice) = (Map::new(), None);
                while let Some((key, value)) = pairs.next_entry::<String, Value>()? {
                    if object.insert(key.clone(), value).is_some() {
                        twice.get_or_insert(key);
                    }
                }
                Ok(Object { object, twice })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
