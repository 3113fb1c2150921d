//! QUIC for both ends, and nothing else.
//!
//! ```text
//!  coordinator: endpoint::listen ─► Listener::accept ─► Connection<CoordinatorCodec>
//!  silo:        endpoint::Dialer ─► connect / reconnect ─► Connection<SiloCodec>
//! ```
//!
//! Contract: whatever a peer sends ends at worst its own connection; memory per peer and in total is bounded by a stated
//! figure ([`settings::Settings::memory`]); every refusal is one clear sentence on both ends.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod close;
pub mod codec;
mod connect;
pub mod connection;
pub mod endpoint;
mod error;
mod frame;
mod listen;
pub mod settings;
mod socket;

pub use close::CloseCode;
pub use connection::{Closer, Connection};
pub use endpoint::{Dialer, Listener, Rejected, check_address, listen, try_listen};
pub use error::TransportError;
pub use settings::Settings;
