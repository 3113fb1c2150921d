//! What each check of P1 and of the lists is good for: switched off, the attack goes through ([`crate::teeth::bites`]).

use super::attacks_keys::resign;
use super::*;
use crate::identity::Signature;
use crate::keys::{ChannelKey, MaskSecret, hkdf_sha256};
use crate::mask::Stream;
use crate::masked::pair_sign;
use crate::shamir::{Interpolation, SecretScalar, Share};
use crate::teeth::bites;
use crate::verify::Check;

/// x of a silo from its masked input, by somebody who knows its b and σ.
pub(super) fn take_masks_off(kit: &Kit, silo: SiloId, packed: &[u8], b: SecretScalar, sigma: SecretScalar) -> Vec<u8> {
    let mask = MaskSecret::from_sigma(&sigma, &kit.ctx);
    let secrets = SessionSecrets { channel: ChannelKey::generate(&mut rng(0)), b, sigma, mask };
    let streams = masked::streams(silo, &secrets, &kit.verified_adverts(), &kit.verified_headers()).unwrap();
    subtract(kit, packed, streams)
}

/// Takes off the masks that a silo put on.
pub(super) fn subtract(kit: &Kit, packed: &[u8], streams: Vec<Stream>) -> Vec<u8> {
    let off: Vec<Stream> = streams.into_iter().map(|s| Stream { sign: s.sign.opposite(), ..s }).collect();
    let mut lanes = packing::unpack(&kit.params, packed).unwrap();
    mask::apply(&mut lanes, &off, 1);
    packing::pack(&kit.params, &lanes).unwrap()
}

/// A secret from the first t of its shares; `None` where there are fewer.
pub(super) fn rebuild(kit: &Kit, mut shares: Vec<(SiloId, Share)>) -> Option<SecretScalar> {
    let t = usize::from(kit.params.quorum.t);
    shares.sort_by_key(|(holder, _)| *holder);
    let shares = shares.get(..t)?;
    let holders: Vec<SiloId> = shares.iter().map(|(holder, _)| *holder).collect();
    Interpolation::new(&holders, kit.params.quorum.t).ok()?.rebuild(shares).ok()
}

/// A silo's input: (packed in clear, masked and packed).
pub(super) fn input(kit: &mut Kit, silo: u16) -> (Vec<u8>, Vec<u8>) {
    let d = kit.params.segments[0].length as usize;
    let lanes = kit.encode(&vec![0.125; d], &[1, 70 + u32::from(silo)]);
    let plain = packing::pack(&kit.params, &lanes).unwrap();
    let (_, masked) = kit.mask(SiloId(silo), lanes);
    assert_ne!(plain, masked);
    (plain, masked)
}

#[test]
fn sa01_teeth_forged_keys_give_the_coordinator_the_victims_input() {
    // silo 0 is alone with peers that the coordinator made up, in the names of all the others
    bites(&[Check::AdvertSignature, Check::HeaderSignature], || {
        let mut kit = Kit::new(4, 5, 1);
        let forger = &IdentityKey::from_bytes(&[9; 32]);
        let fake: Vec<_> = (0..4).map(|i| SessionSecrets::generate(&kit.ctx, &mut rng(90 + i))).collect();
        let mark = kit.adverts[1].journal();
        for i in 1..4u16 {
            kit.adverts[usize::from(i)] = Advert::sign(forger, &kit.ctx, SiloId(i), &fake[usize::from(i)], mark, true);
        }
        let own = Some(&kit.adverts[0]);
        let Ok(adverts) = verify::adverts(&kit.rules(), kit.adverts.clone(), own, &[]) else { return false };
        let t = kit.params.quorum.t;
        let mut dealt = |i: usize, key, secrets| share::deal(key, SiloId(i as u16), secrets, &adverts, t, &mut kit.rng);
        let victims = dealt(0, &kit.keys[0], &kit.secrets[0]).unwrap().0;
        let mut dealings = vec![victims.clone()];
        dealings.extend((1..4).map(|i| dealt(i, forger, &fake[i]).unwrap().0));
        kit.dealings = dealings;
        let own = Some(&victims.header);
        if verify::headers(&kit.rules(), kit.headers(), &adverts, own).is_err() {
            return false;
        }
        let (plain, masked) = input(&mut kit, 0);
        // the victim sealed its shares to the forged channel keys
        let t1 = adverts.t1();
        let opened = (1..4u16).map(|i| {
            let key = fake[usize::from(i)].channel.key_from(&t1, SiloId(i), (SiloId(0), &kit.adverts[0].channel_key));
            let sealed = &victims.pairs[usize::from(i)].sealed;
            (SiloId(i), sealed.open(&key.unwrap(), &t1, SiloId(0), SiloId(i)).unwrap())
        });
        let opened: Vec<_> = opened.collect();
        let b = rebuild(&kit, opened.iter().map(|(i, p)| (*i, p.b.share.clone())).collect()).unwrap();
        let sigma = rebuild(&kit, opened.iter().map(|(i, p)| (*i, p.s.share.clone())).collect()).unwrap();
        take_masks_off(&kit, SiloId(0), &masked, b, sigma) == plain
    });
}

