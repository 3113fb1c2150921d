//! A silo's end: it dials out to the coordinator, and dials again when the connection is lost.
//!
//! Contract: a [`Connection`] is returned only after the coordinator's greeting, hence after it has accepted this silo's
//! certificate and name (TLS 1.3 alone would report that late); errors that cannot pass by themselves are never tried
//! again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blindsum_certs::{Credentials, Role, names, tls};
use blindsum_service::Stop;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, VarInt};

use crate::backoff::Backoff;
use crate::close::CloseCode;
use crate::codec::Codec;
use crate::connection::{Closer, Connection};
use crate::error::TransportError;
use crate::frame;
use crate::listen::peer;
use crate::settings::Settings;
use crate::socket;

const LINGER: Duration = Duration::from_secs(1);
/// A connection that lived this long was a success: the delays start anew.
const HEALTHY: Duration = Duration::from_secs(30);
/// Shortest time in which a try can end well.
const SHORTEST: Duration = Duration::from_secs(1);
/// Longer than any try.
const PATIENT: Duration = Duration::from_secs(3600);
const COORDINATOR: &str = "coordinator";

/// Dials one coordinator.
pub struct Dialer<C: Codec> {
    address: String,
    host: String,
    port: u16,
    quic: ClientConfig,
    codec: Arc<C>,
    settings: Settings,
    backoff: Backoff,
    /// One endpoint per address family, opened when needed.
    endpoints: [Option<Endpoint>; 2],
    connected: Option<Instant>,
}

impl<C: Codec> Dialer<C> {
    /// Prepares to dial `address`, `host:port` (IPv6 as `[::1]:7443`); the host must stand in the coordinator's certificate.
    pub fn new(address: &str, credentials: &Credentials, codec: C, settings: Settings) -> Result<Self, TransportError> {
        let tls = tls::silo_config(credentials)?;
        let (host, port) = split(address)?;
        let crypto = QuicClientConfig::try_from(tls).map_err(|e| TransportError::Misuse(e.to_string()))?;
        let mut quic = ClientConfig::new(Arc::new(crypto));
        quic.transport_config(settings.transport(false));
        Ok(Dialer {
            address: address.to_owned(),
            host,
            port,
            quic,
            codec: Arc::new(codec),
            settings,
            backoff: Backoff::default(),
            endpoints: [None, None],
            connected: None,
        })
    }

    fn unreachable(&self, why: impl Into<String>) -> TransportError {
        TransportError::Unreachable { address: self.address.clone(), why: why.into() }
    }

    fn unknown_host(&self, why: String) -> TransportError {
        TransportError::UnknownHost { address: self.address.clone(), why }
    }

