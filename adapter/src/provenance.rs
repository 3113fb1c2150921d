//! Which job an adapter comes from, and which job an output folder belongs to.
//!
//! ```text
//! DIR/job.json                     whose folder it is: written before the first round, compared ever after
//! adapter_model.safetensors        `__metadata__.blindsum`: job, round, time and privacy of these very weights
//! ```
//!
//! Contract: a folder belongs to one job. [`claim`] refuses a folder that holds another job's adapter, or one that names
//! no job, before anything is trained; [`look`] says the same and writes nothing. Whoever gets an adapter can read from
//! its weights alone which job gave it, after which round, and under which ε; since these stand in one file with the
//! weights, they are replaced together.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blindsum_files::{ExitCode, Exits, FileError, read_public, write_new};
use serde::{Deserialize, Serialize};

/// The mark of a folder's owner.
const MARK: &str = "job.json";
/// Longest mark that is read, bytes.
const MAX_MARK: u64 = 64 << 10;
/// Names that the folder of an adapter or a model has: what is there without a mark is somebody else's.
const ADAPTER_FILES: [&str; 8] = [
    "adapter_model.safetensors",
    "adapter_model.bin",
    "adapter_config.json",
    "blindsum.json",
    "history.jsonl",
    "last",
    "config.json",
    "tokenizer.json",
];

/// A job, as an output names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobName {
    /// Its name.
    pub job: String,
    /// Its digest, hex.
    pub job_digest: String,
    /// Training rounds that it has.
    pub rounds: u32,
    /// Whether one silo trains it alone, and no federation.
    #[serde(default)]
    pub alone: bool,
    /// What each silo spends over the whole job on each of its records; none without differential privacy.
    pub privacy: Option<Budget>,
}

impl JobName {
    /// Refuses what no job of ours is called: these words may come from a stranger's file, and are shown to people.
    pub(crate) fn sound(&self) -> Result<(), &'static str> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if self.job_digest.len() != 64 || !self.job_digest.bytes().all(hex) {
            return Err("job_digest is no SHA-256");
        }
        Ok(())
    }
}

/// The ε schedule of a job: the same noise in every training, so that ε grows with each and ends at most here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// ε of each silo for the whole job, at `delta`.
    pub epsilon: f64,
    /// δ of the same guarantee.
    pub delta: f64,
    /// Trainings that it covers: the rounds and the spare ones.
    pub trainings: u32,
    /// Where it holds for each person with all rows and not for each row: most rows of one person that were trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_max_per_person: Option<u32>,
}

/// Where one set of weights comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The job.
    pub of: JobName,
    /// The training round after which these are the weights.
    pub round: u32,
    /// When they were written, seconds since 1970 by the writer's clock.
    pub time_unix_seconds: u64,
}

impl Provenance {
    /// Of the weights that a federation has after `round`, written now.
    pub fn after(of: JobName, round: u32) -> Self {
        Provenance { of, round, time_unix_seconds: now() }
    }

    /// Of the weights that one silo trained alone, written now.
    pub fn alone(of: JobName) -> Self {
        Provenance { round: of.rounds, of: JobName { alone: true, ..of }, time_unix_seconds: now() }
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JobName { job, job_digest, rounds, alone, privacy } = &self.of;
        let by = if *alone { "trained by one silo alone" } else { "trained by a federation" };
        write!(f, "job {job:?} (digest {job_digest}), after round {} of {rounds}, {by}, ", self.round)?;
        match privacy {
            Some(Budget { epsilon, delta, rows_max_per_person, .. }) => {
                let whom = rows_max_per_person.map_or("training record", |_| "person with all training records");
                write!(f, "ε ≤ {epsilon} at δ = {delta:e} on each {whom}")
            }
            None => write!(f, "no differential privacy"),
        }
    }
}

/// Seconds since 1970; a time stamp for people, on which nothing depends.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An output folder is not this job's.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another job's.
    #[error(
        "{} belongs to job {found:?} (digest {digest}), not to this job: name another folder, or move that one away",
        .dir.display()
    )]
    OtherJob {
        /// The folder.
        dir: PathBuf,
        /// The name of its job.
        found: String,
        /// Its digest.
        digest: String,
    },
    /// It holds an adapter that names no job, or a model.
    #[error(
        "{} holds {name}, but no {MARK} that says which job it comes from, so that it is not replaced: name another folder, \
         or move that one away",
        .dir.display()
    )]
    Unmarked {
        /// The folder.
        dir: PathBuf,
        /// What lies there.
        name: &'static str,
    },
    /// The mark cannot be read.
    #[error("{} is not a mark of this version ({why}): name another folder, or move that one away", .path.display())]
    Damaged {
        /// The mark.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Exits for ClaimError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Storage
    }
}

