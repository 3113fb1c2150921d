//! The parameters of a session: segments of the vector, quorums and deadlines, and the proof that sums cannot overflow.
//!
//! Contract: a silo computes the parameters from its own job and roster and compares hashes; parameters that came over the
//! wire must pass [`Params::check`] before anything is sized by them (SA-12).

use crate::hash::{Digest, Hasher};
use crate::labels::Label;
use crate::quorum::{Quorum, QuorumError};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Most coordinates of one session (1 GiB of lanes).
pub const MAX_LANES: usize = 1 << 28;
/// Most segments of one session.
pub const MAX_SEGMENTS: usize = 16;
/// Most bits of a fixed-point value, sign included.
pub const MAX_VALUE_BITS: u8 = 24;
/// Names the algorithms, so that a version with others has another parameter hash.
const SUITE: &str = "x25519 ed25519 hkdf-sha256 aes-256-gcm aes-256-ctr shamir-curve25519";

/// What a segment's coordinates mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum SegmentKind {
    /// Real numbers, clipped to ±`bound` and rounded to signed integers of `value_bits` bits.
    FixedPoint {
        /// a: bits of one silo's integer, sign included, 2..=24.
        value_bits: u8,
        /// C: the coordinate bound, in the unit of the values, 1e-30..=1e30.
        bound: f64,
    },
    /// Unsigned counts, encoded as they are; for metrics.
    Counts {
        /// Largest count that one silo may send.
        max_value: u32,
    },
}

/// A run of coordinates with one meaning and one ring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Name, 1 to 63 of `[A-Za-z0-9_-]`, unique in the session.
    pub name: String,
    /// Number of coordinates.
    pub length: u32,
    /// b: sums are taken mod 2^b, and a coordinate travels in b bits, 1..=32.
    pub ring_bits: u8,
    /// Meaning of the coordinates.
    pub kind: SegmentKind,
}

impl Segment {
    /// A fixed-point segment with the smallest ring that n silos cannot overflow.
    ///
    /// # Errors
    /// [`ParamsError`] where `value_bits` or `bound` is out of range.
    pub fn fixed_point(
        name: impl Into<String>,
        length: u32,
        value_bits: u8,
        bound: f64,
        n: u16,
    ) -> Result<Segment, ParamsError> {
        let name = name.into();
        let ring_bits = ring_bits_for(value_bits, n)
            .ok_or_else(|| ParamsError::segment(&name, format!("no ring of 32 bits holds {value_bits}-bit values")))?;
        let segment = Segment { name, length, ring_bits, kind: SegmentKind::FixedPoint { value_bits, bound } };
        segment.check(n)?;
        Ok(segment)
    }

    /// A segment of counts in a 32-bit ring, in which n silos may each send up to ⌊(2^32−1)/n⌋.
    pub fn counts(name: impl Into<String>, length: u32, n: u16) -> Segment {
        let kind = SegmentKind::Counts { max_value: u32::MAX / u32::from(n.max(1)) };
        Segment { name: name.into(), length, ring_bits: 32, kind }
    }

    /// Bytes of the packed segment.
    pub fn packed_bytes(&self) -> usize {
        (self.length as usize * usize::from(self.ring_bits)).div_ceil(8)
    }

    /// Mask of the ring: 2^b − 1.
    pub fn ring_mask(&self) -> u32 {
        u32::MAX >> (32 - u32::from(self.ring_bits.clamp(1, 32)))
    }

    /// Largest integer that one silo sends: 2^(a−1)−1, or the largest count.
    pub fn max_magnitude(&self) -> u32 {
        match self.kind {
            SegmentKind::FixedPoint { value_bits, .. } => (1u32 << (value_bits.clamp(1, 31) - 1)) - 1,
            SegmentKind::Counts { max_value } => max_value,
        }
    }

