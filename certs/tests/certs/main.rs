//! Enrolment, certificates and handshakes as their users meet them.
#![allow(clippy::unwrap_used)] // a failed step fails the test

mod documented;
mod folder;
mod inspect;
mod mistakes;
mod pipes;
mod program;
mod takeover;
mod tls;
