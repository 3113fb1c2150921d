//! P1 to P3 at a silo: from the adverts to its own masked input.
//!
//! Contract: a state is named for what it awaits. After the masks are handed to the work value, the session's secrets are
//! gone; what remains is the shares that peers dealt, until the vote (`vote.rs`).

use blindsum_crypto::advert::SessionSecrets;
use blindsum_crypto::share::{self, HeldPair, HeldShares};
use blindsum_crypto::verify::{self, Check, DeliveryError, VerifiedAdverts, VerifiedHeaders};
use blindsum_crypto::{
    Advert, Complaint, Delivery, Digest, JournalMark, MaskedHeader, ShareHeader, SiloId, Sketch, masked,
};

use crate::message::{AttemptId, DeclineReason, Envelope, Payload, SiloMessage};
use crate::plan::RoundKind;
use crate::silo::api::{SiloEvent, SiloOutput};
use crate::silo::journal::JournalEntry;
use crate::silo::machine::{SiloMachine, Update};
use crate::silo::verify::counts_agreed;
use crate::silo::work::{SiloTask, SiloWork};

/// What every state of a session carries.
pub(super) struct SessionHead {
    pub at: AttemptId,
    pub kind: RoundKind,
    pub ctx: Digest,
    /// Held-out counts stay out of this attempt's masked input: they may be in another sum of the round (SA-13).
    pub silent: bool,
    /// When the silo stops waiting; none after its COMMIT vote.
    pub deadline: Option<u64>,
    /// The last message sent, repeated after a reconnect.
    pub reply: Option<Envelope<SiloMessage>>,
}

/// A session, named for what it awaits.
pub(super) enum Session {
    Idle,
    AwaitUpdate(SessionHead),
    AwaitAdverts(AwaitAdverts),
    AwaitShares(AwaitShares),
    AwaitMask(AwaitMask),
    AwaitList(AwaitList),
    /// Voted COMMIT; the reply is in the journal.
    AwaitCertificate(Voted),
    /// Revealed.
    AwaitResult(Voted),
}

pub(super) struct AwaitAdverts {
    pub head: SessionHead,
    pub secrets: SessionSecrets,
    pub advert: Advert,
}

pub(super) struct AwaitShares {
    head: SessionHead,
    secrets: SessionSecrets,
    adverts: VerifiedAdverts,
    header: ShareHeader,
    own_pair: HeldPair,
}

pub(super) struct AwaitMask {
    head: SessionHead,
    headers: VerifiedHeaders,
    shares: HeldShares,
}

pub(super) struct AwaitList {
    pub head: SessionHead,
    pub headers: VerifiedHeaders,
    pub shares: HeldShares,
    pub masked: MaskedHeader,
    pub packed: Payload,
}

/// A session after the COMMIT vote.
pub(super) struct Voted {
    pub head: SessionHead,
    /// The masked input, for its sketch; gone after a restart.
    pub packed: Option<Payload>,
    /// H(S) of the one sum that a sketch was made for, and the sketch once it is there.
    pub sketch: Option<(Digest, Option<Sketch>)>,
}

impl Session {
    pub fn head(&self) -> Option<&SessionHead> {
        match self {
            Session::Idle => None,
            Session::AwaitUpdate(head) => Some(head),
            Session::AwaitCertificate(s) | Session::AwaitResult(s) => Some(&s.head),
            Session::AwaitAdverts(s) => Some(&s.head),
            Session::AwaitShares(s) => Some(&s.head),
            Session::AwaitMask(s) => Some(&s.head),
            Session::AwaitList(s) => Some(&s.head),
        }
    }

    /// Keeps the head alone; the rest, with its secrets, is erased.
    pub fn into_head(self) -> Option<SessionHead> {
        match self {
            Session::Idle => None,
            Session::AwaitUpdate(head) => Some(head),
            Session::AwaitCertificate(s) | Session::AwaitResult(s) => Some(s.head),
            Session::AwaitAdverts(s) => Some(s.head),
            Session::AwaitShares(s) => Some(s.head),
            Session::AwaitMask(s) => Some(s.head),
            Session::AwaitList(s) => Some(s.head),
        }
    }
}

