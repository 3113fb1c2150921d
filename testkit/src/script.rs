//! Carries a schedule out: stands between the silos and the coordinator, and does to each message what the ops say.
//!
//! ```text
//! silo ──up──► rogue.rs (misdeeds) ─► network ops ─► coordinator
//! silo ◄─down─ network ops ◄─ liar.rs (lies) ◄────── coordinator
//! ```
//!
//! Contract: the honest machines on both ends run unchanged. An op that found its message counts as fired.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use blindsum_crypto::SiloId;
use blindsum_protocol::limits::{Limits, Wire};
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, SiloMessage};

use crate::Setup;
use crate::bend::{bend, relabel};
use crate::cluster::{Action, Net, TRAVEL_MS};
use crate::liar::Liar;
use crate::library;
use crate::mind::Mind;
use crate::ops::{Actor, Kind, Op, Schedule};
use crate::rogue::{Rogue, answers};

type Up = Envelope<SiloMessage>;
type Down = Envelope<CoordinatorMessage>;

/// The adversary's hand.
pub struct Script {
    schedule: Schedule,
    limits: Limits,
    pub mind: Mind,
    liar: Liar,
    pub rogue: Rogue,
    pub fired: Vec<bool>,
    /// Silos whose messages the network altered or lost, or that answered to altered ones: an honest coordinator may blame
    /// them for it.
    pub excused: BTreeSet<SiloId>,
    past_up: Vec<(SiloId, Up)>,
    past_down: Vec<(SiloId, Down)>,
    /// Messages held back until the next one in the same direction.
    held: BTreeMap<(SiloId, bool), Vec<usize>>,
    tickets: Vec<Vec<Action>>,
}

/// A script that the cluster and the judge of the run share.
#[derive(Clone)]
pub struct Shared(pub Rc<RefCell<Script>>);

impl Net for Shared {
    fn up(&mut self, _now: u64, silo: SiloId, envelope: Up) -> Vec<Action> {
        self.0.borrow_mut().on_up(silo, envelope)
    }

    fn down(&mut self, _now: u64, silo: SiloId, envelope: Down) -> Vec<Action> {
        self.0.borrow_mut().on_down(silo, envelope)
    }

    fn wake(&mut self, _now: u64, ticket: usize) -> Vec<Action> {
        std::mem::take(&mut self.0.borrow_mut().tickets[ticket])
    }
}

/// A message on its way, in either direction.
trait Passing: Sized + Clone {
    type Message: Wire + Clone;
    const UP: bool;
    fn arrive(silo: SiloId, envelope: Envelope<Self::Message>, delay: u64) -> Action;
    fn arriving(action: &mut Action) -> Option<(&mut Envelope<Self::Message>, &mut u64)>;
    fn seen(action: &Action) -> Option<(SiloId, &Envelope<Self::Message>)>;
    fn past(script: &Script) -> &[(SiloId, Envelope<Self::Message>)];
    fn at(message: &Self::Message) -> Option<AttemptId>;
    fn name(message: &Self::Message) -> &'static str;
}

#[derive(Clone)]
struct Upward;
#[derive(Clone)]
struct Downward;

impl Passing for Upward {
    type Message = SiloMessage;
    const UP: bool = true;
    fn arrive(silo: SiloId, envelope: Up, delay: u64) -> Action {
        Action::ToCoordinator(silo, envelope, delay)
    }
    fn arriving(action: &mut Action) -> Option<(&mut Up, &mut u64)> {
        match action {
            Action::ToCoordinator(_, envelope, delay) => Some((envelope, delay)),
            _ => None,
        }
    }
    fn seen(action: &Action) -> Option<(SiloId, &Up)> {
        match action {
            Action::ToCoordinator(silo, envelope, _) => Some((*silo, envelope)),
            _ => None,
        }
    }
    fn past(script: &Script) -> &[(SiloId, Up)] {
        &script.past_up
    }
    fn at(message: &SiloMessage) -> Option<AttemptId> {
        message.at()
    }
    fn name(message: &SiloMessage) -> &'static str {
        message.name()
    }
}

