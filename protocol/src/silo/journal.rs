//! What a silo must never forget: the attempts it joined, what it sent and voted, and the reply that its vote implies.
//!
//! ```text
//! Begin → ( Joined → Peers → Masked → Committed | Abandoned )* → Result → Adopted → …
//! ```
//!
//! Contract: an entry is durable before anything that depends on it leaves the silo (SA-07). Entries form a hash chain;
//! its length and head travel in the silo's adverts, so that peers notice a journal restored from an old copy. The file
//! itself (framing, fsync, torn tail) is the silo service's.

use blindsum_crypto::{AbandonVote, CommitVote, Digest, Hasher, JournalMark, Label, PendingReveal, ResultVote, SiloId};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::message::AttemptId;
use crate::silo::verify::{self, Inadmissible};

/// One line of the journal. Encode with [`crate::codec::encode`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum JournalEntry {
    /// First entry: whose journal this is.
    Begin {
        /// Hash of the pinned roster.
        roster_hash: Digest,
        /// The job.
        job_digest: Digest,
        /// The silo.
        silo: SiloId,
    },
    /// An opening was accepted; before the advert is sent.
    Joined {
        /// The attempt: above all earlier ones.
        at: AttemptId,
    },
    /// How far each peer's journal was, from their adverts; before shares are sent.
    Peers {
        /// The peers' marks, ascending by silo.
        marks: Vec<(SiloId, JournalMark)>,
    },
    /// The masked input is about to go out (SA-13).
    Masked {
        /// The attempt.
        at: AttemptId,
    },
    /// Voted COMMIT; with the one reply that the vote implies.
    Committed {
        /// The attempt.
        at: AttemptId,
        /// The session's context.
        ctx: Digest,
        /// The vote.
        vote: CommitVote,
        /// The list voted on, and the reply: b-shares of survivors, s-shares of dropped.
        reply: PendingReveal,
    },
    /// Voted ABANDON.
    Abandoned {
        /// The attempt.
        at: AttemptId,
        /// The vote.
        vote: AbandonVote,
    },
    /// Signed a round's result.
    Result {
        /// The attempt that gave it.
        at: AttemptId,
        /// The result hash signed.
        result_hash: Digest,
        /// The model hash signed.
        model_hash: Digest,
        /// The vote.
        vote: ResultVote,
    },
    /// Adopted a certified result.
    Adopted {
        /// The attempt that gave it.
        at: AttemptId,
        /// Its result hash.
        result_hash: Digest,
        /// Hash of the model after it.
        model_hash: Digest,
    },
}

/// Why a journal cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("journal entry {position}: {problem}; do not edit a journal, and never restore it from an old copy")]
pub struct JournalReplayError {
    /// Which entry, from 1.
    pub position: u64,
    /// What is wrong.
    pub problem: Inadmissible,
}

/// A COMMIT vote with its reply, as journaled.
#[derive(Debug, Clone, PartialEq)]
pub struct CommittedAttempt {
    /// The attempt.
    pub at: AttemptId,
    /// The session's context.
    pub ctx: Digest,
    /// The vote.
    pub vote: CommitVote,
    /// The list voted on, and the reply.
    pub reply: PendingReveal,
}

/// A RESULT vote, as journaled.
#[derive(Debug, Clone, PartialEq)]
pub struct VotedResult {
    /// The attempt that gave the result.
    pub at: AttemptId,
    /// The result hash signed.
    pub result_hash: Digest,
    /// The model hash signed.
    pub model_hash: Digest,
    /// The vote.
    pub vote: ResultVote,
}

/// What the entries add up to.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalState {
    pub(crate) mark: JournalMark,
    pub(crate) owner: Option<(Digest, Digest, SiloId)>,
    /// The newest attempt joined, voted on or abandoned.
    pub(crate) newest: AttemptId,
    /// The newest attempt joined.
    pub(crate) joined: AttemptId,
    pub(crate) peers: Vec<(SiloId, JournalMark)>,
    /// Attempts of the current round in which y went out.
    pub(crate) masked: Vec<u32>,
    /// The newest COMMIT vote of a round not yet adopted.
    pub(crate) committed: Option<CommittedAttempt>,
    /// Attempts of the current round with a COMMIT vote.
    pub(crate) commits: Vec<AttemptId>,
    /// ABANDON votes of the current round.
    pub(crate) abandoned: Vec<(AttemptId, AbandonVote)>,
    /// The RESULT vote of a round not yet adopted.
    pub(crate) voted: Option<VotedResult>,
    /// Round, result hash and model hash last adopted.
    pub(crate) adopted: Option<(u32, Digest, Digest)>,
}

