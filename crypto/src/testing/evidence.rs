//! Evidence: each kind convicts the silo that signed it, and nothing that a coordinator and colluding silos put together
//! convicts a silo that kept to the protocol.

use super::*;
use crate::commit::AbandonVote;
use crate::complaint::Complaint;
use crate::evidence::{
    BadReveal, Complaints, Dealt, Evidence, FalseSketch, Fault, OffPolynomial, Over, PackedInput, SignedPair,
    SignedResult, SumSketch, Transcript,
};
use crate::merkle::Tree;
use crate::result::ResultVote;
use crate::reveal::{Reveal, RevealedShare};
use crate::share::{PairLeaves, ShareKind};
use crate::sketch::{self, Sketch};
use crate::transcript;
use crate::verify::Guilt;
use serde_json::Value;

/// Who misbehaves where nothing else is said. n = 4, so c = 1, q = t = m = 3.
pub(super) const LIAR: SiloId = SiloId(1);

/// As a third party checks: with the roster, quorums of its own, and the context that the evidence is about.
pub(super) fn check(kit: &Kit, evidence: &Evidence) -> Result<Guilt, VerifyError> {
    let (roster, quorum, ctx) = (&kit.roster, &kit.params.quorum, &evidence.context.digest());
    verify::evidence(&Rules { roster, ctx, quorum }, evidence)
}

pub(super) fn evidence(kit: &Kit, fault: Fault) -> Evidence {
    Evidence { context: kit.context.clone(), fault }
}

pub(super) fn boxed<T>(first: T, second: T) -> Box<[T; 2]> {
    Box::new([first, second])
}

#[track_caller]
fn assert_proves_nothing(kit: &Kit, fault: Fault) {
    let found = check(kit, &evidence(kit, fault));
    let says_so = |e: &VerifyError| e.blamed.is_none() && e.what.starts_with("this proves nothing: ");
    assert!(found.as_ref().is_err_and(says_so), "{found:?}");
}

/// A kit whose silo 1 deals with one share too many needed.
fn off_polynomial_kit() -> Kit {
    let mut kit = Kit::new(4, 3, 1);
    let (adverts, t) = (kit.verified_adverts(), kit.params.quorum.t);
    let secrets = &kit.secrets[LIAR.index()];
    let dealt = share::deal(&kit.keys[LIAR.index()], LIAR, secrets, &adverts, t + 1, &mut kit.rng);
    (kit.dealings[LIAR.index()], kit.own_pairs[LIAR.index()]) = dealt.unwrap();
    kit
}

pub(super) fn replies(kit: &Kit, list: &VerifiedList) -> Vec<Reveal> {
    let certificate = kit.certificate(&list.t3(), list.survivors());
    let proof = verify::commit_certificate(&kit.rules(), &certificate, &list.t3(), list.survivors()).unwrap();
    list.survivors().iter().map(|&silo| kit.reply(silo, list).release(&proof).unwrap().clone()).collect()
}

fn off_polynomial(kit: &Kit, survivors: &[u16]) -> Option<Fault> {
    let list = kit.verified_list(&ids(survivors));
    let dealing = &kit.verified_dealings()[&LIAR];
    Fault::off_polynomial(&kit.verified_adverts(), dealing, &replies(kit, &list), kit.params.quorum.t)
}

/// Signs a reply again after a change.
fn resign(kit: &Kit, reply: &Reveal, t3: &Digest, change: impl Fn(&mut Vec<RevealedShare>)) -> Reveal {
    let mut shares = reply.shares.clone();
    change(&mut shares);
    Reveal::sign(&kit.keys[reply.silo.index()], &kit.ctx, reply.silo, t3, shares)
}

fn spoil(share: &mut RevealedShare) {
    match share {
        RevealedShare::OfSurvivor { b, .. } => b.share.0[0] ^= 1,
        RevealedShare::OfDropped { s, .. } => s.nonce[0] ^= 1,
    }
}

