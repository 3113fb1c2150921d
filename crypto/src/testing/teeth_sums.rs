//! What each check of masked inputs and of the verified sum is good for: switched off, a false sum goes through.

use super::sums::Session;
use super::*;
use crate::identity::Signature;
use crate::mask::{Sign, Stream};
use crate::shamir::SecretScalar;
use crate::sketch::{self, OpenedSecret, ROWS, Sketch, SumProof};
use crate::teeth::bites;
use crate::transcript;
use crate::unmask;
use crate::verify::{Check, ClaimedSum, VerifiedMasked};
use curve25519_dalek::scalar::Scalar;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The masks left in Σ y, as the proof's secrets give them.
fn masks(s: &Session, secrets: &[OpenedSecret]) -> Option<Vec<Stream>> {
    verify::opened_secrets(secrets, &s.list, &s.kit.verified_adverts(), &s.kit.verified_headers()).ok()
}

/// What the coordinator gets if it adds `inputs` up and takes `streams` off.
fn sum_of<'a>(s: &Session, inputs: impl IntoIterator<Item = &'a Vec<u8>>, streams: &[Stream]) -> Vec<u8> {
    let mut acc = vec![0; s.kit.params.lanes()];
    inputs.into_iter().for_each(|y| packing::add_packed(&s.kit.params, y, &mut acc).unwrap());
    unmask::unmask(acc, streams, &s.kit.params, 1).unwrap()
}

/// The subset sums that the check expects of the survivors together, for a sum of the coordinator's choice.
fn needed(s: &Session, sum: &[u8]) -> Vec<u32> {
    let opposite = |s: Stream| Stream { sign: s.sign.opposite(), ..s };
    let back: Vec<Stream> = masks(s, &s.secrets).unwrap().into_iter().map(opposite).collect();
    let mut lanes = packing::unpack(&s.kit.params, sum).unwrap();
    mask::apply(&mut lanes, &back, 1);
    let key = transcript::rows_key(&s.list.t3(), &transcript::sum_hash(sum));
    sketch::subset_sums(&s.kit.params, &key, &lanes, 1).unwrap()
}

/// `needed` less what `others` say.
fn remainder(s: &Session, sum: &[u8], others: &[Sketch]) -> Vec<u32> {
    let mut rest = needed(s, sum);
    for other in others {
        let minus: Vec<u32> = other.values.iter().map(|v| v.wrapping_neg()).collect();
        sketch::add(&s.kit.params, &mut rest, &minus);
    }
    rest
}

fn altered(s: &Session) -> Vec<u8> {
    let mut sum = s.sum.clone();
    sum[3] ^= 1;
    sum
}

#[test]
fn sa16_teeth_a_false_sum_is_accepted_without_the_rows() {
    bites(&[Check::SumRows], || {
        let s = Session::new(4, 40);
        let sum = altered(&s);
        s.check(&sum, &s.proof(&sum, &[])).is_ok()
    });
}

#[test]
fn sa16_teeth_forged_sketches_vouch_for_a_false_sum() {
    bites(&[Check::SketchSignature], || {
        let s = Session::new(4, 40);
        let sum = altered(&s);
        let mut proof = s.proof(&sum, &[]);
        let last = proof.sketches.pop().unwrap();
        let values = remainder(&s, &sum, &proof.sketches);
        proof.sketches.push(Sketch { values, signature: Signature([1; 64]), ..last });
        s.check(&sum, &proof).is_ok()
    });
}

#[test]
fn sa16_teeth_a_dropped_colluder_vouches_for_a_false_sum() {
    bites(&[Check::SketchBySurvivor, Check::SumAccounted], || {
        let s = Session::new(4, 40);
        let sum = altered(&s);
        let mut proof = s.proof(&sum, &[]);
        let (values, hash) = (remainder(&s, &sum, &proof.sketches), transcript::sum_hash(&sum));
        let dropped = Sketch::sign(&s.kit.keys[1], &s.kit.ctx, SiloId(1), &s.list.t3(), &hash, values);
        proof.sketches.insert(1, dropped);
        s.check(&sum, &proof).is_ok()
    });
}

