//! The coordinator's end: one UDP port, silos come in.
//!
//! ```text
//!  packet ─► slots for handshakes full? refuse ─► half full? prove the address ─► TLS: authority, revocation, role
//!         ─► name in the roster? ─► greeting ─► older connection of the same silo replaced ─► accept()
//! ```
//! Contract: handshakes run side by side, at most [`Settings::max_handshakes`] of them, each with a time limit, and hold
//! up nobody who is authenticated; there is at most one live connection per roster name, the newest, so that the number
//! of connections is bounded by the roster.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blindsum_certs::{CertificateInfo, Credentials, Role, tls};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, Incoming, ServerConfig, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::close::CloseCode;
use crate::codec::Codec;
use crate::connection::{Closer, Connection};
use crate::error::TransportError;
use crate::frame;
use crate::settings::{INCOMING_BUFFER, INCOMING_BUFFER_TOTAL, Memory, Settings};
use crate::socket;

/// How long a closing endpoint waits for its last packets to leave.
const LINGER: Duration = Duration::from_secs(1);
/// Events that may wait for [`Listener::accept`].
const EVENTS: usize = 16;

/// A peer that did not get in.
#[derive(Debug)]
pub struct Rejected {
    /// Where it came from.
    pub address: SocketAddr,
    /// Why.
    pub error: TransportError,
}

struct Shared<C> {
    codec: Arc<C>,
    settings: Settings,
    names: BTreeSet<String>,
    live: Mutex<HashMap<String, Closer>>,
}

impl<C: Codec> Shared<C> {
    /// Notes the newest connection of a silo and closes the one before.
    fn replace_older(&self, connection: &Connection<C>) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = live.insert(connection.peer_name().to_owned(), connection.closer()) {
            old.close(CloseCode::Replaced, "");
        }
    }
}

/// A listening coordinator.
pub struct Listener<C: Codec> {
    endpoint: Endpoint,
    events: mpsc::Receiver<Result<Connection<C>, Rejected>>,
    acceptor: JoinHandle<()>,
    memory: Memory,
}

/// Listens on `address` for the silos in `names`.
///
/// # Errors
/// [`TransportError::AddressInUse`] names the address; [`TransportError::Certs`] when the credentials are not a
/// coordinator's.
pub fn listen<C: Codec>(
    address: SocketAddr,
    credentials: &Credentials,
    names: impl IntoIterator<Item = String>,
    codec: C,
    settings: Settings,
) -> Result<Listener<C>, TransportError> {
    let tls = tls::coordinator_config(credentials)?;
    let crypto = QuicServerConfig::try_from(tls).map_err(|e| TransportError::Misuse(e.to_string()))?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(settings.transport(true))
        .max_incoming(settings.max_handshakes)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL);
    let endpoint = socket::endpoint(address, settings.udp_buffer, Some(server))?;
    let names: BTreeSet<String> = names.into_iter().collect();
    let memory = settings.memory(names.len(), codec.sizes());
    let shared = Arc::new(Shared { codec: Arc::new(codec), settings, names, live: Mutex::default() });
    let (sink, events) = mpsc::channel(EVENTS);
    let acceptor = tokio::spawn(accept_all(endpoint.clone(), shared, sink));
    Ok(Listener { endpoint, events, acceptor, memory })
}

impl<C: Codec> Listener<C> {
    /// The address that is listened on, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        self.endpoint.local_addr().map_err(|source| TransportError::Socket { address: unknown, source })
    }

    /// Worst-case memory with every name of the roster connected and hostile.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// The next silo, or the next peer that was refused (refusals are dropped while nobody takes them). `None` once
    /// closed. May be cancelled at any time.
    pub async fn accept(&mut self) -> Option<Result<Connection<C>, Rejected>> {
        self.events.recv().await
    }

    /// Takes no more connections, closes those that live and waits until the packets have left.
    pub async fn close(self, code: CloseCode, reason: &str) {
        self.acceptor.abort();
        self.endpoint.close(VarInt::from_u32(code.number()), reason.as_bytes());
        let _ = tokio::time::timeout(LINGER, self.endpoint.wait_idle()).await;
    }
}

