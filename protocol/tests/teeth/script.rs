//! A coordinator made of plain function calls, which asks real silos for whatever suits it and keeps all that they say.
//!
//! Silos train at once and always with the same outcome, as they do where nothing is random; with `fresh` every training
//! gives other values. A step that a silo refuses gives `None`.

use std::collections::BTreeMap;
use std::sync::Arc;

use blindsum_crypto::unmask::{self, Masks, Recovery};
use blindsum_crypto::verify::{self, Rules, VerifiedAdverts, VerifiedDealing, VerifiedHeaders, VerifiedList};
use blindsum_crypto::{
    Advert, CommitCertificate, CommitVote, Context, Digest, MaskedHeader, Quorum, ResultVote, SegmentKind, SiloId,
    Sketch, SumProof, SurvivorList, packing, transcript,
};
use blindsum_protocol::message::{Abandoned, MaskedBack, Open, RoundResult};
use blindsum_protocol::silo::{
    HeldResult, JournalEntry, JournalState, MeasuredUpdate, SetupError, SiloMachine, SiloOutput, SiloSetup,
    TrainOutcome,
};
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, HeldOutCounts, Payload, RoundKind, SiloMessage};

use blindsum_testkit::{Setup, boxed_rng};

pub const KIND: RoundKind = RoundKind::TrainB;

pub fn attempt(round: u32, attempt: u32) -> AttemptId {
    AttemptId { round, attempt }
}

pub fn ids(silos: &[u16]) -> Vec<SiloId> {
    silos.iter().map(|&i| SiloId(i)).collect()
}

/// One silo with what it made durable.
pub struct Silo {
    machine: SiloMachine,
    pub journal: Vec<JournalEntry>,
    pub held: Option<HeldResult>,
    pub sent: Vec<SiloMessage>,
    payloads: Vec<Option<Payload>>,
    trainings: u32,
}

pub struct Script {
    pub setup: Setup,
    pub silos: Vec<Silo>,
    pub fresh: bool,
    lives: u64,
}

/// A session as the coordinator knows it after P3.
pub struct Session {
    pub at: AttemptId,
    pub ctx: Digest,
    pub adverts: VerifiedAdverts,
    pub dealings: BTreeMap<SiloId, VerifiedDealing>,
    pub headers: VerifiedHeaders,
    pub masked: BTreeMap<SiloId, (MaskedHeader, Payload)>,
}

/// A session with its sum.
pub struct Summed {
    pub session: Session,
    pub list: VerifiedList,
    pub commits: CommitCertificate,
    pub masks: Masks,
    pub sum: Vec<u8>,
}

impl Script {
    pub fn new(n: u16, job: &str) -> Script {
        let setup = Setup::new(n, job);
        let mut script = Script { silos: Vec::new(), setup, fresh: false, lives: 0 };
        for silo in script.setup.roster.ids() {
            let machine = script.machine(silo, &[], None).unwrap();
            let (journal, sent, payloads) = (Vec::new(), Vec::new(), Vec::new());
            script.silos.push(Silo { machine, journal, held: None, sent, payloads, trainings: 0 });
            script.connect(silo);
        }
        script
    }

    fn machine(
        &mut self,
        me: SiloId,
        journal: &[JournalEntry],
        held: Option<HeldResult>,
    ) -> Result<SiloMachine, SetupError> {
        self.lives += 1;
        let (roster, plan) = (Arc::clone(&self.setup.roster), Arc::clone(&self.setup.plan));
        let journal = JournalState::replay(journal).expect("a journal that replays");
        let config = SiloSetup { me, identity: self.setup.identity(me), roster, plan, journal, held };
        SiloMachine::new(config, boxed_rng(self.lives), 0)
    }

    fn connect(&mut self, silo: SiloId) {
        self.silos[silo.index()].machine.handle_connected(0);
        self.pump(silo);
    }

    /// Starts a silo again from what its files now say.
    pub fn restart(&mut self, silo: SiloId) -> Result<(), SetupError> {
        let (journal, held) = (self.silos[silo.index()].journal.clone(), self.silos[silo.index()].held.clone());
        self.silos[silo.index()].machine = self.machine(silo, &journal, held)?;
        self.connect(silo);
        Ok(())
    }

    pub fn quorum(&self) -> Quorum {
        self.setup.plan.quorum()
    }

    pub fn update(&self, silo: SiloId) -> Vec<f32> {
        self.setup.update(silo, 1, 1).0
    }

    pub fn tell(&mut self, silo: SiloId, message: CoordinatorMessage) {
        self.tell_with(silo, Envelope::bare(message));
    }

    pub fn tell_with(&mut self, silo: SiloId, envelope: Envelope<CoordinatorMessage>) {
        self.silos[silo.index()].machine.handle_message(envelope, 0);
        self.pump(silo);
    }

