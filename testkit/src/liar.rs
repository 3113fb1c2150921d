//! The lying coordinator: what it says instead of the truth, and the campaigns in which it says different things to
//! different camps and collects what they answer.
//!
//! Contract: it knows what a coordinator can know ([`Mind`]) and signs with the colluders' keys alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blindsum_crypto::{
    Advert, CommitCertificate, CommitVote, Digest, MaskedHeader, ResultCertificate, ResultVote, ShareHeader, Signature,
    SiloId, SurvivorList, fixed_point, packing, share, transcript,
};
use blindsum_crypto::{Label, verify};
use blindsum_protocol::coordinator::StoreRecord;
use blindsum_protocol::message::{Abandoned, MaskedBack, Open, RoundResult};
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, RoundKind, SiloMessage};

use crate::cluster::{Action, StoreEdit, TRAVEL_MS};
use crate::mind::Mind;
use crate::ops::{Kind, Op, Phase};

type Up = Envelope<SiloMessage>;
type Down = Envelope<CoordinatorMessage>;

/// What the liar remembers of its lies.
#[derive(Default)]
pub struct Liar {
    told: BTreeSet<(usize, SiloId)>,
    campaigns: BTreeMap<usize, Campaign>,
}

/// Two versions of one thing, each told to a camp.
struct Campaign {
    at: AttemptId,
    what: What,
    /// Who was told the other version.
    camp: BTreeSet<SiloId>,
    /// Who was told the honest one.
    rest: BTreeSet<SiloId>,
    /// Certificates already given out, per camp.
    done: BTreeSet<bool>,
}

enum What {
    /// The honest list and another one; COMMIT votes per camp.
    Lists { lists: [SurvivorList; 2], votes: [BTreeMap<SiloId, CommitVote>; 2] },
    /// The honest list, and a request to abandon.
    ListOrAbandon { list: SurvivorList, votes: BTreeMap<SiloId, CommitVote> },
    /// Result votes over the honest and another sum; the colluders' own are in them.
    Sums { votes: [BTreeMap<SiloId, ResultVote>; 2] },
}

/// What a lie of this phase and kind waits for.
fn trigger(op: &Op) -> &'static str {
    match (op.phase, op.kind) {
        (Phase::Open, _) => "open",
        (Phase::Advertise, _) => "adverts",
        (Phase::Share, _) => "shares",
        (Phase::Commit, _) => "commit-request",
        (Phase::Reveal, _) => "reveal-request",
        // asked for subset sums before there is a sum
        (Phase::Sum, Kind::Collude) => ["shares", "commit-request", "reveal-request"][op.pick(0, 3)],
        (Phase::Sum, _) => "sum-request",
        (Phase::Result, Kind::Repeat) => ["result", "certified"][op.pick(0, 2)],
        (Phase::Result, _) => "result",
        (Phase::Abandon, Kind::Repeat) => {
            ["adverts", "shares", "commit-request", "reveal-request", "result", "open"][op.pick(0, 6)]
        }
        (Phase::Abandon | Phase::Masked, _) => "commit-request",
    }
}

impl Liar {
    /// What a silo of the camp is told instead of an honest message; `None` where the op has nothing to say here.
    pub fn tell(
        &mut self,
        index: usize,
        op: &Op,
        mind: &Mind,
        past: &[(SiloId, Down)],
        silo: SiloId,
        honest: &Down,
    ) -> Option<Vec<Action>> {
        if honest.message.name() != trigger(op) || (!op.every && self.told.contains(&(index, silo))) {
            return None;
        }
        let told = match &honest.message {
            CoordinatorMessage::Open(open) if op.phase == Phase::Open => open_lie(op, mind, open, honest),
            CoordinatorMessage::Adverts { at, adverts } if op.phase == Phase::Advertise => {
                let mut adverts = adverts.clone();
                advert_lie(op, mind, *at, past, silo, &mut adverts)?;
                vec![Envelope::bare(CoordinatorMessage::Adverts { at: *at, adverts })]
            }
            CoordinatorMessage::Shares { .. } if op.phase == Phase::Share => vec![share_lie(op, mind, silo, honest)?],
            CoordinatorMessage::CommitRequest { at, list } if op.phase == Phase::Commit => {
                if op.kind == Kind::Equivocate {
                    return self.two_lists(index, op, mind, *at, list, silo);
                }
                list_lie(op, mind, *at, silo, list, honest)?
            }
            message if op.phase == Phase::Sum => sum_lie(op, mind, crate::script::attempt_of(message)?, silo, honest)?,
            CoordinatorMessage::RevealRequest { at, certificate } => {
                if op.phase == Phase::Abandon {
                    return self.at_odd_times(index, op, silo, honest);
                }
                certificate_lie(op, mind, *at, certificate, honest)?
            }
            CoordinatorMessage::Result(result) if op.phase == Phase::Result => {
                if op.kind == Kind::Equivocate {
                    return self.two_sums(index, mind, result, honest, silo);
                }
                vec![result_lie(op, mind, result, honest)?].into_iter().chain(repeated(op, honest)).collect()
            }
            CoordinatorMessage::Certified { at, certificate } if op.phase == Phase::Result => {
                let mut certificate = certificate.clone();
                repeat_first(&mut certificate.0, op);
                vec![Envelope::bare(CoordinatorMessage::Certified { at: *at, certificate }), honest.clone()]
            }
            _ if op.phase == Phase::Abandon && op.kind == Kind::Repeat => {
                return self.at_odd_times(index, op, silo, honest);
            }
            CoordinatorMessage::CommitRequest { at, list } if op.phase == Phase::Abandon => {
                return self.abandon_lie(index, op, mind, *at, list, silo, honest);
            }
            _ => return None,
        };
        self.told.insert((index, silo));
        Some(told.into_iter().zip(0..).map(|(e, i)| Action::ToSilo(silo, e, TRAVEL_MS + i)).collect())
    }

