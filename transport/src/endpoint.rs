//! Both ends' ways in: the coordinator listens, silos dial.

pub use crate::connect::{Dialer, check_address};
pub use crate::listen::{Listener, Rejected, listen, listen_with};
pub use crate::socket::try_listen;
