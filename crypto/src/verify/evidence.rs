//! Evidence, checked by anybody: whether it proves a silo at fault, and which.
//!
//! Contract: nothing counts here that the silo at fault did not sign itself, with one exception that rests on the number of
//! colluders (complaints). A silo that kept to the protocol signed one message of each kind per attempt, saw one transcript,
//! and dealt on one polynomial; so whatever the coordinator and colluding silos put together, no function here names it.

use super::{
    Check, Rules, VerifyError, abandon_vote, adverts, bounded_list, complaint, header, headers, list, mask_secret,
    result_vote, signed, survivor_list,
};
use crate::advert::Advert;
use crate::commit::CommitVote;
use crate::evidence::{
    BadReveal, Complaints, Evidence, FalseSketch, Fault, OffPolynomial, Over, SignedPair, SumSketch, Transcript,
    is_well_formed,
};
use crate::hash::Digest;
use crate::identity::{Signature, SiloId};
use crate::labels::Label;
use crate::masked::MaskedHeader;
use crate::merkle;
use crate::reveal::{Reveal, shares_hash};
use crate::shamir::{self, ShamirError, Share};
use crate::share::{ShareHeader, ShareKind, self_commitment};
use crate::sketch::{self, values_hash};
use crate::transcript;

/// Threads for the subset sums of one masked input.
const THREADS: usize = 4;

/// What evidence has proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guilt {
    /// The silo at fault.
    pub silo: SiloId,
    /// The check that its deed fails, and with it the invariant that it broke ([`Check::rule`]).
    pub check: Check,
    /// What it did; continues a sentence about that silo.
    pub what: String,
}

impl Guilt {
    fn of(silo: SiloId, check: Check, what: impl Into<String>) -> Guilt {
        Guilt { silo, check, what: what.into() }
    }
}

/// Names the silo that evidence proves at fault. `rules.ctx` must be the digest of the evidence's own context, whose roster
/// is checked here; whether its job is the one that `rules.quorum` was derived from must be checked by the caller.
///
/// # Errors
/// [`VerifyError`] with nobody blamed: it proves nothing.
pub fn evidence(rules: &Rules<'_>, evidence: &Evidence) -> Result<Guilt, VerifyError> {
    let found = same_session(rules, evidence).and_then(|()| match &evidence.fault {
        Fault::TwoAdverts(two) => two_adverts(rules, two),
        Fault::TwoHeaders(two) => two_headers(rules, two),
        Fault::TwoMaskedInputs(two) => two_masked_inputs(rules, two),
        Fault::TwoCommits(two) => {
            let [first, second] = two.as_ref();
            let silo = one_signer(first.message.silo, second.message.silo)?;
            two.iter().try_for_each(|commit| commit_signature(rules, commit))?;
            different(first.over != second.over)?;
            Ok(Guilt::of(silo, Check::OneVote, "it committed to two survivor lists in one attempt"))
        }
        Fault::CommitAndAbandon { commit, abandon } => {
            let silo = one_signer(commit.message.silo, abandon.silo)?;
            commit_signature(rules, commit)?;
            abandon_vote(rules, abandon)?;
            Ok(Guilt::of(silo, Check::OneVote, "it voted both COMMIT and ABANDON in one attempt"))
        }
        Fault::TwoReveals(two) => two_reveals(rules, two),
        Fault::TwoSketches(two) => two_sketches(rules, two),
        Fault::TwoResults(two) => {
            let [first, second] = two.as_ref();
            let silo = one_signer(first.vote.silo, second.vote.silo)?;
            for r in two.iter() {
                result_vote(rules, &r.vote, &r.result_hash, &r.next_model_hash)?;
            }
            let hashes = |i: usize| (two[i].result_hash, two[i].next_model_hash);
            different(hashes(0) != hashes(1))?;
            Ok(Guilt::of(silo, Check::OneMessage, "it signed two results of one attempt"))
        }
        Fault::BadReveal(bad) => bad_reveal(rules, bad),
        Fault::OffPolynomial(off) => off_polynomial(rules, off),
        Fault::Complaints(complaints) => too_many_complaints(rules, complaints),
        Fault::FalseSketch(sketch) => false_sketch(rules, sketch, evidence),
    });
    found.map_err(|e| VerifyError { blamed: None, what: format!("this proves nothing: {}", e.what), ..e })
}