    /// Shows `{all}` to some and `{all but the victim}` to the camp.
    fn two_lists(
        &mut self,
        index: usize,
        op: &Op,
        mind: &Mind,
        at: AttemptId,
        list: &SurvivorList,
        silo: SiloId,
    ) -> Option<Vec<Action>> {
        let victim = list.0.iter().map(|m| m.silo).rfind(|s| !op.concerns(*s) && !mind.faulty.contains(s))?;
        let other = SurvivorList(list.0.iter().filter(|m| m.silo != victim).copied().collect());
        let campaign = self.campaigns.entry(index).or_insert_with(|| {
            let rest = list.0.iter().map(|m| m.silo).filter(|s| !op.concerns(*s)).collect();
            let camp = other.0.iter().map(|m| m.silo).filter(|s| op.concerns(*s)).collect();
            let what = What::Lists { lists: [list.clone(), other.clone()], votes: Default::default() };
            Campaign { at, what, camp, rest, done: BTreeSet::new() }
        });
        if campaign.at != at {
            return None;
        }
        self.told.insert((index, silo));
        let list = if mind.faulty.contains(&silo) { list.clone() } else { other };
        Some(vec![Action::ToSilo(silo, Envelope::bare(CoordinatorMessage::CommitRequest { at, list }), TRAVEL_MS)])
    }

    /// Another sum for the camp, one too many in the first coordinate.
    fn two_sums(
        &mut self,
        index: usize,
        mind: &Mind,
        result: &RoundResult,
        honest: &Down,
        silo: SiloId,
    ) -> Option<Vec<Action>> {
        let sum = honest.payload.as_ref()?;
        let false_sum = Arc::new(one_more(mind, result.at, sum)?);
        let entry = self.campaigns.entry(index);
        let campaign = entry.or_insert_with(|| {
            let votes = [sum, &false_sum].map(|s| colluding_votes(mind, result, s).unwrap_or_default());
            let (camp, rest) = (BTreeSet::new(), BTreeSet::new());
            Campaign { at: result.at, what: What::Sums { votes }, camp, rest, done: BTreeSet::new() }
        });
        if campaign.at != result.at {
            return None;
        }
        campaign.camp.insert(silo);
        self.told.insert((index, silo));
        let lie = Envelope { message: honest.message.clone(), payload: Some(false_sum) };
        Some(vec![Action::ToSilo(silo, lie, TRAVEL_MS)])
    }

    /// A request to abandon where none belongs: before, beside or after the votes, for this attempt or the next.
    fn at_odd_times(&mut self, index: usize, op: &Op, silo: SiloId, honest: &Down) -> Option<Vec<Action>> {
        let mut at = crate::script::attempt_of(&honest.message)?;
        at.attempt += u32::try_from(op.pick(4, 2)).ok()?;
        self.told.insert((index, silo));
        let request = Envelope::bare(CoordinatorMessage::AbandonRequest { at });
        let mut told = vec![Action::ToSilo(silo, honest.clone(), TRAVEL_MS + 1)];
        told.insert(op.pick(5, 2), Action::ToSilo(silo, request, TRAVEL_MS + 2 * op.pick(5, 2) as u64));
        Some(told)
    }

