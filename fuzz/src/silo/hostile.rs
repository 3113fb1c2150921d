//! The coordinator in the fuzzer's hands: it composes each message from what the silo sent and from the other silos' keys.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use blindsum_crypto::verify::{self, VerifiedAdverts, VerifiedDealing, VerifiedHeaders};
use blindsum_crypto::{
    Advert, CommitCertificate, CommitVote, Digest, MaskedHeader, OpenedSecret, Reveal, SiloId, Sketch, SumProof,
    SurvivorList, packing, transcript,
};
use blindsum_protocol::message::{Abandoned, MaskedBack, Open, RoundResult};
use blindsum_protocol::silo::{Adoption, HeldResult};
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, Payload, RoundKind, SiloMessage};

use super::What;
use crate::peers::{Peers, subset};
use crate::world::{Chain, World};

type Down = Envelope<CoordinatorMessage>;

/// A sum that was taken off its masks.
#[derive(Clone)]
struct Sum {
    t3: Digest,
    hash: Digest,
    packed: Vec<u8>,
    secrets: Vec<OpenedSecret>,
}

pub struct Coordinator {
    world: &'static World,
    me: SiloId,
    /// What the silo holds.
    chain: Chain,
    /// The newest attempt opened, and its context.
    at: AttemptId,
    ctx: Digest,
    newest: u32,
    salt: u8,
    /// Attempts of this round in which the silo's y came.
    exposed: Vec<u32>,
    /// The silo's last messages.
    advert: Option<Advert>,
    dealing: Option<blindsum_crypto::Dealing>,
    masked: Option<(AttemptId, MaskedHeader, Payload)>,
    /// The silo's own COMMIT votes: its signature cannot be forged.
    votes: Vec<(AttemptId, Digest, CommitVote)>,
    reveal: Option<Reveal>,
    sketch: Option<Sketch>,
    adverts: Option<Rc<VerifiedAdverts>>,
    headers: Option<Rc<VerifiedHeaders>>,
    dealings: BTreeMap<SiloId, VerifiedDealing>,
    bind: Digest,
    /// Lists with their masked inputs, and the sum over the last one.
    lists: Vec<(SurvivorList, Vec<Option<Payload>>)>,
    sum: Option<Sum>,
    /// The last sum, what it leads to, and who is in it.
    outcome: Option<(AttemptId, Chain)>,
    history: Vec<Down>,
}

impl Coordinator {
    pub fn new(world: &'static World, me: SiloId) -> Coordinator {
        Coordinator {
            world,
            me,
            chain: Chain::start(world),
            at: AttemptId { round: 1, attempt: 0 },
            ctx: Digest([0; 32]),
            newest: 0,
            salt: 0,
            exposed: Vec::new(),
            advert: None,
            dealing: None,
            masked: None,
            votes: Vec::new(),
            reveal: None,
            sketch: None,
            adverts: None,
            headers: None,
            dealings: BTreeMap::new(),
            bind: Digest([0; 32]),
            lists: Vec::new(),
            sum: None,
            outcome: None,
            history: Vec::new(),
        }
    }

    fn kind(&self) -> RoundKind {
        self.world.plan().kind(self.chain.round + 1).unwrap_or(RoundKind::Evaluate)
    }

