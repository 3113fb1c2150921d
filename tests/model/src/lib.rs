//! A model of phases P1 to P5: what can a coordinator reach that shows every silo something else, has colluders, opens
//! attempts as it likes, and has silos crash or come back from old disks?
//!
//! ```text
//! rules.rs   numbers, bounds, switches             silo.rs    what a silo answers (the rules of the code)
//! state.rs   silos, journals, transcripts          moves.rs   what coordinator, disks and power supply do
//! safety.rs  what is known, and which harm that is  expect.rs  the same in closed form, on paper
//! world.rs   a run under the checker               campaign.rs  which runs make up a verdict
//! parallel.rs  all cores, and progress             report.rs, main.rs   what is printed; `make model`
//! ```
//!
//! The checker is the breadth-first search of the `stateright` crate: kept, MIT, and not of our making. It brings an
//! HTTP server (its Explorer) that no feature switches off; nothing here calls it, and only this package depends on it.
//! A discovery of the checker need not be the shortest, so `World::shortest` deepens its bound step by step.
//!
//! # Abstractions
//! - Cryptography is ideal: a secret is a set of shares, a hash is what it was made from, nobody forges a signature.
//!   `safety.rs` says which sums can be computed from what is known, and why nothing else can.
//! - Colluders are a number: they advertise, deal and send in every list, sign whatever helps, and hold both shares of
//!   every dealer. Leaving one out of a list never helps, since all that a silo asks of a list is to be long enough.
//! - Honest dealers deal well, and every pair is delivered: a share less never helps the coordinator. P6, several
//!   rounds, and blame are left out; within one round the result of an attempt ends the moves of whoever adopts it.
//! - The silo's checks against the model it holds, keys and lengths are taken as passed (SA-01..04, SA-10..12, SA-14).
//! - A silo trains at once when it is asked to.
//!
//! # Merged moves
//! In `Grain::Coarse`, the default, several silos answer in one move, and these are left out: a list without an intact
//! silo's advert or header that is there (a recipient or dealer more only adds shares); votes that make no certificate
//! (they only bind the voters), while every rule is kept; an ABANDON that makes no certificate, or after which no
//! attempt can follow; the wait before joining the first attempt and, with one T1 and sound disks, before dealing
//! (neither binds a silo to anything). Replies are handed out as soon as they are released. Campaign `grains` checks
//! that against single moves in any order with any list, where that is small enough.
//!
//! Contract: every run is exhaustive within its bounds; the same input gives the same verdict.

pub mod campaign;
pub mod expect;
pub mod few;
pub mod moves;
pub mod parallel;
pub mod report;
pub mod rules;
pub mod safety;
pub mod silo;
pub mod state;
pub mod words;
pub mod world;
