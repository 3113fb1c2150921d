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
    // Any clamped scalar is a multiple of 8 that is no multiple of the large prime orders (of curve and twist), so that the
    // product is zero exactly for points of low order.
    below_p && x25519_dalek::x25519([0u8; 32], *key) != [0u8; 32]
}

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
    if shared.was_contributory() { Ok(Zeroizing::new(shared.to_bytes())) } else { Err(LowOrderKey) }
}

/// HKDF-SHA256 (RFC 5869) to 32 bytes; the info is the label behind its length, then parts of fixed length.
fn hkdf_sha256(ikm: &[u8], salt: &Digest, label: Label, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
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
