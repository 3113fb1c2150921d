//! What pencil and paper say should be reachable: a closed form for every number, to hold the checker's answers
//! against.
//!
//! With h = n − c honest silos, a certified list takes max(q − c, 1) of their votes, and one whose sum comes out takes
//! max(t, q, c + 1) − c of their replies. If t ≤ c, colluders rebuild every secret alone and nothing else matters.
//!
//! Held-out counts: all silos that send y under one T1 add their counts, or none does, since each saw the same adverts.
//! So a sum holds everybody's counts or nobody's, and one silo's alone only where it is a sum over that silo. Two sums
//! hold a silo's counts only if everybody listed in the second was shown the proof that the first attempt is abandoned;
//! then everybody sends the same update again, and the sums differ only where a list can leave a silo out.

use crate::rules::{Numbers, Updates};
use crate::safety::Harm;

/// Harms that a coordinator reaches with two attempts, sound disks and every rule kept.
pub fn expected(numbers: Numbers, updates: Updates) -> u16 {
    let Numbers { n, c, t, q, m } = numbers;
    let honest = n - c;
    let (votes, proof) = (q.max(c + 1) - c, q.max(c) - c);
    let replies = t.max(q).max(c + 1) - c;
    let fresh = updates == Updates::Fresh;
    // a list that leaves a silo out
    let leaves_out = m < n && replies < honest;
    // without a colluder, two lists differ only by whom they leave out
    let two_lists = c > 0 || m < n;
    // a sum of the first attempt beside a proof that it is abandoned
    let both_ways = t > c && replies + proof <= honest;
    // a sum over one honest input
    let lone = t == c + 1 && q <= c + 1 && m <= c + 1;
    [
        (Harm::BothSecrets, t <= c || (2 * replies <= honest && leaves_out)),
        (Harm::LoneInput, lone),
        (Harm::LoneCounts, fresh && lone),
        (Harm::Fork, 2 * votes <= honest && two_lists),
        (Harm::TwoSums, both_ways && (fresh || leaves_out)),
        (Harm::TwoCounts, both_ways && fresh && leaves_out),
    ]
    .into_iter()
    .filter(|(_, reached)| *reached)
    .fold(0, |bits, (harm, _)| bits | harm.bit())
}
