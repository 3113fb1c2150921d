//! What a coordinator or silo may try in P1 and at the votes, and which check stops it.

use super::*;
use crate::commit::{AbandonCertificate, AbandonVote};
use crate::identity::{IdentityPublic, Signature};
use crate::result::{ResultCertificate, ResultVote};

fn check(kit: &Kit, adverts: Vec<Advert>) -> Result<VerifiedAdverts, VerifyError> {
    verify::adverts(&kit.rules(), adverts, None, &[])
}

/// Signs an advert again after a change, with the key of `signer`.
pub(super) fn resign(kit: &Kit, mut advert: Advert, signer: usize) -> Advert {
    let length = advert.journal_length.to_le_bytes();
    advert.signature = kit.keys[signer].sign(Label::Advert, &kit.ctx, advert.silo, &advert.fields(&length));
    advert
}

#[test]
fn sa01_a_change_of_any_field_breaks_an_advert() {
    let kit = Kit::new(4, 3, 1);
    let changes: [fn(&mut Advert); 6] = [
        |a| a.channel_key[5] ^= 1,
        |a| a.mask_key[5] ^= 1,
        |a| a.journal_length += 1,
        |a| a.journal_head.0[0] ^= 1,
        |a| a.counts ^= true,
        |a| a.signature.0[40] ^= 1,
    ];
    for change in changes {
        let mut adverts = kit.adverts.clone();
        change(&mut adverts[2]);
        assert_refused(check(&kit, adverts), "SA-01", Some(2));
    }
}

#[test]
fn sa01_swapped_key_without_with_wrong_and_with_old_signature() {
    let kit = Kit::new(4, 3, 1);
    let stranger = SessionSecrets::generate(&kit.ctx, &mut rng(9));
    let swapped = Advert { mask_key: stranger.mask.public(), ..kit.adverts[1].clone() };
    for forged in [
        Advert { signature: Signature([0; 64]), ..swapped.clone() },
        resign(&kit, swapped.clone(), 2),
        swapped,
        Kit::new(4, 3, 2).adverts[1].clone(), // this silo's advert of another attempt
    ] {
        let mut adverts = kit.adverts.clone();
        adverts[1] = forged;
        assert_refused(check(&kit, adverts), "SA-01", Some(1));
    }
}

#[test]
fn sa01_own_advert_must_be_intact() {
    let kit = Kit::new(4, 3, 1);
    let own = |adverts: Vec<Advert>| verify::adverts(&kit.rules(), adverts, Some(&kit.adverts[0]), &[]);
    own(kit.adverts.clone()).unwrap();
    assert_refused(own(kit.adverts[1..].to_vec()), "SA-01", None);
    let mut replaced = kit.adverts.clone();
    let other = SessionSecrets::generate(&kit.ctx, &mut rng(9));
    let mark = kit.adverts[0].journal();
    replaced[0] = Advert::sign(&kit.keys[0], &kit.ctx, SiloId(0), &other, mark, true);
    assert_refused(own(replaced), "SA-01", None);
}

#[test]
fn sa01_sa05_repeats_disorder_outsiders_and_too_few() {
    let kit = Kit::new(4, 3, 1);
    let a = &kit.adverts;
    let pick = |places: &[usize]| places.iter().map(|&i| a[i].clone()).collect::<Vec<_>>();
    assert_refused(check(&kit, pick(&[0, 1, 1, 2])), "SA-05", Some(1));
    assert_refused(check(&kit, pick(&[0, 2, 1])), "SA-05", Some(1));
    assert_refused(check(&kit, pick(&[0, 1])), "SA-05", None);
    assert_refused(check(&kit, pick(&[0, 1, 2, 3, 3])), "SA-12", None);
    check(&kit, pick(&[0, 1, 3])).unwrap();
    for outsider in [4, u16::MAX] {
        let stranger = SessionSecrets::generate(&kit.ctx, &mut rng(9));
        let forged = Advert::sign(&kit.keys[3], &kit.ctx, SiloId(outsider), &stranger, a[3].journal(), true);
        let mut adverts = pick(&[0, 1, 2]);
        adverts.push(forged);
        assert_refused(check(&kit, adverts), "SA-01", Some(outsider));
    }
}

