//! Project Wycheproof's cases for X25519, Ed25519, HKDF-SHA-256 and AES-256-GCM (96-bit nonce, 128-bit tag), through this
//! crate's functions or the types that they use.
//!
//! Contract: every case runs; the counts are asserted, so that a smaller set does not pass for the whole. "Acceptable" cases
//! exist for X25519 only. There the exchange computes what the case says, except where the result is zero: that is an
//! error here (flags `ZeroSharedSecret` and `LowOrderPublic`, always together). An advert is stricter than the exchange
//! and refuses `NonCanonicalPublic` keys too. Ed25519 is strict: it accepts the valid cases and no other.

use super::*;
use crate::identity::{IdentityPublic, Signature};
use crate::keys::{exchange, is_sound_public};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use wycheproof::TestResult;
use x25519_dalek::StaticSecret;

#[test]
fn x25519() {
    use wycheproof::xdh::{TestFlag, TestName, TestSet};
    let set = TestSet::load(TestName::X25519).unwrap();
    let (mut valid, mut acceptable, mut zero, mut unsound) = (0, 0, 0, 0);
    for t in set.test_groups.iter().flat_map(|g| &g.tests) {
        let secret: [u8; 32] = t.private_key[..].try_into().unwrap();
        let public: [u8; 32] = t.public_key[..].try_into().unwrap();
        let flag = |flag| t.flags.contains(&flag);
        match t.result {
            TestResult::Valid => valid += 1,
            TestResult::Acceptable => acceptable += 1,
            TestResult::Invalid => panic!("case {} is new here: an invalid exchange", t.tc_id),
        }
        let shared = exchange(&StaticSecret::from(secret), &public).ok();
        let low_order = flag(TestFlag::ZeroSharedSecret);
        assert_eq!(low_order, flag(TestFlag::LowOrderPublic), "case {}", t.tc_id);
        assert_eq!(low_order, t.shared_secret.iter().all(|&b| b == 0), "case {}", t.tc_id);
        let expected = (!low_order).then(|| t.shared_secret.to_vec());
        assert_eq!(shared.map(|s| s.to_vec()), expected, "case {}: {}", t.tc_id, t.comment);
        let sound = !(low_order || flag(TestFlag::NonCanonicalPublic));
        assert_eq!(is_sound_public(&public), sound, "case {} as an advertised key: {}", t.tc_id, t.comment);
        zero += usize::from(low_order);
        unsound += usize::from(!sound);
    }
    assert_eq!((valid, acceptable, zero, unsound), (264, 254, 31, 44));
}

#[test]
fn ed25519() {
    use wycheproof::eddsa::{TestFlag, TestName, TestSet};
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut accepted, mut refused, mut no_signature) = (0, 0, 0);
    for group in &set.test_groups {
        let public = IdentityPublic(group.key.pk[..].try_into().unwrap());
        assert!(public.is_sound());
        for t in &group.tests {
            let Ok(signature) = <[u8; 64]>::try_from(&t.sig[..]) else {
                // another length than 64 bytes cannot be expressed; none of these is valid
                assert_eq!(t.result, TestResult::Invalid, "case {}", t.tc_id);
                no_signature += 1;
                continue;
            };
            let verdict = public.verify_bytes(&t.msg, &Signature(signature));
            match t.result {
                TestResult::Valid => accepted += usize::from(verdict.is_ok()),
                TestResult::Invalid => refused += usize::from(verdict.is_err()),
                TestResult::Acceptable => panic!("case {} is new here: an acceptable signature", t.tc_id),
            }
            assert_eq!(verdict.is_ok(), t.result == TestResult::Valid, "case {}: {}", t.tc_id, t.comment);
        }
    }
    assert_eq!((accepted, refused, no_signature), (88, 51, 12));
    let malleable = |t: &&wycheproof::eddsa::Test| t.flags.contains(&TestFlag::SignatureMalleability);
    let tests = || set.test_groups.iter().flat_map(|g| &g.tests);
    assert_eq!(tests().filter(malleable).count(), 8);
    // RFC 8032 §7.1 TEST 1024: its message and signature are among the cases, the secret key is
    let secret = hex::decode("f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5").unwrap();
    let case = tests().find(|t| t.comment.ends_with("Test 1024")).unwrap();
    let signature = IdentityKey::from_bytes(&secret.try_into().unwrap()).sign_bytes(&case.msg);
    assert_eq!((case.msg.len(), &signature.0[..]), (1023, &case.sig[..]));
}

#[test]
fn hkdf_sha_256() {
    use wycheproof::hkdf::{TestFlag, TestName, TestSet};
    let set = TestSet::load(TestName::HkdfSha256).unwrap();
    let (mut derived, mut refused) = (0, 0);
    for t in set.test_groups.iter().flat_map(|g| &g.tests) {
        let mut okm = vec![0u8; t.size];
        let parts: Vec<&[u8]> = t.info.chunks(5).collect(); // in parts, as the crate gives it
        match Hkdf::<Sha256>::new(Some(&t.salt), &t.ikm).expand_multi_info(&parts, &mut okm) {
            Ok(()) => {
                assert_eq!((t.result, &okm[..]), (TestResult::Valid, &t.okm[..]), "case {}: {}", t.tc_id, t.comment);
                derived += 1;
            }
            Err(_) => {
                assert_eq!(t.result, TestResult::Invalid, "case {}: {}", t.tc_id, t.comment);
                assert_eq!(t.flags, [TestFlag::SizeTooLarge]);
                refused += 1;
            }
        }
    }
    assert_eq!((derived, refused), (83, 3));
}

#[test]
fn aes_256_gcm() {
    use wycheproof::aead::{TestName, TestSet};
    let set = TestSet::load(TestName::AesGcm).unwrap();
    let (mut sealed, mut refused, mut other) = (0, 0, 0);
    for group in &set.test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            other += group.tests.len();
            continue;
        }
        for t in &group.tests {
            let key: [u8; 32] = t.key[..].try_into().unwrap();
            let nonce = Nonce::from(<[u8; 12]>::try_from(&t.nonce[..]).unwrap());
            let cipher = Aes256Gcm::new(&key.into());
            let bytes = [&t.ct[..], &t.tag].concat();
            let opened = cipher.decrypt(&nonce, Payload { msg: &bytes, aad: &t.aad });
            match t.result {
                TestResult::Valid => {
                    assert_eq!(opened.unwrap(), t.pt[..], "case {}: {}", t.tc_id, t.comment);
                    let again = cipher.encrypt(&nonce, Payload { msg: &t.pt, aad: &t.aad }).unwrap();
                    assert_eq!(again, bytes, "case {}: {}", t.tc_id, t.comment);
                    sealed += 1;
                }
                TestResult::Invalid => {
                    assert!(opened.is_err(), "case {}: {}", t.tc_id, t.comment);
                    refused += 1;
                }
                TestResult::Acceptable => panic!("case {} is new here: an acceptable ciphertext", t.tc_id),
            }
        }
    }
    assert_eq!((sealed, refused, other), (39, 27, 250));
}
