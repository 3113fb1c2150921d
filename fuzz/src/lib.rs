//! What the fuzz targets do with their bytes. Each target is one function here, so that tests, the corpus generator and
//! measurements of coverage can call it without libFuzzer.
//!
//! ```text
//!  decode    bytes ─► message, journal, store, packed vector, TOML      accepted ⇒ encodes to the same bytes
//!  certs     bytes ─► request, certificate, revocation list
//!  adapter   bytes ─► config.json, PEFT files
//!  verify    bytes ─► altered message ─► the checks of one real session  accepted ⇒ says what was signed
//!  silo      bytes ─► operations of a hostile coordinator ─► SiloMachine
//!  coordinator       operations of hostile silos ─► CoordinatorMachine
//! ```
//!
//! Contract: a target is a pure function of its bytes. Keys, generators and clocks are fixed; what is remembered from one
//! input to the next ([`peers`]) is only what would be computed again. A target panics exactly if something is wrong.
// what cannot fail here is a bug of the harness, and a panic is how a target reports
#![allow(clippy::unwrap_used)]

pub mod adapter;
pub mod certs;
pub mod coordinator;
pub mod decode;
pub mod evidence;
pub mod input;
pub mod operations;
pub mod peers;
pub mod seeds;
pub mod silo;
pub mod tamper;
pub mod verify;
pub mod world;

/// What a target does.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 12] = [
    ("adapter", adapter::files),
    ("certs", certs::files),
    ("coordinator_machine", coordinator::run),
    ("coordinator_message", decode::coordinator_message),
    ("evidence", evidence::run),
    ("journal", decode::journal),
    ("packing", decode::packed),
    ("silo_machine", silo::run),
    ("silo_message", decode::silo_message),
    ("store", decode::store),
    ("texts", decode::texts),
    ("verify", verify::run),
];
