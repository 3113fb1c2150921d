//! The checks of the coordinator's machine that need memory: who sent what, and what it sent before.
//!
//! Contract: pure functions; they blame the silo at fault and change nothing. The stateless checks are
//! [`blindsum_crypto::verify`]'s. Each condition has a name ([`Check`]), under which tests switch it off.

use std::collections::BTreeMap;

use blindsum_crypto::verify::{Check, VerifyError};
use blindsum_crypto::{Complaint, Digest, SiloId};

use crate::coordinator::api::DisconnectReason;
use crate::message::Hello;
use crate::plan::Plan;

/// Dealer → who complains about it, and how.
pub(super) type ComplaintsByDealer = BTreeMap<SiloId, BTreeMap<SiloId, Complaint>>;

/// SA-01: a message comes from the silo that it names.
pub(super) fn same(sender: SiloId, named: SiloId) -> Result<(), VerifyError> {
    if Check::SameSender.finds(sender != named) {
        let what = format!("it sent a message in the name of silo {named}");
        return Err(VerifyError::of(Check::SameSender, sender, what));
    }
    Ok(())
}

/// SA-07: the second message of a kind is fine if it repeats the first (after a reconnect); it changes nothing then.
pub(super) fn second(silo: SiloId, repeated: bool, what: &str) -> Result<bool, VerifyError> {
    if Check::OneMessage.finds(!repeated) {
        let what = format!("it sent a second, different {what} in one attempt");
        return Err(VerifyError::of(Check::OneMessage, silo, what));
    }
    Ok(false)
}

/// SA-07: COMMIT or ABANDON, never both; a silo of which one is known has just sent the other.
pub(super) fn both_votes(silo: SiloId) -> Result<bool, VerifyError> {
    if Check::OneVote.finds(true) {
        let what = "it voted both COMMIT and ABANDON in one attempt".into();
        return Err(VerifyError::of(Check::OneVote, silo, what));
    }
    Ok(false)
}

/// SA-03: a dealer with more than c complainers: at least one of them is honest, and honest silos complain only about
/// dealers that broke the rules.
pub(super) fn convicted(complaints: &ComplaintsByDealer, c: u16) -> Option<SiloId> {
    let convicts = |by: &BTreeMap<SiloId, Complaint>| Check::ComplaintsConvict.finds(by.len() > usize::from(c));
    complaints.iter().find(|(_, by)| convicts(by)).map(|(dealer, _)| *dealer)
}

/// SA-09: a dealer of whose shares fewer than t survivors hold good ones: its secret could not be rebuilt.
pub(super) fn too_few_shares(complaints: &ComplaintsByDealer, survivors: &[SiloId], t: u16) -> Option<SiloId> {
    let good = |by: &BTreeMap<SiloId, Complaint>| survivors.iter().filter(|id| !by.contains_key(id)).count();
    let lacks = |by: &BTreeMap<SiloId, Complaint>| Check::EnoughGoodShares.finds(good(by) < usize::from(t));
    complaints.iter().find(|(_, by)| lacks(by)).map(|(dealer, _)| *dealer)
}

/// SA-01, SA-02, SA-14: a silo is of this roster and job, and what it holds is a beginning of this history (`hashes`: the
/// result hash after each round, at 0 the job digest).
pub(super) fn hello(hello: &Hello, plan: &Plan, hashes: &[Digest]) -> Result<(), DisconnectReason> {
    if Check::HelloRoster.finds(hello.roster_hash != plan.roster_hash()) {
        return Err(DisconnectReason::OtherRoster(hello.roster_hash));
    }
    if Check::HelloJob.finds(hello.job_digest != plan.job_digest()) {
        return Err(DisconnectReason::OtherJob(hello.job_digest));
    }
    if Check::HelloHistory.finds(hashes.get(hello.results_held as usize) != Some(&hello.result_hash)) {
        return Err(DisconnectReason::OtherHistory(hello.results_held));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindsum_crypto::Signature;

    fn ids(silos: impl IntoIterator<Item = u16>) -> Vec<SiloId> {
        silos.into_iter().map(SiloId).collect()
    }

    /// Silos 1 to `count` complain about silo 7; one complains about silo 8.
    fn complaints(count: u16) -> ComplaintsByDealer {
        let by = |dealer: u16, silos: Vec<SiloId>| {
            let complaint = |silo| Complaint {
                silo,
                dealer: SiloId(dealer),
                ciphertext: Digest([0; 32]),
                signature: Signature([0; 64]),
            };
            (SiloId(dealer), silos.into_iter().map(|silo| (silo, complaint(silo))).collect())
        };
        [by(7, ids(1..=count)), by(8, ids([1]))].into()
    }

    #[test]
    fn sa03_more_than_c_complainers_convict_and_c_do_not() {
        for c in 1..5 {
            assert_eq!(convicted(&complaints(c), c), None);
            assert_eq!(convicted(&complaints(c + 1), c), Some(SiloId(7)));
        }
        assert_eq!(convicted(&ComplaintsByDealer::new(), 0), None);
    }

    #[test]
    fn sa09_t_survivors_with_good_shares_are_enough_and_one_less_is_not() {
        let survivors = ids(0..9);
        assert_eq!(too_few_shares(&complaints(4), &survivors, 5), None);
        assert_eq!(too_few_shares(&complaints(5), &survivors, 5), Some(SiloId(7)));
        // complaints of silos that are gone take no share away
        assert_eq!(too_few_shares(&complaints(4), &survivors[5..], 4), None);
    }

    #[test]
    fn sa07_a_repeated_message_changes_nothing() {
        assert_eq!(second(SiloId(1), true, "advert"), Ok(false));
        assert!(second(SiloId(1), false, "advert").is_err());
    }
}
