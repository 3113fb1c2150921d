//! The numbers of the transport and the memory that they allow a peer to take.
//!
//! Worst case per authenticated connection (see [`Settings::memory`]): what QUIC may hold for the peer (receive window,
//! times 2.5 because a peer can send one-byte frames that pin whole packets), what waits to be acknowledged (send
//! window), two received messages (one being read, one not yet taken) and the messages queued for sending. Before
//! authentication a peer can fill only handshake buffers, and only [`Settings::max_handshakes`] peers at a time can.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

/// Tunable numbers; the default suits a handful to a few hundred silos.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A connection without any packet for this long is lost.
    pub idle_timeout: Duration,
    /// A packet is sent at least this often.
    pub keep_alive: Duration,
    /// Longest time from first packet to greeting.
    pub handshake_timeout: Duration,
    /// Longest time that a started message may stand still, in either direction.
    pub stall_timeout: Duration,
    /// Bytes in flight towards this end per connection: window = throughput x round-trip time, 2 MiB is 160 Mbit/s at
    /// 100 ms.
    pub receive_window: u32,
    /// Bytes in flight from this end per connection.
    pub send_window: u32,
    /// Peers that may be in the handshake at once; above half of it they must prove their address first.
    pub max_handshakes: usize,
    /// Size asked for the kernel's UDP buffers, each way; the kernel may grant less.
    pub udp_buffer: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(8),
            handshake_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            receive_window: 2 << 20,
            send_window: 2 << 20,
            max_handshakes: 64,
            udp_buffer: 4 << 20,
        }
    }
}

/// Messages that may wait for sending on one connection.
pub const SEND_QUEUE: usize = 4;
/// Received messages that may wait to be taken.
pub(crate) const RECEIVE_QUEUE: usize = 1;
/// Payload streams open at once: the one being read and the next.
const PAYLOAD_STREAMS: u32 = 2;
/// Handshake bytes buffered per encryption level (a hybrid key share and a certificate are below 8 KiB).
const CRYPTO_BUFFER: usize = 16 << 10;
/// Fixed state of a connection: keys, timers, packet bookkeeping, tasks; generous.
const FIXED_STATE: usize = 128 << 10;
/// Packets buffered per peer, and for all, before a handshake task takes over.
pub(crate) const INCOMING_BUFFER: u64 = 16 << 10;
pub(crate) const INCOMING_BUFFER_TOTAL: u64 = 1 << 20;

/// Worst-case memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Of one authenticated connection.
    pub per_connection: usize,
    /// Of one peer that is not authenticated yet.
    pub per_handshake: usize,
    /// Of everything: all connections, all handshakes, the socket.
    pub total: usize,
}

/// Longest messages in each direction, in bytes, control and payload together.
#[derive(Clone, Copy, Debug)]
pub struct MessageSizes {
    /// Received.
    pub incoming: usize,
    /// Sent.
    pub outgoing: usize,
}

impl Settings {
    /// The worst case with `connections` authenticated peers, all of them hostile.
    pub fn memory(&self, connections: usize, sizes: MessageSizes) -> Memory {
        let streams = 1 + PAYLOAD_STREAMS as usize;
        let reassembly = self.receive_window as usize / 2 * 5 + streams * (32 << 10);
        let messages = (RECEIVE_QUEUE + 1) * sizes.incoming + (SEND_QUEUE + 1) * sizes.outgoing;
        let per_handshake = 3 * CRYPTO_BUFFER + FIXED_STATE + INCOMING_BUFFER as usize;
        let per_connection = reassembly + self.send_window as usize + messages + per_handshake;
        let total = connections
            .saturating_mul(per_connection)
            .saturating_add(self.max_handshakes.saturating_mul(per_handshake))
            .saturating_add(INCOMING_BUFFER_TOTAL as usize + 2 * self.udp_buffer);
        Memory { per_connection, per_handshake, total }
    }

    /// quinn's configuration. A coordinator admits one control stream per silo; a silo admits none.
    pub(crate) fn transport(&self, accepts_control_stream: bool) -> Arc<TransportConfig> {
        let mut config = TransportConfig::default();
        config
            .max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok())
            .keep_alive_interval(Some(self.keep_alive))
            .max_concurrent_bidi_streams(VarInt::from_u32(u32::from(accepts_control_stream)))
            .max_concurrent_uni_streams(VarInt::from_u32(PAYLOAD_STREAMS))
            .stream_receive_window(VarInt::from_u32(self.receive_window))
            .receive_window(VarInt::from_u32(self.receive_window))
            .send_window(u64::from(self.send_window))
            .crypto_buffer_size(CRYPTO_BUFFER)
            .datagram_receive_buffer_size(None);
        Arc::new(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stated_worst_case_is_what_the_numbers_give() {
        let settings = Settings::default();
        let megabyte = 1_000_000;
        let memory = settings.memory(16, MessageSizes { incoming: 2 * megabyte, outgoing: 2 * megabyte });
        let reassembly = 5 * (1 << 20) + 3 * 32_768;
        let per_handshake = 3 * 16_384 + 131_072 + 16_384;
        assert_eq!(memory.per_handshake, per_handshake);
        assert_eq!(memory.per_connection, reassembly + (2 << 20) + 14 * megabyte + per_handshake);
        assert_eq!(memory.total, 16 * memory.per_connection + 64 * per_handshake + (1 << 20) + (8 << 20));
        assert!(memory.total < 400 * megabyte, "{memory:?}");
    }

    #[test]
    fn it_grows_with_every_knob_and_never_overflows() {
        let sizes = MessageSizes { incoming: 1000, outgoing: 1000 };
        let base = Settings::default();
        let more = Settings { receive_window: 4 << 20, ..Settings::default() };
        assert!(more.memory(1, sizes).per_connection > base.memory(1, sizes).per_connection);
        assert!(base.memory(2, sizes).total > base.memory(1, sizes).total);
        assert_eq!(base.memory(usize::MAX, sizes).total, usize::MAX);
    }
}
