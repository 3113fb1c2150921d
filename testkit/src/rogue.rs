//! Silos that misbehave: single misdeeds on the messages of a real machine, and a dealer scripted from its keys up.
//!
//! Contract: a rogue signs with its own key alone. What a scripted silo puts into the sum is written down in
//! [`Rogue::inputs`], so that the sum can be judged all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use blindsum_crypto::share::ShareKind;
use blindsum_crypto::{
    AbandonVote, Advert, CommitVote, Complaint, Dealing, Digest, Hasher, Label, MaskedHeader, ResultVote, Reveal,
    SiloId, Sketch, transcript, verify,
};
use blindsum_protocol::message::DeclineReason;
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, HeldOutCounts, SiloMessage};

use crate::bend::relabel;
use crate::cluster::{Action, TRAVEL_MS};
use crate::mind::Mind;
use crate::ops::{Kind, Op, Phase};
use crate::scripted::{Misdealing, Scripted};

type Up = Envelope<SiloMessage>;
type Down = Envelope<CoordinatorMessage>;

/// All rogues of a run.
#[derive(Default)]
pub struct Rogue {
    scripted: BTreeMap<(SiloId, AttemptId), Scripted>,
    /// What scripted silos masked.
    pub inputs: BTreeMap<(SiloId, AttemptId), (Vec<f32>, HeldOutCounts)>,
    /// Added to the first coordinate of a silo's y, and signed.
    pub added: BTreeMap<(SiloId, AttemptId), u32>,
    /// Attempts in which a silo's own signatures prove it a bad dealer, and how many recipients it cheated.
    pub misdealt: BTreeMap<(SiloId, AttemptId), Misdealing>,
}

/// A silo's message that a misdeed of this phase and kind waits for.
fn trigger(op: &Op) -> &'static str {
    match op.phase {
        Phase::Open => "hello",
        Phase::Advertise => "advert",
        Phase::Share if op.kind == Kind::Foreign && op.pick(4, 2) == 0 => "masked-input",
        Phase::Share if is_misdealing(op) => "advert",
        Phase::Share => "shares",
        Phase::Masked => "masked-input",
        Phase::Commit => "commit",
        Phase::Reveal => "reveal",
        Phase::Sum => "sketch",
        Phase::Result => "result-vote",
        Phase::Abandon => "abandon",
    }
}

fn is_misdealing(op: &Op) -> bool {
    op.phase == Phase::Share && op.kind == Kind::Garbage && op.pick(4, 6) < 5
}

impl Rogue {
    /// Whether a message of the silo's machine comes from a silo that is scripted in this attempt.
    pub fn silences(&self, silo: SiloId, message: &SiloMessage) -> bool {
        let Some(at) = message.at() else { return false };
        let late = matches!(message, SiloMessage::ResultVote { .. } | SiloMessage::Abandon { .. });
        !late && self.scripted.contains_key(&(silo, at))
    }

    /// A scripted silo hears the coordinator; what it answers. Its machine hears nothing of the session.
    pub fn answer(&mut self, mind: &Mind, silo: SiloId, envelope: &Down) -> Option<Vec<Up>> {
        let at = crate::script::attempt_of(&envelope.message)?;
        let scripted = self.scripted.get_mut(&(silo, at))?;
        let answers = scripted.answer(mind, &envelope.message)?;
        if let Some(input) = scripted.input.clone() {
            self.inputs.insert((silo, at), input);
        }
        Some(answers)
    }