pub(super) fn bad_reveal(kit: &Kit, reply: &Reveal, list: &VerifiedList) -> Fault {
    Fault::bad_reveal(reply, &kit.verified_adverts(), &kit.verified_headers(), list, &kit.verified_dealings())
}

pub(super) fn complaints(kit: &Kit, dealer: SiloId, by: &[u16]) -> Vec<Complaint> {
    let dealing = &kit.verified_dealings()[&dealer];
    let sign = |&i: &u16| {
        let delivery = dealing.delivery(SiloId(i)).unwrap();
        Complaint::sign(&kit.keys[usize::from(i)], SiloId(i), dealing.header(), &delivery)
    };
    by.iter().map(sign).collect()
}

pub(super) fn about(kit: &Kit, complaints: Vec<Complaint>) -> Fault {
    let header = kit.dealings[LIAR.index()].header.clone();
    Fault::Complaints(Box::new(Complaints { adverts: kit.adverts.clone(), header, complaints }))
}

/// A sketch of a masked input, right or altered.
pub(super) fn sketched(kit: &mut Kit, silo: SiloId, alter: u32) -> FalseSketch {
    let lanes = kit.encode(&[0.1, 0.2, -0.3], &[1, 7]);
    let (header, packed) = kit.mask(silo, lanes);
    let (t3, sum_hash) = (sha256(b"t3"), sha256(b"sum"));
    let key = transcript::rows_key(&t3, &sum_hash);
    let mut values = sketch::subset_sums_of(&kit.params, &key, &packed, 1).unwrap();
    values[5] ^= alter;
    let sketch = Sketch::sign(&kit.keys[silo.index()], &kit.ctx, silo, &t3, &sum_hash, values);
    let header = Over { over: kit.verified_headers().bind(), message: header };
    let sketch = SumSketch { t3, sum_hash, sketch };
    FalseSketch { params: kit.params.clone(), header, masked: PackedInput(packed), sketch }
}

