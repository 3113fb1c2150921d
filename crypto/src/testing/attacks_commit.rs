//! What a silo or the coordinator may try from P3 to P5, and which check stops it.

use super::*;
use crate::reveal::{Reveal, RevealedShare};
use crate::shamir::SecretScalar;
use crate::unmask::Recovery;
use crate::verify::VerifiedReveal;

#[test]
fn sa04_masked_inputs_that_do_not_count() {
    let mut kit = Kit::new(4, 5, 1);
    let lanes = kit.encode(&[0.1; 5], &[1, 2]);
    let (header, packed) = kit.mask(SiloId(2), lanes);
    let headers = kit.verified_headers();
    let check =
        |header, packed: Vec<u8>| verify::masked(&kit.rules(), header, &packed, &kit.params, &headers).map(|_| ());
    check(header, packed.clone()).unwrap();
    for length in [0, packed.len() - 1, packed.len() + 1] {
        let mut other = packed.clone();
        other.resize(length, 0);
        assert_refused(check(header, other), "SA-04", Some(2));
    }
    let mut flipped = packed.clone();
    flipped[3] ^= 1;
    assert_refused(check(header, flipped.clone()), "SA-04", Some(2)); // not what was signed
    let rehashed = MaskedHeader { hash: crate::transcript::masked_hash(&flipped), ..header };
    assert_refused(check(rehashed, flipped), "SA-04", Some(2)); // hash without its signature
    assert_refused(check(MaskedHeader { silo: SiloId(1), ..header }, packed.clone()), "SA-04", Some(1));
    assert_refused(check(MaskedHeader { silo: SiloId(9), ..header }, packed.clone()), "SA-05", Some(9));
    // the padding of the first segment (5 × 18 bits: 6 bits of padding), signed or not
    let last = kit.params.segments[0].packed_bytes() - 1;
    let mut padded = packed.clone();
    padded[last] |= 0x80;
    let signed = MaskedHeader::sign(&kit.keys[2], &kit.ctx, &headers.bind(), SiloId(2), &padded);
    assert_refused(check(signed, padded), "SA-04", Some(2));
    // signed under another transcript
    let other = Kit::new(4, 5, 2);
    let replayed = MaskedHeader::sign(&kit.keys[2], &kit.ctx, &other.verified_headers().bind(), SiloId(2), &packed);
    assert_refused(check(replayed, packed), "SA-04", Some(2));
}

#[test]
fn sa05_a_masked_input_needs_dealt_shares() {
    let mut kit = Kit::new(4, 5, 1);
    let lanes = kit.encode(&[0.1; 5], &[1, 2]);
    let (header, packed) = kit.mask(SiloId(3), lanes);
    kit.dealings.pop();
    let headers = kit.verified_headers();
    assert_refused(verify::masked(&kit.rules(), header, &packed, &kit.params, &headers), "SA-05", Some(3));
}

#[test]
fn sa05_survivor_lists_that_do_not_count() {
    let kit = Kit::new(5, 3, 1);
    let headers = kit.verified_headers();
    let good = kit.list_of(&ids(&[0, 1, 2, 4])).0;
    let check = |entries: &[MaskedHeader]| {
        verify::survivor_list(&kit.rules(), SurvivorList(entries.to_vec()), &headers, Some(&good[0]))
    };
    let list = check(&good).unwrap();
    assert_eq!((list.survivors(), list.dropped()), (&ids(&[0, 1, 2, 4])[..], &ids(&[3])[..]));
    assert_refused(check(&good[..3]), "SA-05", None); // below m = 4
    let [a, b, c, d] = [good[0], good[1], good[2], good[3]];
    assert_refused(check(&[a, b, b, c]), "SA-05", Some(1)); // repeated
    assert_refused(check(&[a, c, b, d]), "SA-05", Some(1)); // out of order
    let three = kit.list_of(&ids(&[3])).0[0];
    assert_refused(check(&[b, c, three, d]), "SA-04", None); // own input omitted
    let replaced = MaskedHeader::sign(&kit.keys[0], &kit.ctx, &headers.bind(), SiloId(0), b"another y");
    assert_refused(check(&[replaced, b, c, d]), "SA-04", None); // own input replaced
    assert_refused(check(&[a, b, c, MaskedHeader { silo: SiloId(3), ..d }]), "SA-04", Some(3)); // invented
    assert_refused(check(&[a, b, c, MaskedHeader { silo: SiloId(7), ..d }]), "SA-05", Some(7)); // outsider
    let mut flipped = d;
    flipped.hash.0[0] ^= 1;
    assert_refused(check(&[a, b, c, flipped]), "SA-04", Some(4));
    // a silo that saw another transcript (other adverts, headers, model) signs under another bind
    let other = Kit::new(5, 3, 2).list_of(&ids(&[4])).0[0];
    assert_refused(check(&[a, b, c, other]), "SA-04", Some(4));
}

