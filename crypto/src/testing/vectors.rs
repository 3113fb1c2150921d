//! Known answers of the primitives as used here: from their standards, and of our own derivations as computed apart from
//! this code (Python `cryptography` 48).

use super::*;
use crate::identity::IdentityPublic;
use crate::keys::{ChannelKey, MaskSecret, self_seed};
use crate::mask::{MaskSeed, Sign, Stream};
use crate::shamir::SecretScalar;
use aes::Aes256Enc;
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::Signer;
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::x25519;

fn h<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

#[test]
fn x25519_rfc_7748_section_5_2() {
    let k = h("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
    let u = h("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
    assert_eq!(x25519(k, u), h("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"));
    let (mut k, mut u) = ([0u8; 32], [0u8; 32]);
    (k[0], u[0]) = (9, 9);
    for i in 1..=1000 {
        (k, u) = (x25519(k, u), k);
        if i == 1 {
            assert_eq!(k, h("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
        }
    }
    assert_eq!(k, h("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
}

#[test]
fn ed25519_rfc_8032_section_7_1_test_3() {
    let secret = h("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7");
    let key = IdentityKey::from_bytes(&secret);
    let public = IdentityPublic(h("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"));
    assert_eq!(key.public(), public);
    assert!(public.is_sound());
    assert_eq!(*key.to_bytes(), secret);
    let signature = ed25519_dalek::SigningKey::from_bytes(&secret).sign(&[0xaf, 0x82]);
    let expected = "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                    18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a";
    assert_eq!(signature.to_bytes(), h(expected));
}

#[test]
fn hkdf_sha256_rfc_5869_test_1() {
    let salt: [u8; 13] = h("000102030405060708090a0b0c");
    let info: [u8; 10] = h("f0f1f2f3f4f5f6f7f8f9");
    let mut okm = [0u8; 42];
    Hkdf::<Sha256>::new(Some(&salt), &[0x0b; 22]).expand(&info, &mut okm).unwrap();
    let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    assert_eq!(okm, h::<42>(expected));
}

#[test]
fn aes_256_ctr_sp_800_38a_f_5_5() {
    let key: [u8; 32] = h("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
    let iv: [u8; 16] = h("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    let mut text: [u8; 64] = h("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                                30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");
    Ctr128BE::<Aes256Enc>::new(&key.into(), &iv.into()).apply_keystream(&mut text);
    let expected = "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5\
                    2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6";
    assert_eq!(text, h::<64>(expected));
}

#[test]
fn aes_256_gcm_case_14_of_its_specification() {
    let sealed = Aes256Gcm::new(&[0u8; 32].into()).encrypt(&Nonce::from([0u8; 12]), &[0u8; 16][..]).unwrap();
    assert_eq!(hex::encode(sealed), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
}

#[test]
fn keystream_lanes_are_little_endian_at_any_offset() {
    let seed = MaskSeed::from_bytes(std::array::from_fn(|i| i as u8));
    let lanes = keystream(seed.clone(), 9001);
    assert_eq!(lanes[..4], [3_053_490_418, 3_500_099_882, 1_788_539_817, 2_155_294_429]);
    assert_eq!(lanes[5000..5004], [3_440_319_217, 776_324_155, 2_164_409_246, 4_243_263_346]);
    let bytes: Vec<u8> = lanes.iter().flat_map(|l| l.to_le_bytes()).collect();
    assert_eq!(sha256(&bytes).to_string(), "da09e5cf5027df39e08d44c358b8b365985b3a68f8c0f663e1b858bad8fc9a15");
    let streams = [Stream { seed: seed.clone(), sign: Sign::Subtract }];
    for first in [0, 1, 2, 3, 4, 5, 4095, 4096, 8999] {
        let mut part = lanes[first..].to_vec();
        mask::apply_range(&mut part, first, &streams);
        assert!(part.iter().all(|&l| l == 0), "range from {first}");
    }
}

#[test]
fn masks_do_not_depend_on_threads_and_cancel() {
    let stream = |i: u8, sign| Stream { seed: MaskSeed::from_bytes([i; 32]), sign };
    let streams: Vec<_> = (0..7).map(|i| stream(i, if i % 2 == 0 { Sign::Add } else { Sign::Subtract })).collect();
    let back: Vec<_> = streams.iter().map(|s| Stream { sign: s.sign.opposite(), ..s.clone() }).collect();
    for length in [0usize, 1, 4095, 4096, 4097, 20_000] {
        let start: Vec<u32> = (0..length as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
        let mut one = start.clone();
        mask::apply(&mut one, &streams, 1);
        for threads in [0, 2, 3, 100] {
            let mut other = start.clone();
            mask::apply(&mut other, &streams, threads);
            assert!(one == other, "{length} lanes on {threads} threads");
        }
        mask::apply(&mut one, &back, 2);
        assert!(one == start);
    }
}

#[test]
fn sa15_derived_keys_are_those_of_the_protocol_page() {
    let (ctx, t1, bind) = (sha256(b"ctx"), sha256(b"t1"), sha256(b"bind"));
    let scalar = |x: u64| SecretScalar(Scalar::from(x));
    let (low, high) = (MaskSecret::from_sigma(&scalar(5), &ctx), MaskSecret::from_sigma(&scalar(6), &ctx));
    assert_eq!(low.public(), h("54dd719cd1ff106520571ab38512eead055ecc5c80aeaa57c371f987c439f65d"));
    let pair = h("075d43fde6b8895b1147d6a52eeb763b2b3fdad82a1cb56d05c5379a21a4b5ad");
    assert_eq!(low.pair_seed(&bind, SiloId(3), (SiloId(7), &high.public())).unwrap().0, pair);
    assert_eq!(high.pair_seed(&bind, SiloId(7), (SiloId(3), &low.public())).unwrap().0, pair);
    let own = h("6f663d8da4feb08d309a86052cfd625205bf2c74ecba775cd363735e0a61fdd0");
    assert_eq!(self_seed(&scalar(5), &bind).0, own);
    let (a, b) = (ChannelKey::generate(&mut Repeat(5)), ChannelKey::generate(&mut Repeat(6)));
    let there = h("f22712bf47c3fe943b4ce8bb083348430fcbad110f59aaaa74c99923949e93c0");
    let back = h("35d5ac0a4e09383ba6e52b5a0eb718df2cdd52bcaadb5a3eb7455325a66acbd9");
    assert_eq!(a.key_to(&t1, SiloId(3), (SiloId(7), &b.public())).unwrap().0, there);
    assert_eq!(b.key_from(&t1, SiloId(7), (SiloId(3), &a.public())).unwrap().0, there);
    assert_eq!(b.key_to(&t1, SiloId(7), (SiloId(3), &a.public())).unwrap().0, back);
    assert_eq!(a.key_from(&t1, SiloId(3), (SiloId(7), &b.public())).unwrap().0, back);
}

#[test]
fn sa01_an_exchange_with_a_low_order_key_is_an_error() {
    let (ctx, key) = (sha256(b"ctx"), ChannelKey::generate(&mut rng(1)));
    let one: [u8; 32] = std::array::from_fn(|i| u8::from(i == 0));
    for low in [[0u8; 32], one] {
        assert!(key.key_to(&ctx, SiloId(0), (SiloId(1), &low)).is_err());
        assert!(key.key_from(&ctx, SiloId(0), (SiloId(1), &low)).is_err());
        let mask = MaskSecret::from_sigma(&SecretScalar::random(&mut rng(2)), &ctx);
        assert!(mask.pair_seed(&ctx, SiloId(0), (SiloId(1), &low)).is_err());
    }
}

#[test]
fn sa02_a_signature_counts_for_one_label_context_signer_and_fields_only() {
    let (key, ctx) = (IdentityKey::from_bytes(&[1; 32]), sha256(b"ctx"));
    let signature = key.sign(Label::Commit, &ctx, SiloId(1), &[b"ab", b"c"]);
    let check = |label, ctx: &Digest, silo, fields: &[&[u8]]| key.public().verify(label, ctx, silo, fields, &signature);
    check(Label::Commit, &ctx, SiloId(1), &[b"ab", b"c"]).unwrap();
    assert!(check(Label::Abandon, &ctx, SiloId(1), &[b"ab", b"c"]).is_err());
    assert!(check(Label::Commit, &sha256(b"other"), SiloId(1), &[b"ab", b"c"]).is_err());
    assert!(check(Label::Commit, &ctx, SiloId(2), &[b"ab", b"c"]).is_err());
    assert!(check(Label::Commit, &ctx, SiloId(1), &[b"a", b"bc"]).is_err());
    assert!(check(Label::Commit, &ctx, SiloId(1), &[b"abc"]).is_err());
    let other = IdentityKey::from_bytes(&[2; 32]).public();
    assert!(other.verify(Label::Commit, &ctx, SiloId(1), &[b"ab", b"c"], &signature).is_err());
}

#[test]
fn wire_types_have_fixed_sizes_and_come_back_as_they_were() {
    let config = bincode::config::standard().with_fixed_int_encoding();
    macro_rules! check {
        ($value:expr, $bytes:expr) => {{
            let value = $value;
            let bytes = bincode::serde::encode_to_vec(&value, config).unwrap();
            assert_eq!(bytes.len(), $bytes, "{}", stringify!($value));
            let (back, read) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
            assert_eq!(read, bytes.len());
            let same = if true { &back } else { &value }; // gives `back` its type
            assert_eq!(same, &value);
            for cut in 0..bytes.len().min(200) {
                let short: Result<(_, usize), _> = bincode::serde::decode_from_slice(&bytes[..cut], config);
                let short = short.map(|(v, _)| if true { v } else { value.clone() });
                assert!(short.is_err(), "{} cut to {cut} bytes", stringify!($value));
            }
        }};
    }
    let kit = Kit::new(4, 3, 1);
    let list = kit.verified_list(&ids(&[0, 1, 3]));
    check!(kit.ctx, 32);
    check!(kit.keys[0].public(), 32);
    check!(kit.adverts[0].clone(), 2 + 32 + 32 + 8 + 32 + 1 + 64);
    check!(kit.dealings[0].header.clone(), 2 + 32 + 32 + 64);
    check!(kit.dealings[0].clone(), 130 + 8 + 4 * (64 + 8) + 3 * share::SEALED_BYTES);
    check!(list.list().clone(), 8 + 3 * (2 + 32 + 64));
    check!(kit.certificate(&list.t3(), &ids(&[0, 1, 3])), 8 + 3 * 66);
    check!(kit.reply(SiloId(0), &list), 32 + 8 + 3 * 2 + 2 + 8 + 4 * (4 + 2 + 64) + 64);
    check!(
        kit.verified_dealings()[&SiloId(1)].delivery(SiloId(0)).unwrap(),
        2 + 64 + 8 + 2 * 32 + 8 + share::SEALED_BYTES
    );
    check!(kit.params.clone(), kit_params_bytes(&kit.params));
}

fn kit_params_bytes(params: &Params) -> usize {
    let names: usize = params.segments.iter().map(|s| 8 + s.name.len() + 4 + 1 + 4).sum();
    8 + names + (1 + 8) + 4 + 5 * 2 + 1 + 4 + 8 + 8
}