impl Default for JournalState {
    fn default() -> Self {
        Self {
            mark: JournalMark { length: 0, head: Hasher::new(Label::Journal).finish() },
            owner: None,
            newest: AttemptId { round: 0, attempt: 0 },
            joined: AttemptId { round: 0, attempt: 0 },
            peers: Vec::new(),
            masked: Vec::new(),
            committed: None,
            commits: Vec::new(),
            abandoned: Vec::new(),
            voted: None,
            adopted: None,
        }
    }
}

impl JournalState {
    /// Replays a journal from its first entry.
    ///
    /// # Errors
    /// Names the first entry that no run of the machine writes at that place.
    pub fn replay<'a>(entries: impl IntoIterator<Item = &'a JournalEntry>) -> Result<JournalState, JournalReplayError> {
        let mut state = JournalState::default();
        for entry in entries {
            state.apply(entry).map_err(|problem| JournalReplayError { position: state.mark.length + 1, problem })?;
        }
        Ok(state)
    }

    /// Number of entries.
    pub fn len(&self) -> u64 {
        self.mark.length
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.mark.length == 0
    }

    /// Hash over all entries.
    pub fn head(&self) -> Digest {
        self.mark.head
    }

    /// Adds an entry; the state is unchanged on error.
    pub(crate) fn apply(&mut self, entry: &JournalEntry) -> Result<(), Inadmissible> {
        verify::admits(self, entry)?;
        match entry {
            JournalEntry::Begin { roster_hash, job_digest, silo } => {
                self.owner = Some((*roster_hash, *job_digest, *silo));
            }
            JournalEntry::Joined { at } => {
                self.advance(*at);
                self.joined = *at;
            }
            JournalEntry::Peers { marks } => self.note_peers(marks),
            JournalEntry::Masked { at } => self.masked.push(at.attempt),
            JournalEntry::Committed { at, ctx, vote, reply } => {
                // SA-07: whoever survived wrote Peers and Masked since its advert
                self.raise_peers(2, |silo| reply.survivors().contains(&silo));
                self.commits.push(*at);
                self.committed = Some(CommittedAttempt { at: *at, ctx: *ctx, vote: *vote, reply: reply.clone() });
            }
            JournalEntry::Abandoned { at, vote } => {
                self.advance(*at);
                self.abandoned.push((*at, *vote));
            }
            JournalEntry::Result { at, result_hash, model_hash, vote } => {
                let (at, result_hash, model_hash, vote) = (*at, *result_hash, *model_hash, *vote);
                self.voted = Some(VotedResult { at, result_hash, model_hash, vote });
            }
            JournalEntry::Adopted { at, result_hash, model_hash } => {
                // whoever joins the next round has adopted this one
                self.raise_peers(1, |_| true);
                self.adopted = Some((at.round, *result_hash, *model_hash));
                self.committed = self.committed.take().filter(|c| c.at.round > at.round);
                self.voted = self.voted.take().filter(|v| v.at.round > at.round);
                if self.newest.round <= at.round {
                    self.forget_round();
                }
            }
        }
        let encoded = codec::canonical(entry);
        self.mark.head = Hasher::new(Label::Journal).digest(&self.mark.head).field(&encoded).finish();
        self.mark.length += 1;
        Ok(())
    }

    pub(crate) fn has_voted(&self, at: AttemptId) -> bool {
        self.commits.contains(&at) || self.abandon_vote(at).is_some()
    }

    pub(crate) fn abandon_vote(&self, at: AttemptId) -> Option<&AbandonVote> {
        self.abandoned.iter().find(|(a, _)| *a == at).map(|(_, vote)| vote)
    }

    fn advance(&mut self, at: AttemptId) {
        if at.round > self.newest.round {
            self.forget_round();
        }
        self.newest = self.newest.max(at);
    }

    fn forget_round(&mut self) {
        self.masked.clear();
        self.commits.clear();
        self.abandoned.clear();
    }

    /// These peers' journals are known to have grown by `entries`. An honest peer's next advert is longer still, so that
    /// the head, which is that of the shorter journal, is never taken for this one's.
    fn raise_peers(&mut self, entries: u64, of: impl Fn(SiloId) -> bool) {
        for (_, mark) in self.peers.iter_mut().filter(|(silo, _)| of(*silo)) {
            mark.length = mark.length.saturating_add(entries);
        }
    }

    fn note_peers(&mut self, marks: &[(SiloId, JournalMark)]) {
        for (silo, mark) in marks {
            match self.peers.iter_mut().find(|(s, _)| s == silo) {
                Some((_, known)) => *known = *mark,
                None => self.peers.push((*silo, *mark)),
            }
        }
    }
}