    /// One try, over all addresses of the host.
    pub async fn connect(&mut self) -> Result<Connection<C>, TransportError> {
        let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((self.host.as_str(), self.port)).await {
            Ok(found) => found.collect(),
            Err(e) => return Err(self.unknown_host(e.to_string())),
        };
        let mut last = self.unknown_host("it has no address".to_owned());
        for address in addresses {
            match self.connect_to(address).await {
                Ok(connection) => {
                    self.connected = Some(Instant::now());
                    return Ok(connection);
                }
                Err(error) if error.retry() => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn endpoint(&mut self, address: SocketAddr) -> Result<Endpoint, TransportError> {
        let slot = &mut self.endpoints[usize::from(address.is_ipv6())];
        if let Some(endpoint) = slot {
            return Ok(endpoint.clone());
        }
        let any: IpAddr = if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let endpoint = socket::endpoint(SocketAddr::new(any, 0), self.settings.udp_buffer, None)?;
        *slot = Some(endpoint.clone());
        Ok(endpoint)
    }

    async fn connect_to(&mut self, address: SocketAddr) -> Result<Connection<C>, TransportError> {
        let endpoint = self.endpoint(address)?;
        let connecting = endpoint
            .connect_with(self.quic.clone(), address, &self.host)
            .map_err(|e| self.unreachable(e.to_string()))?;
        let limit = self.settings.handshake_timeout;
        match tokio::time::timeout(limit, self.greet(connecting)).await {
            Ok(result) => result,
            Err(_) => Err(self.unreachable(format!("no answer from {address} in {} seconds", limit.as_secs()))),
        }
    }

    async fn greet(&self, connecting: quinn::Connecting) -> Result<Connection<C>, TransportError> {
        let quic = match connecting.await {
            Ok(quic) => quic,
            Err(quinn::ConnectionError::TimedOut) => return Err(self.unreachable("no answer")),
            Err(e) => return Err(TransportError::from_quinn(COORDINATOR, &e)),
        };
        let info = match peer(&quic, Role::Coordinator) {
            Ok(info) => info,
            Err(why) => {
                quic.close(VarInt::from_u32(CloseCode::Policy.number()), b"not a coordinator's certificate");
                return Err(TransportError::PeerCertificate { peer: COORDINATOR.to_owned(), why });
            }
        };
        let closer = Closer::new(quic.clone(), COORDINATOR, &info.name);
        let (mut send, mut receive) = match quic.open_bi().await {
            Ok(streams) => streams,
            Err(e) => return Err(closer.explain(&e)),
        };
        let stall = self.settings.stall_timeout;
        if let Err(e) = frame::put_frame(&mut send, frame::GREETING, &[], stall).await {
            return Err(closer.fail(e).await);
        }
        match frame::header(&mut receive, stall).await {
            Ok((frame::GREETING, _)) => Ok(Connection::start(closer, self.codec.clone(), send, receive, stall)),
            Ok(_) => Err(closer.fail(frame::FrameError::Peer(CloseCode::Malformed, "no greeting".into())).await),
            Err(e) => Err(closer.fail(e).await),
        }
    }

    /// Tries until connected, with growing delays. `Ok(None)`: stopped meanwhile.
    ///
    /// # Errors
    /// The last error once `give_up_after` has passed (never, if `None`), or at once one that cannot pass by itself.
    pub async fn reconnect(
        &mut self,
        stop: &Stop,
        give_up_after: Option<Duration>,
    ) -> Result<Option<Connection<C>>, TransportError> {
        match self.connected.take() {
            Some(since) if since.elapsed() >= HEALTHY => self.backoff.reset(),
            // It accepted and dropped us: do not hammer.
            Some(_) if !self.wait(stop, PATIENT).await => return Ok(None),
            _ => {}
        }
        let start = Instant::now();
        let mut last = None;
        loop {
            let left = give_up_after.map_or(PATIENT, |limit| limit.saturating_sub(start.elapsed())).max(SHORTEST);
            let error = tokio::select! {
                () = stop.stopped() => return Ok(None),
                result = tokio::time::timeout(left, self.connect()) => match result {
                    Ok(Ok(connection)) => return Ok(Some(connection)),
                    Ok(Err(error)) => error,
                    Err(_) => last.take().unwrap_or_else(|| self.unreachable(format!("no answer in {} s", left.as_secs()))),
                },
            };
            if !error.retry() || give_up_after.is_some_and(|limit| start.elapsed() >= limit) {
                return Err(error);
            }
            tracing::warn!(%error, "cannot reach the coordinator; trying again");
            last = Some(error);
            if !self.wait(stop, left).await {
                return Ok(None);
            }
        }
    }

    /// Waits for the next delay; false when stopped meanwhile.
    async fn wait(&mut self, stop: &Stop, most: Duration) -> bool {
        let delay = self.backoff.next(rand::random()).min(most);
        tokio::select! {
            () = stop.stopped() => false,
            () = tokio::time::sleep(delay) => true,
        }
    }

    /// Waits until the last packets (the close) have left.
    pub async fn close(self) {
        for endpoint in self.endpoints.into_iter().flatten() {
            endpoint.close(VarInt::from_u32(CloseCode::Stopping.number()), b"");
            let _ = tokio::time::timeout(LINGER, endpoint.wait_idle()).await;
        }
    }
}

/// Whether this is an address that a silo can dial, as far as that can be said without dialling.
///
/// # Errors
/// [`TransportError::BadAddress`].
pub fn check_address(address: &str) -> Result<(), TransportError> {
    split(address).map(drop)
}

/// Splits `host:port`; an IPv6 address stands in brackets.
fn split(address: &str) -> Result<(String, u16), TransportError> {
    let bad = || TransportError::BadAddress { address: address.escape_debug().to_string() };
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inside) if inside.parse::<Ipv6Addr>().is_ok() => inside,
        Some(_) => return Err(bad()),
        None => host,
    };
    if port == 0 || names::check_host(host).is_err() || (host.contains(':') && !address.starts_with('[')) {
        return Err(bad());
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(split("localhost:7443").unwrap(), ("localhost".to_owned(), 7443));
        assert_eq!(split("[::1]:7443").unwrap(), ("::1".to_owned(), 7443));
        for bad in
            ["localhost", "localhost:", ":7443", "::1:7443", "localhost:0", "localhost:70000", "[x]:1", "https://a:1"]
        {
            let text = split(bad).unwrap_err().to_string();
            assert!(text.contains("host:port"), "{text}");
        }
    }
}
