//! Evidence: what a silo signed, put together so that it proves to anybody who holds the roster and the job that this silo
//! broke the protocol.
//!
//! | fault | proven by | what its readers learn |
//! |---|---|---|
//! | two different messages of one kind, or COMMIT and ABANDON | both signatures | for two replies: the shares in both |
//! | a reply that is not the one that was dealt | reply, transcript, the leaf under the dealer's root | one share of each secret |
//! | dealt off the polynomial or the commitment | t shares under the dealer's root | t shares of a wrong secret |
//! | complained about by more silos than collude | the complaints | nothing |
//! | subset sums of something else | sketch, signed hash, masked input | the masked input, masks on |
//!
//! Contract: every fault names one silo, and every item that convicts it is signed by that very silo or lies under a root
//! that it signed (complaints: by more silos than can collude), so that neither the coordinator nor colluding silos can make
//! evidence against a silo that kept to the protocol. Nothing in here was secret to the coordinator that holds it: shares
//! come from replies that were revealed to it. All evidence of a session together gives its readers at most the secrets that
//! the proof of a sum opens to every silo ([`crate::SumProof`]), never both secrets of one silo. Good for nothing until
//! [`crate::verify::evidence`] has named the silo at fault.

use crate::advert::Advert;
use crate::commit::{AbandonVote, CommitVote, SurvivorList};
use crate::complaint::Complaint;
use crate::context::Context;
use crate::hash::Digest;
use crate::identity::SiloId;
use crate::masked::MaskedHeader;
use crate::params::Params;
use crate::result::ResultVote;
use crate::reveal::{Reveal, RevealedShare};
use crate::share::{PairLeaves, ShareHeader, ShareKind, ShareOpening};
use crate::sketch::Sketch;
use crate::verify::{VerifiedAdverts, VerifiedDealing, VerifiedHeaders, VerifiedList};
use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A fault with the session in which it happened. Unverified until [`crate::verify::evidence`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What every signature in it is bound to.
    pub context: Context,
    /// The proof.
    pub fault: Fault,
}

/// What proves a silo at fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    /// Two different adverts (SA-07).
    TwoAdverts(Box<[Advert; 2]>),
    /// Two different share headers, each under a T1 (SA-07).
    TwoHeaders(Box<[Over<ShareHeader>; 2]>),
    /// Two different masked inputs, each under a bind (SA-07).
    TwoMaskedInputs(Box<[Over<MaskedHeader>; 2]>),
    /// COMMIT to two survivor lists, each a T3 (SA-07).
    TwoCommits(Box<[Over<CommitVote>; 2]>),
    /// Both votes (SA-07).
    CommitAndAbandon {
        /// COMMIT(T3).
        commit: Over<CommitVote>,
        /// ABANDON.
        abandon: AbandonVote,
    },
    /// Two different replies, each under a T3 (SA-07).
    TwoReveals(Box<[Over<Reveal>; 2]>),
    /// Two different sketches of one masked input for one sum, or sketches under two survivor lists (SA-16).
    TwoSketches(Box<[SumSketch; 2]>),
    /// RESULT votes for two results (SA-07).
    TwoResults(Box<[SignedResult; 2]>),
    /// A reply that is not the one that its survivor list implies.
    BadReveal(Box<BadReveal>),
    /// Shares that rebuild another secret than the one committed to or advertised.
    OffPolynomial(Box<OffPolynomial>),
    /// More complaints than there can be colluders.
    Complaints(Box<Complaints>),
    /// A sketch that is not that of the masked input.
    FalseSketch(Box<FalseSketch>),
}

/// A message with the digest that its signature covers besides its own fields: T1, bind or T3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over<T> {
    /// The digest.
    pub over: Digest,
    /// The message.
    pub message: T,
}

/// A sketch with what its signature covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SumSketch {
    /// T3.
    pub t3: Digest,
    /// H(S).
    pub sum_hash: Digest,
    /// The sketch.
    pub sketch: Sketch,
}