#[test]
fn sa16_teeth_a_colluding_survivor_vouches_for_a_false_sum_where_inputs_are_to_be_shown() {
    bites(&[Check::InputsShown], || {
        let s = Session::new(4, 40);
        let sum = altered(&s);
        let mut proof = s.proof(&sum, &[]);
        let (t3, hash) = (s.list.t3(), transcript::sum_hash(&sum));
        let values = remainder(&s, &sum, &proof.sketches[..2]);
        let lie = Sketch::sign(&s.kit.keys[3], &s.kit.ctx, SiloId(3), &t3, &hash, values);
        (proof.sketches, proof.opened) = (vec![lie], ids(&[0, 2]));
        let params = &Params { verify_sum: VerifySum::Inputs, ..s.kit.params.clone() };
        let opened = [0, 2].map(|silo| s.masked[&SiloId(silo)].as_slice());
        let claim = ClaimedSum { params, list: s.list.list(), packed: &sum, proof: &proof, opened: &opened };
        verify::sum(&s.kit.rules(), &claim, 1).is_ok()
    });
}

#[test]
fn sa16_teeth_an_input_is_left_out_of_the_sum() {
    bites(&[Check::SumAccounted], || {
        let s = Session::new(4, 40);
        let kept = s.masked.iter().filter(|(silo, _)| silo.0 != 3).map(|(_, y)| y);
        let sum = sum_of(&s, kept, &masks(&s, &s.secrets).unwrap());
        let mut proof = s.proof(&sum, &[]);
        proof.sketches.pop();
        sum != s.sum && s.check(&sum, &proof).is_ok()
    });
}

#[test]
fn sa16_teeth_one_input_is_counted_in_place_of_another() {
    bites(&[Check::SumAccounted], || {
        let s = Session::new(4, 40);
        let [zero, three] = [&s.masked[&SiloId(0)], &s.masked[&SiloId(3)]];
        let sum = sum_of(&s, [zero, zero, three], &masks(&s, &s.secrets).unwrap());
        let mut proof = s.proof(&sum, &[]);
        proof.sketches[1] = proof.sketches[0].clone();
        sum != s.sum && s.check(&sum, &proof).is_ok()
    });
}

#[test]
fn sa16_teeth_a_made_up_masked_input_is_shown_for_an_honest_silo() {
    bites(&[Check::OpenedHash], || {
        let s = Session::new(4, 40);
        let invented = vec![0; s.kit.params.packed_bytes()];
        let inputs = [&s.masked[&SiloId(0)], &invented, &s.masked[&SiloId(3)]];
        let sum = sum_of(&s, inputs, &masks(&s, &s.secrets).unwrap());
        sum != s.sum && s.check_with(&sum, &s.proof(&sum, &ids(&[2])), &[&invented]).is_ok()
    });
}

#[test]
fn sa04_teeth_a_masked_input_that_its_silo_never_signed_is_summed() {
    // everybody votes for a list in which the coordinator put an entry of silo 2
    bites(&[Check::MaskedSignature], || {
        let mut s = Session::new(4, 40);
        let invented = vec![0; s.kit.params.packed_bytes()];
        let mut entries = s.list.list().clone();
        entries.0[1].hash = transcript::masked_hash(&invented);
        let headers = s.kit.verified_headers();
        let Ok(list) = verify::survivor_list(&s.kit.rules(), entries, &headers, None) else { return false };
        s.list = list;
        let inputs = [&s.masked[&SiloId(0)], &invented, &s.masked[&SiloId(3)]];
        let sum = sum_of(&s, inputs, &masks(&s, &s.secrets).unwrap());
        sum != s.sum && s.check_with(&sum, &s.proof(&sum, &ids(&[2])), &[&invented]).is_ok()
    });
}

#[test]
fn sa09_teeth_a_made_up_secret_takes_another_mask_off() {
    for (check, dealer) in [(Check::SelfSecret, 0), (Check::MaskSecret, 1)] {
        bites(&[check], || {
            let s = Session::new(4, 40);
            let mut secrets = s.secrets.clone();
            secrets[dealer] = OpenedSecret::new(&SecretScalar(Scalar::from(5u64)));
            let Some(streams) = masks(&s, &secrets) else { return false };
            let sum = sum_of(&s, s.masked.values(), &streams);
            let proof = SumProof { secrets, ..s.proof(&sum, &[]) };
            sum != s.sum && s.check(&sum, &proof).is_ok()
        });
    }
}

