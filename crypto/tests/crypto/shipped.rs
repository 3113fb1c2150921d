//! The crate as programs have it (this test enables no feature): every check stops what has a fault, and nothing else.

use blindsum_crypto::verify::Check;

#[test]
fn in_programs_every_check_is_on() {
    assert!(Check::ALL.iter().all(|check| check.finds(true) && !check.finds(false)));
}