    /// What a misbehaving silo sends instead of an honest message; `None` where the op has nothing to do with it.
    pub fn misbehave(
        &mut self,
        op: &Op,
        mind: &Mind,
        past: &[(SiloId, Up)],
        silo: SiloId,
        honest: &Up,
    ) -> Option<Vec<Up>> {
        if honest.message.name() != trigger(op) {
            return None;
        }
        let others = past.iter().filter(|(s, e)| *s != silo && e.message.name() == honest.message.name());
        let foreign = others.map(|(_, e)| e.clone()).next_back();
        if op.kind == Kind::Foreign && op.phase != Phase::Share && op.phase != Phase::Open {
            let relabelled = || {
                let mut at = honest.message.at()?;
                at.attempt += 1;
                let message = relabel(&honest.message, at)?;
                Some(Envelope { message, payload: honest.payload.clone() })
            };
            let sent = if op.pick(4, 3) == 0 { relabelled() } else { foreign.or_else(relabelled) };
            return Some(sent.into_iter().chain((op.pick(5, 2) == 0).then(|| honest.clone())).collect());
        }
        match &honest.message {
            SiloMessage::Hello(_) => hello(op, honest),
            SiloMessage::Advert { at, advert } if is_misdealing(op) => {
                let scripted = Scripted::new(mind, silo, *at, advert.journal(), op)?;
                let advert = scripted.advert(mind)?;
                self.misdealt.insert((silo, *at), scripted.misdealing);
                self.scripted.insert((silo, *at), scripted);
                Some(vec![Envelope::bare(SiloMessage::Advert { at: *at, advert })])
            }
            SiloMessage::Advert { at, advert } => advertise(op, mind, past, *at, advert, honest),
            SiloMessage::Shares { at, dealing } => deal(op, mind, *at, dealing, honest, foreign),
            SiloMessage::MaskedInput { at, .. } if op.phase == Phase::Share => {
                let complaints = complaints(op, mind, *at, silo);
                let complaints = complaints
                    .into_iter()
                    .map(|complaint| Envelope::bare(SiloMessage::Complaint { at: *at, complaint }));
                Some(complaints.chain([honest.clone()]).collect())
            }
            SiloMessage::MaskedInput { at, .. } => self.upload(op, mind, *at, silo, honest),
            SiloMessage::Commit { at, vote } => commit(op, mind, *at, vote, honest),
            SiloMessage::Reveal { at, .. } => reveal(op, mind, *at, honest),
            SiloMessage::Sketch { at, sketch } => sketch_sums(op, mind, *at, sketch.as_ref()?, honest),
            SiloMessage::ResultVote { at, vote } => vote_result(op, mind, *at, vote, honest),
            SiloMessage::Abandon { at, vote } => abandon(op, mind, *at, vote, honest),
            _ => None,
        }
    }

    fn upload(&mut self, op: &Op, mind: &Mind, at: AttemptId, silo: SiloId, honest: &Up) -> Option<Vec<Up>> {
        let (ctx, bind) = (mind.ctx(at)?, mind.bind(at)?);
        let signed = |packed: Vec<u8>| {
            let header = MaskedHeader::sign(&mind.key(silo), &ctx, &bind, silo, &packed);
            Envelope::with(SiloMessage::MaskedInput { at, header }, Arc::new(packed))
        };
        let mut y = honest.payload.as_ref()?.to_vec();
        Some(match op.kind {
            Kind::Garbage if op.pick(4, 2) == 0 => {
                y[op.pick(6, 40)] ^= 4;
                vec![Envelope { message: honest.message.clone(), payload: Some(Arc::new(y)) }]
            }
            Kind::Garbage => {
                // one more in the first coordinate: a silo may send any update it likes
                self.added.insert((silo, at), 1);
                vec![signed(one_more(mind, at, &y)?)]
            }
            Kind::Second => vec![honest.clone(), signed(one_more(mind, at, &y)?)],
            _ => {
                match op.pick(4, 4) {
                    0 => y.truncate(y.len() - 1),
                    1 => y.push(0),
                    2 => y.clear(),
                    _ => y.extend_from_within(..),
                }
                vec![signed(y)]
            }
        })
    }
}

fn one_more(mind: &Mind, at: AttemptId, packed: &[u8]) -> Option<Vec<u8>> {
    let plan = &mind.setup.plan;
    let params = plan.params(plan.kind(at.round)?);
    let mut lanes = blindsum_crypto::packing::unpack(params, packed).ok()?;
    lanes[0] = lanes[0].wrapping_add(1) & params.segments[0].ring_mask();
    blindsum_crypto::packing::pack(params, &lanes).ok()
}