#[test]
fn sa05_two_lists_have_two_t3_and_a_latecomer_computes_the_same() {
    let kit = Kit::new(5, 3, 1);
    let bind = kit.verified_headers().bind();
    let (one, two) = (kit.verified_list(&ids(&[0, 1, 2, 3])), kit.verified_list(&ids(&[0, 1, 2, 4])));
    assert_ne!(one.t3(), two.t3());
    let closed = verify::closed_list(&kit.rules(), &bind, one.list()).unwrap();
    assert_eq!((closed.t3(), closed.survivors()), (one.t3(), one.survivors()));
    assert_refused(verify::closed_list(&kit.rules(), &sha256(b"other"), one.list()), "SA-04", Some(0));
    let short = SurvivorList(one.list().0[..3].to_vec());
    assert_refused(verify::closed_list(&kit.rules(), &bind, &short), "SA-05", None);
    let mut outsider = one.list().clone();
    outsider.0[3].silo = SiloId(6);
    assert_refused(verify::closed_list(&kit.rules(), &bind, &outsider), "SA-04", Some(6));
}

/// The reply of a silo for a list, out of its envelope.
fn reply(kit: &Kit, silo: u16, list: &VerifiedList) -> Reveal {
    let certificate = kit.certificate(&list.t3(), list.survivors());
    let proof = verify::commit_certificate(&kit.rules(), &certificate, &list.t3(), list.survivors()).unwrap();
    kit.reply(SiloId(silo), list).release(&proof).unwrap().clone()
}

/// Signs a changed reply with the key of `signer`.
fn resign(kit: &Kit, reveal: Reveal, list: &VerifiedList, signer: usize) -> Reveal {
    Reveal::sign(&kit.keys[signer], &kit.ctx, reveal.silo, &list.t3(), reveal.shares)
}

#[test]
fn sa09_replies_that_do_not_count_and_name_their_holder() {
    let kit = Kit::new(5, 3, 1);
    let (list, dealings) = (kit.verified_list(&ids(&[0, 1, 2, 4])), kit.verified_dealings());
    let check = |r: &Reveal| verify::reveal(&kit.rules(), r, &list, &dealings);
    let good = reply(&kit, 1, &list);
    assert_eq!(check(&good).unwrap().shares().len(), 5);
    // changed by the holder itself, which signs what it sends
    let with = |change: &dyn Fn(&mut Reveal)| {
        let mut changed = good.clone();
        change(&mut changed);
        check(&resign(&kit, changed, &list, 1))
    };
    // changed by somebody else on the way: a share less, a key of another silo
    let short = Reveal { shares: good.shares[..4].to_vec(), ..good.clone() };
    assert_refused(check(&short), "SA-09", Some(1));
    assert_refused(check(&resign(&kit, short, &list, 2)), "SA-09", Some(1));
    // a flipped share or nonce, another dealer's share, a reply passed off as another silo's
    let flip = |r: &mut Reveal, nonce: bool| match &mut r.shares[0] {
        RevealedShare::OfSurvivor { b, .. } if nonce => b.nonce[0] ^= 1,
        RevealedShare::OfSurvivor { b, .. } => b.share.0[0] ^= 1,
        RevealedShare::OfDropped { .. } => unreachable!("silo 0 survived"),
    };
    assert_refused(with(&|r| flip(r, false)), "SA-09", Some(1));
    assert_refused(with(&|r| flip(r, true)), "SA-09", Some(1));
    let b_of = |r: &Reveal, i: usize| r.shares[i].opening().clone();
    let swapped = |r: &mut Reveal| {
        r.shares[0] = RevealedShare::OfSurvivor { peer: SiloId(0), b: b_of(r, 1) };
    };
    assert_refused(with(&swapped), "SA-09", Some(1));
    assert_refused(with(&|r| r.silo = SiloId(2)), "SA-09", Some(2));
    // who is not a survivor has nothing to reveal
    assert_refused(with(&|r| r.silo = SiloId(3)), "SA-05", Some(3));
    // repeats and disorder
    assert_refused(with(&|r| r.shares.swap(0, 1)), "SA-06", Some(1));
    assert_refused(with(&|r| r.shares[1] = r.shares[0].clone()), "SA-06", Some(1));
    // a share less is no fault
    assert_eq!(with(&|r| drop(r.shares.pop())).unwrap().shares().len(), 4);
    assert_refused(
        with(&|r| r.shares[4] = RevealedShare::OfSurvivor { peer: SiloId(9), b: b_of(r, 4) }),
        "SA-06",
        Some(1),
    );
}

