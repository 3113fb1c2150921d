//! The verified sum: what a coordinator may try with S, and what stops it (SA-16).

use super::*;
use crate::shamir::SecretScalar;
use crate::sketch::{self, OpenedSecret, ROWS, Sketch, SumProof};
use crate::transcript;
use crate::unmask::{self, Recovery};
use crate::verify::ClaimedSum;
use curve25519_dalek::scalar::Scalar;

/// A session up to S, silo 1 dropped, with everything that the coordinator knows then.
pub(super) struct Session {
    pub kit: Kit,
    pub list: VerifiedList,
    pub masked: BTreeMap<SiloId, Vec<u8>>,
    pub secrets: Vec<OpenedSecret>,
    pub sum: Vec<u8>,
}

impl Session {
    pub fn new(n: u16, d: u32) -> Session {
        let mut kit = Kit::new(n, d, 1);
        let survivors: Vec<SiloId> = kit.roster.ids().filter(|i| i.0 != 1).collect();
        let (mut masked, mut acc, mut list) = (BTreeMap::new(), vec![0; kit.params.lanes()], Vec::new());
        for &silo in &survivors {
            let values: Vec<f32> = (0..d).map(|k| ((k + 7 * u32::from(silo.0)) % 100) as f32 / 300.0).collect();
            let lanes = kit.encode(&values, &[1, 5]);
            let (header, packed) = kit.mask(silo, lanes);
            packing::add_packed(&kit.params, &packed, &mut acc).unwrap();
            list.push(header);
            masked.insert(silo, packed);
        }
        let headers = kit.verified_headers();
        let list = verify::survivor_list(&kit.rules(), SurvivorList(list), &headers, None).unwrap();
        let mut recovery = Recovery::new(kit.params.quorum.t, &list);
        for &silo in &survivors {
            let proof = kit.certificate(&list.t3(), &survivors);
            let proof = verify::commit_certificate(&kit.rules(), &proof, &list.t3(), &survivors).unwrap();
            let pending = kit.reply(silo, &list);
            let reveal =
                verify::reveal(&kit.rules(), pending.release(&proof).unwrap(), &list, &kit.verified_dealings());
            assert!(recovery.add(&reveal.unwrap()));
        }
        let masks = recovery.streams(&kit.verified_adverts(), &headers).unwrap();
        let sum = unmask::unmask(acc, &masks.streams, &kit.params, 1).unwrap();
        Session { kit, list, masked, secrets: masks.secrets, sum }
    }

    /// The sketch that an honest silo makes of its masked input, for whatever sum it is told of.
    pub fn sketch(&self, silo: SiloId, sum: &[u8]) -> Sketch {
        let (t3, hash) = (self.list.t3(), transcript::sum_hash(sum));
        let key = transcript::rows_key(&t3, &hash);
        let values = sketch::subset_sums_of(&self.kit.params, &key, &self.masked[&silo], 1).unwrap();
        Sketch::sign(&self.kit.keys[silo.index()], &self.kit.ctx, silo, &t3, &hash, values)
    }

    /// The proof that the coordinator can make for a sum of its choice, with the inputs of `opened` shown whole.
    pub fn proof(&self, sum: &[u8], opened: &[SiloId]) -> SumProof {
        let survivors = self.list.survivors().iter();
        let sketches = survivors.filter(|s| !opened.contains(s)).map(|&s| self.sketch(s, sum)).collect();
        let (adverts, headers) = (self.kit.adverts.clone(), self.kit.headers());
        SumProof { adverts, headers, secrets: self.secrets.clone(), sketches, opened: opened.to_vec() }
    }

    pub fn check_with(
        &self,
        sum: &[u8],
        proof: &SumProof,
        opened: &[&[u8]],
    ) -> Result<verify::VerifiedSum, VerifyError> {
        let params = &self.kit.params;
        let claim = ClaimedSum { params, list: self.list.list(), packed: sum, proof, opened };
        verify::sum(&self.kit.rules(), &claim, 2)
    }

