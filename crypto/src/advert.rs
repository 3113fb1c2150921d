//! P1: a silo advertises its public keys for one attempt, which says that its update is ready.
//!
//! Contract: one advert per attempt, ever (SA-07); the secrets behind it are [`SessionSecrets`], made here, kept in memory
//! and erased when the masked input has been made.

use crate::hash::Digest;
use crate::identity::{IdentityKey, Signature, SiloId};
use crate::keys::{ChannelKey, MaskSecret};
use crate::labels::Label;
use crate::shamir::SecretScalar;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

/// How far a silo's journal has got. Peers remember it: a journal that goes backwards was restored from a copy, and its
/// silo might vote twice (SA-07).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalMark {
    /// Number of entries.
    pub length: u64,
    /// Hash chain over them.
    pub head: Digest,
}

/// A silo's signed public keys for one attempt. Unverified until [`crate::verify::adverts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    /// The silo.
    pub silo: SiloId,
    /// X25519 key to which peers seal their share bundles.
    pub channel_key: [u8; 32],
    /// X25519 key for pairwise masks.
    pub mask_key: [u8; 32],
    /// Number of entries of its journal.
    pub journal_length: u64,
    /// Head of its journal's hash chain.
    pub journal_head: Digest,
    /// Whether the silo is free to add its held-out counts: none of its masked inputs of the round may still enter another
    /// sum (SA-13). Counts are added where every advert of the session says so.
    pub counts: bool,
    /// Over all of the above under `ctx`.
    pub signature: Signature,
}

/// What a silo keeps secret during one attempt. Each part is erased on drop.
#[derive(Debug)]
pub struct SessionSecrets {
    /// Opens sealed bundles.
    pub channel: ChannelKey,
    /// Self-mask secret, dealt in b-shares.
    pub b: SecretScalar,
    /// Seed of the mask secret, dealt in s-shares.
    pub sigma: SecretScalar,
    /// Mask secret made from σ.
    pub mask: MaskSecret,
}

impl SessionSecrets {
    /// Fresh secrets for the attempt with this `ctx` (SA-15).
    pub fn generate(ctx: &Digest, rng: &mut (impl CryptoRng + ?Sized)) -> SessionSecrets {
        let sigma = SecretScalar::random(rng);
        let mask = MaskSecret::from_sigma(&sigma, ctx);
        SessionSecrets { channel: ChannelKey::generate(rng), b: SecretScalar::random(rng), sigma, mask }
    }
}

impl Advert {
    /// Signs the public halves of `secrets`.
    pub fn sign(
        identity: &IdentityKey,
        ctx: &Digest,
        silo: SiloId,
        secrets: &SessionSecrets,
        journal: JournalMark,
        counts: bool,
    ) -> Advert {
        let mut advert = Advert {
            silo,
            channel_key: secrets.channel.public(),
            mask_key: secrets.mask.public(),
            journal_length: journal.length,
            journal_head: journal.head,
            counts,
            signature: Signature([0; 64]),
        };
        let length = journal.length.to_le_bytes();
        advert.signature = identity.sign(Label::Advert, ctx, silo, &advert.fields(&length));
        advert
    }

    /// The journal mark that it carries.
    pub fn journal(&self) -> JournalMark {
        JournalMark { length: self.journal_length, head: self.journal_head }
    }

    pub(crate) fn fields<'a>(&'a self, length: &'a [u8; 8]) -> [&'a [u8]; 5] {
        [&self.channel_key, &self.mask_key, length, &self.journal_head.0, &[[0], [1]][usize::from(self.counts)]]
    }
}
