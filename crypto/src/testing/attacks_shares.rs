//! What a dealer, a recipient or the coordinator may try in P2, and which check stops it.

use super::*;
use crate::complaint::Complaint;
use crate::identity::Signature;
use crate::share::{Delivery, HeldPair, SealedBundle, ShareKind, pair_tree};
use crate::verify::DeliveryError;

/// Lets a dealer sign whatever its pairs now are: a dishonest dealer.
pub(super) fn resign(kit: &Kit, dealing: &mut Dealing) {
    let (adverts, dealer) = (kit.verified_adverts(), dealing.header.silo);
    let recipients: Vec<SiloId> = adverts.ids().collect();
    dealing.header.root = pair_tree(&recipients, &dealing.pairs).root();
    let fields: [&[u8]; 3] = [&adverts.t1().0, &dealing.header.root.0, &dealing.header.commitment_b.0];
    dealing.header.signature = kit.keys[dealer.index()].sign(Label::ShareHeader, &kit.ctx, dealer, &fields);
}

fn check_dealing(kit: &Kit, dealing: Dealing) -> Result<VerifiedDealing, VerifyError> {
    verify::dealing(&kit.rules(), dealing, &kit.verified_adverts())
}

pub(super) fn deliver(
    kit: &Kit,
    delivery: &Delivery,
    dealing: &VerifiedDealing,
    to: u16,
) -> Result<HeldPair, DeliveryError> {
    let channel = &kit.secrets[usize::from(to)].channel;
    verify::delivery(delivery, dealing.header(), &kit.verified_adverts(), SiloId(to), channel)
}

#[track_caller]
fn assert_not_as_signed(result: Result<HeldPair, DeliveryError>) {
    assert!(matches!(result, Err(DeliveryError::NotAsSigned(_))), "{result:?}");
}