impl Passing for Downward {
    type Message = CoordinatorMessage;
    const UP: bool = false;
    fn arrive(silo: SiloId, envelope: Down, delay: u64) -> Action {
        Action::ToSilo(silo, envelope, delay)
    }
    fn arriving(action: &mut Action) -> Option<(&mut Down, &mut u64)> {
        match action {
            Action::ToSilo(_, envelope, delay) => Some((envelope, delay)),
            _ => None,
        }
    }
    fn seen(action: &Action) -> Option<(SiloId, &Down)> {
        match action {
            Action::ToSilo(silo, envelope, _) => Some((*silo, envelope)),
            _ => None,
        }
    }
    fn past(script: &Script) -> &[(SiloId, Down)] {
        &script.past_down
    }
    fn at(message: &CoordinatorMessage) -> Option<AttemptId> {
        attempt_of(message)
    }
    fn name(message: &CoordinatorMessage) -> &'static str {
        message.name()
    }
}

/// The attempt that the coordinator's message belongs to.
pub fn attempt_of(message: &CoordinatorMessage) -> Option<AttemptId> {
    match message {
        CoordinatorMessage::Open(open) => Some(AttemptId { round: open.context.round, attempt: open.context.attempt }),
        CoordinatorMessage::Result(result) => Some(result.at),
        CoordinatorMessage::Finished => None,
        CoordinatorMessage::Adverts { at, .. }
        | CoordinatorMessage::Shares { at, .. }
        | CoordinatorMessage::CommitRequest { at, .. }
        | CoordinatorMessage::RevealRequest { at, .. }
        | CoordinatorMessage::AbandonRequest { at }
        | CoordinatorMessage::SumRequest { at, .. }
        | CoordinatorMessage::Certified { at, .. } => Some(*at),
    }
}

impl Script {
    #[allow(clippy::new_ret_no_self)] // a script is shared by the taps from its beginning
    pub fn new(setup: Setup, schedule: Schedule) -> Shared {
        let faulty = schedule.faulty();
        let script = Script {
            limits: Limits::new(&setup.plan),
            mind: Mind::new(setup, faulty),
            liar: Liar::default(),
            rogue: Rogue::default(),
            fired: vec![false; schedule.ops.len()],
            excused: BTreeSet::new(),
            past_up: Vec::new(),
            past_down: Vec::new(),
            held: BTreeMap::new(),
            tickets: Vec::new(),
            schedule,
        };
        Shared(Rc::new(RefCell::new(script)))
    }

    fn on_up(&mut self, silo: SiloId, envelope: Up) -> Vec<Action> {
        let (name, at) = (envelope.message.name(), envelope.message.at());
        self.mind.hear_up(silo, &envelope);
        self.past_up.push((silo, envelope.clone()));
        if self.rogue.silences(silo, &envelope.message) {
            return Vec::new();
        }
        let mut actions = vec![Action::ToCoordinator(silo, envelope, TRAVEL_MS)];
        for index in 0..self.schedule.ops.len() {
            let op = self.schedule.ops[index].clone();
            if op.kind.actor() != Actor::Silo || !self.mind.faulty.contains(&silo) || !self.is_due(index, &op, at) {
                continue;
            }
            let Some(Action::ToCoordinator(_, honest, _)) = actions.first() else { continue };
            let others = &self.past_up;
            if let Some(instead) = self.rogue.misbehave(&op, &self.mind, others, silo, honest) {
                self.fired[index] = true;
                let later = actions.split_off(1);
                let sent = instead.into_iter().zip(0..).map(|(e, i)| Action::ToCoordinator(silo, e, TRAVEL_MS + i));
                actions = sent.chain(later).collect();
                // one misdeed per message: the next one needs an honest message to start from
                break;
            }
        }
        if let Some(instead) = self.liar.hear(&self.mind, silo, &self.past_up[self.past_up.len() - 1].1) {
            actions = instead;
        }
        self.network::<Upward>(silo, name, at, actions)
    }