impl SiloMachine {
    /// P1: everybody's keys. Deals shares of this silo's two secrets.
    pub(super) fn on_adverts(&mut self, at: AttemptId, adverts: Vec<Advert>, now_ms: u64) {
        let state = match std::mem::replace(&mut self.session, Session::Idle) {
            Session::AwaitAdverts(state) if state.head.at == at => state,
            other => return self.awaited_in_vain(other, "adverts", at),
        };
        let AwaitAdverts { mut head, secrets, advert } = state;
        let own = self.own.clone();
        let rules = own.rules(&head.ctx);
        // SA-01, SA-02, SA-05, SA-07
        let adverts = match verify::adverts(&rules, adverts.clone(), Some(&advert), &self.journal.peers) {
            Ok(adverts) => adverts,
            Err(e) => {
                self.refuse(at, e.to_string());
                let signed = |silo| adverts.iter().any(|a| a.silo == silo && verify::advert(&rules, a).is_ok());
                if let Some(silo) = e.blamed.filter(|silo| e.check == Check::JournalForward && signed(*silo)) {
                    self.refuse_for_good(silo);
                }
                return;
            }
        };
        head.silent |= !counts_agreed(&adverts);
        let dealt = share::deal(&own.identity, own.me, &secrets, &adverts, own.quorum.t, &mut *self.rng);
        let (dealing, own_pair) = match dealt {
            Ok(dealt) => dealt,
            Err(e) => return self.refuse(at, e.to_string()),
        };
        let peers = adverts.adverts().iter().filter(|a| a.silo != own.me);
        if !self.write(JournalEntry::Peers { marks: peers.map(|a| (a.silo, a.journal())).collect() }) {
            return;
        }
        let header = dealing.header.clone();
        head.deadline = Some(now_ms + 2 * own.plan.params(head.kind).phase_deadline_ms);
        let message = Envelope::bare(SiloMessage::Shares { at, dealing });
        self.reply(head, message, "shares", |head| {
            Session::AwaitShares(AwaitShares { head, secrets, adverts, header, own_pair })
        });
    }

    /// P2: everybody's commitments and the shares for this silo. Hands the masks to a work value.
    pub(super) fn on_shares(
        &mut self,
        at: AttemptId,
        headers: Vec<ShareHeader>,
        deliveries: Vec<Delivery>,
        now_ms: u64,
    ) {
        let state = match std::mem::replace(&mut self.session, Session::Idle) {
            Session::AwaitShares(state) if state.head.at == at => state,
            other => return self.awaited_in_vain(other, "shares", at),
        };
        let AwaitShares { mut head, secrets, adverts, header, own_pair } = state;
        let own = self.own.clone();
        // SA-03, SA-05
        let headers = match verify::headers(&own.rules(&head.ctx), headers, &adverts, Some(&header)) {
            Ok(headers) => headers,
            Err(e) => return self.refuse(at, e.to_string()),
        };
        let streams = match masked::streams(own.me, &secrets, &adverts, &headers) {
            Ok(streams) => streams,
            Err(e) => return self.refuse(at, e.to_string()),
        };
        let Some(input) = self.ready_input(at.round) else {
            return self.refuse(at, "the update of this round is gone".into());
        };
        let mut shares = HeldShares::new(own.me);
        shares.insert(own_pair);
        for delivery in &deliveries {
            if let Some(pair) = self.check_delivery(at, &head.ctx, delivery, &headers, &adverts, &secrets) {
                shares.insert(pair);
            }
        }
        head.deadline = Some(now_ms + 2 * own.plan.params(head.kind).phase_deadline_ms);
        head.reply = None;
        let (kind, silent, plan) = (head.kind, head.silent, own.plan.clone());
        self.event(SiloEvent::Phase(at, "its own mask"));
        self.session = Session::AwaitMask(AwaitMask { head, headers, shares });
        self.output(SiloOutput::Work(SiloWork(SiloTask::Mask { at, kind, silent, plan, input, streams })));
        // b, σ, mask secret and channel key are erased here; the seeds with the work value
        drop(secrets);
    }

