//! P2: a silo deals shares of its two secrets, each pair sealed to its recipient under a signed root.
//!
//! ```text
//! leaf(b, j) = H(T1, dealer, j, b, share, nonce)   leaf(s, j) likewise     nonces hide the shares
//! pair(j)    = H(j, leaf(b, j), leaf(s, j), H(ciphertext j))
//! root       = Merkle tree over pair(j) for j in U1 in order (the dealer's own pair included, without ciphertext)
//! header     = (root, H(b)), signed; it travels to all
//! ```
//!
//! Contract: the coordinator gets a [`Dealing`] with all leaves and can later check every revealed share against its leaf;
//! a recipient gets a [`Delivery`] with its own leaves and the path to the root, so that traffic per silo grows with n log n
//! and not with n². Secrets are erased on drop (SA-11).

use crate::advert::SessionSecrets;
use crate::hash::{Digest, Hasher};
use crate::identity::{IdentityKey, Signature, SiloId};
use crate::keys::{LowOrderKey, ShareKey};
use crate::labels::Label;
use crate::merkle::Tree;
use crate::reveal::{PendingReveal, Reveal, RevealedShare};
use crate::shamir::{self, SecretScalar, ShamirError, Share};
use crate::verify::{VerifiedAdverts, VerifiedList};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a sealed bundle: two shares, two nonces, the tag.
pub const SEALED_BYTES: usize = 4 * 32 + 16;

/// Which of a dealer's two secrets a share belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ShareKind {
    /// Self-mask secret `b`, revealed for survivors.
    SelfMask,
    /// Mask-secret seed σ, revealed for dropped silos.
    MaskSecret,
}

impl ShareKind {
    pub(crate) fn byte(self) -> u8 {
        match self {
            ShareKind::SelfMask => b'b',
            ShareKind::MaskSecret => b's',
        }
    }
}

/// A share with the nonce that opens its leaf. Erased on drop.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct ShareOpening {
    pub(crate) share: Share,
    pub(crate) nonce: [u8; 32],
}

impl fmt::Debug for ShareOpening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShareOpening(secret)")
    }
}

impl ShareOpening {
    /// The leaf that this opening belongs to.
    pub(crate) fn leaf(&self, t1: &Digest, dealer: SiloId, recipient: SiloId, kind: ShareKind) -> Digest {
        Hasher::new(Label::Leaf)
            .digest(t1)
            .field(&dealer.to_bytes())
            .field(&recipient.to_bytes())
            .field(&[kind.byte()])
            .field(&self.share.0)
            .field(&self.nonce)
            .finish()
    }
}

/// Both openings of one dealer for one recipient. Erased on drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct PairShares {
    pub(crate) b: ShareOpening,
    pub(crate) s: ShareOpening,
}

impl PairShares {
    pub(crate) fn leaves(&self, t1: &Digest, dealer: SiloId, recipient: SiloId) -> PairLeaves {
        PairLeaves {
            b: self.b.leaf(t1, dealer, recipient, ShareKind::SelfMask),
            s: self.s.leaf(t1, dealer, recipient, ShareKind::MaskSecret),
        }
    }

    fn to_bytes(&self) -> Zeroizing<[u8; 128]> {
        let mut bytes = Zeroizing::new([0u8; 128]);
        for (out, part) in
            bytes.chunks_exact_mut(32).zip([&self.b.share.0, &self.b.nonce, &self.s.share.0, &self.s.nonce])
        {
            out.copy_from_slice(part);
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<PairShares> {
        match bytes.as_chunks::<32>() {
            ([b, b_nonce, s, s_nonce], []) => Some(PairShares {
                b: ShareOpening { share: Share(*b), nonce: *b_nonce },
                s: ShareOpening { share: Share(*s), nonce: *s_nonce },
            }),
            _ => None,
        }
    }
}

/// The leaf hashes of one dealer for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairLeaves {
    /// Leaf of the b-share.
    pub b: Digest,
    /// Leaf of the s-share.
    pub s: Digest,
}

impl PairLeaves {
    pub(crate) fn pair_hash(&self, recipient: SiloId, sealed: &SealedBundle) -> Digest {
        self.pair_hash_over(recipient, &sealed.hash())
    }

    /// As [`PairLeaves::pair_hash`], where only the hash of the ciphertext is at hand.
    pub(crate) fn pair_hash_over(&self, recipient: SiloId, ciphertext: &Digest) -> Digest {
        Hasher::new(Label::Pair)
            .field(&recipient.to_bytes())
            .digest(&self.b)
            .digest(&self.s)
            .digest(ciphertext)
            .finish()
    }

