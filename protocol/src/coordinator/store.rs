//! What the coordinator must never forget: results, and everything of a session from which it can only finish.
//!
//! ```text
//! ( Opened → Adverts → Dealing* → Sharers → Masked* → List → [Certificate →] … | Abandoned )* → Result → Certified → …
//! ```
//!
//! Contract: P4's list and all masked inputs are durable before the first COMMIT is asked for, so that a restarted
//! coordinator takes up there; an attempt that had not come so far is given up. Once a
//! round's `Certified` is durable, its records may be deleted, except `Result`, `Certified`, `Guilty`,
//! `Restored` and the newest `Marks`.

use std::sync::Arc;

use blindsum_crypto::{
    AbandonCertificate, Advert, CommitCertificate, Dealing, Digest, Evidence, JournalMark, MaskedHeader, OpenedSecret,
    ResultCertificate, SiloId, SumProof, SurvivorList,
};
use serde::{Deserialize, Serialize};

use crate::message::{AttemptId, CoordinatorMessage, Envelope, Payload, RoundResult};

/// One record. Encode with [`crate::codec::encode`], or keep `Masked.payload` and `Result.sum` beside it as raw bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum StoreRecord {
    /// An attempt is about to be opened.
    Opened {
        /// The attempt.
        at: AttemptId,
    },
    /// P1 is closed: U1.
    Adverts {
        /// The attempt.
        at: AttemptId,
        /// Ascending by silo.
        adverts: Vec<Advert>,
    },
    /// A dealing was accepted; its leaves check every revealed share. One record each: together they grow with n².
    Dealing {
        /// The attempt.
        at: AttemptId,
        /// As its dealer sent it.
        dealing: Dealing,
    },
    /// P2 is closed: U2 is whoever has a dealing and is not proven at fault. From here on masked inputs may go out.
    Sharers {
        /// The attempt.
        at: AttemptId,
    },
    /// A masked input was accepted.
    Masked {
        /// The attempt.
        at: AttemptId,
        /// Hash of y, signed.
        header: MaskedHeader,
        /// y, packed.
        #[serde(with = "payload")]
        payload: Payload,
    },
    /// P3 is closed: U3. From here on the attempt can only finish.
    List {
        /// The attempt.
        at: AttemptId,
        /// The survivors.
        list: SurvivorList,
    },
    /// q COMMIT votes are in.
    Certificate {
        /// The attempt.
        at: AttemptId,
        /// The votes.
        certificate: CommitCertificate,
    },
    /// An attempt can never commit.
    Abandoned {
        /// The attempt.
        at: AttemptId,
        /// q ABANDON votes.
        certificate: AbandonCertificate,
    },
    /// A round's sum.
    Result(StoredResult),
    /// q silos signed the round's result.
    Certified {
        /// The attempt that gave it.
        at: AttemptId,
        /// The votes.
        certificate: ResultCertificate,
    },
    /// A silo's own signatures prove it at fault: it is left out of the rest of the job.
    Guilty {
        /// The attempt that proved it.
        at: AttemptId,
        /// The silo.
        silo: SiloId,
        /// The proof.
        #[serde(with = "shared")]
        evidence: Arc<Evidence>,
    },
    /// A silo's journal went backwards (SA-07): it is left out of the rest of the job.
    Restored {
        /// The attempt that its advert was for.
        at: AttemptId,
        /// The silo.
        silo: SiloId,
    },
    /// How far each silo's journal was (SA-07), before the adverts that say so go; the newest one counts.
    Marks {
        /// Ascending by silo.
        marks: Vec<(SiloId, JournalMark)>,
    },
}

/// A round's sum with what proves whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredResult {
    /// The attempt that committed.
    pub at: AttemptId,
    /// H("bind"; T2).
    pub bind: Digest,
    /// U1, for the report.
    pub cohort: Vec<SiloId>,
    /// The survivors.
    pub list: SurvivorList,
    /// q COMMIT votes.
    pub commits: CommitCertificate,
    /// The rebuilt secrets, one per silo of U2, for the proof of the sum.
    pub secrets: Vec<OpenedSecret>,
    /// S, packed.
    #[serde(with = "payload")]
    pub sum: Payload,
}

impl StoredResult {
    /// P6: the result with its votes, or with what a silo checks it with before it votes.
    pub(super) fn envelope(
        &self,
        certificate: Option<ResultCertificate>,
        proof: Option<SumProof>,
        payload: Payload,
    ) -> Envelope<CoordinatorMessage> {
        let StoredResult { at, bind, list, commits, .. } = self;
        let (at, bind, list, commits) = (*at, *bind, list.clone(), commits.clone());
        let result = RoundResult { at, bind, list, commits, certificate, proof: proof.map(Box::new) };
        Envelope::with(CoordinatorMessage::Result(result), payload)
    }
}

/// An attempt past its commit point, as stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredAttempt {
    pub at: AttemptId,
    pub adverts: Vec<Advert>,
    pub dealings: Vec<Dealing>,
    pub masked: Vec<(MaskedHeader, Payload)>,
    pub list: Option<SurvivorList>,
    pub certificate: Option<CommitCertificate>,
}