#[track_caller]
fn assert_dealer_at_fault(result: Result<HeldPair, DeliveryError>, dealer: u16) {
    match result {
        Err(DeliveryError::DealerAtFault(e)) => assert_eq!(e.blamed, Some(SiloId(dealer))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sa03_headers_that_do_not_count() {
    let kit = Kit::new(4, 3, 1);
    let (adverts, good) = (kit.verified_adverts(), kit.headers());
    let check = |headers: Vec<ShareHeader>| verify::headers(&kit.rules(), headers, &adverts, Some(&good[0]));
    check(good.clone()).unwrap();
    let changes: [fn(&mut ShareHeader); 3] =
        [|h| h.root.0[0] ^= 1, |h| h.commitment_b.0[0] ^= 1, |h| h.signature.0[3] ^= 1];
    for change in changes {
        let mut headers = good.clone();
        change(&mut headers[2]);
        assert_refused(check(headers), "SA-03", Some(2));
        let mut headers = good.clone();
        change(&mut headers[0]);
        assert_refused(check(headers), "SA-05", None); // own header altered
    }
    let pick = |places: &[usize]| places.iter().map(|&i| good[i].clone()).collect::<Vec<_>>();
    check(pick(&[0, 1, 3])).unwrap();
    assert_refused(check(pick(&[0, 1])), "SA-05", None);
    assert_refused(check(pick(&[1, 2, 3])), "SA-05", None);
    assert_refused(check(pick(&[0, 1, 1, 2])), "SA-05", Some(1));
    assert_refused(check(pick(&[0, 2, 1])), "SA-05", Some(1));
    let mut headers = good.clone();
    headers[1] = Kit::new(4, 3, 2).headers()[1].clone(); // of another attempt
    assert_refused(check(headers), "SA-03", Some(1));
    let other = Kit::new(4, 3, 2);
    let foreign = verify::headers(&kit.rules(), good.clone(), &other.verified_adverts(), None);
    assert_refused(foreign, "SA-02", None);
}

#[test]
fn sa05_a_dealer_outside_u1_is_refused() {
    let mut kit = Kit::new(4, 3, 1);
    let header = kit.headers().remove(3);
    kit.adverts.pop();
    assert_refused(verify::header(&kit.rules(), header, &kit.verified_adverts()), "SA-05", Some(3));
}

#[test]
fn sa03_dealings_that_do_not_count() {
    let kit = Kit::new(4, 3, 1);
    let good = &kit.dealings[1];
    type Change = fn(&mut Dealing);
    let changes: [(&str, Change); 8] = [
        ("SA-03", |d| d.pairs[2].leaves.b.0[0] ^= 1),
        ("SA-03", |d| d.pairs[2].leaves.s.0[0] ^= 1),
        ("SA-03", |d| d.pairs[2].sealed.0[7] ^= 1),
        ("SA-03", |d| d.pairs.swap(2, 3)),
        ("SA-03", |d| drop(d.pairs.pop())),
        ("SA-12", |d| d.pairs[2].sealed.0.push(0)),
        ("SA-12", |d| d.pairs[2].sealed.0.truncate(1)),
        ("SA-12", |d| d.pairs[1].sealed.0.push(0)), // a bundle to itself
    ];
    for (rule, change) in changes {
        let mut dealing = good.clone();
        change(&mut dealing);
        assert_refused(check_dealing(&kit, dealing), rule, Some(1));
    }
    // a pair less or more under a root that the dealer has signed all the same
    let more = [&good.pairs[..], &good.pairs[..1]].concat();
    for pairs in [good.pairs[..3].to_vec(), more, Vec::new()] {
        let mut dealing = Dealing { header: good.header.clone(), pairs };
        resign(&kit, &mut dealing);
        assert_refused(check_dealing(&kit, dealing), "SA-03", Some(1));
    }
    let mut impostor = kit.dealings[2].clone();
    impostor.header.silo = SiloId(3);
    impostor.pairs.swap(2, 3);
    assert_refused(check_dealing(&kit, impostor), "SA-03", Some(3));
}

#[test]
fn sa03_deliveries_altered_on_the_way_do_not_blame_the_dealer() {
    let kit = Kit::new(4, 3, 1);
    let dealings = kit.verified_dealings();
    let (from1, from2) = (&dealings[&SiloId(1)], &dealings[&SiloId(2)]);
    let good = from1.delivery(SiloId(0)).unwrap();
    deliver(&kit, &good, from1, 0).unwrap();
    let changes: [fn(&mut Delivery); 6] = [
        |d| d.leaves.b.0[0] ^= 1,
        |d| std::mem::swap(&mut d.leaves.b, &mut d.leaves.s),
        |d| d.sealed.0[7] ^= 1,
        |d| d.sealed.0.truncate(100),
        |d| d.path[0].0[0] ^= 1,
        |d| d.path.truncate(1),
    ];
    for change in changes {
        let mut delivery = good.clone();
        change(&mut delivery);
        assert_not_as_signed(deliver(&kit, &delivery, from1, 0));
    }
    assert_not_as_signed(deliver(&kit, &good, from2, 0)); // another dealer's header
    assert_not_as_signed(deliver(&kit, &from2.delivery(SiloId(0)).unwrap(), from1, 0));
    assert_not_as_signed(deliver(&kit, &from1.delivery(SiloId(3)).unwrap(), from1, 0)); // meant for another silo
    assert_eq!(from1.delivery(SiloId(1)), None);
    assert_eq!(from1.delivery(SiloId(9)), None);
    // of another session
    let other = Kit::new(4, 3, 2);
    let replayed = other.verified_dealings()[&SiloId(1)].delivery(SiloId(0)).unwrap();
    assert_not_as_signed(deliver(&kit, &replayed, from1, 0));
    assert_not_as_signed(deliver(&kit, &replayed, &other.verified_dealings()[&SiloId(1)], 0));
}

/// A dealing of silo 1 whose bundle for silo 0 it sealed wrongly and signed all the same.
fn bad_dealing(kit: &Kit, change: impl Fn(&mut Dealing)) -> (VerifiedDealing, Delivery) {
    let mut dealing = kit.dealings[1].clone();
    change(&mut dealing);
    resign(kit, &mut dealing);
    let dealing = check_dealing(kit, dealing).unwrap();
    let delivery = dealing.delivery(SiloId(0)).unwrap();
    (dealing, delivery)
}

#[test]
fn sa03_a_dealer_that_signs_a_bad_bundle_is_named() {
    let kit = Kit::new(4, 3, 1);
    let garbage = |d: &mut Dealing| d.pairs[0].sealed = SealedBundle(vec![7; share::SEALED_BYTES]);
    let (dealing, delivery) = bad_dealing(&kit, garbage);
    assert_dealer_at_fault(deliver(&kit, &delivery, &dealing, 0), 1);
    let leaves_of_another = |d: &mut Dealing| d.pairs[0].leaves = d.pairs[2].leaves;
    let (dealing, delivery) = bad_dealing(&kit, leaves_of_another);
    assert_dealer_at_fault(deliver(&kit, &delivery, &dealing, 0), 1);
    let bundle_of_another = |d: &mut Dealing| d.pairs[0].sealed = d.pairs[2].sealed.clone();
    let (dealing, delivery) = bad_dealing(&kit, bundle_of_another);
    assert_dealer_at_fault(deliver(&kit, &delivery, &dealing, 0), 1);
    // the directions between two silos have different keys: a bundle sent back does not open
    let reflected = |d: &mut Dealing| d.pairs[0].sealed = kit.dealings[0].pairs[1].sealed.clone();
    let (dealing, delivery) = bad_dealing(&kit, reflected);
    assert_dealer_at_fault(deliver(&kit, &delivery, &dealing, 0), 1);
}

#[test]
fn sa03_complaints_that_do_not_count() {
    let kit = Kit::new(5, 3, 1);
    let adverts = kit.verified_adverts();
    let dealing = &kit.verified_dealings()[&SiloId(1)];
    let by = |i: u16| {
        let delivery = dealing.delivery(SiloId(i)).unwrap();
        Complaint::sign(&kit.keys[usize::from(i)], SiloId(i), dealing.header(), &delivery)
    };
    let check = |complaint: Complaint| verify::complaint(&kit.rules(), &complaint, dealing.header(), &adverts);
    let good = by(0);
    check(good.clone()).unwrap();
    assert_refused(check(Complaint { signature: Signature([1; 64]), ..good.clone() }), "SA-03", Some(0));
    assert_refused(check(Complaint { silo: SiloId(2), ..good.clone() }), "SA-03", Some(2));
    assert_refused(check(Complaint { silo: SiloId(1), ..good.clone() }), "SA-03", Some(1));
    assert_refused(check(Complaint { silo: SiloId(8), ..good.clone() }), "SA-03", Some(8));
    assert_refused(check(Complaint { dealer: SiloId(2), ..good }), "SA-03", Some(0));
    // a dealer about itself, rightly signed
    let about_itself = dealing.delivery(SiloId(0)).unwrap();
    let about_itself = Complaint::sign(&kit.keys[1], SiloId(1), dealing.header(), &about_itself);
    assert_refused(check(about_itself), "SA-03", Some(1));
}

#[test]
fn sa06_held_shares_take_one_pair_per_dealer_meant_for_their_owner() {
    let kit = Kit::new(4, 3, 1);
    let pair = |d: u16, to: u16| {
        let dealing = &kit.verified_dealings()[&SiloId(d)];
        deliver(&kit, &dealing.delivery(SiloId(to)).unwrap(), dealing, to).unwrap()
    };
    let mut held = HeldShares::new(SiloId(0));
    assert!(held.insert(pair(1, 0)));
    assert!(!held.insert(pair(1, 0)));
    assert!(!held.insert(pair(2, 3)), "meant for another silo");
    assert_eq!(held.dealers().collect::<Vec<_>>(), ids(&[1]));
}

#[test]
fn sa03_a_leaf_depends_on_session_dealer_recipient_and_kind() {
    let kit = Kit::new(4, 3, 1);
    let opening = kit.pair(0, 1).b.clone();
    let (here, there) = (sha256(b"t1"), sha256(b"t1 of another session"));
    let leaves = [
        opening.leaf(&here, SiloId(0), SiloId(1), ShareKind::SelfMask),
        opening.leaf(&there, SiloId(0), SiloId(1), ShareKind::SelfMask),
        opening.leaf(&here, SiloId(2), SiloId(1), ShareKind::SelfMask),
        opening.leaf(&here, SiloId(0), SiloId(2), ShareKind::SelfMask),
        opening.leaf(&here, SiloId(0), SiloId(1), ShareKind::MaskSecret),
    ];
    assert_eq!(std::collections::BTreeSet::from(leaves).len(), leaves.len());
}

#[test]
fn sa07_a_second_dealing_is_told_from_the_first_by_any_part_of_it() {
    let kit = Kit::new(4, 3, 1);
    let first = check_dealing(&kit, kit.dealings[1].clone()).unwrap();
    assert!(first.is(&kit.dealings[1]));
    assert!(!first.is(&kit.dealings[2]));
    let (mut header, mut pairs) = (kit.dealings[1].clone(), kit.dealings[1].clone());
    header.header.commitment_b.0[0] ^= 1;
    pairs.pairs.swap(0, 2);
    assert!(!first.is(&header) && !first.is(&pairs));
}
