//! P5 at the coordinator: from the survivors' shares to the masks that are left in the sum, and from there to S.
//!
//! ```text
//! Σ_{i∈U3} y_i = Σ x_i + Σ_{i∈U3} PRG(self i) + Σ_{i∈U3, j∈D} ±PRG(pair ij)
//! ```
//! Pair masks between survivors cancel; what remains is subtracted.
//!
//! Contract: the coordinator learns `b` of survivors and σ of dropped silos, nothing else (SA-06 is in the types of what it
//! receives). Every rebuilt secret is checked against what was advertised (SA-09) before it is used.

use crate::hash::Digest;
use crate::identity::SiloId;
use crate::keys::self_seed;
use crate::mask::{self, Sign, Stream};
use crate::masked::pair_sign;
use crate::packing::{self, PackingError};
use crate::params::Params;
use crate::shamir::{Interpolation, SecretScalar, Share};
use crate::verify::{
    self, VerifiedAdverts, VerifiedHeaders, VerifiedList, VerifiedMasked, VerifiedReveal, VerifyError,
};
use std::collections::BTreeMap;

/// Collects replies until every secret that the sum needs has t shares.
#[derive(Debug)]
pub struct Recovery {
    t: u16,
    t3: Digest,
    survivors: Vec<SiloId>,
    dropped: Vec<SiloId>,
    shares: BTreeMap<SiloId, BTreeMap<SiloId, Share>>,
}

impl Recovery {
    /// For one survivor list; `t` is the Shamir threshold.
    pub fn new(t: u16, list: &VerifiedList) -> Recovery {
        let (survivors, dropped) = (list.survivors().to_vec(), list.dropped().to_vec());
        let shares = survivors.iter().chain(&dropped).map(|&id| (id, BTreeMap::new())).collect();
        Recovery { t, t3: list.t3(), survivors, dropped, shares }
    }

    /// Takes a verified reply; a repeated one changes nothing. `false` where it belongs to another list.
    pub fn add(&mut self, reveal: &VerifiedReveal) -> bool {
        if reveal.t3() != self.t3 {
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

    /// Rebuilds and checks every secret (SA-09) and gives the masks to apply to Σ y over the survivors.
    ///
    /// # Errors
    /// [`VerifyError`] blaming the dealer whose shares do not rebuild what it advertised, or nobody where shares are missing.
    pub fn streams(&self, adverts: &VerifiedAdverts, headers: &VerifiedHeaders) -> Result<Vec<Stream>, VerifyError> {
        let bind = headers.bind();
        let mut rebuilder = Rebuilder { t: self.t, weights: None };
        let mut streams = Vec::with_capacity(self.survivors.len() * (1 + self.dropped.len()));
        for &i in &self.survivors {
            let b = verify::self_secret(i, rebuilder.rebuild(i, &self.shares)?, headers)?;
            streams.push(Stream { seed: self_seed(&b, &bind), sign: Sign::Subtract });
        }
        for &j in &self.dropped {
            let secret = verify::mask_secret(j, &rebuilder.rebuild(j, &self.shares)?, adverts)?;
            for &i in &self.survivors {
                let advert = adverts
                    .get(i)
                    .ok_or_else(|| VerifyError::of("SA-05", i, "it survived without having advertised keys".into()))?;
                let seed = secret.pair_seed(&bind, j, (i, &advert.mask_key));
                let seed = seed.map_err(|e| VerifyError::of("SA-01", i, e.to_string()))?;
                streams.push(Stream { seed, sign: pair_sign(i, j).opposite() });
            }
        }
        Ok(streams)
    }
}

/// Rebuilds secrets, keeping the interpolation weights while the holders stay the same.
struct Rebuilder {
    t: u16,
    weights: Option<Interpolation>,
}

impl Rebuilder {
    fn rebuild(
        &mut self,
        dealer: SiloId,
        shares: &BTreeMap<SiloId, BTreeMap<SiloId, Share>>,
    ) -> Result<SecretScalar, VerifyError> {
        let t = usize::from(self.t);
        let held = shares.get(&dealer).filter(|held| held.len() >= t);
        let held =
            held.ok_or_else(|| VerifyError::new("SA-09", format!("silo {dealer} has fewer than {t} good shares")))?;
        let held: Vec<(SiloId, Share)> = held.iter().take(t).map(|(&id, share)| (id, share.clone())).collect();
        let wrong =
            |e: crate::shamir::ShamirError| VerifyError::of("SA-09", dealer, format!("its shares are wrong: {e}"));
        let weights = match self.weights.take().filter(|w| w.fits(&held)) {
            Some(weights) => weights,
            None => {
                let holders: Vec<SiloId> = held.iter().map(|(id, _)| *id).collect();
                Interpolation::new(&holders, self.t).map_err(wrong)?
            }
        };
        self.weights.insert(weights).rebuild(&held).map_err(wrong)
    }
}

/// Adds a masked input to the running sum (one lane per coordinate, mod 2^32).
///
/// # Errors
/// [`PackingError`] where the accumulator is not one of these parameters.
pub fn accumulate(acc: &mut [u32], input: &VerifiedMasked, params: &Params) -> Result<(), PackingError> {
    packing::add_packed(params, input.packed(), acc)
}

/// Removes the masks from Σ y and packs S, reduced mod 2^b per segment. `threads` share the coordinates.
///
/// # Errors
/// [`PackingError`] where the accumulator is not one of these parameters.
pub fn unmask(mut acc: Vec<u32>, streams: &[Stream], params: &Params, threads: usize) -> Result<Vec<u8>, PackingError> {
    mask::apply(&mut acc, streams, threads);
    packing::pack(params, &acc)
}