fn hello(op: &Op, honest: &Up) -> Option<Vec<Up>> {
    let SiloMessage::Hello(hello) = &honest.message else { return None };
    let mut other = hello.clone();
    match (op.kind, op.pick(4, 4)) {
        (Kind::Garbage, 0) => other.roster_hash.0[0] ^= 1,
        (Kind::Garbage, 1) => other.job_digest.0[0] ^= 1,
        (Kind::Garbage, 2) => other.result_hash.0[0] ^= 1,
        (Kind::Garbage, _) => other.results_held += 1,
        (Kind::Second | Kind::Length, _) => other.newest = AttemptId { round: 1, attempt: u32::MAX },
        _ => {
            let (at, reason) = (AttemptId { round: 1, attempt: 1 }, DeclineReason::Mismatch);
            return Some(vec![honest.clone(), Envelope::bare(SiloMessage::Decline { at, reason })]);
        }
    }
    let other = Envelope::bare(SiloMessage::Hello(other));
    Some(match op.kind {
        Kind::Garbage => vec![other],
        Kind::Second => vec![honest.clone(), other],
        // over quota
        _ => std::iter::repeat_n(other, 20).chain([honest.clone()]).collect(),
    })
}

fn advertise(op: &Op, mind: &Mind, past: &[(SiloId, Up)], at: AttemptId, own: &Advert, honest: &Up) -> Option<Vec<Up>> {
    let ctx = mind.ctx(at)?;
    let mut advert = own.clone();
    let taken = past.iter().rev().find_map(|(_, e)| match &e.message {
        SiloMessage::Advert { at: a, advert } if *a == at && advert.silo != own.silo => Some(advert.clone()),
        _ => None,
    });
    let mut sign = true;
    match (op.kind, op.pick(4, 5)) {
        (Kind::Second, _) => {
            let secrets = mind.secrets(at, 5)?;
            let second = Advert::sign(&mind.key(own.silo), &ctx, own.silo, &secrets, own.journal(), own.counts);
            return Some(vec![honest.clone(), Envelope::bare(SiloMessage::Advert { at, advert: second })]);
        }
        (Kind::Length, _) => {
            advert.journal_length = [0, u64::MAX][op.pick(4, 2)];
        }
        (_, 0) => advert.mask_key = [0; 32],
        (_, 1) => advert.channel_key = std::array::from_fn(|i| u8::from(i == 0)),
        (_, 2) => match taken {
            Some(taken) => advert.mask_key = taken.mask_key,
            None => advert.mask_key = advert.channel_key,
        },
        (_, 3) => advert.channel_key = advert.mask_key,
        _ => {
            advert.mask_key[3] ^= 1;
            sign = false;
        }
    }
    if sign {
        let (length, counts) = (advert.journal_length.to_le_bytes(), [u8::from(advert.counts)]);
        let fields: [&[u8]; 5] = [&advert.channel_key, &advert.mask_key, &length, &advert.journal_head.0, &counts];
        advert.signature = mind.key(own.silo).sign(Label::Advert, &ctx, own.silo, &fields);
    }
    Some(vec![Envelope::bare(SiloMessage::Advert { at, advert })])
}

fn deal(op: &Op, mind: &Mind, at: AttemptId, own: &Dealing, honest: &Up, foreign: Option<Up>) -> Option<Vec<Up>> {
    let (ctx, t1) = (mind.ctx(at)?, mind.t1(at)?);
    let dealer = own.header.silo;
    let mut dealing = own.clone();
    let send = |dealing| Envelope::bare(SiloMessage::Shares { at, dealing });
    match op.kind {
        Kind::Garbage => dealing.header.signature.0[3] ^= 1,
        Kind::Second => {
            dealing.header.commitment_b.0[0] ^= 1;
            let fields: [&[u8]; 3] = [&t1.0, &dealing.header.root.0, &dealing.header.commitment_b.0];
            dealing.header.signature = mind.key(dealer).sign(Label::ShareHeader, &ctx, dealer, &fields);
            return Some(vec![honest.clone(), send(dealing)]);
        }
        Kind::Foreign => return Some(vec![foreign.unwrap_or_else(|| honest.clone())]),
        _ => match op.pick(4, 4) {
            0 => drop(dealing.pairs.pop()),
            1 => dealing.pairs.extend(own.pairs.last().cloned()),
            2 => dealing.pairs.iter_mut().for_each(|p| p.sealed.0.truncate(40)),
            _ => dealing.pairs.iter_mut().for_each(|p| p.sealed.0.push(0)),
        },
    }
    Some(vec![send(dealing)])
}

