//! Known answers from the standards for the primitives as used here: through this crate's functions where they show the
//! primitive, else through the very type and parameters that they use. What `vectors` has is not repeated.

use super::*;
use crate::identity::{IdentityPublic, Signature};
use crate::keys::{ChannelKey, exchange, is_sound_public};
use crate::mask::{MaskSeed, Sign, Stream};
use aes::Aes256Enc;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::VerifyingKey;
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256, Sha512};
use x25519_dalek::{StaticSecret, x25519};

fn h<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

#[test]
fn x25519_rfc_7748_section_5_2_second_vector_and_section_6_1() {
    let k = h("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d");
    let u: [u8; 32] = h("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493");
    let product = h("95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957");
    assert_eq!(x25519(k, u), product);
    assert_eq!(*exchange(&StaticSecret::from(k), &u).unwrap(), product);
    // the top bit of this coordinate is set: an exchange ignores it, and so an advert may not carry it
    assert!(!is_sound_public(&u));

    let a = h("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let b = h("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let a_public = h("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let b_public = h("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    assert_eq!(ChannelKey::generate(&mut Replay::new(a)).public(), a_public);
    assert_eq!(ChannelKey::generate(&mut Replay::new(b)).public(), b_public);
    let shared = h("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(*exchange(&StaticSecret::from(a), &b_public).unwrap(), shared);
    assert_eq!(*exchange(&StaticSecret::from(b), &a_public).unwrap(), shared);
    assert!(is_sound_public(&a_public) && is_sound_public(&b_public));
}

#[test]
fn ed25519_rfc_8032_section_7_1_tests_1_2_and_sha_abc() {
    let cases = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            vec![],
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
             d25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            vec![0x72],
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c\
             387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            Sha512::digest(b"abc").to_vec(),
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030\
             3dca179c138ac17ad9bef1177331a704",
        ),
    ];
    for (secret, public, message, signature) in cases {
        let (key, public, signature) = (IdentityKey::from_bytes(&h(secret)), IdentityPublic(h(public)), h(signature));
        assert_eq!(key.public(), public);
        assert!(public.is_sound());
        assert_eq!(key.sign_bytes(&message).0, signature);
        public.verify_bytes(&message, &Signature(signature)).unwrap();
        assert!(public.verify_bytes(&[&message[..], &[0]].concat(), &Signature(signature)).is_err());
    }
}

/// The twelve edge cases of Chalkias, Garillot and Nikolaenko, "Taming the many EdDSAs" (SSR 2020), with what plain and
/// strict verification of ed25519-dalek say to them there.
const TAMING: [(&str, &str, &str, bool, bool); 12] = [
    // 0: S = 0, A and R of small order
    (
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a\
         0000000000000000000000000000000000000000000000000000000000000000",
        true,
        false,
    ),
    // 1: A of small order
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43\
         a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        true,
        false,
    ),
    // 2: R of small order, A of mixed order
    (
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa\
         8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
        true,
        false,
    ),
    // 3: A and R of mixed order, and the equation holds without the cofactor: no check of RFC 8032 fails
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f\
         87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
        true,
        true,
    ),
    // 4 and 5: the equation holds only when multiplied by the cofactor
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512\
         5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
        false,
        false,
    ),
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7\
         e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
        false,
        false,
    ),
    // 6 and 7: S above the group order
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e\
         547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
        false,
        false,
    ),
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942\
         7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
        false,
        false,
    ),
    // 8 and 9: R not canonical
    (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
         03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
        false,
        false,
    ),
    (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
         ca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
        false,
        false,
    ),
    // 10 and 11: A not canonical and of small order
    (
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc\
         a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        false,
        false,
    ),
    (
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc\
         a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        true,
        false,
    ),
];

/// What ed25519-dalek says without its strict rules.
pub(crate) fn plain_verify(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    use ed25519_dalek::Verifier;
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    VerifyingKey::from_bytes(public).is_ok_and(|key| key.verify(message, &signature).is_ok())
}