    /// A dealer's pair for this silo. One that was altered on the way counts as missing; one that its dealer signed and
    /// that is wrong is complained about and counts as missing too: the secret has a share less.
    fn check_delivery(
        &mut self,
        at: AttemptId,
        ctx: &Digest,
        delivery: &Delivery,
        headers: &VerifiedHeaders,
        adverts: &VerifiedAdverts,
        secrets: &SessionSecrets,
    ) -> Option<HeldPair> {
        let own = self.own.clone();
        let rules = own.rules(ctx);
        let header = headers.get(delivery.dealer)?.clone();
        let header = verify::header(&rules, header, adverts).ok()?;
        match verify::delivery(delivery, &header, adverts, own.me, &secrets.channel) {
            Ok(pair) => Some(pair),
            Err(DeliveryError::NotAsSigned(e)) => {
                self.event(SiloEvent::Misbehaviour(e.to_string()));
                None
            }
            Err(DeliveryError::DealerAtFault(e)) => {
                self.event(SiloEvent::Misbehaviour(e.to_string()));
                let complaint = Complaint::sign(&own.identity, own.me, &header, delivery);
                self.send(SiloMessage::Complaint { at, complaint });
                None
            }
        }
    }

    /// P3: the masked input is packed. Journals that it goes out, and sends it.
    pub(super) fn on_masked(&mut self, at: AttemptId, packed: Result<Vec<u8>, String>, now_ms: u64) {
        let state = match std::mem::replace(&mut self.session, Session::Idle) {
            Session::AwaitMask(state) if state.head.at == at => state,
            other => return self.out_of_phase(other, "a finished mask", at),
        };
        let AwaitMask { mut head, headers, shares } = state;
        let packed = match packed {
            Ok(packed) => packed,
            Err(why) => return self.refuse(at, why),
        };
        let own = self.own.clone();
        let masked = MaskedHeader::sign(&own.identity, &head.ctx, &headers.bind(), own.me, &packed);
        if !self.write(JournalEntry::Masked { at }) {
            return;
        }
        if let Update::Ready { sent_in, .. } = &mut self.update {
            sent_in.push(at.attempt);
        }
        head.deadline = Some(now_ms + 2 * own.plan.params(head.kind).phase_deadline_ms);
        let packed = Payload::new(packed);
        let message = Envelope::with(SiloMessage::MaskedInput { at, header: masked }, Payload::clone(&packed));
        self.reply(head, message, "survivor list", |head| {
            Session::AwaitList(AwaitList { head, headers, shares, masked, packed })
        });
    }

    /// Sends a phase's message and enters the state that awaits its answer.
    pub(super) fn reply(
        &mut self,
        mut head: SessionHead,
        message: Envelope<SiloMessage>,
        awaited: &'static str,
        next: impl FnOnce(SessionHead) -> Session,
    ) {
        let at = head.at;
        head.reply = Some(message.clone());
        self.session = next(head);
        self.output(SiloOutput::Send(message));
        self.event(SiloEvent::Phase(at, awaited));
    }

    /// What came does not belong to the state: it stays as it was.
    pub(super) fn out_of_phase(&mut self, state: Session, what: &str, at: AttemptId) {
        self.session = state;
        self.ignore(format!("{what} of {at}, which is not awaited"));
    }

    /// [`SiloMachine::out_of_phase`] for what is sent to silos of whom the coordinator awaits something. Where this silo
    /// joined the attempt, but holds its secrets no longer (it was restarted since), it says so, and nobody waits for it.
    fn awaited_in_vain(&mut self, state: Session, what: &str, at: AttemptId) {
        let gone = self.journal.joined == at && state.head().is_none_or(|head| head.at != at);
        self.out_of_phase(state, what, at);
        if gone && at.round == self.held.round.saturating_add(1) && !self.journal.has_voted(at) {
            self.decline(at, DeclineReason::Mismatch, "its keys of this attempt went with the process that made them");
        }
    }

    /// A phase's message failed its checks before the masked input went out: the session's secrets are already erased.
    fn refuse(&mut self, at: AttemptId, why: String) {
        self.decline(at, DeclineReason::Refused, why.clone());
        self.misbehaviour(format!("{at}: {why}"));
    }

    /// SA-07: a peer showed an older journal than before. Its journal grows with every attempt that it joins, so that it
    /// would soon be long enough again: from now on none is.
    fn refuse_for_good(&mut self, silo: SiloId) {
        let head = self.journal.peers.iter().find(|(s, _)| *s == silo).map(|(_, mark)| mark.head);
        let mark = JournalMark { length: u64::MAX, head: head.unwrap_or(Digest([0; 32])) };
        // where the journal admits no entry, nothing depends on it
        let _ = self.write(JournalEntry::Peers { marks: vec![(silo, mark)] });
    }

    fn ready_input(&self, round: u32) -> Option<crate::silo::work::Input> {
        match &self.update {
            Update::Ready { round: r, input, .. } if *r == round => Some(input.clone()),
            _ => None,
        }
    }
}
