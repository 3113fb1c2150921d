//! Journals in which a silo contradicts itself: two processes wrote one file, or copies were put together (SA-07).

use blindsum_crypto::teeth::bites;
use blindsum_crypto::verify::Check;
use blindsum_protocol::silo::{JournalEntry, JournalState};

use crate::script::{Script, attempt, ids};
use blindsum_testkit::{DP, NONE, job_text};

/// Begin, Joined, Peers, Masked, Committed, of attempt 1.
fn honest() -> Vec<JournalEntry> {
    let mut script = Script::new(4, &job_text(1, NONE, "held-out"));
    script.attempt(attempt(1, 1), &ids(&[0, 1, 2, 3]), &[]).unwrap();
    let journal = script.silos[0].journal.clone();
    assert!(matches!(
        journal[..],
        [
            JournalEntry::Begin { .. },
            JournalEntry::Joined { .. },
            JournalEntry::Peers { .. },
            JournalEntry::Masked { .. },
            JournalEntry::Committed { .. }
        ]
    ));
    journal
}

/// A silo starts from a journal made of these entries of the honest one.
fn starts(entries: impl Fn(Vec<JournalEntry>) -> Vec<JournalEntry>) -> bool {
    JournalState::replay(&entries(honest())).is_ok()
}

fn pick(journal: &[JournalEntry], places: &[usize]) -> Vec<JournalEntry> {
    places.iter().map(|&i| journal[i].clone()).collect()
}

#[test]
fn sa07_teeth_a_journal_without_its_beginning_or_of_two_jobs_is_taken_up() {
    bites(&[Check::JournalOwner], || starts(|j| pick(&j, &[1, 2, 3])));
    bites(&[Check::JournalOwner], || {
        starts(|j| {
            let other = Script::new(4, &job_text(1, DP, "held-out")).silos[0].journal.clone();
            [j, other].concat()
        })
    });
}

#[test]
fn sa07_teeth_two_masked_inputs_of_one_attempt_are_taken_up() {
    bites(&[Check::JournalMaskedOnce], || starts(|j| pick(&j, &[0, 1, 2, 3, 3])));
    bites(&[Check::JournalMaskedOnce], || starts(|j| pick(&j, &[0, 1, 2, 3, 4, 3])));
}

#[test]
fn sa07_teeth_a_masked_input_of_an_attempt_left_behind_is_taken_up() {
    bites(&[Check::JournalMasked], || {
        starts(|j| [pick(&j, &[0, 1]), vec![JournalEntry::Joined { at: attempt(1, 2) }], pick(&j, &[3])].concat())
    });
    bites(&[Check::JournalMasked], || starts(|j| pick(&j, &[0, 3])));
}

#[test]
fn sa07_teeth_an_attempt_joined_twice_is_taken_up() {
    bites(&[Check::JournalJoined], || starts(|j| pick(&j, &[0, 1, 1])));
}

#[test]
fn sa07_teeth_two_votes_of_one_attempt_are_taken_up() {
    bites(&[Check::JournalVote], || starts(|j| pick(&j, &[0, 1, 2, 3, 4, 4])));
}

#[test]
fn sa07_teeth_a_commit_without_a_masked_input_is_taken_up() {
    bites(&[Check::JournalCommit], || starts(|j| pick(&j, &[0, 1, 2, 4])));
    bites(&[Check::JournalCommit], || {
        starts(|j| [pick(&j, &[0, 1, 2, 3]), vec![JournalEntry::Joined { at: attempt(2, 1) }], pick(&j, &[4])].concat())
    });
}
