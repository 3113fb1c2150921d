//! What each check of evidence is good for: switched off, a coordinator and its colluders convict silo 1, which is honest.

use super::evidence::{
    LIAR as HONEST, about, bad_reveal, boxed, check, complaints, evidence, planted_pair, replies, sketched,
};
use super::*;
use crate::evidence::{Dealt, Evidence, FalseSketch, Fault, SumSketch};
use crate::reveal::{Reveal, RevealedShare};
use crate::sketch::{self, Sketch};
use crate::teeth::bites;
use crate::transcript;
use crate::verify::Check;

fn convicts(kit: &Kit, fault: Fault) -> bool {
    check(kit, &evidence(kit, fault)).is_ok_and(|guilt| guilt.silo == HONEST)
}

/// An honest sketch, something about it altered.
fn sketch_with(kit: &mut Kit, change: impl Fn(&mut FalseSketch)) -> Fault {
    let mut sketch = sketched(kit, HONEST, 0);
    change(&mut sketch);
    Fault::FalseSketch(Box::new(sketch))
}

/// Parameters under which the same bytes are other coordinates.
fn other_params(params: &Params) -> Params {
    let mut params = params.clone();
    let kind = SegmentKind::Counts { max_value: 10 };
    params.segments[1] = Segment { name: "metrics".into(), length: 4, ring_bits: 16, kind };
    params.check().unwrap();
    params
}

#[test]
fn sa02_teeth_a_context_made_to_fit_false_parameters_convicts() {
    bites(&[Check::EvidenceSession], || {
        let mut kit = Kit::new(4, 3, 1);
        let params = other_params(&kit.params);
        let fault = sketch_with(&mut kit, |sketch| sketch.params = params.clone());
        let context = Context { params_hash: params.hash(), ..kit.context.clone() };
        verify::evidence(&kit.rules(), &Evidence { context, fault }).is_ok_and(|guilt| guilt.silo == HONEST)
    });
    bites(&[Check::EvidenceParams], || {
        let mut kit = Kit::new(4, 3, 1);
        let params = other_params(&kit.params);
        let fault = sketch_with(&mut kit, |sketch| sketch.params = params.clone());
        convicts(&kit, fault)
    });
}

#[test]
fn sa01_teeth_shares_of_a_larger_roster_convict_before_who_holds_a_smaller_one() {
    // t = 4 among seven silos, of which the first five advertise; who thinks that there are five needs three shares
    bites(&[Check::EvidenceRoster], || {
        let (mut kit, small) = (Kit::new(7, 3, 1), Kit::new(5, 3, 1));
        assert_eq!((kit.params.quorum.t, small.params.quorum.t), (4, 3));
        kit.adverts.truncate(5);
        let adverts = kit.verified_adverts();
        let dealt = share::deal(&kit.keys[1], HONEST, &kit.secrets[1], &adverts, 4, &mut kit.rng);
        let (sent, own) = dealt.unwrap();
        let dealing = verify::dealing(&kit.rules(), sent.clone(), &adverts).unwrap();
        let reply = |silo: u16| {
            let b = kit.pair_in(&sent, &own, SiloId(silo)).b.clone();
            let share = RevealedShare::OfSurvivor { peer: HONEST, b };
            let key = &kit.keys[usize::from(silo)];
            Reveal::sign(key, &kit.ctx, SiloId(silo), &adverts.t1(), vec![share])
        };
        let replies: Vec<Reveal> = (0..5).map(reply).collect();
        let fault = Fault::off_polynomial(&adverts, &dealing, &replies, 3).unwrap();
        let (roster, quorum) = (&small.roster, &small.params.quorum);
        let found = verify::evidence(&Rules { roster, ctx: &kit.ctx, quorum }, &evidence(&kit, fault));
        found.is_ok_and(|guilt| guilt.silo == HONEST)
    });
}