#[test]
fn sa01_low_order_non_canonical_and_repeated_keys() {
    let kit = Kit::new(4, 3, 1);
    let mut low_order = vec![[0u8; 32]];
    low_order.push(std::array::from_fn(|i| u8::from(i == 0)));
    low_order.push(std::array::from_fn(|i| [0xec, 0xff, 0x7f][usize::from(i > 0) + usize::from(i > 30)])); // p − 1
    for text in [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ] {
        low_order.push(hex::decode(text).unwrap().try_into().unwrap());
    }
    let mut high_bit = kit.adverts[0].mask_key;
    high_bit[31] |= 0x80;
    let above_p = std::array::from_fn(|i| [0xf6, 0xff, 0x7f][usize::from(i > 0) + usize::from(i > 30)]); // p + 9
    for key in low_order.into_iter().chain([high_bit, above_p]) {
        for channel in [true, false] {
            let mut advert = kit.adverts[3].clone();
            if channel {
                advert.channel_key = key;
            } else {
                advert.mask_key = key;
            }
            let mut adverts = kit.adverts.clone();
            adverts[3] = resign(&kit, advert, 3);
            assert_refused(check(&kit, adverts), "SA-01", Some(3));
        }
    }
    for key in [kit.adverts[0].mask_key, kit.adverts[0].channel_key, kit.adverts[3].channel_key] {
        let mut adverts = kit.adverts.clone();
        adverts[3] = resign(&kit, Advert { mask_key: key, ..adverts[3].clone() }, 3);
        assert_refused(check(&kit, adverts), "SA-01", Some(3));
    }
}

#[test]
fn sa02_adverts_of_another_context_or_quorum_do_not_count() {
    let kit = Kit::new(4, 3, 1);
    let other = Kit::new(4, 3, 2);
    assert_refused(check(&kit, other.adverts.clone()), "SA-01", Some(0));
    assert_ne!(kit.verified_adverts().t1(), other.verified_adverts().t1());
    let quorum = Quorum::derive(5, None, None).unwrap();
    let rules = Rules { quorum: &quorum, ..kit.rules() };
    assert_refused(verify::adverts(&rules, kit.adverts.clone(), None, &[]), "SA-01", None);
}

#[test]
fn sa07_a_journal_that_goes_backwards_is_refused() {
    let kit = Kit::new(4, 3, 1);
    let check = |length, head| {
        let known = [(SiloId(2), JournalMark { length, head })];
        verify::adverts(&kit.rules(), kit.adverts.clone(), None, &known)
    };
    check(3, sha256(b"journal")).unwrap();
    check(2, sha256(b"earlier")).unwrap();
    assert_refused(check(4, sha256(b"later")), "SA-07", Some(2));
    assert_refused(check(3, sha256(b"rewritten")), "SA-07", Some(2));
}

#[test]
fn sa08_commit_certificates_that_do_not_count() {
    let kit = Kit::new(5, 3, 1);
    let list = kit.verified_list(&ids(&[0, 1, 2, 4]));
    let check = |certificate: &CommitCertificate| {
        verify::commit_certificate(&kit.rules(), certificate, &list.t3(), list.survivors())
    };
    let good = kit.certificate(&list.t3(), &ids(&[0, 1, 2, 4]));
    check(&good).unwrap();
    let v = &good.0;
    let of = |votes: &[CommitVote]| CommitCertificate(votes.to_vec());
    assert_refused(check(&of(&v[..3])), "SA-08", None); // q − 1
    assert_refused(check(&of(&[v[0], v[1], v[1], v[2]])), "SA-08", Some(1)); // one vote twice
    assert_refused(check(&of(&[v[1], v[0], v[2], v[3]])), "SA-08", Some(0)); // out of order
    // an outsider of the list, an outsider of the roster
    assert_refused(check(&kit.certificate(&list.t3(), &ids(&[0, 1, 2, 3]))), "SA-08", Some(3));
    let outsider = CommitVote::sign(&kit.keys[0], &kit.ctx, SiloId(9), &list.t3());
    assert_refused(check(&of(&[v[0], v[1], v[2], outsider])), "SA-08", Some(9));
    // one signed by another silo, over another list, of another session, or as another kind of vote
    let by_other = CommitVote { silo: SiloId(4), signature: v[0].signature };
    let over_other = kit.certificate(&kit.verified_list(&ids(&[0, 1, 3, 4])).t3(), &ids(&[4])).0[0];
    let of_other = CommitVote::sign(&kit.keys[4], &Kit::new(5, 3, 2).ctx, SiloId(4), &list.t3());
    let abandon = AbandonVote::sign(&kit.keys[4], &kit.ctx, SiloId(4));
    let abandon = CommitVote { silo: abandon.silo, signature: abandon.signature };
    for forged in [by_other, over_other, of_other, abandon] {
        assert_refused(check(&of(&[v[0], v[1], v[2], forged])), "SA-08", Some(4));
    }
}

