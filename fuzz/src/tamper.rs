//! Alterations of a message, one node at a time: structure-aware, and the same for every message there is.
//!
//! The message goes through JSON, where keys, hashes and signatures are hex strings. A node is a number, a string or a
//! list; three bytes choose which and how. What no longer is a message of its type stays as it was.

use blindsum_protocol::Payload;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::input::Input;

/// How to alter a message; the zero value does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tamper {
    /// 0: not at all. Else what to do with the node.
    pub how: u8,
    /// Which node, counted from the front, modulo their number.
    pub node: u8,
    /// More of the same.
    pub with: u8,
}

impl Tamper {
    /// Three bytes of an operation.
    pub fn read(input: &mut Input<'_>) -> Tamper {
        Tamper { how: input.byte(), node: input.byte(), with: input.byte() }
    }

    /// Whether it alters anything.
    pub fn is_some(&self) -> bool {
        self.how != 0
    }

    /// The altered message; the message itself where the alteration gives none.
    pub fn apply<T: Serialize + DeserializeOwned + Clone>(&self, message: T) -> T {
        if !self.is_some() {
            return message;
        }
        let Ok(mut value) = serde_json::to_value(&message) else { return message };
        let mut nodes = 0;
        count(&value, &mut nodes);
        let mut left = usize::from(self.node) % nodes.max(1);
        let donor = self.donor(&value, usize::from(self.with));
        visit(&mut value, &mut left, &mut |node| self.alter(node, &donor));
        serde_json::from_value(value).unwrap_or(message)
    }

    /// A payload, altered where `how` says so.
    pub fn payload(&self, payload: Payload) -> Option<Payload> {
        let mut bytes = payload.to_vec();
        match self.how {
            0xf0 => return None,
            0xf1 => bytes.truncate(usize::from(self.with)),
            0xf2 => bytes.push(self.with),
            0xf3 if !bytes.is_empty() => {
                let place = usize::from(self.node) % bytes.len();
                bytes[place] ^= self.with | 1;
            }
            _ => return Some(payload),
        }
        Some(Payload::new(bytes))
    }

    /// Another node of the same message.
    fn donor(&self, value: &Value, index: usize) -> Value {
        let mut nodes = 0;
        count(value, &mut nodes);
        let (mut left, mut found) = (index % nodes.max(1), Value::Null);
        visit(&mut value.clone(), &mut left, &mut |node| found = node.clone());
        found
    }

    fn alter(&self, node: &mut Value, donor: &Value) {
        let with = usize::from(self.with);
        match node {
            Value::Number(number) => {
                let old = number.as_u64().unwrap_or(0);
                *node = match self.how % 8 {
                    1 => json!(old.wrapping_add(1)),
                    2 => json!(old.wrapping_sub(1)),
                    3 => json!(0),
                    4 => json!(u8::MAX),
                    5 => json!(u16::MAX),
                    6 => json!(u32::MAX),
                    7 => json!(u64::MAX),
                    _ => json!(self.with),
                };
            }
            Value::String(text) => match self.how % 4 {
                0 => {
                    if let Value::String(other) = donor {
                        *text = other.clone();
                    }
                }
                1 => *text = "0".repeat(text.len()),
                2 => *text = "f".repeat(text.len()),
                _ => {
                    let mut bytes = std::mem::take(text).into_bytes();
                    if !bytes.is_empty() {
                        let place = with % bytes.len();
                        bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
                    }
                    *text = String::from_utf8_lossy(&bytes).into_owned();
                }
            },
            Value::Array(list) if is_bytes(list) => match self.how % 4 {
                0 => *node = donor.clone(),
                1 => list.fill(json!(0)),
                2 => list.truncate(with % list.len()),
                _ => {
                    let place = with % list.len();
                    list[place] = json!(list[place].as_u64().unwrap_or(0) ^ 1);
                }
            },
            Value::Array(list) if !list.is_empty() => {
                let (length, place) = (list.len(), with % list.len());
                match self.how % 8 {
                    1 => drop(list.remove(place)),
                    2 => list.insert(place, list[place].clone()),
                    3 => list.swap(place, (place + 1) % length),
                    4 => list.clear(),
                    5 => list.reverse(),
                    6 => list[place] = list[(place + 1) % length].clone(),
                    7 => list.truncate(place),
                    _ => list[place] = donor.clone(),
                }
            }
            _ => *node = donor.clone(),
        }
    }
}

/// A key or a ciphertext: one node.
fn is_bytes(list: &[Value]) -> bool {
    matches!(list, [Value::Number(_), ..])
}

/// Nodes that can be altered: everything but the objects that hold them.
fn count(value: &Value, nodes: &mut usize) {
    match value {
        Value::Object(fields) => fields.values().for_each(|v| count(v, nodes)),
        Value::Array(list) => {
            *nodes += 1;
            if !is_bytes(list) {
                list.iter().for_each(|v| count(v, nodes));
            }
        }
        _ => *nodes += 1,
    }
}

/// Calls `change` on the node number `left`; `false` once that is done.
fn visit(value: &mut Value, left: &mut usize, change: &mut dyn FnMut(&mut Value)) -> bool {
    match value {
        Value::Object(fields) => fields.values_mut().all(|v| visit(v, left, change)),
        _ if *left == 0 => {
            change(value);
            false
        }
        Value::Array(list) => {
            *left -= 1;
            is_bytes(list) || list.iter_mut().all(|v| visit(v, left, change))
        }
        _ => {
            *left -= 1;
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tamper;
    use blindsum_protocol::{AttemptId, CoordinatorMessage};

    #[test]
    fn one_node_changes_and_what_is_no_message_is_left_alone() {
        let message = CoordinatorMessage::AbandonRequest { at: AttemptId { round: 3, attempt: 4 } };
        let altered = |how, node| Tamper { how, node, with: 0 }.apply(message.clone());
        assert_eq!(altered(0, 0), message);
        // fields come in alphabetical order
        assert_eq!(altered(1, 0), CoordinatorMessage::AbandonRequest { at: AttemptId { round: 3, attempt: 5 } });
        assert_eq!(altered(2, 1), CoordinatorMessage::AbandonRequest { at: AttemptId { round: 2, attempt: 4 } });
        assert_eq!(altered(7, 1), message, "u64::MAX is no round");
    }
}
