//! Both ends' ways in: the coordinator listens, silos dial.

pub use crate::connect::Dialer;
pub use crate::listen::{Listener, Rejected, listen, listen_with};
