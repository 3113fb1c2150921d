//! P4 and P5 at a silo: its one vote per attempt, and the one reply that a COMMIT vote implies.
//!
//! Contract: a vote is journaled before it is sent, COMMIT together with its reply (SA-07). After a restart a journaled
//! vote and reply are repeated byte for byte, and nothing else is signed for an attempt from before it: ABANDON only for
//! attempts whose opening this very process received.

use blindsum_crypto::verify as stateless;
use blindsum_crypto::{AbandonVote, CommitCertificate, CommitVote, SurvivorList};

use crate::message::{AttemptId, Envelope, SiloMessage};
use crate::plan::RoundKind;
use crate::silo::api::SiloEvent;
use crate::silo::journal::JournalEntry;
use crate::silo::machine::SiloMachine;
use crate::silo::session::{AwaitList, Session, SessionHead, Voted};
use crate::silo::verify;

impl SiloMachine {
    /// P4: the survivors. Journals vote and reply, erases every other share, votes COMMIT.
    pub(super) fn on_commit_request(&mut self, at: AttemptId, list: SurvivorList) {
        let state = match std::mem::replace(&mut self.session, Session::Idle) {
            Session::AwaitList(state) if state.head.at == at => state,
            other => {
                let voted = other.head().is_some_and(|h| h.at == at);
                self.session = other;
                return match self.journal.committed.as_ref().filter(|c| c.at == at && voted).map(|c| c.vote) {
                    Some(vote) => self.send(SiloMessage::Commit { at, vote }),
                    None => self.ignore(format!("a survivor list of {at}, which is not awaited")),
                };
            }
        };
        let own = self.own.clone();
        // SA-04, SA-05
        let list =
            match stateless::survivor_list(&own.rules(&state.head.ctx), list, &state.headers, Some(&state.masked)) {
                Ok(list) => list,
                Err(e) => {
                    // the vote is still open: another list, or ABANDON at the deadline
                    self.session = Session::AwaitList(state);
                    return self.misbehaviour(format!("{at}: {e}"));
                }
            };
        let AwaitList { mut head, shares, packed, .. } = state;
        let reply = shares.into_reply(&list, &own.identity, &head.ctx);
        let vote = CommitVote::sign(&own.identity, &head.ctx, own.me, &list.t3());
        if !self.write(JournalEntry::Committed { at, ctx: head.ctx, vote, reply }) {
            return;
        }
        self.event(SiloEvent::Committed(at, list.survivors().len()));
        head.deadline = None;
        let message = Envelope::bare(SiloMessage::Commit { at, vote });
        self.reply(head, message, "commit certificate", |head| {
            Session::AwaitCertificate(Voted { head, packed: Some(packed), sketch: None })
        });
    }

    /// P5: q COMMIT votes over this silo's own list release its reply (SA-08).
    pub(super) fn on_reveal_request(&mut self, at: AttemptId, certificate: CommitCertificate) {
        let ours = match &self.session {
            Session::AwaitCertificate(voted) | Session::AwaitResult(voted) => voted.head.at == at,
            _ => false,
        };
        let Some(committed) = self.journal.committed.clone().filter(|c| ours && c.at == at) else {
            return self.ignore(format!("a commit certificate of {at}, which is not awaited"));
        };
        let own = self.own.clone();
        let rules = own.rules(&committed.ctx);
        let reply = &committed.reply;
        let released = stateless::commit_certificate(&rules, &certificate, &reply.t3(), reply.survivors())
            .and_then(|certificate| reply.release(&certificate));
        match released {
            Ok(reveal) => {
                let message = Envelope::bare(SiloMessage::Reveal { at, reveal: reveal.clone() });
                match std::mem::replace(&mut self.session, Session::Idle) {
                    Session::AwaitCertificate(voted) | Session::AwaitResult(voted) => {
                        let Voted { head, packed, sketch } = voted;
                        self.reply(head, message, "result", |head| {
                            Session::AwaitResult(Voted { head, packed, sketch })
                        });
                    }
                    other => self.session = other,
                }
            }
            Err(e) => self.misbehaviour(format!("{at}: {e}")),
        }
    }

    /// The coordinator says that the attempt failed.
    pub(super) fn on_abandon_request(&mut self, at: AttemptId) {
        if at.round != self.held.round.saturating_add(1) {
            return self.ignore(format!("a request to abandon {at}, which is no attempt at the round in progress"));
        }
        self.abandon(at);
    }

    /// Votes ABANDON, unless this silo voted COMMIT or may have forgotten that it did. Repeats a journaled vote.
    pub(super) fn abandon(&mut self, at: AttemptId) {
        if let Some(vote) = self.journal.abandon_vote(at).copied() {
            return self.send(SiloMessage::Abandon { at, vote });
        }
        if let Err(why) = verify::abandon(self.seen.contains(&at.attempt), self.journal.has_voted(at)) {
            return self.ignore(format!("a request to abandon {at}: {why}"));
        }
        let Some(kind) = self.own.plan.kind(at.round) else { return };
        let ctx = self.context(at, kind).digest();
        if self.session.head().is_some_and(|head| head.at == at) {
            self.leave("it is abandoned");
        }
        let vote = AbandonVote::sign(&self.own.identity, &ctx, self.own.me);
        if !self.write(JournalEntry::Abandoned { at, vote }) {
            return;
        }
        self.event(SiloEvent::Abandoned(at));
        self.send(SiloMessage::Abandon { at, vote });
    }

    /// After a restart: the newest attempt's COMMIT vote is taken up, if its round is still open.
    pub(super) fn restored_session(&self) -> Session {
        let open = self
            .journal
            .committed
            .as_ref()
            .filter(|c| c.at == self.journal.joined && c.at.round == self.held.round.saturating_add(1));
        match open {
            None => Session::Idle,
            Some(c) => {
                let reply = Some(Envelope::bare(SiloMessage::Commit { at: c.at, vote: c.vote }));
                let kind = self.own.plan.kind(c.at.round).unwrap_or(RoundKind::Evaluate);
                let head = SessionHead { at: c.at, kind, ctx: c.ctx, silent: false, deadline: None, reply };
                Session::AwaitCertificate(Voted { head, packed: None, sketch: None })
            }
        }
    }
}
