//! The one place where messages become bytes and back (bincode, fixed-width little-endian integers).
//!
//! Contract: [`decode`] never allocates more than a small multiple of `limit`, rejects trailing bytes, and cannot panic
//! on any input. Fixed-width integers keep a frame's size independent of the values in it. bincode is unmaintained
//! (RUSTSEC-2025-0141), hence one call site.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::serde as wire;
use serde::{Serialize, de::DeserializeOwned};

/// No control message is ever longer, whatever the limits say: 256 MiB.
pub const HARD_LIMIT: usize = 256 << 20;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<HARD_LIMIT>> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<HARD_LIMIT>();

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Longer than a message of this kind can be in this job.
    #[error("message of {length} bytes; at most {limit} are possible here")]
    TooLong {
        /// Bytes received or announced.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not an encoding of the expected type.
    #[error("message cannot be decoded: {0}")]
    Malformed(String),
    /// Decoded, but bytes were left over.
    #[error("message has {0} bytes after its end")]
    Trailing(usize),
    /// The payload is missing, unexpected, or not of the length that the round's params give.
    #[error("payload of {got:?} bytes where {expected:?} are expected")]
    Payload {
        /// Bytes that came with the message, if any.
        got: Option<usize>,
        /// Bytes that the message's round implies, if any.
        expected: Option<usize>,
    },
    /// More masked inputs beside a sum than an honest coordinator ever opens.
    #[error("{got} masked inputs are opened beside a sum; at most {most} can be")]
    Opened {
        /// Announced.
        got: usize,
        /// By the job: all survivors, or n − q.
        most: usize,
    },
    /// The message names a round that the job does not have.
    #[error("round {0} is not part of the job")]
    Round(u32),
}

/// Encodes a message or record.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    wire::encode_to_vec(value, CONFIG).map_err(|e| CodecError::Malformed(e.to_string()))
}

/// Decodes exactly one value from all of `bytes`, which must not exceed `limit`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    let limit = limit.min(HARD_LIMIT);
    if bytes.len() > limit {
        return Err(CodecError::TooLong { length: bytes.len(), limit });
    }
    // borrowing: text is checked where it lies, while the owned decoder allocates whatever length a string announces
    let (value, used) =
        wire::borrow_decode_from_slice(bytes, CONFIG).map_err(|e| CodecError::Malformed(e.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}

/// The encoding that hashes are taken over, for values of our own that always encode.
pub(crate) fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    encode(value).expect("own value without maps or borrowed sequences of unknown length encodes")
}

/// Length of a message's encoding in bytes.
pub fn encoded_len<T: Serialize>(value: &T) -> u64 {
    let mut writer = bincode::enc::write::SizeWriter::default();
    match wire::encode_into_writer(value, &mut writer, CONFIG) {
        Ok(()) => writer.bytes_written as u64,
        Err(_) => 0,
    }
}
