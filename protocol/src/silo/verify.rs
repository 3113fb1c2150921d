//! The checks of a silo's machine that need memory: of what it holds, what it joined, voted for and signed.
//!
//! Contract: pure functions of what the machine knows and of what came; they say why in a typed error and change nothing.
//! The stateless checks are [`blindsum_crypto::verify`]'s. Each condition has a name ([`Check`]), under which tests switch
//! it off.

use blindsum_crypto::verify::{self, Check, Rules, VerifiedAdverts, VerifiedSum, VerifyError};
use blindsum_crypto::{Context, Digest, SiloId, VerifySum, transcript};

use crate::message::{Abandoned, AttemptId, MaskedBack};
use crate::plan::{Plan, RoundKind};
use crate::silo::api::{HeldResult, SetupError};
use crate::silo::journal::{JournalEntry, JournalState, VotedResult};
use crate::step::Step;

/// Why a silo does not go along with what came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it opens round {opened}, but this silo holds {held} results")]
    Round { opened: u32, held: u32 },
    #[error("this silo adopted that round's result already and waits to be sent it again")]
    Adopted,
    #[error("attempts count from 1")]
    Zero,
    #[error("its {} differ from this silo's own; it is not the coordinator of this job", .0.join(", "))]
    Context(Vec<&'static str>),
    #[error("the attempt is not above all earlier ones")]
    NotAbove,
    #[error("its proof that attempt {attempt} is abandoned fails: {source}")]
    Proof { attempt: u32, source: VerifyError },
    #[error("this silo committed to it or was restarted since")]
    Abandon,
    #[error("it is the result of another survivor list than the one this silo committed to (SA-08)")]
    OtherList,
    #[error("its sum comes without proof (SA-16)")]
    NoProof,
    #[error("the proof of the sum belongs to another session (SA-16)")]
    OtherSession,
    #[error("the sum's canary counts {counted} silos where {survivors} survived: the sum is wrong")]
    Canary { counted: u32, survivors: usize },
    #[error("another result of this round was signed before")]
    SecondResult,
    #[error("what it handed back is not this silo's masked input (SA-04)")]
    NotOwnInput,
    #[error("it announced two sums of one attempt (SA-16)")]
    SecondSum,
}

/// SA-07, SA-13: an opening is of the round after the results held, which was not adopted before (with the adoption the
/// journal forgot in which attempts of the round an update went out).
pub(super) fn round(at: AttemptId, results_held: u32, adopted: Option<u32>) -> Result<(), Refusal> {
    if Check::OpenRound.finds(at.round != results_held.saturating_add(1)) {
        return Err(Refusal::Round { opened: at.round, held: results_held });
    }
    if Check::AdoptedRound.finds(adopted.is_some_and(|round| round >= at.round)) {
        return Err(Refusal::Adopted);
    }
    if at.attempt == 0 {
        return Err(Refusal::Zero);
    }
    Ok(())
}

/// SA-02, SA-14: every field of the opening is what this silo itself holds.
pub(super) fn context(own: &Context, offered: &Context) -> Result<(), Refusal> {
    let fields = [
        ("federation", own.federation_id == offered.federation_id),
        ("roster", (own.roster_hash, own.roster_version) == (offered.roster_hash, offered.roster_version)),
        ("job", own.job_digest == offered.job_digest),
        ("parameters", own.params_hash == offered.params_hash),
        ("previous result", own.previous_result_hash == offered.previous_result_hash),
        ("model", own.model_hash == offered.model_hash),
    ];
    if Check::OwnContext.finds(own != offered) {
        let differing = fields.into_iter().filter_map(|(name, same)| (!same).then_some(name));
        return Err(Refusal::Context(differing.collect()));
    }
    Ok(())
}

/// SA-07: the attempt is above all that the journal knows.
pub(super) fn above(at: AttemptId, newest: AttemptId) -> Result<(), Refusal> {
    if Check::AttemptAbove.finds(at <= newest) {
        return Err(Refusal::NotAbove);
    }
    Ok(())
}