/// One true piece of evidence of every kind, all against silo 1, with the rule that each shows broken.
fn every_kind() -> Vec<(Kit, Evidence, &'static str)> {
    let mut all: Vec<(Kit, Fault, &'static str)> = Vec::new();
    let kit = || Kit::new(4, 3, 1);
    let (k, key) = (kit(), |k: &Kit| IdentityKey::from_bytes(&k.keys[LIAR.index()].to_bytes()));
    let (first, second) = (sha256(b"first"), sha256(b"second"));

    let other = SessionSecrets::generate(&k.ctx, &mut rng(7));
    let advert = Advert::sign(&key(&k), &k.ctx, LIAR, &other, k.adverts[1].journal(), true);
    all.push((kit(), Fault::TwoAdverts(boxed(k.adverts[1].clone(), advert)), "SA-07"));

    let off = off_polynomial_kit();
    let t1 = k.verified_adverts().t1();
    let over = |header: &ShareHeader| Over { over: t1, message: header.clone() };
    let two = boxed(over(&k.dealings[1].header), over(&off.dealings[1].header));
    all.push((kit(), Fault::TwoHeaders(two), "SA-07"));

    let masked = |bind: Digest, y: &[u8]| {
        let message = MaskedHeader::sign(&key(&k), &k.ctx, &bind, LIAR, y);
        Over { over: bind, message }
    };
    all.push((kit(), Fault::TwoMaskedInputs(boxed(masked(first, b"y"), masked(first, b"z"))), "SA-07"));
    all.push((kit(), Fault::TwoMaskedInputs(boxed(masked(first, b"y"), masked(second, b"y"))), "SA-07"));

    let commit = |t3: Digest| Over { over: t3, message: CommitVote::sign(&key(&k), &k.ctx, LIAR, &t3) };
    all.push((kit(), Fault::TwoCommits(boxed(commit(first), commit(second))), "SA-07"));
    let abandon = AbandonVote::sign(&key(&k), &k.ctx, LIAR);
    all.push((kit(), Fault::CommitAndAbandon { commit: commit(first), abandon }, "SA-07"));

    let result = |r: &[u8], m: &[u8]| {
        let (result_hash, next_model_hash) = (sha256(r), sha256(m));
        let vote = ResultVote::sign(&key(&k), &k.ctx, LIAR, &result_hash, &next_model_hash);
        SignedResult { result_hash, next_model_hash, vote }
    };
    all.push((kit(), Fault::TwoResults(boxed(result(b"a", b"m"), result(b"b", b"m"))), "SA-07"));
    all.push((kit(), Fault::TwoResults(boxed(result(b"a", b"m"), result(b"a", b"n"))), "SA-07"));

    let list = k.verified_list(&ids(&[0, 1, 2]));
    let reply = replies(&k, &list)[1].clone();
    let wrong = |place: usize| resign(&k, &reply, &list.t3(), |shares| spoil(&mut shares[place]));
    let over = |message: &Reveal, t3: Digest| Over { over: t3, message: message.clone() };
    let two = boxed(over(&reply, list.t3()), over(&wrong(0), list.t3()));
    all.push((kit(), Fault::TwoReveals(two), "SA-07"));
    let elsewhere = resign(&k, &reply, &first, |_| {});
    all.push((kit(), Fault::TwoReveals(boxed(over(&reply, list.t3()), over(&elsewhere, first))), "SA-07"));

    // a b-share, its own b-share, and an s-share that are not the ones dealt
    for place in [0, 1, 3] {
        all.push((kit(), bad_reveal(&k, &wrong(place), &list), "SA-09"));
    }
    let both_kinds = resign(&k, &reply, &list.t3(), |shares| {
        if let RevealedShare::OfSurvivor { peer, b } = shares[0].clone() {
            shares[0] = RevealedShare::OfDropped { peer, s: b };
        }
    });
    all.push((kit(), bad_reveal(&k, &both_kinds, &list), "SA-06"));
    let twice = resign(&k, &reply, &list.t3(), |shares| shares.push(shares[3].clone()));
    all.push((kit(), bad_reveal(&k, &twice, &list), "SA-06"));
    let without = k.verified_list(&ids(&[0, 2, 3]));
    let outsider = Reveal::sign(&key(&k), &k.ctx, LIAR, &without.t3(), Vec::new());
    all.push((kit(), bad_reveal(&k, &outsider, &without), "SA-06"));

    for survivors in [[0, 1, 2], [0, 2, 3]] {
        let kit = off_polynomial_kit();
        let fault = off_polynomial(&kit, &survivors).unwrap();
        all.push((kit, fault, "SA-09"));
    }
    let kit_with_complaints = kit();
    let fault = about(&kit_with_complaints, complaints(&kit_with_complaints, LIAR, &[0, 3]));
    all.push((kit_with_complaints, fault, "SA-03"));

    let mut kit_with_sketch = kit();
    let lie = sketched(&mut kit_with_sketch, LIAR, 1);
    let honest = sketched(&mut kit(), LIAR, 0).sketch;
    let two = boxed(honest.clone(), lie.sketch.clone());
    all.push((kit(), Fault::TwoSketches(two), "SA-16"));
    let t3 = sha256(b"another list");
    let values = honest.sketch.values.clone();
    let sketch = Sketch::sign(&key(&k), &k.ctx, LIAR, &t3, &honest.sum_hash, values);
    let elsewhere = SumSketch { t3, sum_hash: honest.sum_hash, sketch };
    all.push((kit(), Fault::TwoSketches(boxed(honest, elsewhere)), "SA-16"));
    all.push((kit_with_sketch, Fault::FalseSketch(Box::new(lie)), "SA-16"));

    all.into_iter().map(|(kit, fault, rule)| (evidence(&kit, fault), kit, rule)).map(|(e, k, r)| (k, e, r)).collect()
}

#[test]
fn every_kind_of_evidence_names_the_silo_that_signed_it_also_after_a_trip_through_text_and_bytes() {
    let mut names = std::collections::BTreeSet::new();
    for (kit, evidence, rule) in every_kind() {
        let name = evidence.fault.name();
        let guilt = check(&kit, &evidence).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((guilt.silo, guilt.check.rule()), (LIAR, rule), "{name}: {}", guilt.what);
        let text = serde_json::to_string(&evidence).unwrap();
        assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
        let bytes = bincode::serde::encode_to_vec(&evidence, BYTES).unwrap();
        let back: (Evidence, usize) = bincode::serde::borrow_decode_from_slice(&bytes, BYTES).unwrap();
        assert_eq!(back, (evidence, bytes.len()));
        names.insert(name);
    }
    assert_eq!(names.len(), 12, "a kind has no example");
}

const BYTES: bincode::config::Configuration<bincode::config::LittleEndian, bincode::config::Fixint> =
    bincode::config::standard().with_fixed_int_encoding();

/// Every version of a JSON value in which one leaf is another or one list is shorter or longer.
fn altered(value: &Value, out: &mut Vec<Value>) {
    fn flip(text: &str, place: usize) -> Value {
        let mut bytes = text.as_bytes().to_vec();
        bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
        Value::String(String::from_utf8(bytes).unwrap())
    }
    match value {
        Value::Null => {}
        Value::Bool(b) => out.push(Value::Bool(!b)),
        Value::Number(n) => match n.as_u64() {
            Some(n) => out.push(Value::from(n ^ 1)),
            None => out.push(Value::from(n.as_f64().unwrap() * 2.0)),
        },
        Value::String(s) if s == "SelfMask" => out.push(Value::from("MaskSecret")),
        Value::String(s) if s == "MaskSecret" => out.push(Value::from("SelfMask")),
        Value::String(s) if s.is_empty() => {}
        Value::String(s) => out.extend([flip(s, 0), flip(s, s.len() / 2), flip(s, s.len() - 1)]),
        Value::Array(items) => {
            let with = |i: usize, item: Value| {
                let mut items = items.clone();
                items[i] = item;
                Value::Array(items)
            };
            for (i, item) in items.iter().enumerate() {
                let mut inner = Vec::new();
                altered(item, &mut inner);
                out.extend(inner.into_iter().map(|item| with(i, item)));
            }
            if let Some(last) = items.last() {
                out.push(Value::Array(items[..items.len() - 1].to_vec()));
                out.push(Value::Array([&items[..], std::slice::from_ref(last)].concat()));
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                let mut inner = Vec::new();
                altered(field, &mut inner);
                for field in inner {
                    let mut fields = fields.clone();
                    fields.insert(key.clone(), field);
                    out.push(Value::Object(fields));
                }
            }
        }
    }
}

#[test]
fn sa02_evidence_with_any_field_altered_proves_nothing() {
    let mut tried = 0;
    for (kit, evidence, _) in every_kind() {
        let mut all = Vec::new();
        altered(&serde_json::to_value(&evidence).unwrap(), &mut all);
        for value in all {
            let Ok(forged) = serde_json::from_value::<Evidence>(value) else { continue };
            assert_ne!(forged, evidence);
            let found = check(&kit, &forged);
            assert!(found.is_err(), "{}: {forged:?} gives {found:?}", evidence.fault.name());
            tried += 1;
        }
    }
    assert!(tried > 5000, "{tried}");
}

#[test]
fn sa02_evidence_of_another_session_roster_or_quorum_proves_nothing() {
    for (kit, evidence, _) in every_kind() {
        let name = evidence.fault.name();
        // told to be of this session, while it is of another, and the other way round
        let other = Kit::new(4, 3, 2);
        assert_refused(verify::evidence(&other.rules(), &evidence), "SA-02", None);
        let moved = Evidence { context: other.context.clone(), ..evidence.clone() };
        assert!(check(&kit, &moved).is_err(), "{name}");
        // a roster of other keys, or of more silos
        let stranger = Kit::new(5, 3, 1);
        assert_refused(check(&stranger, &evidence), "SA-01", None);
        let quorum = Quorum::derive(5, None, None).unwrap();
        let ctx = evidence.context.digest();
        let found = verify::evidence(&Rules { roster: &kit.roster, ctx: &ctx, quorum: &quorum }, &evidence);
        assert_refused(found, "SA-01", None);
    }
}

#[test]
fn sa07_a_repeated_message_proves_nothing() {
    for (kit, evidence, _) in every_kind() {
        let mut repeated = serde_json::to_value(&evidence.fault).unwrap();
        for two in repeated.as_object_mut().unwrap().values_mut() {
            let Value::Array(two) = two else { continue };
            two[1] = two[0].clone();
        }
        let fault: Fault = serde_json::from_value(repeated).unwrap();
        if fault != evidence.fault {
            assert_proves_nothing(&kit, fault);
        }
    }
}

#[test]
fn sa07_messages_of_two_silos_or_of_two_attempts_are_no_contradiction() {
    let (kit, later) = (Kit::new(4, 3, 1), Kit::new(4, 3, 2));
    assert_proves_nothing(&kit, Fault::TwoAdverts(boxed(kit.adverts[0].clone(), kit.adverts[1].clone())));
    assert_proves_nothing(&kit, Fault::TwoAdverts(boxed(kit.adverts[1].clone(), later.adverts[1].clone())));
    let commit = |kit: &Kit, silo: u16| {
        let t3 = kit.verified_list(&ids(&[0, 1, 2])).t3();
        Over { over: t3, message: CommitVote::sign(&kit.keys[usize::from(silo)], &kit.ctx, SiloId(silo), &t3) }
    };
    assert_proves_nothing(&kit, Fault::TwoCommits(boxed(commit(&kit, 1), commit(&later, 1))));
    let abandon = |kit: &Kit, silo: u16| AbandonVote::sign(&kit.keys[usize::from(silo)], &kit.ctx, SiloId(silo));
    let fault = |commit, abandon| Fault::CommitAndAbandon { commit, abandon };
    assert_proves_nothing(&kit, fault(commit(&kit, 1), abandon(&later, 1)));
    assert_proves_nothing(&kit, fault(commit(&kit, 1), abandon(&kit, 2)));
}

#[test]
fn sa16_a_restarted_silo_that_sketches_its_input_for_a_second_sum_is_not_at_fault() {
    let mut kit = Kit::new(4, 3, 1);
    let FalseSketch { sketch: first, masked, .. } = sketched(&mut kit, LIAR, 0);
    let sum_hash = sha256(b"another sum");
    let key = transcript::rows_key(&first.t3, &sum_hash);
    let values = sketch::subset_sums_of(&kit.params, &key, &masked.0, 1).unwrap();
    let sketch = Sketch::sign(&kit.keys[1], &kit.ctx, LIAR, &first.t3, &sum_hash, values);
    let second = SumSketch { t3: first.t3, sum_hash, sketch };
    assert_proves_nothing(&kit, Fault::TwoSketches(boxed(first, second)));
}

#[test]
fn sa16_a_right_sketch_proves_nothing_nor_does_one_beside_another_input_or_with_other_parameters() {
    let mut kit = Kit::new(4, 3, 1);
    let honest = sketched(&mut kit, LIAR, 0);
    let with = |change: &dyn Fn(&mut FalseSketch)| {
        let mut changed = honest.clone();
        change(&mut changed);
        Fault::FalseSketch(Box::new(changed))
    };
    assert_proves_nothing(&kit, with(&|_| {}));
    assert_proves_nothing(&kit, with(&|e| e.masked.0[0] ^= 1));
    assert_proves_nothing(&kit, with(&|e| e.sketch.sum_hash = sha256(b"another sum")));
    assert_proves_nothing(&kit, with(&|e| e.params.segments.swap(0, 1)));
    // parameters that no session can have, with a context made to fit them
    let mut absurd = honest.clone();
    absurd.params.segments[0].length = u32::MAX;
    let context = Context { params_hash: absurd.params.hash(), ..kit.context.clone() };
    let found = check(&kit, &Evidence { context, fault: Fault::FalseSketch(Box::new(absurd)) });
    assert_refused(found, "SA-10", None);
    // a colluder's input beside an honest silo's sketch
    let colluder = sketched(&mut kit, SiloId(2), 0);
    assert_proves_nothing(
        &kit,
        with(&|e| {
            e.header = colluder.header.clone();
            e.masked = colluder.masked.clone();
        }),
    );
}

#[test]
fn sa09_an_honest_reply_proves_nothing() {
    let kit = Kit::new(4, 3, 1);
    let list = kit.verified_list(&ids(&[0, 1, 2]));
    let reply = replies(&kit, &list)[1].clone();
    let honest = bad_reveal(&kit, &reply, &list);
    assert_proves_nothing(&kit, honest.clone());
    let Fault::BadReveal(honest) = honest else { unreachable!() };
    let dealings = kit.verified_dealings();
    // with any pair that its dealers signed, in any combination
    for dealer in 0..4 {
        for recipient in 0..4 {
            let pair = dealings[&SiloId(dealer)].signed_pair(SiloId(recipient)).unwrap();
            for dealer in 0..5 {
                let dealt = Some(Dealt { dealer: SiloId(dealer), pair: pair.clone() });
                assert_proves_nothing(&kit, Fault::BadReveal(Box::new(BadReveal { dealt, ..*honest.clone() })));
            }
        }
    }
}

#[test]
fn sa09_a_dealer_that_signs_two_headers_cannot_blame_the_holder_of_one_of_them() {
    // silo 0 deals twice; silo 1 holds, checks and reveals a share of the first dealing
    let kit = Kit::new(4, 3, 1);
    let list = kit.verified_list(&ids(&[0, 1, 2]));
    let reply = replies(&kit, &list)[1].clone();
    let mut other = Kit::new(4, 3, 1);
    let adverts = other.verified_adverts();
    let dealt = share::deal(&other.keys[0], SiloId(0), &other.secrets[0], &adverts, 3, &mut rng(77)).unwrap();
    (other.dealings[0], other.own_pairs[0]) = dealt;
    let elsewhere = other.verified_list(&ids(&[0, 1, 2]));
    assert_ne!(list.t3(), elsewhere.t3());
    // the transcript of the second header does not lead to the T3 that silo 1 signed, whatever list is shown with it
    assert_proves_nothing(&kit, bad_reveal(&other, &reply, &elsewhere));
    assert_proves_nothing(&kit, bad_reveal(&other, &reply, &list));
    // and the same evidence with silo 1's own signature under that T3 would count: the check has teeth
    let signed = resign(&kit, &reply, &elsewhere.t3(), |_| {});
    let guilt = check(&kit, &evidence(&kit, bad_reveal(&other, &signed, &elsewhere))).unwrap();
    assert_eq!((guilt.silo, guilt.check.rule()), (LIAR, "SA-09"));
}

/// Silo 0 signs a tree in which the place of silo 3 holds a pair that names silo 1, which got its own pair and reveals it.
pub(super) fn planted_pair() -> (Kit, Fault) {
    let mut kit = Kit::new(4, 3, 1);
    let false_leaves = PairLeaves { b: sha256(b"b"), s: sha256(b"s") };
    let pairs = kit.dealings[0].pairs.clone();
    let hash = |(i, pair): (usize, &share::DealtPair)| pair.leaves.pair_hash(SiloId(i as u16), &pair.sealed);
    let mut hashes: Vec<Digest> = pairs.iter().enumerate().map(hash).collect();
    let ciphertext = sha256(b"ciphertext");
    hashes[3] = false_leaves.pair_hash_over(LIAR, &ciphertext);
    let tree = Tree::new(hashes);
    sign_root(&mut kit, 0, tree.root());
    let (adverts, headers) = (kit.verified_adverts(), kit.verified_headers());
    let list = kit.verified_list(&ids(&[0, 1, 2]));
    let (leaves, sealed) = (pairs[1].leaves, pairs[1].sealed.clone());
    let delivery = share::Delivery { dealer: SiloId(0), leaves, path: tree.path(1), sealed };
    let header = verify::header(&kit.rules(), kit.dealings[0].header.clone(), &adverts).unwrap();
    let pair = verify::delivery(&delivery, &header, &adverts, LIAR, &kit.secrets[1].channel).unwrap();
    let mut held = HeldShares::new(LIAR);
    assert!(held.insert(pair));
    let pending = held.into_reply(&list, &kit.keys[1], &kit.ctx);
    let certificate = kit.certificate(&list.t3(), list.survivors());
    let proof = verify::commit_certificate(&kit.rules(), &certificate, &list.t3(), list.survivors()).unwrap();
    let reveal = pending.release(&proof).unwrap().clone();
    let transcript = Transcript {
        adverts: adverts.adverts().to_vec(),
        headers: headers.headers().to_vec(),
        list: list.list().clone(),
    };
    let pair = SignedPair { leaves: false_leaves, ciphertext, path: tree.path(3) };
    let dealt = Some(Dealt { dealer: SiloId(0), pair });
    (kit, Fault::BadReveal(Box::new(BadReveal { transcript, reveal, dealt })))
}

/// Lets a dealer sign another root.
fn sign_root(kit: &mut Kit, dealer: u16, root: Digest) {
    let (t1, dealer) = (kit.verified_adverts().t1(), SiloId(dealer));
    let header = &mut kit.dealings[dealer.index()].header;
    header.root = root;
    let fields: [&[u8]; 3] = [&t1.0, &root.0, &header.commitment_b.0];
    header.signature = kit.keys[dealer.index()].sign(Label::ShareHeader, &kit.ctx, dealer, &fields);
}

#[test]
fn sa03_a_dealer_that_plants_a_second_pair_at_a_colluders_place_cannot_blame_its_recipient() {
    let (kit, fault) = planted_pair();
    assert_proves_nothing(&kit, fault);
}

#[test]
fn sa09_shares_of_an_honest_dealer_prove_nothing_in_any_selection() {
    let kit = Kit::new(5, 3, 1);
    for survivors in [[0, 1, 2, 3], [0, 2, 3, 4]] {
        let list = kit.verified_list(&ids(&survivors));
        let (dealing, replies) = (&kit.verified_dealings()[&LIAR], replies(&kit, &list));
        for left_out in 0..4 {
            let some = replies.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, r)| r);
            let fault = Fault::off_polynomial(&kit.verified_adverts(), dealing, some, kit.params.quorum.t);
            assert_proves_nothing(&kit, fault.unwrap());
        }
        // a share altered by its holder is no share of this dealer; with it there are too few
        let mut spoiled = replies.clone();
        for reply in &mut spoiled[..2] {
            reply.shares.iter_mut().for_each(spoil);
        }
        let fault = Fault::off_polynomial(&kit.verified_adverts(), dealing, &spoiled, kit.params.quorum.t);
        assert_eq!(fault, None);
    }
}

