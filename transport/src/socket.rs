//! UDP sockets with large kernel buffers.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::TransportError;

/// Opens `address`. The kernel may grant smaller buffers than asked for (`net.core.rmem_max`): a burst is then lost and
/// sent again, which is slower but right.
fn bind(address: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Listening on [::] serves IPv4 too, on every platform.
        socket.set_only_v6(false)?;
    }
    let _ = socket.set_recv_buffer_size(buffer);
    let _ = socket.set_send_buffer_size(buffer);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A QUIC endpoint on `address`; listens when there is a `server` configuration.
pub(crate) fn endpoint(
    address: SocketAddr,
    buffer: usize,
    server: Option<ServerConfig>,
) -> Result<Endpoint, TransportError> {
    let socket = bind(address, buffer).map_err(|e| sort(address, e))?;
    Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime)).map_err(|e| sort(address, e))
}

/// Whether `address` could be listened on now: opens it and closes it again.
///
/// # Errors
/// [`TransportError::AddressInUse`] or [`TransportError::Socket`].
pub fn try_listen(address: SocketAddr) -> Result<(), TransportError> {
    bind(address, 0).map(drop).map_err(|e| sort(address, e))
}

fn sort(address: SocketAddr, source: io::Error) -> TransportError {
    match source.kind() {
        io::ErrorKind::AddrInUse => TransportError::AddressInUse { address },
        _ => TransportError::Socket { address, source },
    }
}
