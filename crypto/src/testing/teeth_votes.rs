//! What each check of P4 and P5 is good for: switched off, the attack goes through.

use super::teeth_keys::{input, rebuild, take_masks_off};
use super::*;
use crate::identity::Signature;
use crate::reveal::{Reveal, RevealedShare};
use crate::share::ShareKind;
use crate::teeth::bites;
use crate::unmask::Recovery;
use crate::verify::{Check, VerifiedCertificate};

/// Two survivor lists, with and without silo 0, shown to two camps. Colluders vote for both and give both kinds of shares.
/// `certify` makes the proof shown to a camp from the votes really cast for its list. True if silo 0's input lies open.
fn two_lists(
    n: u16,
    camps: [&[u16]; 2],
    colluders: &[u16],
    certify: impl Fn(&Kit, &[VerifiedList; 2], usize, Vec<CommitVote>) -> Option<VerifiedCertificate>,
) -> bool {
    let mut kit = Kit::new(n, 5, 1);
    let (plain, masked) = input(&mut kit, 0);
    let all: Vec<SiloId> = kit.roster.ids().collect();
    let lists = [kit.verified_list(&all), kit.verified_list(&all[1..])];
    let mut secrets = Vec::new();
    for (side, camp) in camps.into_iter().enumerate() {
        let list = &lists[side];
        let mut voters = ids(&[camp, colluders].concat());
        voters.sort_unstable();
        let votes = kit.certificate(&list.t3(), &voters).0;
        let Some(proof) = certify(&kit, &lists, side, votes) else { return false };
        let mut shares = Vec::new();
        for &silo in camp {
            let pending = kit.reply(SiloId(silo), list);
            let Ok(reveal) = pending.release(&proof) else { return false };
            let share = reveal.shares.iter().find(|s| s.peer() == SiloId(0)).unwrap();
            assert_eq!(share.kind(), [ShareKind::SelfMask, ShareKind::MaskSecret][side]);
            shares.push((SiloId(silo), share.opening().share.clone()));
        }
        for &silo in colluders {
            let pair = kit.pair(0, silo);
            let opening = if side == 0 { &pair.b } else { &pair.s };
            shares.push((SiloId(silo), opening.share.clone()));
        }
        let Some(secret) = rebuild(&kit, shares) else { return false };
        secrets.push(secret);
    }
    let [b, sigma] = <[_; 2]>::try_from(secrets).unwrap();
    take_masks_off(&kit, SiloId(0), &masked, b, sigma) == plain
}

/// n = 5, c = 1, q = 4: three votes for each list, silo 4's for both.
fn two_camps(certificate: impl Fn(&Kit, &VerifiedList, Vec<CommitVote>) -> Vec<CommitVote>) -> bool {
    two_lists(5, [&[0, 1], &[2, 3]], &[4], |kit, lists, side, votes| {
        let (list, votes) = (&lists[side], CommitCertificate(certificate(kit, &lists[side], votes)));
        verify::commit_certificate(&kit.rules(), &votes, &list.t3(), list.survivors()).ok()
    })
}

#[test]
fn sa08_teeth_forged_votes_release_both_kinds_of_shares() {
    bites(&[Check::CommitSignature], || {
        two_camps(|_, list, _| {
            list.survivors().iter().map(|&silo| CommitVote { silo, signature: Signature([0; 64]) }).collect()
        })
    });
}

#[test]
fn sa08_teeth_fewer_than_q_votes_release_both_kinds_of_shares() {
    bites(&[Check::CommitQuorum], || two_camps(|_, _, votes| votes));
}

#[test]
fn sa08_teeth_a_vote_counted_twice_releases_both_kinds_of_shares() {
    bites(&[Check::CommitQuorum], || two_camps(|_, _, votes| [&votes[..], &votes[2..]].concat()));
}

#[test]
fn sa08_teeth_a_certificate_for_another_list_releases_both_kinds_of_shares() {
    // n = 7, c = 2, t = 4, q = 5: the first list is certified rightly, and its certificate shown to the second camp
    bites(&[Check::OwnList], || {
        two_lists(7, [&[0, 1, 2], &[3, 4]], &[5, 6], |kit, lists, _, _| {
            let first = &lists[0];
            let votes = kit.certificate(&first.t3(), &ids(&[0, 1, 2, 5, 6]));
            verify::commit_certificate(&kit.rules(), &votes, &first.t3(), first.survivors()).ok()
        })
    });
}