    pub fn check(&self, sum: &[u8], proof: &SumProof) -> Result<verify::VerifiedSum, VerifyError> {
        self.check_with(sum, proof, &[])
    }
}

#[test]
fn sa16_the_honest_sum_is_accepted_with_and_without_opened_inputs() {
    for (n, d) in [(4, 1), (4, 257), (5, 2050), (7, 33)] {
        let s = Session::new(n, d);
        let found = s.check(&s.sum, &s.proof(&s.sum, &[])).unwrap();
        assert_eq!((found.t3(), found.survivors()), (s.list.t3(), s.list.survivors()));
        assert_eq!(found.bind(), s.kit.verified_headers().bind());
        for opened in [&ids(&[0])[..], &ids(&[2, 3])] {
            let inputs: Vec<&[u8]> = opened.iter().map(|silo| s.masked[silo].as_slice()).collect();
            s.check_with(&s.sum, &s.proof(&s.sum, opened), &inputs).unwrap();
        }
    }
}

#[test]
fn sa16_a_sum_altered_in_any_one_coordinate_is_refused_even_with_sketches_made_for_it() {
    let s = Session::new(4, 40);
    for byte in 0..s.sum.len() {
        for bit in [0, 7] {
            let mut sum = s.sum.clone();
            sum[byte] ^= 1 << bit;
            // the silos are asked for sketches under the rows of this very sum
            assert_refused(s.check(&sum, &s.proof(&sum, &[])), "SA-16", None);
        }
    }
}

#[test]
fn sa16_a_colluding_survivor_gets_a_sum_of_its_choice_past_sketches_and_not_past_inputs() {
    // silo 3 signs subset sums that make up the difference between the sum wanted and the true one
    let s = Session::new(4, 40);
    let mut wanted = s.sum.clone();
    wanted[2] ^= 0x55;
    let (t3, hash) = (s.list.t3(), transcript::sum_hash(&wanted));
    let key = transcript::rows_key(&t3, &hash);
    let sums = |packed: &[u8]| sketch::subset_sums_of(&s.kit.params, &key, packed, 1).unwrap();
    let mut values = sums(&s.masked[&SiloId(3)]);
    sketch::add(&s.kit.params, &mut values, &sums(&wanted));
    let back: Vec<u32> = sums(&s.sum).iter().map(|v| v.wrapping_neg()).collect();
    sketch::add(&s.kit.params, &mut values, &back);
    let mut proof = s.proof(&wanted, &[]);
    proof.sketches[2] = Sketch::sign(&s.kit.keys[3], &s.kit.ctx, SiloId(3), &t3, &hash, values);
    s.check(&wanted, &proof).unwrap();

    let inputs: Vec<&[u8]> = s.masked.values().map(Vec::as_slice).collect();
    let shown = s.proof(&wanted, s.list.survivors());
    let params = &Params { verify_sum: VerifySum::Inputs, ..s.kit.params.clone() };
    let check = |packed: &[u8], proof: &SumProof, opened: &[&[u8]]| {
        let claim = ClaimedSum { params, list: s.list.list(), packed, proof, opened };
        verify::sum(&s.kit.rules(), &claim, 1)
    };
    assert_refused(check(&wanted, &proof, &[]), "SA-16", None); // no sketch counts here
    assert_refused(check(&wanted, &shown, &inputs), "SA-16", None);
    check(&s.sum, &s.proof(&s.sum, s.list.survivors()), &inputs).unwrap();
}