    fn on_down(&mut self, silo: SiloId, envelope: Down) -> Vec<Action> {
        let (name, at) = (envelope.message.name(), attempt_of(&envelope.message));
        self.mind.hear_down(&envelope.message);
        self.past_down.push((silo, envelope.clone()));
        if let Some(said) = self.rogue.answer(&self.mind, silo, &envelope) {
            said.iter().for_each(|e| self.mind.hear_up(silo, e));
            return answers(silo, said);
        }
        let mut actions = vec![Action::ToSilo(silo, envelope, TRAVEL_MS)];
        for index in 0..self.schedule.ops.len() {
            let op = self.schedule.ops[index].clone();
            if op.kind.actor() != Actor::Coordinator || !op.concerns(silo) || !self.is_due(index, &op, at) {
                continue;
            }
            let Some(Action::ToSilo(_, honest, _)) = actions.first() else { continue };
            if let Some(instead) = self.liar.tell(index, &op, &self.mind, &self.past_down, silo, honest) {
                self.fired[index] = true;
                let later = actions.split_off(1);
                actions = instead.into_iter().chain(later).collect();
            }
        }
        self.network::<Downward>(silo, name, at, actions)
    }

    fn is_due(&self, index: usize, op: &Op, at: Option<AttemptId>) -> bool {
        let right_attempt = match (op.attempt, at) {
            (None, _) | (_, None) => true,
            (Some(attempt), Some(at)) => at.attempt == attempt,
        };
        // a lie is told to the whole camp, each silo once
        let again = op.every || op.kind.actor() == Actor::Coordinator;
        right_attempt && (again || !self.fired[index])
    }

    fn network<P: Passing>(
        &mut self,
        silo: SiloId,
        name: &'static str,
        at: Option<AttemptId>,
        mut actions: Vec<Action>,
    ) -> Vec<Action> {
        // whatever was held back goes right behind
        let mut behind = Vec::new();
        for ticket in self.held.remove(&(silo, P::UP)).unwrap_or_default() {
            behind.append(&mut self.tickets[ticket]);
        }
        for index in 0..self.schedule.ops.len() {
            let op = self.schedule.ops[index].clone();
            let network = matches!(op.kind.actor(), Actor::Network | Actor::Process);
            // whose disk is old counts among the faulty, of whom there are few
            let concerns = match op.kind {
                Kind::Restore => self.mind.faulty.contains(&silo),
                _ => op.concerns(silo),
            };
            if !network || !concerns || !self.is_due(index, &op, at) {
                continue;
            }
            let other = op.phase.names(!P::UP);
            let names = op.phase.names(P::UP);
            let right_way = op.up == P::UP || other.is_empty();
            if !right_way || names.is_empty() || names[op.pick(16, names.len())] != name {
                continue;
            }
            if self.apply::<P>(&op, silo, name, &mut actions) {
                self.fired[index] = true;
                if P::UP || matches!(op.kind, Kind::Replay | Kind::Tamper | Kind::Truncate | Kind::Extend) {
                    self.excused.insert(silo);
                }
            }
        }
        actions.append(&mut behind);
        actions
    }

