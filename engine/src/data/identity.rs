//! Which record a row is, however it is written down, or which person: what a privacy ledger counts for.
//!
//! ```text
//! prompt, text ─► joined ─► NFKC, lower case, one space between words ─► SHA-256, its first 16 bytes
//! a person's name or number ─► NFKC, without spaces around it ──────────┘
//! ```
//!
//! Contract: the same words give the same identity in whatever file, order, format, column or spacing they stand, and
//! wherever a prompt ends and its text begins; the label is left out, since a record with another label is the same record.
//! An identity gives a guessed text away, so that it lies where the text lies too; a ledger keeps keyed tags of them.

use blindsum_privacy::Mutant;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

/// Identity of a record, equal for equal words, or of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub [u8; Self::BYTES]);

impl Identity {
    /// Length of an identity.
    pub const BYTES: usize = 16;

    /// The record of these words, given in as many parts as they stand in.
    pub fn of_words<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hasher = Sha256::new_with_prefix(b"blindsum record 1\n");
        if Mutant::RawIdentities.lives() {
            parts.into_iter().for_each(|part| hasher.update(part));
            return Self::from_hash(hasher);
        }
        for part in parts {
            let plain: String = part.nfkc().flat_map(char::to_lowercase).nfkc().collect();
            for word in plain.split_whitespace() {
                hasher.update(word);
                hasher.update(" ");
            }
        }
        Self::from_hash(hasher)
    }

    /// The person that stands so in the file. Upper and lower case differ, as numbers of patients or customers may.
    pub fn of_person(name: &str) -> Self {
        let plain: String = name.nfkc().collect();
        Self::from_hash(Sha256::new_with_prefix(b"blindsum person 1\n").chain_update(plain.trim()))
    }

    fn from_hash(hasher: Sha256) -> Self {
        let hash: [u8; 32] = hasher.finalize().into();
        let mut identity = [0; Self::BYTES];
        identity.copy_from_slice(&hash[..Self::BYTES]);
        Identity(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&str]) -> Identity {
        Identity::of_words(parts.iter().copied())
    }

    #[test]
    fn spelling_that_says_the_same_is_the_same_record() {
        let same = of(&["the patient is well"]);
        for parts in [
            &["  The\tpatient \n is\u{a0}well "][..],
            &["the patient", "is well"],
            &["the ", "PATIENT is well"],
            &["", "ｔｈｅ patient is well"],
        ] {
            assert_eq!(of(parts), same, "{parts:?}");
        }
        assert_eq!(of(&["ﬁne caf\u{e9}"]), of(&["fine cafe\u{301}"]));
    }

    #[test]
    fn a_person_is_told_by_the_name_without_spaces_around_it() {
        let one = Identity::of_person("P 001a");
        assert!([" P 001a\t", "Ｐ\u{a0}001a"].into_iter().all(|same| Identity::of_person(same) == one));
        for other in ["p 001a", "P  001a", "P001a", "P 001", ""] {
            assert_ne!(Identity::of_person(other), one, "{other}");
        }
        assert_ne!(of(&["p 001a"]), Identity::of_person("p 001a "), "a person is no record");
    }

    #[test]
    fn other_words_are_another_record() {
        let one = of(&["the patient is well"]);
        for other in ["the patient is ill", "the patient is", "thepatient is well", "well is the patient", ""] {
            assert_ne!(of(&[other]), one, "{other}");
        }
    }
}
