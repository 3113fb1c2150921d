//! What a silo does with each message: the rules of `protocol/src/silo/{open,session,vote,journal}.rs`, one function
//! per message, each with the checks in the order of the code.
//!
//! Contract: a function that returns `None` says that the message changes nothing (ignored, declined, or a check failed
//! before the masked input went out, which is never better for the coordinator than not to have sent it).

use crate::rules::{Numbers, Rules, Switch, Updates};
use crate::state::{Entry, Facts, Input, Mark, Row, Session, Set, Update, mark, members, replay};

/// What a silo knows from the start.
#[derive(Debug, Clone, Copy)]
pub struct Own {
    /// Its quorums.
    pub numbers: Numbers,
    /// Its job.
    pub updates: Updates,
    /// Rules thrown.
    pub rules: Rules,
}

impl Own {
    fn off(&self, switch: Switch) -> bool {
        self.rules.thrown(switch)
    }

    /// `on_open`: the attempt is new, and what it may carry follows from `proven`, the attempts shown to be abandoned.
    pub fn open(&self, row: &Row, at: u8, proven: Set) -> Option<Row> {
        let journal = replay(&row.journal);
        if row.session.attempt() == Some(at) || (at < journal.newest && !self.off(Switch::AttemptsRise)) {
            return None;
        }
        let mut row = *row;
        let mut sent = journal.masked;
        if self.off(Switch::JoinedIsMasked) {
            sent |= journal.ever_joined & !row.seen;
        }
        row.seen |= 1 << at;
        let unproven = if self.off(Switch::RetryProven) { 0 } else { sent & !proven };
        row.silent = false;
        if unproven != 0 {
            if self.updates == Updates::Same {
                return Some(row); // declines; the opening is remembered as received
            }
            row.silent = !self.off(Switch::CountsOnce);
            row.update = row.update.filter(|update| update.sent_in & unproven == 0);
        }
        row.journal.push(Entry::Joined(at));
        if row.update.is_none() {
            let id = if self.updates == Updates::Same { 0 } else { row.trained };
            row.update = Some(Update { id, sent_in: 0 });
            row.trained += 1;
        }
        let mark = mark(&row.journal);
        let facts = &mut row.facts[usize::from(at)];
        facts.quiet |= Set::from(row.silent) << facts.adverts.len();
        facts.adverts.push(mark);
        row.session = Session::Adverts(at, u8::try_from(facts.adverts.len()).expect("a few adverts"));
        Some(row)
    }

    /// `on_adverts`: own entry intact, and no peer's journal went backwards. Deals under this T1. With `quiet` some
    /// advert of it says that its silo cannot add held-out counts.
    ///
    /// `listed` holds the marks of the other silos listed, by row; `history` what this silo's journal says of them.
    pub fn adverts(
        &self,
        row: &Row,
        (at, t1): (u8, u8),
        listed: &[(usize, Mark)],
        known: &[(usize, Mark)],
        quiet: bool,
    ) -> Option<Row> {
        let Session::Adverts(session_at, own) = row.session else { return None };
        if session_at != at || row.facts[usize::from(at)].listed[usize::from(t1)] != own {
            return None;
        }
        let went_back = |(silo, mark): &(usize, Mark)| {
            let before = known.iter().rev().find(|(s, _)| s == silo).map(|(_, before)| before);
            before.is_some_and(|b| mark.length < b.length || (mark.length == b.length && mark.head != b.head))
        };
        if !self.off(Switch::PeersRemember) && listed.iter().any(went_back) {
            return None;
        }
        let mut row = *row;
        row.silent |= quiet && !self.off(Switch::CountsAgreed);
        row.journal.push(Entry::Peers(at, t1));
        row.facts[usize::from(at)].dealt |= 1 << t1;
        row.session = Session::Shares(at, t1);
        Some(row)
    }

    /// `on_shares` and `on_masked`: y goes out under this T2, which holds the silo's own header.
    pub fn shares(&self, row: &Row, at: u8, t1: u8, t2: u8) -> Option<Row> {
        let facts = &row.facts[usize::from(at)];
        let journal = replay(&row.journal);
        let admitted = journal.joined == Some(at) && (journal.masked | journal.voted) >> at & 1 == 0;
        if row.session != Session::Shares(at, t1) || facts.headers >> t2 & 1 == 0 || !admitted {
            return None;
        }
        let mut row = *row;
        row.journal.push(Entry::Masked(at));
        let update = row.update.as_mut()?;
        update.sent_in |= 1 << at;
        let input = Input { update: update.id, counts: !row.silent };
        row.facts[usize::from(at)].sent[usize::from(t2)] = Some(input);
        row.session = Session::List(at, t2);
        Some(row)
    }

