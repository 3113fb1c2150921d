//! The crate as its users see it: configurations in, layouts and files out, all numbers frozen.
#![allow(clippy::unwrap_used)] // a failed step fails the test

mod decoders;
mod families;
mod init;
mod layout;
mod methods;
mod peft;