#[test]
fn sa06_the_other_kind_of_share_is_refused() {
    let kit = Kit::new(5, 3, 1);
    let (list, dealings) = (kit.verified_list(&ids(&[0, 1, 2, 4])), kit.verified_dealings());
    let pair = kit.pair(3, 1); // of the dropped silo
    let forge = |shares| Reveal::sign(&kit.keys[1], &kit.ctx, SiloId(1), &list.t3(), shares);
    let b_of_dropped = RevealedShare::OfSurvivor { peer: SiloId(3), b: pair.b.clone() };
    let pair = kit.pair(0, 1); // of a survivor
    let s_of_survivor = RevealedShare::OfDropped { peer: SiloId(0), s: pair.s.clone() };
    for share in [b_of_dropped, s_of_survivor] {
        let forged = forge(vec![share]);
        assert_refused(verify::reveal(&kit.rules(), &forged, &list, &dealings), "SA-06", Some(1));
    }
    // both kinds of one peer: the second is a repeat before it is anything else
    let both = forge(vec![
        RevealedShare::OfSurvivor { peer: SiloId(0), b: pair.b.clone() },
        RevealedShare::OfDropped { peer: SiloId(0), s: pair.s.clone() },
    ]);
    assert_refused(verify::reveal(&kit.rules(), &both, &list, &dealings), "SA-06", Some(1));
    // a b-share offered as s-share of a dropped silo does not open the s-leaf
    let mixed = kit.pair(3, 1).b.clone();
    let forged = forge(vec![RevealedShare::OfDropped { peer: SiloId(3), s: mixed }]);
    assert_refused(verify::reveal(&kit.rules(), &forged, &list, &dealings), "SA-09", Some(1));
}

#[test]
fn sa09_replies_for_another_list_are_not_mixed() {
    let kit = Kit::new(5, 3, 1);
    let (mine, other) = (kit.verified_list(&ids(&[0, 1, 2, 4])), kit.verified_list(&ids(&[0, 1, 2, 3])));
    let dealings = kit.verified_dealings();
    let foreign: VerifiedReveal = verify::reveal(&kit.rules(), &reply(&kit, 1, &other), &other, &dealings).unwrap();
    assert!(!Recovery::new(kit.params.quorum.t, &mine).add(&foreign));
    let moved = reply(&kit, 1, &other);
    assert_refused(verify::reveal(&kit.rules(), &moved, &mine, &dealings), "SA-09", Some(1));
    let resigned = resign(&kit, moved, &mine, 1);
    assert_refused(verify::reveal(&kit.rules(), &resigned, &mine, &dealings), "SA-06", Some(1));
}

#[test]
fn sa09_rebuilt_secrets_that_are_not_the_advertised_ones_name_the_dealer() {
    let kit = Kit::new(4, 3, 1);
    let (adverts, headers) = (kit.verified_adverts(), kit.verified_headers());
    verify::self_secret(SiloId(2), kit.secrets[2].b.clone(), &headers).unwrap();
    verify::mask_secret(SiloId(2), &kit.secrets[2].sigma, &adverts).unwrap();
    let other = SecretScalar::random(&mut rng(5));
    assert_refused(verify::self_secret(SiloId(2), other.clone(), &headers), "SA-09", Some(2));
    assert_refused(verify::self_secret(SiloId(1), kit.secrets[2].b.clone(), &headers), "SA-09", Some(1));
    assert_refused(verify::self_secret(SiloId(9), other.clone(), &headers), "SA-09", Some(9));
    assert_refused(verify::mask_secret(SiloId(2), &other, &adverts), "SA-09", Some(2));
    assert_refused(verify::mask_secret(SiloId(9), &other, &adverts), "SA-09", Some(9));
}

#[test]
fn sa09_a_dealer_off_its_commitment_is_named_at_recovery() {
    // silo 2 deals shares of another b (or σ) than it committed to (or advertised); every leaf is right
    for off_b in [true, false] {
        let mut kit = Kit::new(4, 3, 1);
        let other = SecretScalar::random(&mut kit.rng);
        let real = if off_b { &mut kit.secrets[2].b } else { &mut kit.secrets[2].sigma };
        let real = std::mem::replace(real, other);
        let adverts = kit.verified_adverts();
        let t = kit.params.quorum.t;
        let (mut dealing, own) =
            share::deal(&kit.keys[2], SiloId(2), &kit.secrets[2], &adverts, t, &mut kit.rng).unwrap();
        if off_b {
            dealing.header.commitment_b = share::self_commitment(&real, &adverts.t1(), SiloId(2));
            let h = &dealing.header;
            let fields: [&[u8]; 3] = [&adverts.t1().0, &h.root.0, &h.commitment_b.0];
            let label = Label::ShareHeader;
            dealing.header.signature = kit.keys[2].sign(label, &kit.ctx, SiloId(2), &fields);
        }
        kit.dealings[2] = dealing;
        kit.own_pairs[2] = own;
        // b is rebuilt where silo 2 survives, σ where it is dropped
        let survivors = if off_b { ids(&[0, 1, 2]) } else { ids(&[0, 1, 3]) };
        let (list, dealings) = (kit.verified_list(&survivors), kit.verified_dealings());
        let mut recovery = Recovery::new(t, &list);
        for id in &survivors {
            assert!(recovery.add(&verify::reveal(&kit.rules(), &reply(&kit, id.0, &list), &list, &dealings).unwrap()));
        }
        assert_refused(recovery.streams(&adverts, &kit.verified_headers()), "SA-09", Some(2));
    }
}
