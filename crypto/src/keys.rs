//! The keys of a session: X25519 exchanges turned into share keys, pair seeds and self seeds by HKDF-SHA256.
//!
//! ```text
//! channel × channel ──salt T1, info (sender, recipient)──> share key of one direction
//! mask    × mask    ──salt bind, info (lower, higher id)──> pair seed, the same for both
//! b                 ──salt bind──────────────────────────> self seed
//! σ                 ──salt ctx, clamp────────────────────> mask secret
//! ```
//!
//! Contract: every key is derived once per attempt from secrets made for that attempt (SA-15); an exchange that gives zero
//! (a low-order public key, RFC 7748 §6.1) is an error. `Debug` never shows a secret (SA-11).

use crate::hash::Digest;
use crate::identity::SiloId;
use crate::labels::Label;
use crate::mask::MaskSeed;
use crate::shamir::SecretScalar;
use crate::verify::Check;
use curve25519_dalek::scalar::clamp_integer;
use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::Sha256;
use std::fmt;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The peer's public key has low order: an exchange with it would be no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer's public key is of low order, so an exchange with it is no secret")]
pub struct LowOrderKey;

/// A silo and one of its public keys.
pub type Party<'a> = (SiloId, &'a [u8; 32]);

/// The X25519 secret that seals share bundles. Erased on drop.
pub struct ChannelKey(StaticSecret);

/// The X25519 secret behind the pairwise masks, derived from σ. Erased on drop.
pub struct MaskSecret(StaticSecret);

/// The AES-256-GCM key of one sealed bundle. Erased on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ShareKey(pub(crate) [u8; 32]);

macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    )*};
}
redacted!(ChannelKey, MaskSecret, ShareKey);

impl ChannelKey {
    /// A new key.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> ChannelKey {
        ChannelKey(StaticSecret::random_from_rng(rng))
    }

    /// The public key to advertise.
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The key of the bundle that this silo sends to a peer.
    ///
    /// # Errors
    /// [`LowOrderKey`].
    pub fn key_to(&self, t1: &Digest, own: SiloId, peer: Party<'_>) -> Result<ShareKey, LowOrderKey> {
        share_key(&self.0, peer.1, t1, (own, &self.public()), peer)
    }

    /// The key of the bundle that a peer sends to this silo.
    ///
    /// # Errors
    /// [`LowOrderKey`].
    pub fn key_from(&self, t1: &Digest, own: SiloId, peer: Party<'_>) -> Result<ShareKey, LowOrderKey> {
        share_key(&self.0, peer.1, t1, peer, (own, &self.public()))
    }
}

impl MaskSecret {
    /// clamp(HKDF(σ, salt = ctx)): whoever rebuilds σ gets this attempt's mask secret.
    pub fn from_sigma(sigma: &SecretScalar, ctx: &Digest) -> MaskSecret {
        let ikm = Zeroizing::new(sigma.0.to_bytes());
        let mut okm = hkdf_sha256(ikm.as_slice(), ctx, Label::MaskSecret, &[]);
        let secret = MaskSecret(StaticSecret::from(clamp_integer(*okm)));
        okm.zeroize();
        secret
    }

    /// The public key to advertise.
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The seed of the mask between this silo and a peer; both compute the same.
    ///
    /// # Errors
    /// [`LowOrderKey`].
    pub fn pair_seed(&self, bind: &Digest, own: SiloId, peer: Party<'_>) -> Result<MaskSeed, LowOrderKey> {
        let public = self.public();
        let own = (own, &public);
        let (low, high) = if own.0 < peer.0 { (own, peer) } else { (peer, own) };
        let shared = exchange(&self.0, peer.1)?;
        let info = [&low.0.to_bytes()[..], low.1, &high.0.to_bytes(), high.1];
        Ok(MaskSeed(*hkdf_sha256(shared.as_slice(), bind, Label::PairSeed, &info)))
    }
}

