//! How a connection turns messages into control frames, and how long their payloads must be.
//!
//! Contract: `decode` allocates no more than a small multiple of the frame; the expected payload length follows from the
//! decoded message and from what both ends agreed on, never from a length that the peer announces (SA-12).

use std::marker::PhantomData;

pub use blindsum_protocol::codec::CodecError;
use blindsum_protocol::limits::{Limits, Wire};
use blindsum_protocol::message::{CoordinatorMessage, Payload, SiloMessage};

use crate::settings::MessageSizes;

/// One end's view of the messages on a connection.
pub trait Codec: Send + Sync + 'static {
    /// Control messages sent by this end.
    type Out: Send + 'static;
    /// Control messages received by this end.
    type In: Send + 'static;

    /// Encodes a control message.
    fn encode(&self, message: &Self::Out) -> Result<Vec<u8>, CodecError>;
    /// Decodes a control message and says how long its payload must be (`None`: it has none).
    fn decode(&self, control: &[u8]) -> Result<(Self::In, Option<usize>), CodecError>;
    /// Exact length of the payload that goes with an own message.
    fn payload_out(&self, message: &Self::Out) -> Result<Option<usize>, CodecError>;
    /// Longest control frame received, bytes.
    fn max_control_in(&self) -> usize;
    /// Longest control frame sent, bytes.
    fn max_control_out(&self) -> usize;
    /// Longest payload received, bytes.
    fn max_payload_in(&self) -> usize;
    /// Longest payload sent that no other connection shares, bytes.
    fn max_payload_out(&self) -> usize;

    /// Longest messages, for the memory bound.
    fn sizes(&self) -> MessageSizes {
        let incoming = self.max_control_in() + self.max_payload_in();
        MessageSizes { incoming, outgoing: self.max_control_out() + self.max_payload_out() }
    }
}

/// The protocol's messages under one job's limits.
pub struct WireCodec<Out, In> {
    limits: Limits,
    messages: PhantomData<fn() -> (Out, In)>,
}

/// What a silo sends and receives.
pub type SiloCodec = WireCodec<SiloMessage, CoordinatorMessage>;
/// What the coordinator sends and receives.
pub type CoordinatorCodec = WireCodec<CoordinatorMessage, SiloMessage>;

impl<Out, In> WireCodec<Out, In> {
    /// Messages within `limits`.
    pub fn new(limits: Limits) -> Self {
        WireCodec { limits, messages: PhantomData }
    }
}

impl<Out: Wire, In: Wire> Codec for WireCodec<Out, In> {
    type Out = Out;
    type In = In;

    fn encode(&self, message: &Out) -> Result<Vec<u8>, CodecError> {
        blindsum_protocol::codec::encode(message)
    }

    fn decode(&self, control: &[u8]) -> Result<(In, Option<usize>), CodecError> {
        let message = In::decode(control, &self.limits)?;
        let payload = message.payload_len(&self.limits)?;
        Ok((message, payload))
    }

    fn payload_out(&self, message: &Out) -> Result<Option<usize>, CodecError> {
        message.payload_len(&self.limits)
    }

    fn max_control_in(&self) -> usize {
        In::max_len(&self.limits)
    }

    fn max_control_out(&self) -> usize {
        Out::max_len(&self.limits)
    }

    fn max_payload_in(&self) -> usize {
        In::max_payload(&self.limits)
    }

    // a sum with opened masked inputs is one value for all connections: one packed vector each is more than it takes
    fn max_payload_out(&self) -> usize {
        self.limits.payload_max()
    }
}

/// Checks an own message before it is queued: length of control and payload.
pub(crate) fn prepare<C: Codec>(codec: &C, message: &C::Out, payload: Option<&Payload>) -> Result<Vec<u8>, CodecError> {
    let control = codec.encode(message)?;
    if control.len() > codec.max_control_out() {
        return Err(CodecError::TooLong { length: control.len(), limit: codec.max_control_out() });
    }
    let (got, expected) = (payload.map(|p| p.len()), codec.payload_out(message)?);
    if got == expected { Ok(control) } else { Err(CodecError::Payload { got, expected }) }
}