    /// `on_commit_request`: the list holds the silo's own masked input. Journals vote and reply, then votes.
    pub fn commit(&self, row: &Row, at: u8, t2: u8, t3: u8) -> Option<Row> {
        let journal = replay(&row.journal);
        let admitted = journal.voted >> at & 1 == 0 && journal.masked >> at & 1 == 1;
        let facts = &row.facts[usize::from(at)];
        if row.session != Session::List(at, t2) || facts.survives >> t3 & 1 == 0 || !admitted {
            return None;
        }
        let mut row = *row;
        if !self.off(Switch::VoteJournaled) {
            row.journal.push(Entry::Committed(at, t3));
        }
        row.facts[usize::from(at)].voted |= 1 << t3;
        row.session = Session::Certificate(at, t3);
        Some(row)
    }

    /// `on_reveal_request`: the reply to the T3 voted for; `certified` are the attempt's T3 with q votes.
    pub fn reveal(&self, row: &Row, certified: impl Fn(u8) -> Set) -> Option<Row> {
        let Session::Certificate(at, t3) = row.session else { return None };
        let released = match certified(at) {
            _ if self.off(Switch::Certificate) => true,
            certified if self.off(Switch::OwnList) => certified != 0,
            certified => certified >> t3 & 1 == 1,
        };
        let facts = &row.facts[usize::from(at)];
        if !released || facts.revealed >> t3 & 1 == 1 {
            return None;
        }
        let mut row = *row;
        row.facts[usize::from(at)].revealed |= 1 << t3;
        Some(row)
    }

    /// `on_abandon_request`, or the deadline: not after another vote, not for an attempt that this process did not see.
    pub fn abandon(&self, row: &Row, at: u8) -> Option<Row> {
        let voted = replay(&row.journal).voted >> at & 1 == 1 && !self.off(Switch::OneVote);
        let seen = row.seen >> at & 1 == 1 || self.off(Switch::AbandonOnlySeen);
        if !seen || voted || row.facts[usize::from(at)].abandoned {
            return None;
        }
        let mut row = *row;
        if row.session.attempt() == Some(at) {
            row.session = Session::Idle;
        }
        if !self.off(Switch::VoteJournaled) {
            row.journal.push(Entry::Abandoned(at));
        }
        row.facts[usize::from(at)].abandoned = true;
        Some(row)
    }

    /// A crash and a new process: `restored_session` takes up a COMMIT vote of the attempt joined last, all else is
    /// gone.
    pub fn restart(&self, row: &Row) -> Row {
        let journal = replay(&row.journal);
        let open = journal.committed.filter(|(at, _)| journal.joined == Some(*at));
        let session = open.map_or(Session::Idle, |(at, t3)| Session::Certificate(at, t3));
        Row { seen: 0, update: None, session, silent: false, ..*row }
    }
}

/// What a silo's journal says of its peers' marks, oldest first, by row.
pub fn known_marks(rows: &[Row], me: usize) -> Vec<(usize, Mark)> {
    let mut known = Vec::new();
    for entry in rows[me].journal.iter() {
        if let Entry::Peers(at, t1) = *entry {
            known.extend(listed_marks(rows, me, at, t1));
        }
    }
    known
}

/// Whether some advert of a T1 says that its silo cannot add held-out counts.
pub fn is_quiet(rows: &[Row], at: u8, t1: u8) -> bool {
    rows.iter().map(|row| &row.facts[usize::from(at)]).any(|facts| match facts.listed[usize::from(t1)] {
        0 => false,
        which => facts.quiet >> (which - 1) & 1 == 1,
    })
}

/// The marks in the adverts of a T1, by row; without the silo's own.
pub fn listed_marks(rows: &[Row], me: usize, at: u8, t1: u8) -> Vec<(usize, Mark)> {
    let mark = |facts: &Facts| match facts.listed[usize::from(t1)] {
        0 => None,
        which => Some(facts.adverts[usize::from(which) - 1]),
    };
    members(0xff >> (8 - rows.len()))
        .filter(|&i| i != me)
        .filter_map(|i| mark(&rows[i].facts[usize::from(at)]).map(|m| (i, m)))
        .collect()
}
