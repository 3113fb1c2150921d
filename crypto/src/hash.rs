//! The protocol's hash: SHA-256 over a label and fields, each behind its length.
//!
//! Contract: `H(L; x…)` of the protocol is `Hasher::new(L).field(x)….finish()`. Every field is preceded by its length as
//! u64 little-endian, so two different lists of fields never give the same bytes. Integers are 8 bytes little-endian.

pub use crate::bytes::HexError;
use crate::bytes::fixed_bytes;
use crate::labels::Label;
use sha2::{Digest as _, Sha256};

/// A SHA-256 value. Hex in text formats, 32 raw bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);
fixed_bytes!(Digest, 32);

/// Plain SHA-256 of `bytes`, for files whose hash people compare with other tools. The protocol itself hashes with
/// [`Hasher`].
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Builds `H(label; fields…)`.
#[derive(Clone)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Starts with a label.
    pub fn new(label: Label) -> Hasher {
        Hasher(Sha256::new()).field(label.as_str().as_bytes())
    }

    /// Adds a field of any length.
    #[must_use]
    pub fn field(mut self, bytes: &[u8]) -> Hasher {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds an integer as a field of 8 bytes.
    #[must_use]
    pub fn u64(self, value: u64) -> Hasher {
        self.field(&value.to_le_bytes())
    }

    /// Adds a digest as a field of 32 bytes.
    #[must_use]
    pub fn digest(self, digest: &Digest) -> Hasher {
        self.field(&digest.0)
    }

    /// The hash.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_abc_is_the_fips_180_value() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc").to_string(), expected);
        assert_eq!(expected.parse::<Digest>().unwrap(), sha256(b"abc"));
    }

    #[test]
    fn hasher_is_sha256_over_length_prefixed_fields() {
        let label = Label::T1.as_str().as_bytes();
        let mut bytes = (label.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(label);
        bytes.extend_from_slice(&3u64.to_le_bytes());
        bytes.extend_from_slice(b"abc");
        bytes.extend_from_slice(&8u64.to_le_bytes());
        bytes.extend_from_slice(&7u64.to_le_bytes());
        assert_eq!(Hasher::new(Label::T1).field(b"abc").u64(7).finish(), sha256(&bytes));
    }

    #[test]
    fn sa02_moving_a_byte_between_fields_changes_the_hash() {
        let ab_c = Hasher::new(Label::T1).field(b"ab").field(b"c").finish();
        let a_bc = Hasher::new(Label::T1).field(b"a").field(b"bc").finish();
        assert_ne!(ab_c, a_bc);
        assert_ne!(ab_c, Hasher::new(Label::T2).field(b"ab").field(b"c").finish());
    }

    #[test]
    fn hex_of_the_wrong_length_is_refused() {
        assert!("ab".parse::<Digest>().is_err());
        assert!("zz".repeat(32).parse::<Digest>().is_err());
        let json = serde_json::to_string(&sha256(b"abc")).unwrap();
        assert_eq!(json.len(), 66);
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), sha256(b"abc"));
        assert!(serde_json::from_str::<Digest>("\"abcd\"").is_err());
    }
}