    #[allow(clippy::too_many_arguments)] // what a lie is made of
    fn abandon_lie(
        &mut self,
        index: usize,
        op: &Op,
        mind: &Mind,
        at: AttemptId,
        list: &SurvivorList,
        silo: SiloId,
        honest: &Down,
    ) -> Option<Vec<Action>> {
        self.told.insert((index, silo));
        match op.kind {
            // the camp abandons what the others commit to
            Kind::Equivocate => {
                let campaign = self.campaigns.entry(index).or_insert_with(|| {
                    let (camp, rest) = list.0.iter().map(|m| m.silo).partition(|s| op.concerns(*s));
                    let what = What::ListOrAbandon { list: list.clone(), votes: BTreeMap::new() };
                    Campaign { at, what, camp, rest, done: BTreeSet::new() }
                });
                let request = Envelope::bare(CoordinatorMessage::AbandonRequest { at });
                (campaign.at == at).then(|| vec![Action::ToSilo(silo, request, TRAVEL_MS)])
            }
            // the attempt is given up without proof or with a false one, by a coordinator started from another store
            Kind::Omit => Some(vec![Action::KillCoordinator { restart_ms: Some(50), edit: Some(StoreEdit::Forget) }]),
            Kind::Forge | Kind::Collude => {
                let mut certificate = mind.abandon_certificate(at, op.kind == Kind::Collude);
                if op.kind == Kind::Forge {
                    forged_abandons(op, mind, at, &mut certificate.0);
                }
                let record = StoreRecord::Abandoned { at, certificate };
                let edit = Some(StoreEdit::Add(Box::new(record)));
                Some(vec![Action::KillCoordinator { restart_ms: Some(50), edit }])
            }
            _ => Some(vec![Action::ToSilo(silo, honest.clone(), TRAVEL_MS)]),
        }
    }

    /// A campaign takes the answers that it asked for, and gives its camps certificates as soon as it can make them.
    pub fn hear(&mut self, mind: &Mind, silo: SiloId, up: &Up) -> Option<Vec<Action>> {
        let q = usize::from(mind.setup.plan.quorum().q);
        for campaign in self.campaigns.values_mut() {
            let at = campaign.at;
            if up.message.at() != Some(at) {
                continue;
            }
            let in_camp = campaign.camp.contains(&silo);
            let mut actions = vec![Action::ToCoordinator(silo, up.clone(), TRAVEL_MS)];
            match (&mut campaign.what, &up.message) {
                (What::Lists { lists, votes }, SiloMessage::Commit { vote, .. }) => {
                    votes[usize::from(in_camp)].insert(silo, *vote);
                    if in_camp && !mind.faulty.contains(&silo) {
                        actions.clear();
                    }
                    for camp in [false, true] {
                        let mut signed = votes[usize::from(camp)].clone();
                        for vote in mind.commits(at, &lists[usize::from(camp)]) {
                            signed.insert(vote.silo, vote);
                        }
                        let members = if camp { &campaign.camp } else { &campaign.rest };
                        let all = members.iter().all(|s| signed.contains_key(s));
                        if (signed.len() >= q || all) && campaign.done.insert(camp) {
                            let certificate = CommitCertificate(signed.into_values().collect());
                            let request = CoordinatorMessage::RevealRequest { at, certificate };
                            let tell = |&s: &SiloId| Action::ToSilo(s, Envelope::bare(request.clone()), TRAVEL_MS + 2);
                            actions.extend(members.iter().map(tell));
                        }
                    }
                    return Some(actions);
                }
                (What::Lists { .. }, SiloMessage::Reveal { .. }) if in_camp => return Some(Vec::new()),
                (What::ListOrAbandon { list, votes }, SiloMessage::Commit { vote, .. }) => {
                    votes.insert(silo, *vote);
                    for vote in mind.commits(at, list) {
                        votes.insert(vote.silo, vote);
                    }
                    if votes.len() >= q && campaign.done.insert(false) {
                        let certificate = CommitCertificate(votes.values().copied().collect());
                        let request = CoordinatorMessage::RevealRequest { at, certificate };
                        let tell = |&s: &SiloId| Action::ToSilo(s, Envelope::bare(request.clone()), TRAVEL_MS + 2);
                        actions.extend(campaign.rest.iter().map(tell));
                    }
                    return Some(actions);
                }
                (What::ListOrAbandon { .. }, SiloMessage::Abandon { .. }) => {
                    // what the colluders add goes to the honest machine too, which will prove with it what it can
                    if campaign.done.insert(true) {
                        for vote in mind.abandons(at) {
                            let message = Envelope::bare(SiloMessage::Abandon { at, vote });
                            actions.push(Action::ToCoordinator(vote.silo, message, TRAVEL_MS + 2));
                        }
                    }
                    return Some(actions);
                }
                (What::Sums { votes }, SiloMessage::ResultVote { vote, .. }) => {
                    votes[usize::from(in_camp)].insert(silo, *vote);
                    if in_camp {
                        actions.clear();
                        let certificate = ResultCertificate(votes[1].values().copied().collect());
                        let certified = CoordinatorMessage::Certified { at, certificate };
                        actions.push(Action::ToSilo(silo, Envelope::bare(certified), TRAVEL_MS + 2));
                    }
                    return Some(actions);
                }
                _ => {}
            }
        }
        None
    }
}