    fn pump(&mut self, silo: SiloId) {
        while let Some(output) = self.silos[silo.index()].machine.poll_output() {
            let s = &mut self.silos[silo.index()];
            match output {
                SiloOutput::Send(Envelope { message, payload }) => {
                    s.sent.push(message);
                    s.payloads.push(payload);
                }
                SiloOutput::Journal(entry) => s.journal.push(entry),
                SiloOutput::Train(request) => {
                    s.trainings += 1;
                    let run = if self.fresh { s.trainings } else { 1 };
                    let (update, held_out) = self.setup.update(silo, 1, run);
                    let outcome =
                        TrainOutcome { round: request.at.round, result: Ok(MeasuredUpdate { update, held_out }) };
                    s.machine.handle_trained(outcome, 0);
                }
                SiloOutput::Work(work) => {
                    let done = work.run();
                    s.machine.handle_work_done(done, 0);
                }
                SiloOutput::Adopt(adoption) => {
                    let (round, result_hash, global) = (adoption.at.round, adoption.result_hash, adoption.global);
                    s.held = Some(HeldResult { round, result_hash, global });
                }
                SiloOutput::Event(_) | SiloOutput::Disconnect(_) | SiloOutput::Finished => {}
            }
        }
    }

    /// The newest thing of some kind that a silo said.
    pub fn last<T>(&self, silo: SiloId, pick: impl Fn(&SiloMessage) -> Option<T>) -> Option<T> {
        self.silos[silo.index()].sent.iter().rev().find_map(pick)
    }

    /// The context of an attempt for silos that hold what this one holds.
    pub fn context(&self, at: AttemptId) -> Context {
        let plan = &self.setup.plan;
        let (previous, model) = match &self.silos[0].held {
            Some(held) => (held.result_hash, plan.model_hash(&held.global)),
            None => (plan.job_digest(), plan.model_hash(&plan.initial_global())),
        };
        plan.context(at, KIND, previous, model)
    }

    /// P0 and P1 with one silo: its advert, if it joins.
    pub fn advert(&mut self, silo: SiloId, context: Context, abandoned: Vec<Abandoned>) -> Option<Advert> {
        let (at, before) = (attempt(context.round, context.attempt), self.silos[silo.index()].sent.len());
        self.tell(silo, CoordinatorMessage::Open(Open { context, abandoned }));
        self.silos[silo.index()].sent[before..].iter().find_map(|m| match m {
            SiloMessage::Advert { at: a, advert } if *a == at => Some(advert.clone()),
            _ => None,
        })
    }

    /// P0 to P3 with some silos.
    pub fn session(&mut self, cohort: &[SiloId], context: Context, abandoned: &[Abandoned]) -> Option<Session> {
        let (ctx, at) = (context.digest(), attempt(context.round, context.attempt));
        let (roster, quorum) = (Arc::clone(&self.setup.roster), self.quorum());
        let rules = Rules { roster: &roster, ctx: &ctx, quorum: &quorum };
        let adverts: Option<Vec<Advert>> =
            cohort.iter().map(|&silo| self.advert(silo, context.clone(), abandoned.to_vec())).collect();
        let adverts = verify::adverts(&rules, adverts?, None, &[]).ok()?;
        let mut dealings = BTreeMap::new();
        for &silo in cohort {
            self.tell(silo, CoordinatorMessage::Adverts { at, adverts: adverts.adverts().to_vec() });
            let dealing = self.last(silo, |m| match m {
                SiloMessage::Shares { at: a, dealing } if *a == at => Some(dealing.clone()),
                _ => None,
            })?;
            dealings.insert(silo, verify::dealing(&rules, dealing, &adverts).ok()?);
        }
        let headers = dealings.values().map(|d| d.header().header().clone()).collect();
        let headers = verify::headers(&rules, headers, &adverts, None).ok()?;
        let mut masked = BTreeMap::new();
        for &silo in cohort {
            let deliveries = dealings.values().filter_map(|d| d.delivery(silo)).collect();
            self.tell(silo, CoordinatorMessage::Shares { at, headers: headers.headers().to_vec(), deliveries });
            let s = &self.silos[silo.index()];
            let y = s.sent.iter().zip(&s.payloads).rev().find_map(|(m, payload)| match m {
                SiloMessage::MaskedInput { at: a, header } if *a == at => Some((*header, payload.clone()?)),
                _ => None,
            });
            masked.insert(silo, y?);
        }
        Some(Session { at, ctx, adverts, dealings, headers, masked })
    }

