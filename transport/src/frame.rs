//! Bytes on the streams of one connection.
//!
//! ```text
//! control stream (bidirectional, opened by the silo)     frame = kind u8, length u32 LE, bytes
//!   1 greeting   length 0, first in each direction: both ends accepted each other
//!   2 message    a control message without payload
//!   3 on stream  length 0: the next message is on the next unidirectional stream
//! payload stream (unidirectional, one per message)       control length u32 LE, payload length u64 LE, control, payload
//! ```
//! A marker on the control stream keeps all messages of one direction in one order, while a big vector has a stream of
//! its own. Contract: no buffer grows beyond what was agreed, and none is allocated for bytes that have not arrived; a
//! started frame that stands still for `stall` ends the connection.

use std::time::Duration;

use quinn::{ReadError, ReadExactError, RecvStream, SendStream, WriteError};

use crate::close::CloseCode;
use crate::codec::{Codec, CodecError};

pub(crate) const GREETING: u8 = 1;
pub(crate) const MESSAGE: u8 = 2;
pub(crate) const ON_STREAM: u8 = 3;
const HEADER: usize = 5;
const STREAM_HEADER: usize = 12;
/// Largest piece read at once, so that memory follows what arrived.
const PIECE: usize = 64 << 10;

/// Why no frame came.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// The stream ended where a frame might have begun.
    End,
    /// The connection is gone; quinn knows why.
    Connection,
    /// The peer broke the framing: close with this.
    Peer(CloseCode, String),
}

fn broken<T>(code: CloseCode, text: impl Into<String>) -> Result<T, FrameError> {
    Err(FrameError::Peer(code, text.into()))
}

impl From<ReadError> for FrameError {
    fn from(e: ReadError) -> FrameError {
        match e {
            ReadError::Reset(_) => FrameError::Peer(CloseCode::Malformed, "a stream was reset half-way".into()),
            _ => FrameError::Connection,
        }
    }
}

/// A codec's complaint about a peer's message, as a close code.
pub(crate) fn close_for(e: &CodecError) -> (CloseCode, String) {
    let code = match e {
        CodecError::TooLong { .. } => CloseCode::FrameTooLarge,
        CodecError::Payload { .. } => CloseCode::PayloadLength,
        CodecError::Round(_) | CodecError::Opened { .. } => CloseCode::Protocol,
        CodecError::Malformed(_) | CodecError::Trailing(_) => CloseCode::Malformed,
    };
    (code, e.to_string())
}

pub(crate) async fn within<T>(
    stall: Duration,
    read: impl Future<Output = Result<T, FrameError>>,
) -> Result<T, FrameError> {
    match tokio::time::timeout(stall, read).await {
        Ok(done) => done,
        Err(_) => broken(CloseCode::Stalled, format!("nothing for {} seconds", stall.as_secs())),
    }
}

async fn fill(stream: &mut RecvStream, bytes: &mut [u8]) -> Result<(), FrameError> {
    stream.read_exact(bytes).await.map_err(|e| match e {
        ReadExactError::FinishedEarly(_) => FrameError::Peer(CloseCode::Malformed, "a stream ended half-way".into()),
        ReadExactError::ReadError(e) => e.into(),
    })
}

/// Reads exactly `length` bytes, growing with what arrives.
async fn take(stream: &mut RecvStream, length: usize, stall: Duration) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let want = (length - bytes.len()).min(PIECE);
        let chunk = within(stall, async { stream.read_chunk(want, true).await.map_err(FrameError::from) }).await?;
        let Some(chunk) = chunk else {
            return broken(CloseCode::Malformed, format!("{length} bytes were announced, {} came", bytes.len()));
        };
        if bytes.capacity() - bytes.len() < chunk.bytes.len() {
            // Doubles, but never beyond what was announced and found acceptable.
            bytes.reserve_exact((2 * bytes.capacity()).clamp(want, length) - bytes.len());
        }
        bytes.extend_from_slice(&chunk.bytes);
    }
    Ok(bytes)
}

/// The next frame's kind and length; waits for it without limit, but not half-way through.
pub(crate) async fn header(stream: &mut RecvStream, stall: Duration) -> Result<(u8, usize), FrameError> {
    let mut bytes = [0u8; HEADER];
    match stream.read(&mut bytes[..1]).await? {
        Some(1) => {}
        _ => return Err(FrameError::End),
    }
    within(stall, fill(stream, &mut bytes[1..])).await?;
    let [kind, length @ ..] = bytes;
    let length = u32::from_le_bytes(length) as usize;
    match kind {
        GREETING | ON_STREAM if length != 0 => broken(CloseCode::Malformed, "a marker frame is not empty"),
        GREETING | MESSAGE | ON_STREAM => Ok((kind, length)),
        _ => broken(CloseCode::Malformed, format!("frame kind {kind} is unknown")),
    }
}