#[test]
fn sa16_sketches_for_another_sum_or_list_do_not_count() {
    let s = Session::new(4, 40);
    let mut other = s.sum.clone();
    other[3] ^= 1;
    assert_refused(s.check(&other, &s.proof(&s.sum, &[])), "SA-16", Some(0));
    let mut sketch = s.sketch(SiloId(2), &s.sum);
    let hash = transcript::sum_hash(&s.sum);
    sketch = Sketch::sign(&s.kit.keys[2], &s.kit.ctx, SiloId(2), &sha256(b"another list"), &hash, sketch.values);
    let mut proof = s.proof(&s.sum, &[]);
    proof.sketches[1] = sketch;
    assert_refused(s.check(&s.sum, &proof), "SA-16", Some(2));
}

#[test]
fn sa16_swapped_inputs_an_omitted_mask_and_a_missing_input_are_refused() {
    let s = Session::new(5, 40);
    // a sum over other inputs: silo 0's masked input counted in place of silo 2's
    let mut acc = vec![0; s.kit.params.lanes()];
    for silo in [0, 0, 3, 4] {
        packing::add_packed(&s.kit.params, &s.masked[&SiloId(silo)], &mut acc).unwrap();
    }
    let (adverts, headers) = (s.kit.verified_adverts(), s.kit.verified_headers());
    let streams = verify::opened_secrets(&s.secrets, &s.list, &adverts, &headers).unwrap();
    let swapped = unmask::unmask(acc, &streams, &s.kit.params, 1).unwrap();
    assert_refused(s.check(&swapped, &s.proof(&swapped, &[])), "SA-16", None);
    // a mask left in
    let mut acc = vec![0; s.kit.params.lanes()];
    for packed in s.masked.values() {
        packing::add_packed(&s.kit.params, packed, &mut acc).unwrap();
    }
    let left_in = unmask::unmask(acc, &streams[1..], &s.kit.params, 1).unwrap();
    assert_refused(s.check(&left_in, &s.proof(&left_in, &[])), "SA-16", None);
    // an input that nobody vouches for
    let mut proof = s.proof(&s.sum, &[]);
    proof.sketches.pop();
    assert_refused(s.check(&s.sum, &proof), "SA-16", None);
    proof.opened.push(SiloId(4));
    assert_refused(s.check(&s.sum, &proof), "SA-16", None);
    assert_refused(s.check_with(&s.sum, &proof, &[&s.masked[&SiloId(3)]]), "SA-16", Some(4));
    assert_refused(s.check_with(&s.sum, &proof, &[&s.masked[&SiloId(4)][1..]]), "SA-16", Some(4));
    s.check_with(&s.sum, &proof, &[&s.masked[&SiloId(4)]]).unwrap();
    // one silo vouched for twice, by two sketches, or by a sketch and its input
    let mut proof = s.proof(&s.sum, &[]);
    proof.sketches[1] = proof.sketches[0].clone();
    assert_refused(s.check(&s.sum, &proof), "SA-16", None);
    let mut proof = s.proof(&s.sum, &[]);
    proof.opened.push(SiloId(4));
    assert_refused(s.check_with(&s.sum, &proof, &[&s.masked[&SiloId(4)]]), "SA-16", None);
    // right silos, wrong order
    let mut proof = s.proof(&s.sum, &[]);
    proof.sketches.swap(0, 1);
    assert_refused(s.check(&s.sum, &proof), "SA-16", Some(0));
    let (of_3, of_4) = (&s.masked[&SiloId(3)][..], &s.masked[&SiloId(4)][..]);
    let mut proof = s.proof(&s.sum, &ids(&[3, 4]));
    proof.opened.swap(0, 1);
    assert_refused(s.check_with(&s.sum, &proof, &[of_4, of_3]), "SA-16", Some(3));
}