#[cfg(test)]
impl MaskSecret {
    /// The clamped secret, for vectors.
    pub(crate) fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

/// The seed of a silo's self mask: HKDF(b, salt = bind).
pub fn self_seed(b: &SecretScalar, bind: &Digest) -> MaskSeed {
    let ikm = Zeroizing::new(b.0.to_bytes());
    MaskSeed(*hkdf_sha256(ikm.as_slice(), bind, Label::SelfSeed, &[]))
}

/// Whether an advertised X25519 key is the one canonical encoding of a point that is not of low order. Canonical, so that
/// "all keys differ" means what it says; not of low order, so that no exchange with it can give zero.
pub fn is_sound_public(key: &[u8; 32]) -> bool {
    // p = 2^255 − 19, little-endian
    let below_p = key[31] < 0x7f || (key[31] == 0x7f && (key[1..31].iter().any(|&b| b != 0xff) || key[0] < 0xed));
    below_p && !LOW_ORDER.contains(key)
}

/// The u-coordinates below p of all points whose order divides 8, on Curve25519 and its twist: orders 1 and 2, 4, 8, 8, 4
/// (the points that RFC 7748 §6.1 warns of).
#[rustfmt::skip]
const LOW_ORDER: [[u8; 32]; 5] = [
    [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
    [0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
    [0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00],
    [0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57],
    [0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
];

fn share_key(
    secret: &StaticSecret,
    peer_key: &[u8; 32],
    t1: &Digest,
    sender: Party<'_>,
    recipient: Party<'_>,
) -> Result<ShareKey, LowOrderKey> {
    let shared = exchange(secret, peer_key)?;
    let info = [&sender.0.to_bytes()[..], sender.1, &recipient.0.to_bytes(), recipient.1];
    Ok(ShareKey(*hkdf_sha256(shared.as_slice(), t1, Label::ShareKey, &info)))
}

/// X25519 (RFC 7748 §5), with the zero result of a low-order key refused (§6.1).
pub(crate) fn exchange(secret: &StaticSecret, peer_key: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, LowOrderKey> {
    let shared = secret.diffie_hellman(&PublicKey::from(*peer_key));
    if Check::Contributory.finds(!shared.was_contributory()) {
        Err(LowOrderKey)
    } else {
        Ok(Zeroizing::new(shared.to_bytes()))
    }
}

/// HKDF-SHA256 (RFC 5869) to 32 bytes; the info is the label behind its length, then parts of fixed length.
pub(crate) fn hkdf_sha256(ikm: &[u8], salt: &Digest, label: Label, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let label = label.as_str().as_bytes();
    let length = [label.len() as u8];
    let mut parts = vec![&length[..], label];
    parts.extend_from_slice(info);
    let mut okm = Zeroizing::new([0u8; 32]);
    Hkdf::<Sha256>::new(Some(&salt.0), ikm)
        .expand_multi_info(&parts, okm.as_mut_slice())
        .expect("32 bytes are within HKDF-SHA256's output limit of 255 blocks");
    okm
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any clamped scalar is a multiple of 8 that is no multiple of the large prime orders (of curve and twist), so that its
    /// product with a point is zero exactly where the point is of low order.
    #[test]
    fn sa01_the_table_of_low_order_points_is_what_the_ladder_says() {
        let is_low = |key: &[u8; 32]| x25519_dalek::x25519([0u8; 32], *key) == [0u8; 32];
        for (i, key) in LOW_ORDER.iter().enumerate() {
            assert!(is_low(key) && !is_sound_public(key), "{i}");
            assert!(!LOW_ORDER[..i].contains(key));
        }
        for seed in 0..2_000u32 {
            // small numbers, numbers near p, and numbers anywhere
            let hash = crate::hash::sha256(&seed.to_le_bytes()).0;
            let mut near = [0xff; 32];
            (near[0], near[1], near[31]) = (seed as u8, 0xff - (seed >> 8) as u8, 0x7f);
            let mut small = [0; 32];
            small[..4].copy_from_slice(&seed.to_le_bytes());
            let mut any = hash;
            any[31] &= 0x7f;
            for key in [small, near, any] {
                let reduced = key[31] == 0x7f && key[1..31].iter().all(|&b| b == 0xff) && key[0] >= 0xed;
                assert_eq!(is_sound_public(&key), !reduced && !is_low(&key), "{key:?}");
            }
        }
    }
}