    fn peers(&self) -> Peers<'_> {
        Peers { world: self.world, ctx: &self.ctx, kind: self.kind() }
    }

    fn context(&self, attempt: u32) -> blindsum_crypto::Context {
        let at = AttemptId { round: self.chain.round + 1, attempt };
        self.world.plan().context(at, self.kind(), self.chain.result_hash, self.chain.model_hash)
    }

    /// The silo has a new adapter.
    pub fn adopted(&mut self, adoption: &Adoption) {
        let Adoption { at, result_hash, model_hash, global, .. } = adoption;
        self.chain =
            Chain { round: at.round, result_hash: *result_hash, model_hash: *model_hash, global: Arc::clone(global) };
        self.newest = 0;
        self.exposed.clear();
    }

    pub fn restarted(&mut self, held: Option<&HeldResult>) {
        match held {
            None => self.chain = Chain::start(self.world),
            Some(held) => assert_eq!(held.round, self.chain.round),
        }
    }

    pub fn sent(&mut self, envelope: &Down) {
        if self.history.len() < 128 {
            self.history.push(envelope.clone());
        }
    }

    pub fn received(&mut self, envelope: &Envelope<SiloMessage>) {
        match &envelope.message {
            SiloMessage::Advert { advert, .. } => self.advert = Some(advert.clone()),
            SiloMessage::Shares { dealing, .. } => self.dealing = Some(dealing.clone()),
            SiloMessage::MaskedInput { at, header } => {
                self.masked = envelope.payload.clone().map(|packed| (*at, *header, packed));
                if !self.exposed.contains(&at.attempt) {
                    self.exposed.push(at.attempt);
                }
            }
            SiloMessage::Commit { at, vote } => {
                let t3 = self.lists.last().map(|(list, _)| transcript::t3(&self.bind, &list.0));
                self.votes.extend(t3.map(|t3| (*at, t3, *vote)));
            }
            SiloMessage::Reveal { reveal, .. } => self.reveal = Some(reveal.clone()),
            SiloMessage::Sketch { sketch, .. } => self.sketch.clone_from(sketch),
            _ => {}
        }
    }

    /// The silos whose bits are set, without the one under test.
    fn others(&self, bits: u8) -> Vec<SiloId> {
        subset(bits).into_iter().filter(|silo| *silo != self.me).collect()
    }

    /// COMMIT votes; the silo's own among them only if it gave it.
    fn commits(&self, peers: &Peers<'_>, voters: &[SiloId], at: AttemptId, t3: &Digest) -> CommitCertificate {
        let others: Vec<SiloId> = voters.iter().copied().filter(|silo| *silo != self.me).collect();
        let mut certificate = peers.commits(&others, t3);
        let own = self.votes.iter().find(|(of, over, _)| *of == at && over == t3).map(|(.., vote)| *vote);
        certificate.0.extend(own.filter(|_| voters.contains(&self.me)));
        certificate.0.sort_by_key(|vote| vote.silo);
        certificate
    }

    /// The message of an operation; none where nothing sensible can be made yet.
    pub fn compose(&mut self, what: What, a: u8, b: u8) -> Option<Down> {
        let message = match what {
            What::Open => self.open(a, b),
            What::Adverts => self.compose_adverts(a, b),
            What::Shares => self.shares(a, b)?,
            What::CommitRequest => self.list(a),
            What::RevealRequest => {
                let list = if b & 1 == 0 { self.lists.last() } else { self.lists.iter().nth_back(1) };
                let t3 = transcript::t3(&self.bind, &list?.0.0);
                CoordinatorMessage::RevealRequest {
                    at: self.at,
                    certificate: self.commits(&self.peers(), &subset(a), self.at, &t3),
                }
            }
            What::AbandonRequest => {
                let attempt = match a % 4 {
                    0 => self.at.attempt,
                    1 => self.at.attempt.wrapping_sub(1),
                    2 => self.at.attempt.wrapping_add(1),
                    _ => u32::from(b),
                };
                CoordinatorMessage::AbandonRequest { at: AttemptId { attempt, ..self.at } }
            }
            What::SumRequest => return Some(self.sum_request(a)),
            What::Result => return self.result(a, b),
            What::Certified => {
                let (at, next) = self.outcome.as_ref()?;
                let ctx = self.context(at.attempt).digest();
                let peers = Peers { ctx: &ctx, ..self.peers() };
                let certificate = peers.results(&self.others(a), &next.result_hash, &next.model_hash);
                CoordinatorMessage::Certified { at: *at, certificate }
            }
            What::Finished => CoordinatorMessage::Finished,
            What::Replay => {
                let index = usize::from(a) % self.history.len().max(1);
                return self.history.get(index).cloned();
            }
            _ => return None,
        };
        Some(Envelope::bare(message))
    }

    fn open(&mut self, a: u8, b: u8) -> CoordinatorMessage {
        let attempt = match a % 8 {
            4 => self.newest,
            5 => self.newest.saturating_add(2),
            6 => 1,
            7 => u32::MAX - u32::from(b >> 4),
            _ => self.newest.saturating_add(1),
        };
        self.newest = self.newest.max(attempt);
        let context = self.context(attempt);
        self.at = AttemptId { round: context.round, attempt };
        self.ctx = context.digest();
        let mut voters = self.others(15);
        voters.truncate(if b & 2 == 0 { 3 } else { 2 });
        let proof = |&attempt: &u32| {
            let ctx = self.context(attempt).digest();
            Abandoned { attempt, certificate: Peers { ctx: &ctx, ..self.peers() }.abandons(&voters) }
        };
        let abandoned = if b & 1 == 0 { self.exposed.iter().map(proof).collect() } else { Vec::new() };
        CoordinatorMessage::Open(Open { context, abandoned })
    }

    fn compose_adverts(&mut self, a: u8, b: u8) -> CoordinatorMessage {
        self.salt = b;
        let one = |silo: SiloId| match silo == self.me {
            true => self.advert.clone(),
            false => Some(self.peers().advert(silo, self.at, b)),
        };
        let adverts: Vec<Advert> = subset(a).into_iter().filter_map(one).collect();
        self.adverts = self.peers().adverts(&adverts);
        CoordinatorMessage::Adverts { at: self.at, adverts }
    }

    /// `b`: bits 0-1 how one dealer lies, bits 2-3 which, bit 4 leaves its delivery out, bit 5 another salt.
    fn shares(&mut self, a: u8, b: u8) -> Option<CoordinatorMessage> {
        let adverts = self.adverts.clone()?;
        let peers = self.peers();
        let (lie, liar) = (b & 3, SiloId(u16::from(b >> 2 & 3)));
        let salt = self.salt ^ (b >> 5 & 1);
        let mut dealings = Vec::new();
        for silo in subset(a) {
            if silo == self.me {
                dealings.extend(self.dealing.clone());
                continue;
            }
            let lie = if silo == liar { lie } else { 0 };
            dealings.extend(peers.dealing(silo, &adverts, salt, lie).map(|d| d.0.clone()));
        }
        let verified = peers.verified_dealings(&dealings, &adverts);
        let left_out = |silo: &SiloId| b >> 4 & 1 == 1 && *silo == liar;
        let deliveries =
            verified.iter().filter(|(silo, _)| !left_out(silo)).filter_map(|(_, d)| d.delivery(self.me)).collect();
        let headers: Vec<_> = dealings.into_iter().map(|d| d.header).collect();
        let sound = peers.headers(&headers, &adverts);
        self.bind = transcript::bind(&transcript::t2(&adverts.t1(), &headers));
        (self.headers, self.dealings) = (sound, verified);
        (self.reveal, self.sketch, self.sum) = (None, None, None);
        Some(CoordinatorMessage::Shares { at: self.at, headers, deliveries })
    }

    /// The list of these survivors, with the masked inputs of those who have made one.
    fn survivors(&self, a: u8, ctx: &Digest) -> (SurvivorList, Vec<Option<Payload>>) {
        let peers = Peers { ctx, ..self.peers() };
        let one = |silo: SiloId| {
            if silo == self.me {
                let (_, header, packed) = self.masked.as_ref().filter(|(of, ..)| *of == self.at)?;
                return Some((*header, Some(Payload::clone(packed))));
            }
            if let (Some(adverts), Some(headers)) = (&self.adverts, &self.headers)
                && let Some(masked) = peers.masked(silo, adverts, headers, self.salt)
            {
                return Some((masked.0, Some(Payload::new(masked.1.clone()))));
            }
            Some((peers.masked_header(silo, &self.bind, &silo.to_bytes()), None))
        };
        let (list, masked) = subset(a).into_iter().filter_map(one).unzip();
        (SurvivorList(list), masked)
    }

    fn list(&mut self, a: u8) -> CoordinatorMessage {
        let (list, masked) = self.survivors(a, &self.ctx);
        self.lists.push((list.clone(), masked));
        (self.sum, self.sketch) = (None, None);
        CoordinatorMessage::CommitRequest { at: self.at, list }
    }

    /// The true sum over the last list, as far as enough replies are there.
    fn unmask(&mut self) -> Option<Sum> {
        if self.sum.is_none() {
            let (list, masked) = self.lists.last()?;
            let masked: Vec<&[u8]> = masked.iter().map(|m| m.as_deref().map(Vec::as_slice)).collect::<Option<_>>()?;
            let (adverts, headers, peers) = (self.adverts.as_ref()?, self.headers.as_ref()?, self.peers());
            let verified = peers.list(list, headers)?;
            let certificate = self.commits(&peers, verified.survivors(), self.at, &verified.t3());
            let proof = verify::commit_certificate(&peers.rules(), &certificate, &verified.t3(), verified.survivors());
            let mut replies: Vec<Reveal> = self.reveal.clone().into_iter().collect();
            for &silo in verified.survivors().iter().filter(|silo| **silo != self.me) {
                let deliveries: Vec<_> = self.dealings.values().filter_map(|d| d.delivery(silo)).collect();
                let dealt = peers.dealing(silo, adverts, self.salt, 0)?;
                let (held, _) = peers.held(silo, adverts, headers, &deliveries, &dealt.1, self.salt);
                let pending = held.into_reply(&verified, &self.world.keys[silo.index()], &self.ctx);
                replies.push(pending.release(proof.as_ref().ok()?).ok()?.clone());
            }
            let (packed, secrets) = peers.unmasked(&replies, &masked, &verified, &self.dealings, (adverts, headers))?;
            self.sum = Some(Sum { t3: verified.t3(), hash: transcript::sum_hash(&packed), packed, secrets });
        }
        self.sum.clone()
    }

    fn sum_request(&mut self, a: u8) -> Down {
        let hash = self.unmask().map_or(Digest([7; 32]), |sum| sum.hash);
        let sum_hash = if a & 2 == 0 { hash } else { Digest([a; 32]) };
        let back = self.masked.as_ref().zip(self.lists.last()).filter(|_| a & 1 == 1);
        let at = self.at;
        let Some(((.., packed), (list, _))) = back else {
            return Envelope::bare(CoordinatorMessage::SumRequest { at, sum_hash, back: None });
        };
        let back = Some(MaskedBack { bind: self.bind, list: list.clone() });
        Envelope::with(CoordinatorMessage::SumRequest { at, sum_hash, back }, Payload::clone(packed))
    }

    /// `b`: bit 0 with certificate instead of proof, bit 1 another list and a made-up sum, bit 2 a false sum, bit 3 the
    /// silo's masked input shown instead of its sketch, bit 4 neither certificate nor proof.
    fn result(&mut self, a: u8, b: u8) -> Option<Down> {
        let true_sum = self.unmask().filter(|_| b & 2 == 0);
        let at = AttemptId { round: self.chain.round + 1, attempt: self.at.attempt };
        let ctx = self.context(at.attempt).digest();
        let (list, masked) = match self.lists.last() {
            Some(list) if b & 2 == 0 => list.clone(),
            _ => self.survivors(a, &ctx),
        };
        let params = self.world.plan().params(self.kind());
        let mut lanes = match &true_sum {
            Some(sum) => packing::unpack(params, &sum.packed).ok()?,
            None => vec![0; params.lanes()],
        };
        let metrics = params.lanes() - self.world.plan().metrics_len();
        lanes[metrics] = list.0.len() as u32;
        lanes[0] ^= u32::from(b >> 2 & 1);
        let mut payload = packing::pack(params, &lanes).ok()?;
        let peers = Peers { ctx: &ctx, ..self.peers() };
        let t3 = transcript::t3(&self.bind, &list.0);
        let voters: Vec<SiloId> = list.0.iter().map(|m| m.silo).collect();
        let next = self.chain.next(self.world, &t3, &payload, list.0.len());
        let certificate = (b & 1 == 1).then(|| peers.results(&self.others(a), &next.result_hash, &next.model_hash));
        let proof = match (true_sum, &self.adverts, &self.headers) {
            (Some(sum), Some(adverts), Some(headers)) if b & 17 == 0 => {
                let shown = if b >> 3 & 1 == 1 { None } else { self.sketch.clone() };
                let mut proof = SumProof {
                    adverts: adverts.adverts().to_vec(),
                    headers: headers.headers().to_vec(),
                    secrets: sum.secrets,
                    sketches: Vec::new(),
                    opened: Vec::new(),
                };
                for (silo, masked) in voters.iter().zip(&masked) {
                    let masked = masked.as_ref()?;
                    match &shown {
                        _ if *silo != self.me => proof.sketches.push(peers.sketch(*silo, &sum.t3, &sum.hash, masked)?),
                        Some(sketch) => proof.sketches.push(sketch.clone()),
                        None => {
                            proof.opened.push(*silo);
                            payload.extend_from_slice(masked);
                        }
                    }
                }
                Some(Box::new(proof))
            }
            _ => None,
        };
        let commits = self.commits(&peers, &voters, at, &t3);
        let result = RoundResult { at, bind: self.bind, list, commits, certificate, proof };
        self.outcome = Some((at, next));
        Some(Envelope::with(CoordinatorMessage::Result(result), Payload::new(payload)))
    }
}
