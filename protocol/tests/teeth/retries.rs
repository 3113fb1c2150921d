//! P0 and the votes: one update in two sums, whose difference is an input (SA-13), and what else an opening may lie about.

use blindsum_crypto::teeth::bites;
use blindsum_crypto::verify::Check;
use blindsum_crypto::{AbandonCertificate, AbandonVote, Digest, Signature, SiloId};
use blindsum_protocol::message::Abandoned;
use blindsum_protocol::silo::JournalEntry;
use blindsum_protocol::{CoordinatorMessage, SiloMessage};

use crate::script::{Script, Session, attempt, ids};
use blindsum_testkit::{DP, NONE, job_text};

const ALL: [u16; 4] = [0, 1, 2, 3];
const THREE: [u16; 3] = [0, 1, 2];

fn job(privacy: &str) -> String {
    job_text(2, privacy, "held-out")
}

/// Attempt 1 gives a sum over all four; then, after `between`, the second attempt one over three of them.
fn two_sums(privacy: &str, between: impl Fn(&mut Script, Digest) -> Vec<Abandoned>) -> bool {
    let mut script = Script::new(4, &job(privacy));
    script.fresh = privacy == DP;
    let first = script.attempt(attempt(1, 1), &ids(&ALL), &[]).unwrap();
    let proofs = between(&mut script, first.session.ctx);
    let second = script.attempt(attempt(1, 2), &ids(&THREE), &proofs);
    second.is_some_and(|second| script.difference_is(&first.sum, &second.sum, SiloId(3)))
}

fn proof(votes: Vec<AbandonVote>) -> Vec<Abandoned> {
    vec![Abandoned { attempt: 1, certificate: AbandonCertificate(votes) }]
}

#[test]
fn sa13_teeth_a_second_sum_without_any_proof_shows_an_input() {
    bites(&[Check::AbandonProof], || two_sums(NONE, |_, _| Vec::new()));
}

#[test]
fn sa13_teeth_forged_abandonments_show_an_input() {
    bites(&[Check::AbandonSignature], || {
        two_sums(NONE, |_, _| {
            proof(ids(&ALL).into_iter().map(|silo| AbandonVote { silo, signature: Signature([0; 64]) }).collect())
        })
    });
}

#[test]
fn sa13_teeth_one_abandonment_shows_an_input_alone_or_repeated() {
    let colluder = SiloId(3);
    for times in [1, 3] {
        bites(&[Check::AbandonQuorum], || {
            two_sums(NONE, |script, ctx| {
                let vote = AbandonVote::sign(&script.setup.identity(colluder), &ctx, colluder);
                proof(vec![vote; times])
            })
        });
    }
}

#[test]
fn sa13_teeth_an_update_with_the_same_noise_in_two_sums_shows_an_input() {
    bites(&[Check::FreshUpdate], || two_sums(DP, |_, _| Vec::new()));
}

#[test]
fn sa13_teeth_held_out_counts_of_one_silo_alone_are_in_the_sum() {
    // all but silo 3 send attempt 1; of attempt 2, opened without proofs, only silo 3 is free to add its counts
    bites(&[Check::CountsAgreed], || {
        let mut script = Script::new(4, &job(DP));
        script.fresh = true;
        script.session(&ids(&THREE), script.context(attempt(1, 1)), &[]).unwrap();
        let second = script.attempt(attempt(1, 2), &ids(&ALL), &[]).unwrap();
        script.counts(&second.sum) == script.setup.update(SiloId(3), 1, 1).1
    });
}

/// What the silos say to a request to abandon attempt 1.
fn abandonments(script: &mut Script) -> Vec<AbandonVote> {
    let mut votes = Vec::new();
    for silo in ids(&THREE) {
        script.tell(silo, CoordinatorMessage::AbandonRequest { at: attempt(1, 1) });
        votes.extend(script.last(silo, |m| match m {
            SiloMessage::Abandon { vote, .. } => Some(*vote),
            _ => None,
        }));
    }
    votes
}

#[test]
fn sa07_sa13_teeth_abandonments_after_commits_show_an_input() {
    bites(&[Check::AbandonUncommitted, Check::JournalVote], || two_sums(NONE, |script, _| proof(abandonments(script))));
}

#[test]
fn sa07_sa13_teeth_abandonments_of_silos_that_forgot_their_commits_show_an_input() {
    // three state directories are restored from copies made before the vote
    bites(&[Check::AbandonSeen], || {
        two_sums(NONE, |script, _| {
            for silo in ids(&THREE) {
                let journal = &mut script.silos[silo.index()].journal;
                journal.retain(|entry| !matches!(entry, JournalEntry::Committed { .. }));
                script.restart(silo).unwrap();
            }
            proof(abandonments(script))
        })
    });
}