#[test]
fn sa01_teeth_a_swapped_own_key_gives_the_coordinator_everybodys_mask_with_the_victim() {
    bites(&[Check::OwnAdvert, Check::AdvertSignature], || {
        let kit = Kit::new(4, 5, 1);
        let coordinators = SessionSecrets::generate(&kit.ctx, &mut rng(9));
        let mut adverts = kit.adverts.clone();
        adverts[2].mask_key = coordinators.mask.public();
        let shown_to = |silo: usize| {
            verify::adverts(&kit.rules(), adverts.clone(), Some(&kit.adverts[silo]), &[]).is_ok() || silo != 2
        };
        let peer = verify::adverts(&kit.rules(), adverts.clone(), Some(&kit.adverts[0]), &[]);
        if !shown_to(2) || peer.is_err() {
            return false;
        }
        let bind = kit.verified_headers().bind();
        let of_peer = kit.secrets[0].mask.pair_seed(&bind, SiloId(0), (SiloId(2), &adverts[2].mask_key)).unwrap();
        let known = coordinators.mask.pair_seed(&bind, SiloId(2), (SiloId(0), &adverts[0].mask_key)).unwrap();
        of_peer.0 == known.0
    });
}

#[test]
fn sa01_teeth_a_low_order_key_makes_a_mask_that_anybody_can_predict() {
    bites(&[Check::SoundKeys, Check::Contributory], || {
        let kit = Kit::new(4, 5, 1);
        let mut adverts = kit.adverts.clone();
        adverts[1] = resign(&kit, Advert { mask_key: [0; 32], ..adverts[1].clone() }, 1);
        if verify::adverts(&kit.rules(), adverts.clone(), Some(&kit.adverts[0]), &[]).is_err() {
            return false;
        }
        let bind = kit.verified_headers().bind();
        let Ok(seed) = kit.secrets[0].mask.pair_seed(&bind, SiloId(0), (SiloId(1), &[0; 32])) else { return false };
        // from public values alone
        let ids = [SiloId(0).to_bytes(), SiloId(1).to_bytes()];
        let info = [&ids[0][..], &adverts[0].mask_key, &ids[1], &[0; 32]];
        seed.0 == *hkdf_sha256(&[0; 32], &bind, Label::PairSeed, &info)
    });
}