fn repeated(op: &Op, honest: &Down) -> Option<Down> {
    (op.kind == Kind::Repeat).then(|| honest.clone())
}

/// The first entry in place of others: a list with repeats, or out of order.
fn repeat_first<T: Copy>(list: &mut Vec<T>, op: &Op) {
    let Some(&first) = list.first() else { return };
    match op.pick(4, 3) {
        0 => list.iter_mut().for_each(|entry| *entry = first),
        1 => list.push(first),
        _ => list.reverse(),
    }
}

fn open_lie(op: &Op, mind: &Mind, open: &Open, honest: &Down) -> Vec<Down> {
    let mut lie = open.clone();
    let at = AttemptId { round: open.context.round, attempt: open.context.attempt };
    let other = Digest([op.variant as u8 | 1; 32]);
    match op.kind {
        Kind::Equivocate => match op.pick(4, 3) {
            0 => lie.context.attempt += 1,
            1 => lie.context.model_hash = other,
            _ => lie.context.params_hash = other,
        },
        Kind::Omit => {
            if lie.abandoned.is_empty() {
                return Vec::new();
            }
            lie.abandoned.clear();
        }
        Kind::Forge => match op.pick(4, 11) {
            0 => lie.context.federation_id.push('x'),
            1 => lie.context.roster_hash = other,
            2 => lie.context.roster_version += 1,
            3 => lie.context.job_digest = other,
            4 => lie.context.params_hash = other,
            5 => lie.context.previous_result_hash = other,
            6 => lie.context.model_hash = other,
            7 => lie.context.round += 1,
            8 => lie.context.attempt = 0,
            9 => lie.context.attempt = u32::MAX,
            _ => {
                let mut certificate = mind.abandon_certificate(at, true);
                forged_abandons(op, mind, at, &mut certificate.0);
                lie.abandoned = (1..at.attempt.max(2))
                    .map(|attempt| Abandoned { attempt, certificate: certificate.clone() })
                    .collect();
            }
        },
        Kind::Repeat => return vec![honest.clone(), honest.clone()],
        // the next attempt at once, with what the colluders can prove
        _ => {
            lie.context.attempt += 1;
            lie.abandoned.push(Abandoned { attempt: at.attempt, certificate: mind.abandon_certificate(at, true) });
            let (now, next) = (honest.clone(), Envelope::bare(CoordinatorMessage::Open(lie)));
            return if op.pick(4, 2) == 0 { vec![now, next] } else { vec![next, now] };
        }
    }
    vec![Envelope::bare(CoordinatorMessage::Open(lie))]
}

/// ABANDON votes that nobody cast, up to q.
fn forged_abandons(op: &Op, mind: &Mind, at: AttemptId, votes: &mut Vec<blindsum_crypto::AbandonVote>) {
    let Some(ctx) = mind.ctx(at) else { return };
    let q = usize::from(mind.setup.plan.quorum().q);
    let stranger = blindsum_crypto::IdentityKey::from_bytes(&[op.variant as u8; 32]);
    let voted: BTreeSet<SiloId> = votes.iter().map(|v| v.silo).collect();
    for silo in mind.setup.roster.ids().filter(|s| !voted.contains(s)) {
        if votes.len() < q {
            votes.push(blindsum_crypto::AbandonVote::sign(&stranger, &ctx, silo));
        }
    }
    votes.sort_by_key(|v| v.silo);
}