/// SA-13: of the round's attempts in which a masked input went out (`masked`), those that `proofs` do not prove abandoned.
/// `rules` is for the context of an attempt, given by `ctx`.
pub(super) fn unproven(
    masked: &[u32],
    proofs: &[Abandoned],
    rules: Rules<'_>,
    ctx: impl Fn(u32) -> Digest,
) -> Result<Vec<u32>, Refusal> {
    let mut unproven = Vec::new();
    for &attempt in masked {
        match proofs.iter().find(|p| p.attempt == attempt) {
            Some(proof) => {
                let rules = Rules { ctx: &ctx(attempt), ..rules };
                verify::abandon_certificate(&rules, &proof.certificate)
                    .map_err(|source| Refusal::Proof { attempt, source })?;
            }
            None if Check::AbandonProof.finds(true) => unproven.push(attempt),
            None => {}
        }
    }
    Ok(unproven)
}

/// SA-13: whether an update went out in an attempt that may still give a sum, so that it must not go out again.
pub(super) fn spent(sent_in: &[u32], unproven: &[u32]) -> bool {
    Check::FreshUpdate.finds(sent_in.iter().any(|attempt| unproven.contains(attempt)))
}

/// SA-13: whether held-out counts go into the masked inputs of a session: only if all its silos add theirs, since a sum in
/// which one alone has counts shows them.
pub(super) fn counts_agreed(adverts: &VerifiedAdverts) -> bool {
    !Check::CountsAgreed.finds(adverts.adverts().iter().any(|advert| !advert.counts))
}

/// Why a journal admits no such entry; completes "a journal that …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Inadmissible {
    /// Its first entry says nothing of its owner.
    #[error("does not begin with whose journal it is")]
    NoOwner,
    /// Two beginnings.
    #[error("begins a second time")]
    SecondBegin,
    /// An attempt at or below the newest.
    #[error("joins an attempt that is not new")]
    NotNew,
    /// A masked input for another attempt than the last.
    #[error("masks for an attempt that was not joined last")]
    NotJoined,
    /// A masked input after the vote.
    #[error("masks after its vote")]
    MasksAfterVote,
    /// Two masked inputs.
    #[error("masks twice in one attempt")]
    MasksTwice,
    /// Two votes.
    #[error("votes twice in one attempt")]
    VotesTwice,
    /// COMMIT without a masked input.
    #[error("commits to an attempt without a masked input")]
    NoMaskedInput,
    /// Two results.
    #[error("signs a second result of one round, or an old one")]
    SecondResult,
}