#[test]
fn sa08_sa01_teeth_quorums_of_a_smaller_roster_release_both_kinds_of_shares() {
    bites(&[Check::QuorumOfRoster], || {
        two_lists(5, [&[0, 1], &[2, 3]], &[4], |kit, lists, side, votes| {
            let quorum = Quorum::derive(4, None, None).unwrap();
            let rules = Rules { quorum: &quorum, ..kit.rules() };
            verify::adverts(&rules, kit.adverts.clone(), None, &[]).ok()?;
            let list = &lists[side];
            verify::commit_certificate(&rules, &CommitCertificate(votes), &list.t3(), list.survivors()).ok()
        })
    });
}

#[test]
fn sa08_teeth_votes_from_outside_of_the_list_release_shares_that_fewer_than_q_survivors_committed_to() {
    bites(&[Check::CommitBySurvivor], || {
        let kit = Kit::new(5, 3, 1);
        let list = kit.verified_list(&ids(&[0, 1, 2, 3]));
        let votes = kit.certificate(&list.t3(), &ids(&[0, 1, 2, 4]));
        let proof = verify::commit_certificate(&kit.rules(), &votes, &list.t3(), list.survivors());
        proof.is_ok_and(|proof| kit.reply(SiloId(3), &list).release(&proof).is_ok())
    });
}

#[test]
fn sa04_teeth_a_silo_votes_for_a_list_without_its_input() {
    bites(&[Check::OwnMasked], || {
        let kit = Kit::new(4, 3, 1);
        let own = kit.list_of(&ids(&[0])).0[0];
        let others = kit.list_of(&ids(&[1, 2, 3]));
        let list = verify::survivor_list(&kit.rules(), others, &kit.verified_headers(), Some(&own));
        list.is_ok_and(|list| {
            let vote = CommitVote::sign(&kit.keys[0], &kit.ctx, SiloId(0), &list.t3());
            !list.survivors().contains(&SiloId(0)) && vote.silo == SiloId(0)
        })
    });
}

/// A reply of a silo that signs whatever it likes.
fn signed(kit: &Kit, silo: u16, list: &VerifiedList, shares: Vec<RevealedShare>) -> Reveal {
    Reveal::sign(&kit.keys[usize::from(silo)], &kit.ctx, SiloId(silo), &list.t3(), shares)
}

fn honest_reply(kit: &Kit, silo: u16, list: &VerifiedList) -> Reveal {
    let votes = kit.certificate(&list.t3(), list.survivors());
    let proof = verify::commit_certificate(&kit.rules(), &votes, &list.t3(), list.survivors()).unwrap();
    kit.reply(SiloId(silo), list).release(&proof).unwrap().clone()
}

#[test]
fn sa06_teeth_a_reply_holds_both_kinds_of_shares_of_one_peer() {
    bites(&[Check::RevealKind, Check::RevealedOnce], || {
        let kit = Kit::new(5, 3, 1);
        let list = kit.verified_list(&ids(&[0, 1, 2, 4]));
        let pair = kit.pair(0, 1);
        let both = vec![
            RevealedShare::OfSurvivor { peer: SiloId(0), b: pair.b.clone() },
            RevealedShare::OfDropped { peer: SiloId(0), s: pair.s.clone() },
        ];
        let reply = signed(&kit, 1, &list, both);
        verify::reveal(&kit.rules(), &reply, &list, &kit.verified_dealings()).is_ok_and(|r| r.shares().len() == 2)
    });
}

#[test]
fn sa06_teeth_shares_of_a_survivors_mask_secret_come_in_and_give_its_input() {
    // t holders send s-shares of silo 0, whose b is revealed as a survivor's
    bites(&[Check::RevealKind], || {
        let mut kit = Kit::new(5, 3, 1);
        let (plain, masked) = input(&mut kit, 0);
        let (list, dealings) = (kit.verified_list(&ids(&[0, 1, 2, 4])), kit.verified_dealings());
        let mut shares = Vec::new();
        for holder in [1, 2, 4] {
            let s = kit.pair(0, holder).s.clone();
            let reply = signed(&kit, holder, &list, vec![RevealedShare::OfDropped { peer: SiloId(0), s }]);
            let Ok(reveal) = verify::reveal(&kit.rules(), &reply, &list, &dealings) else { return false };
            shares.push((reveal.silo(), reveal.shares()[0].1.clone()));
        }
        let sigma = rebuild(&kit, shares).unwrap();
        take_masks_off(&kit, SiloId(0), &masked, kit.secrets[0].b.clone(), sigma) == plain
    });
}