fn advert_lie(
    op: &Op,
    mind: &Mind,
    at: AttemptId,
    past: &[(SiloId, Down)],
    silo: SiloId,
    adverts: &mut Vec<Advert>,
) -> Option<()> {
    let ctx = mind.ctx(at)?;
    let m = usize::from(mind.setup.plan.quorum().m);
    let others = |a: &Advert| a.silo != silo && !mind.faulty.contains(&a.silo);
    let victim = adverts.iter().position(|a| others(a) && !op.concerns(a.silo));
    let victim = victim.or_else(|| adverts.iter().position(others));
    let victim = victim.or_else(|| adverts.iter().position(|a| a.silo != silo))?;
    let colluder = adverts.iter().position(|a| mind.faulty.contains(&a.silo) && a.silo != silo);
    let fresh = mind.secrets(at, u64::from(op.variant))?;
    match (op.kind, colluder) {
        (Kind::Equivocate, Some(i)) if op.pick(4, 2) == 0 => {
            let (id, journal) = (adverts[i].silo, adverts[i].journal());
            adverts[i] = Advert::sign(&mind.key(id), &ctx, id, &fresh, journal, true);
        }
        (Kind::Equivocate, _) => drop(adverts.remove(victim)),
        (Kind::Omit, _) => match op.pick(4, 3) {
            0 => adverts.retain(|a| a.silo != silo),
            1 => adverts.truncate(m - 1),
            _ => drop(adverts.remove(victim)),
        },
        (Kind::Repeat, _) => match op.pick(4, 3) {
            0 => adverts.push(adverts[victim].clone()),
            1 => adverts.reverse(),
            _ => adverts[victim].mask_key = adverts[victim].channel_key,
        },
        (Kind::Collude, Some(i)) => {
            let (id, mut advert) = (adverts[i].silo, adverts[i].clone());
            let taken = adverts[victim].clone();
            match op.pick(4, 5) {
                0 => advert.mask_key = [0; 32],
                1 => advert.channel_key = std::array::from_fn(|i| u8::from(i == 0)),
                2 => advert.mask_key = taken.mask_key,
                3 => advert.channel_key = taken.channel_key,
                _ => (advert.channel_key, advert.mask_key) = (taken.channel_key, taken.mask_key),
            }
            sign_advert(mind, &ctx, id, &mut advert);
            adverts[i] = advert;
        }
        _ => {
            let old = past.iter().filter_map(|(_, e)| match &e.message {
                CoordinatorMessage::Adverts { at: a, adverts } if *a < at => {
                    adverts.iter().find(|a| a.silo == adverts[victim.min(adverts.len() - 1)].silo).cloned()
                }
                _ => None,
            });
            let place = if op.pick(6, 4) == 0 { adverts.iter().position(|a| a.silo == silo)? } else { victim };
            let advert = &mut adverts[place];
            match op.pick(4, 4) {
                // no signature, a wrong one, the old one
                0 => (advert.mask_key, advert.signature) = (fresh.mask.public(), Signature([0; 64])),
                1 => {
                    let stranger = blindsum_crypto::IdentityKey::from_bytes(&[op.variant as u8; 32]);
                    *advert = Advert::sign(&stranger, &ctx, advert.silo, &fresh, advert.journal(), advert.counts);
                }
                2 => advert.channel_key = fresh.channel.public(),
                _ => match old.into_iter().next() {
                    Some(old) => *advert = old,
                    None => advert.journal_length += 1,
                },
            }
        }
    }
    Some(())
}

fn sign_advert(mind: &Mind, ctx: &Digest, id: SiloId, advert: &mut Advert) {
    let (length, counts) = (advert.journal_length.to_le_bytes(), [u8::from(advert.counts)]);
    let fields: [&[u8]; 5] = [&advert.channel_key, &advert.mask_key, &length, &advert.journal_head.0, &counts];
    advert.signature = mind.key(id).sign(Label::Advert, ctx, id, &fields);
}

fn sign_header(mind: &Mind, ctx: &Digest, t1: &Digest, header: &mut ShareHeader) {
    let fields: [&[u8]; 3] = [&t1.0, &header.root.0, &header.commitment_b.0];
    header.signature = mind.key(header.silo).sign(Label::ShareHeader, ctx, header.silo, &fields);
}

