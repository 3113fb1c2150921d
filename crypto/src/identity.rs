//! Who signs: a silo's place in the roster, its Ed25519 identity key, and signatures over `H(label; ctx, signer, fields)`.
//!
//! Contract: a signature made for one label, context or silo verifies for no other. Verification is strict (no small-order
//! keys, no malleable signatures: RFC 8032 §5.1.7 with the stricter rules of `verify_strict`).

use crate::bytes::fixed_bytes;
use crate::hash::{Digest, Hasher};
use crate::labels::Label;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// A silo's index in the roster, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SiloId(pub u16);

impl SiloId {
    /// The index as two bytes little-endian, as hashed and signed.
    pub const fn to_bytes(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }

    /// The index as a position in arrays that follow the roster.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for SiloId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 64]);
fixed_bytes!(Signature, 64);

/// A silo's public identity key, as pinned in the roster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityPublic(pub [u8; 32]);
fixed_bytes!(IdentityPublic, 32);

/// The signature does not belong to this key, label, context, signer and fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not valid")]
pub struct BadSignature;

impl IdentityPublic {
    /// Whether the bytes are the one canonical encoding of a point of large order. Only such keys enter a roster.
    pub fn is_sound(&self) -> bool {
        match VerifyingKey::from_bytes(&self.0) {
            Ok(key) => !key.is_weak() && key.to_edwards().compress().to_bytes() == self.0,
            Err(_) => false,
        }
    }

    /// Checks a signature over `H(label; ctx, signer, fields…)`.
    ///
    /// # Errors
    /// [`BadSignature`] for any mismatch, a malformed key included.
    pub fn verify(
        &self,
        label: Label,
        ctx: &Digest,
        signer: SiloId,
        fields: &[&[u8]],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        self.verify_bytes(&signed_message(label, ctx, signer, fields).0, signature)
    }

    /// Strict Ed25519 over bare bytes: what every signature of the protocol goes through once its digest is made.
    pub(crate) fn verify_bytes(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let verified = || {
            let key = VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
            let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
            key.verify_strict(message, &signature).map_err(|_| BadSignature)
        };
        #[cfg(any(test, feature = "teeth"))]
        let verified = || crate::teeth::remembered(&self.0, message, &signature.0, verified);
        verified()
    }
}

/// A silo's secret identity key. Erased on drop, never shown by `Debug` (SA-11).
pub struct IdentityKey(SigningKey);

impl IdentityKey {
    /// A new key.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> IdentityKey {
        IdentityKey(SigningKey::generate(rng))
    }

    /// The key with this 32-byte seed (RFC 8032 §5.1.5 "private key").
    pub fn from_bytes(seed: &[u8; 32]) -> IdentityKey {
        IdentityKey(SigningKey::from_bytes(seed))
    }

    /// The 32-byte seed, for the key file.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public key for the roster.
    pub fn public(&self) -> IdentityPublic {
        IdentityPublic(self.0.verifying_key().to_bytes())
    }

    /// Signs `H(label; ctx, signer, fields…)`; `signer` is this silo's own place in the roster.
    pub fn sign(&self, label: Label, ctx: &Digest, signer: SiloId, fields: &[&[u8]]) -> Signature {
        self.sign_bytes(&signed_message(label, ctx, signer, fields).0)
    }

    /// Ed25519 over bare bytes, the other half of [`IdentityPublic::verify_bytes`].
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey(secret of {})", self.public())
    }
}

fn signed_message(label: Label, ctx: &Digest, signer: SiloId, fields: &[&[u8]]) -> Digest {
    let hasher = Hasher::new(label).digest(ctx).field(&signer.to_bytes());
    fields.iter().fold(hasher, |h, f| h.field(f)).finish()
}
