//! Keyed tags of records and persons: how a ledger knows one again without holding it.
//!
//! ```text
//! identity ─► HMAC-SHA256 under the ledger's key, 16 bytes ─► set, sorted ─► tags/<its SHA-256>.tags
//! ```
//!
//! Contract: without the key a tag says nothing of a guessed text. Sets are written once and never change; what is read
//! has the SHA-256 that the ledger names, or is refused.

use std::path::Path;

use blindsum_crypto::{Digest, sha256};
use blindsum_engine::data::Identity;
use blindsum_files::{FileError, read_public, write_atomic};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::mutant::SiloMutant;

/// The tag of a record or a person.
pub type Tag = [u8; 16];

/// The most bytes of a set that are read: 64 million tags.
const MAX_BYTES: u64 = 1 << 30;

/// The ledger's key.
#[derive(Clone)]
pub struct TagKey(Hmac<Sha256>);

impl std::fmt::Debug for TagKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TagKey(…)")
    }
}

impl TagKey {
    /// From its 32 bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        // RFC 2104: a key shorter than a block is filled up with zeros.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(bytes);
        TagKey(Hmac::new((&*block).into()))
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    /// The tag of a unit.
    pub fn tag(&self, identity: &Identity) -> Tag {
        if SiloMutant::TagsWithoutKey.lives() {
            return identity.0;
        }
        let [tag, _] = halves(self.mac(&[b"tag\n", &identity.0]));
        tag
    }

    /// The next link after `before`, over a line.
    pub fn link(&self, before: &[u8; 32], line: &[u8]) -> [u8; 32] {
        self.mac(&[b"link\n", before, line])
    }
}

fn halves(bytes: [u8; 32]) -> [Tag; 2] {
    let (halves, _) = bytes.as_chunks();
    [halves[0], halves[1]]
}

/// Tags of an account, ascending, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagSet(Vec<Tag>);

impl TagSet {
    /// The tags of these.
    pub fn new(key: &TagKey, identities: &[Identity]) -> Self {
        let mut tags: Vec<Tag> = identities.iter().map(|one| key.tag(one)).collect();
        tags.sort_unstable();
        tags.dedup();
        TagSet(tags)
    }

    /// In order.
    pub fn tags(&self) -> &[Tag] {
        &self.0
    }

    /// Whether the tag is one of them.
    pub fn has(&self, tag: &Tag) -> bool {
        self.0.binary_search(tag).is_ok()
    }

    /// SHA-256 of them all.
    pub fn digest(&self) -> Digest {
        sha256(self.0.as_flattened())
    }

    /// Name of the file of a set.
    pub(super) fn name(digest: &Digest) -> String {
        format!("{digest}.tags")
    }

    /// Writes the set into the folder `dir`, unless it is there.
    pub(super) fn write(&self, dir: &Path, digest: &Digest) -> Result<(), FileError> {
        let path = dir.join(Self::name(digest));
        if Self::read(dir, digest).is_ok_and(|found| found.is_some()) {
            return Ok(());
        }
        write_atomic(&path, self.0.as_flattened(), 0o600)
    }

    /// The set of this SHA-256 from the folder `dir`; `None` where what lies there is another or damaged.
    pub(super) fn read(dir: &Path, digest: &Digest) -> Result<Option<Self>, FileError> {
        let bytes = read_public(&dir.join(Self::name(digest)), MAX_BYTES)?;
        let (tags, rest) = bytes.as_chunks();
        if !rest.is_empty() || sha256(&bytes) != *digest {
            return Ok(None);
        }
        Ok(Some(TagSet(tags.to_vec())))
    }
}
