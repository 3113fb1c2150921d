//! P6: checks on sketches, on opened secrets, and on the sum that they prove.

use super::{
    Check, Rules, VerifiedAdverts, VerifiedHeaders, VerifiedList, VerifyError, adverts, bounded_list, headers,
    mask_secret, self_secret, signed, survivor_list,
};
use crate::commit::SurvivorList;
use crate::hash::Digest;
use crate::identity::SiloId;
use crate::keys::self_seed;
use crate::labels::Label;
use crate::mask::{self, Sign, Stream};
use crate::masked::pair_sign;
use crate::packing;
use crate::params::{Params, VerifySum};
use crate::shamir::SecretScalar;
use crate::sketch::{self, OpenedSecret, ROWS, Sketch, SumProof, values_hash};
use crate::transcript;
use curve25519_dalek::scalar::Scalar;

/// SA-16: one sketch: of a survivor, [`ROWS`] values per segment, each inside its ring, signed under T3 and H(S).
///
/// # Errors
/// [`VerifyError`] blaming the silo.
pub fn sketch(
    rules: &Rules<'_>,
    sketch: &Sketch,
    params: &Params,
    survivors: &VerifiedList,
    sum_hash: &Digest,
) -> Result<(), VerifyError> {
    let silo = sketch.silo;
    let wrong = |check, what: &str| Err(VerifyError::of(check, silo, what.into()));
    if Check::SketchBySurvivor.finds(survivors.survivors().binary_search(&silo).is_err()) {
        return wrong(Check::SketchBySurvivor, "it sent subset sums without being a survivor");
    }
    if Check::SketchSize.finds(sketch.values.len() != ROWS * params.segments.len()) {
        return wrong(Check::SketchSize, "it sent another number of subset sums than the session has");
    }
    let masks = params.segments.iter().flat_map(|s| [s.ring_mask(); ROWS]);
    if Check::SketchRing.finds(sketch.values.iter().zip(masks).any(|(value, mask)| value & !mask != 0)) {
        return wrong(Check::SketchRing, "a subset sum lies outside of its ring");
    }
    let fields: [&[u8]; 3] = [&survivors.t3().0, &sum_hash.0, &values_hash(&sketch.values).0];
    signed(rules, Check::SketchSignature, silo, Label::Sketch, &fields, &sketch.signature)
}

/// SA-09: the secrets that the coordinator opened, one per silo of U2 in order, each against what its dealer advertised or
/// committed to. Gives the masks that are left in Σ y, with the signs that take them off.
///
/// # Errors
/// [`VerifyError`] blaming the dealer of a secret that does not match.
pub fn opened_secrets(
    secrets: &[OpenedSecret],
    survivors: &VerifiedList,
    adverts: &VerifiedAdverts,
    headers: &VerifiedHeaders,
) -> Result<Vec<Stream>, VerifyError> {
    if Check::OpenedSecrets.finds(secrets.len() != headers.headers().len()) {
        let what = format!("{} secrets are opened where {} silos dealt", secrets.len(), headers.headers().len());
        return Err(VerifyError::new(Check::OpenedSecrets, what));
    }
    let bind = headers.bind();
    let mut streams = Vec::with_capacity(survivors.survivors().len() * (1 + survivors.dropped().len()));
    for (dealer, secret) in headers.ids().zip(secrets) {
        let scalar = Option::<Scalar>::from(Scalar::from_canonical_bytes(secret.0)).map(SecretScalar);
        let not_canonical =
            || VerifyError::of(Check::OpenedSecrets, dealer, "its opened secret is no canonical scalar".into());
        let scalar = scalar.ok_or_else(not_canonical)?;
        if survivors.survivors().binary_search(&dealer).is_ok() {
            let b = self_secret(dealer, scalar, headers)?;
            streams.push(Stream { seed: self_seed(&b, &bind), sign: Sign::Subtract });
            continue;
        }
        let secret = mask_secret(dealer, &scalar, adverts)?;
        for &survivor in survivors.survivors() {
            let advert = adverts.get(survivor).ok_or_else(|| {
                VerifyError::of(Check::DealerAdvertised, survivor, "it survived without having advertised keys".into())
            })?;
            let seed = secret.pair_seed(&bind, dealer, (survivor, &advert.mask_key));
            let seed = seed.map_err(|e| VerifyError::of(Check::Contributory, survivor, e.to_string()))?;
            streams.push(Stream { seed, sign: pair_sign(survivor, dealer).opposite() });
        }
    }
    Ok(streams)
}

/// A sum as the coordinator announces it, with everything that it is checked against.
#[derive(Debug, Clone, Copy)]
pub struct ClaimedSum<'a> {
    /// The job's parameters.
    pub params: &'a Params,
    /// The survivor list.
    pub list: &'a SurvivorList,
    /// S, packed.
    pub packed: &'a [u8],
    /// Adverts, headers, opened secrets, sketches.
    pub proof: &'a SumProof,
    /// The masked inputs of `proof.opened`, packed, in its order.
    pub opened: &'a [&'a [u8]],
}

