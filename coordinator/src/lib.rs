//! The coordinator service: QUIC, driver of rounds, durable store.