#[test]
fn ed25519_strict_verification_refuses_the_edge_cases_that_others_accept() {
    let mut only_strict_refuses = Vec::new();
    for (case, (message, public, signature, plain, strict)) in TAMING.into_iter().enumerate() {
        let (message, public, signature): ([u8; 32], [u8; 32], [u8; 64]) = (h(message), h(public), h(signature));
        assert_eq!(plain_verify(&public, &message, &signature), plain, "case {case}, plain");
        let refused = IdentityPublic(public).verify_bytes(&message, &Signature(signature)).is_err();
        assert_eq!(refused, !strict, "case {case}, strict");
        if plain && refused {
            only_strict_refuses.push(case);
        }
        // keys of small order (also not canonical ones) enter no roster; those of mixed order have large order
        assert_eq!(IdentityPublic(public).is_sound(), (2..10).contains(&case), "case {case}, as a roster key");
    }
    assert_eq!(only_strict_refuses, [0, 1, 2, 11]);
}

#[test]
fn ed25519_signatures_have_one_encoding() {
    let key = IdentityKey::from_bytes(&[7; 32]);
    let (message, public) = (b"message", key.public());
    let signature = key.sign_bytes(message);
    public.verify_bytes(message, &signature).unwrap();
    // S + ℓ is the same scalar in another encoding
    let order = -Scalar::ONE;
    let mut more = signature.0;
    let mut carry = 1u16; // ℓ = (ℓ − 1) + 1
    for (byte, l) in more[32..].iter_mut().zip(order.to_bytes()) {
        let sum = u16::from(*byte) + u16::from(l) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(carry, 0);
    let wide: [u8; 32] = more[32..].try_into().unwrap();
    assert_eq!(Scalar::from_bytes_mod_order(wide).to_bytes(), signature.0[32..], "the same scalar");
    assert!(public.verify_bytes(message, &Signature(more)).is_err());
    // every bit counts
    for bit in 0..512 {
        let mut flipped = signature;
        flipped.0[bit / 8] ^= 1 << (bit % 8);
        assert!(public.verify_bytes(message, &flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn hkdf_sha256_rfc_5869_tests_2_and_3_with_info_in_parts() {
    let bytes = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
    let cases = [
        (
            bytes(0x00, 0x4f),
            bytes(0x60, 0xaf),
            bytes(0xb0, 0xff),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09\
             da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            vec![0x0b; 22],
            vec![],
            vec![],
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ];
    for (ikm, salt, info, prk, okm) in cases {
        let okm = hex::decode(okm).unwrap();
        assert_eq!(Hkdf::<Sha256>::extract(Some(&salt), &ikm).0[..], h::<32>(prk));
        for parts in [1, 7, 80] {
            let parts: Vec<&[u8]> = info.chunks(parts).collect();
            let mut out = vec![0u8; okm.len()];
            Hkdf::<Sha256>::new(Some(&salt), &ikm).expand_multi_info(&parts, &mut out).unwrap();
            assert_eq!(out, okm);
        }
    }
}

#[test]
fn aes_256_ctr_sp_800_38a_f_5_6_block_by_block_in_any_order() {
    // decryption, each block found by seeking, as a thread does that takes a part of the vector
    let key: [u8; 32] = h("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
    let iv: [u8; 16] = h("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    let blocks = [
        ("601ec313775789a5b7a7f504bbf3d228", "6bc1bee22e409f96e93d7e117393172a"),
        ("f443e3ca4d62b59aca84e990cacaf5c5", "ae2d8a571e03ac9c9eb76fac45af8e51"),
        ("2b0930daa23de94ce87017ba2d84988d", "30c81c46a35ce411e5fbc1191a0a52ef"),
        ("dfc9c58db67aada613c2dd08457941a6", "f69f2445df4f9b17ad2b417be66c3710"),
    ];
    for order in [[0usize, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let mut cipher = Ctr128BE::<Aes256Enc>::new(&key.into(), &iv.into());
        for i in order {
            let mut block: [u8; 16] = h(blocks[i].0);
            cipher.seek(16 * i as u64);
            cipher.apply_keystream(&mut block);
            assert_eq!(block, h(blocks[i].1), "block {i}");
        }
    }
}

/// The paragraphs `name = value` of one of NIST's .rsp files, a bare word as a name without value.
fn rsp(text: &str) -> Vec<BTreeMap<&str, &str>> {
    let paragraphs = text.split("\n\n").map(|p| {
        let lines = p.lines().filter(|l| !l.starts_with(['#', '[']));
        lines.map(|l| l.split_once('=').map_or((l.trim(), ""), |(k, v)| (k.trim(), v.trim()))).collect()
    });
    paragraphs.filter(|p: &BTreeMap<_, _>| p.contains_key("Count") || p.contains_key("COUNT")).collect()
}

#[test]
fn mask_streams_begin_with_the_aes_256_blocks_of_nist_cavp() {
    // AES of the zero block is the first block of a mask: 256 keys of VarKey, 16 of KeySbox
    let files = [
        (256, include_str!("../../vectors/nist/ECBVarKey256.rsp")),
        (16, include_str!("../../vectors/nist/ECBKeySbox256.rsp")),
    ];
    for (cases, file) in files {
        let vectors = rsp(file);
        assert_eq!(vectors.len(), cases);
        for v in vectors {
            assert_eq!(v["PLAINTEXT"], "0".repeat(32));
            let seed = MaskSeed::from_bytes(h(v["KEY"]));
            let mut lanes = keystream(seed.clone(), 4);
            let bytes: Vec<u8> = lanes.iter().flat_map(|l| l.to_le_bytes()).collect();
            assert_eq!(hex::encode(bytes), v["CIPHERTEXT"], "key {}", v["KEY"]);
            mask::apply_range(&mut lanes, 0, &[Stream { seed, sign: Sign::Subtract }]);
            assert_eq!(lanes, [0; 4]);
        }
    }
}

#[test]
fn aes_256_gcm_cases_13_15_and_16_of_its_specification() {
    let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    let plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                 1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
    let sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
                  8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";
    let (zero_key, zero_iv, iv) = ("0".repeat(64), "0".repeat(24), "cafebabefacedbaddecaf888");
    let aad = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    let cases = [
        (&zero_key[..], &zero_iv[..], "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
        (key, iv, "", plain, sealed, "b094dac5d93471bdec1a502270e3cc6c"),
        (key, iv, aad, &plain[..120], &sealed[..120], "76fc6ece0f4e1768cddf8853bb2d551b"),
    ];
    for (key, iv, aad, plain, sealed, tag) in cases {
        let vector =
            BTreeMap::from([("Key", key), ("IV", iv), ("AAD", aad), ("PT", plain), ("CT", sealed), ("Tag", tag)]);
        seal_and_open(&vector);
    }
}

fn seal_and_open(v: &BTreeMap<&str, &str>) {
    let bytes = |name| hex::decode(v[name]).unwrap();
    let (cipher, nonce, aad) = (Aes256Gcm::new(&h(v["Key"]).into()), Nonce::from(h::<12>(v["IV"])), bytes("AAD"));
    let sealed = cipher.encrypt(&nonce, Payload { msg: &bytes("PT"), aad: &aad }).unwrap();
    assert_eq!(hex::encode(&sealed), format!("{}{}", v["CT"], v["Tag"]));
    let opened = cipher.decrypt(&nonce, Payload { msg: &sealed, aad: &aad }).unwrap();
    assert_eq!(opened, bytes("PT"));
}

#[test]
fn aes_256_gcm_nist_cavp_with_96_bit_nonce_and_128_bit_tag() {
    let vectors = rsp(include_str!("../../vectors/nist/gcmEncryptExtIV256.rsp"));
    assert_eq!(vectors.len(), 375);
    vectors.iter().for_each(seal_and_open);

    let vectors = rsp(include_str!("../../vectors/nist/gcmDecrypt256.rsp"));
    assert_eq!(vectors.len(), 375);
    let mut refused = 0;
    for v in &vectors {
        let bytes = |name| hex::decode(v[name]).unwrap();
        let sealed = [bytes("CT"), bytes("Tag")].concat();
        let payload = Payload { msg: &sealed, aad: &bytes("AAD") };
        let opened = Aes256Gcm::new(&h(v["Key"]).into()).decrypt(&Nonce::from(h::<12>(v["IV"])), payload);
        assert_eq!(opened.ok(), (!v.contains_key("FAIL")).then(|| bytes("PT")), "key {}", v["Key"]);
        refused += usize::from(v.contains_key("FAIL"));
    }
    assert_eq!(refused, 191);
}
