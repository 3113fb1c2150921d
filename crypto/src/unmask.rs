//! P5 at the coordinator: from the survivors' shares to the masks that are left in the sum, and from there to S.
//!
//! ```text
//! Σ_{i∈U3} y_i = Σ x_i + Σ_{i∈U3} PRG(self i) + Σ_{i∈U3, j∈D} ±PRG(pair ij)
//! ```
//! Pair masks between survivors cancel; what remains is subtracted.
//!
//! Contract: the coordinator learns `b` of survivors and σ of dropped silos, nothing else (SA-06 is in the types of what it
//! receives). Every rebuilt secret is checked against what was advertised (SA-09) before it is used.

use crate::identity::SiloId;
use crate::mask::Stream;
use crate::packing::{self, PackingError};
use crate::params::Params;
use crate::shamir::{Interpolation, SecretScalar, ShamirError, Share};
use crate::sketch::OpenedSecret;
use crate::verify::{
    self, Check, VerifiedAdverts, VerifiedHeaders, VerifiedList, VerifiedMasked, VerifiedReveal, VerifyError,
};
use std::collections::BTreeMap;

/// Collects replies until every secret that the sum needs has t shares.
#[derive(Debug)]
pub struct Recovery {
    t: u16,
    list: VerifiedList,
    shares: BTreeMap<SiloId, BTreeMap<SiloId, Share>>,
}

impl Recovery {
    /// For one survivor list; `t` is the Shamir threshold.
    pub fn new(t: u16, list: &VerifiedList) -> Recovery {
        let shares = list.survivors().iter().chain(list.dropped()).map(|&id| (id, BTreeMap::new())).collect();
        Recovery { t, list: list.clone(), shares }
    }

    /// Takes a verified reply; a repeated one changes nothing. `false` where it belongs to another list.
    pub fn add(&mut self, reveal: &VerifiedReveal) -> bool {
        if reveal.t3() != self.list.t3() {
            return false;
        }
        for (dealer, share) in reveal.shares() {
            if let Some(held) = self.shares.get_mut(dealer) {
                held.insert(reveal.silo(), share.clone());
            }
        }
        true
    }

    /// Whether every secret has t shares.
    pub fn is_ready(&self) -> bool {
        self.shares.values().all(|held| held.len() >= usize::from(self.t))
    }

    /// Rebuilds and checks every secret (SA-09) and gives the masks to apply to Σ y over the survivors. A few bad shares
    /// of a dealer do no harm where t good ones are there.
    ///
    /// # Errors
    /// [`VerifyError`] blaming the dealer whose shares do not rebuild what it advertised (more replies may still do), or
    /// nobody where shares are missing.
    pub fn streams(&self, adverts: &VerifiedAdverts, headers: &VerifiedHeaders) -> Result<Masks, VerifyError> {
        let mut rebuilder = Rebuilder { t: self.t, shares: &self.shares, weights: None };
        let (mut guilty, mut secrets) = (Vec::new(), Vec::with_capacity(self.shares.len()));
        for dealer in headers.ids() {
            let check = |secret: SecretScalar| match self.list.survivors().binary_search(&dealer) {
                Ok(_) => verify::self_secret(dealer, secret, headers),
                Err(_) => verify::mask_secret(dealer, &secret, adverts).map(|_| secret),
            };
            let (secret, sound) = rebuilder.rebuild(dealer, check)?;
            guilty.extend((!sound).then_some(dealer));
            secrets.push(OpenedSecret::new(&secret));
        }
        let streams = verify::opened_secrets(&secrets, &self.list, adverts, headers)?;
        Ok(Masks { streams, secrets, guilty })
    }
}

/// What is left to take off Σ y.
#[derive(Debug)]
pub struct Masks {
    /// The masks, with their signs.
    pub streams: Vec<Stream>,
    /// The rebuilt secrets that they come from, one per silo of U2 in order.
    pub secrets: Vec<OpenedSecret>,
    /// Dealers that signed shares off their polynomial: proven at fault, although the sum is exact.
    pub guilty: Vec<SiloId>,
}

/// Subsets tried for one secret whose dealer is off its polynomial.
const MAX_SUBSETS: usize = 256;

/// Rebuilds secrets, keeping the interpolation weights while the holders stay the same.
struct Rebuilder<'a> {
    t: u16,
    shares: &'a BTreeMap<SiloId, BTreeMap<SiloId, Share>>,
    weights: Option<Interpolation>,
}