/// SA-01, SA-02: the session is one of this roster, and of these rules.
fn same_session(rules: &Rules<'_>, evidence: &Evidence) -> Result<(), VerifyError> {
    let (context, roster) = (&evidence.context, rules.roster);
    let pinned = context.federation_id == roster.federation_id()
        && (context.roster_hash, context.roster_version) == (roster.hash(), roster.version());
    if Check::EvidenceRoster.finds(!pinned || roster.len() != usize::from(rules.quorum.n)) {
        return Err(VerifyError::new(Check::EvidenceRoster, "it is about a session of another roster"));
    }
    if Check::EvidenceSession.finds(context.digest() != *rules.ctx) {
        return Err(VerifyError::new(Check::EvidenceSession, "it is about another session"));
    }
    Ok(())
}

/// A signature that convicts whoever made it.
fn own(
    rules: &Rules<'_>,
    silo: SiloId,
    label: Label,
    fields: &[&[u8]],
    signature: &Signature,
) -> Result<(), VerifyError> {
    signed(rules, Check::EvidenceSignature, silo, label, fields, signature)
}

/// The silo that is said to have signed both.
fn one_signer(first: SiloId, second: SiloId) -> Result<SiloId, VerifyError> {
    if Check::EvidenceSigner.finds(first != second) {
        return Err(VerifyError::new(Check::EvidenceSigner, "its two messages name different silos"));
    }
    Ok(first)
}

/// An honest silo repeats messages, byte for byte; so two that say the same prove nothing.
fn different(are: bool) -> Result<(), VerifyError> {
    if Check::EvidenceDiffers.finds(!are) {
        return Err(VerifyError::new(
            Check::EvidenceDiffers,
            "its two messages say the same, as a repeated message may",
        ));
    }
    Ok(())
}

fn commit_signature(rules: &Rules<'_>, Over { over, message }: &Over<CommitVote>) -> Result<(), VerifyError> {
    own(rules, message.silo, Label::Commit, &[&over.0], &message.signature)
}

fn two_adverts(rules: &Rules<'_>, two: &[Advert; 2]) -> Result<Guilt, VerifyError> {
    let silo = one_signer(two[0].silo, two[1].silo)?;
    let lengths = [two[0].journal_length.to_le_bytes(), two[1].journal_length.to_le_bytes()];
    let fields = [two[0].fields(&lengths[0]), two[1].fields(&lengths[1])];
    for (advert, fields) in two.iter().zip(&fields) {
        own(rules, advert.silo, Label::Advert, fields, &advert.signature)?;
    }
    different(fields[0] != fields[1])?;
    Ok(Guilt::of(silo, Check::OneMessage, "it signed two different adverts in one attempt"))
}

fn two_headers(rules: &Rules<'_>, two: &[Over<ShareHeader>; 2]) -> Result<Guilt, VerifyError> {
    let silo = one_signer(two[0].message.silo, two[1].message.silo)?;
    let fields = |i: usize| {
        let Over { over, message } = &two[i];
        [&over.0[..], &message.root.0, &message.commitment_b.0]
    };
    for (i, Over { message, .. }) in two.iter().enumerate() {
        own(rules, message.silo, Label::ShareHeader, &fields(i), &message.signature)?;
    }
    different(fields(0) != fields(1))?;
    Ok(Guilt::of(silo, Check::OneMessage, "it signed two different share headers in one attempt"))
}

fn two_masked_inputs(rules: &Rules<'_>, two: &[Over<MaskedHeader>; 2]) -> Result<Guilt, VerifyError> {
    let silo = one_signer(two[0].message.silo, two[1].message.silo)?;
    two.iter().try_for_each(|header| masked_signature(rules, header))?;
    let said = |i: usize| (two[i].over, two[i].message.hash);
    different(said(0) != said(1))?;
    Ok(Guilt::of(silo, Check::OneMessage, "it signed two different masked inputs in one attempt"))
}

fn masked_signature(rules: &Rules<'_>, header: &Over<MaskedHeader>) -> Result<(), VerifyError> {
    let Over { over, message } = header;
    own(rules, message.silo, Label::Masked, &[&over.0, &message.hash.0], &message.signature)
}

fn two_reveals(rules: &Rules<'_>, two: &[Over<Reveal>; 2]) -> Result<Guilt, VerifyError> {
    let silo = one_signer(two[0].message.silo, two[1].message.silo)?;
    two.iter().try_for_each(|Over { over, message }| reveal_signature(rules, message, over))?;
    let said = |i: usize| (two[i].over, &two[i].message.shares);
    different(said(0) != said(1))?;
    Ok(Guilt::of(silo, Check::OneMessage, "it signed two different replies in one attempt"))
}

fn reveal_signature(rules: &Rules<'_>, reveal: &Reveal, t3: &Digest) -> Result<(), VerifyError> {
    let fields: [&[u8]; 2] = [&t3.0, &shares_hash(&reveal.shares).0];
    own(rules, reveal.silo, Label::Reveal, &fields, &reveal.signature)
}