/// A RESULT vote with what it was given for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedResult {
    /// The result hash.
    pub result_hash: Digest,
    /// Hash of the global adapter after the round.
    pub next_model_hash: Digest,
    /// The vote.
    pub vote: ResultVote,
}

/// What a dealer signed for one recipient, with the siblings up to its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedPair {
    /// The recipient's leaves.
    pub leaves: PairLeaves,
    /// Hash of the sealed bundle.
    pub ciphertext: Digest,
    /// Siblings from the pair up to the root.
    pub path: Vec<Digest>,
}

/// A session up to P4, whole, so that T1, T2, bind and T3 follow from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// U1, ascending.
    pub adverts: Vec<Advert>,
    /// U2, ascending.
    pub headers: Vec<ShareHeader>,
    /// U3.
    pub list: SurvivorList,
}

/// A reply whose signature covers T3, and through it every root that its holder checked its shares against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadReveal {
    /// The session as the holder committed to it: a dealer that signed two headers cannot blame the holder of one of them.
    pub transcript: Transcript,
    /// The reply.
    pub reveal: Reveal,
    /// The share that is not the one dealt; none where the reply's form is already wrong.
    pub dealt: Option<Dealt>,
}

/// Which share of a reply is wrong, and what was dealt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dealt {
    /// Whose share.
    pub dealer: SiloId,
    /// What it signed for the holder.
    pub pair: SignedPair,
}

/// t shares of one secret, all under the dealer's root. Whoever brings them, an honest dealer's rebuild its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffPolynomial {
    /// U1, ascending: T1, and the dealer's mask key.
    pub adverts: Vec<Advert>,
    /// The dealer's root and H(b).
    pub header: ShareHeader,
    /// Which secret.
    pub kind: ShareKind,
    /// Exactly t, ascending by holder.
    pub shares: Vec<HeldShare>,
}

/// One holder's share, with the place under the root that it opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldShare {
    /// The holder.
    pub holder: SiloId,
    /// Share and nonce.
    pub opening: ShareOpening,
    /// What the dealer signed for the holder.
    pub pair: SignedPair,
}

/// Complaints about one header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaints {
    /// U1, ascending.
    pub adverts: Vec<Advert>,
    /// The dealer's header.
    pub header: ShareHeader,
    /// More than c, ascending by complainer.
    pub complaints: Vec<Complaint>,
}

/// A sketch beside the masked input that it should be of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FalseSketch {
    /// The session's parameters; `ctx` holds their hash.
    pub params: Params,
    /// The signed hash of the masked input, under its bind.
    pub header: Over<MaskedHeader>,
    /// y, packed.
    pub masked: PackedInput,
    /// The sketch.
    pub sketch: SumSketch,
}

/// A packed vector: hex in text formats, raw bytes on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct PackedInput(pub Vec<u8>);

impl fmt::Debug for PackedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedInput({} bytes)", self.0.len())
    }
}

impl Serialize for PackedInput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.serialize_str(&hex::encode(&self.0)),
            false => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for PackedInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PackedInput, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return hex::decode(text).map(PackedInput).map_err(de::Error::custom);
        }
        // the wire writes `serialize_bytes` and a sequence of bytes alike
        Vec::deserialize(deserializer).map(PackedInput)
    }
}

