//! What the adversary knows: everything that passed by the coordinator, and the identity keys of the colluders.
//!
//! Contract: nothing in here was taken from a machine's memory; an honest silo's key is never asked for.

use std::collections::{BTreeMap, BTreeSet};

use blindsum_crypto::advert::SessionSecrets;
use blindsum_crypto::verify::{Rules, VerifiedAdverts, VerifiedHeaders};
use blindsum_crypto::{
    AbandonCertificate, AbandonVote, Advert, CommitVote, Dealing, Digest, IdentityKey, MaskedHeader, ShareHeader,
    SiloId, SurvivorList, transcript, verify,
};
use blindsum_protocol::message::Open;
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, Payload, SiloMessage};

use crate::Setup;

/// One attempt, as the coordinator sees it.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    pub open: Option<Open>,
    /// U1 as the honest machine gave it out.
    pub adverts: Vec<Advert>,
    pub dealings: BTreeMap<SiloId, Dealing>,
    /// U2 likewise.
    pub headers: Vec<ShareHeader>,
    pub masked: BTreeMap<SiloId, MaskedHeader>,
    pub payloads: BTreeMap<SiloId, Payload>,
    pub list: Option<SurvivorList>,
    pub abandons: BTreeMap<SiloId, AbandonVote>,
    /// H(S).
    pub sum_hash: Option<Digest>,
}

/// The adversary's mind.
pub struct Mind {
    pub setup: Setup,
    pub faulty: BTreeSet<SiloId>,
    pub sessions: BTreeMap<AttemptId, Heard>,
}

impl Mind {
    pub fn new(setup: Setup, faulty: BTreeSet<SiloId>) -> Mind {
        Mind { setup, faulty, sessions: BTreeMap::new() }
    }

    pub fn hear_down(&mut self, message: &CoordinatorMessage) {
        match message {
            CoordinatorMessage::Open(open) => {
                let at = AttemptId { round: open.context.round, attempt: open.context.attempt };
                self.sessions.entry(at).or_default().open.get_or_insert_with(|| open.clone());
            }
            CoordinatorMessage::Adverts { at, adverts } => {
                self.sessions.entry(*at).or_default().adverts = adverts.clone();
            }
            CoordinatorMessage::Shares { at, headers, .. } => {
                self.sessions.entry(*at).or_default().headers = headers.clone();
            }
            CoordinatorMessage::CommitRequest { at, list } => {
                self.sessions.entry(*at).or_default().list = Some(list.clone());
            }
            CoordinatorMessage::SumRequest { at, sum_hash, .. } => {
                self.sessions.entry(*at).or_default().sum_hash = Some(*sum_hash);
            }
            _ => {}
        }
    }

    pub fn hear_up(&mut self, silo: SiloId, envelope: &Envelope<SiloMessage>) {
        match &envelope.message {
            SiloMessage::Shares { at, dealing } => {
                self.sessions.entry(*at).or_default().dealings.insert(silo, dealing.clone());
            }
            SiloMessage::MaskedInput { at, header } => {
                let heard = self.sessions.entry(*at).or_default();
                heard.masked.insert(silo, *header);
                heard.payloads.extend(envelope.payload.clone().map(|y| (silo, y)));
            }
            SiloMessage::Abandon { at, vote } => {
                self.sessions.entry(*at).or_default().abandons.insert(silo, *vote);
            }
            _ => {}
        }
    }

    pub fn heard(&self, at: AttemptId) -> Option<&Heard> {
        self.sessions.get(&at)
    }

    /// The identity key of a silo that the adversary drives.
    pub fn key(&self, silo: SiloId) -> IdentityKey {
        assert!(self.faulty.contains(&silo), "the key of an honest silo");
        self.setup.identity(silo)
    }

    pub fn ctx(&self, at: AttemptId) -> Option<Digest> {
        Some(self.heard(at)?.open.as_ref()?.context.digest())
    }

    pub fn t1(&self, at: AttemptId) -> Option<Digest> {
        Some(transcript::t1(&self.ctx(at)?, &self.heard(at)?.adverts))
    }

    pub fn bind(&self, at: AttemptId) -> Option<Digest> {
        let headers = &self.heard(at)?.headers;
        Some(transcript::bind(&transcript::t2(&self.t1(at)?, headers)))
    }

    /// U1 and U2 as an honest silo would verify them.
    pub fn verified(&self, at: AttemptId) -> Option<(VerifiedAdverts, Option<VerifiedHeaders>)> {
        let (ctx, heard, quorum) = (self.ctx(at)?, self.heard(at)?, self.setup.plan.quorum());
        let rules = Rules { roster: &self.setup.roster, ctx: &ctx, quorum: &quorum };
        let adverts = verify::adverts(&rules, heard.adverts.clone(), None, &[]).ok()?;
        let headers = verify::headers(&rules, heard.headers.clone(), &adverts, None).ok();
        Some((adverts, headers))
    }

    pub fn secrets(&self, at: AttemptId, seed: u64) -> Option<SessionSecrets> {
        Some(SessionSecrets::generate(&self.ctx(at)?, &mut crate::rng(seed ^ 0x5ec2e7)))
    }

    /// COMMIT votes of all colluders over one list.
    pub fn commits(&self, at: AttemptId, list: &SurvivorList) -> Vec<CommitVote> {
        let (Some(ctx), Some(bind)) = (self.ctx(at), self.bind(at)) else { return Vec::new() };
        let t3 = transcript::t3(&bind, &list.0);
        let in_list = self.faulty.iter().filter(|f| list.0.iter().any(|m| m.silo == **f));
        in_list.map(|&f| CommitVote::sign(&self.key(f), &ctx, f, &t3)).collect()
    }

    /// ABANDON votes of all colluders.
    pub fn abandons(&self, at: AttemptId) -> Vec<AbandonVote> {
        let Some(ctx) = self.ctx(at) else { return Vec::new() };
        self.faulty.iter().map(|&f| AbandonVote::sign(&self.key(f), &ctx, f)).collect()
    }

    /// The best abandon certificate that the adversary can make: real votes, the colluders', and, where `padded`, repeats
    /// up to q.
    pub fn abandon_certificate(&self, at: AttemptId, padded: bool) -> AbandonCertificate {
        let mut votes: BTreeMap<SiloId, AbandonVote> = self.heard(at).map(|h| h.abandons.clone()).unwrap_or_default();
        votes.extend(self.abandons(at).into_iter().map(|vote| (vote.silo, vote)));
        let mut votes: Vec<AbandonVote> = votes.into_values().collect();
        let q = usize::from(self.setup.plan.quorum().q);
        while padded && !votes.is_empty() && votes.len() < q {
            votes.push(votes[votes.len() - 1]);
        }
        AbandonCertificate(votes)
    }
}
