//! Two honest ends over real QUIC on this machine.

use std::time::{Duration, Instant};

use blindsum_files::{ExitCode, Exits};
use blindsum_service::signals::{self, Reason};
use blindsum_transport::{CloseCode, TransportError, listen};

use crate::support::*;

#[tokio::test]
async fn messages_and_a_large_payload_arrive_whole_and_in_order() {
    let federation = demo();
    let codec = Bytes { payload: 10_000_000 };
    let (mut silo, mut coordinator, _dialer, listener) = pair(&federation, 1, codec).await;
    assert_eq!((silo.peer_name(), coordinator.peer_name()), ("coordinator", "north"));
    let payload: Vec<u8> = (0..codec.payload).map(|i| (i * 31 % 251) as u8).collect();

    let sending = async {
        for i in 0..20 {
            silo.send(message(&format!("before {i}"))).await.unwrap();
        }
        silo.send(with_payload("P1", payload.clone())).await.unwrap();
        silo.send(message("between")).await.unwrap();
        silo.send(with_payload("P2", payload.clone())).await.unwrap();
        silo.send(message("after")).await.unwrap();
    };
    let receiving = async {
        for i in 0..20 {
            assert_eq!(coordinator.recv().await.unwrap(), message(&format!("before {i}")));
        }
        assert!(coordinator.recv().await.unwrap() == with_payload("P1", payload.clone()));
        assert_eq!(coordinator.recv().await.unwrap(), message("between"));
        assert!(coordinator.recv().await.unwrap() == with_payload("P2", payload.clone()));
        assert_eq!(coordinator.recv().await.unwrap(), message("after"));
    };
    tokio::join!(sending, receiving);

    coordinator.send(with_payload("Psum", payload.clone())).await.unwrap();
    assert!(silo.recv().await.unwrap() == with_payload("Psum", payload));
    assert!(listener.memory().per_connection < 120_000_000, "{:?}", listener.memory());
}

#[tokio::test]
async fn receiving_may_be_cancelled_at_any_time() {
    let federation = demo();
    let codec = Bytes { payload: 3_000_000 };
    let (silo, mut coordinator, _dialer, _listener) = pair(&federation, 0, codec).await;
    let payload = vec![7u8; codec.payload];
    silo.send(with_payload("P", payload.clone())).await.unwrap();
    let mut cancelled = 0;
    let received = loop {
        tokio::select! {
            biased;
            result = coordinator.recv() => break result.unwrap(),
            () = tokio::time::sleep(Duration::from_micros(200)) => cancelled += 1,
        }
    };
    assert!(cancelled > 0, "the payload came at once: the test shows nothing");
    assert!(received == with_payload("P", payload));
}

#[tokio::test]
async fn an_orderly_end_delivers_everything_and_says_why() {
    let federation = demo();
    let (mut silo, coordinator, _dialer, _listener) = pair(&federation, 0, SMALL).await;
    for i in 0..4 {
        coordinator.send(message(&format!("last {i}"))).await.unwrap();
    }
    let (_, ()) = tokio::join!(coordinator.finish(CloseCode::Finished, ""), async {
        for i in 0..4 {
            assert_eq!(silo.recv().await.unwrap(), message(&format!("last {i}")));
        }
        let end = silo.recv().await.unwrap_err();
        assert!(matches!(end, TransportError::ClosedByPeer { code: CloseCode::Finished, .. }), "{end}");
        assert_eq!(end.exit_code(), ExitCode::Done);
    });
    assert!(silo.send(message("too late")).await.is_err());
}

#[tokio::test]
async fn the_other_end_prints_the_cause() {
    let federation = demo();
    let (mut silo, coordinator, _dialer, _listener) = pair(&federation, 0, SMALL).await;
    coordinator.close(CloseCode::JobDiffers, "job 12ab here, 34cd there");
    let error = silo.recv().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("coordinator") && text.contains("job differs") && text.contains("12ab"), "{text}");
    assert!(!error.retry() && error.exit_code() == ExitCode::Refused);
}