#[test]
fn sa07_teeth_forged_foreign_and_repeated_messages_convict() {
    let kit = Kit::new(4, 3, 1);
    let advert = &kit.adverts[1];
    bites(&[Check::EvidenceSignature], || {
        let forged = Advert { mask_key: kit.adverts[2].mask_key, ..advert.clone() };
        convicts(&kit, Fault::TwoAdverts(boxed(advert.clone(), forged)))
    });
    bites(&[Check::EvidenceSigner], || {
        convicts(&kit, Fault::TwoAdverts(boxed(advert.clone(), kit.adverts[2].clone())))
    });
    bites(&[Check::EvidenceDiffers], || convicts(&kit, Fault::TwoAdverts(boxed(advert.clone(), advert.clone()))));
}

#[test]
fn sa16_teeth_sketches_for_two_sums_right_ones_and_ones_of_another_input_convict() {
    bites(&[Check::EvidenceOneSum], || {
        let mut kit = Kit::new(4, 3, 1);
        let FalseSketch { sketch: first, masked, .. } = sketched(&mut kit, HONEST, 0);
        let sum_hash = sha256(b"another sum");
        let key = transcript::rows_key(&first.t3, &sum_hash);
        let values = sketch::subset_sums_of(&kit.params, &key, &masked.0, 1).unwrap();
        let sketch = Sketch::sign(&kit.keys[1], &kit.ctx, HONEST, &first.t3, &sum_hash, values);
        let second = SumSketch { t3: first.t3, sum_hash, sketch };
        convicts(&kit, Fault::TwoSketches(boxed(first, second)))
    });
    bites(&[Check::EvidenceSketch], || {
        let mut kit = Kit::new(4, 3, 1);
        let fault = sketch_with(&mut kit, |_| {});
        convicts(&kit, fault)
    });
    bites(&[Check::EvidenceInput], || {
        let mut kit = Kit::new(4, 3, 1);
        let fault = sketch_with(&mut kit, |sketch| sketch.masked.0[0] ^= 1);
        convicts(&kit, fault)
    });
}

#[test]
fn sa03_sa06_sa09_teeth_an_honest_reply_convicts() {
    let kit = Kit::new(4, 3, 1);
    let list = kit.verified_list(&ids(&[0, 1, 2]));
    let honest = bad_reveal(&kit, &replies(&kit, &list)[1], &list);
    bites(&[Check::EvidenceForm], || convicts(&kit, honest.clone()));
    bites(&[Check::EvidenceLeaf], || {
        let Fault::BadReveal(mut bad) = honest.clone() else { unreachable!() };
        let pair = kit.verified_dealings()[&SiloId(0)].signed_pair(HONEST).unwrap();
        bad.dealt = Some(Dealt { dealer: SiloId(0), pair });
        convicts(&kit, Fault::BadReveal(bad))
    });
    bites(&[Check::EvidencePlace], || {
        let (kit, fault) = planted_pair();
        convicts(&kit, fault)
    });
}

#[test]
fn sa09_teeth_right_shares_and_shares_altered_by_their_holders_convict_their_dealer() {
    let kit = Kit::new(4, 3, 1);
    let list = kit.verified_list(&ids(&[0, 1, 2]));
    let (dealing, replies) = (&kit.verified_dealings()[&HONEST], replies(&kit, &list));
    let fault = Fault::off_polynomial(&kit.verified_adverts(), dealing, &replies, 3).unwrap();
    bites(&[Check::EvidenceSecret], || convicts(&kit, fault.clone()));
    bites(&[Check::EvidenceLeaf], || {
        let Fault::OffPolynomial(mut off) = fault.clone() else { unreachable!() };
        off.shares[0].opening.share.0[0] ^= 1;
        convicts(&kit, Fault::OffPolynomial(off))
    });
}

#[test]
fn sa03_teeth_one_colluder_convicts_whom_it_complains_about() {
    let kit = Kit::new(4, 3, 1);
    let once = complaints(&kit, HONEST, &[0]);
    bites(&[Check::EvidenceComplaints], || convicts(&kit, about(&kit, once.clone())));
    bites(&[Check::EvidenceComplaints], || convicts(&kit, about(&kit, [once.clone(), once.clone()].concat())));
}
