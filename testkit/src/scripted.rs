//! A silo scripted from its keys up: takes part in one attempt like an honest one, except in how it deals its shares.

use std::collections::BTreeSet;
use std::sync::Arc;

use blindsum_crypto::advert::SessionSecrets;
use blindsum_crypto::share::{self, HeldShares};
use blindsum_crypto::verify::{self, Rules, VerifiedAdverts, VerifiedHeaders};
use blindsum_crypto::{
    Advert, CommitVote, Dealing, Digest, Hasher, JournalMark, Label, MaskedHeader, PendingReveal, Reveal, SiloId, mask,
    masked, packing,
};
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, HeldOutCounts, SiloMessage};

use crate::checks::plain_lanes;
use crate::mind::Mind;
use crate::ops::Op;

type Up = Envelope<SiloMessage>;

/// How a dealer breaks the rules under its own signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misdealing {
    /// Its polynomials have one degree too many: no t shares rebuild anything.
    Degree,
    /// One recipient's shares lie on other polynomials.
    OneShare,
    /// It commits to another b.
    Commitment,
    /// It seals with another channel key than the one it advertised: nobody can open its bundles.
    Channel,
    /// One recipient's bundle is garbage.
    OneBundle,
}

impl Misdealing {
    pub const ALL: [Misdealing; 5] =
        [Misdealing::Degree, Misdealing::OneShare, Misdealing::Commitment, Misdealing::Channel, Misdealing::OneBundle];
}

/// The silo.
pub struct Scripted {
    pub misdealing: Misdealing,
    /// What it masked, once it did.
    pub input: Option<(Vec<f32>, HeldOutCounts)>,
    silo: SiloId,
    at: AttemptId,
    seed: u64,
    journal: JournalMark,
    secrets: SessionSecrets,
    dealt: Option<share::HeldPair>,
    session: Option<(VerifiedAdverts, VerifiedHeaders)>,
    held: Option<HeldShares>,
    reply: Option<PendingReveal>,
    done: BTreeSet<&'static str>,
}

impl Scripted {
    pub fn new(mind: &Mind, silo: SiloId, at: AttemptId, journal: JournalMark, op: &Op) -> Option<Scripted> {
        Some(Scripted {
            misdealing: Misdealing::ALL[op.pick(4, 6) % 5],
            input: None,
            silo,
            at,
            seed: u64::from(op.variant),
            journal,
            secrets: mind.secrets(at, u64::from(op.variant) << 8 | u64::from(silo.0))?,
            dealt: None,
            session: None,
            held: Some(HeldShares::new(silo)),
            reply: None,
            done: BTreeSet::new(),
        })
    }

    pub fn advert(&self, mind: &Mind) -> Option<Advert> {
        Some(Advert::sign(&mind.key(self.silo), &mind.ctx(self.at)?, self.silo, &self.secrets, self.journal, true))
    }

    /// What it answers to a message of its session; `None` for any other message.
    pub fn answer(&mut self, mind: &Mind, message: &CoordinatorMessage) -> Option<Vec<Up>> {
        let ctx = mind.ctx(self.at)?;
        let quorum = mind.setup.plan.quorum();
        let rules = Rules { roster: &mind.setup.roster, ctx: &ctx, quorum: &quorum };
        let session = ["adverts", "shares", "commit-request", "reveal-request"];
        let name = session.into_iter().find(|name| *name == message.name())?;
        if !self.done.insert(name) {
            return Some(Vec::new());
        }
        let said = match message {
            CoordinatorMessage::Adverts { adverts, .. } => {
                let adverts = verify::adverts(&rules, adverts.clone(), None, &[]).ok()?;
                let dealing = self.deal(mind, &adverts)?;
                SiloMessage::Shares { at: self.at, dealing }
            }
            CoordinatorMessage::Shares { headers, deliveries, .. } => {
                let (adverts, _) = mind.verified(self.at)?;
                let headers = verify::headers(&rules, headers.clone(), &adverts, None).ok()?;
                let held = self.held.as_mut()?;
                held.insert(self.dealt.clone()?);
                for delivery in deliveries {
                    let header = verify::header(&rules, headers.get(delivery.dealer)?.clone(), &adverts).ok()?;
                    let pair = verify::delivery(delivery, &header, &adverts, self.silo, &self.secrets.channel);
                    pair.ok().map(|pair| held.insert(pair));
                }
                return Some(vec![self.upload(mind, &ctx, adverts, headers)?]);
            }
            CoordinatorMessage::CommitRequest { list, .. } => {
                let (_, headers) = self.session.as_ref()?;
                let list = verify::survivor_list(&rules, list.clone(), headers, None).ok()?;
                self.reply = Some(self.held.take()?.into_reply(&list, &mind.key(self.silo), &ctx));
                let vote = CommitVote::sign(&mind.key(self.silo), &ctx, self.silo, &list.t3());
                SiloMessage::Commit { at: self.at, vote }
            }
            CoordinatorMessage::RevealRequest { .. } => {
                let reply = serde_json::to_value(self.reply.as_ref()?).ok()?;
                let reveal: Reveal = serde_json::from_value(reply["reveal"].clone()).ok()?;
                SiloMessage::Reveal { at: self.at, reveal }
            }
            _ => return None,
        };
        Some(vec![Envelope::bare(said)])
    }

