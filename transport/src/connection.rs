//! A typed connection between a silo and the coordinator.
//!
//! ```text
//!  send() ─► queue ─► writer task ─► control stream / payload streams ─► peer
//!  recv() ◄─ queue ◄─ reader task ◄─ control stream / payload streams ◄─ peer
//! ```
//! Contract: messages of one direction arrive in the order in which they were sent, payloads included; `send` and `recv`
//! may be cancelled at any await (in `select!`) without harm; after the first error the connection is closed and stays
//! so. Whatever a peer sends ends at worst this connection. Memory is bounded, see [`crate::settings`].

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use blindsum_protocol::message::{Envelope, Payload};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::close::{CloseCode, MAX_REASON, clean_reason};
use crate::codec::{Codec, prepare};
use crate::error::TransportError;
use crate::frame::{self, FrameError};
use crate::settings::{RECEIVE_QUEUE, SEND_QUEUE};

/// How long an orderly end waits for the peer to have everything.
const DRAIN: Duration = Duration::from_secs(5);

struct Outgoing {
    control: Vec<u8>,
    payload: Option<Payload>,
}

/// Closes a connection from anywhere; cheap to clone.
#[derive(Clone)]
pub struct Closer {
    quic: quinn::Connection,
    /// How the peer is called in sentences.
    peer: Arc<str>,
    name: Arc<str>,
    closed_here: Arc<OnceLock<(CloseCode, String)>>,
}

impl Closer {
    pub(crate) fn new(quic: quinn::Connection, peer: &str, name: &str) -> Closer {
        Closer { quic, peer: peer.into(), name: name.into(), closed_here: Arc::default() }
    }

    /// Closes at once: what was not acknowledged may be lost. The first reason counts.
    pub fn close(&self, code: CloseCode, reason: &str) {
        let reason = clean_reason(reason.as_bytes());
        let _ = self.closed_here.set((code, reason.clone()));
        self.quic.close(VarInt::from_u32(code.number()), &reason.as_bytes()[..reason.len().min(MAX_REASON)]);
    }

    /// Why the connection ended, once it has.
    pub async fn closed(&self) -> TransportError {
        let error = self.quic.closed().await;
        self.explain(&error)
    }

    pub(crate) fn explain(&self, error: &quinn::ConnectionError) -> TransportError {
        match (error, self.closed_here.get()) {
            (quinn::ConnectionError::LocallyClosed, Some((code, reason))) => {
                TransportError::ClosedHere { peer: self.peer.to_string(), code: *code, reason: reason.clone() }
            }
            _ => TransportError::from_quinn(&self.peer, error),
        }
    }

    /// Closes as a frame error demands and says why the connection ended.
    pub(crate) async fn fail(&self, error: FrameError) -> TransportError {
        match error {
            FrameError::Peer(code, reason) => self.close(code, &reason),
            // The peer finished its stream; its close follows at once, or it is not a peer worth waiting for.
            FrameError::End => {
                if tokio::time::timeout(DRAIN, self.quic.closed()).await.is_err() {
                    self.close(CloseCode::Malformed, "the control stream ended without a close");
                }
            }
            FrameError::Connection => {}
        }
        self.closed().await
    }
}

/// A connection whose both ends accepted each other. Dropping it closes at once; [`Connection::finish`] sends what is
/// queued first.
pub struct Connection<C: Codec> {
    codec: Arc<C>,
    closer: Closer,
    outgoing: Option<mpsc::Sender<Outgoing>>,
    incoming: mpsc::Receiver<Result<Envelope<C::In>, TransportError>>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl<C: Codec> Connection<C> {
    /// Starts the two tasks on a control stream after the greetings.
    pub(crate) fn start(
        closer: Closer,
        codec: Arc<C>,
        send: SendStream,
        receive: RecvStream,
        stall: Duration,
    ) -> Connection<C> {
        let (outgoing, queue) = mpsc::channel(SEND_QUEUE);
        let (taken, incoming) = mpsc::channel(RECEIVE_QUEUE);
        let writer = tokio::spawn(write_all(closer.clone(), send, queue, stall));
        let reader = tokio::spawn(read_all(closer.clone(), receive, codec.clone(), taken, stall));
        Connection { codec, closer, outgoing: Some(outgoing), incoming, reader, writer }
    }

    /// The peer's name, from its certificate.
    pub fn peer_name(&self) -> &str {
        &self.closer.name
    }

    /// The peer's address, which may change while the connection lives.
    pub fn remote_address(&self) -> SocketAddr {
        self.closer.quic.remote_address()
    }

    /// A handle that closes this connection from elsewhere.
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }

    fn encode(&self, envelope: Envelope<C::Out>) -> Result<Outgoing, TransportError> {
        let control = prepare(&*self.codec, &envelope.message, envelope.payload.as_ref())
            .map_err(|e| TransportError::Misuse(e.to_string()))?;
        Ok(Outgoing { control, payload: envelope.payload })
    }