    /// SA-10: n silos at the bound stay inside the ring.
    fn check(&self, n: u16) -> Result<(), ParamsError> {
        let wrong = |what: String| Err(ParamsError::segment(&self.name, what));
        let name_ok = (1..=63).contains(&self.name.len())
            && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if !name_ok {
            return wrong("its name must be 1 to 63 letters, digits, '_' or '-'".into());
        }
        if self.length == 0 {
            return wrong("it has no coordinates".into());
        }
        if !(1..=32).contains(&self.ring_bits) {
            return wrong(format!("ring_bits must be 1 to 32, not {}", self.ring_bits));
        }
        let ring = 1u64 << self.ring_bits;
        let limit = match self.kind {
            SegmentKind::FixedPoint { value_bits, bound } => {
                if !(2..=MAX_VALUE_BITS).contains(&value_bits) {
                    return wrong(format!("value_bits must be 2 to {MAX_VALUE_BITS}, not {value_bits}"));
                }
                if !(1e-30..=1e30).contains(&bound) {
                    return wrong(format!("the coordinate bound must be between 1e-30 and 1e30, not {bound}"));
                }
                ring / 2
            }
            SegmentKind::Counts { .. } => ring,
        };
        if u64::from(n) * u64::from(self.max_magnitude()) >= limit {
            return wrong(format!("{n} silos at the bound overflow a ring of {} bits", self.ring_bits));
        }
        Ok(())
    }
}

/// The smallest b with n·(2^(a−1)−1) < 2^(b−1); `None` where 32 bits do not suffice or a is outside 2..=24.
pub fn ring_bits_for(value_bits: u8, n: u16) -> Option<u8> {
    if !(2..=MAX_VALUE_BITS).contains(&value_bits) {
        return None;
    }
    let most = u64::from(n) * ((1u64 << (value_bits - 1)) - 1);
    (value_bits..=32).find(|&b| most < 1u64 << (b - 1))
}

/// Why parameters are refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParamsError {
    /// No segment, or too many.
    #[error("a session has 1 to {MAX_SEGMENTS} segments, not {0}")]
    Segments(usize),
    /// Something about one segment.
    #[error("segment {name:?}: {what}")]
    Segment {
        /// Name of the segment.
        name: String,
        /// What is wrong with it, overflow of its ring included (SA-10).
        what: String,
    },
    /// More coordinates than this version admits.
    #[error("the session has {0} coordinates, more than the {MAX_LANES} admitted")]
    TooLong(usize),
    /// A deadline of zero.
    #[error("the training and phase deadlines must be longer than zero")]
    Deadline,
    /// Quorum numbers.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
}

impl ParamsError {
    fn segment(name: &str, what: String) -> ParamsError {
        ParamsError::Segment { name: name.chars().take(64).collect(), what }
    }
}

/// What every silo checks a sum against before it signs the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifySum {
    /// Nothing: a coordinator that tells all silos the same false sum chooses their model.
    Off,
    /// Each survivor's signed subset sums of its masked input. Holds against a coordinator with which no survivor
    /// colludes: one that does may sign subset sums of an input that it never sent. A few kilobytes per silo.
    Sketches,
    /// Every survivor's masked input itself, against its signed hash. Holds against a coordinator and any number of
    /// colluding silos. As many masked inputs down to each silo as there are survivors.
    Inputs,
}

impl VerifySum {
    fn code(self) -> u64 {
        match self {
            VerifySum::Off => 0,
            VerifySum::Sketches => 1,
            VerifySum::Inputs => 2,
        }
    }
}

/// The parameters of a session, part of `ctx` through their hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Segments in the order of the vector.
    pub segments: Vec<Segment>,
    /// Quorums.
    pub quorum: Quorum,
    /// Whether silos add noise before encoding.
    pub noise: bool,
    /// What silos check a sum against before they sign its result (SA-16).
    pub verify_sum: VerifySum,
    /// Longest wait for local training, milliseconds.
    pub training_deadline_ms: u64,
    /// Longest wait for a phase of the session, milliseconds.
    pub phase_deadline_ms: u64,
}