#[tokio::test]
async fn an_own_message_beyond_the_limits_is_misuse_and_harms_nothing() {
    let federation = demo();
    let (silo, mut coordinator, _dialer, _listener) = pair(&federation, 0, SMALL).await;
    let long = silo.send(message(&"a".repeat(MAX_CONTROL + 1))).await.unwrap_err();
    assert!(matches!(long, TransportError::Misuse(_)), "{long}");
    let short = silo.send(with_payload("P", vec![0; 99])).await.unwrap_err();
    assert!(matches!(short, TransportError::Misuse(_)), "{short}");
    silo.send(message("still here")).await.unwrap();
    assert_eq!(coordinator.recv().await.unwrap(), message("still here"));
}

#[tokio::test]
async fn a_queue_that_is_full_holds_up_nobody() {
    let federation = demo();
    let codec = Bytes { payload: 6_000_000 };
    let (_silo, coordinator, _dialer, _listener) = pair(&federation, 0, codec).await;
    let full = (0..50).any(|_| !coordinator.try_send(with_payload("P", vec![0; codec.payload])).unwrap());
    assert!(full, "nobody reads, so the queue must fill");
}

#[tokio::test]
async fn the_newest_connection_of_a_silo_counts() {
    let federation = demo();
    let (mut old, mut seen_old, mut dialer, mut listener) = pair(&federation, 2, SMALL).await;
    let (new, seen_new) = tokio::join!(dialer.connect(), listener.accept());
    let (new, mut seen_new) = (new.unwrap(), seen_new.unwrap().unwrap());
    let error = old.recv().await.unwrap_err();
    assert!(matches!(error, TransportError::ClosedByPeer { code: CloseCode::Replaced, .. }), "{error}");
    assert!(matches!(seen_old.recv().await.unwrap_err(), TransportError::ClosedHere { code: CloseCode::Replaced, .. }));
    new.send(message("hello")).await.unwrap();
    assert_eq!(seen_new.recv().await.unwrap(), message("hello"));
}

#[tokio::test]
async fn a_silo_comes_back_when_the_coordinator_does() {
    let federation = demo();
    let (mut silo, coordinator, mut dialer, listener) = pair(&federation, 0, SMALL).await;
    let address = listener.local_addr().unwrap();
    drop(coordinator);
    listener.close(CloseCode::Stopping, "").await;
    assert!(silo.recv().await.unwrap_err().retry());

    let (_trigger, stop) = signals::manual();
    let coming_back = async {
        // A moment without anybody there.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut again = listen(address, &federation.coordinator, names(&federation), SMALL, settings()).unwrap();
        let connection = again.accept().await.unwrap().unwrap();
        (again, connection)
    };
    let (connection, (_again, mut seen)) = tokio::join!(dialer.reconnect(&stop, None), coming_back);
    let connection = connection.unwrap().unwrap();
    connection.send(message("back")).await.unwrap();
    assert_eq!(seen.recv().await.unwrap(), message("back"));
}

#[tokio::test]
async fn nobody_there_is_said_and_waiting_can_be_stopped() {
    let federation = demo();
    let mut dialer = dialer("127.0.0.1:9", &federation.silos[0].credentials, SMALL);
    let (trigger, stop) = signals::manual();
    let error = dialer.reconnect(&stop, Some(Duration::ZERO)).await.err().unwrap();
    assert!(error.to_string().contains("127.0.0.1:9 does not answer"), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Network);
    let start = Instant::now();
    let (result, ()) = tokio::join!(dialer.reconnect(&stop, None), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        trigger.stop(Reason::Terminate);
    });
    assert!(result.unwrap().is_none());
    assert!(start.elapsed() < Duration::from_millis(1500));
    dialer.close().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let federation = demo();
    let (listener, address) = coordinator(&federation, SMALL);
    let again = listen(listener.local_addr().unwrap(), &federation.coordinator, [], SMALL, settings());
    let text = again.err().unwrap().to_string();
    assert!(text.contains(&address) && text.contains("in use"), "{text}");
}