    fn upload(&mut self, mind: &Mind, ctx: &Digest, adverts: VerifiedAdverts, headers: VerifiedHeaders) -> Option<Up> {
        let (setup, at) = (&mind.setup, self.at);
        let params = setup.plan.params(setup.plan.kind(at.round)?);
        let input = setup.update(self.silo, at.round, 99);
        let mut lanes = plain_lanes(setup, at, &input);
        let streams = masked::streams(self.silo, &self.secrets, &adverts, &headers).ok()?;
        mask::apply(&mut lanes, &streams, 1);
        let packed = packing::pack(params, &lanes).ok()?;
        let header = MaskedHeader::sign(&mind.key(self.silo), ctx, &headers.bind(), self.silo, &packed);
        self.input = Some(input);
        self.session = Some((adverts, headers));
        Some(Envelope::with(SiloMessage::MaskedInput { at, header }, Arc::new(packed)))
    }

    fn deal(&mut self, mind: &Mind, adverts: &VerifiedAdverts) -> Option<Dealing> {
        let (key, t) = (mind.key(self.silo), mind.setup.plan.quorum().t);
        let mut rng = crate::rng(self.seed ^ 0xdea1);
        let mut deal = |secrets: &SessionSecrets, t| share::deal(&key, self.silo, secrets, adverts, t, &mut rng).ok();
        let others: Vec<usize> = adverts.ids().enumerate().filter(|(_, id)| *id != self.silo).map(|(i, _)| i).collect();
        let cheated = others[(self.seed >> 10) as usize % others.len()];
        let (mut dealing, dealt) = match self.misdealing {
            Misdealing::Degree => deal(&self.secrets, t + 1)?,
            Misdealing::Channel => deal(&mind.secrets(self.at, self.seed ^ 1)?, t)?,
            _ => deal(&self.secrets, t)?,
        };
        match self.misdealing {
            Misdealing::OneShare => dealing.pairs[cheated] = deal(&self.secrets, t)?.0.pairs[cheated].clone(),
            Misdealing::OneBundle => dealing.pairs[cheated].sealed.0[9] ^= 1,
            Misdealing::Commitment => dealing.header.commitment_b.0[0] ^= 1,
            _ => {}
        }
        self.dealt = Some(dealt);
        sign_again(mind, self.silo, adverts, &mut dealing);
        Some(dealing)
    }
}

/// The root over what the dealing now holds, signed.
fn sign_again(mind: &Mind, dealer: SiloId, adverts: &VerifiedAdverts, dealing: &mut Dealing) {
    let leaves: Vec<Digest> = adverts
        .ids()
        .zip(&dealing.pairs)
        .map(|(id, pair)| {
            let hasher = Hasher::new(Label::Pair).field(&id.to_bytes()).digest(&pair.leaves.b);
            hasher.digest(&pair.leaves.s).digest(&pair.sealed.hash()).finish()
        })
        .collect();
    let header = &mut dealing.header;
    header.root = root(&leaves);
    let fields: [&[u8]; 3] = [&adverts.t1().0, &header.root.0, &header.commitment_b.0];
    header.signature = mind.key(dealer).sign(Label::ShareHeader, adverts.ctx(), dealer, &fields);
}

/// The tree of the protocol's page: its left half is the largest power of two below it.
fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Hasher::new(Label::Node).digest(&root(left)).digest(&root(right)).finish()
        }
    }
}
