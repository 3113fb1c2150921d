//! Who is who: authority, enrolment by CSR, mutual TLS, revocation, roster.
//!
//! ```text
//!   silo's machine                 authority                      coordinator's machine
//!   silo-init: tls.key,            authority-init: authority.key  coordinator-init: tls.key
//!     identity.key, north.csr ───► sign ◄─────────────────────────  hub.csr
//!   install ◄──── certificate ──── issued/, revoked.pem ──────────► install (+ revoked.pem)
//!     north.identity.toml ───────► roster make ──► roster.toml (fingerprint compared by people)
//! ```
//!
//! Contract: private keys never leave the machine that made them and are refused when others can read them; a
//! [`Credentials`] value has passed the checks of the other end; a TLS configuration trusts the federation's one
//! authority and nobody else. TLS keys and identity keys are different keys: the coordinator's view of TLS never
//! vouches for who signed inside the protocol.
#![forbid(unsafe_code)]

pub mod authority;
pub mod cli;
mod commands;
pub mod credentials;
pub mod error;
pub mod folder;
pub mod inspect;
pub mod names;
mod paper;
pub mod request;
pub mod roster;
pub mod tls;

pub use credentials::{Credentials, load_identity};
pub use error::{CertsError, ErrorKind};
pub use inspect::{CertificateInfo, peer_name};
pub use names::Role;