    /// The leaf of one kind.
    pub(crate) fn of(&self, kind: ShareKind) -> Digest {
        match kind {
            ShareKind::SelfMask => self.b,
            ShareKind::MaskSecret => self.s,
        }
    }
}

/// A pair's two openings sealed with AES-256-GCM: [`SEALED_BYTES`] bytes, or none for the dealer's own pair.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedBundle(pub Vec<u8>);

impl fmt::Debug for SealedBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBundle({} bytes)", self.0.len())
    }
}

impl SealedBundle {
    /// Hash of the ciphertext, part of the dealer's root.
    pub fn hash(&self) -> Digest {
        Hasher::new(Label::Ciphertext).field(&self.0).finish()
    }

    /// SA-03: the key and the associated data bind session, dealer and recipient. The zero nonce is safe because the key
    /// seals one bundle only (SA-15).
    fn seal(key: &ShareKey, t1: &Digest, dealer: SiloId, recipient: SiloId, pair: &PairShares) -> SealedBundle {
        let plain = pair.to_bytes();
        let aad = associated_data(t1, dealer, recipient);
        let payload = Payload { msg: plain.as_slice(), aad: &aad.0 };
        let sealed = Aes256Gcm::new(&key.0.into()).encrypt(&Nonce::from([0u8; 12]), payload);
        SealedBundle(sealed.expect("128 bytes are within AES-GCM's limit of 64 GiB"))
    }

    pub(crate) fn open(&self, key: &ShareKey, t1: &Digest, dealer: SiloId, recipient: SiloId) -> Option<PairShares> {
        let aad = associated_data(t1, dealer, recipient);
        let payload = Payload { msg: &self.0, aad: &aad.0 };
        let plain = Aes256Gcm::new(&key.0.into()).decrypt(&Nonce::from([0u8; 12]), payload).ok()?;
        PairShares::from_bytes(&Zeroizing::new(plain))
    }
}

fn associated_data(t1: &Digest, dealer: SiloId, recipient: SiloId) -> Digest {
    Hasher::new(Label::BundleAad).digest(t1).field(&dealer.to_bytes()).field(&recipient.to_bytes()).finish()
}

/// H(b), with session and dealer.
pub(crate) fn self_commitment(b: &SecretScalar, t1: &Digest, dealer: SiloId) -> Digest {
    let bytes = Zeroizing::new(b.0.to_bytes());
    Hasher::new(Label::SelfCommitment).digest(t1).field(&dealer.to_bytes()).field(bytes.as_slice()).finish()
}

/// A dealer's signed root and commitment; travels to all. Unverified until [`crate::verify::header`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareHeader {
    /// The dealer.
    pub silo: SiloId,
    /// Merkle root over the pairs.
    pub root: Digest,
    /// H(b).
    pub commitment_b: Digest,
    /// Over T1, root and commitment under `ctx`.
    pub signature: Signature,
}

/// One recipient's part of a dealing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DealtPair {
    /// The leaf hashes.
    pub leaves: PairLeaves,
    /// The sealed openings; empty for the dealer itself.
    pub sealed: SealedBundle,
}

/// What a dealer sends to the coordinator: its header and, for each silo of U1 in order, leaves and sealed bundle.
/// Unverified until [`crate::verify::dealing`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dealing {
    /// Signed root and commitment.
    pub header: ShareHeader,
    /// One entry for each silo of U1, in order.
    pub pairs: Vec<DealtPair>,
}

/// What the coordinator passes to one recipient from one dealer. Unverified until [`crate::verify::delivery`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The dealer.
    pub dealer: SiloId,
    /// The recipient's leaf hashes.
    pub leaves: PairLeaves,
    /// Siblings from the recipient's pair up to the root.
    pub path: Vec<Digest>,
    /// The sealed openings.
    pub sealed: SealedBundle,
}

/// Why shares cannot be dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DealError {
    /// The dealer is not in U1.
    #[error("silo {0} is not among the silos that advertised keys")]
    NotAdvertised(SiloId),
    /// Threshold and set do not fit.
    #[error(transparent)]
    Shamir(#[from] ShamirError),
    /// A recipient's key is no key.
    #[error("silo {silo}: {source}")]
    Key {
        /// The recipient.
        silo: SiloId,
        /// What is wrong.
        source: LowOrderKey,
    },
}

