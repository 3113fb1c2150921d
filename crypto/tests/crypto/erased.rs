//! SA-11: secrets are erased when they go, and never shown. There is no check to switch off here, since types do it; the
//! teeth are a twin of the same layout without that, of which the same look at the same place finds everything.
// Looking at memory after a drop takes a raw pointer. Each look is at bytes of a place that is still allocated.
#![allow(unsafe_code)]

use std::mem::{ManuallyDrop, MaybeUninit};

use blindsum_crypto::mask::MaskSeed;
use blindsum_crypto::{IdentityKey, OpenedSecret};

/// A secret as it would be without care.
#[derive(Debug)]
struct Twin([u8; 32]);

const SECRET: [u8; 32] = *b"thirty-two bytes that stay secre";

/// The place of a value after the value was dropped there.
fn after_drop<T>(value: T) -> Vec<u8> {
    let mut place = ManuallyDrop::new(value);
    // SAFETY: `place` holds a value that nothing else drops or uses: this drop is its only and last use.
    unsafe { ManuallyDrop::drop(&mut place) };
    let bytes = (&raw const place).cast::<MaybeUninit<u8>>();
    let looked_at = (0..size_of::<T>()).map(|i| {
        // SAFETY: within `place`, which lives to the end of this function; `T` holds plain bytes without padding.
        unsafe { bytes.add(i).read_volatile().assume_init() }
    });
    looked_at.collect()
}

fn holds_secret(bytes: &[u8]) -> bool {
    bytes.windows(16).any(|w| SECRET.windows(16).any(|s| s == w))
}

fn shows_secret(text: &str) -> bool {
    let listed = SECRET.map(|b| b.to_string()).join(", ");
    text.contains(&listed) || text.contains(&hex::encode(SECRET)) || text.contains("thirty-two")
}

#[test]
fn sa11_teeth_secrets_are_erased_and_hidden_where_a_plain_twin_is_found_and_shown() {
    assert_eq!(Twin(SECRET).0, SECRET);
    assert!(holds_secret(&after_drop(Twin(SECRET))) && shows_secret(&format!("{:?}", Twin(SECRET))));
    let seed = || MaskSeed::from_bytes(SECRET);
    let identity = || IdentityKey::from_bytes(&SECRET);
    let opened = || serde_json::from_str::<OpenedSecret>(&serde_json::to_string(&SECRET).unwrap()).unwrap();
    assert!(!holds_secret(&after_drop(seed())) && !shows_secret(&format!("{:?}", seed())));
    assert!(!holds_secret(&after_drop(identity())) && !shows_secret(&format!("{:?}", identity())));
    assert!(!holds_secret(&after_drop(opened())) && !shows_secret(&format!("{:?}", opened())));
}