#[test]
fn sa08_a_reply_is_not_released_against_another_list() {
    let kit = Kit::new(5, 3, 1);
    let (mine, other) = (kit.verified_list(&ids(&[0, 1, 2, 4])), kit.verified_list(&ids(&[0, 1, 2, 3])));
    let pending = kit.reply(SiloId(0), &mine);
    let certificate = kit.certificate(&other.t3(), other.survivors());
    let proof = verify::commit_certificate(&kit.rules(), &certificate, &other.t3(), other.survivors()).unwrap();
    assert_refused(pending.release(&proof), "SA-08", None);
}

#[test]
fn sa13_abandon_certificates_that_do_not_count() {
    let kit = Kit::new(4, 3, 1);
    let vote = |i: u16, ctx: &Digest| AbandonVote::sign(&kit.keys[usize::from(i)], ctx, SiloId(i));
    let check = |votes: &[AbandonVote]| verify::abandon_certificate(&kit.rules(), &AbandonCertificate(votes.to_vec()));
    let v: Vec<_> = (0..4).map(|i| vote(i, &kit.ctx)).collect();
    assert_eq!(check(&v[1..]).unwrap().ctx(), kit.ctx);
    assert_refused(check(&v[..2]), "SA-13", None);
    assert_refused(check(&[v[0], v[1], v[1]]), "SA-13", Some(1));
    assert_refused(check(&[v[0], v[1], vote(2, &sha256(b"another attempt"))]), "SA-13", Some(2));
    assert_refused(check(&[v[0], v[1], AbandonVote { silo: SiloId(7), signature: v[2].signature }]), "SA-13", Some(7));
    let commit = CommitVote::sign(&kit.keys[2], &kit.ctx, SiloId(2), &kit.ctx);
    assert_refused(
        check(&[v[0], v[1], AbandonVote { silo: SiloId(2), signature: commit.signature }]),
        "SA-13",
        Some(2),
    );
}

#[test]
fn sa14_result_certificates_that_do_not_count() {
    let kit = Kit::new(4, 3, 1);
    let (result, model) = (sha256(b"result"), sha256(b"next model"));
    let vote = |i: u16, result: &Digest, model: &Digest| {
        ResultVote::sign(&kit.keys[usize::from(i)], &kit.ctx, SiloId(i), result, model)
    };
    let check = |votes: &[ResultVote]| {
        verify::result_certificate(&kit.rules(), &ResultCertificate(votes.to_vec()), &result, &model)
    };
    let v: Vec<_> = (0..4).map(|i| vote(i, &result, &model)).collect();
    assert_eq!(check(&v[..3]).unwrap().next_model_hash(), model);
    assert_eq!(check(&v).unwrap().result_hash(), result);
    assert_refused(check(&v[..2]), "SA-14", None);
    assert_refused(check(&[v[0], v[0], v[1]]), "SA-14", Some(0));
    let other = sha256(b"other");
    assert_refused(check(&[v[0], v[1], vote(2, &other, &model)]), "SA-14", Some(2));
    assert_refused(check(&[v[0], v[1], vote(2, &result, &other)]), "SA-14", Some(2));
    assert_refused(check(&[v[0], v[1], vote(2, &model, &result)]), "SA-14", Some(2));
    assert_refused(check(&[v[0], v[1], ResultVote { silo: SiloId(3), signature: v[2].signature }]), "SA-14", Some(3));
}

