//! Each fault of the mechanism lives once, and a check notices.

use blindsum_privacy::{Mutant, teeth};

use crate::{Found, canaries, rows, steps, variance, worlds};

/// A check by name.
type Check = (&'static str, fn() -> Found);

const CANARIES: Check = ("canaries", canaries::shift_by_one_over_sigma);
const WORLDS: Check = ("worlds", worlds::lower_bound_on_epsilon);
const SAMPLED_WORLDS: Check = ("sampled worlds", worlds::lower_bound_with_sampling);
const VARIANCE: Check = ("variance", variance::of_the_decoded_sum);
const CLIP: Check = ("clip", steps::a_row_moves_the_sum_by_its_clip);
const DIVISOR: Check = ("divisor", steps::the_divisor_is_public);
const RECORDS: Check = ("records", steps::noise_knows_no_records);
const BATCHES: Check = ("batches", steps::batches_are_poisson);
const FRESH: Check = ("fresh", steps::noise_is_fresh);
const CUTS: Check = ("cuts", steps::cuts_are_charged);
const GROUPS: Check = ("groups", steps::groups_cost_more);
const PERSONS: Check = ("persons", steps::no_person_has_more_rows_than_count);

const APART: Check = ("apart", rows::held_out_rows_are_no_training_rows);
const SPELLING: Check = ("spelling", rows::spelling_makes_no_other_record);

const CHECKS: [Check; 14] = [
    CANARIES,
    WORLDS,
    SAMPLED_WORLDS,
    VARIANCE,
    CLIP,
    DIVISOR,
    RECORDS,
    BATCHES,
    FRESH,
    CUTS,
    GROUPS,
    APART,
    SPELLING,
    PERSONS,
];

/// Who notices what.
const TABLE: [(Mutant, Check); 15] = [
    (Mutant::NoNoise, CANARIES),
    (Mutant::LessNoise, WORLDS),
    (Mutant::NoisePerMicroBatch, VARIANCE),
    (Mutant::ClipOfTheMean, CLIP),
    (Mutant::PerLayerClip, CLIP),
    (Mutant::Shuffle, BATCHES),
    (Mutant::DrawnDivisor, DIVISOR),
    (Mutant::FixedSeed, FRESH),
    (Mutant::NoiseAfterSaturation, CLIP),
    (Mutant::NoiseFromRecords, RECORDS),
    (Mutant::UnchargedCut, CUTS),
    (Mutant::GroupOfOne, GROUPS),
    (Mutant::HeldOutOverlap, APART),
    (Mutant::RawIdentities, SPELLING),
    (Mutant::UnitCapIgnored, PERSONS),
];

#[test]
fn each_mutant_is_caught_by_the_check_beside_it() {
    for (name, check) in CHECKS {
        let found = check();
        assert!(found.is_ok(), "{name}, where no mutant lives: {found:?}");
    }
    let mut caught = 0;
    for &mutant in Mutant::MECHANISM.iter().chain(Mutant::ROWS) {
        let (_, (named, check)) = TABLE.into_iter().find(|(m, _)| *m == mutant).expect("a row of the table");
        let _living = teeth::live(mutant);
        match check() {
            Err(seen) => println!("{mutant:?} is caught by {named}: {seen}"),
            Ok(missed) => panic!("{named} does not notice {mutant:?}: {missed}"),
        }
        caught += 1;
    }
    println!("{caught} of {} mutants of mechanism and rows caught", Mutant::MECHANISM.len() + Mutant::ROWS.len());
}