/// A silo that was restarted may be told of another sum and sketch its masked input for it; but it has one survivor list,
/// and its masked input has one sketch per sum.
fn two_sketches(rules: &Rules<'_>, two: &[SumSketch; 2]) -> Result<Guilt, VerifyError> {
    let [first, second] = two;
    let silo = one_signer(first.sketch.silo, second.sketch.silo)?;
    two.iter().try_for_each(|sketch| sketch_signature(rules, sketch))?;
    if Check::EvidenceOneSum.finds(first.t3 == second.t3 && first.sum_hash != second.sum_hash) {
        return Err(VerifyError::new(
            Check::EvidenceOneSum,
            "its two sketches are for two sums, as a restarted silo may be asked for",
        ));
    }
    different(first.t3 != second.t3 || first.sketch.values != second.sketch.values)?;
    Ok(Guilt::of(silo, Check::OneSum, "it signed two different sketches of one masked input"))
}

fn sketch_signature(rules: &Rules<'_>, SumSketch { t3, sum_hash, sketch }: &SumSketch) -> Result<(), VerifyError> {
    let fields: [&[u8]; 3] = [&t3.0, &sum_hash.0, &values_hash(&sketch.values).0];
    own(rules, sketch.silo, Label::Sketch, &fields, &sketch.signature)
}

/// SA-05, SA-06, SA-09: the holder signed T3, so the transcript that leads to this T3 is the one that it saw. A share that
/// does not open the leaf that stands there for it is then none that an honest holder can have kept.
fn bad_reveal(rules: &Rules<'_>, bad: &BadReveal) -> Result<Guilt, VerifyError> {
    let BadReveal { transcript: Transcript { adverts: u1, headers: u2, list: u3 }, reveal, dealt } = bad;
    let holder = reveal.silo;
    // hashes first: the holder's signature costs less than all the others
    let t1 = transcript::t1(rules.ctx, u1);
    let t3 = transcript::t3(&transcript::bind(&transcript::t2(&t1, u2)), &u3.0);
    reveal_signature(rules, reveal, &t3)?;
    let adverts = adverts(rules, u1.clone(), None, &[])?;
    let headers = headers(rules, u2.clone(), &adverts, None)?;
    let survivors = survivor_list(rules, u3.clone(), &headers, None)?;
    let well_formed = is_well_formed(reveal, &survivors);
    let Some(dealt) = dealt else {
        if Check::EvidenceForm.finds(well_formed) {
            return Err(VerifyError::new(Check::EvidenceForm, "the reply has the form that its list implies"));
        }
        return Ok(Guilt::of(
            holder,
            Check::RevealKind,
            "its reply holds other shares than the list that it committed to implies",
        ));
    };
    if !well_formed {
        return Err(VerifyError::new(
            Check::EvidenceForm,
            "a dealt pair stands beside a reply whose form is wrong already",
        ));
    }
    let dealer = dealt.dealer;
    let share = reveal.shares.iter().find(|share| share.peer() == dealer);
    let (Some(share), Some(header)) = (share, headers.get(dealer)) else {
        return Err(VerifyError::new(Check::EvidenceLeaf, "the reply holds no share of the dealer in question"));
    };
    under_root(&dealt.pair, holder, adverts.position(holder), adverts.adverts().len(), header)?;
    let kind = share.kind();
    if Check::EvidenceLeaf.finds(share.opening().leaf(&t1, dealer, holder, kind) == dealt.pair.leaves.of(kind)) {
        return Err(VerifyError::new(Check::EvidenceLeaf, "the share is the one that was dealt"));
    }
    let what = format!("its reply holds a share of silo {dealer} that is not the one that it was dealt");
    Ok(Guilt::of(holder, Check::RevealLeaf, what))
}

/// SA-03: a pair lies under a dealer's root at its recipient's own place. Without the place a dealer could plant a second
/// pair for somebody at the place of a colluder.
fn under_root(
    pair: &SignedPair,
    recipient: SiloId,
    place: Option<usize>,
    of: usize,
    header: &ShareHeader,
) -> Result<(), VerifyError> {
    let leaf = pair.leaves.pair_hash_over(recipient, &pair.ciphertext);
    let root = place.and_then(|place| merkle::root_of_path(leaf, place, of, &pair.path));
    if Check::EvidencePlace.finds(root != Some(header.root)) {
        let what = format!("the pair of silo {recipient} does not lie under the dealer's root at its place");
        return Err(VerifyError::new(Check::EvidencePlace, what));
    }
    Ok(())
}