    /// P4 and P5 with all of a list, and S.
    pub fn sum(&mut self, session: Session, survivors: &[SiloId]) -> Option<Summed> {
        let (roster, quorum, at) = (Arc::clone(&self.setup.roster), self.quorum(), session.at);
        let rules = Rules { roster: &roster, ctx: &session.ctx, quorum: &quorum };
        let entries = SurvivorList(survivors.iter().map(|silo| session.masked[silo].0).collect());
        let list = verify::survivor_list(&rules, entries, &session.headers, None).ok()?;
        let mut votes: Vec<CommitVote> = Vec::new();
        for &silo in survivors {
            self.tell(silo, CoordinatorMessage::CommitRequest { at, list: list.list().clone() });
            votes.push(self.last(silo, |m| match m {
                SiloMessage::Commit { at: a, vote } if *a == at => Some(*vote),
                _ => None,
            })?);
        }
        let commits = CommitCertificate(votes);
        let mut recovery = Recovery::new(quorum.t, &list);
        for &silo in survivors {
            self.tell(silo, CoordinatorMessage::RevealRequest { at, certificate: commits.clone() });
            let reveal = self.last(silo, |m| match m {
                SiloMessage::Reveal { at: a, reveal } if *a == at => Some(reveal.clone()),
                _ => None,
            })?;
            recovery.add(&verify::reveal(&rules, &reveal, &list, &session.dealings).ok()?);
        }
        let masks = recovery.streams(&session.adverts, &session.headers).ok()?;
        let params = self.setup.plan.params(KIND);
        let mut acc = vec![0; params.lanes()];
        for silo in survivors {
            packing::add_packed(params, &session.masked[silo].1, &mut acc).ok()?;
        }
        let sum = unmask::unmask(acc, &masks.streams, params, 1).ok()?;
        Some(Summed { session, list, commits, masks, sum })
    }

    /// P0 to P5 of an attempt with all of `cohort`.
    pub fn attempt(&mut self, at: AttemptId, cohort: &[SiloId], abandoned: &[Abandoned]) -> Option<Summed> {
        let session = self.session(cohort, self.context(at), abandoned)?;
        self.sum(session, cohort)
    }

    /// The sketch that a silo makes for an announced sum.
    pub fn sketch(
        &mut self,
        silo: SiloId,
        at: AttemptId,
        sum: &[u8],
        back: Option<(MaskedBack, Vec<u8>)>,
    ) -> Option<Sketch> {
        let sum_hash = transcript::sum_hash(sum);
        let before = self.silos[silo.index()].sent.len();
        let (back, payload) = back.unzip();
        let message = CoordinatorMessage::SumRequest { at, sum_hash, back };
        self.tell_with(silo, Envelope { message, payload: payload.map(Arc::new) });
        self.silos[silo.index()].sent[before..].iter().find_map(|m| match m {
            SiloMessage::Sketch { at: a, sketch } if *a == at => sketch.clone(),
            _ => None,
        })
    }

    /// P6 with one silo: its vote on a sum, if it signs one.
    pub fn result_vote(&mut self, silo: SiloId, result: RoundResult, sum: &[u8]) -> Option<ResultVote> {
        let before = self.silos[silo.index()].sent.len();
        self.tell_with(silo, Envelope::with(CoordinatorMessage::Result(result), Arc::new(sum.to_vec())));
        self.silos[silo.index()].sent[before..].iter().find_map(|m| match m {
            SiloMessage::ResultVote { vote, .. } => Some(*vote),
            _ => None,
        })
    }

    /// The held-out counts of a sum.
    pub fn counts(&self, sum: &[u8]) -> HeldOutCounts {
        let lanes = packing::unpack(self.setup.plan.params(KIND), sum).unwrap();
        let metrics = &lanes[lanes.len() - 6..];
        HeldOutCounts { examples: metrics[1], correct: metrics[2] }
    }

    /// The input of the one silo that is in the first sum and not in the second: is it that silo's update?
    pub fn difference_is(&self, first: &[u8], second: &[u8], silo: SiloId) -> bool {
        let params = self.setup.plan.params(KIND);
        let [a, b] = [first, second].map(|sum| packing::unpack(params, sum).unwrap());
        let (update, mut found) = (self.update(silo), Vec::new());
        for (segment, range) in params.ranges() {
            if let SegmentKind::FixedPoint { .. } = segment.kind {
                found.extend(range.map(|k| a[k].wrapping_sub(b[k]) & segment.ring_mask()));
            }
        }
        let mask = params.segments[0].ring_mask();
        let expected: Vec<u32> = update.iter().map(|v| (*v as i64 as u32) & mask).collect();
        found == expected
    }
}

impl Summed {
    /// The result message for a sum of the coordinator's choice.
    pub fn result(&self) -> RoundResult {
        RoundResult {
            at: self.session.at,
            bind: self.session.headers.bind(),
            list: self.list.list().clone(),
            commits: self.commits.clone(),
            certificate: None,
            proof: None,
        }
    }

    pub fn proof(&self, sketches: Vec<Sketch>) -> Box<SumProof> {
        Box::new(SumProof {
            adverts: self.session.adverts.adverts().to_vec(),
            headers: self.session.headers.headers().to_vec(),
            secrets: self.masks.secrets.clone(),
            sketches,
            opened: Vec::new(),
        })
    }

    /// The sum with one coordinate changed.
    pub fn altered(&self) -> Vec<u8> {
        let mut sum = self.sum.clone();
        sum[5] ^= 4;
        sum
    }
}
