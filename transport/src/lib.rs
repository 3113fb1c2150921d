//! QUIC for both ends, and the plumbing that both services share.
