//! The stateless checks of P1 to P6: what a peer sent goes in, a verified type comes out.
//!
//! Contract: a verified type exists only if every check named in its function's documentation has passed, and the next step
//! asks for it, so that skipping a check does not compile. What needs memory of earlier messages (one advert, one y, one
//! vote per attempt: SA-07; no update twice: SA-13) belongs to the machines. Checks run from cheap to costly.

mod adverts;
mod evidence;
mod masked;
mod reveal;
mod shares;
mod sum;
mod votes;

pub use adverts::{VerifiedAdverts, advert, adverts};
pub use evidence::{Guilt, evidence};
pub use masked::{ClosedList, VerifiedList, VerifiedMasked, closed_list, masked, masked_header, survivor_list};
pub use reveal::{VerifiedReveal, mask_secret, reveal, self_secret};
pub use shares::{
    DeliveryError, VerifiedDealing, VerifiedHeader, VerifiedHeaders, complaint, complaints, dealing, delivery, header,
    headers, opening,
};
pub use sum::{ClaimedSum, VerifiedSum, opened_secrets, sketch, sum};
pub use votes::{
    VerifiedAbandon, VerifiedCertificate, VerifiedResult, abandon_certificate, abandon_vote, commit_certificate,
    commit_vote, result_certificate, result_vote,
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
#[error("{what} ({rule})")]
pub struct VerifyError {
    /// The invariant that it would break, for example `SA-05`.
    pub rule: &'static str,
    /// One plain sentence.
    pub what: String,
    /// The silo whose item it is. Where the item came through the coordinator, the coordinator may have altered it.
    pub blamed: Option<SiloId>,
}

impl VerifyError {
    /// Nobody but the sender of the whole message is to blame.
    pub(crate) fn new(rule: &'static str, what: impl Into<String>) -> VerifyError {
        VerifyError { rule, what: what.into(), blamed: None }
    }

    /// A silo's item is at fault; `what` continues a sentence about that silo.
    pub(crate) fn of(rule: &'static str, silo: SiloId, what: String) -> VerifyError {
        VerifyError { rule, what: format!("silo {silo}: {what}"), blamed: Some(silo) }
    }
}

/// Checks a silo's signature against the roster.
fn signed(
    rules: &Rules<'_>,
    rule: &'static str,
    silo: SiloId,
    label: Label,
    fields: &[&[u8]],
    signature: &Signature,
) -> Result<(), VerifyError> {
    let entry = member(rules, rule, silo)?;
    entry.identity.verify(label, rules.ctx, silo, fields, signature).map_err(|_| {
        let what = format!("its signature ({}) does not verify with the key that the roster pins", label.as_str());
        VerifyError::of(rule, silo, what)
    })
}

fn member<'a>(
    rules: &Rules<'a>,
    rule: &'static str,
    silo: SiloId,
) -> Result<&'a crate::roster::RosterEntry, VerifyError> {
    rules.roster.entry(silo).ok_or_else(|| VerifyError::of(rule, silo, "it is not in the roster".into()))
}

/// A list from the wire: between `least` and `most` entries, ascending by silo (so that none occurs twice).
fn list(
    rule: &'static str,
    what: &str,
    ids: impl ExactSizeIterator<Item = SiloId> + Clone,
    least: usize,
    most: usize,
) -> Result<(), VerifyError> {
    let length = ids.len();
    if !(least..=most).contains(&length) {
        return Err(VerifyError::new(rule, format!("{length} {what}, where {least} to {most} are admitted")));
    }
    match ids.clone().zip(ids.skip(1)).find(|(a, b)| a >= b) {
        Some((_, b)) => Err(VerifyError::of(rule, b, format!("it is repeated or out of order among the {what}"))),
        None => Ok(()),
    }
}
