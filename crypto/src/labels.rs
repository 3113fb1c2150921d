//! Every domain-separation label of the protocol, each with the attack that it stops.
//!
//! Contract: no two labels share a string, no string is ever given a second meaning, and a change of what a label covers
//! changes the version in its string.

/// What a hash, signature or derived key is for. It is the first field of every hash ([`crate::Hasher`]), so that a value
/// made for one purpose can never be passed off as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Label {
    /// Hash of a roster. Without it a roster file crafted to look like another structure could share its hash.
    Roster,
    /// Hash of the session's parameters: stops looser parameters from passing for the job's.
    Params,
    /// Hash of a job's contract: stops a job file from passing for another hashed structure.
    Job,
    /// Hash of a global adapter, for services that hash models through this crate.
    Model,
    /// `ctx`: stops messages of one federation, roster, job, round, attempt or model from counting in another.
    Context,
    /// Signature on key advertisements: stops a coordinator from swapping a silo's keys for its own.
    Advert,
    /// `T1`: stops a coordinator from showing different sets of keys to different silos.
    T1,
    /// Leaf over one share: stops a holder from revealing another share than the one that it was dealt, and a share of
    /// one kind, dealer or holder from passing for another.
    Leaf,
    /// Hash over what one recipient gets (both leaves, ciphertext): stops pairs from being swapped under one root.
    Pair,
    /// Inner node of the tree of pairs: stops an inner node from passing for a pair (second preimage of a Merkle tree).
    Node,
    /// Hash of a sealed bundle: stops a coordinator from altering a ciphertext and blaming its dealer.
    Ciphertext,
    /// Commitment to the self-mask secret `b`: stops a dealer from sharing another `b` than the one that it masked with.
    SelfCommitment,
    /// Signature on a share header: stops a coordinator from inventing leaves for a silo.
    ShareHeader,
    /// Signature on a complaint: stops a coordinator from complaining in a silo's name to make dealers open shares.
    Complaint,
    /// `T2`: stops a coordinator from showing different share headers to different silos.
    T2,
    /// `bind`: ties every mask to the whole transcript up to P2, the model included (SA-14).
    Bind,
    /// Hash of a masked input: stops the same bytes in another role (a sum) from matching.
    MaskedInput,
    /// Signature on a masked input's hash: stops a coordinator from replacing a masked input.
    Masked,
    /// `T3`: the survivor list on which a silo votes; stops two lists from passing for one.
    T3,
    /// COMMIT vote: stops any other signature from releasing shares.
    Commit,
    /// ABANDON vote: stops a COMMIT, or an ABANDON of another attempt, from allowing a retry.
    Abandon,
    /// Hash over the shares of a reply: stops it from passing for a signed reply.
    RevealedShares,
    /// Signature on a reply: stops a coordinator from blaming a silo for shares that it never
    /// revealed, so that a bad reply convicts its sender.
    Reveal,
    /// Hash of the packed sum: stops a masked input from passing for the sum.
    Sum,
    /// Key of the rows against which a sum is checked: stops a sum from being fitted to rows that were known before it.
    Rows,
    /// Hash over subset sums: stops it from passing for a signed sketch.
    SketchValues,
    /// Signature on subset sums: stops a coordinator from inventing subset sums that fit a false sum.
    Sketch,
    /// `result_hash`: stops a sum of one survivor list from being attached to another.
    ResultHash,
    /// RESULT vote: stops a model that no quorum computed from entering the chain.
    Result,
    /// HKDF info of the key that seals a share bundle: keeps it apart from mask seeds made by the same exchange.
    ShareKey,
    /// HKDF info of the mask secret made from σ: a rebuilt σ gives this attempt's mask secret and nothing else.
    MaskSecret,
    /// HKDF info of a pair's mask seed: keeps it apart from share keys and self seeds.
    PairSeed,
    /// HKDF info of a self-mask seed: keeps it apart from pair seeds.
    SelfSeed,
    /// Associated data of a sealed bundle: stops replay to another recipient or session (SA-03).
    BundleAad,
    /// Link of a silo's journal: stops a journal from being rewritten behind a head that peers have seen (SA-07).
    Journal,
}

impl Label {
    /// The label as hashed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Label::Roster => "blindsum/1/roster",
            Label::Params => "blindsum/1/params",
            Label::Job => "blindsum/1/job",
            Label::Model => "blindsum/1/model",
            Label::Context => "blindsum/1/ctx",
            Label::Advert => "blindsum/1/advert",
            Label::T1 => "blindsum/1/t1",
            Label::Leaf => "blindsum/1/leaf",
            Label::Pair => "blindsum/1/pair",
            Label::Node => "blindsum/1/node",
            Label::Ciphertext => "blindsum/1/ciphertext",
            Label::SelfCommitment => "blindsum/1/self-commitment",
            Label::ShareHeader => "blindsum/1/share-header",
            Label::Complaint => "blindsum/1/complaint",
            Label::T2 => "blindsum/1/t2",
            Label::Bind => "blindsum/1/bind",
            Label::MaskedInput => "blindsum/1/masked-input",
            Label::Masked => "blindsum/1/masked",
            Label::T3 => "blindsum/1/t3",
            Label::Commit => "blindsum/1/commit",
            Label::Abandon => "blindsum/1/abandon",
            Label::RevealedShares => "blindsum/1/revealed-shares",
            Label::Reveal => "blindsum/1/reveal",
            Label::Sum => "blindsum/1/sum",
            Label::Rows => "blindsum/1/rows",
            Label::SketchValues => "blindsum/1/sketch-values",
            Label::Sketch => "blindsum/1/sketch",
            Label::ResultHash => "blindsum/1/result-hash",
            Label::Result => "blindsum/1/result",
            Label::ShareKey => "blindsum/1/share-key",
            Label::MaskSecret => "blindsum/1/mask-secret",
            Label::PairSeed => "blindsum/1/pair-seed",
            Label::SelfSeed => "blindsum/1/self-seed",
            Label::BundleAad => "blindsum/1/bundle-aad",
            Label::Journal => "blindsum/1/journal",
        }
    }

    /// All labels.
    pub const ALL: [Label; 35] = [
        Label::Roster,
        Label::Params,
        Label::Job,
        Label::Model,
        Label::Context,
        Label::Advert,
        Label::T1,
        Label::Leaf,
        Label::Pair,
        Label::Node,
        Label::Ciphertext,
        Label::SelfCommitment,
        Label::ShareHeader,
        Label::Complaint,
        Label::T2,
        Label::Bind,
        Label::MaskedInput,
        Label::Masked,
        Label::T3,
        Label::Commit,
        Label::Abandon,
        Label::RevealedShares,
        Label::Reveal,
        Label::Sum,
        Label::Rows,
        Label::SketchValues,
        Label::Sketch,
        Label::ResultHash,
        Label::Result,
        Label::ShareKey,
        Label::MaskSecret,
        Label::PairSeed,
        Label::SelfSeed,
        Label::BundleAad,
        Label::Journal,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn sa02_no_two_labels_share_a_string() {
        let strings: BTreeSet<_> = Label::ALL.iter().map(|l| l.as_str()).collect();
        assert_eq!(strings.len(), Label::ALL.len());
        assert!(strings.iter().all(|s| s.starts_with("blindsum/1/")));
    }
}
