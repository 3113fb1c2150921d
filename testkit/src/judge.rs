//! What must be true after every schedule, whoever lied in it.
//!
//! Contract: nothing here asks the coordinator what happened. It is read off what the honest silos sent and journaled over
//! their whole lives; silos that collude, misbehave or run from an old disk count as the adversary's.

use std::collections::{BTreeMap, BTreeSet};

use blindsum_crypto::share::ShareKind;
use blindsum_crypto::{Digest, SiloId, packing};
use blindsum_protocol::coordinator::{CoordinatorEvent, Phase};
use blindsum_protocol::silo::{JournalEntry, SiloEvent};
use blindsum_protocol::{AttemptId, RoundKind, SiloMessage};

use crate::checks;
use crate::cluster::Cluster;
use crate::ops::Schedule;
use crate::script::Script;

/// Bins of the test on masked inputs.
pub const BINS: usize = 64;

/// What a run was good for.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// An honest silo adopted a round's sum.
    pub summed: bool,
    /// Per op, whether it happened.
    pub fired: Vec<bool>,
    /// Top bits of y − x in the first coordinate, one per masked input of an honest silo.
    pub masks: Vec<usize>,
}

/// All global invariants.
pub fn judge(cluster: &Cluster, script: &Script, schedule: &Schedule) -> Outcome {
    let view = View { cluster, faulty: &script.mind.faulty, lying: schedule.is_lying() };
    checks::sums_are_exact(cluster);
    checks::no_silo_contradicts_itself(cluster);
    view.both_kinds_of_nobody();
    view.one_decision_per_attempt();
    view.no_update_twice();
    view.adoptions_are_sums();
    view.keys_are_fresh();
    view.votes_are_journaled();
    view.causes_are_named(&script.excused);
    let (summed, masks) = (view.honest().any(|s| !cluster.silos[s.index()].adopted.is_empty()), view.masks());
    Outcome { summed, fired: script.fired.clone(), masks }
}

/// Nobody waits for ever for a coordinator that is gone: to be asked at the very end, when it is killed and two deadlines
/// have passed.
pub fn nobody_waits(cluster: &Cluster) {
    let params = cluster.setup.plan.params(RoundKind::TrainB);
    let bound = params.training_deadline_ms + 3 * params.phase_deadline_ms;
    let longest = cluster.longest_wait_ms;
    assert!(longest <= bound, "a silo was willing to wait {longest} ms, more than the {bound} ms of all deadlines");
    for silo in cluster.setup.roster.ids() {
        assert_eq!(cluster.silo_timeout(silo), None, "silo {silo} still waits");
    }
}

/// While it lives, an honest coordinator waits with a timer, or says what it waits for.
pub fn coordinator_is_not_lost(cluster: &Cluster) {
    let Some((phase, timeout)) = cluster.coordinator_waits() else { return };
    let told = |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::Waiting(_) | CoordinatorEvent::Stuck(_));
    let idle = matches!(phase, Phase::Gathering | Phase::Finished);
    let soon = timeout.is_some_and(|at| at <= cluster.now + 20_000);
    assert!(soon || idle || cluster.coordinator_events.iter().any(told), "it waits in {phase:?} and says nothing");
}

/// Per attempt: who voted for which list, and who abandoned.
type Votes = BTreeMap<AttemptId, (BTreeMap<Digest, BTreeSet<SiloId>>, BTreeSet<SiloId>)>;

struct View<'a> {
    cluster: &'a Cluster,
    faulty: &'a BTreeSet<SiloId>,
    lying: bool,
}

