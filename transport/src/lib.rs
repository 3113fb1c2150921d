//! QUIC for both ends, and the plumbing that both services share.
//!
//! ```text
//!  coordinator: endpoint::listen ─► Listener::accept ─► Connection<CoordinatorCodec>
//!  silo:        endpoint::Dialer ─► connect / reconnect ─► Connection<SiloCodec>
//! ```
//! Network: [`endpoint`], [`connection`], [`codec`], [`close`], [`settings`], [`backoff`]. Plumbing: [`telemetry`],
//! [`signals`], [`config`], [`files`], [`exit`].
//!
//! Contract: whatever a peer sends ends at worst its own connection; memory per peer and in total is bounded by a stated
//! figure ([`settings::Settings::memory`]); every refusal is one clear sentence on both ends.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod close;
pub mod codec;
pub mod config;
mod connect;
pub mod connection;
pub mod endpoint;
mod error;
pub mod exit;
pub mod files;
mod frame;
mod listen;
pub mod settings;
pub mod signals;
mod socket;
pub mod telemetry;

pub use close::CloseCode;
pub use connection::{Closer, Connection};
pub use endpoint::{Dialer, Listener, Rejected, listen};
pub use error::TransportError;
pub use exit::{ExitCode, Exits};
pub use settings::Settings;
