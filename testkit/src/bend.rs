//! Messages bent out of shape: one bit of an encoding or of a named field, an entry too few or too many.
//!
//! Contract: works on any message through its serde form, so that a message added later is bent like the others. `None`
//! says that the bytes are no message any more: a transport closes the connection then.

use std::sync::Arc;

use blindsum_protocol::limits::{Limits, Wire};
use blindsum_protocol::{AttemptId, Envelope, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ops::{Kind, Op};

/// Tampers with, truncates or extends a message as the operation says.
pub fn bend<M: Wire + Clone>(op: &Op, envelope: &Envelope<M>, limits: &Limits) -> Option<Envelope<M>> {
    match (op.pick(4, 4), &envelope.payload) {
        (0, _) => bytes(op, envelope)
            .and_then(|bytes| M::decode(&bytes, limits).ok())
            .map(|message| Envelope { message, payload: envelope.payload.clone() }),
        (1 | 2, Some(payload)) => {
            let mut payload = payload.to_vec();
            bend_bytes(op, &mut payload);
            Some(Envelope { message: envelope.message.clone(), payload: Some(Arc::new(payload)) })
        }
        _ => Some(Envelope { message: fields(op, &envelope.message)?, payload: envelope.payload.clone() }),
    }
}

fn bytes<M: Wire>(op: &Op, envelope: &Envelope<M>) -> Option<Vec<u8>> {
    let mut bytes = codec::encode(&envelope.message).ok()?;
    bend_bytes(op, &mut bytes);
    Some(bytes)
}

fn bend_bytes(op: &Op, bytes: &mut Vec<u8>) {
    match op.kind {
        Kind::Truncate | Kind::Length => {
            let keep = bytes.len().saturating_sub(1 + op.pick(8, 16));
            bytes.truncate(keep);
        }
        Kind::Extend => bytes.resize(bytes.len() + 1 + op.pick(8, 16), 0),
        _ => {
            if !bytes.is_empty() {
                let place = op.pick(6, bytes.len());
                bytes[place] ^= 1 << op.pick(3, 8);
            }
        }
    }
}

/// Walks down a random path of the message's fields and changes what is at its end.
pub fn fields<T: Serialize + DeserializeOwned>(op: &Op, value: &T) -> Option<T> {
    let mut tree = serde_json::to_value(value).ok()?;
    let mut random = u64::from(op.variant) | 1;
    let mut next = move |of: usize| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (random >> 33) as usize % of.max(1)
    };
    let lists = matches!(op.kind, Kind::Truncate | Kind::Extend | Kind::Length);
    if lists {
        let mut places = Vec::new();
        find_lists(&tree, String::new(), &mut places);
        let place = places.get(next(places.len()))?.clone();
        let Value::Array(list) = tree.pointer_mut(&place)? else { return None };
        match op.kind {
            Kind::Extend => {
                let copy = list.get(next(list.len()))?.clone();
                list.push(copy);
            }
            _ => drop(list.pop()),
        }
    } else {
        flip(&mut tree, &mut next);
    }
    serde_json::from_value(tree).ok()
}

/// Lists of entries; bytes are none.
fn find_lists(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, inner)| find_lists(inner, format!("{path}/{name}"), found));
        }
        Value::Array(list) if !list.is_empty() => {
            if !list.iter().all(Value::is_number) {
                found.push(path.clone());
            }
            list.iter().enumerate().for_each(|(i, inner)| find_lists(inner, format!("{path}/{i}"), found));
        }
        _ => {}
    }
}

fn flip(value: &mut Value, next: &mut impl FnMut(usize) -> usize) {
    match value {
        Value::Object(fields) => {
            let place = next(fields.len());
            if let Some(inner) = fields.values_mut().nth(place) {
                flip(inner, next);
            }
        }
        Value::Array(list) => {
            let place = next(list.len());
            if let Some(inner) = list.get_mut(place) {
                flip(inner, next);
            }
        }
        Value::String(text) => {
            let place = next(text.len());
            let changed = text.bytes().enumerate().map(|(i, byte)| match (i == place, byte) {
                (false, byte) => byte as char,
                (true, b'0') => '1',
                (true, _) => '0',
            });
            *text = changed.collect();
        }
        Value::Number(number) => {
            let flipped = number.as_u64().unwrap_or(0) ^ 1 << next(3);
            *value = flipped.into();
        }
        Value::Bool(set) => *set = !*set,
        Value::Null => {}
    }
}

/// The same message, said to be of another attempt.
pub fn relabel<M: Serialize + DeserializeOwned>(message: &M, at: AttemptId) -> Option<M> {
    let mut tree = serde_json::to_value(message).ok()?;
    let inner = tree.as_object_mut()?.values_mut().next()?;
    let slot = inner.get_mut("at")?;
    *slot = serde_json::to_value(at).ok()?;
    serde_json::from_value(tree).ok()
}