/// Whether the folder `dir` is, or can become, this job's. True where it is already. Writes nothing.
///
/// # Errors
/// It is another job's, or nobody knows whose; or it cannot be read.
pub fn look(dir: &Path, job: &JobName) -> Result<bool, ClaimError> {
    let path = dir.join(MARK);
    match read_public(&path, MAX_MARK) {
        Ok(bytes) => {
            let found: JobName =
                serde_json::from_slice(&bytes).map_err(|e| ClaimError::Damaged { path, why: e.to_string() })?;
            if let Err(why) = found.sound() {
                return Err(ClaimError::Damaged { path: dir.join(MARK), why: why.to_owned() });
            }
            if (&found.job_digest, found.alone) != (&job.job_digest, job.alone) {
                let by = if found.alone { " of one silo alone" } else { "" };
                let (found, digest) = (found.job + by, found.job_digest);
                return Err(ClaimError::OtherJob { dir: dir.to_path_buf(), found, digest });
            }
            Ok(true)
        }
        Err(FileError::Missing { .. }) => match ADAPTER_FILES.into_iter().find(|name| dir.join(name).exists()) {
            Some(name) => Err(ClaimError::Unmarked { dir: dir.to_path_buf(), name }),
            None => Ok(false),
        },
        Err(e) => Err(e.into()),
    }
}

/// Makes the folder `dir` this job's, creating it; durable on return.
///
/// # Errors
/// As [`look`], and the disk's.
pub fn claim(dir: &Path, job: &JobName) -> Result<(), ClaimError> {
    std::fs::create_dir_all(dir).map_err(|e| FileError::from_io("make the folder", dir, e))?;
    if look(dir, job)? {
        return Ok(());
    }
    let mut text =
        serde_json::to_vec_pretty(job).map_err(|e| ClaimError::Damaged { path: dir.join(MARK), why: e.to_string() })?;
    text.push(b'\n');
    match write_new(&dir.join(MARK), &text, 0o644) {
        // Somebody was faster: whoever it was, it is theirs.
        Err(FileError::Exists { .. }) => look(dir, job).map(drop),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(digest: &str) -> JobName {
        let privacy = Some(Budget { epsilon: 6.0, delta: 1e-5, trainings: 22, rows_max_per_person: None });
        JobName { job: "triage".into(), job_digest: digest.repeat(32), rounds: 20, alone: false, privacy }
    }

    #[test]
    fn a_folder_belongs_to_one_job() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("adapter");
        assert!(!look(&out, &job("aa")).unwrap());
        assert!(!out.exists(), "looking leaves no trace");
        claim(&out, &job("aa")).unwrap();
        claim(&out, &job("aa")).unwrap();
        assert!(look(&out, &job("aa")).unwrap());
        let before = std::fs::read(out.join(MARK)).unwrap();
        for result in [look(&out, &job("bb")).map(drop), claim(&out, &job("bb"))] {
            let text = result.unwrap_err().to_string();
            assert!(text.contains("adapter belongs to job \"triage\"") && text.contains("another folder"), "{text}");
        }
        let alone = JobName { alone: true, ..job("aa") };
        assert!(claim(&out, &alone).unwrap_err().to_string().contains("job \"triage\""));
        assert_eq!(std::fs::read(out.join(MARK)).unwrap(), before);
    }

    #[test]
    fn an_adapter_that_names_no_job_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for name in ADAPTER_FILES {
            let out = dir.path().join(format!("with-{name}"));
            std::fs::create_dir(&out).unwrap();
            std::fs::write(out.join(name), b"x").unwrap();
            assert!(matches!(claim(&out, &job("aa")), Err(ClaimError::Unmarked { .. })));
            assert!(!out.join(MARK).exists());
        }
        let out = dir.path().join("damaged");
        std::fs::create_dir(&out).unwrap();
        std::fs::write(out.join(MARK), b"{}").unwrap();
        assert!(matches!(claim(&out, &job("aa")), Err(ClaimError::Damaged { .. })));
    }
}
