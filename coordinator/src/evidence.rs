//! Evidence as files: what a silo's conviction rests on, for whoever doubts it.
//!
//! ```text
//! output_dir/evidence/round-3-attempt-1-clinic-b.json     one per convicted silo
//! ```
//!
//! # Contract
//! A file holds the evidence and the context of its session; with the federation's roster and the job, which everybody has,
//! [`check`] needs nothing else: no model, no key, no connection. What the file says beside the evidence (who, which rule)
//! is for people and is compared, never trusted. Files are written whole or not at all.

use std::path::{Path, PathBuf};

use blindsum_certs::roster;
use blindsum_crypto::verify::Guilt;
use blindsum_crypto::{Evidence, Roster};
use blindsum_protocol::coordinator::Conviction;
use blindsum_protocol::evidence::{self, EvidenceError};
use blindsum_protocol::job::JobFile;
use blindsum_service::Document;
use serde::{Deserialize, Serialize};

use crate::error::CoordinatorError;

/// What the first key of a file says.
const FORMAT: &str = "blindsum-evidence/1";
/// Longest file that is read, bytes: a masked input of the largest adapter, in hex, and some.
const MAX_FILE: u64 = 1 << 30;

/// An evidence file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EvidenceFile {
    format: String,
    /// The silo at fault, by its name in the roster.
    silo: String,
    /// The invariant that it broke.
    rule: String,
    /// What it did.
    what: String,
    /// What proves it.
    evidence: Evidence,
}

/// Writes a conviction's evidence below the output directory; `None` where the very same file is there already.
///
/// # Errors
/// The disk's.
pub(crate) fn keep(dir: &Path, conviction: &Conviction, roster: &Roster) -> Result<Option<PathBuf>, CoordinatorError> {
    let Conviction { at, guilt, evidence } = conviction;
    let silo = roster.name_of(guilt.silo);
    let dir = dir.join("evidence");
    let path = dir.join(format!("round-{}-attempt-{}-{silo}.json", at.round, at.attempt));
    let file = EvidenceFile {
        format: FORMAT.into(),
        silo,
        rule: guilt.check.rule().into(),
        what: guilt.what.clone(),
        evidence: evidence.as_ref().clone(),
    };
    let mut text = serde_json::to_vec_pretty(&file).expect("numbers, strings and lists become JSON");
    text.push(b'\n');
    if blindsum_files::read_public(&path, MAX_FILE).is_ok_and(|found| found == text) {
        return Ok(None);
    }
    std::fs::create_dir_all(&dir).map_err(|e| CoordinatorError::file("make", &dir, e))?;
    blindsum_files::write_atomic(&path, &text, 0o644)?;
    Ok(Some(path))
}

/// What an evidence file proves, by this roster and job: the silo's name, and its guilt.
///
/// # Errors
/// [`CoordinatorError::Evidence`] where it proves nothing, [`CoordinatorError::Malformed`] where it is no evidence file.
pub fn check(file: &Path, roster: &Path, job: &Path) -> Result<(String, Guilt), CoordinatorError> {
    let roster = roster::load(roster)?;
    let job = Document::read(job)?.checked(JobFile::checked)?;
    let text = blindsum_files::read_public(file, MAX_FILE)?;
    let malformed = |what: String| CoordinatorError::Malformed(format!("{}: {what}", file.display()));
    let read: EvidenceFile = serde_json::from_slice(&text).map_err(|e| malformed(format!("no evidence file: {e}")))?;
    if read.format != FORMAT {
        return Err(malformed(format!("its format is {:?}, not {FORMAT:?}", read.format)));
    }
    let refused = |what: String| CoordinatorError::Evidence(format!("{}: {what}", file.display()));
    let guilt = evidence::check(&roster, &job, &read.evidence).map_err(|e| match e {
        EvidenceError::Job(e) => CoordinatorError::Config(e.to_string()),
        EvidenceError::Refused(e) => refused(e.to_string()),
    })?;
    let silo = roster.name_of(guilt.silo);
    if read.silo != silo {
        return Err(refused(format!("it accuses {:?}, while the evidence in it is against {silo:?}", read.silo)));
    }
    Ok((silo, guilt))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use blindsum_crypto::evidence::{Fault, Over};
    use blindsum_crypto::verify::Check;
    use blindsum_crypto::{AbandonVote, CommitVote, Context, Digest, IdentityKey, RosterEntry, SiloId};
    use blindsum_protocol::message::AttemptId;

    use super::*;

    fn conviction(roster: &Roster, key: &IdentityKey) -> Conviction {
        let (at, silo, zero) = (AttemptId { round: 3, attempt: 2 }, SiloId(1), Digest([0; 32]));
        let context = Context {
            federation_id: roster.federation_id().into(),
            roster_hash: roster.hash(),
            roster_version: roster.version(),
            job_digest: zero,
            round: at.round,
            attempt: at.attempt,
            params_hash: zero,
            previous_result_hash: zero,
            model_hash: zero,
        };
        let ctx = context.digest();
        let commit = Over { over: zero, message: CommitVote::sign(key, &ctx, silo, &zero) };
        let fault = Fault::CommitAndAbandon { commit, abandon: AbandonVote::sign(key, &ctx, silo) };
        let guilt = Guilt { silo, check: Check::OneVote, what: "it voted twice".into() };
        Conviction { at, guilt, evidence: Arc::new(Evidence { context, fault }) }
    }

    #[test]
    fn evidence_is_written_once_under_the_silos_name_and_reads_back_as_it_was() {
        let keys: Vec<IdentityKey> = (1..5).map(|i| IdentityKey::from_bytes(&[i; 32])).collect();
        let entry = |(i, key): (usize, &IdentityKey)| RosterEntry { name: format!("silo-{i}"), identity: key.public() };
        let roster = Roster::new("demo", 1, keys.iter().enumerate().map(entry).collect()).unwrap();
        let (dir, conviction) = (tempfile::tempdir().unwrap(), conviction(&roster, &keys[1]));
        let path = keep(dir.path(), &conviction, &roster).unwrap().expect("it is new");
        assert_eq!(path, dir.path().join("evidence/round-3-attempt-2-silo-1.json"));
        let read: EvidenceFile = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(&read.evidence, conviction.evidence.as_ref());
        assert_eq!((read.silo.as_str(), read.rule.as_str()), ("silo-1", "SA-07"));
        assert_eq!(keep(dir.path(), &conviction, &roster).unwrap(), None, "a restart brings it again");
        // half a file, as no crash of this program leaves it, is made whole
        std::fs::write(&path, "{").unwrap();
        assert_eq!(keep(dir.path(), &conviction, &roster).unwrap(), Some(path));
    }
}