#[test]
fn sa07_sa13_teeth_a_round_opened_too_early_shows_an_input() {
    // without a result of round 1 its update is the same in round 2; the proof that is missing stops it a second time
    bites(&[Check::OpenRound, Check::AbandonProof], || {
        let mut script = Script::new(4, &job(NONE));
        let first = script.attempt(attempt(1, 1), &ids(&ALL), &[]).unwrap();
        let second = script.attempt(attempt(2, 1), &ids(&THREE), &[]);
        second.is_some_and(|second| script.difference_is(&first.sum, &second.sum, SiloId(3)))
    });
}

#[test]
fn sa13_teeth_a_round_opened_again_after_its_adoption_shows_an_input() {
    bites(&[Check::AdoptedRound], || {
        let job = job(NONE).replace("metrics =", "verify_sum = \"off\"\nmetrics =");
        let mut script = Script::new(4, &job);
        let first = script.attempt(attempt(1, 1), &ids(&ALL), &[]).unwrap();
        crate::sums::adopt(&mut script, &first, &first.sum);
        // the adapter files are lost
        for silo in ids(&ALL) {
            assert!(script.silos[silo.index()].held.take().is_some());
            script.restart(silo).unwrap();
        }
        let second = script.attempt(attempt(1, 2), &ids(&THREE), &[]);
        second.is_some_and(|second| script.difference_is(&first.sum, &second.sum, SiloId(3)))
    });
}

#[test]
fn sa02_sa14_teeth_updates_of_one_model_are_summed_for_another() {
    bites(&[Check::OwnContext], || {
        let mut script = Script::new(4, &job(NONE));
        let mut context = script.context(attempt(1, 1));
        context.model_hash = Digest([7; 32]);
        let session: Option<Session> = script.session(&ids(&ALL), context, &[]);
        session.and_then(|session| script.sum(session, &ids(&ALL))).is_some()
    });
}

#[test]
fn sa07_teeth_one_silo_signs_two_sets_of_keys_for_one_attempt() {
    let silo = SiloId(1);
    bites(&[Check::AttemptAbove, Check::JournalJoined], || {
        let mut script = Script::new(4, &job(NONE));
        let context = script.context(attempt(1, 1));
        let first = script.advert(silo, context.clone(), Vec::new()).unwrap();
        script.restart(silo).unwrap();
        let second = script.advert(silo, context, Vec::new());
        second.is_some_and(|second| second.mask_key != first.mask_key)
    });
}

#[test]
fn sa07_teeth_with_another_jobs_journal_a_silo_signs_two_sets_of_keys_for_one_attempt() {
    let silo = SiloId(1);
    bites(&[Check::OwnJournal], || {
        let mut script = Script::new(4, &job(NONE));
        let context = script.context(attempt(1, 1));
        let first = script.advert(silo, context.clone(), Vec::new()).unwrap();
        let mut other = Script::new(4, &job(DP));
        script.silos[silo.index()].journal = std::mem::take(&mut other.silos[silo.index()].journal);
        if script.restart(silo).is_err() {
            return false;
        }
        let second = script.advert(silo, context, Vec::new());
        second.is_some_and(|second| second.mask_key != first.mask_key)
    });
}

#[test]
fn sa14_teeth_a_silo_goes_on_from_an_adapter_that_nobody_certified() {
    let silo = SiloId(0);
    bites(&[Check::HeldAdapter], || {
        let job = job(NONE).replace("metrics =", "verify_sum = \"off\"\nmetrics =");
        let mut script = Script::new(4, &job);
        let first = script.attempt(attempt(1, 1), &ids(&ALL), &[]).unwrap();
        crate::sums::adopt(&mut script, &first, &first.sum);
        let held = script.silos[silo.index()].held.as_mut().unwrap();
        let mut values = held.global.to_vec();
        values[0] += 1.0;
        held.global = values.into();
        if script.restart(silo).is_err() {
            return false;
        }
        // the opening names the model of the altered file
        let context = script.context(attempt(2, 1));
        script.advert(silo, context, Vec::new()).is_some()
    });
}

#[test]
fn a_journal_that_is_lost_is_not_mistaken_for_a_wrong_adapter() {
    let silo = SiloId(0);
    let job = job(NONE).replace("metrics =", "verify_sum = \"off\"\nmetrics =");
    let mut script = Script::new(4, &job);
    let first = script.attempt(attempt(1, 1), &ids(&ALL), &[]).unwrap();
    crate::sums::adopt(&mut script, &first, &first.sum);
    // Whoever removed the adapter then, as for a damaged one, would begin the job anew and vote a second time.
    script.silos[silo.index()].journal.clear();
    let said = script.restart(silo).unwrap_err().to_string();
    assert!(said.contains("of round 1, but the journal names none") && said.contains("Remove nothing"), "{said}");
}