#[test]
fn sa15_teeth_two_silos_with_one_key_lose_the_survivors_input() {
    // silos 2 and 3 were started from one image, with one state of their generators; 2 is dropped, 3 survives
    bites(&[Check::DistinctKeys], || {
        let mut kit = Kit::new(5, 5, 1);
        for i in [2u16, 3] {
            let secrets = SessionSecrets::generate(&kit.ctx, &mut rng(7));
            let mark = kit.adverts[usize::from(i)].journal();
            kit.adverts[usize::from(i)] =
                Advert::sign(&kit.keys[usize::from(i)], &kit.ctx, SiloId(i), &secrets, mark, true);
            kit.secrets[usize::from(i)] = secrets;
        }
        if verify::adverts(&kit.rules(), kit.adverts.clone(), None, &[]).is_err() {
            return false;
        }
        kit.deal();
        let (plain, masked) = input(&mut kit, 3);
        // P5 gives b of the survivor and σ of the dropped silo
        let (b_of_3, sigma_of_2) = (kit.secrets[3].b.clone(), kit.secrets[2].sigma.clone());
        take_masks_off(&kit, SiloId(3), &masked, b_of_3, sigma_of_2) == plain
    });
}

#[test]
fn sa07_teeth_a_silo_restored_from_an_old_copy_takes_part() {
    bites(&[Check::JournalForward], || {
        let kit = Kit::new(4, 5, 1);
        let known = [(SiloId(2), JournalMark { length: 9, head: sha256(b"later") })];
        verify::adverts(&kit.rules(), kit.adverts.clone(), None, &known).is_ok()
    });
}

#[test]
fn sa02_sa15_teeth_keys_of_an_earlier_attempt_give_the_input_of_a_later_one() {
    bites(&[Check::SameSession], || {
        let mut kit = Kit::new(4, 5, 1);
        // attempt 1 dropped silo 0, so that its σ was rebuilt there
        let sigma = kit.secrets[0].sigma.clone();
        let (adverts, second) = (kit.verified_adverts(), Context { attempt: 2, ..kit.context.clone() }.digest());
        for (i, dealing) in kit.dealings.iter_mut().enumerate() {
            let h = &mut dealing.header;
            let fields: [&[u8]; 3] = [&adverts.t1().0, &h.root.0, &h.commitment_b.0];
            h.signature = kit.keys[i].sign(Label::ShareHeader, &second, h.silo, &fields);
        }
        let rules = Rules { ctx: &second, ..kit.rules() };
        let Ok(headers) = verify::headers(&rules, kit.headers(), &adverts, None) else { return false };
        let lanes = kit.encode(&[0.25; 5], &[1, 2]);
        let plain = packing::pack(&kit.params, &lanes).unwrap();
        let put_on = |secrets: &SessionSecrets| masked::streams(SiloId(0), secrets, &adverts, &headers).unwrap();
        let mut masked = lanes.clone();
        mask::apply(&mut masked, &put_on(&kit.secrets[0]), 1);
        let masked = packing::pack(&kit.params, &masked).unwrap();
        // attempt 2 counts it as a survivor and rebuilds its b
        let (b, mask) = (kit.secrets[0].b.clone(), MaskSecret::from_sigma(&sigma, &kit.ctx));
        let known = SessionSecrets { channel: ChannelKey::generate(&mut rng(0)), b, sigma: sigma.clone(), mask };
        subtract(&kit, &masked, put_on(&known)) == plain
    });
}

