//! QUIC for both ends, and nothing else.
//!
//! ```text
//!  coordinator: listen ─► Listener::accept ─► Connection<CoordinatorCodec>
//!  silo:        Dialer ─► connect / reconnect ─► Connection<SiloCodec>
//! ```
//!
//! Contract: whatever a peer sends ends at worst its own connection; memory per peer and in total is bounded by a stated
//! figure ([`settings::Settings::memory`]); every refusal is one clear sentence on both ends.
#![forbid(unsafe_code)]

mod backoff;
pub mod close;
pub mod codec;
mod connect;
pub mod connection;
mod error;
mod frame;
mod listen;
pub mod settings;
mod socket;

pub use close::CloseCode;
pub use connect::{Dialer, check_address};
pub use connection::{Closer, Connection};
pub use error::TransportError;
pub use listen::{Listener, Rejected, listen};
pub use settings::Settings;
pub use socket::try_listen;
