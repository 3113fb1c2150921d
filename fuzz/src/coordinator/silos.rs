//! A silo as far as the coordinator can tell: it answers each message with the next one, or with a lie.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use blindsum_crypto::verify::{self, VerifiedAdverts, VerifiedHeaders};
use blindsum_crypto::{Complaint, Delivery, Digest, PendingReveal, SiloId, transcript};
use blindsum_protocol::message::{DeclineReason, Hello};
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, Payload, RoundKind, SiloMessage};

use crate::peers::{Dealt, Peers};
use crate::world::{Chain, World};

type Up = Envelope<SiloMessage>;

/// Ways to lie: none, unreadable shares, other shares, other keys at every advert, another masked input, no subset sums,
/// false ones.
pub const LIES: u8 = 7;

pub struct Silo {
    world: &'static World,
    me: SiloId,
    pub inbox: VecDeque<Envelope<CoordinatorMessage>>,
    pub lie: u8,
    chain: Chain,
    at: AttemptId,
    ctx: Digest,
    salt: u8,
    adverts: Option<Rc<VerifiedAdverts>>,
    dealt: Option<Dealt>,
    headers: Option<Rc<VerifiedHeaders>>,
    deliveries: Vec<Delivery>,
    masked: Option<Payload>,
    replies: BTreeMap<AttemptId, (Digest, PendingReveal)>,
    next: Option<(AttemptId, Chain)>,
}

impl Silo {
    pub fn new(world: &'static World, me: SiloId) -> Silo {
        Silo {
            world,
            me,
            inbox: VecDeque::new(),
            lie: 0,
            chain: Chain::start(world),
            at: AttemptId { round: 0, attempt: 0 },
            ctx: Digest([0; 32]),
            salt: 0,
            adverts: None,
            dealt: None,
            headers: None,
            deliveries: Vec::new(),
            masked: None,
            replies: BTreeMap::new(),
            next: None,
        }
    }

    pub fn at(&self) -> AttemptId {
        self.at
    }

    fn kind(&self) -> RoundKind {
        self.world.plan().kind(self.at.round).unwrap_or(RoundKind::Evaluate)
    }

