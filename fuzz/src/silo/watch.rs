//! What must hold of everything that one silo puts out, restarts included, whatever it was told.

use std::collections::{BTreeMap, BTreeSet};

use blindsum_crypto::share::ShareKind;
use blindsum_crypto::verify::{self, Rules};
use blindsum_crypto::{SiloId, SurvivorList};
use blindsum_protocol::limits::Wire;
use blindsum_protocol::message::Open;
use blindsum_protocol::silo::{JournalEntry, SiloEvent, SiloOutput};
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, SiloMessage, codec};

use crate::world::{Chain, World};

/// Everything remembered about one silo.
pub struct Watch {
    world: &'static World,
    me: SiloId,
    /// The first message of each kind and attempt: any later one is the same.
    once: BTreeMap<(AttemptId, &'static str), Vec<u8>>,
    /// Sketches of this process, by attempt.
    sketches: BTreeMap<AttemptId, Vec<u8>>,
    /// Results signed, by round.
    results: BTreeMap<u32, Vec<u8>>,
    /// Kinds of share released, by attempt and dealer.
    kinds: BTreeMap<(AttemptId, SiloId), BTreeSet<ShareKind>>,
    /// Votes in the journal.
    committed: BTreeSet<AttemptId>,
    abandoned: BTreeSet<AttemptId>,
    joined: BTreeSet<AttemptId>,
    signed: BTreeSet<u32>,
    /// Attempts in which y went out.
    masked: Vec<AttemptId>,
    /// Attempts left without a vote.
    left: BTreeSet<AttemptId>,
    /// The last opening received, and those that were joined.
    opening: Option<Open>,
    openings: BTreeMap<AttemptId, Open>,
    lists: Vec<(AttemptId, SurvivorList)>,
    adopted: u32,
    finished: bool,
    forked: bool,
}

impl Watch {
    pub fn new(world: &'static World, me: SiloId) -> Watch {
        Watch {
            world,
            me,
            once: BTreeMap::new(),
            sketches: BTreeMap::new(),
            results: BTreeMap::new(),
            kinds: BTreeMap::new(),
            committed: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            joined: BTreeSet::new(),
            signed: BTreeSet::new(),
            masked: Vec::new(),
            left: BTreeSet::new(),
            opening: None,
            openings: BTreeMap::new(),
            lists: Vec::new(),
            adopted: 0,
            finished: false,
            forked: false,
        }
    }

    pub fn received(&mut self, envelope: &Envelope<CoordinatorMessage>) {
        match &envelope.message {
            CoordinatorMessage::Open(open) => self.opening = Some(open.clone()),
            CoordinatorMessage::CommitRequest { at, list } => self.lists.push((*at, list.clone())),
            _ => {}
        }
    }

    pub fn restarted(&mut self) {
        self.finished = false;
        self.sketches.clear();
        // what it left unfinished is over with its process; a COMMIT vote alone is taken up again
        self.left.extend(self.joined.difference(&self.committed));
        // an adapter that was lost is adopted again
        self.adopted = 0;
    }

    /// Whether it was shown two certified results of one round.
    pub fn has_forked(&self) -> bool {
        self.forked
    }

    pub fn output(&mut self, output: &SiloOutput) {
        match output {
            SiloOutput::Send(envelope) => self.sent(envelope),
            SiloOutput::Journal(entry) => self.journaled(entry),
            SiloOutput::Event(SiloEvent::Left(at, _)) => {
                self.left.insert(*at);
            }
            SiloOutput::Event(SiloEvent::Forked(_)) => self.forked = true,
            SiloOutput::Event(event @ SiloEvent::Restored(..)) => panic!("its journal was never restored: {event}"),
            SiloOutput::Adopt(adoption) => {
                assert!(adoption.at.round > self.adopted, "a round adopted twice by one process");
                self.adopted = adoption.at.round;
                assert!(adoption.at.round <= self.world.plan().last_round());
            }
            SiloOutput::Finished => {
                assert!(!std::mem::replace(&mut self.finished, true), "finished twice");
            }
            SiloOutput::Train(request) => {
                let chain = Chain::start(self.world);
                assert_eq!(request.global.len(), chain.global.len());
            }
            SiloOutput::Event(_) | SiloOutput::Disconnect(_) | SiloOutput::Work(_) => {}
        }
    }