/// Reads the one control message whose header said `length`.
pub(crate) async fn message<C: Codec>(
    stream: &mut RecvStream,
    length: usize,
    codec: &C,
    stall: Duration,
) -> Result<C::In, FrameError> {
    let control = control(stream, length, codec, stall).await?;
    match codec.decode(&control) {
        Ok((message, None)) => Ok(message),
        Ok((_, Some(expected))) => {
            broken(CloseCode::PayloadLength, format!("a payload of {expected} bytes is missing"))
        }
        Err(e) => Err(peer(&e)),
    }
}

/// Reads the one message of a payload stream.
pub(crate) async fn message_with_payload<C: Codec>(
    mut stream: RecvStream,
    codec: &C,
    stall: Duration,
) -> Result<(C::In, Vec<u8>), FrameError> {
    let mut header = [0u8; STREAM_HEADER];
    within(stall, fill(&mut stream, &mut header)).await?;
    let [a, b, c, d, announced @ ..] = header;
    let control = control(&mut stream, u32::from_le_bytes([a, b, c, d]) as usize, codec, stall).await?;
    let (message, expected) = codec.decode(&control).map_err(|e| peer(&e))?;
    let announced = u64::from_le_bytes(announced);
    let length = match expected {
        Some(expected) if expected as u64 == announced && expected <= codec.max_payload_in() => expected,
        _ => {
            let expected = expected.map_or("none".to_owned(), |n| n.to_string());
            return broken(CloseCode::PayloadLength, format!("{announced} bytes announced, {expected} expected"));
        }
    };
    let payload = take(&mut stream, length, stall).await?;
    match within(stall, async { stream.read_chunk(1, true).await.map_err(FrameError::from) }).await? {
        None => Ok((message, payload)),
        Some(_) => broken(CloseCode::PayloadLength, format!("more than the {length} bytes announced")),
    }
}

async fn control<C: Codec>(
    stream: &mut RecvStream,
    length: usize,
    codec: &C,
    stall: Duration,
) -> Result<Vec<u8>, FrameError> {
    let limit = codec.max_control_in();
    if length > limit {
        return broken(CloseCode::FrameTooLarge, format!("{length} bytes, at most {limit} are possible"));
    }
    take(stream, length, stall).await
}

fn peer(e: &CodecError) -> FrameError {
    let (code, text) = close_for(e);
    FrameError::Peer(code, text)
}

/// Writes all of `bytes`; the peer must take them piece by piece within `stall` each.
async fn put(stream: &mut SendStream, bytes: &[u8], stall: Duration) -> Result<(), FrameError> {
    for piece in bytes.chunks(PIECE) {
        within(stall, async {
            stream.write_all(piece).await.map_err(|e| match e {
                WriteError::Stopped(_) => {
                    FrameError::Peer(CloseCode::Malformed, "a stream was refused half-way".into())
                }
                _ => FrameError::Connection,
            })
        })
        .await?;
    }
    Ok(())
}

/// A frame's length field; own messages are checked against limits below 2^32 before they come here.
fn length_field(length: usize) -> Result<[u8; 4], FrameError> {
    match u32::try_from(length) {
        Ok(length) => Ok(length.to_le_bytes()),
        Err(_) => broken(CloseCode::Internal, "a message of this side is longer than 4 GiB"),
    }
}

/// Writes a frame to the control stream.
pub(crate) async fn put_frame(
    stream: &mut SendStream,
    kind: u8,
    control: &[u8],
    stall: Duration,
) -> Result<(), FrameError> {
    let [a, b, c, d] = length_field(control.len())?;
    put(stream, &[kind, a, b, c, d], stall).await?;
    put(stream, control, stall).await
}

/// Writes a message with payload to a stream of its own.
pub(crate) async fn put_payload_stream(
    stream: &mut SendStream,
    control: &[u8],
    payload: &[u8],
    stall: Duration,
) -> Result<(), FrameError> {
    put(stream, &length_field(control.len())?, stall).await?;
    put(stream, &(payload.len() as u64).to_le_bytes(), stall).await?;
    put(stream, control, stall).await?;
    put(stream, payload, stall).await?;
    stream.finish().map_err(|_| FrameError::Connection)
}