/// Complaints about honest dealers: about one, or about everybody.
fn complaints(op: &Op, mind: &Mind, at: AttemptId, silo: SiloId) -> Vec<Complaint> {
    let made = || {
        let (adverts, _) = mind.verified(at)?;
        let (ctx, quorum) = (mind.ctx(at)?, mind.setup.plan.quorum());
        let rules = verify::Rules { roster: &mind.setup.roster, ctx: &ctx, quorum: &quorum };
        let dealers = mind.heard(at)?.dealings.values().filter(|d| d.header.silo != silo);
        let most = if op.pick(5, 2) == 0 { 1 } else { usize::MAX };
        let complaints = dealers.take(most).filter_map(|dealing| {
            let dealing = verify::dealing(&rules, dealing.clone(), &adverts).ok()?;
            Some(Complaint::sign(&mind.key(silo), silo, dealing.header(), &dealing.delivery(silo)?))
        });
        Some(complaints.collect())
    };
    made().unwrap_or_default()
}

fn commit(op: &Op, mind: &Mind, at: AttemptId, own: &CommitVote, honest: &Up) -> Option<Vec<Up>> {
    let ctx = mind.ctx(at)?;
    let key = mind.key(own.silo);
    let send = |vote| Envelope::bare(SiloMessage::Commit { at, vote });
    let over_another = CommitVote::sign(&key, &ctx, own.silo, &Digest([op.variant as u8; 32]));
    Some(match op.kind {
        Kind::Garbage if op.pick(4, 2) == 0 => vec![send(over_another)],
        Kind::Garbage => {
            let mut vote = *own;
            vote.signature.0[5] ^= 1;
            vec![send(vote)]
        }
        Kind::Second if op.pick(4, 2) == 0 => vec![honest.clone(), send(over_another)],
        Kind::Second => {
            let vote = AbandonVote::sign(&key, &ctx, own.silo);
            vec![honest.clone(), Envelope::bare(SiloMessage::Abandon { at, vote })]
        }
        _ => vec![honest.clone(); 20],
    })
}

fn reveal(op: &Op, mind: &Mind, at: AttemptId, honest: &Up) -> Option<Vec<Up>> {
    let SiloMessage::Reveal { reveal, .. } = &honest.message else { return None };
    let send = |mut reveal: Reveal| {
        sign_reveal(mind, at, &mut reveal);
        Envelope::bare(SiloMessage::Reveal { at, reveal })
    };
    let mut other = reveal.clone();
    Some(match op.kind {
        Kind::Length => {
            match op.pick(4, 4) {
                0 => drop(other.shares.pop()),
                1 => other.shares.extend(reveal.shares.last().cloned()),
                2 => other.shares.clear(),
                // the same silo in both sets: its one share said to be of both kinds
                _ => {
                    let mut copy = serde_json::to_value(other.shares.first()?).ok()?;
                    let inner = copy.as_object_mut()?;
                    let (kind, name) = inner.iter().next().map(|(k, _)| (k.clone(), k == "OfSurvivor"))?;
                    let mut body = inner.remove(&kind)?;
                    let share = body.as_object_mut()?.remove(if name { "b" } else { "s" })?;
                    body[if name { "s" } else { "b" }] = share;
                    inner.insert(if name { "OfDropped" } else { "OfSurvivor" }.into(), body);
                    other.shares.insert(1, serde_json::from_value(copy).ok()?);
                }
            }
            vec![send(other)]
        }
        kind => {
            // one byte of one share
            let place = op.pick(4, other.shares.len());
            let mut tree = serde_json::to_value(other.shares.get(place)?).ok()?;
            let body = tree.as_object_mut()?.values_mut().next()?;
            let opening = body.as_object_mut()?.values_mut().find(|v| v.is_object())?;
            let byte = opening.pointer_mut(&format!("/share/{}", op.pick(9, 31)))?;
            *byte = (byte.as_u64()? ^ 1).into();
            other.shares[place] = serde_json::from_value(tree).ok()?;
            if kind == Kind::Second { vec![honest.clone(), send(other)] } else { vec![send(other)] }
        }
    })
}