    fn journaled(&mut self, entry: &JournalEntry) {
        let bytes = codec::encode(entry).unwrap();
        assert_eq!(&codec::decode::<JournalEntry>(&bytes, 1 << 20).unwrap(), entry);
        match entry {
            JournalEntry::Joined { at } => {
                assert!(self.joined.insert(*at), "SA-07: {at} joined twice");
                assert!(self.joined.last() == Some(at), "SA-07: {at} is not the newest");
                if let Some(open) = self.opening.clone() {
                    self.openings.insert(*at, open);
                }
            }
            JournalEntry::Masked { at } => {
                self.may_mask(*at);
                self.masked.push(*at);
            }
            JournalEntry::Committed { at, .. } => {
                assert!(self.committed.insert(*at) && !self.abandoned.contains(at), "SA-07: {at} voted on twice");
                assert!(self.masked.contains(at), "committed without a masked input");
            }
            JournalEntry::Abandoned { at, .. } => {
                assert!(self.abandoned.insert(*at) && !self.committed.contains(at), "SA-07: {at} voted on twice");
            }
            JournalEntry::Result { at, .. } => {
                assert!(self.signed.insert(at.round), "two results of round {} signed", at.round);
            }
            _ => {}
        }
    }

    /// SA-13: an update goes out again only against q ABANDON votes for each earlier attempt it may have gone out in, or
    /// under fresh noise.
    fn may_mask(&self, at: AttemptId) {
        let kind = self.world.plan().kind(at.round).unwrap();
        if kind.trains() && self.world.plan().job().is_private() {
            return;
        }
        let open = &self.openings[&at];
        for earlier in self.masked.iter().filter(|a| a.round == at.round && **a != at) {
            let proof = open.abandoned.iter().find(|p| p.attempt == earlier.attempt);
            let proof = proof.unwrap_or_else(|| panic!("SA-13: {at} masks what went out in {earlier} without proof"));
            let mut context = open.context.clone();
            context.attempt = earlier.attempt;
            let ctx = context.digest();
            let quorum = &self.world.plan().params(kind).quorum;
            let rules = Rules { roster: &self.world.setup.roster, ctx: &ctx, quorum };
            verify::abandon_certificate(&rules, &proof.certificate).expect("SA-13: the proof is none");
        }
    }

    fn sent(&mut self, envelope: &Envelope<SiloMessage>) {
        let message = &envelope.message;
        let bytes = codec::encode(message).unwrap();
        assert!(bytes.len() <= SiloMessage::max_len(&self.world.limits), "SA-12: a message of {} bytes", bytes.len());
        assert_eq!(&SiloMessage::decode(&bytes, &self.world.limits).unwrap(), message);
        envelope.check_payload(&self.world.limits).expect("an own payload has its length");
        let Some(at) = message.at() else { return };
        match message {
            SiloMessage::Decline { .. } | SiloMessage::Complaint { .. } => return,
            SiloMessage::Sketch { sketch: None, .. } => return,
            SiloMessage::Sketch { sketch: Some(_), .. } => {
                assert!(self.committed.contains(&at), "SA-16: subset sums without a COMMIT");
                let first = self.sketches.entry(at).or_insert_with(|| bytes.clone());
                assert_eq!(*first, bytes, "SA-16: subset sums for two sums of {at}");
                return;
            }
            SiloMessage::Commit { .. } => assert!(self.committed.contains(&at), "COMMIT sent before it was journaled"),
            SiloMessage::Abandon { .. } => assert!(self.abandoned.contains(&at), "ABANDON before it was journaled"),
            SiloMessage::Advert { .. } => assert!(self.joined.contains(&at), "advertised before it was journaled"),
            SiloMessage::MaskedInput { .. } => assert!(self.masked.contains(&at), "y sent before it was journaled"),
            SiloMessage::Reveal { reveal, .. } => {
                assert!(self.committed.contains(&at), "SA-08: revealed without a COMMIT");
                assert!(!self.abandoned.contains(&at));
                for share in &reveal.shares {
                    let seen = self.kinds.entry((at, share.peer())).or_default();
                    seen.insert(share.kind());
                    assert_eq!(seen.len(), 1, "SA-06: both shares of silo {} released in {at}", share.peer());
                }
                let own = reveal.shares.iter().filter(|s| s.peer() == self.me);
                assert!(own.into_iter().all(|s| s.kind() == ShareKind::SelfMask), "its own σ");
            }
            SiloMessage::ResultVote { vote, .. } => {
                assert!(self.signed.contains(&at.round), "a result signed before it was journaled");
                let bytes = codec::encode(vote).unwrap();
                let first = self.results.entry(at.round).or_insert_with(|| bytes.clone());
                assert_eq!(*first, bytes, "two results of round {} signed", at.round);
                return;
            }
            _ => {}
        }
        let early = matches!(message.name(), "advert" | "shares" | "masked-input" | "commit" | "reveal");
        assert!(!(early && self.left.contains(&at)), "{} of {at} sent after leaving it", message.name());
        let first = self.once.entry((at, message.name())).or_insert_with(|| bytes.clone());
        assert_eq!(*first, bytes, "SA-07: two different {}s in {at}", message.name());
    }
}
