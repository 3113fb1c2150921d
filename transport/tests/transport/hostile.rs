//! An authenticated silo that breaks the framing: each fault has its close code, and the coordinator goes on.

use std::time::Duration;

use blindsum_transport::{CloseCode, Listener, TransportError};
use quinn::{ConnectionError, RecvStream, SendStream};

use crate::support::*;

struct Attack {
    quic: quinn::Connection,
    control: SendStream,
    replies: RecvStream,
    coordinator: Conn,
    _listener: Listener<Bytes>,
}

const GREETING: [u8; 5] = [1, 0, 0, 0, 0];
const ON_STREAM: [u8; 5] = [3, 0, 0, 0, 0];

impl Attack {
    /// A connection past the greetings.
    async fn start() -> Attack {
        let federation = demo();
        let (mut listener, address) = coordinator(&federation, SMALL);
        let quic = raw_silo(&address, &federation.silos[0].credentials).await;
        let (mut control, replies) = quic.open_bi().await.unwrap();
        control.write_all(&GREETING).await.unwrap();
        let coordinator = listener.accept().await.unwrap().unwrap();
        Attack { quic, control, replies, coordinator, _listener: listener }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.control.write_all(bytes).await.unwrap();
    }

    /// A payload stream with this header, control message and payload.
    async fn stream(&mut self, control: &[u8], announced: u64, payload: &[u8], finish: bool) -> SendStream {
        self.write(&ON_STREAM).await;
        let mut stream = self.quic.open_uni().await.unwrap();
        let mut bytes = (control.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&announced.to_le_bytes());
        bytes.extend_from_slice(control);
        bytes.extend_from_slice(payload);
        stream.write_all(&bytes).await.unwrap();
        if finish {
            stream.finish().unwrap();
        }
        stream
    }

    /// Both ends must see `code`.
    async fn ends_with(mut self, code: CloseCode) -> String {
        let limit = Duration::from_secs(4);
        let here = tokio::time::timeout(limit, self.coordinator.recv()).await.unwrap().unwrap_err();
        assert!(matches!(here, TransportError::ClosedHere { code: c, .. } if c == code), "{here}");
        let there = tokio::time::timeout(limit, self.quic.closed()).await.unwrap();
        let ConnectionError::ApplicationClosed(close) = there else { panic!("{there}") };
        assert_eq!(CloseCode::from_number(close.error_code.into_inner()), code);
        assert!(self.coordinator.send(message("late")).await.is_err());
        here.to_string()
    }
}

#[tokio::test]
async fn an_honest_raw_silo_is_understood() {
    let mut attack = Attack::start().await;
    attack.write(&[2, 2, 0, 0, 0, b'h', b'i']).await;
    assert_eq!(attack.coordinator.recv().await.unwrap(), message("hi"));
    attack.stream(b"P", 100, &[9; 100], true).await;
    assert_eq!(attack.coordinator.recv().await.unwrap(), with_payload("P", vec![9; 100]));
    attack.coordinator.send(message("yes")).await.unwrap();
    let mut reply = [0; 13];
    attack.replies.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"\x01\0\0\0\0\x02\x03\0\0\0yes");
}

#[tokio::test]
async fn an_oversize_frame_is_refused_before_its_bytes_come() {
    let mut attack = Attack::start().await;
    attack.write(&[2, 0xff, 0xff, 0xff, 0xff]).await;
    let text = attack.ends_with(CloseCode::FrameTooLarge).await;
    assert!(text.contains("4294967295 bytes") && text.contains("at most 1000") && text.contains("`east`"), "{text}");
    let mut attack = Attack::start().await;
    attack.write(&[2, 0xe9, 3, 0, 0]).await;
    attack.ends_with(CloseCode::FrameTooLarge).await;
}

#[tokio::test]
async fn a_payload_of_another_length_is_refused() {
    for announced in [0, 99, 101, u64::MAX] {
        let mut attack = Attack::start().await;
        let _stream = attack.stream(b"P", announced, &[], false).await;
        let text = attack.ends_with(CloseCode::PayloadLength).await;
        assert!(text.contains("100 expected"), "{text}");
    }
    let mut attack = Attack::start().await;
    let _stream = attack.stream(b"P", 100, &[0; 101], true).await;
    attack.ends_with(CloseCode::PayloadLength).await;
    let mut attack = Attack::start().await;
    let _stream = attack.stream(b"P", 100, &[0; 99], true).await;
    attack.ends_with(CloseCode::Malformed).await;
}

#[tokio::test]
async fn payloads_where_none_belongs_and_none_where_one_belongs() {
    let mut attack = Attack::start().await;
    let _stream = attack.stream(b"no payload", 100, &[0; 100], true).await;
    attack.ends_with(CloseCode::PayloadLength).await;
    let mut attack = Attack::start().await;
    attack.write(&[2, 1, 0, 0, 0, b'P']).await;
    attack.ends_with(CloseCode::PayloadLength).await;
}

#[tokio::test]
async fn garbage_is_refused() {
    for bytes in [&[0, 0, 0, 0, 0][..], &[9, 0, 0, 0, 0], &[3, 1, 0, 0, 0], &[2, 1, 0, 0, 0, b'X'], &GREETING] {
        let mut attack = Attack::start().await;
        attack.write(bytes).await;
        attack.ends_with(CloseCode::Malformed).await;
    }
}

#[tokio::test]
async fn standing_still_half_way_is_not_waited_for() {
    let mut attack = Attack::start().await;
    attack.write(&[2, 50]).await;
    attack.ends_with(CloseCode::Stalled).await;
    let mut attack = Attack::start().await;
    attack.write(&ON_STREAM).await;
    attack.ends_with(CloseCode::Stalled).await;
    let mut attack = Attack::start().await;
    let _stream = attack.stream(b"P", 100, &[0; 50], false).await;
    attack.ends_with(CloseCode::Stalled).await;
}

#[tokio::test]
async fn resets_and_refused_streams_end_the_connection() {
    let mut attack = Attack::start().await;
    attack.control.reset(quinn::VarInt::from_u32(1)).unwrap();
    attack.ends_with(CloseCode::Malformed).await;
    let mut attack = Attack::start().await;
    attack.replies.stop(quinn::VarInt::from_u32(1)).unwrap();
    // Whatever is sent after the refusal has arrived meets it.
    for _ in 0..100 {
        if attack.coordinator.try_send(message("anybody?")).is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    attack.ends_with(CloseCode::Malformed).await;
}

#[tokio::test]
async fn a_silo_that_does_not_greet_does_not_get_in_and_blocks_nobody() {
    let federation = demo();
    let (mut listener, address) = coordinator(&federation, SMALL);
    let _mute = raw_silo(&address, &federation.silos[0].credentials).await;
    let mut honest = dialer(&address, &federation.silos[1].credentials, SMALL);
    let (connected, accepted) = tokio::join!(honest.connect(), listener.accept());
    assert!(connected.is_ok() && accepted.unwrap().is_ok());
    let rejected = listener.accept().await.unwrap().err().unwrap();
    assert!(rejected.error.to_string().contains("did not finish the handshake"), "{}", rejected.error);
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_refused() {
    let federation = demo();
    let (mut listener, address) = coordinator(&federation, SMALL);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(federation.authority.certificate().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"blindsum/1".to_vec()];
    let quic = raw(&address, tls).await;
    let rejected = listener.accept().await.unwrap().err().unwrap();
    assert!(rejected.error.to_string().contains("showed none"), "{}", rejected.error);
    assert!(matches!(quic.closed().await, ConnectionError::ConnectionClosed(_)));
}