fn share_lie(op: &Op, mind: &Mind, silo: SiloId, honest: &Down) -> Option<Down> {
    let CoordinatorMessage::Shares { at, headers, deliveries } = &honest.message else { return None };
    let (at, mut headers, mut deliveries) = (*at, headers.clone(), deliveries.clone());
    let (ctx, t1) = (mind.ctx(at)?, mind.t1(at)?);
    let m = usize::from(mind.setup.plan.quorum().m);
    let victim = headers.iter().position(|h| h.silo != silo && !op.concerns(h.silo));
    let victim = victim.or_else(|| headers.iter().position(|h| h.silo != silo))?;
    let gone = headers[victim].silo;
    let colluder = headers.iter().position(|h| mind.faulty.contains(&h.silo) && h.silo != silo);
    let sent = deliveries.iter().position(|d| d.dealer == gone);
    match (op.kind, colluder) {
        (Kind::Equivocate, Some(i)) if op.pick(4, 2) == 0 => {
            headers[i].commitment_b.0[0] ^= 1;
            sign_header(mind, &ctx, &t1, &mut headers[i]);
        }
        (Kind::Equivocate, _) => {
            headers.remove(victim);
            deliveries.retain(|d| d.dealer != gone);
        }
        (Kind::Omit, _) => match op.pick(4, 4) {
            0 => headers.retain(|h| h.silo != silo),
            1 => headers.truncate(m - 1),
            2 => deliveries.clear(),
            _ => deliveries.retain(|d| d.dealer != gone),
        },
        (Kind::Repeat, _) => match op.pick(4, 4) {
            0 => headers.push(headers[victim].clone()),
            1 => headers.reverse(),
            2 => deliveries.extend(sent.map(|i| deliveries[i].clone())),
            _ => deliveries.reverse(),
        },
        (Kind::Collude, Some(i)) => {
            // dealt anew for this silo alone, from other secrets than those advertised, under a root of its own
            let dealer = headers[i].silo;
            let (adverts, _) = mind.verified(at)?;
            let quorum = mind.setup.plan.quorum();
            let rules = verify::Rules { roster: &mind.setup.roster, ctx: &ctx, quorum: &quorum };
            let (secrets, mut rng) = (mind.secrets(at, 7)?, crate::rng(u64::from(op.variant)));
            let (dealing, _) = share::deal(&mind.key(dealer), dealer, &secrets, &adverts, quorum.t, &mut rng).ok()?;
            let dealing = verify::dealing(&rules, dealing, &adverts).ok()?;
            headers[i] = dealing.header().header().clone();
            deliveries.retain(|d| d.dealer != dealer);
            deliveries.extend(dealing.delivery(silo));
            deliveries.sort_by_key(|d| d.dealer);
        }
        _ => match (op.pick(4, 6), sent) {
            (0, _) => headers[victim].root.0[1] ^= 1,
            (1, _) => headers[victim].commitment_b.0[1] ^= 1,
            (2, Some(i)) => deliveries[i].sealed.0[op.pick(8, 144)] ^= 1,
            (3, Some(i)) => deliveries[i].leaves.b.0[2] ^= 1,
            (4, Some(i)) => deliveries[i].path.iter_mut().for_each(|h| h.0[0] ^= 1),
            (_, Some(i)) => {
                // what was sealed for somebody else
                let other = mind.heard(at)?.dealings.get(&gone)?;
                let pair = other.pairs.iter().find(|p| !p.sealed.0.is_empty() && p.sealed != deliveries[i].sealed)?;
                (deliveries[i].leaves, deliveries[i].sealed) = (pair.leaves, pair.sealed.clone());
            }
            _ => headers[victim].root.0[1] ^= 1,
        },
    }
    Some(Envelope::bare(CoordinatorMessage::Shares { at, headers, deliveries }))
}

fn list_lie(
    op: &Op,
    mind: &Mind,
    at: AttemptId,
    silo: SiloId,
    list: &SurvivorList,
    honest: &Down,
) -> Option<Vec<Down>> {
    let (ctx, bind) = (mind.ctx(at)?, mind.bind(at)?);
    let m = usize::from(mind.setup.plan.quorum().m);
    let mut lie = list.clone();
    let own = lie.0.iter().position(|e| e.silo == silo)?;
    let victim = lie.0.iter().position(|e| e.silo != silo)?;
    let colluder = lie.0.iter().position(|e| mind.faulty.contains(&e.silo) && e.silo != silo);
    let outside = mind.setup.roster.ids().find(|s| !lie.0.iter().any(|e| e.silo == *s)).unwrap_or(SiloId(77));
    match (op.kind, colluder) {
        (Kind::Omit, _) => drop(lie.0.remove(if op.pick(4, 2) == 0 { own } else { victim })),
        (Kind::Forge, _) => match op.pick(4, 4) {
            0 => lie.0[own].hash.0[0] ^= 1,
            1 => lie.0[victim].hash.0[0] ^= 1,
            2 => (lie.0[own].signature, lie.0[victim].signature) = (lie.0[victim].signature, lie.0[own].signature),
            _ => {
                let invented = MaskedHeader { silo: outside, ..lie.0[victim] };
                lie.0.push(invented);
                lie.0.sort_by_key(|e| e.silo);
            }
        },
        (Kind::Repeat, _) => {
            if op.pick(4, 2) == 0 {
                repeat_first(&mut lie.0, op);
            } else {
                // a second list, before or after the vote; perhaps with what came too late for the first
                match mind.heard(at)?.masked.get(&outside) {
                    Some(late) if op.pick(5, 2) == 0 => lie.0.push(*late),
                    _ => drop(lie.0.remove(victim)),
                }
                lie.0.sort_by_key(|e| e.silo);
                let second = Envelope::bare(CoordinatorMessage::CommitRequest { at, list: lie });
                let (one, two) = (honest.clone(), second);
                return Some(if op.pick(6, 2) == 0 { vec![one, two] } else { vec![two, one] });
            }
        }
        // a colluder's other y, or colluders alone
        (Kind::Collude, Some(i)) if op.pick(4, 2) == 0 => {
            let id = lie.0[i].silo;
            lie.0[i] = MaskedHeader::sign(&mind.key(id), &ctx, &bind, id, b"another masked input");
        }
        _ => {
            let mut kept = m - 1;
            lie.0.retain(|e| {
                e.silo == silo
                    || (kept > 1 && (mind.faulty.contains(&e.silo) || op.concerns(e.silo))) && {
                        kept -= 1;
                        true
                    }
            });
        }
    }
    Some(vec![Envelope::bare(CoordinatorMessage::CommitRequest { at, list: lie })])
}