impl Fault {
    /// A closed-set name, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::TwoAdverts(_) => "two-adverts",
            Fault::TwoHeaders(_) => "two-share-headers",
            Fault::TwoMaskedInputs(_) => "two-masked-inputs",
            Fault::TwoCommits(_) => "two-commits",
            Fault::CommitAndAbandon { .. } => "commit-and-abandon",
            Fault::TwoReveals(_) => "two-reveals",
            Fault::TwoSketches(_) => "two-sketches",
            Fault::TwoResults(_) => "two-results",
            Fault::BadReveal(_) => "bad-reveal",
            Fault::OffPolynomial(_) => "off-polynomial",
            Fault::Complaints(_) => "complaints",
            Fault::FalseSketch(_) => "false-sketch",
        }
    }

    /// What a holder of the whole session can show about a reply that [`crate::verify::reveal`] refused.
    pub fn bad_reveal(
        reveal: &Reveal,
        adverts: &VerifiedAdverts,
        headers: &VerifiedHeaders,
        list: &VerifiedList,
        dealings: &BTreeMap<SiloId, VerifiedDealing>,
    ) -> Fault {
        let transcript = Transcript {
            adverts: adverts.adverts().to_vec(),
            headers: headers.headers().to_vec(),
            list: list.list().clone(),
        };
        let t1 = adverts.t1();
        let well_formed = is_well_formed(reveal, list);
        let wrong = |share: &&RevealedShare| {
            let (dealer, kind) = (share.peer(), share.kind());
            let dealt = dealings.get(&dealer).and_then(|d| d.leaves(reveal.silo));
            dealt.is_some_and(|dealt| dealt.of(kind) != share.opening().leaf(&t1, dealer, reveal.silo, kind))
        };
        let dealer = reveal.shares.iter().find(wrong).map(RevealedShare::peer).filter(|_| well_formed);
        let dealt = dealer.and_then(|dealer| {
            let pair = dealings.get(&dealer)?.signed_pair(reveal.silo)?;
            Some(Dealt { dealer, pair })
        });
        Fault::BadReveal(Box::new(BadReveal { transcript, reveal: reveal.clone(), dealt }))
    }

    /// What the replies show about a dealer whose secret could not be rebuilt from the first t of them (in order of
    /// holder); none where fewer have a share of it.
    pub fn off_polynomial<'a>(
        adverts: &VerifiedAdverts,
        dealing: &VerifiedDealing,
        replies: impl IntoIterator<Item = &'a Reveal>,
        t: u16,
    ) -> Option<Fault> {
        let dealer = dealing.dealer();
        let held = replies.into_iter().filter_map(|reply| {
            let share = reply.shares.iter().find(|share| share.peer() == dealer)?;
            let pair = dealing.signed_pair(reply.silo)?;
            // a reply that was found bad counts for nothing
            let leaf = share.opening().leaf(&adverts.t1(), dealer, reply.silo, share.kind());
            let opening = (leaf == pair.leaves.of(share.kind())).then(|| share.opening().clone())?;
            Some((share.kind(), HeldShare { holder: reply.silo, opening, pair }))
        });
        let held: Vec<(ShareKind, HeldShare)> = held.take(usize::from(t)).collect();
        let kind = held.first().map(|(kind, _)| *kind)?;
        let shares: Vec<HeldShare> = held.into_iter().filter(|(k, _)| *k == kind).map(|(_, share)| share).collect();
        if shares.len() < usize::from(t) {
            return None;
        }
        let header = dealing.header().header().clone();
        let adverts = adverts.adverts().to_vec();
        Some(Fault::OffPolynomial(Box::new(OffPolynomial { adverts, header, kind, shares })))
    }
}

/// SA-05, SA-06: whether a reply has the form that its survivor list implies: a survivor's, dealers ascending, b-shares of
/// survivors and s-shares of dropped silos only.
pub(crate) fn is_well_formed(reveal: &Reveal, list: &VerifiedList) -> bool {
    let implied = |share: &RevealedShare| {
        let side = match share.kind() {
            ShareKind::SelfMask => list.survivors(),
            ShareKind::MaskSecret => list.dropped(),
        };
        side.binary_search(&share.peer()).is_ok()
    };
    list.survivors().binary_search(&reveal.silo).is_ok()
        && reveal.shares.windows(2).all(|pair| pair[0].peer() < pair[1].peer())
        && reveal.shares.iter().all(implied)
}