impl Params {
    /// Checks everything: quorums, segments, size, deadlines, and SA-10 through [`Params::check_headroom`].
    ///
    /// # Errors
    /// [`ParamsError`] naming the segment or number at fault.
    pub fn check(&self) -> Result<(), ParamsError> {
        self.quorum.check()?;
        if !(1..=MAX_SEGMENTS).contains(&self.segments.len()) {
            return Err(ParamsError::Segments(self.segments.len()));
        }
        for (i, segment) in self.segments.iter().enumerate() {
            if self.segments[..i].iter().any(|s| s.name == segment.name) {
                return Err(ParamsError::segment(&segment.name, "the name occurs twice".into()));
            }
        }
        if self.lanes() > MAX_LANES {
            return Err(ParamsError::TooLong(self.lanes()));
        }
        if self.training_deadline_ms == 0 || self.phase_deadline_ms == 0 {
            return Err(ParamsError::Deadline);
        }
        self.check_headroom()
    }

    /// SA-10: proves for every segment that n silos at the bound cannot overflow its ring.
    ///
    /// # Errors
    /// [`ParamsError::Segment`] for the first segment that has no headroom or is malformed.
    pub fn check_headroom(&self) -> Result<(), ParamsError> {
        self.segments.iter().try_for_each(|s| s.check(self.quorum.n))
    }

    /// Hash of the parameters, with the names of the algorithms.
    pub fn hash(&self) -> Digest {
        let Quorum { n, c, t, q, m } = self.quorum;
        let mut hasher = Hasher::new(Label::Params).field(SUITE.as_bytes());
        for number in [n, c, t, q, m] {
            hasher = hasher.u64(u64::from(number));
        }
        hasher = hasher
            .u64(u64::from(self.noise))
            .u64(self.verify_sum.code())
            .u64(self.training_deadline_ms)
            .u64(self.phase_deadline_ms);
        hasher = hasher.u64(self.segments.len() as u64);
        for s in &self.segments {
            let (kind, a, b) = match s.kind {
                SegmentKind::FixedPoint { value_bits, bound } => (0, u64::from(value_bits), bound.to_bits()),
                SegmentKind::Counts { max_value } => (1, u64::from(max_value), 0),
            };
            hasher = hasher.field(s.name.as_bytes()).u64(u64::from(s.length)).u64(u64::from(s.ring_bits));
            hasher = hasher.u64(kind).u64(a).u64(b);
        }
        hasher.finish()
    }

    /// Number of coordinates, all segments together.
    pub fn lanes(&self) -> usize {
        self.segments.iter().map(|s| s.length as usize).sum()
    }

    /// Bytes of the packed vector.
    pub fn packed_bytes(&self) -> usize {
        self.segments.iter().map(Segment::packed_bytes).sum()
    }

    /// Each segment with its range of coordinates.
    pub fn ranges(&self) -> impl Iterator<Item = (&Segment, Range<usize>)> {
        self.segments.iter().scan(0, |start, s| {
            let range = *start..*start + s.length as usize;
            *start = range.end;
            Some((s, range))
        })
    }