fn certificate_lie(
    op: &Op,
    mind: &Mind,
    at: AttemptId,
    certificate: &CommitCertificate,
    honest: &Down,
) -> Option<Vec<Down>> {
    let mut lie = certificate.clone();
    let q = usize::from(mind.setup.plan.quorum().q);
    let list = mind.heard(at)?.list.clone()?;
    let request = |certificate| Envelope::bare(CoordinatorMessage::RevealRequest { at, certificate });
    match op.kind {
        // over another list: by those who sign anything
        Kind::Equivocate => {
            let gone = list.0.iter().map(|m| m.silo).rfind(|s| !mind.faulty.contains(s))?;
            let other = SurvivorList(list.0.iter().filter(|m| m.silo != gone).copied().collect());
            for vote in mind.commits(at, &other) {
                match lie.0.iter_mut().find(|v| v.silo == vote.silo) {
                    Some(own) => *own = vote,
                    None => lie.0.push(vote),
                }
            }
            if mind.faulty.is_empty() {
                let (ctx, bind) = (mind.ctx(at)?, mind.bind(at)?);
                let t3 = transcript::t3(&bind, &other.0);
                let stranger = blindsum_crypto::IdentityKey::from_bytes(&[3; 32]);
                lie.0.iter_mut().for_each(|v| *v = CommitVote::sign(&stranger, &ctx, v.silo, &t3));
            }
            lie.0.sort_by_key(|v| v.silo);
        }
        Kind::Omit => lie.0.truncate([q - 1, 0, q / 2][op.pick(4, 3)]),
        Kind::Forge => match op.pick(4, 3) {
            0 => lie.0.first_mut()?.signature.0[7] ^= 1,
            1 => lie.0.last_mut()?.silo = SiloId(77),
            _ => {
                let outside = mind.setup.roster.ids().find(|s| !list.0.iter().any(|e| e.silo == *s))?;
                lie.0.first_mut()?.silo = outside;
                lie.0.sort_by_key(|v| v.silo);
            }
        },
        Kind::Repeat => {
            if op.pick(4, 2) == 0 {
                repeat_first(&mut lie.0, op);
            } else {
                // asked twice, by different quorums
                lie.0.extend(mind.commits(at, &list).into_iter().filter(|v| !certificate.0.contains(v)));
                lie.0.sort_by_key(|v| v.silo);
                lie.0.dedup_by_key(|v| v.silo);
                return Some(vec![honest.clone(), request(lie), honest.clone()]);
            }
        }
        _ => {
            lie.0 = mind.commits(at, &list);
            if let Some(&vote) = lie.0.first().or(certificate.0.first()) {
                lie.0.resize(q, vote);
            }
        }
    }
    Some(vec![request(lie)])
}

fn sum_lie(op: &Op, mind: &Mind, at: AttemptId, silo: SiloId, honest: &Down) -> Option<Vec<Down>> {
    let another = Digest([op.variant as u8 | 1; 32]);
    let request = |sum_hash| Envelope::bare(CoordinatorMessage::SumRequest { at, sum_hash, back: None });
    let heard = mind.heard(at)?;
    Some(match op.kind {
        Kind::Equivocate => vec![request(another)],
        Kind::Omit => Vec::new(),
        Kind::Repeat if op.pick(4, 2) == 0 => vec![honest.clone(), request(another)],
        Kind::Repeat => vec![request(another), honest.clone()],
        Kind::Forge => {
            // handed back: another silo's masked input, or its own under another list
            let CoordinatorMessage::SumRequest { sum_hash, .. } = &honest.message else { return None };
            let mut list = heard.list.clone()?;
            let other = heard.payloads.iter().find(|(s, _)| (**s == silo) == (op.pick(4, 2) == 0))?.1;
            let entry = list.0.iter_mut().find(|e| e.silo == silo)?;
            entry.hash = transcript::masked_hash(other);
            let back = Some(MaskedBack { bind: mind.bind(at)?, list });
            let message = CoordinatorMessage::SumRequest { at, sum_hash: *sum_hash, back };
            vec![Envelope::with(message, Arc::clone(other)), honest.clone()]
        }
        _ => vec![request(another), honest.clone()],
    })
}