#[test]
fn sa09_too_few_shares_repeated_ones_or_too_many_prove_nothing() {
    let kit = off_polynomial_kit();
    let Some(Fault::OffPolynomial(good)) = off_polynomial(&kit, &[0, 1, 2]) else { panic!() };
    let with = |change: &dyn Fn(&mut OffPolynomial)| {
        let mut changed = *good.clone();
        change(&mut changed);
        Fault::OffPolynomial(Box::new(changed))
    };
    assert!(check(&kit, &evidence(&kit, with(&|_| {}))).is_ok());
    assert_proves_nothing(&kit, with(&|e| drop(e.shares.pop())));
    assert_proves_nothing(&kit, with(&|e| e.shares[2] = e.shares[1].clone()));
    assert_proves_nothing(&kit, with(&|e| e.shares.swap(0, 1)));
    assert_proves_nothing(&kit, with(&|e| e.shares.push(e.shares[2].clone())));
}

#[test]
fn sa09_a_share_that_is_no_scalar_convicts_its_dealer() {
    let mut kit = Kit::new(4, 3, 1);
    // silo 1 signs a leaf over bytes that are no canonical scalar, for silo 0
    let (t1, adverts) = (kit.verified_adverts().t1(), kit.verified_adverts());
    let mut opening = kit.pair(1, 0).b.clone();
    opening.share.0 = [0xff; 32];
    kit.dealings[1].pairs[0].leaves.b = opening.leaf(&t1, LIAR, SiloId(0), ShareKind::SelfMask);
    let pairs = kit.dealings[1].pairs.clone();
    let hashes: Vec<Digest> =
        pairs.iter().enumerate().map(|(i, p)| p.leaves.pair_hash(SiloId(i as u16), &p.sealed)).collect();
    sign_root(&mut kit, 1, Tree::new(hashes).root());
    let dealing = verify::dealing(&kit.rules(), kit.dealings[1].clone(), &adverts).unwrap();
    let shares = |silo: u16| {
        let silo = SiloId(silo);
        let b = kit.pair(1, silo.0).b.clone();
        let b = if silo.0 == 0 { opening.clone() } else { b };
        let share = RevealedShare::OfSurvivor { peer: LIAR, b };
        Reveal::sign(&kit.keys[silo.index()], &kit.ctx, silo, &t1, vec![share])
    };
    let replies: Vec<Reveal> = (0..4).map(shares).collect();
    let fault = Fault::off_polynomial(&adverts, &dealing, &replies, kit.params.quorum.t).unwrap();
    let guilt = check(&kit, &evidence(&kit, fault)).unwrap();
    assert!(guilt.silo == LIAR && guilt.what.contains("no scalar"), "{guilt:?}");
    // without the bad share the others are right
    let fault = Fault::off_polynomial(&adverts, &dealing, &replies[1..], kit.params.quorum.t).unwrap();
    assert_proves_nothing(&kit, fault);
}