/// Why a store cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("store record {position}: {problem}; restore the store from a backup or start the job afresh")]
pub struct StoreReplayError {
    /// Which record, from 1.
    pub position: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// What the records add up to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoreState {
    /// Results with their certificates, round by round; only the last may still lack its certificate.
    pub(crate) results: Vec<(Arc<StoredResult>, Option<ResultCertificate>)>,
    /// Silos proven at fault, with the attempt and the proof.
    pub(crate) guilty: Vec<(AttemptId, SiloId, Arc<Evidence>)>,
    /// Silos whose journals went backwards.
    pub(crate) restored: Vec<SiloId>,
    /// How far each silo's journal was.
    pub(crate) marks: Vec<(SiloId, JournalMark)>,
    /// The newest attempt of the round in progress.
    pub(crate) newest: Option<AttemptId>,
    /// Attempts of the round in progress that got as far as P3.
    pub(crate) exposed: Vec<u32>,
    /// Attempts of the round in progress that are proven abandoned.
    pub(crate) abandoned: Vec<(u32, AbandonCertificate)>,
    /// The newest attempt's own records.
    pub(crate) attempt: Option<StoredAttempt>,
}

impl StoreState {
    /// Replays a store from its first record.
    ///
    /// # Errors
    /// Names the first record that no run of the machine writes at that place.
    pub fn replay(records: impl IntoIterator<Item = StoreRecord>) -> Result<StoreState, StoreReplayError> {
        let mut state = StoreState::default();
        for (index, record) in records.into_iter().enumerate() {
            state.apply(record).map_err(|problem| StoreReplayError { position: index + 1, problem })?;
        }
        Ok(state)
    }

    /// Rounds with a certified result.
    pub fn rounds_done(&self) -> usize {
        self.results.iter().filter(|(_, certificate)| certificate.is_some()).count()
    }

    fn apply(&mut self, record: StoreRecord) -> Result<(), &'static str> {
        match record {
            StoreRecord::Opened { at } => {
                if self.newest.is_some_and(|newest| at <= newest) {
                    return Err("opens an attempt that is not new");
                }
                if self.newest.is_none_or(|newest| newest.round < at.round) {
                    self.exposed.clear();
                    self.abandoned.clear();
                }
                self.newest = Some(at);
                self.attempt = Some(StoredAttempt {
                    at,
                    adverts: Vec::new(),
                    dealings: Vec::new(),
                    masked: Vec::new(),
                    list: None,
                    certificate: None,
                });
            }
            StoreRecord::Adverts { at, adverts } => {
                note_marks(&mut self.marks, &adverts);
                self.open(at)?.adverts = adverts;
            }
            StoreRecord::Marks { marks } => self.marks = marks,
            StoreRecord::Dealing { at, dealing } => {
                raise_marks(&mut self.marks, |silo| silo == dealing.header.silo);
                self.open(at)?.dealings.push(dealing);
            }
            StoreRecord::Sharers { at } => {
                let guilty: Vec<SiloId> = self.guilty.iter().map(|(_, silo, _)| *silo).collect();
                let dealings = &mut self.open(at)?.dealings;
                // who was convicted while dealings came in is not in U2
                dealings.retain(|dealing| !guilty.contains(&dealing.header.silo));
                dealings.sort_by_key(|dealing| dealing.header.silo);
                self.exposed.push(at.attempt);
            }
            StoreRecord::Masked { at, header, payload } => {
                raise_marks(&mut self.marks, |silo| silo == header.silo);
                self.open(at)?.masked.push((header, payload));
            }
            StoreRecord::List { at, list } => self.open(at)?.list = Some(list),
            StoreRecord::Certificate { at, certificate } => {
                raise_marks(&mut self.marks, |silo| certificate.0.iter().any(|vote| vote.silo == silo));
                self.open(at)?.certificate = Some(certificate);
            }
            StoreRecord::Abandoned { at, certificate } => self.abandoned.push((at.attempt, certificate)),
            StoreRecord::Restored { silo, .. } => self.restored.push(silo),
            StoreRecord::Guilty { at, silo, evidence } => self.guilty.push((at, silo, evidence)),
            StoreRecord::Result(result) => {
                if result.at.round as usize != self.results.len() + 1
                    || self.results.last().is_some_and(|(_, certificate)| certificate.is_none())
                {
                    return Err("holds a result out of order");
                }
                self.results.push((Arc::new(result), None));
            }
            StoreRecord::Certified { at, certificate } => match self.results.last_mut() {
                Some((result, slot @ None)) if result.at == at => {
                    *slot = Some(certificate);
                    self.attempt = None;
                    // whoever joins the next round has adopted this one
                    raise_marks(&mut self.marks, |_| true);
                }
                _ => return Err("certifies a result that is not the last"),
            },
        }
        Ok(())
    }

    fn open(&mut self, at: AttemptId) -> Result<&mut StoredAttempt, &'static str> {
        self.attempt.as_mut().filter(|a| a.at == at).ok_or("belongs to an attempt that is not the newest")
    }
}

/// SA-07: these silos have each shown by what they sent that one more entry is in their journals. The head of the raised
/// mark is that of the shorter journal: an honest silo's next advert is longer still.
pub(super) fn raise_marks(marks: &mut [(SiloId, JournalMark)], of: impl Fn(SiloId) -> bool) {
    for (_, mark) in marks.iter_mut().filter(|(silo, _)| of(*silo)) {
        mark.length = mark.length.saturating_add(1);
    }
}

/// Takes over what the adverts say of their silos' journals.
pub(super) fn note_marks(marks: &mut Vec<(SiloId, JournalMark)>, adverts: &[Advert]) {
    marks.retain(|(silo, _)| !adverts.iter().any(|advert| advert.silo == *silo));
    marks.extend(adverts.iter().map(|advert| (advert.silo, advert.journal())));
    marks.sort_unstable_by_key(|(silo, _)| *silo);
}

/// What is shared, as what it is.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// Payloads as byte strings.
mod payload {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::message::Payload;

    pub fn serialize<S: Serializer>(payload: &Payload, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(payload)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Payload, D::Error> {
        // a sequence of bytes: bincode writes `serialize_bytes` and a sequence of u8 alike
        Vec::<u8>::deserialize(deserializer).map(Arc::new)
    }
}