#[test]
fn sa01_rosters_that_are_refused() {
    use crate::roster::RosterError::*;
    let key = |i: u8| IdentityKey::from_bytes(&[i; 32]).public();
    let entry = |name: &str, identity| RosterEntry { name: name.into(), identity };
    let roster = |last: RosterEntry| Roster::new("f", 1, vec![entry("a", key(1)), entry("b", key(2)), last]);
    let good = roster(entry("c", key(3))).unwrap();
    for name in ["", "A", "a_b", "a.b", "é", &"a".repeat(64)] {
        assert!(matches!(roster(entry(name, key(3))), Err(Name { .. })), "{name:?}");
    }
    assert_eq!(roster(entry("a", key(3))), Err(DuplicateName("a".into())));
    assert_eq!(roster(entry("c", key(1))), Err(DuplicateKey("c".into())));
    let identity_point: [u8; 32] = std::array::from_fn(|i| u8::from(i == 0));
    let not_a_point = [2u8; 32];
    for unsound in [identity_point, [0u8; 32], not_a_point, [0xff; 32]] {
        assert_eq!(roster(entry("c", IdentityPublic(unsound))), Err(UnsoundKey("c".into())), "{unsound:?}");
    }
    assert_eq!(Roster::new("f", 1, good.entries()[..2].to_vec()), Err(Size(2)));
    assert!(Roster::new("F", 1, good.entries().to_vec()).is_err());
    // serde validates, and the hash covers every field and the order
    let json = serde_json::to_string(&good).unwrap();
    assert_eq!(serde_json::from_str::<Roster>(&json).unwrap(), good);
    assert!(serde_json::from_str::<Roster>(&json.replace("\"c\"", "\"a\"")).is_err());
    assert!(serde_json::from_str::<Roster>(&json.replace("\"version\"", "\"extra\":1,\"version\"")).is_err());
    let e = good.entries();
    let others = [
        roster(entry("d", key(3))).unwrap(),
        roster(entry("c", key(4))).unwrap(),
        Roster::new("g", 1, e.to_vec()).unwrap(),
        Roster::new("f", 2, e.to_vec()).unwrap(),
        Roster::new("f", 1, vec![e[1].clone(), e[0].clone(), e[2].clone()]).unwrap(),
    ];
    assert!(others.iter().all(|o| o.hash() != good.hash()));
    assert_eq!(good.id_of("b"), Some(SiloId(1)));
    assert_eq!(good.entry(SiloId(3)), None);
}

#[test]
fn sa11_debug_shows_no_secret() {
    let kit = Kit::new(3, 3, 1);
    let secrets = &kit.secrets[0];
    let reply = kit.reply(SiloId(0), &kit.verified_list(&ids(&[0, 1, 2])));
    let json = serde_json::to_value(&reply).unwrap();
    let opening = &json["reveal"]["shares"][0]["OfSurvivor"]["b"];
    let first: u64 = opening["share"][0].as_u64().unwrap();
    let shown = format!(
        "{secrets:?} {reply:?} {:?} {:?} {:?} {:?}",
        kit.own_pairs[0],
        kit.held(SiloId(1)),
        crate::keys::self_seed(&secrets.b, &kit.ctx),
        kit.pair(0, 1)
    );
    assert!(!shown.contains(&format!("[{first}, ")), "{shown}");
    assert!(!shown.contains(&hex::encode(secrets.b.0.to_bytes())) && !shown.contains("Scalar{"));
    assert!(shown.contains("secret"));
    let key = format!("{:?}", kit.keys[0]);
    assert!(!key.contains(&hex::encode([1u8; 32])) && key.contains("secret"));
}