    /// The segment of this name with its range of coordinates.
    pub fn range(&self, name: &str) -> Option<(&Segment, Range<usize>)> {
        self.ranges().find(|(s, _)| s.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn good() -> Params {
        Params {
            segments: vec![
                Segment::fixed_point("lora_B", 100, 16, 0.5, 16).unwrap(),
                Segment::counts("metrics", 5, 16),
            ],
            quorum: Quorum::derive(16, None, None).unwrap(),
            noise: true,
            verify_sum: VerifySum::Sketches,
            training_deadline_ms: 60_000,
            phase_deadline_ms: 10_000,
        }
    }

    fn with(change: impl FnOnce(&mut Params)) -> Params {
        let mut params = good();
        change(&mut params);
        params
    }

    #[test]
    fn sa10_ring_bits_are_those_of_the_protocol_page_and_the_smallest() {
        for (n, b) in [(3, 18), (4, 18), (16, 20), (17, 21), (128, 23), (1000, 26)] {
            assert_eq!(ring_bits_for(16, n), Some(b), "n = {n}");
        }
        for value_bits in 2..=24 {
            for n in 3..=1000u16 {
                let most = u64::from(n) * ((1 << (value_bits - 1)) - 1);
                match ring_bits_for(value_bits, n) {
                    Some(b) => assert!(most < 1 << (b - 1) && (b == value_bits || most >= 1 << (b - 2))),
                    None => assert!(most >= 1 << 31),
                }
            }
        }
        assert_eq!((ring_bits_for(1, 3), ring_bits_for(25, 3), ring_bits_for(255, 3)), (None, None, None));
    }

    #[test]
    fn sa10_parameters_without_headroom_or_sense_are_refused() {
        good().check().unwrap();
        let bits = |p: &mut Params, b: u8| p.segments[0].ring_bits = b;
        let kind = |p: &mut Params, value_bits, bound| {
            p.segments[0].kind = SegmentKind::FixedPoint { value_bits, bound };
        };
        let bad = [
            with(|p| bits(p, 19)),
            with(|p| bits(p, 0)),
            with(|p| bits(p, 33)),
            with(|p| bits(p, 255)),
            with(|p| kind(p, 17, 0.5)),
            with(|p| kind(p, 1, 0.5)),
            with(|p| kind(p, 25, 0.5)),
            with(|p| kind(p, 255, 0.5)),
            with(|p| kind(p, 16, 0.0)),
            with(|p| kind(p, 16, -1.0)),
            with(|p| kind(p, 16, f64::MIN_POSITIVE)),
            with(|p| kind(p, 16, f64::NAN)),
            with(|p| kind(p, 16, f64::INFINITY)),
            with(|p| p.segments[1].ring_bits = 31),
            with(|p| p.segments[1].kind = SegmentKind::Counts { max_value: 1 << 28 }),
            with(|p| p.segments[0].length = 0),
            with(|p| p.segments[0].length = u32::MAX),
            with(|p| p.segments[0].name = "metrics".into()),
            with(|p| p.segments[0].name = String::new()),
            with(|p| p.segments[0].name = "a b".into()),
            with(|p| p.segments.clear()),
            with(|p| p.segments = (0..17).map(|i| Segment::counts(format!("s{i}"), 1, 16)).collect()),
            with(|p| p.quorum.t -= 1),
            with(|p| p.phase_deadline_ms = 0),
            with(|p| p.training_deadline_ms = 0),
        ];
        for (i, params) in bad.iter().enumerate() {
            assert!(params.check().is_err(), "case {i} was accepted: {params:?}");
        }
        assert!(Segment::fixed_point("s", 1, 24, 1.0, 1000).is_err());
    }

    #[test]
    fn sa02_every_parameter_changes_the_hash() {
        let all = [
            good(),
            with(|p| p.segments[0].name = "other".into()),
            with(|p| p.segments[0].length += 1),
            with(|p| p.segments[0].ring_bits += 1),
            with(|p| p.segments[0].kind = SegmentKind::FixedPoint { value_bits: 15, bound: 0.5 }),
            with(|p| p.segments[0].kind = SegmentKind::FixedPoint { value_bits: 16, bound: 0.25 }),
            with(|p| p.segments[1].kind = SegmentKind::Counts { max_value: 7 }),
            with(|p| p.segments.swap(0, 1)),
            with(|p| p.quorum.m += 1),
            with(|p| p.quorum.c -= 1),
            with(|p| p.noise = false),
            with(|p| p.verify_sum = VerifySum::Off),
            with(|p| p.verify_sum = VerifySum::Inputs),
            with(|p| p.training_deadline_ms += 1),
            with(|p| p.phase_deadline_ms += 1),
        ];
        assert_eq!(all.iter().map(Params::hash).collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn ranges_follow_the_segments() {
        let p = good();
        assert_eq!((p.lanes(), p.packed_bytes()), (105, 250 + 20));
        assert_eq!(p.range("metrics").unwrap().1, 100..105);
        assert!(p.range("nothing").is_none());
    }

    #[test]
    fn four_silos_at_16_bits_send_at_most_2_4_bytes_per_coordinate() {
        let s = Segment::fixed_point("lora_B", 300_000, 16, 1.0, 4).unwrap();
        assert!(s.packed_bytes() as f64 / 300_000.0 <= 2.4);
    }
}
