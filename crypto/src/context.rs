//! `ctx`: everything that a session is about, in one digest (SA-02).
//!
//! Contract: two sessions that differ in federation, roster, job, round, attempt, parameters, history or model have
//! different digests, and every signature, key and mask of a session depends on it.

use crate::hash::{Digest, Hasher};
use crate::labels::Label;
use crate::roster::MAX_NAME;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The fields of `ctx`, as the coordinator opens a session with them. A silo compares each with what it holds itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Id of the federation, as in the roster.
    #[serde(deserialize_with = "name")]
    pub federation_id: String,
    /// Hash of the pinned roster.
    pub roster_hash: Digest,
    /// Version of the pinned roster.
    pub roster_version: u32,
    /// Hash of the job's contract.
    pub job_digest: Digest,
    /// Round, counted from 1.
    pub round: u32,
    /// Attempt at the round, above all earlier ones.
    pub attempt: u32,
    /// [`crate::Params::hash`].
    pub params_hash: Digest,
    /// Result hash of the round before; in round 1 the job digest.
    pub previous_result_hash: Digest,
    /// Hash of the global adapter that the silo actually holds (SA-14).
    pub model_hash: Digest,
}

/// SA-12: a name is looked at where it lies and copied only if it is no longer than a name can be.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Name;
    impl Visitor<'_> for Name {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a name of at most {MAX_NAME} bytes")
        }
        fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
            if name.len() > MAX_NAME {
                return Err(E::invalid_length(name.len(), &self));
            }
            Ok(name.to_owned())
        }
    }
    deserializer.deserialize_str(Name)
}

impl Context {
    /// `ctx` = H("ctx"; all fields).
    pub fn digest(&self) -> Digest {
        Hasher::new(Label::Context)
            .field(self.federation_id.as_bytes())
            .digest(&self.roster_hash)
            .u64(u64::from(self.roster_version))
            .digest(&self.job_digest)
            .u64(u64::from(self.round))
            .u64(u64::from(self.attempt))
            .digest(&self.params_hash)
            .digest(&self.previous_result_hash)
            .digest(&self.model_hash)
            .finish()
    }

    /// The first field in which another context differs, in words for an error message; `None` where they are equal.
    pub fn first_difference(&self, other: &Context) -> Option<&'static str> {
        let fields = [
            (self.federation_id == other.federation_id, "federation id"),
            (self.roster_hash == other.roster_hash, "roster"),
            (self.roster_version == other.roster_version, "roster version"),
            (self.job_digest == other.job_digest, "job"),
            (self.round == other.round, "round"),
            (self.attempt == other.attempt, "attempt"),
            (self.params_hash == other.params_hash, "parameters"),
            (self.previous_result_hash == other.previous_result_hash, "previous result"),
            (self.model_hash == other.model_hash, "global adapter"),
        ];
        fields.into_iter().find(|(same, _)| !same).map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn sa02_every_field_changes_the_context() {
        let d = |x| Digest([x; 32]);
        let base = Context {
            federation_id: "f".into(),
            roster_hash: d(1),
            roster_version: 1,
            job_digest: d(2),
            round: 1,
            attempt: 1,
            params_hash: d(3),
            previous_result_hash: d(4),
            model_hash: d(5),
        };
        let all = [
            base.clone(),
            Context { federation_id: "g".into(), ..base.clone() },
            Context { roster_hash: d(9), ..base.clone() },
            Context { roster_version: 2, ..base.clone() },
            Context { job_digest: d(9), ..base.clone() },
            Context { round: 2, ..base.clone() },
            Context { attempt: 2, ..base.clone() },
            Context { params_hash: d(9), ..base.clone() },
            Context { previous_result_hash: d(9), ..base.clone() },
            Context { model_hash: d(9), ..base.clone() },
        ];
        assert_eq!(all.iter().map(Context::digest).collect::<BTreeSet<_>>().len(), all.len());
        assert!(all[1..].iter().all(|other| base.first_difference(other).is_some()));
        assert_eq!(base.first_difference(&all[3]), Some("roster version"));
        assert_eq!(base.first_difference(&base.clone()), None);
    }
}
