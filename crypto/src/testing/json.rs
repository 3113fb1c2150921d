//! The vectors under `crypto/vectors` as this crate's types, so that a vector says nothing about how serde writes them.
//!
//! Contract: bytes are hex; a missing field or a wrong length is a broken vector and panics.

use super::*;
use crate::commit::{AbandonVote, CommitVote};
use crate::complaint::Complaint;
use crate::identity::{IdentityPublic, Signature};
use crate::result::ResultVote;
use crate::reveal::{Reveal, RevealedShare};
use crate::roster::RosterError;
use crate::shamir::Share;
use crate::share::{DealtPair, Delivery, PairLeaves, SealedBundle, ShareOpening};
use crate::sketch::Sketch;
use serde_json::Value;

/// The good session.
pub(crate) fn session() -> Value {
    serde_json::from_str(include_str!("../../vectors/session.json")).unwrap()
}

pub(crate) fn hexed(bytes: impl AsRef<[u8]>) -> Value {
    Value::String(hex::encode(bytes))
}

pub(crate) fn bytes(v: &Value) -> Vec<u8> {
    hex::decode(v.as_str().unwrap_or_else(|| panic!("{v} is no hex string"))).unwrap()
}

pub(crate) fn fixed<const N: usize>(v: &Value) -> [u8; N] {
    bytes(v).try_into().unwrap_or_else(|_| panic!("{v} has not {N} bytes"))
}

pub(crate) fn digest(v: &Value) -> Digest {
    Digest(fixed(v))
}

pub(crate) fn number<T: TryFrom<u64, Error: std::fmt::Debug>>(v: &Value) -> T {
    v.as_u64().unwrap_or_else(|| panic!("{v} is no number")).try_into().unwrap()
}

pub(crate) fn text(v: &Value) -> String {
    v.as_str().unwrap_or_else(|| panic!("{v} is no text")).into()
}

pub(crate) fn list<T>(v: &Value, item: impl Fn(&Value) -> T) -> Vec<T> {
    v.as_array().unwrap_or_else(|| panic!("{v} is no list")).iter().map(item).collect()
}

pub(crate) fn silo(v: &Value) -> SiloId {
    SiloId(number(v))
}

fn signature(v: &Value) -> Signature {
    Signature(fixed(&v["signature"]))
}

pub(crate) fn roster(v: &Value) -> Result<Roster, RosterError> {
    let entry = |s: &Value| RosterEntry { name: text(&s["name"]), identity: IdentityPublic(fixed(&s["identity"])) };
    Roster::new(text(&v["federation_id"]), number(&v["version"]), list(&v["silos"], entry))
}

pub(crate) fn params(v: &Value) -> Params {
    let segment = |s: &Value| {
        let kind = match s["kind"].as_str() {
            Some("fixed_point") => {
                SegmentKind::FixedPoint { value_bits: number(&s["value_bits"]), bound: s["bound"].as_f64().unwrap() }
            }
            Some("counts") => SegmentKind::Counts { max_value: number(&s["max_value"]) },
            other => panic!("{other:?} is no kind of segment"),
        };
        Segment { name: text(&s["name"]), length: number(&s["length"]), ring_bits: number(&s["ring_bits"]), kind }
    };
    let q = &v["quorum"];
    Params {
        segments: list(&v["segments"], segment),
        quorum: Quorum {
            n: number(&q["n"]),
            c: number(&q["c"]),
            t: number(&q["t"]),
            q: number(&q["q"]),
            m: number(&q["m"]),
        },
        noise: v["noise"].as_bool().unwrap(),
        verify_sum: serde_json::from_value(v["verify_sum"].clone()).unwrap(),
        training_deadline_ms: number(&v["training_deadline_ms"]),
        phase_deadline_ms: number(&v["phase_deadline_ms"]),
    }
}

pub(crate) fn context(v: &Value) -> Context {
    Context {
        federation_id: text(&v["federation_id"]),
        roster_hash: digest(&v["roster_hash"]),
        roster_version: number(&v["roster_version"]),
        job_digest: digest(&v["job_digest"]),
        round: number(&v["round"]),
        attempt: number(&v["attempt"]),
        params_hash: digest(&v["params_hash"]),
        previous_result_hash: digest(&v["previous_result_hash"]),
        model_hash: digest(&v["model_hash"]),
    }
}

pub(crate) fn advert(v: &Value) -> Advert {
    Advert {
        silo: silo(&v["silo"]),
        channel_key: fixed(&v["channel_key"]),
        mask_key: fixed(&v["mask_key"]),
        journal_length: number(&v["journal_length"]),
        journal_head: digest(&v["journal_head"]),
        counts: v["counts"].as_bool().unwrap(),
        signature: signature(v),
    }
}

pub(crate) fn header(v: &Value) -> ShareHeader {
    ShareHeader {
        silo: silo(&v["silo"]),
        root: digest(&v["root"]),
        commitment_b: digest(&v["commitment_b"]),
        signature: signature(v),
    }
}

fn leaves(v: &Value) -> PairLeaves {
    PairLeaves { b: digest(&v["b"]), s: digest(&v["s"]) }
}

pub(crate) fn dealing(v: &Value) -> Dealing {
    let pair = |p: &Value| DealtPair { leaves: leaves(&p["leaves"]), sealed: SealedBundle(bytes(&p["sealed"])) };
    Dealing { header: header(&v["header"]), pairs: list(&v["pairs"], pair) }
}

pub(crate) fn delivery(v: &Value) -> Delivery {
    Delivery {
        dealer: silo(&v["dealer"]),
        leaves: leaves(&v["leaves"]),
        path: list(&v["path"], digest),
        sealed: SealedBundle(bytes(&v["sealed"])),
    }
}

fn share_opening(v: &Value) -> ShareOpening {
    ShareOpening { share: Share(fixed(&v["share"])), nonce: fixed(&v["nonce"]) }
}

pub(crate) fn complaint(v: &Value) -> Complaint {
    Complaint {
        silo: silo(&v["silo"]),
        dealer: silo(&v["dealer"]),
        ciphertext: digest(&v["ciphertext"]),
        signature: signature(v),
    }
}

pub(crate) fn masked_header(v: &Value) -> MaskedHeader {
    MaskedHeader { silo: silo(&v["silo"]), hash: digest(&v["hash"]), signature: signature(v) }
}

pub(crate) fn commit_vote(v: &Value) -> CommitVote {
    CommitVote { silo: silo(&v["silo"]), signature: signature(v) }
}

pub(crate) fn abandon_vote(v: &Value) -> AbandonVote {
    AbandonVote { silo: silo(&v["silo"]), signature: signature(v) }
}

pub(crate) fn result_vote(v: &Value) -> ResultVote {
    ResultVote { silo: silo(&v["silo"]), signature: signature(v) }
}

pub(crate) fn reveal(v: &Value) -> Reveal {
    let share = |s: &Value| {
        let (peer, opening) = (silo(&s["peer"]), share_opening(s));
        match s["kind"].as_str() {
            Some("b") => RevealedShare::OfSurvivor { peer, b: opening },
            Some("s") => RevealedShare::OfDropped { peer, s: opening },
            other => panic!("{other:?} is no kind of share"),
        }
    };
    Reveal { silo: silo(&v["silo"]), shares: list(&v["shares"], share), signature: signature(v) }
}

pub(crate) fn sketch(v: &Value) -> Sketch {
    Sketch { silo: silo(&v["silo"]), values: list(&v["values"], number), signature: signature(v) }
}