impl Rebuilder<'_> {
    /// The secret that passes `check`, and whether the first t shares gave it. Every share is one that its dealer signed a
    /// leaf for: where they disagree the dealer is at fault, and another t of them may still be good.
    fn rebuild<T>(
        &mut self,
        dealer: SiloId,
        check: impl Fn(SecretScalar) -> Result<T, VerifyError>,
    ) -> Result<(T, bool), VerifyError> {
        let t = usize::from(self.t);
        let few = |what: String| VerifyError::new(Check::EnoughGoodShares, what);
        let held = self.shares.get(&dealer).filter(|held| held.len() >= t);
        let held = held.ok_or_else(|| few(format!("silo {dealer} has fewer than {t} good shares")))?;
        let held: Vec<(SiloId, Share)> = held.iter().map(|(&id, share)| (id, share.clone())).collect();
        let refused = match self.interpolate(dealer, &held[..t]).and_then(&check) {
            Ok(found) => return Ok((found, true)),
            Err(refused) => refused,
        };
        for subset in other_subsets(held.len(), t).take(MAX_SUBSETS) {
            let chosen: Vec<(SiloId, Share)> = subset.into_iter().map(|i| held[i].clone()).collect();
            if let Ok(found) = self.interpolate(dealer, &chosen).and_then(&check) {
                return Ok((found, false));
            }
        }
        Err(refused)
    }

    fn interpolate(&mut self, dealer: SiloId, held: &[(SiloId, Share)]) -> Result<SecretScalar, VerifyError> {
        let wrong = |e: ShamirError| VerifyError::of(Check::SelfSecret, dealer, format!("its shares are wrong: {e}"));
        let weights = match self.weights.take().filter(|w| w.fits(held)) {
            Some(weights) => weights,
            None => {
                let holders: Vec<SiloId> = held.iter().map(|(id, _)| *id).collect();
                Interpolation::new(&holders, self.t).map_err(wrong)?
            }
        };
        self.weights.insert(weights).rebuild(held).map_err(wrong)
    }
}

/// Sets of t of `held` places other than the first t: those first t+1 with one left out, then runs of t.
fn other_subsets(held: usize, t: usize) -> impl Iterator<Item = Vec<usize>> {
    let one_out = (0..t).filter(move |_| held > t).map(move |out| (0..=t).filter(|&i| i != out).collect());
    let runs = (2..=held.saturating_sub(t)).map(move |start| (start..start + t).collect());
    one_out.chain(runs)
}

/// Adds a masked input to the running sum (one lane per coordinate, mod 2^32).
///
/// # Errors
/// [`PackingError`] where the accumulator is not one of these parameters.
pub fn accumulate(acc: &mut [u32], input: &VerifiedMasked<'_>, params: &Params) -> Result<(), PackingError> {
    packing::add_packed(params, input.packed(), acc)
}

/// Removes the masks from Σ y and packs S, reduced mod 2^b per segment. `threads` share the coordinates, block by block.
///
/// # Errors
/// [`PackingError`] where the accumulator is not one of these parameters.
pub fn unmask(acc: Vec<u32>, streams: &[Stream], params: &Params, threads: usize) -> Result<Vec<u8>, PackingError> {
    packing::mask_and_pack(params, &acc, streams, threads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask;
    use crate::testing::{Kit, ids};

    #[test]
    fn sa09_t_good_shares_rebuild_the_secret_of_a_dealer_that_dealt_one_bad_share_and_name_it() {
        let kit = Kit::new(8, 3, 1);
        let (adverts, headers) = (kit.verified_adverts(), kit.verified_headers());
        // silo 1 survives, silo 7 is dropped; each dealt one silo a share off its polynomial
        let list = kit.verified_list(&ids(&[0, 1, 2, 3, 4, 5, 6]));
        let fill = |replies: &[u16]| {
            let mut recovery = Recovery::new(kit.params.quorum.t, &list);
            for &silo in list.survivors().iter().filter(|s| replies.contains(&s.0)) {
                let pending = kit.reply(silo, &list);
                let certificate = kit.certificate(&list.t3(), list.survivors());
                let proof =
                    verify::commit_certificate(&kit.rules(), &certificate, &list.t3(), list.survivors()).unwrap();
                let reveal =
                    verify::reveal(&kit.rules(), pending.release(&proof).unwrap(), &list, &kit.verified_dealings())
                        .unwrap();
                assert!(recovery.add(&reveal));
            }
            recovery
        };
        let t = usize::from(kit.params.quorum.t);
        assert_eq!(t, 5);
        let good = fill(&[0, 1, 2, 3, 4, 5]).streams(&adverts, &headers).unwrap();
        assert!(good.guilty.is_empty());
        for dealer in [1, 7] {
            for bad in 0..5 {
                let spoil = |mut recovery: Recovery| {
                    let held = recovery.shares.get_mut(&SiloId(dealer)).unwrap();
                    held.get_mut(&SiloId(bad)).unwrap().0[0] ^= 1;
                    recovery
                };
                let few = spoil(fill(&[0, 1, 2, 3, 4])).streams(&adverts, &headers).unwrap_err();
                assert_eq!(few.blamed, Some(SiloId(dealer)));
                let found = spoil(fill(&[0, 1, 2, 3, 4, 5])).streams(&adverts, &headers).unwrap();
                assert_eq!(found.guilty, [SiloId(dealer)]);
                let mut sums = [vec![0u32; 9], vec![0u32; 9]];
                mask::apply(&mut sums[0], &found.streams, 1);
                mask::apply(&mut sums[1], &good.streams, 1);
                assert_eq!(sums[0], sums[1], "dealer {dealer}, bad share at {bad}");
            }
        }
    }
}
