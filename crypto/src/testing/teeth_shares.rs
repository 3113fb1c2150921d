//! What each check of P2 is good for: switched off, the attack goes through.

use super::attacks_shares::{deliver, resign};
use super::evidence::{LIAR as HONEST, about, check, evidence};
use super::*;
use crate::complaint::Complaint;
use crate::share::{Delivery, HeldPair, SEALED_BYTES, SealedBundle};
use crate::teeth::bites;
use crate::verify::{Check, DeliveryError};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A dealing of silo 1, changed and signed all the same.
fn signed_dealing(kit: &Kit, change: impl Fn(&mut Dealing)) -> Result<VerifiedDealing, VerifyError> {
    let mut dealing = kit.dealings[1].clone();
    change(&mut dealing);
    resign(kit, &mut dealing);
    verify::dealing(&kit.rules(), dealing, &kit.verified_adverts())
}

fn good_delivery(kit: &Kit, dealer: u16, to: u16) -> (VerifiedDealing, Delivery) {
    let dealing = kit.verified_dealings().remove(&SiloId(dealer)).unwrap();
    let delivery = dealing.delivery(SiloId(to)).unwrap();
    (dealing, delivery)
}

fn is_blamed(result: Result<HeldPair, DeliveryError>, dealer: u16) -> bool {
    matches!(result, Err(DeliveryError::DealerAtFault(e)) if e.blamed == Some(SiloId(dealer)))
}

#[test]
fn sa03_teeth_a_forged_header_makes_silos_complain_about_an_honest_dealer() {
    bites(&[Check::HeaderSignature], || {
        let mut kit = Kit::new(4, 3, 1);
        let (adverts, fake) = (kit.verified_adverts(), SessionSecrets::generate(&kit.ctx, &mut rng(9)));
        let (forger, t) = (IdentityKey::from_bytes(&[9; 32]), kit.params.quorum.t);
        let forged = share::deal(&forger, SiloId(2), &fake, &adverts, t, &mut kit.rng).unwrap().0;
        let Ok(dealing) = verify::dealing(&kit.rules(), forged, &adverts) else { return false };
        is_blamed(deliver(&kit, &dealing.delivery(SiloId(0)).unwrap(), &dealing, 0), 2)
    });
}

#[test]
fn sa05_teeth_a_dealer_without_keys_stops_everybodys_session() {
    bites(&[Check::DealerAdvertised], || {
        let mut kit = Kit::new(4, 3, 1);
        let (mut stranger, _) = (kit.dealings.pop().unwrap(), kit.adverts.pop().unwrap());
        kit.deal();
        let adverts = kit.verified_adverts();
        let h = &mut stranger.header;
        let fields: [&[u8]; 3] = [&adverts.t1().0, &h.root.0, &h.commitment_b.0];
        h.signature = kit.keys[3].sign(Label::ShareHeader, &kit.ctx, SiloId(3), &fields);
        let header = verify::header(&kit.rules(), h.clone(), &adverts);
        header.is_ok_and(|header| {
            // as many dealers as there are silos in U1, so that the list's length says nothing
            let all = [&kit.headers()[..2], std::slice::from_ref(header.header())].concat();
            let rules = kit.rules();
            let headers = verify::headers(&rules, all, &adverts, None).unwrap();
            masked::streams(SiloId(0), &kit.secrets[0], &adverts, &headers).is_err()
        })
    });
}

#[test]
fn sa05_teeth_a_masked_input_goes_to_a_session_that_does_not_count_its_silo() {
    bites(&[Check::OwnHeader], || {
        let mut kit = Kit::new(4, 3, 1);
        let own = kit.headers().remove(0);
        kit.dealings.remove(0);
        if verify::headers(&kit.rules(), kit.headers(), &kit.verified_adverts(), Some(&own)).is_err() {
            return false;
        }
        // it sends its masked input, and the list cannot hold it
        let lanes = kit.encode(&[0.1; 3], &[1, 1]);
        let (header, _) = kit.mask(SiloId(0), lanes);
        verify::masked_header(&kit.rules(), &header, &kit.verified_headers()).is_err()
    });
}

#[test]
fn sa03_teeth_a_dealing_with_a_pair_less_brings_the_coordinator_down() {
    bites(&[Check::DealingPairs], || {
        let kit = Kit::new(4, 3, 1);
        let short = signed_dealing(&kit, |d| drop(d.pairs.pop()));
        short.is_ok_and(|dealing| catch_unwind(AssertUnwindSafe(|| dealing.delivery(SiloId(3)))).is_err())
    });
}