    fn peers<'a>(&self, ctx: &'a Digest) -> Peers<'a> {
        Peers { world: self.world, ctx, kind: self.kind() }
    }

    fn context(&self, at: AttemptId) -> Digest {
        let kind = self.world.plan().kind(at.round).unwrap_or(RoundKind::Evaluate);
        self.world.plan().context(at, kind, self.chain.result_hash, self.chain.model_hash).digest()
    }

    pub fn hello(&self) -> SiloMessage {
        self.hello_from(0)
    }

    /// A Hello that claims to remember more attempts than there were.
    pub fn hello_from(&self, attempts: u32) -> SiloMessage {
        SiloMessage::Hello(Hello {
            roster_hash: self.world.plan().roster_hash(),
            job_digest: self.world.plan().job_digest(),
            results_held: self.chain.round,
            result_hash: self.chain.result_hash,
            newest: AttemptId { attempt: self.at.attempt.saturating_add(attempts), ..self.at },
        })
    }

    pub fn abandon(&self, at: AttemptId) -> SiloMessage {
        let ctx = self.context(at);
        SiloMessage::Abandon { at, vote: self.peers(&ctx).abandons(&[self.me]).0[0] }
    }

    /// A signed complaint, true or not.
    pub fn complain(&self, dealer: SiloId) -> Option<SiloMessage> {
        let (adverts, headers) = (self.adverts.as_ref()?, self.headers.as_ref()?);
        let delivery = self.deliveries.iter().find(|d| d.dealer == dealer)?;
        let peers = self.peers(&self.ctx);
        let header = verify::header(&peers.rules(), headers.get(dealer)?.clone(), adverts).ok()?;
        let complaint = Complaint::sign(&self.world.keys[self.me.index()], self.me, &header, delivery);
        Some(SiloMessage::Complaint { at: self.at, complaint })
    }

    /// Answers the oldest message.
    pub fn answer(&mut self) -> Vec<Up> {
        let Some(Envelope { message, payload }) = self.inbox.pop_front() else { return Vec::new() };
        self.reply(message, payload).unwrap_or_default()
    }

    fn reply(&mut self, message: CoordinatorMessage, payload: Option<Payload>) -> Option<Vec<Up>> {
        let ctx = self.ctx;
        let peers = self.peers(&ctx);
        let me = self.me;
        let one = |message| Some(vec![Envelope::bare(message)]);
        match message {
            CoordinatorMessage::Open(open) => {
                let at = AttemptId { round: open.context.round, attempt: open.context.attempt };
                let digest = open.context.digest();
                if at.round != self.chain.round + 1 || digest != self.context(at) || at < self.at {
                    return one(SiloMessage::Decline { at, reason: DeclineReason::Mismatch });
                }
                self.salt = if self.lie == 3 { self.salt.wrapping_add(1) } else { 0 };
                (self.at, self.ctx) = (at, digest);
                let advert = self.peers(&digest).advert(me, at, self.salt);
                one(SiloMessage::Advert { at, advert })
            }
            CoordinatorMessage::Adverts { at, adverts } if at == self.at => {
                let adverts = peers.adverts(&adverts).expect("the coordinator passes on sound adverts");
                let lie = if self.lie < 3 { self.lie } else { 0 };
                let dealt = peers.dealing(me, &adverts, self.salt, lie)?;
                let dealing = dealt.0.clone();
                (self.adverts, self.dealt, self.headers) = (Some(adverts), Some(dealt), None);
                one(SiloMessage::Shares { at, dealing })
            }
            CoordinatorMessage::Shares { at, headers, deliveries } if at == self.at => {
                let adverts = self.adverts.clone()?;
                let headers = peers.headers(&headers, &adverts).expect("the coordinator passes on sound headers");
                let masked = peers.masked(me, &adverts, &headers, self.salt)?;
                let (_, bad) = peers.held(me, &adverts, &headers, &deliveries, &self.dealt.as_ref()?.1, self.salt);
                (self.headers, self.deliveries) = (Some(Rc::clone(&headers)), deliveries);
                let mut answers: Vec<Up> =
                    bad.into_iter().filter_map(|d| self.complain(d)).map(Envelope::bare).collect();
                let (mut header, mut packed) = (masked.0, masked.1.clone());
                if self.lie == 4 {
                    packed[0] ^= 1;
                    header = peers.masked_header(me, &headers.bind(), &packed);
                }
                let message = SiloMessage::MaskedInput { at, header };
                let packed = Payload::new(packed);
                self.masked = Some(Payload::clone(&packed));
                answers.push(Envelope::with(message, packed));
                Some(answers)
            }
            CoordinatorMessage::CommitRequest { at, list } if at == self.at => {
                if let Some((t3, _)) = self.replies.get(&at) {
                    return one(SiloMessage::Commit { at, vote: peers.commits(&[me], t3).0[0] });
                }
                let (adverts, headers) = (self.adverts.clone()?, self.headers.clone()?);
                let list = peers.list(&list, &headers).expect("the coordinator asks for sound lists only");
                let own = &self.dealt.as_ref()?.1;
                let (held, _) = peers.held(me, &adverts, &headers, &self.deliveries, own, self.salt);
                self.replies.insert(at, (list.t3(), held.into_reply(&list, &self.world.keys[me.index()], &ctx)));
                one(SiloMessage::Commit { at, vote: peers.commits(&[me], &list.t3()).0[0] })
            }
            CoordinatorMessage::RevealRequest { at, certificate } => {
                let (t3, pending) = self.replies.get(&at)?;
                let ctx = self.context(at);
                let peers = self.peers(&ctx);
                let certificate = verify::commit_certificate(&peers.rules(), &certificate, t3, pending.survivors());
                let certificate = certificate.expect("SA-08: the coordinator shows a sound certificate");
                one(SiloMessage::Reveal { at, reveal: pending.release(&certificate).ok()?.clone() })
            }
            CoordinatorMessage::SumRequest { at, sum_hash, back } if at == self.at => {
                let packed = match back {
                    None if self.lie == 5 => return one(SiloMessage::Sketch { at, sketch: None }),
                    None => self.masked.clone()?,
                    Some(_) => payload?,
                };
                let packed = if self.lie == 6 { Payload::new(vec![0; packed.len()]) } else { packed };
                let (t3, _) = self.replies.get(&at)?;
                one(SiloMessage::Sketch { at, sketch: peers.sketch(me, t3, &sum_hash, &packed) })
            }
            CoordinatorMessage::AbandonRequest { at } if !self.replies.contains_key(&at) => one(self.abandon(at)),
            CoordinatorMessage::Result(result) => {
                let (payload, at) = (payload?, result.at);
                let length = self.world.plan().params(self.world.plan().kind(at.round)?).packed_bytes();
                let sum = &payload[..length];
                if at.round != self.chain.round + 1 {
                    return None;
                }
                let t3 = transcript::t3(&result.bind, &result.list.0);
                let next = self.chain.next(self.world, &t3, sum, result.list.0.len());
                let ctx = self.context(at);
                let vote = self.peers(&ctx).results(&[me], &next.result_hash, &next.model_hash).0[0];
                if result.certificate.is_some() {
                    self.chain = next;
                    return one(self.hello());
                }
                self.next = Some((at, next));
                one(SiloMessage::ResultVote { at, vote })
            }
            CoordinatorMessage::Certified { at, .. } => {
                let (_, next) = self.next.take_if(|(of, next)| *of == at && next.round == self.chain.round + 1)?;
                self.chain = next;
                one(self.hello())
            }
            _ => None,
        }
    }
}