/// SA-09: any t shares under an honest dealer's root rebuild its secret, whoever brings them.
fn off_polynomial(rules: &Rules<'_>, off: &OffPolynomial) -> Result<Guilt, VerifyError> {
    let OffPolynomial { adverts: u1, header: dealt, kind, shares } = off;
    let t = usize::from(rules.quorum.t);
    list("shares", shares.iter().map(|s| s.holder), t, t)?;
    let adverts = adverts(rules, u1.clone(), None, &[])?;
    let (dealer, t1) = (dealt.silo, adverts.t1());
    header(rules, dealt.clone(), &adverts)?;
    for share in shares {
        under_root(&share.pair, share.holder, adverts.position(share.holder), adverts.adverts().len(), dealt)?;
        let leaf = share.opening.leaf(&t1, dealer, share.holder, *kind);
        if Check::EvidenceLeaf.finds(leaf != share.pair.leaves.of(*kind)) {
            let what = format!("the share of silo {} is not the one that the dealer signed", share.holder);
            return Err(VerifyError::new(Check::EvidenceLeaf, what));
        }
    }
    let held: Vec<(SiloId, Share)> = shares.iter().map(|s| (s.holder, s.opening.share.clone())).collect();
    let secret = match shamir::rebuild(&held, rules.quorum.t) {
        Ok(secret) => secret,
        Err(ShamirError::NotCanonical(holder)) => {
            return Ok(Guilt::of(
                dealer,
                Check::EvidenceSecret,
                format!("the share that it dealt to silo {holder} is no scalar"),
            ));
        }
        Err(e) => return Err(VerifyError::new(Check::EvidenceSecret, e.to_string())),
    };
    let (is_right, which) = match kind {
        ShareKind::SelfMask => {
            let commitment = self_commitment(&secret, &t1, dealer);
            (commitment == dealt.commitment_b, "the self-mask secret that it committed to")
        }
        ShareKind::MaskSecret => {
            (mask_secret(dealer, &secret, &adverts).is_ok(), "the secret of the mask key that it advertised")
        }
    };
    if Check::EvidenceSecret.finds(is_right) {
        return Err(VerifyError::new(Check::EvidenceSecret, format!("the shares rebuild {which}")));
    }
    Ok(Guilt::of(dealer, Check::EvidenceSecret, format!("{t} shares that it dealt do not rebuild {which}")))
}

/// SA-03: honest silos complain only about dealers that broke the rules, and of more than c silos one is honest.
fn too_many_complaints(rules: &Rules<'_>, complaints: &Complaints) -> Result<Guilt, VerifyError> {
    let Complaints { adverts: u1, header: dealt, complaints } = complaints;
    let (least, n) = (usize::from(rules.quorum.c) + 1, rules.roster.len());
    let bounds = [(Check::EvidenceComplaints, least), (Check::AtMost, n)];
    bounded_list("complaints", complaints.iter().map(|c| c.silo), bounds, Check::EvidenceComplaints)?;
    let adverts = adverts(rules, u1.clone(), None, &[])?;
    let header = header(rules, dealt.clone(), &adverts)?;
    complaints.iter().try_for_each(|c| complaint(rules, c, &header, &adverts))?;
    let count = complaints.len();
    let what = format!("{count} silos say that the shares it dealt do not open, and at most {} collude", least - 1);
    Ok(Guilt::of(dealt.silo, Check::ComplaintsConvict, what))
}

/// SA-16: a sketch is a function of the masked input, T3 and H(S); all of them are signed.
fn false_sketch(rules: &Rules<'_>, evidence: &FalseSketch, whole: &Evidence) -> Result<Guilt, VerifyError> {
    let FalseSketch { params, header, masked, sketch } = evidence;
    let silo = one_signer(sketch.sketch.silo, header.message.silo)?;
    let wrong = |what: String| VerifyError::new(Check::EvidenceSketch, what);
    if Check::EvidenceParams.finds(params.hash() != whole.context.params_hash || params.quorum != *rules.quorum) {
        return Err(VerifyError::new(Check::EvidenceParams, "its parameters are not those of the session"));
    }
    params.check().map_err(|e| VerifyError::new(Check::Headroom, e.to_string()))?;
    masked_signature(rules, header)?;
    sketch_signature(rules, sketch)?;
    if Check::EvidenceInput.finds(transcript::masked_hash(&masked.0) != header.message.hash) {
        return Err(VerifyError::new(Check::EvidenceInput, "the masked input is not the one that was signed"));
    }
    let key = transcript::rows_key(&sketch.t3, &sketch.sum_hash);
    let right = sketch::subset_sums_of(params, &key, &masked.0, THREADS).map_err(|e| wrong(e.to_string()))?;
    if Check::EvidenceSketch.finds(right == sketch.sketch.values) {
        return Err(wrong("the sketch is that of the masked input".into()));
    }
    Ok(Guilt::of(
        silo,
        Check::EvidenceSketch,
        "the subset sums that it signed are not those of the masked input that it signed",
    ))
}
