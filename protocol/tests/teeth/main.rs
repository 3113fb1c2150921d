//! What each check of the two machines is good for: switched off, the attack goes through (`blindsum_crypto::teeth`).
#![allow(clippy::unwrap_used)]

mod coordinator;
mod journal;
mod retries;
mod script;
mod sums;