/// Proof that a sum is that of its survivors' masked inputs, masks taken off, up to 2^−128; where sketches were shown, as far as
/// their silos made them of the masked inputs that they sent ([`VerifySum`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSum {
    t3: Digest,
    bind: Digest,
    survivors: Vec<SiloId>,
}

impl VerifiedSum {
    /// The survivor list that it is the sum over.
    pub fn t3(&self) -> Digest {
        self.t3
    }

    /// The transcript up to P2.
    pub fn bind(&self) -> Digest {
        self.bind
    }

    /// U3 in order.
    pub fn survivors(&self) -> &[SiloId] {
        &self.survivors
    }
}

/// SA-16: S is the sum over the survivors' masked inputs with their masks taken off. Checks the whole transcript under
/// the checker's own `ctx` ([`adverts`], [`headers`], [`survivor_list`]), the opened secrets ([`opened_secrets`]), and for
/// every survivor its signed sketch ([`sketch()`]; not under [`VerifySum::Inputs`]) or its whole masked input against the
/// signed hash; then adds the masks to S and compares its subset sums with the survivors'. CPU-heavy: expands every mask, on `threads` threads.
///
/// # Errors
/// [`VerifyError`], blaming a silo where one item is at fault, and nobody where the sums differ.
pub fn sum(rules: &Rules<'_>, claim: &ClaimedSum<'_>, threads: usize) -> Result<VerifiedSum, VerifyError> {
    let ClaimedSum { params, list: survivors, packed, proof, opened } = *claim;
    let adverts = adverts(rules, proof.adverts.clone(), None, &[])?;
    let headers = headers(rules, proof.headers.clone(), &adverts, None)?;
    let survivors = survivor_list(rules, survivors.clone(), &headers, None)?;
    let streams = opened_secrets(&proof.secrets, &survivors, &adverts, &headers)?;
    let (t3, sum_hash) = (survivors.t3(), transcript::sum_hash(packed));
    let key = transcript::rows_key(&t3, &sum_hash);

    // every survivor exactly once, by its sketch or by its masked input
    let mut proven: Vec<SiloId> = proof.sketches.iter().map(|s| s.silo).chain(proof.opened.iter().copied()).collect();
    proven.sort_unstable();
    if Check::SumAccounted.finds(proven != survivors.survivors() || opened.len() != proof.opened.len()) {
        return Err(VerifyError::new(
            Check::SumAccounted,
            "not every survivor's masked input is accounted for exactly once",
        ));
    }
    let (once, bounds) = (Check::SumAccounted, [0, proven.len()].map(|bound| (Check::SumAccounted, bound)));
    bounded_list("sketches", proof.sketches.iter().map(|s| s.silo), bounds, once)?;
    bounded_list("opened masked inputs", proof.opened.iter().copied(), bounds, once)?;
    if Check::InputsShown.finds(params.verify_sum == VerifySum::Inputs && !proof.sketches.is_empty()) {
        let what = "this job checks sums against masked inputs, and a sketch was shown in place of one";
        return Err(VerifyError::new(Check::InputsShown, what));
    }
    let mut total = vec![0u32; ROWS * params.segments.len()];
    for item in &proof.sketches {
        sketch(rules, item, params, &survivors, &sum_hash)?;
        sketch::add(params, &mut total, &item.values);
    }
    for (&silo, &masked) in proof.opened.iter().zip(opened) {
        let of = |what: String| VerifyError::of(Check::OpenedHash, silo, what);
        packing::check(params, masked).map_err(|e| of(e.to_string()))?;
        let signed_hash = survivors.list().0.iter().find(|m| m.silo == silo).map(|m| m.hash);
        if Check::OpenedHash.finds(signed_hash != Some(transcript::masked_hash(masked))) {
            return Err(of("the masked input shown for it does not have the hash that it signed".into()));
        }
        let values = sketch::subset_sums_of(params, &key, masked, threads).map_err(|e| of(e.to_string()))?;
        sketch::add(params, &mut total, &values);
    }

    let malformed = |e: packing::PackingError| VerifyError::new(Check::SumRows, format!("the sum is malformed: {e}"));
    let mut lanes = packing::unpack(params, packed).map_err(malformed)?;
    let back: Vec<Stream> = streams.into_iter().map(|s| Stream { sign: s.sign.opposite(), ..s }).collect();
    mask::apply(&mut lanes, &back, threads);
    let found = sketch::subset_sums(params, &key, &lanes, threads).map_err(malformed)?;
    if Check::SumRows.finds(found != total) {
        let what = "the sum is not the sum of the survivors' masked inputs: the coordinator announced a false one";
        return Err(VerifyError::new(Check::SumRows, what));
    }
    Ok(VerifiedSum { t3, bind: headers.bind(), survivors: survivors.survivors().to_vec() })
}