#[test]
fn sa09_teeth_a_mask_is_left_in_the_sum() {
    bites(&[Check::OpenedSecrets], || {
        let s = Session::new(4, 40);
        let secrets = s.secrets[..3].to_vec();
        let Some(streams) = masks(&s, &secrets) else { return false };
        let sum = sum_of(&s, s.masked.values(), &streams);
        let proof = SumProof { secrets, ..s.proof(&sum, &[]) };
        sum != s.sum && s.check(&sum, &proof).is_ok()
    });
}

#[test]
fn sa16_sa12_teeth_a_sketch_of_any_length_and_outside_of_its_ring_counts() {
    let counts = |change: fn(&mut Vec<u32>, u32)| {
        let s = Session::new(4, 40);
        let (t3, hash) = (s.list.t3(), transcript::sum_hash(&s.sum));
        let mut values = s.sketch(SiloId(2), &s.sum).values;
        change(&mut values, 1 << s.kit.params.segments[0].ring_bits);
        let sketch = Sketch::sign(&s.kit.keys[2], &s.kit.ctx, SiloId(2), &t3, &hash, values);
        verify::sketch(&s.kit.rules(), &sketch, &s.kit.params, &s.list, &hash).is_ok()
    };
    // kept by the coordinator and passed on to everybody
    bites(&[Check::SketchSize], || counts(|values, _| values.resize(1000 * ROWS, 0)));
    // a second sketch of one masked input for one sum, both signed
    bites(&[Check::SketchRing], || counts(|values, ring| values[0] |= ring));
}

#[test]
fn sa04_teeth_one_sum_has_two_results() {
    bites(&[Check::ZeroPadding], || {
        let s = Session::new(4, 41);
        let last = s.kit.params.segments[0].packed_bytes() - 1;
        let mut twin = s.sum.clone();
        twin[last] |= 0x80;
        let both = [&s.sum, &twin].map(|sum| s.check(sum, &s.proof(sum, &[])).is_ok());
        transcript::sum_hash(&s.sum) != transcript::sum_hash(&twin) && both == [true, true]
    });
}

/// A masked input of silo 2 as it reaches the coordinator, signed over `signed`.
fn arrives<'a>(s: &Session, packed: &'a [u8], signed: &[u8]) -> Option<VerifiedMasked<'a>> {
    let headers = s.kit.verified_headers();
    let header = MaskedHeader::sign(&s.kit.keys[2], &s.kit.ctx, &headers.bind(), SiloId(2), signed);
    verify::masked(&s.kit.rules(), header, packed, &s.kit.params, &headers).ok()
}

#[test]
fn sa04_sa12_teeth_a_short_masked_input_brings_the_coordinator_down() {
    bites(&[Check::ExactLength], || {
        let s = Session::new(4, 40);
        let short = s.masked[&SiloId(2)][1..20].to_vec();
        let Some(y) = arrives(&s, &short, &short) else { return false };
        let mut acc = vec![0; s.kit.params.lanes()];
        catch_unwind(AssertUnwindSafe(|| unmask::accumulate(&mut acc, &y, &s.kit.params))).is_err()
    });
}

#[test]
fn sa04_teeth_a_masked_input_altered_on_the_way_spoils_the_sum() {
    bites(&[Check::MaskedHash], || {
        let s = Session::new(4, 40);
        let mut flipped = s.masked[&SiloId(2)].clone();
        flipped[3] ^= 1;
        let Some(y) = arrives(&s, &flipped, &s.masked[&SiloId(2)]) else { return false };
        let inputs = [&s.masked[&SiloId(0)], &y.packed().to_vec(), &s.masked[&SiloId(3)]];
        sum_of(&s, inputs, &masks(&s, &s.secrets).unwrap()) != s.sum
    });
}

#[test]
fn sums_made_for_these_attacks_are_right_where_nothing_is_changed() {
    let s = Session::new(4, 40);
    let streams = masks(&s, &s.secrets).unwrap();
    assert_eq!(sum_of(&s, s.masked.values(), &streams), s.sum);
    let all = s.proof(&s.sum, &[]);
    assert!(remainder(&s, &s.sum, &all.sketches).iter().all(|v| *v == 0));
    assert!(streams.iter().any(|s| s.sign == Sign::Add) || streams.iter().any(|s| s.sign == Sign::Subtract));
    let claim = ClaimedSum { params: &s.kit.params, list: s.list.list(), packed: &s.sum, proof: &all, opened: &[] };
    verify::sum(&s.kit.rules(), &claim, 1).unwrap();
}