#[test]
fn sa12_teeth_a_bundle_of_any_size_is_kept_passed_on_and_decrypted() {
    bites(&[Check::BundleSize], || {
        let kit = Kit::new(4, 3, 1);
        let Ok(dealing) = signed_dealing(&kit, |d| d.pairs[0].sealed = SealedBundle(vec![7; 1 << 20])) else {
            return false;
        };
        let delivery = dealing.delivery(SiloId(0)).unwrap();
        delivery.sealed.0.len() > SEALED_BYTES && is_blamed(deliver(&kit, &delivery, &dealing, 0), 1)
    });
}

#[test]
fn sa12_teeth_a_recipient_decrypts_a_bundle_of_any_size() {
    bites(&[Check::BundleSize, Check::DeliveryRoot], || {
        let kit = Kit::new(4, 3, 1);
        let (dealing, mut delivery) = good_delivery(&kit, 1, 0);
        delivery.sealed.0.resize(1 << 20, 0);
        is_blamed(deliver(&kit, &delivery, &dealing, 0), 1)
    });
}

#[test]
fn sa03_teeth_a_dealer_that_signs_another_root_goes_without_blame() {
    bites(&[Check::DealingRoot], || {
        let kit = Kit::new(4, 3, 1);
        let mut dealing = kit.dealings[1].clone();
        dealing.pairs[0].sealed.0[7] ^= 1;
        let Ok(dealing) = verify::dealing(&kit.rules(), dealing, &kit.verified_adverts()) else { return false };
        // the recipient holds the coordinator for the liar, and complains about nobody
        let result = deliver(&kit, &dealing.delivery(SiloId(0)).unwrap(), &dealing, 0);
        matches!(result, Err(DeliveryError::NotAsSigned(_)))
    });
}

#[test]
fn sa03_teeth_a_delivery_passed_off_as_another_dealers_blames_it() {
    bites(&[Check::DeliveryHeader], || {
        let kit = Kit::new(4, 3, 1);
        let (dealing, mut delivery) = good_delivery(&kit, 1, 0);
        delivery.dealer = SiloId(2);
        is_blamed(deliver(&kit, &delivery, &dealing, 0), 2)
    });
}

#[test]
fn sa03_teeth_a_bundle_altered_on_the_way_blames_its_dealer() {
    bites(&[Check::DeliveryRoot], || {
        let kit = Kit::new(4, 3, 1);
        let (dealing, mut delivery) = good_delivery(&kit, 1, 0);
        delivery.sealed.0[7] ^= 1;
        is_blamed(deliver(&kit, &delivery, &dealing, 0), 1)
    });
}

#[test]
fn sa03_teeth_a_dealers_false_shares_blame_the_silo_that_reveals_them() {
    bites(&[Check::DeliveryLeaves], || {
        let mut kit = Kit::new(4, 3, 1);
        let mut dealing = kit.dealings[1].clone();
        dealing.pairs[0].leaves = dealing.pairs[2].leaves;
        resign(&kit, &mut dealing);
        kit.dealings[1] = dealing;
        let (dealing, delivery) = good_delivery(&kit, 1, 0);
        if deliver(&kit, &delivery, &dealing, 0).is_err() {
            return false;
        }
        let list = kit.verified_list(&ids(&[0, 1, 2]));
        let votes = kit.certificate(&list.t3(), list.survivors());
        let proof = verify::commit_certificate(&kit.rules(), &votes, &list.t3(), list.survivors()).unwrap();
        let pending = kit.reply(SiloId(0), &list);
        let reply = pending.release(&proof).unwrap();
        let refused = verify::reveal(&kit.rules(), reply, &list, &kit.verified_dealings()).map_err(|e| e.blamed);
        refused.is_err_and(|silo| silo == Some(SiloId(0)))
    });
}

#[test]
fn sa03_teeth_a_silo_that_got_no_shares_complains() {
    bites(&[Check::ComplaintParties], || {
        let mut kit = Kit::new(4, 3, 1);
        kit.adverts.pop();
        kit.deal();
        let (dealing, delivery) = good_delivery(&kit, 1, 0);
        let by_outsider = Complaint::sign(&kit.keys[3], SiloId(3), dealing.header(), &delivery);
        verify::complaint(&kit.rules(), &by_outsider, dealing.header(), &kit.verified_adverts()).is_ok()
    });
}

#[test]
fn sa03_teeth_complaints_in_the_names_of_honest_silos_convict_a_dealer() {
    bites(&[Check::ComplaintSignature], || {
        let kit = Kit::new(4, 3, 1);
        let forge = |silo: u16| {
            let (dealing, delivery) = good_delivery(&kit, HONEST.0, silo);
            Complaint::sign(&kit.keys[3], SiloId(silo), dealing.header(), &delivery)
        };
        check(&kit, &evidence(&kit, about(&kit, vec![forge(0), forge(2)]))).is_ok_and(|guilt| guilt.silo == HONEST)
    });
}
