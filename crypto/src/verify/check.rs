//! Every check of the protocol by name, with the invariants that it keeps.
//!
//! Contract: a condition on what a peer, the coordinator or an old file says goes through [`Check::finds`], so that a test
//! can switch it off and show what it was good for. Outside of tests the switch does not exist: it is a constant.
//! A lookup without which there is nothing to go on with (no key, no leaf, no plaintext) is no check in this sense.

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident [$($rule:literal),+],)*) => {
        /// One check, and the invariants that fall with it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check {
            $($(#[$doc])* $name,)*
        }

        impl Check {
            /// All of them.
            pub const ALL: &'static [Check] = &[$(Check::$name),*];

            /// The invariants that it keeps, the nearest one first.
            pub const fn rules(self) -> &'static [&'static str] {
                match self {
                    $(Check::$name => &[$($rule),+],)*
                }
            }
        }
    };
}

checks! {
    // P1, adverts
    /// An advert is signed by its silo under this context.
    AdvertSignature ["SA-01", "SA-02"],
    /// Advertised keys are canonical and not of low order.
    SoundKeys ["SA-01"],
    /// An exchange that gives zero is no secret.
    Contributory ["SA-01"],
    /// No key occurs twice in an attempt.
    DistinctKeys ["SA-01", "SA-15"],
    /// A silo's own advert is there as sent.
    OwnAdvert ["SA-01"],
    /// The quorums are those of this roster.
    QuorumOfRoster ["SA-01", "SA-08"],
    /// No peer's journal went backwards.
    JournalForward ["SA-07"],
    // lists of all phases
    /// A list of silos is long enough: at least m of them.
    AtLeastM ["SA-05"],
    /// A list of silos is no longer than the session can make it.
    AtMost ["SA-12"],
    /// No silo is counted twice in a list.
    DistinctSilos ["SA-05"],
    // P2, shares
    /// Checked adverts are used in their own session only.
    SameSession ["SA-02", "SA-15"],
    /// A share header is signed by its dealer under this T1.
    HeaderSignature ["SA-03"],
    /// Dealers are silos of U1.
    DealerAdvertised ["SA-05"],
    /// A silo's own share header is there as sent.
    OwnHeader ["SA-05"],
    /// A dealing has one pair for each silo of U1.
    DealingPairs ["SA-03"],
    /// A sealed bundle has the one admitted size.
    BundleSize ["SA-12"],
    /// Leaves and ciphertexts of a dealing lead to the signed root.
    DealingRoot ["SA-03"],
    /// A delivery is checked against its own dealer's header of this session.
    DeliveryHeader ["SA-03"],
    /// A delivered pair lies under the signed root at its recipient's place.
    DeliveryRoot ["SA-03"],
    /// The shares in a bundle open the signed leaves.
    DeliveryLeaves ["SA-03"],
    /// A complaint is about another silo's dealing in this attempt.
    ComplaintParties ["SA-03"],
    /// A complaint is signed by the complainer.
    ComplaintSignature ["SA-03"],
    // P3 and P4, masked inputs and survivors
    /// A packed vector has exactly the session's length.
    ExactLength ["SA-04", "SA-12"],
    /// Padding bits are zero, so that one vector has one encoding.
    ZeroPadding ["SA-04"],
    /// Whoever sends a masked input has dealt shares.
    MaskedDealt ["SA-05"],
    /// A masked input has the hash that its silo signed.
    MaskedHash ["SA-04"],
    /// The hash of a masked input is signed by its silo under this bind.
    MaskedSignature ["SA-04"],
    /// A silo's own masked input is in the list that it votes for.
    OwnMasked ["SA-04"],
    // P4 to P6, votes
    /// COMMIT counts only from survivors of the list.
    CommitBySurvivor ["SA-08"],
    /// A COMMIT vote is signed by its silo over this T3.
    CommitSignature ["SA-08"],
    /// An ABANDON vote is signed by its silo for this attempt.
    AbandonSignature ["SA-13"],
    /// A RESULT vote is signed by its silo over both hashes.
    ResultSignature ["SA-14"],
    /// A commit certificate has at least q votes, each of another silo.
    CommitQuorum ["SA-08"],
    /// So has an abandon certificate.
    AbandonQuorum ["SA-13"],
    /// So has a result certificate.
    ResultQuorum ["SA-14"],
    /// A certificate releases only the reply to its own list.
    OwnList ["SA-08"],
    // P5, reveal
    /// Only survivors reveal.
    RevealBySurvivor ["SA-05"],
    /// A reply is signed by its holder.
    RevealSignature ["SA-09"],
    /// One share of each peer in a reply.
    RevealedOnce ["SA-06"],
    /// b-shares of survivors, s-shares of dropped silos.
    RevealKind ["SA-06"],
    /// A revealed share opens the leaf that its dealer signed.
    RevealLeaf ["SA-09"],
    /// A rebuilt b is the one that its dealer committed to.
    SelfSecret ["SA-09"],
    /// A rebuilt σ is that of the advertised mask key.
    MaskSecret ["SA-09"],
    /// One secret is opened for each dealer.
    OpenedSecrets ["SA-09"],
    // P6, the sum
    /// Sketches count only from survivors.
    SketchBySurvivor ["SA-16"],
    /// A sketch has as many subset sums as the session.
    SketchSize ["SA-16", "SA-12"],
    /// A subset sum lies inside its ring.
    SketchRing ["SA-16"],
    /// A sketch is signed by its silo for this sum.
    SketchSignature ["SA-16"],
    /// Every survivor's masked input is accounted for exactly once.
    SumAccounted ["SA-16"],
    /// Where masked inputs are to be shown, no sketch stands in for one.
    InputsShown ["SA-16"],
    /// A masked input shown instead of a sketch has the signed hash.
    OpenedHash ["SA-16"],
    /// The subset sums of S and the masks are those of the survivors.
    SumRows ["SA-16"],
    // parameters
    /// n silos at the bound stay inside the ring.
    Headroom ["SA-10"],
    // P0 at a silo
    /// The round opened is the one after the results held.
    OpenRound ["SA-07", "SA-13"],
    /// A round whose result was adopted is not joined again.
    AdoptedRound ["SA-13"],
    /// Every field of the opening is this silo's own.
    OwnContext ["SA-02", "SA-14"],
    /// The attempt is above all earlier ones.
    AttemptAbove ["SA-07"],
    /// An earlier attempt with a masked input is proven abandoned, or nothing of it goes out again.
    AbandonProof ["SA-13"],
    /// Without that proof a private silo sends a fresh update.
    FreshUpdate ["SA-13"],
    /// Held-out counts are sent by all silos of an attempt, or by none.
    CountsAgreed ["SA-13"],
    // a silo's journal
    /// A journal begins, once, with whose it is.
    JournalOwner ["SA-07"],
    /// A journaled attempt is above all earlier ones.
    JournalJoined ["SA-07"],
    /// A masked input goes out only in the attempt joined last.
    JournalMasked ["SA-07"],
    /// One masked input per attempt, and none after the vote.
    JournalMaskedOnce ["SA-07", "SA-04"],
    /// One vote per attempt.
    JournalVote ["SA-07"],
    /// COMMIT only where a masked input went out.
    JournalCommit ["SA-07"],
    /// One result signed per round.
    JournalResult ["SA-07", "SA-14"],
    /// The journal is that of this job, roster and silo.
    OwnJournal ["SA-07"],
    /// The kept adapter is the one that the journal names.
    HeldAdapter ["SA-14"],
    // votes of a silo
    /// No ABANDON after a vote.
    AbandonUncommitted ["SA-07"],
    /// ABANDON only for attempts whose opening this process received.
    AbandonSeen ["SA-07"],
    // results at a silo
    /// The result is that of the list voted for.
    ResultOwnList ["SA-08"],
    /// A sum without q RESULT votes comes with its proof.
    ProofRequired ["SA-16"],
    /// The proof of a sum is of the session that the result names.
    ProofSession ["SA-16"],
    /// The canary counts the survivors.
    Canary ["SA-16", "SA-05"],
    /// A silo signs one result per round.
    OneResult ["SA-14", "SA-07"],
    /// What is handed back belongs to the list voted for.
    BackList ["SA-04"],
    /// What is handed back is this silo's own masked input.
    BackHash ["SA-04"],
    /// One sum per attempt gets a sketch.
    OneSum ["SA-16"],
    // the coordinator
    /// A message comes from the silo that it names.
    SameSender ["SA-01"],
    /// A second message of a kind repeats the first.
    OneMessage ["SA-07"],
    /// COMMIT or ABANDON, never both.
    OneVote ["SA-07"],
    /// More than c complaints convict a dealer.
    ComplaintsConvict ["SA-03"],
    /// At least t survivors hold good shares of every dealer.
    EnoughGoodShares ["SA-09"],
    /// A silo that says Hello pinned this roster.
    HelloRoster ["SA-01"],
    /// A silo that says Hello was given this job.
    HelloJob ["SA-02"],
    /// A silo that says Hello holds results of this job's history.
    HelloHistory ["SA-14"],
    // evidence
    /// Evidence is about a session of this roster.
    EvidenceRoster ["SA-01"],
    /// Evidence is about a session of this job, and of these rules.
    EvidenceSession ["SA-02"],
    /// Every message in it is signed by the silo that it convicts.
    EvidenceSignature ["SA-07"],
    /// Two messages that contradict each other are one silo's.
    EvidenceSigner ["SA-07"],
    /// A message and its repetition are no contradiction.
    EvidenceDiffers ["SA-07"],
    /// Sketches for two sums are no contradiction.
    EvidenceOneSum ["SA-16"],
    /// A reply that has the form that its list implies is not at fault for it.
    EvidenceForm ["SA-06"],
    /// A pair lies under its dealer's root at its recipient's place.
    EvidencePlace ["SA-03"],
    /// A share that opens its leaf is the one dealt; one that does not is none of the dealer's.
    EvidenceLeaf ["SA-09"],
    /// Shares that rebuild the right secret are right.
    EvidenceSecret ["SA-09"],
    /// More than c complaints, of different silos, convict a dealer.
    EvidenceComplaints ["SA-03"],
    /// A sketch is checked under the session's own parameters.
    EvidenceParams ["SA-02", "SA-12"],
    /// A sketch is checked against the masked input that was signed.
    EvidenceInput ["SA-04"],
    /// A sketch that is that of the masked input is right.
    EvidenceSketch ["SA-16"],
    // bytes
    /// A message is no longer than its kind can be in this job.
    FrameLength ["SA-12"],
    /// A payload has the length that its round implies.
    PayloadLength ["SA-12", "SA-04"],
    /// No more masked inputs travel beside a sum than n − q.
    MostOpened ["SA-12"],
}

impl Check {
    /// The invariant that falls first with it, for example `SA-05`.
    pub const fn rule(self) -> &'static str {
        self.rules()[0]
    }

    /// Whether this check stops what has a fault: always, except where a test has switched it off for its thread.
    #[must_use]
    #[inline]
    pub fn finds(self, fault: bool) -> bool {
        fault && on(self)
    }
}

#[cfg(any(test, feature = "teeth"))]
use crate::teeth::on;

/// In programs every check is on.
#[cfg(not(any(test, feature = "teeth")))]
const fn on(_: Check) -> bool {
    true
}
