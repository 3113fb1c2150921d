//! P3 and P4: checks on masked inputs and on the survivor list.

use super::{Check, Rules, VerifiedHeaders, VerifyError, list, signed};
use crate::commit::SurvivorList;
use crate::hash::Digest;
use crate::identity::SiloId;
use crate::labels::Label;
use crate::masked::MaskedHeader;
use crate::packing;
use crate::params::Params;
use crate::transcript;

/// A masked input whose signed hash, length and padding are right.
#[derive(Debug, Clone, Copy)]
pub struct VerifiedMasked<'a> {
    header: MaskedHeader,
    packed: &'a [u8],
}

impl<'a> VerifiedMasked<'a> {
    /// Its signed hash.
    pub fn header(&self) -> &MaskedHeader {
        &self.header
    }

    /// y, packed.
    pub fn packed(&self) -> &'a [u8] {
        self.packed
    }
}

/// SA-04, SA-05, SA-14: the signed hash of a masked input: its silo is in U2 and signed under this bind.
///
/// # Errors
/// [`VerifyError`] blaming the silo.
pub fn masked_header(rules: &Rules<'_>, header: &MaskedHeader, headers: &VerifiedHeaders) -> Result<(), VerifyError> {
    if Check::MaskedDealt.finds(headers.get(header.silo).is_none()) {
        let what = "it has a masked input without having dealt shares".into();
        return Err(VerifyError::of(Check::MaskedDealt, header.silo, what));
    }
    let fields: [&[u8]; 2] = [&headers.bind().0, &header.hash.0];
    signed(rules, Check::MaskedSignature, header.silo, Label::Masked, &fields, &header.signature)
}

/// SA-04, SA-12: a masked input as it reaches the coordinator: exact length and zero padding by the parameters, the bytes
/// hash to what was signed, and [`masked_header`].
///
/// # Errors
/// [`VerifyError`] blaming the silo.
pub fn masked<'a>(
    rules: &Rules<'_>,
    header: MaskedHeader,
    packed: &'a [u8],
    params: &Params,
    headers: &VerifiedHeaders,
) -> Result<VerifiedMasked<'a>, VerifyError> {
    packing::check(params, packed).map_err(|e| VerifyError::of(e.check(), header.silo, e.to_string()))?;
    if Check::MaskedHash.finds(transcript::masked_hash(packed) != header.hash) {
        let what = "its masked input does not have the hash that it signed".into();
        return Err(VerifyError::of(Check::MaskedHash, header.silo, what));
    }
    masked_header(rules, &header, headers)?;
    Ok(VerifiedMasked { header, packed })
}

/// U3 and D = U2 \ U3, from a checked survivor list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedList {
    t3: Digest,
    survivors: Vec<SiloId>,
    dropped: Vec<SiloId>,
    list: SurvivorList,
}

impl VerifiedList {
    /// T3.
    pub fn t3(&self) -> Digest {
        self.t3
    }

    /// U3 in order.
    pub fn survivors(&self) -> &[SiloId] {
        &self.survivors
    }

    /// D in order.
    pub fn dropped(&self) -> &[SiloId] {
        &self.dropped
    }

    /// The list itself.
    pub fn list(&self) -> &SurvivorList {
        &self.list
    }
}

/// SA-04, SA-05: a survivor list: m to |U2| entries, ascending ids of U2, every signature under this bind, and `own` (a
/// silo's own masked header; the coordinator has none) among them as sent.
///
/// # Errors
/// [`VerifyError`], blaming a silo where one entry is at fault.
pub fn survivor_list(
    rules: &Rules<'_>,
    survivors: SurvivorList,
    headers: &VerifiedHeaders,
    own: Option<&MaskedHeader>,
) -> Result<VerifiedList, VerifyError> {
    let entries = &survivors.0;
    let (least, most) = (usize::from(rules.quorum.m), headers.headers().len());
    list("survivors", entries.iter().map(|m| m.silo), least, most)?;
    let is_own = |own: &MaskedHeader| entries.iter().any(|m| m.silo == own.silo && m.hash == own.hash);
    if Check::OwnMasked.finds(own.is_some_and(|own| !is_own(own))) {
        return Err(VerifyError::new(
            Check::OwnMasked,
            "this silo's own masked input is missing from the survivor list",
        ));
    }
    entries.iter().try_for_each(|m| masked_header(rules, m, headers))?;
    let ids: Vec<SiloId> = entries.iter().map(|m| m.silo).collect();
    let dropped = headers.ids().filter(|id| ids.binary_search(id).is_err()).collect();
    let t3 = transcript::t3(&headers.bind(), entries);
    Ok(VerifiedList { t3, survivors: ids, dropped, list: survivors })
}

/// U3 of a finished attempt, as a silo that did not take part in it can check it. It releases nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedList {
    t3: Digest,
    survivors: Vec<SiloId>,
}

impl ClosedList {
    /// T3.
    pub fn t3(&self) -> Digest {
        self.t3
    }

    /// U3 in order.
    pub fn survivors(&self) -> &[SiloId] {
        &self.survivors
    }
}

/// SA-05: the survivor list of a finished attempt, for a latecomer that has neither its adverts nor its headers: m to n
/// entries, ascending ids of the roster, every signature under `ctx` and the claimed bind. Honest survivors signed only
/// under the bind that they saw themselves; the commit certificate over the T3 that this gives says the rest.
///
/// # Errors
/// [`VerifyError`], blaming a silo where one entry is at fault.
pub fn closed_list(rules: &Rules<'_>, bind: &Digest, survivors: &SurvivorList) -> Result<ClosedList, VerifyError> {
    let entries = &survivors.0;
    let least = usize::from(rules.quorum.m);
    list("survivors", entries.iter().map(|m| m.silo), least, rules.roster.len())?;
    for m in entries {
        let fields: [&[u8]; 2] = [&bind.0, &m.hash.0];
        signed(rules, Check::MaskedSignature, m.silo, Label::Masked, &fields, &m.signature)?;
    }
    let ids = entries.iter().map(|m| m.silo).collect();
    Ok(ClosedList { t3: transcript::t3(bind, entries), survivors: ids })
}