/// n = 5 and c = 3 colluders (1, 2, 3) beside the victim 0: t = 4, q = m = 5. `cohort` is shown as U2 and U3, `votes` are
/// cast. The sum then says nothing but the victim's input.
fn alone_among_colluders(cohort: &[u16], votes: &[u16]) -> bool {
    let mut kit = Kit::with_colluders(5, 5, 1, Some(3));
    let (victim, adverts) = (SiloId(0), kit.verified_adverts());
    let headers = cohort.iter().map(|&i| kit.dealings[usize::from(i)].header.clone()).collect();
    let own = Some(&kit.dealings[0].header);
    let Ok(headers) = verify::headers(&kit.rules(), headers, &adverts, own) else { return false };
    let lanes = kit.encode(&[0.25; 5], &[1, 2]);
    let plain = packing::pack(&kit.params, &lanes).unwrap();
    let mut masked = lanes;
    mask::apply(&mut masked, &masked::streams(victim, &kit.secrets[0], &adverts, &headers).unwrap(), 1);
    let masked = packing::pack(&kit.params, &masked).unwrap();
    let sign = |i: u16| {
        MaskedHeader::sign(
            &kit.keys[usize::from(i)],
            &kit.ctx,
            &headers.bind(),
            SiloId(i),
            if i == 0 { &masked } else { b"" },
        )
    };
    let (own, list) = (sign(0), SurvivorList(cohort.iter().map(|&i| sign(i)).collect()));
    let Ok(list) = verify::survivor_list(&kit.rules(), list, &headers, Some(&own)) else { return false };
    let certificate = kit.certificate(&list.t3(), &ids(votes));
    let proof = verify::commit_certificate(&kit.rules(), &certificate, &list.t3(), list.survivors());
    let Ok(proof) = proof else { return false };
    let pending = kit.reply(victim, &list);
    let revealed = pending.release(&proof).unwrap().shares.iter().find(|s| s.peer() == victim).unwrap();
    let colluding = [1u16, 2, 3].map(|i| (SiloId(i), kit.pair(0, i).b.share.clone()));
    let shares = colluding.into_iter().chain([(victim, revealed.opening().share.clone())]).collect();
    let b = rebuild(&kit, shares).unwrap();
    let mut known = vec![Stream { seed: crate::keys::self_seed(&b, &headers.bind()), sign: mask::Sign::Add }];
    for peer in headers.ids().filter(|&peer| peer != victim) {
        let party = (victim, &kit.adverts[0].mask_key);
        let seed = kit.secrets[peer.index()].mask.pair_seed(&headers.bind(), peer, party).unwrap();
        known.push(Stream { seed, sign: pair_sign(victim, peer) });
    }
    subtract(&kit, &masked, known) == plain
}

#[test]
fn sa05_teeth_a_session_of_fewer_than_m_shows_one_silos_input() {
    bites(&[Check::AtLeastM, Check::CommitQuorum], || alone_among_colluders(&[0, 1, 2, 3], &[0, 1, 2, 3]));
}

#[test]
fn sa05_teeth_a_colluder_counted_twice_shows_one_silos_input() {
    bites(&[Check::DistinctSilos, Check::CommitQuorum], || alone_among_colluders(&[0, 1, 2, 3, 3], &[0, 1, 2, 3, 3]));
}

#[test]
fn sa12_teeth_a_certificate_of_any_length_is_worked_through() {
    bites(&[Check::AtMost, Check::CommitQuorum], || {
        let kit = Kit::new(4, 3, 1);
        let list = kit.verified_list(&ids(&[0, 1, 2, 3]));
        let votes = CommitCertificate(vec![kit.certificate(&list.t3(), &ids(&[1])).0[0]; 500]);
        verify::commit_certificate(&kit.rules(), &votes, &list.t3(), list.survivors()).is_ok()
    });
}

#[test]
fn sa10_teeth_without_headroom_a_sum_wraps() {
    bites(&[Check::Headroom], || {
        let mut params = Kit::new(4, 1, 1).params;
        params.segments[0].ring_bits = 17;
        if params.check().is_err() {
            return false;
        }
        let (segment, mut sum) = (&params.segments[0], 0u32);
        for _ in 0..4 {
            let mut lane = Vec::new();
            fixed_point::encode(&[0.5], segment, &mut rng(1), &mut lane).unwrap();
            sum = sum.wrapping_add(lane[0]) & segment.ring_mask();
        }
        // four times the bound is 2
        fixed_point::decode_sum(&[sum], segment)[0] < 0.0
    });
}

#[test]
fn sa01_teeth_an_advert_with_a_made_up_signature_counts() {
    bites(&[Check::AdvertSignature], || {
        let kit = Kit::new(4, 3, 1);
        verify::advert(&kit.rules(), &Advert { signature: Signature([1; 64]), ..kit.adverts[1].clone() }).is_ok()
    });
}
