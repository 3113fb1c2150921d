//! The roster: silo names and identity keys, agreed out of band and pinned by every silo (SA-01).
//!
//! Contract: a `Roster` value is valid by construction, also when it comes out of serde. [`Roster::hash`] is the fingerprint
//! that people compare; any change of name, key, order, version or federation changes it.

use crate::hash::{Digest, Hasher};
use crate::identity::{IdentityPublic, SiloId};
use crate::labels::Label;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Fewest silos with which the sum hides anything: with two, each learns the other's input from the sum.
pub const MIN_SILOS: usize = 3;
/// Most silos that this version admits; it bounds every list on the wire (SA-12).
pub const MAX_SILOS: usize = 1000;

/// Longest name of a silo or federation, bytes.
pub(crate) const MAX_NAME: usize = 63;

/// One silo of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterEntry {
    /// Lower-case letters, digits and hyphens, 1 to 63 of them; the name in the silo's certificate.
    pub name: String,
    /// Ed25519 identity key.
    pub identity: IdentityPublic,
}

/// The pinned list of silos. [`SiloId`] is a position in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawRoster", into = "RawRoster")]
pub struct Roster {
    federation_id: String,
    version: u32,
    entries: Vec<RosterEntry>,
    hash: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoster {
    federation_id: String,
    version: u32,
    silos: Vec<RosterEntry>,
}

impl TryFrom<RawRoster> for Roster {
    type Error = RosterError;
    fn try_from(raw: RawRoster) -> Result<Roster, RosterError> {
        Roster::new(raw.federation_id, raw.version, raw.silos)
    }
}

impl From<Roster> for RawRoster {
    fn from(roster: Roster) -> RawRoster {
        RawRoster { federation_id: roster.federation_id, version: roster.version, silos: roster.entries }
    }
}

/// Why a list of silos is not a roster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// Wrong number of entries.
    #[error("a roster has {MIN_SILOS} to {MAX_SILOS} silos, this one has {0}")]
    Size(usize),
    /// A name outside `[a-z0-9-]{1,63}`.
    #[error("{what} {name:?} must be 1 to 63 of a-z, 0-9 and '-'")]
    Name {
        /// What is named: the federation id or a silo name.
        what: &'static str,
        /// The offending name.
        name: String,
    },
    /// Two entries share a name.
    #[error("the silo name {0:?} occurs twice in the roster")]
    DuplicateName(String),
    /// Two entries share a key.
    #[error("the identity key of silo {0:?} already belongs to another silo of the roster")]
    DuplicateKey(String),
    /// Not a canonical point of large order.
    #[error("the identity key of silo {0:?} is not a sound Ed25519 public key")]
    UnsoundKey(String),
}

/// Whether `name` is 1 to 63 of `a-z`, `0-9` and `-`.
pub fn is_valid_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

impl Roster {
    /// Checks and pins a list of silos.
    ///
    /// # Errors
    /// [`RosterError`] for a wrong size, a bad or repeated name, a repeated or unsound key.
    pub fn new(
        federation_id: impl Into<String>,
        version: u32,
        entries: Vec<RosterEntry>,
    ) -> Result<Roster, RosterError> {
        let federation_id = federation_id.into();
        if !is_valid_name(&federation_id) {
            return Err(RosterError::Name { what: "the federation id", name: federation_id });
        }
        if !(MIN_SILOS..=MAX_SILOS).contains(&entries.len()) {
            return Err(RosterError::Size(entries.len()));
        }
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for entry in &entries {
            if !is_valid_name(&entry.name) {
                return Err(RosterError::Name { what: "the silo name", name: entry.name.clone() });
            }
            if !names.insert(&entry.name) {
                return Err(RosterError::DuplicateName(entry.name.clone()));
            }
            if !entry.identity.is_sound() {
                return Err(RosterError::UnsoundKey(entry.name.clone()));
            }
            if !keys.insert(entry.identity) {
                return Err(RosterError::DuplicateKey(entry.name.clone()));
            }
        }
        let mut hasher = Hasher::new(Label::Roster)
            .field(federation_id.as_bytes())
            .u64(u64::from(version))
            .u64(entries.len() as u64);
        for entry in &entries {
            hasher = hasher.field(entry.name.as_bytes()).field(entry.identity.as_bytes());
        }
        let hash = hasher.finish();
        Ok(Roster { federation_id, version, entries, hash })
    }

    /// The fingerprint over federation, version, names and keys in order.
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// Number of silos, n of the protocol.
    #[allow(clippy::len_without_is_empty)] // a roster has at least three entries
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The silo at this place, if there is one.
    pub fn entry(&self, id: SiloId) -> Option<&RosterEntry> {
        self.entries.get(id.index())
    }

    /// The place of a name.
    pub fn id_of(&self, name: &str) -> Option<SiloId> {
        self.entries.iter().position(|e| e.name == name).map(|i| SiloId(i as u16))
    }

    /// All places in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = SiloId> + use<> {
        (0..self.entries.len() as u16).map(SiloId)
    }

    /// All entries in order.
    pub fn entries(&self) -> &[RosterEntry] {
        &self.entries
    }

    /// A silo as people know it: its name, or its number where it is an outsider.
    pub fn name_of(&self, id: SiloId) -> String {
        self.entry(id).map_or_else(|| format!("number {id} (not in the roster)"), |e| e.name.clone())
    }

    /// The federation's id.
    pub fn federation_id(&self) -> &str {
        &self.federation_id
    }

    /// The roster's version, raised by whoever changes it.
    pub fn version(&self) -> u32 {
        self.version
    }
}
