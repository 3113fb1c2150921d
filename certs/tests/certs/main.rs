//! Enrolment, certificates and handshakes as their users meet them.
#![allow(clippy::unwrap_used)] // a failed step fails the test

mod folder;
mod inspect;
mod program;
mod tls;