/// Signs what the reply now holds.
fn sign_reveal(mind: &Mind, at: AttemptId, reveal: &mut Reveal) {
    let made = || {
        let (ctx, bind, list) = (mind.ctx(at)?, mind.bind(at)?, mind.heard(at)?.list.clone()?);
        let t3 = transcript::t3(&bind, &list.0);
        let mut hasher = Hasher::new(Label::Reveal).u64(reveal.shares.len() as u64);
        for share in &reveal.shares {
            let kind = if share.kind() == ShareKind::SelfMask { b'b' } else { b's' };
            hasher = hasher.field(&share.peer().to_bytes()).field(&[kind]);
            let tree = serde_json::to_value(share).ok()?;
            let opening = tree.as_object()?.values().next()?.as_object()?.values().find(|v| v.is_object())?.clone();
            for part in ["share", "nonce"] {
                let bytes: Vec<u8> = serde_json::from_value(opening[part].clone()).ok()?;
                hasher = hasher.field(&bytes);
            }
        }
        Some(mind.key(reveal.silo).sign(Label::Reveal, &ctx, reveal.silo, &[&t3.0, &hasher.finish().0]))
    };
    if let Some(signature) = made() {
        reveal.signature = signature;
    }
}

fn sketch_sums(op: &Op, mind: &Mind, at: AttemptId, own: &Sketch, honest: &Up) -> Option<Vec<Up>> {
    let (ctx, bind, heard) = (mind.ctx(at)?, mind.bind(at)?, mind.heard(at)?);
    let (t3, sum_hash) = (transcript::t3(&bind, &heard.list.as_ref()?.0), heard.sum_hash?);
    let mut values = own.values.clone();
    match (op.kind, op.pick(4, 4)) {
        (Kind::Length, 0) => drop(values.pop()),
        (Kind::Length, 1) => values.push(0),
        (Kind::Length, 2) => values.clear(),
        // it says that it has forgotten its masked input
        (Kind::Length, _) => return Some(vec![Envelope::bare(SiloMessage::Sketch { at, sketch: None })]),
        _ => {
            let place = op.pick(6, values.len());
            values[place] ^= 1;
        }
    }
    let sketch = Some(Sketch::sign(&mind.key(own.silo), &ctx, own.silo, &t3, &sum_hash, values));
    let lie = Envelope::bare(SiloMessage::Sketch { at, sketch });
    Some(if op.kind == Kind::Second { vec![honest.clone(), lie] } else { vec![lie] })
}

fn vote_result(op: &Op, mind: &Mind, at: AttemptId, own: &ResultVote, honest: &Up) -> Option<Vec<Up>> {
    let ctx = mind.ctx(at)?;
    let other = Digest([op.variant as u8; 32]);
    let other = ResultVote::sign(&mind.key(own.silo), &ctx, own.silo, &other, &other);
    let other = Envelope::bare(SiloMessage::ResultVote { at, vote: other });
    Some(match op.kind {
        Kind::Garbage => vec![other],
        Kind::Second => vec![honest.clone(), other],
        _ => vec![honest.clone(); 20],
    })
}

fn abandon(op: &Op, mind: &Mind, at: AttemptId, own: &AbandonVote, honest: &Up) -> Option<Vec<Up>> {
    let mut vote = *own;
    match op.kind {
        Kind::Garbage => vote.signature.0[0] ^= 1,
        Kind::Second => {
            // commits to what it abandons
            let (list, bind) = (mind.heard(at)?.list.clone(), mind.bind(at)?);
            let t3 = list.map_or(Digest([1; 32]), |list| transcript::t3(&bind, &list.0));
            let commit = CommitVote::sign(&mind.key(own.silo), &mind.ctx(at)?, own.silo, &t3);
            return Some(vec![honest.clone(), Envelope::bare(SiloMessage::Commit { at, vote: commit })]);
        }
        _ => return Some(vec![honest.clone(); 20]),
    }
    Some(vec![Envelope::bare(SiloMessage::Abandon { at, vote })])
}

/// What a scripted silo answers, as actions.
pub fn answers(silo: SiloId, answers: Vec<Up>) -> Vec<Action> {
    answers.into_iter().zip(0..).map(|(e, i)| Action::ToCoordinator(silo, e, 2 * TRAVEL_MS + i)).collect()
}
