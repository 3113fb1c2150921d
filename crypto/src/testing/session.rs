//! A whole session through the public functions: the sum is the plaintext sum, with and without drops, and the way there
//! shows nothing else.

use super::*;
use crate::fixed_point::decode_sum;
use crate::reveal::{PendingReveal, RevealedShare};
use crate::share::ShareKind;
use crate::transcript;
use crate::unmask::{self, Recovery};
use rand_core::Rng;

struct Outcome {
    sum: Vec<u32>,
    plain: Vec<u32>,
    decoded: Vec<f64>,
    real: Vec<f64>,
}

/// Runs P3 to P6 where only `survivors` reach the list and only `revealers` of them answer.
fn run(kit: &mut Kit, survivors: &[SiloId], revealers: &[SiloId]) -> Outcome {
    let d = kit.params.segments[0].length as usize;
    let (adverts, headers) = (kit.verified_adverts(), kit.verified_headers());
    let (mut acc, mut plain) = (vec![0u32; kit.params.lanes()], vec![0u32; kit.params.lanes()]);
    let (mut real, mut list) = (vec![0f64; d], Vec::new());
    for &silo in survivors {
        let values: Vec<f32> = (0..d).map(|_| kit.rng.next_u32() as f32 / u32::MAX as f32 - 0.5).collect();
        let lanes = kit.encode(&values, &[1, 100 + u32::from(silo.0)]);
        plain.iter_mut().zip(&lanes).for_each(|(a, b)| *a = a.wrapping_add(*b));
        real.iter_mut().zip(&values).for_each(|(a, b)| *a += f64::from(*b));
        let (header, packed) = kit.mask(silo, lanes.clone());
        assert_eq!(packed.len(), kit.params.packed_bytes());
        assert_ne!(packing::pack(&kit.params, &lanes).unwrap(), packed, "the masked input is the input");
        let y = verify::masked(&kit.rules(), header, &packed, &kit.params, &headers).unwrap();
        unmask::accumulate(&mut acc, &y, &kit.params).unwrap();
        list.push(header);
    }
    let list = verify::survivor_list(&kit.rules(), SurvivorList(list), &headers, None).unwrap();
    let q = usize::from(kit.params.quorum.q);
    let certificate = kit.certificate(&list.t3(), &survivors[..q]);
    let (dealings, mut recovery) = (kit.verified_dealings(), Recovery::new(kit.params.quorum.t, &list));
    for &silo in revealers {
        let pending = kit.reply(silo, &list);
        let journaled = serde_json::to_string(&pending).unwrap();
        let pending: PendingReveal = serde_json::from_str(&journaled).unwrap();
        assert_eq!(serde_json::to_string(&pending).unwrap(), journaled);
        let proof = verify::commit_certificate(&kit.rules(), &certificate, &pending.t3(), pending.survivors()).unwrap();
        let reveal = pending.release(&proof).unwrap();
        let verified = verify::reveal(&kit.rules(), reveal, &list, &dealings).unwrap();
        assert!(recovery.add(&verified));
    }
    assert!(recovery.is_ready());
    let streams = recovery.streams(&adverts, &headers).unwrap().streams;
    let packed = unmask::unmask(acc, &streams, &kit.params, 2).unwrap();
    let sum = packing::unpack(&kit.params, &packed).unwrap();
    let plain = packing::unpack(&kit.params, &packing::pack(&kit.params, &plain).unwrap()).unwrap();
    let decoded = decode_sum(&sum[..d], &kit.params.segments[0]);
    Outcome { sum, plain, decoded, real }
}

#[test]
fn sum_equals_plaintext_sum_with_one_of_four_dropped() {
    for dropped in 0..4 {
        let mut kit = Kit::new(4, 257, 1);
        let survivors: Vec<SiloId> = kit.roster.ids().filter(|i| i.0 != dropped).collect();
        let out = run(&mut kit, &survivors, &survivors);
        assert_eq!(out.sum, out.plain);
        assert_eq!(out.sum[257], 3, "canary counts the survivors");
        let step = 0.5 / 32767.0;
        for (a, b) in out.decoded.iter().zip(&out.real) {
            assert!((a - b).abs() <= 3.0 * step, "{a} is not {b} within one step per survivor");
        }
    }
}

#[test]
fn sum_equals_plaintext_sum_without_drops_and_across_sizes() {
    for (n, d) in [(3, 1), (3, 4097), (5, 255), (16, 64)] {
        let mut kit = Kit::new(n, d, 1);
        let all: Vec<SiloId> = kit.roster.ids().collect();
        let out = run(&mut kit, &all, &all);
        assert_eq!(out.sum, out.plain, "n = {n}, d = {d}");
    }
}