#[test]
fn sa05_teeth_a_silo_outside_of_the_list_has_a_say_in_the_sum() {
    bites(&[Check::RevealBySurvivor], || {
        let kit = Kit::new(5, 3, 1);
        let list = kit.verified_list(&ids(&[0, 1, 2, 4]));
        let reply = signed(&kit, 3, &list, honest_reply(&kit, 3, &list).shares);
        let mut recovery = Recovery::new(kit.params.quorum.t, &list);
        verify::reveal(&kit.rules(), &reply, &list, &kit.verified_dealings()).is_ok_and(|r| recovery.add(&r))
    });
}

#[test]
fn sa09_teeth_shares_taken_out_of_a_reply_on_the_way_are_not_missed() {
    bites(&[Check::RevealSignature], || {
        let kit = Kit::new(5, 3, 1);
        let list = kit.verified_list(&ids(&[0, 1, 2, 4]));
        let (mut recovery, dealings) = (Recovery::new(kit.params.quorum.t, &list), kit.verified_dealings());
        for holder in [0, 1, 2, 4] {
            let mut reply = honest_reply(&kit, holder, &list);
            reply.shares.remove(0);
            let Ok(reveal) = verify::reveal(&kit.rules(), &reply, &list, &dealings) else { return false };
            recovery.add(&reveal);
        }
        // everybody answered, and nothing can be rebuilt
        !recovery.is_ready()
    });
}

#[test]
fn sa09_teeth_a_holders_false_share_blames_the_dealer() {
    bites(&[Check::RevealLeaf], || {
        let kit = Kit::new(5, 3, 1);
        let (list, dealings) = (kit.verified_list(&ids(&[0, 1, 2, 4])), kit.verified_dealings());
        let mut recovery = Recovery::new(kit.params.quorum.t, &list);
        for holder in [1, 2, 4] {
            let mut reply = honest_reply(&kit, holder, &list);
            if let (1, RevealedShare::OfSurvivor { b, .. }) = (holder, &mut reply.shares[0]) {
                b.share.0[0] ^= 1;
            }
            let reply = signed(&kit, holder, &list, reply.shares);
            let Ok(reveal) = verify::reveal(&kit.rules(), &reply, &list, &dealings) else { return false };
            recovery.add(&reveal);
        }
        let blamed = recovery.streams(&kit.verified_adverts(), &kit.verified_headers()).map_err(|e| e.blamed);
        blamed.is_err_and(|silo| silo == Some(SiloId(0)))
    });
}

#[test]
fn sa05_teeth_a_masked_input_of_a_silo_that_dealt_nothing_spoils_the_sum() {
    bites(&[Check::MaskedDealt], || {
        let mut kit = Kit::new(4, 3, 1);
        kit.dealings.pop();
        let headers = kit.verified_headers();
        let (mut acc, mut plain, mut list) = (vec![0; kit.params.lanes()], vec![0u32; kit.params.lanes()], Vec::new());
        for silo in ids(&[0, 1, 3]) {
            let lanes = kit.encode(&[0.1; 3], &[1, 2]);
            plain.iter_mut().zip(&lanes).for_each(|(a, b)| *a = a.wrapping_add(*b));
            let (header, packed) = kit.mask(silo, lanes);
            let Ok(y) = verify::masked(&kit.rules(), header, &packed, &kit.params, &headers) else { return false };
            crate::unmask::accumulate(&mut acc, &y, &kit.params).unwrap();
            list.push(header);
        }
        let Ok(list) = verify::survivor_list(&kit.rules(), SurvivorList(list), &headers, None) else { return false };
        let mut recovery = Recovery::new(kit.params.quorum.t, &list);
        for &holder in list.survivors() {
            let shares = honest_reply(&kit, holder.0, &list).shares;
            // silo 3 dealt nothing, to itself neither
            let shares = shares.into_iter().filter(|s| s.peer() != SiloId(3)).collect();
            let reply = signed(&kit, holder.0, &list, shares);
            recovery.add(&verify::reveal(&kit.rules(), &reply, &list, &kit.verified_dealings()).unwrap());
        }
        let streams = recovery.streams(&kit.verified_adverts(), &headers).unwrap().streams;
        crate::unmask::unmask(acc, &streams, &kit.params, 1).unwrap() != packing::pack(&kit.params, &plain).unwrap()
    });
}