fn result_lie(op: &Op, mind: &Mind, result: &RoundResult, honest: &Down) -> Option<Down> {
    let mut lie = result.clone();
    let mut sum = honest.payload.as_ref()?.to_vec();
    match op.kind {
        Kind::Omit => match op.pick(4, 3) {
            0 => drop(lie.list.0.pop()),
            1 => drop(lie.commits.0.pop()),
            _ => lie.certificate.as_mut().map(|c| c.0.pop()).map_or_else(|| lie.list.0.clear(), drop),
        },
        Kind::Repeat => repeat_first(&mut lie.commits.0, op),
        Kind::Collude => {
            // a false sum, certified by the colluders and whoever's votes can be repeated
            let false_sum = one_more(mind, result.at, &sum)?;
            let mut votes: Vec<ResultVote> = colluding_votes(mind, result, &false_sum)?.into_values().collect();
            votes.extend(lie.certificate.iter().flat_map(|c| c.0.iter().copied()));
            if let Some(&vote) = votes.first() {
                votes.resize(usize::from(mind.setup.plan.quorum().q).max(votes.len()), vote);
            }
            lie.certificate = Some(ResultCertificate(votes));
            sum = false_sum;
        }
        _ => match op.pick(4, 8) {
            0 => *sum.first_mut()? ^= 1,
            1 => {
                let plan = &mind.setup.plan;
                let canary = plan.params(plan.kind(result.at.round)?).packed_bytes() - 4 * plan.metrics_len();
                sum[canary] ^= 1;
            }
            2 => lie.bind.0[0] ^= 1,
            3 => lie.list.0.first_mut()?.hash.0[0] ^= 1,
            4 => lie.proof = None,
            5 => lie.proof.as_mut()?.secrets.rotate_left(1),
            6 => {
                let values = &mut lie.proof.as_mut()?.sketches.first_mut()?.values;
                let place = op.pick(8, values.len());
                values[place] ^= 1;
            }
            _ => lie.commits.0.first_mut()?.signature.0[0] ^= 1,
        },
    }
    Some(Envelope { message: CoordinatorMessage::Result(lie), payload: Some(Arc::new(sum)) })
}

/// S, one more in the first coordinate; what is opened behind it stays.
fn one_more(mind: &Mind, at: AttemptId, payload: &[u8]) -> Option<Vec<u8>> {
    let plan = &mind.setup.plan;
    let params = plan.params(plan.kind(at.round)?);
    let (sum, opened) = payload.split_at_checked(params.packed_bytes())?;
    let mut lanes = packing::unpack(params, sum).ok()?;
    let ring = params.segments[0].ring_mask();
    lanes[0] = lanes[0].wrapping_add(1) & ring;
    let mut packed = packing::pack(params, &lanes).ok()?;
    packed.extend_from_slice(opened);
    Some(packed)
}

/// The colluders' RESULT votes over a sum of round 1.
fn colluding_votes(mind: &Mind, result: &RoundResult, sum: &[u8]) -> Option<BTreeMap<SiloId, ResultVote>> {
    let plan = &mind.setup.plan;
    let (at, ctx) = (result.at, mind.ctx(result.at)?);
    if at.round != 1 {
        return None;
    }
    let params = plan.params(RoundKind::TrainB);
    let sum = sum.get(..params.packed_bytes())?;
    let lanes = packing::unpack(params, sum).ok()?;
    let counts = params.segments.len() - 1;
    let ranges = params.ranges().take(counts);
    let update: Vec<f64> = ranges.flat_map(|(s, range)| fixed_point::decode_sum(&lanes[range], s)).collect();
    let survivors = u32::try_from(result.list.0.len()).ok().filter(|&n| n > 0)?;
    let global = plan.state().step(&plan.initial_global(), &update, survivors, at.round);
    let model = plan.model_hash(&global);
    let t3 = transcript::t3(&result.bind, &result.list.0);
    let hash = transcript::result_hash(&t3, &transcript::sum_hash(sum), &model);
    let sign = |&f: &SiloId| (f, ResultVote::sign(&mind.key(f), &ctx, f, &hash, &model));
    Some(mind.faulty.iter().map(sign).collect())
}
