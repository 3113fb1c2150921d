//! How long any message can be in this job: computed from n and the params, never told by a peer (SA-12).

use blindsum_crypto::sketch::ROWS;
use blindsum_crypto::verify::Check;
use blindsum_crypto::{Params, VerifySum};
use serde::{Serialize, de::DeserializeOwned};

use crate::codec::{self, CodecError};
use crate::message::{CoordinatorMessage, Envelope, SiloMessage};
use crate::plan::{Plan, RoundKind};

/// Most abandoned attempts that one Open proves.
pub const MAX_ABANDONED: usize = 64;

/// Bytes of an encoded message of fixed size, with room to spare: keys, hashes, one signature, tags.
const FIXED: usize = 1024;
/// Bytes of a signature with its signer and framing, with room to spare.
const VOTE: usize = 128;
/// Bytes of an advert, or of one silo's entry in a dealing or reveal, with room to spare.
const ENTRY: usize = 320;
/// Bytes of an advert, a header, a secret and a sketch's framing, with room to spare.
const PROOF: usize = 768;
/// Bytes of a header and a delivery with its Merkle path (at most 10 hashes), with room to spare.
const DELIVERY: usize = 1024;

/// Sizes for one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    from_silo: usize,
    from_coordinator: usize,
    /// Of odd rounds and of even ones.
    train_payloads: [usize; 2],
    evaluate_payload: usize,
    train_rounds: u32,
    last_round: u32,
    most_opened: usize,
}

impl Limits {
    /// The sizes of this plan's job.
    pub fn new(plan: &Plan) -> Limits {
        let n = usize::from(plan.quorum().n);
        let open = FIXED + MAX_ABANDONED * (FIXED + n * VOTE);
        let train = [1, 2].map(|round| plan.params(plan.layout().training_kind(round)));
        let sketch = 4 * ROWS * train.map(|params| params.segments.len()).into_iter().max().unwrap_or_default();
        let result = FIXED + n * (ENTRY + 2 * VOTE + PROOF + sketch);
        Limits {
            from_silo: FIXED + (n * ENTRY).max(sketch),
            from_coordinator: (FIXED + n * DELIVERY).max(open).max(result),
            train_payloads: train.map(Params::packed_bytes),
            evaluate_payload: plan.params(RoundKind::Evaluate).packed_bytes(),
            train_rounds: plan.job().rounds,
            last_round: plan.last_round(),
            most_opened: match plan.verify_sum() {
                VerifySum::Off => 0,
                VerifySum::Sketches => n - usize::from(plan.quorum().q),
                VerifySum::Inputs => n,
            },
        }
    }

    /// Longest encoded [`SiloMessage`] in bytes.
    pub fn from_silo(&self) -> usize {
        self.from_silo
    }

    /// Longest encoded [`CoordinatorMessage`] in bytes.
    pub fn from_coordinator(&self) -> usize {
        self.from_coordinator
    }

    /// Longest packed vector of any round in bytes.
    pub fn payload_max(&self) -> usize {
        self.train_payloads.into_iter().fold(self.evaluate_payload, usize::max)
    }

    /// Most masked inputs that travel beside a sum: all where the job says so, else at most n − q, since with more silos
    /// silent nobody could sign the result.
    pub fn most_opened(&self) -> usize {
        self.most_opened
    }

    fn payload_of(&self, round: u32) -> Result<usize, CodecError> {
        match round {
            0 => Err(CodecError::Round(round)),
            _ if round <= self.train_rounds => Ok(self.train_payloads[usize::from(round.is_multiple_of(2))]),
            _ if round <= self.last_round => Ok(self.evaluate_payload),
            _ => Err(CodecError::Round(round)),
        }
    }
}

/// A message type that travels: what a transport needs to know about it.
pub trait Wire: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Longest encoding in this job, bytes.
    fn max_len(limits: &Limits) -> usize;

    /// Longest payload of such a message in this job, bytes.
    fn max_payload(limits: &Limits) -> usize;

    /// Exact length of the payload that must come with this message; `None` if none may.
    ///
    /// # Errors
    /// The message names a round that the job does not have.
    fn payload_len(&self, limits: &Limits) -> Result<Option<usize>, CodecError>;

    /// Decodes a control frame. The caller then reads exactly [`Wire::payload_len`] bytes.
    fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, CodecError> {
        codec::decode(bytes, Self::max_len(limits))
    }
}

impl Wire for SiloMessage {
    fn max_len(limits: &Limits) -> usize {
        limits.from_silo
    }

    fn max_payload(limits: &Limits) -> usize {
        limits.payload_max()
    }

    fn payload_len(&self, limits: &Limits) -> Result<Option<usize>, CodecError> {
        match self {
            SiloMessage::MaskedInput { at, .. } => limits.payload_of(at.round).map(Some),
            _ => Ok(None),
        }
    }
}

impl Wire for CoordinatorMessage {
    fn max_len(limits: &Limits) -> usize {
        limits.from_coordinator
    }

    fn max_payload(limits: &Limits) -> usize {
        (1 + limits.most_opened) * limits.payload_max()
    }

    fn payload_len(&self, limits: &Limits) -> Result<Option<usize>, CodecError> {
        match self {
            CoordinatorMessage::SumRequest { at, back: Some(_), .. } => limits.payload_of(at.round).map(Some),
            CoordinatorMessage::Result(result) => {
                let (got, most) = (result.opened(), limits.most_opened);
                if Check::MostOpened.finds(got > most) {
                    return Err(CodecError::Opened { got, most });
                }
                limits.payload_of(result.at.round).map(|one| Some((1 + got) * one))
            }
            _ => Ok(None),
        }
    }
}

impl<M: Wire> Envelope<M> {
    /// Checks that the payload has exactly the length that the message's round gives.
    pub fn check_payload(&self, limits: &Limits) -> Result<(), CodecError> {
        let expected = self.message.payload_len(limits)?;
        let got = self.payload.as_ref().map(|p| p.len());
        if Check::PayloadLength.finds(got != expected) { Err(CodecError::Payload { got, expected }) } else { Ok(()) }
    }
}