#[test]
fn sa03_complaints_of_no_more_silos_than_collude_prove_nothing() {
    let kit = Kit::new(4, 3, 1);
    let by = |silos: &[u16]| complaints(&kit, LIAR, silos);
    assert_proves_nothing(&kit, about(&kit, by(&[0])));
    assert_proves_nothing(&kit, about(&kit, [by(&[0]), by(&[0])].concat()));
    assert_proves_nothing(&kit, about(&kit, by(&[3, 0])));
    // about somebody else, or by the dealer itself
    assert_proves_nothing(&kit, about(&kit, [by(&[0]), complaints(&kit, SiloId(2), &[3])].concat()));
    let mut own = by(&[0, 3]);
    own[1].silo = LIAR;
    assert_proves_nothing(&kit, about(&kit, own));
}

mod generated {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static ENCODED: LazyLock<Vec<(Kit, Evidence, Vec<u8>)>> = LazyLock::new(|| {
        let encode = |(kit, evidence, _): (Kit, Evidence, &str)| {
            let bytes = bincode::serde::encode_to_vec(&evidence, BYTES).unwrap();
            (kit, evidence, bytes)
        };
        every_kind().into_iter().map(encode).collect()
    });

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn sa12_any_bytes_altered_prove_nothing_and_never_panic(
            which: prop::sample::Index,
            changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
            cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        ) {
            let (kit, evidence, bytes) = &ENCODED[which.index(ENCODED.len())];
            let mut bytes = bytes.clone();
            for (place, flip) in changes {
                let place = place.index(bytes.len());
                bytes[place] ^= flip;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let config = BYTES.with_limit::<{ 1 << 24 }>();
            let decoded = bincode::serde::borrow_decode_from_slice::<Evidence, _>(&bytes, config);
            if let Ok((forged, _)) = decoded && forged != *evidence {
                prop_assert!(check(kit, &forged).is_err(), "{forged:?}");
            }
        }
    }
}
