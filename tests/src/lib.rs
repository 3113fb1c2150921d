//! Harness: local QUIC cluster, faults, a silo with pause points.