impl<C: Codec> Drop for Listener<C> {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.endpoint.close(VarInt::from_u32(CloseCode::Stopping.number()), b"");
    }
}

async fn accept_all<C: Codec>(
    endpoint: Endpoint,
    shared: Arc<Shared<C>>,
    sink: mpsc::Sender<Result<Connection<C>, Rejected>>,
) {
    let slots = Arc::new(Semaphore::new(shared.settings.max_handshakes));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let crowded = slots.available_permits() < shared.settings.max_handshakes / 2;
        if crowded && incoming.may_retry() && !incoming.remote_address_validated() {
            // Whoever comes back with the token is really at this address (RFC 9000 section 8.1.2).
            let _ = incoming.retry();
            continue;
        }
        tokio::spawn(admit(incoming, shared.clone(), sink.clone(), slot));
    }
}

async fn admit<C: Codec>(
    incoming: Incoming,
    shared: Arc<Shared<C>>,
    sink: mpsc::Sender<Result<Connection<C>, Rejected>>,
    slot: OwnedSemaphorePermit,
) {
    let address = incoming.remote_address();
    let handshake = handshake(incoming, &shared);
    let result = tokio::time::timeout(shared.settings.handshake_timeout, handshake).await.unwrap_or_else(|_| {
        let why = format!("it did not finish the handshake in {} seconds", shared.settings.handshake_timeout.as_secs());
        Err(TransportError::Lost { peer: "silo".to_owned(), why })
    });
    drop(slot);
    match result {
        Ok(connection) => {
            shared.replace_older(&connection);
            let _ = sink.send(Ok(connection)).await;
        }
        // Strangers may come by the thousand: they never make an authenticated silo wait.
        Err(error) => drop(sink.try_send(Err(Rejected { address, error }))),
    }
}

async fn handshake<C: Codec>(incoming: Incoming, shared: &Shared<C>) -> Result<Connection<C>, TransportError> {
    let sort = |e: &quinn::ConnectionError| TransportError::from_quinn("silo", e);
    let quic = incoming.accept().map_err(|e| sort(&e))?.await.map_err(|e| sort(&e))?;
    let name = match peer(&quic, Role::Silo) {
        Ok(info) => info.name,
        Err(why) => {
            let peer = "silo".to_owned();
            quic.close(VarInt::from_u32(CloseCode::Policy.number()), b"not a silo's certificate");
            return Err(TransportError::PeerCertificate { peer, why });
        }
    };
    let closer = Closer::new(quic.clone(), &format!("silo `{name}`"), &name);
    if !shared.names.contains(&name) {
        closer.close(CloseCode::NotInRoster, &name);
        return Err(closer.closed().await);
    }
    let stall = shared.settings.stall_timeout;
    let (mut send, mut receive) = match quic.accept_bi().await {
        Ok(streams) => streams,
        Err(e) => return Err(closer.explain(&e)),
    };
    match frame::header(&mut receive, stall).await {
        Ok((frame::GREETING, _)) => {}
        Ok(_) => return Err(closer.fail(frame::FrameError::Peer(CloseCode::Malformed, "no greeting".into())).await),
        Err(e) => return Err(closer.fail(e).await),
    }
    if let Err(e) = frame::put_frame(&mut send, frame::GREETING, &[], stall).await {
        return Err(closer.fail(e).await);
    }
    Ok(Connection::start(closer, shared.codec.clone(), send, receive, stall))
}

/// Who the peer is, from the certificate that TLS has verified; its role is checked a second time.
pub(crate) fn peer(quic: &quinn::Connection, role: Role) -> Result<CertificateInfo, String> {
    let chain = quic.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = chain.as_deref().and_then(|chain| chain.first()).ok_or("it showed no certificate")?;
    let info = CertificateInfo::parse(certificate).map_err(|e| e.to_string())?;
    if info.role != role {
        return Err(format!("`{}` is a {}, not a {role}", info.name, info.role));
    }
    Ok(info)
}
