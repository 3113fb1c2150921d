//! What the transport's tests share: a tiny codec, minted credentials, short timeouts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use blindsum_certs::{Credentials, tls};
use blindsum_protocol::message::Envelope;
use blindsum_testkit::mint::{self, Federation};
use blindsum_transport::codec::{Codec, CodecError};
use blindsum_transport::{Connection, Dialer, Listener, Rejected, Settings, TransportError, listen};

/// Longest control frame of the test codec.
pub const MAX_CONTROL: usize = 1000;

/// Messages are plain bytes; one that starts with `P` has a payload of exactly `payload` bytes.
#[derive(Clone, Copy)]
pub struct Bytes {
    pub payload: usize,
}

impl Bytes {
    fn expected(&self, message: &[u8]) -> Option<usize> {
        (message.first() == Some(&b'P')).then_some(self.payload)
    }
}

impl Codec for Bytes {
    type Out = Vec<u8>;
    type In = Vec<u8>;

    fn encode(&self, message: &Vec<u8>) -> Result<Vec<u8>, CodecError> {
        Ok(message.clone())
    }

    fn decode(&self, control: &[u8]) -> Result<(Vec<u8>, Option<usize>), CodecError> {
        match control.first() {
            Some(b'X') => Err(CodecError::Malformed("an X".into())),
            _ => Ok((control.to_vec(), self.expected(control))),
        }
    }

    fn payload_out(&self, message: &Vec<u8>) -> Result<Option<usize>, CodecError> {
        Ok(self.expected(message))
    }

    fn max_control_in(&self) -> usize {
        MAX_CONTROL
    }

    fn max_control_out(&self) -> usize {
        MAX_CONTROL
    }

    fn max_payload_in(&self) -> usize {
        self.payload
    }

    fn max_payload_out(&self) -> usize {
        self.payload
    }
}

pub const SMALL: Bytes = Bytes { payload: 100 };

pub type Conn = Connection<Bytes>;

pub fn settings() -> Settings {
    Settings {
        handshake_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(5),
        keep_alive: Duration::from_secs(1),
        ..Settings::default()
    }
}

pub fn demo() -> Federation {
    mint::federation("demo", &["east", "north", "south", "west"])
}

pub fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub fn names(federation: &Federation) -> Vec<String> {
    federation.silos.iter().map(|silo| silo.name.clone()).collect()
}

/// A coordinator of `federation` on a free port, and its address.
pub fn coordinator(federation: &Federation, codec: Bytes) -> (Listener<Bytes>, String) {
    let listener = listen(any_port(), &federation.coordinator, names(federation), codec, settings()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

pub fn dialer(address: &str, credentials: &Credentials, codec: Bytes) -> Dialer<Bytes> {
    Dialer::new(address, credentials, codec, settings()).unwrap()
}

/// Connects silo `i`; both ends and the dialer, which must live as long.
pub async fn pair(federation: &Federation, i: usize, codec: Bytes) -> (Conn, Conn, Dialer<Bytes>, Listener<Bytes>) {
    let (mut listener, address) = coordinator(federation, codec);
    let mut dialer = dialer(&address, &federation.silos[i].credentials, codec);
    let (silo, coordinator) = tokio::join!(dialer.connect(), listener.accept());
    (silo.unwrap(), coordinator.unwrap().unwrap(), dialer, listener)
}

/// Both ends of a connection that must fail: the silo's error and the coordinator's.
pub async fn refused(mut listener: Listener<Bytes>, mut dialer: Dialer<Bytes>) -> (TransportError, Option<Rejected>) {
    let silo = dialer.connect().await.err().expect("the silo must not be let in");
    let seen = tokio::time::timeout(Duration::from_secs(3), listener.accept()).await.ok().flatten();
    (silo, seen.map(|result| result.err().expect("the coordinator must not let it in")))
}

pub fn message(text: &str) -> Envelope<Vec<u8>> {
    Envelope::bare(text.as_bytes().to_vec())
}

pub fn with_payload(text: &str, payload: Vec<u8>) -> Envelope<Vec<u8>> {
    Envelope::with(text.as_bytes().to_vec(), Arc::new(payload))
}

/// A silo that speaks QUIC and TLS in order and writes whatever a test wants.
pub async fn raw_silo(address: &str, credentials: &Credentials) -> quinn::Connection {
    raw(address, tls::silo_config(credentials).unwrap()).await
}

pub async fn raw(address: &str, tls: rustls::ClientConfig) -> quinn::Connection {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client(any_port()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    endpoint.connect_with(config, address.parse().unwrap(), "localhost").unwrap().await.unwrap()
}