#[test]
fn exactly_t_replies_suffice_with_as_many_drops_as_m_allows() {
    let mut kit = Kit::new(16, 33, 1);
    let Quorum { t, m, .. } = kit.params.quorum;
    let survivors: Vec<SiloId> = kit.roster.ids().skip(16 - usize::from(m)).collect();
    let revealers = survivors[..usize::from(t)].to_vec();
    let out = run(&mut kit, &survivors, &revealers);
    assert_eq!(out.sum, out.plain);
}

#[test]
fn sa09_fewer_than_t_replies_rebuild_nothing() {
    let kit = Kit::new(4, 3, 1);
    let survivors = ids(&[0, 1, 3]);
    let list = kit.verified_list(&survivors);
    let (dealings, mut recovery) = (kit.verified_dealings(), Recovery::new(kit.params.quorum.t, &list));
    for &silo in &survivors[..2] {
        let pending = kit.reply(silo, &list);
        let certificate = kit.certificate(&list.t3(), &survivors);
        let proof = verify::commit_certificate(&kit.rules(), &certificate, &list.t3(), &survivors).unwrap();
        let verified = verify::reveal(&kit.rules(), pending.release(&proof).unwrap(), &list, &dealings).unwrap();
        assert!(recovery.add(&verified) && recovery.add(&verified), "a repeated reply changes nothing");
    }
    assert!(!recovery.is_ready());
    assert_refused(recovery.streams(&kit.verified_adverts(), &kit.verified_headers()), "SA-09", None);
}

#[test]
fn sa06_a_reply_holds_b_of_survivors_and_s_of_dropped_and_nothing_else() {
    let kit = Kit::new(5, 3, 1);
    let survivors = ids(&[0, 2, 3, 4]);
    let list = kit.verified_list(&survivors);
    let reply = serde_json::to_value(kit.reply(SiloId(2), &list)).unwrap();
    let shares: Vec<RevealedShare> = serde_json::from_value(reply["reveal"]["shares"].clone()).unwrap();
    let kinds: Vec<_> = shares.iter().map(|s| (s.peer().0, s.kind())).collect();
    use ShareKind::{MaskSecret, SelfMask};
    assert_eq!(kinds, [(0, SelfMask), (1, MaskSecret), (2, SelfMask), (3, SelfMask), (4, SelfMask)]);
}

#[test]
fn a_silo_left_out_of_p2_has_no_pair_masks() {
    let mut kit = Kit::new(5, 9, 1);
    kit.dealings.pop();
    let survivors = ids(&[0, 1, 2, 3]);
    assert_eq!(kit.verified_headers().ids().collect::<Vec<_>>(), survivors);
    let out = run(&mut kit, &survivors, &survivors);
    assert_eq!(out.sum, out.plain);
}

#[test]
fn sa14_a_silo_with_another_model_takes_no_part_and_shares_no_mask() {
    let kit = Kit::new(3, 64, 1);
    let ctx = Context { model_hash: sha256(b"another model"), ..kit.context.clone() }.digest();
    let mut adverts = kit.adverts.clone();
    adverts[2] = Advert::sign(&kit.keys[2], &ctx, SiloId(2), &kit.secrets[2], kit.adverts[2].journal(), true);
    assert_refused(verify::adverts(&kit.rules(), adverts, None, &[]), "SA-01", Some(2));
    // even with the same keys, its transcript and so its mask would be another
    let bind = |ctx| transcript::bind(&transcript::t2(&transcript::t1(ctx, &kit.adverts), &kit.headers()));
    assert_eq!(bind(&kit.ctx), kit.verified_headers().bind());
    let mask = |ctx| kit.secrets[0].mask.pair_seed(&bind(ctx), SiloId(0), (SiloId(1), &kit.adverts[1].mask_key));
    assert_ne!(mask(&kit.ctx).unwrap().0, mask(&ctx).unwrap().0);
}

#[test]
fn sa04_masked_input_does_not_correlate_with_the_input() {
    let mut kit = Kit::new(3, 4096, 1);
    let values: Vec<f32> = (0..4096).map(|i| if i % 2 == 0 { 0.4 } else { -0.4 }).collect();
    let lanes = kit.encode(&values, &[1, 0]);
    let (_, packed) = kit.mask(SiloId(0), lanes);
    let y = packing::unpack(&kit.params, &packed).unwrap();
    let half = f64::from(kit.params.segments[0].ring_mask()) / 2.0;
    let products = values.iter().zip(&y).map(|(&x, &y)| f64::from(x.signum()) * (f64::from(y) - half) / half);
    // mean of 4096 products of a fair sign with a uniform value in ±1: standard deviation 0.009
    assert!((products.sum::<f64>() / 4096.0).abs() < 0.05);
}