/// SA-07: whether a journal in this state admits the entry.
pub(super) fn admits(state: &JournalState, entry: &JournalEntry) -> Result<(), Inadmissible> {
    use Inadmissible as No;
    let begins = matches!(entry, JournalEntry::Begin { .. });
    if Check::JournalOwner.finds(begins != state.owner.is_none()) {
        return Err(if begins { No::SecondBegin } else { No::NoOwner });
    }
    match entry {
        JournalEntry::Joined { at } if Check::JournalJoined.finds(*at <= state.newest) => Err(No::NotNew),
        JournalEntry::Masked { at } => {
            if Check::JournalMasked.finds(*at != state.joined || at.round != state.newest.round) {
                return Err(No::NotJoined);
            }
            if Check::JournalMaskedOnce.finds(state.has_voted(*at)) {
                return Err(No::MasksAfterVote);
            }
            if Check::JournalMaskedOnce.finds(state.masked.contains(&at.attempt)) {
                return Err(No::MasksTwice);
            }
            Ok(())
        }
        JournalEntry::Committed { at, .. } | JournalEntry::Abandoned { at, .. } => {
            if Check::JournalVote.finds(state.has_voted(*at)) {
                return Err(No::VotesTwice);
            }
            let commits = matches!(entry, JournalEntry::Committed { .. });
            let unmasked = at.round != state.newest.round || !state.masked.contains(&at.attempt);
            if Check::JournalCommit.finds(commits && unmasked) {
                return Err(No::NoMaskedInput);
            }
            Ok(())
        }
        JournalEntry::Result { at, .. } => {
            let signed = state.voted.as_ref().is_some_and(|v| v.at.round >= at.round);
            if Check::JournalResult.finds(signed) { Err(No::SecondResult) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// SA-07: a journal that has an owner is this job's, roster's and silo's.
pub(super) fn own_journal(journal: &JournalState, owner: &(Digest, Digest, SiloId)) -> Result<(), SetupError> {
    if Check::OwnJournal.finds(journal.owner.is_some_and(|found| found != *owner)) {
        return Err(SetupError::ForeignJournal);
    }
    Ok(())
}

/// SA-14: the kept adapter is the one that the journal says was adopted, or an older one: the silo may have stopped before
/// the adapter was kept, and the rest is fetched again. Gives the hash of the model that it makes.
pub(super) fn held_adapter(plan: &Plan, journal: &JournalState, kept: &HeldResult) -> Result<Digest, SetupError> {
    let wrong = Err(SetupError::Held(kept.round));
    if kept.global.len() != plan.state().len(kept.round) {
        return wrong;
    }
    let model_hash = plan.model_hash(&kept.global);
    let fits = journal.adopted.is_some_and(|(round, hash, model)| {
        round > kept.round || (round == kept.round && (hash, model) == (kept.result_hash, model_hash))
    });
    if !Check::HeldAdapter.finds(!fits) {
        return Ok(model_hash);
    }
    // An adapter is kept only after the journal has it: one that is newer says that the journal is not this silo's last.
    let known = journal.adopted.map(|(round, ..)| round);
    if known.is_none_or(|round| round < kept.round) {
        return Err(SetupError::JournalBehind { kept: kept.round, known });
    }
    wrong
}

/// SA-07: ABANDON is signed only where this process received the opening (after a restart it cannot know what it forgot)
/// and has not voted.
pub(super) fn abandon(seen: bool, voted: bool) -> Result<(), Refusal> {
    if Check::AbandonSeen.finds(!seen) || Check::AbandonUncommitted.finds(voted) {
        return Err(Refusal::Abandon);
    }
    Ok(())
}

/// SA-08: a result of the attempt that this silo committed in is that of the list it committed to.
pub(super) fn own_list(committed: Option<Digest>, t3: &Digest) -> Result<(), Refusal> {
    if Check::ResultOwnList.finds(committed.is_some_and(|own| own != *t3)) {
        return Err(Refusal::OtherList);
    }
    Ok(())
}

/// SA-16: a sum that q silos have not vouched for comes with what it is checked with, where the job asks for it.
pub(super) fn has_proof(proof: bool, certified: bool, plan: &Plan) -> Result<(), Refusal> {
    if Check::ProofRequired.finds(!proof && !certified && plan.verify_sum() != VerifySum::Off) {
        return Err(Refusal::NoProof);
    }
    Ok(())
}

/// SA-16: what was proven is the sum of the session that the result names.
pub(super) fn proof_of(verified: &VerifiedSum, bind: &Digest, t3: &Digest) -> Result<(), Refusal> {
    if Check::ProofSession.finds((verified.bind(), verified.t3()) != (*bind, *t3)) {
        return Err(Refusal::OtherSession);
    }
    Ok(())
}

/// SA-16: the canary, to which every survivor added one, counts the survivors.
pub(crate) fn canary(counted: u32, survivors: usize) -> Result<(), Refusal> {
    if Check::Canary.finds(counted as usize != survivors) {
        return Err(Refusal::Canary { counted, survivors });
    }
    Ok(())
}

/// SA-07, SA-14: a silo signs one result per round, ever; `true` where this very one was signed before.
pub(super) fn one_result(before: Option<&VotedResult>, step: &Step) -> Result<bool, Refusal> {
    let Some(v) = before else { return Ok(false) };
    let same = (v.at, v.result_hash, v.model_hash) == (step.at, step.result_hash, step.model_hash);
    if Check::OneResult.finds(!same) { Err(Refusal::SecondResult) } else { Ok(same) }
}

/// SA-04: what is handed back after a restart is the masked input whose hash stands, in this silo's name, in the list that
/// it voted for (`t3`).
pub(super) fn handed_back(back: &MaskedBack, packed: &[u8], t3: &Digest, me: SiloId) -> Result<(), Refusal> {
    let MaskedBack { bind, list } = back;
    if Check::BackList.finds(transcript::t3(bind, &list.0) != *t3) {
        return Err(Refusal::NotOwnInput);
    }
    let signed = list.0.iter().find(|m| m.silo == me).map(|m| m.hash);
    if Check::BackHash.finds(signed != Some(transcript::masked_hash(packed))) {
        return Err(Refusal::NotOwnInput);
    }
    Ok(())
}

/// SA-16: one sum per attempt gets a sketch.
pub(super) fn one_sum(made_for: Option<&Digest>, sum_hash: &Digest) -> Result<(), Refusal> {
    if Check::OneSum.finds(made_for.is_some_and(|first| first != sum_hash)) {
        return Err(Refusal::SecondSum);
    }
    Ok(())
}

/// What a round does, where the job has it.
pub(super) fn kind(plan: &Plan, round: u32) -> Result<RoundKind, String> {
    plan.kind(round).ok_or_else(|| format!("the job has no round {round}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sa13_only_an_update_that_went_out_unproven_is_spent() {
        assert!(!spent(&[], &[1, 2]), "it never went out");
        assert!(!spent(&[1], &[2]) && !spent(&[1], &[]));
        assert!(spent(&[3, 2], &[1, 2]));
    }

    #[test]
    fn sa02_an_opening_that_differs_says_in_which_field() {
        let d = |x| Digest([x; 32]);
        let own = Context {
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
        assert_eq!(context(&own, &own), Ok(()));
        for (field, offered) in [
            ("federation", Context { federation_id: "g".into(), ..own.clone() }),
            ("roster", Context { roster_hash: d(9), ..own.clone() }),
            ("roster", Context { roster_version: 2, ..own.clone() }),
            ("job", Context { job_digest: d(9), ..own.clone() }),
            ("parameters", Context { params_hash: d(9), ..own.clone() }),
            ("previous result", Context { previous_result_hash: d(9), ..own.clone() }),
            ("model", Context { model_hash: d(9), ..own.clone() }),
        ] {
            assert_eq!(context(&own, &offered), Err(Refusal::Context(vec![field])));
        }
    }

    #[test]
    fn sa07_rounds_and_attempts_at_their_bounds() {
        let at = |round, attempt| AttemptId { round, attempt };
        assert_eq!(round(at(3, 1), 2, Some(2)), Ok(()));
        assert_eq!(round(at(3, 1), 2, Some(3)), Err(Refusal::Adopted));
        assert_eq!(round(at(3, 1), 2, Some(4)), Err(Refusal::Adopted));
        assert_eq!(round(at(3, 0), 2, None), Err(Refusal::Zero));
        assert_eq!(round(at(2, 1), 2, None), Err(Refusal::Round { opened: 2, held: 2 }));
        assert_eq!(round(at(u32::MAX, 1), u32::MAX, None), Ok(()));
        assert_eq!(above(at(1, 2), at(1, 1)), Ok(()));
        assert_eq!(above(at(1, 2), at(1, 2)), Err(Refusal::NotAbove));
        assert_eq!(above(at(1, 9), at(2, 1)), Err(Refusal::NotAbove));
    }
}