    /// Queues a message; waits while [`SEND_QUEUE`] messages are before it.
    ///
    /// # Errors
    /// [`TransportError::Misuse`] when the message is longer than the job allows or its payload has the wrong length (the
    /// connection stays up), else why the connection is closed.
    pub async fn send(&self, envelope: Envelope<C::Out>) -> Result<(), TransportError> {
        let outgoing = self.encode(envelope)?;
        if let Some(error) = self.closer.quic.close_reason() {
            return Err(self.closer.explain(&error));
        }
        if let Some(queue) = &self.outgoing
            && queue.send(outgoing).await.is_ok()
        {
            return Ok(());
        }
        Err(self.closer.closed().await)
    }

    /// Queues a message without waiting; `Ok(false)` when the queue is full, so that one slow peer holds up nobody.
    pub fn try_send(&self, envelope: Envelope<C::Out>) -> Result<bool, TransportError> {
        let outgoing = self.encode(envelope)?;
        if let Some(error) = self.closer.quic.close_reason() {
            return Err(self.closer.explain(&error));
        }
        match self.outgoing.as_ref().map(|queue| queue.try_send(outgoing)) {
            Some(Ok(())) => Ok(true),
            Some(Err(mpsc::error::TrySendError::Full(_))) => Ok(false),
            _ => Err(TransportError::Lost { peer: self.closer.peer.to_string(), why: "it is closing".to_owned() }),
        }
    }

    /// The next message.
    pub async fn recv(&mut self) -> Result<Envelope<C::In>, TransportError> {
        match self.incoming.recv().await {
            Some(result) => result,
            None => Err(self.closer.closed().await),
        }
    }

    /// Sends what is queued, waits until the peer has it (at most five seconds), then closes.
    pub async fn finish(mut self, code: CloseCode, reason: &str) {
        self.outgoing = None;
        let _ = tokio::time::timeout(DRAIN, &mut self.writer).await;
        self.closer.close(code, reason);
    }

    /// Closes at once; what is queued is lost.
    pub fn close(self, code: CloseCode, reason: &str) {
        self.closer.close(code, reason);
    }
}

impl<C: Codec> Drop for Connection<C> {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
        // Without effect when a reason was given before.
        self.closer.close(CloseCode::Stopping, "");
    }
}

async fn write_all(closer: Closer, mut control: SendStream, mut queue: mpsc::Receiver<Outgoing>, stall: Duration) {
    let result = async {
        while let Some(Outgoing { control: bytes, payload }) = queue.recv().await {
            match payload {
                None => frame::put_frame(&mut control, frame::MESSAGE, &bytes, stall).await?,
                Some(payload) => {
                    let open = async { closer.quic.open_uni().await.map_err(|_| FrameError::Connection) };
                    let mut stream = frame::within(stall, open).await?;
                    frame::put_frame(&mut control, frame::ON_STREAM, &[], stall).await?;
                    frame::put_payload_stream(&mut stream, &bytes, &payload, stall).await?;
                }
            }
        }
        // The queue's other end is gone: an orderly end. Wait until the peer has everything.
        control.finish().map_err(|_| FrameError::Connection)?;
        control.stopped().await.map_err(|_| FrameError::Connection)?;
        Ok(())
    };
    // A queue that nobody fills must not keep a dead connection's task.
    tokio::select! {
        result = result => {
            if let Err(FrameError::Peer(code, reason)) = result {
                closer.close(code, &reason);
            }
        }
        _ = closer.quic.closed() => {}
    }
}

async fn read_all<C: Codec>(
    closer: Closer,
    mut control: RecvStream,
    codec: Arc<C>,
    taken: mpsc::Sender<Result<Envelope<C::In>, TransportError>>,
    stall: Duration,
) {
    loop {
        let item = match read_one(&closer, &mut control, &*codec, stall).await {
            Ok(envelope) => Ok(envelope),
            Err(error) => Err(closer.fail(error).await),
        };
        let over = item.is_err();
        if taken.send(item).await.is_err() || over {
            return;
        }
    }
}

async fn read_one<C: Codec>(
    closer: &Closer,
    control: &mut RecvStream,
    codec: &C,
    stall: Duration,
) -> Result<Envelope<C::In>, FrameError> {
    match frame::header(control, stall).await? {
        (frame::MESSAGE, length) => Ok(Envelope::bare(frame::message(control, length, codec, stall).await?)),
        (frame::ON_STREAM, _) => {
            let accept = async { closer.quic.accept_uni().await.map_err(|_| FrameError::Connection) };
            let stream = frame::within(stall, accept).await?;
            let (message, payload) = frame::message_with_payload(stream, codec, stall).await?;
            Ok(Envelope::with(message, Arc::new(payload)))
        }
        _ => Err(FrameError::Peer(CloseCode::Malformed, "a second greeting".into())),
    }
}