impl View<'_> {
    fn honest(&self) -> impl Iterator<Item = SiloId> + '_ {
        self.cluster.setup.roster.ids().filter(|s| !self.faulty.contains(s))
    }

    /// How many silos the adversary can count on beside those that answered it.
    fn colluders(&self) -> BTreeSet<SiloId> {
        let c = usize::from(self.cluster.setup.plan.quorum().c);
        if self.faulty.len() <= c { self.faulty.clone() } else { BTreeSet::new() }
    }

    fn entries(&self, silo: SiloId) -> &[JournalEntry] {
        &self.cluster.silos[silo.index()].written
    }

    /// SA-06, and what it is for: all that the honest silos released, with all that the colluders hold, gives t shares of
    /// one kind at most, for every honest silo and attempt.
    fn both_kinds_of_nobody(&self) {
        let t = usize::from(self.cluster.setup.plan.quorum().t);
        let mut holders: BTreeMap<(AttemptId, SiloId, ShareKind), BTreeSet<SiloId>> = BTreeMap::new();
        for silo in self.honest() {
            for envelope in &self.cluster.silos[silo.index()].sent {
                let SiloMessage::Reveal { at, reveal } = &envelope.message else { continue };
                for share in &reveal.shares {
                    holders.entry((*at, share.peer(), share.kind())).or_default().insert(silo);
                }
            }
        }
        let colluders = self.colluders();
        let enough = |at, peer, kind| {
            let released = holders.get(&(at, peer, kind)).cloned().unwrap_or_default();
            released.union(&colluders).count() >= t
        };
        for &(at, peer, _) in holders.keys().filter(|(_, peer, _)| !self.faulty.contains(peer)) {
            let both = enough(at, peer, ShareKind::SelfMask) && enough(at, peer, ShareKind::MaskSecret);
            assert!(!both, "SA-06: {at}: the adversary can rebuild both secrets of silo {peer}");
        }
    }

    /// SA-08, SA-13: per attempt, at most one survivor list gets q COMMITs, and none where q ABANDONs exist.
    fn one_decision_per_attempt(&self) {
        let q = usize::from(self.cluster.setup.plan.quorum().q);
        for (at, (lists, abandons)) in self.votes() {
            let colluders = self.colluders().len();
            let decided = lists.values().filter(|by| by.len() + colluders >= q).count();
            assert!(decided <= 1, "SA-08: {at}: {decided} survivor lists have a quorum");
            let abandoned = abandons.len() + colluders >= q;
            assert!(!(abandoned && decided > 0), "SA-13: {at} is committed to and abandoned");
        }
    }

    /// Per attempt: who voted for which list, and who abandoned. Read off the journals.
    fn votes(&self) -> Votes {
        let mut votes: Votes = BTreeMap::new();
        for silo in self.honest() {
            for entry in self.entries(silo) {
                match entry {
                    JournalEntry::Committed { at, reply, .. } => {
                        votes.entry(*at).or_default().0.entry(reply.t3()).or_default().insert(silo);
                    }
                    JournalEntry::Abandoned { at, .. } => {
                        votes.entry(*at).or_default().1.insert(silo);
                    }
                    _ => {}
                }
            }
        }
        votes
    }

    /// SA-13: a silo whose y went out in two attempts of a round either sent fresh ones with noise, or q ABANDONs of the
    /// first exist.
    fn no_update_twice(&self) {
        let (q, votes) = (usize::from(self.cluster.setup.plan.quorum().q), self.votes());
        let private = self.cluster.setup.plan.job().is_private();
        for silo in self.honest() {
            let mut sent: BTreeSet<AttemptId> = BTreeSet::new();
            for envelope in &self.cluster.silos[silo.index()].sent {
                if let SiloMessage::MaskedInput { at, .. } = &envelope.message {
                    sent.insert(*at);
                }
            }
            for (first, second) in sent.iter().flat_map(|a| sent.iter().map(move |b| (*a, *b))) {
                if first.round != second.round || first >= second {
                    continue;
                }
                let inputs = [first, second].map(|at| self.cluster.inputs.get(&(silo, at)));
                let kind = self.cluster.setup.plan.kind(first.round);
                // the update must be another one, and no exact count may be in both
                let counted = |i: usize| inputs[i].is_some_and(|(_, counts)| counts.examples > 0);
                let updates = [0, 1].map(|i| inputs[i].map(|(update, _)| update));
                let fresh = private && kind == Some(RoundKind::TrainB) && updates[0] != updates[1];
                if fresh && !(counted(0) && counted(1)) {
                    continue;
                }
                let abandoned = votes.get(&first).map_or(0, |(_, by)| by.len()) + self.faulty.len();
                assert!(abandoned >= q, "SA-13: silo {silo} sent its update in {first} and again in {second}");
            }
        }
    }

    /// What honest silos adopt is the same everywhere, and in round 1 it is the mean of the survivors' updates.
    fn adoptions_are_sums(&self) {
        let plan = &self.cluster.setup.plan;
        let mut rounds = BTreeMap::new();
        for silo in self.honest() {
            for adoption in &self.cluster.silos[silo.index()].adopted {
                let hashes = (adoption.result_hash, adoption.model_hash);
                let seen = *rounds.entry(adoption.at.round).or_insert(hashes);
                assert_eq!(seen, hashes, "round {} forked at silo {silo}", adoption.at.round);
                if adoption.at.round != 1 {
                    continue;
                }
                let sum = checks::plain_sum(self.cluster, adoption.at, &adoption.report.survivors);
                let params = plan.params(RoundKind::TrainB);
                let count = adoption.report.survivors.len() as f64;
                let before = plan.initial_global();
                for (segment, range) in params.ranges().take(params.segments.len() - 1) {
                    let (ring, half) = (i64::from(segment.ring_mask()) + 1, i64::from(segment.ring_mask() / 2));
                    for lane in range {
                        let raw = i64::from(sum[lane]);
                        let signed = if raw > half { raw - ring } else { raw };
                        let expected = (f64::from(before[lane]) + signed as f64 / count) as f32;
                        assert_eq!(adoption.global[lane], expected, "silo {silo} adopted a false sum");
                    }
                }
            }
        }
    }

    /// SA-15: no key is advertised twice, in whatever attempt or by whom.
    fn keys_are_fresh(&self) {
        let mut seen: BTreeMap<[u8; 32], (SiloId, AttemptId)> = BTreeMap::new();
        for silo in self.honest() {
            for envelope in &self.cluster.silos[silo.index()].sent {
                let SiloMessage::Advert { at, advert } = &envelope.message else { continue };
                for key in [advert.channel_key, advert.mask_key] {
                    let owner = *seen.entry(key).or_insert((silo, *at));
                    assert_eq!(owner, (silo, *at), "SA-15: a key is used twice");
                }
            }
        }
    }

    /// SA-07: nothing that depends on a journal entry was sent without it.
    fn votes_are_journaled(&self) {
        for silo in self.honest() {
            let (mut joined, mut masked, mut committed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            for entry in self.entries(silo) {
                match entry {
                    JournalEntry::Joined { at } => drop(joined.insert(*at)),
                    JournalEntry::Masked { at } => drop(masked.insert(*at)),
                    JournalEntry::Committed { at, .. } => drop(committed.insert(*at)),
                    _ => {}
                }
            }
            for envelope in &self.cluster.silos[silo.index()].sent {
                let journaled = match &envelope.message {
                    SiloMessage::Advert { at, .. } | SiloMessage::Shares { at, .. } => joined.contains(at),
                    SiloMessage::MaskedInput { at, .. } => masked.contains(at),
                    SiloMessage::Commit { at, .. } | SiloMessage::Reveal { at, .. } => committed.contains(at),
                    _ => true,
                };
                assert!(journaled, "SA-07: silo {silo} sent a {} out of the blue", envelope.message.name());
            }
        }
    }

    /// Whatever failed says why; an honest coordinator blames nobody but those who misbehaved or whose messages the
    /// network spoiled.
    fn causes_are_named(&self, excused: &BTreeSet<SiloId>) {
        for event in &self.cluster.coordinator_events {
            match event {
                CoordinatorEvent::Failed(_, why) | CoordinatorEvent::Stuck(why) => assert!(why.len() > 8, "no cause"),
                CoordinatorEvent::Misbehaviour(silo, why) if !self.lying => {
                    // where c = 0 the complaint of a single silo counts, and one is faulty all the same
                    let outvoted = self.faulty.len() > usize::from(self.cluster.setup.plan.quorum().c);
                    let fair = self.faulty.contains(silo)
                        || excused.contains(silo)
                        || (outvoted && why.contains("complain about its shares"));
                    assert!(fair, "silo {silo} is blamed without fault: {why}");
                }
                _ => {}
            }
        }
        for silo in self.honest() {
            for event in &self.cluster.silos[silo.index()].events {
                match event {
                    SiloEvent::Declined(_, _, why) | SiloEvent::Left(_, why) | SiloEvent::Misbehaviour(why) => {
                        assert!(why.len() > 8, "silo {silo} gives no cause");
                    }
                    _ => {}
                }
            }
        }
    }

    /// The top bits of y − x in the first coordinate.
    fn masks(&self) -> Vec<usize> {
        let plan = &self.cluster.setup.plan;
        let mut seen = BTreeMap::new();
        for silo in self.honest() {
            for envelope in &self.cluster.silos[silo.index()].sent {
                let (SiloMessage::MaskedInput { at, .. }, Some(y)) = (&envelope.message, &envelope.payload) else {
                    continue;
                };
                if at.round == 1 && !self.cluster.silos[silo.index()].restored {
                    let params = plan.params(RoundKind::TrainB);
                    let x = checks::plain_lanes(&self.cluster.setup, *at, &self.cluster.inputs[&(silo, *at)])[0];
                    let y = packing::unpack(params, y).unwrap()[0];
                    seen.entry((silo, *at)).or_insert_with(|| bin(y.wrapping_sub(x), params.segments[0].ring_mask()));
                }
            }
        }
        seen.into_values().collect()
    }
}

/// The highest bits of a difference mod the ring.
pub fn bin(difference: u32, ring_mask: u32) -> usize {
    let bits = ring_mask.count_ones();
    ((difference & ring_mask) >> (bits - BINS.ilog2())) as usize
}

/// Pearson's statistic against the uniform distribution.
pub fn chi_square(counts: &[u64]) -> f64 {
    let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    counts.iter().map(|&c| (c as f64 - expected).powi(2) / expected).sum()
}