#[test]
fn sa16_a_sketch_of_wrong_size_ring_sender_or_signature_is_refused() {
    let s = Session::new(4, 40);
    let hash = transcript::sum_hash(&s.sum);
    let check = |sketch: &Sketch| verify::sketch(&s.kit.rules(), sketch, &s.kit.params, &s.list, &hash);
    let good = s.sketch(SiloId(2), &s.sum);
    check(&good).unwrap();
    let sign = |silo: u16, key: usize, values: Vec<u32>| {
        Sketch::sign(&s.kit.keys[key], &s.kit.ctx, SiloId(silo), &s.list.t3(), &hash, values)
    };
    let values = good.values.clone();
    assert_refused(check(&sign(2, 3, values.clone())), "SA-16", Some(2));
    assert_refused(check(&sign(1, 1, values.clone())), "SA-16", Some(1)); // dropped
    assert_refused(check(&sign(2, 2, values[1..].to_vec())), "SA-16", Some(2));
    assert_refused(check(&sign(2, 2, [&values[..], &[0]].concat())), "SA-16", Some(2));
    let mut outside = values.clone();
    outside[0] |= 1 << s.kit.params.segments[0].ring_bits;
    assert_refused(check(&sign(2, 2, outside)), "SA-16", Some(2));
    let mut altered = good.clone();
    altered.values[ROWS] ^= 1;
    assert_refused(check(&altered), "SA-16", Some(2));
}

#[test]
fn sa09_opened_secrets_must_be_those_of_their_dealers() {
    let s = Session::new(4, 3);
    let proof = s.proof(&s.sum, &[]);
    let with = |change: &dyn Fn(&mut Vec<OpenedSecret>)| {
        let mut changed = proof.clone();
        change(&mut changed.secrets);
        s.check(&s.sum, &changed)
    };
    let other = OpenedSecret::new(&SecretScalar(Scalar::from(5u64)));
    for dealer in 0..4u16 {
        assert_refused(with(&|secrets| secrets[usize::from(dealer)] = other.clone()), "SA-09", Some(dealer));
        assert_refused(with(&|secrets| secrets[usize::from(dealer)] = OpenedSecret([0xff; 32])), "SA-09", Some(dealer));
    }
    assert_refused(with(&|secrets| drop(secrets.pop())), "SA-09", None);
    assert_refused(with(&|secrets| secrets.push(other.clone())), "SA-09", None);
    assert_refused(with(&|secrets| secrets.swap(0, 2)), "SA-09", Some(0));
}

#[test]
fn sa16_a_proof_of_another_transcript_is_refused() {
    let s = Session::new(4, 3);
    let mut proof = s.proof(&s.sum, &[]);
    proof.adverts[0].mask_key[0] ^= 1;
    assert_refused(s.check(&s.sum, &proof), "SA-01", Some(0));
    let mut proof = s.proof(&s.sum, &[]);
    proof.headers[3].commitment_b.0[0] ^= 1;
    assert_refused(s.check(&s.sum, &proof), "SA-03", Some(3));
    let mut proof = s.proof(&s.sum, &[]);
    proof.headers.pop(); // another bind: the survivors signed under the whole one
    proof.secrets.pop();
    assert_refused(s.check(&s.sum, &proof), "SA-04", Some(0));
}

#[test]
fn subset_sums_follow_the_keystream_bit_by_bit_on_any_number_of_threads() {
    let kit = Kit::new(4, 5000, 1);
    let key = sha256(b"rows");
    let lanes: Vec<u32> = (0..kit.params.lanes() as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    let stream = keystream(mask::MaskSeed::from_bytes(key.0), 4 * lanes.len());
    let mut expected = vec![0u32; 2 * ROWS];
    for (segment, (_, range)) in kit.params.ranges().enumerate() {
        for k in range {
            for r in 0..ROWS {
                let bit = stream[4 * k + r / 32] >> (r % 32) & 1;
                let sum = &mut expected[segment * ROWS + r];
                *sum = sum.wrapping_add(bit * lanes[k]) & kit.params.segments[segment].ring_mask();
            }
        }
    }
    for threads in [0, 1, 2, 3, 64] {
        assert!(sketch::subset_sums(&kit.params, &key, &lanes, threads).unwrap() == expected, "{threads} threads");
    }
    assert!(sketch::subset_sums(&kit.params, &key, &lanes[1..], 1).is_err());
}