    /// One op on a message's way. `false` where there was nothing to do.
    fn apply<P: Passing>(&mut self, op: &Op, silo: SiloId, name: &str, actions: &mut Vec<Action>) -> bool {
        let Some(place) = actions.iter_mut().position(|a| P::arriving(a).is_some()) else { return false };
        let delivered = op.pick(2, 2) == 0;
        match op.kind {
            Kind::Drop => drop(actions.remove(place)),
            Kind::Delay => {
                if let Some((_, delay)) = P::arriving(&mut actions[place]) {
                    *delay += [50, 300, 1_500, 2_500, 6_000, 13_000][op.pick(3, 6)];
                }
            }
            Kind::Duplicate => {
                if let Some((envelope, delay)) = P::arriving(&mut actions[place]) {
                    let (copy, later) = (envelope.clone(), *delay + [0, 3, 50, 700][op.pick(3, 4)]);
                    actions.insert(place + 1, P::arrive(silo, copy, later));
                }
            }
            Kind::Reorder => {
                let taken = actions.remove(place);
                let ticket = self.ticket(vec![taken]);
                self.held.entry((silo, P::UP)).or_default().push(ticket);
                actions.push(Action::Wake(1_000, ticket));
            }
            Kind::Replay => {
                let Some(old) = self.old::<P>(op, silo, name, actions, place) else { return false };
                actions.insert(place, P::arrive(silo, old, TRAVEL_MS));
            }
            Kind::Tamper | Kind::Truncate | Kind::Extend => {
                let Some((envelope, _)) = P::arriving(&mut actions[place]) else { return false };
                match bend(op, envelope, &self.limits) {
                    Some(bent) => *envelope = bent,
                    None => actions[place] = Action::Cut(silo),
                }
            }
            Kind::Cut => {
                if !delivered {
                    actions.remove(place);
                }
                let ticket = self.ticket(vec![Action::Cut(silo)]);
                actions.push(Action::Wake(if delivered { TRAVEL_MS + 1 } else { 0 }, ticket));
            }
            Kind::KillSilo | Kind::KillCoordinator | Kind::Restore => {
                let restart_ms = [Some(1), Some(30), Some(300), Some(3_000), None][op.pick(3, 5)];
                let action = match op.kind {
                    Kind::KillSilo => Action::KillSilo { silo, restart_ms, tenths: None },
                    Kind::Restore => {
                        let (restart_ms, tenths) = (restart_ms.or(Some(30)), Some(op.pick(6, 10) as u8));
                        Action::KillSilo { silo, restart_ms, tenths }
                    }
                    _ => Action::KillCoordinator { restart_ms, edit: None },
                };
                if delivered {
                    let ticket = self.ticket(vec![action]);
                    actions.push(Action::Wake(TRAVEL_MS + 1, ticket));
                } else {
                    actions[place] = action;
                }
            }
            _ => return false,
        }
        true
    }

    fn ticket(&mut self, actions: Vec<Action>) -> usize {
        self.tickets.push(actions);
        self.tickets.len() - 1
    }

    /// An older message, or one of another job or federation, that comes once more.
    fn old<P: Passing>(
        &self,
        op: &Op,
        silo: SiloId,
        name: &str,
        actions: &mut [Action],
        place: usize,
    ) -> Option<Envelope<P::Message>> {
        let (current, _) = P::arriving(&mut actions[place])?;
        let at = P::at(&current.message);
        let past = P::past(self);
        let before = &past[..past.len().saturating_sub(1)];
        let choose = |found: Vec<&Envelope<P::Message>>| found.get(op.pick(8, found.len())).map(|e| (*e).clone());
        let named = |e: &Envelope<P::Message>| P::name(&e.message) == name;
        let own = choose(before.iter().filter(|(s, _)| *s == silo).map(|(_, e)| e).collect());
        let found = match op.pick(3, 6) {
            // an earlier phase
            0 => own.clone(),
            // another silo's
            1 => choose(before.iter().filter(|(s, e)| *s != silo && named(e)).map(|(_, e)| e).collect()),
            // an earlier attempt or round, as it was or made to look new
            i @ (2 | 3) => {
                let earlier = before.iter().filter(|(s, e)| *s == silo && named(e) && P::at(&e.message) < at);
                let earlier = choose(earlier.map(|(_, e)| e).collect());
                match (earlier, at, i) {
                    (Some(e), Some(at), 3) => {
                        relabel(&e.message, at).map(|message| Envelope { message, payload: e.payload })
                    }
                    (earlier, ..) => earlier,
                }
            }
            // another job of the same federation, or another federation
            i => library::find(self.mind.setup.n(), i == 4, |old| {
                let mut theirs = old.iter().filter_map(P::seen);
                theirs.find(|(s, e)| *s == silo && named(e)).map(|(_, e)| e.clone())
            }),
        };
        found.or(own)
    }
}