/// Deals shares of `b` and σ with threshold `t` to all of U1: what to send, and the dealer's own pair, to be held like those
/// of others. The pairs of others are erased here.
///
/// # Errors
/// [`DealError`] where the dealer did not advertise, |U1| < t, or a key is of low order.
pub fn deal(
    identity: &IdentityKey,
    dealer: SiloId,
    secrets: &SessionSecrets,
    adverts: &VerifiedAdverts,
    t: u16,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<(Dealing, HeldPair), DealError> {
    let own = adverts.position(dealer).ok_or(DealError::NotAdvertised(dealer))?;
    let t1 = adverts.t1();
    let recipients: Vec<SiloId> = adverts.ids().collect();
    let b_shares = shamir::deal(&secrets.b, t, &recipients, rng)?;
    let s_shares = shamir::deal(&secrets.sigma, t, &recipients, rng)?;
    let mut opening = |share: Share| {
        let mut nonce = [0u8; 32];
        rng.fill_bytes(&mut nonce);
        ShareOpening { share, nonce }
    };
    let mut shares: Vec<PairShares> =
        b_shares.into_iter().zip(s_shares).map(|(b, s)| PairShares { b: opening(b), s: opening(s) }).collect();
    let mut pairs = Vec::with_capacity(recipients.len());
    for (advert, shares) in adverts.adverts().iter().zip(&shares) {
        let sealed = if advert.silo == dealer {
            SealedBundle(Vec::new())
        } else {
            let key = secrets.channel.key_to(&t1, dealer, (advert.silo, &advert.channel_key));
            let key = key.map_err(|source| DealError::Key { silo: advert.silo, source })?;
            SealedBundle::seal(&key, &t1, dealer, advert.silo, shares)
        };
        pairs.push(DealtPair { leaves: shares.leaves(&t1, dealer, advert.silo), sealed });
    }
    let root = pair_tree(&recipients, &pairs).root();
    let commitment_b = self_commitment(&secrets.b, &t1, dealer);
    let signature = identity.sign(Label::ShareHeader, adverts.ctx(), dealer, &[&t1.0, &root.0, &commitment_b.0]);
    let header = ShareHeader { silo: dealer, root, commitment_b, signature };
    let own = HeldPair { dealer, recipient: dealer, shares: shares.swap_remove(own) };
    Ok((Dealing { header, pairs }, own))
}

/// The tree over a dealing's pairs.
pub(crate) fn pair_tree(recipients: &[SiloId], pairs: &[DealtPair]) -> Tree {
    Tree::new(recipients.iter().zip(pairs).map(|(&id, pair)| pair.leaves.pair_hash(id, &pair.sealed)).collect())
}

/// A pair of shares that one silo holds from one dealer, both leaves checked. Erased on drop.
#[derive(Debug, Clone)]
pub struct HeldPair {
    pub(crate) dealer: SiloId,
    pub(crate) recipient: SiloId,
    pub(crate) shares: PairShares,
}

impl HeldPair {
    /// Who dealt it.
    pub fn dealer(&self) -> SiloId {
        self.dealer
    }
}

/// All pairs that one silo holds in an attempt. Both shares of a peer exist together only in here, and the only way out is
/// [`HeldShares::into_reply`], which keeps one of each and erases the other (SA-06).
#[derive(Debug)]
pub struct HeldShares {
    owner: SiloId,
    pairs: BTreeMap<SiloId, PairShares>,
}

impl HeldShares {
    /// None held yet.
    pub fn new(owner: SiloId) -> HeldShares {
        HeldShares { owner, pairs: BTreeMap::new() }
    }

    /// Keeps a pair; `false` where it was meant for another silo or this dealer's pair is already held.
    pub fn insert(&mut self, pair: HeldPair) -> bool {
        if pair.recipient != self.owner {
            return false;
        }
        match self.pairs.entry(pair.dealer) {
            Entry::Vacant(place) => {
                place.insert(pair.shares);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Dealers whose pair is held.
    pub fn dealers(&self) -> impl Iterator<Item = SiloId> + '_ {
        self.pairs.keys().copied()
    }

    /// The one reply that a survivor list implies, signed: b-shares of survivors, s-shares of dropped silos. Every other
    /// share is erased here. The reply goes to the journal before COMMIT is signed and out of it only against a certificate
    /// (SA-08).
    pub fn into_reply(self, list: &VerifiedList, identity: &IdentityKey, ctx: &Digest) -> PendingReveal {
        let mut shares = Vec::new();
        for &dealer in list.survivors() {
            if let Some(pair) = self.pairs.get(&dealer) {
                shares.push(RevealedShare::OfSurvivor { peer: dealer, b: pair.b.clone() });
            }
        }
        for &dealer in list.dropped() {
            if let Some(pair) = self.pairs.get(&dealer) {
                shares.push(RevealedShare::OfDropped { peer: dealer, s: pair.s.clone() });
            }
        }
        shares.sort_by_key(RevealedShare::peer);
        PendingReveal::new(list, Reveal::sign(identity, ctx, self.owner, &list.t3(), shares))
    }
}
