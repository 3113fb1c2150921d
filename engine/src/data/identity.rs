//! Which record a row is, however it is written down, or which person: what a privacy ledger counts for.
//!
//! ```text
//! prompt, text ─► joined ─► NFKC, capitals and small letters as one, without what is not seen ─► SHA-256, its first 16 bytes
//! a person's name or number ─► NFKC, without spaces around it and what is not seen ──────────────────────┘
//! ```
//!
//! Contract: the same words give the same identity in whatever file, order, format, column or spacing they stand, and
//! wherever a prompt ends and its text begins, be it inside of a word; the label is left out, since a record with another
//! label is the same record. Spaces, control characters and what Unicode has for layout alone (soft hyphens, joiners,
//! marks of byte order and direction) count for nothing. Letters that only look alike, other punctuation inside and left-out
//! words make another record: identities find honest copies, not disguises.
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
        if Mutant::RawIdentities.lives() {
            let mut hasher = Sha256::new_with_prefix(b"blindsum record 2\n");
            parts.into_iter().for_each(|part| hasher.update(part));
            return Self::from_hash(hasher);
        }
        let seen = parts.into_iter().flat_map(str::chars).filter(|c| !is_ignorable(*c));
        // Both ways, since ß and SS, ς and Σ meet in capitals only, and ẞ and ß in small letters only.
        let folded = seen.nfkc().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
        let plain: String = folded.nfkc().filter(|c| !c.is_whitespace() && !is_ignorable(*c)).collect();
        // A full stop or quotes around it make no other record; what stands inside may (3.5 and 35).
        let inner = plain.trim_matches(|c: char| !c.is_alphanumeric());
        let words = if inner.is_empty() { plain.as_str() } else { inner };
        Self::from_hash(Sha256::new_with_prefix(b"blindsum record 2\n").chain_update(words))
    }

    /// The person that stands so in the file. Upper and lower case differ, as numbers of patients or customers may.
    pub fn of_person(name: &str) -> Self {
        let plain: String = name.chars().filter(|c| !is_ignorable(*c)).nfkc().collect();
        Self::from_hash(Sha256::new_with_prefix(b"blindsum person 1\n").chain_update(plain.trim()))
    }

    fn from_hash(hasher: Sha256) -> Self {
        let hash: [u8; 32] = hasher.finalize().into();
        let mut identity = [0; Self::BYTES];
        identity.copy_from_slice(&hash[..Self::BYTES]);
        Identity(identity)
    }
}

/// What nobody sees: Unicode's `Default_Ignorable_Code_Point`, and control characters that are no space.
fn is_ignorable(c: char) -> bool {
    let layout = matches!(u32::from(c),
        0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f | 0x202a..=0x202e
        | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfff8 | 0x1bca0..=0x1bca3
        | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff);
    layout || c.is_control() && !c.is_whitespace()
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
            &["\"The patient is well.\" -"],
            &["the ", "PATIENT is well"],
            &["", "ｔｈｅ patient is well"],
            // The end of a prompt is no end of a word, and a line break may cut one.
            &["the pat", "ient is well"],
            &["the pa\u{ad}tient is well"],
            &["\u{feff}the pat\nient\u{200b} is\u{2060} well\0"],
            &["the\u{200d} patient\u{fe0f} \u{202a}is\u{202c} we\u{34f}ll\u{e0041}"],
        ] {
            assert_eq!(of(parts), same, "{parts:?}");
        }
        assert_eq!(of(&["ﬁne caf\u{e9}"]), of(&["fine cafe\u{301}"]));
        assert_eq!(of(&["cafe", "\u{301}"]), of(&["caf\u{e9}"]), "a mark in the next part");
        assert_eq!(of(&["cafe\u{200b}\u{301}"]), of(&["caf\u{e9}"]), "a mark after what is not seen");
        for (one, other) in [("Straße", "STRASSE"), ("STRAẞE", "straße"), ("ΟΔΟΣ", "οδος"), ("İzmir", "i\u{307}ZMIR")]
        {
            assert_eq!(of(&[one]), of(&[other]), "{one} {other}");
        }
    }

    #[test]
    fn a_person_is_told_by_the_name_without_spaces_around_it() {
        let one = Identity::of_person("P 001a");
        assert!(
            [" P 001a\t", "Ｐ\u{a0}001a", "\u{feff}P 0\u{ad}01a"]
                .into_iter()
                .all(|same| Identity::of_person(same) == one)
        );
        for other in ["p 001a", "P  001a", "P001a", "P 001", ""] {
            assert_ne!(Identity::of_person(other), one, "{other}");
        }
        assert_ne!(of(&["p 001a"]), Identity::of_person("p 001a "), "a person is no record");
    }

    #[test]
    fn other_words_are_another_record() {
        let one = of(&["the patient is well"]);
        for other in ["the patient is ill", "the patient is", "the patients is well", "well is the patient", ""] {
            assert_ne!(of(&[other]), one, "{other}");
        }
    }
}
