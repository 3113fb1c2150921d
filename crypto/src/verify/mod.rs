//! The stateless checks of P1 to P6: what a peer sent goes in, a verified type comes out.
//!
//! Contract: a verified type exists only if every check named in its function's documentation has passed, and the next step
//! asks for it, so that skipping a check does not compile. What needs memory of earlier messages (one advert, one y, one
//! vote per attempt: SA-07; no update twice: SA-13) belongs to the machines, which have `verify` modules of their own.
//! Every check has a name ([`Check`]), under which tests switch it off. Checks run from cheap to costly.

mod adverts;
mod check;
mod evidence;
mod masked;
mod reveal;
mod shares;
mod sum;
mod votes;

pub use adverts::{VerifiedAdverts, advert, adverts};
pub use check::Check;
pub use evidence::{Guilt, evidence};
pub use masked::{ClosedList, VerifiedList, VerifiedMasked, closed_list, masked, masked_header, survivor_list};
pub use reveal::{VerifiedReveal, mask_secret, reveal, self_secret};
pub use shares::{
    DeliveryError, VerifiedDealing, VerifiedHeader, VerifiedHeaders, complaint, dealing, delivery, header, headers,
};
pub use sum::{ClaimedSum, VerifiedSum, opened_secrets, sketch, sum};
pub use votes::{
    VerifiedAbandon, VerifiedCertificate, VerifiedResult, abandon_certificate, abandon_vote, commit_certificate,
    commit_vote, own_list, result_certificate, result_vote,
};

use crate::hash::Digest;
use crate::identity::{Signature, SiloId};
use crate::labels::Label;
use crate::quorum::Quorum;
use crate::roster::Roster;

/// What every check of a session is made against: the pinned roster, `ctx`, and the quorums derived by the checker itself.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The pinned roster.
    pub roster: &'a Roster,
    /// Digest of the session's context, computed by the checker from what it holds itself.
    pub ctx: &'a Digest,
    /// Quorums, derived by the checker itself.
    pub quorum: &'a Quorum,
}

/// Something received breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({})", .check.rule())]
pub struct VerifyError {
    /// The check that it fails, and with it the invariant that it would break ([`Check::rule`]).
    pub check: Check,
    /// One plain sentence.
    pub what: String,
    /// The silo whose item it is. Where the item came through the coordinator, the coordinator may have altered it.
    pub blamed: Option<SiloId>,
}

impl VerifyError {
    /// Nobody but the sender of the whole message is to blame.
    pub fn new(check: Check, what: impl Into<String>) -> VerifyError {
        VerifyError { check, what: what.into(), blamed: None }
    }

    /// A silo's item is at fault; `what` continues a sentence about that silo.
    pub fn of(check: Check, silo: SiloId, what: String) -> VerifyError {
        VerifyError { check, what: format!("silo {silo}: {what}"), blamed: Some(silo) }
    }
}

/// Checks a silo's signature against the roster; a silo outside of it has no key.
fn signed(
    rules: &Rules<'_>,
    check: Check,
    silo: SiloId,
    label: Label,
    fields: &[&[u8]],
    signature: &Signature,
) -> Result<(), VerifyError> {
    let entry = rules.roster.entry(silo);
    let valid = entry.is_some_and(|e| e.identity.verify(label, rules.ctx, silo, fields, signature).is_ok());
    if check.finds(!valid) {
        let what = match entry {
            None => "it is not in the roster".into(),
            Some(_) => format!("its signature ({}) does not verify with the key that the roster pins", label.as_str()),
        };
        return Err(VerifyError::of(check, silo, what));
    }
    Ok(())
}

/// A list of silos from the wire: between `least` and `most` entries, ascending (so that none occurs twice).
fn list(
    what: &str,
    ids: impl ExactSizeIterator<Item = SiloId> + Clone,
    least: usize,
    most: usize,
) -> Result<(), VerifyError> {
    let bounds = [(Check::AtLeastM, least), (Check::AtMost, most)];
    bounded_list(what, ids, bounds, Check::DistinctSilos)
}

/// As [`list`], with the checks that its parts count as.
fn bounded_list(
    what: &str,
    ids: impl ExactSizeIterator<Item = SiloId> + Clone,
    [(at_least, least), (at_most, most)]: [(Check, usize); 2],
    distinct: Check,
) -> Result<(), VerifyError> {
    let length = ids.len();
    for (check, fault) in [(at_least, length < least), (at_most, length > most)] {
        if check.finds(fault) {
            return Err(VerifyError::new(check, format!("{length} {what}, where {least} to {most} are admitted")));
        }
    }
    match ids.clone().zip(ids.skip(1)).find(|(a, b)| a >= b) {
        Some((_, b)) if distinct.finds(true) => {
            Err(VerifyError::of(distinct, b, format!("it is repeated or out of order among the {what}")))
        }
        _ => Ok(()),
    }
}
