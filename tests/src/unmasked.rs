//! A silo that leaves its masks off, to show that [`crate::scan`] finds an update where there is one.
//!
//! It runs the silo's machine and sends what the machine says, except for the masked input: in its place goes the encoded
//! update without any mask, under a signature of its own (which needs nothing but its identity key and what everybody
//! sees: `ctx` and the transcript). No product crate can do this; the parts are all public.
//!
//! Contract: it stops before its vote, so that the coordinator is left with every silo's input and nothing more happens.

use std::sync::Arc;

use blindsum_crypto::verify::{self, Rules, VerifiedAdverts};
use blindsum_crypto::{Digest, IdentityKey, MaskedHeader, SegmentKind, fixed_point, packing};
use blindsum_protocol::message::{CoordinatorMessage, Envelope, SiloMessage};
use blindsum_protocol::plan::{Plan, RoundKind};
use blindsum_protocol::silo::{JournalState, MeasuredUpdate, SiloMachine, SiloOutput, SiloSetup, TrainOutcome};
use blindsum_protocol::{HeldOutCounts, Limits};
use blindsum_silo::agent::Prepared;
use blindsum_transport::codec::SiloCodec;
use blindsum_transport::{Connection, Dialer, Settings};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::time::timeout;

use crate::PATIENCE;

/// A silo in clear, connected.
pub struct UnmaskedSilo {
    prepared: Prepared,
    update: Vec<f32>,
    machine: SiloMachine,
    connection: Connection<SiloCodec>,
    /// Lives as long as the connection.
    _dialer: Dialer<SiloCodec>,
    ctx: Digest,
    adverts: Option<VerifiedAdverts>,
    bind: Option<Digest>,
}

impl UnmaskedSilo {
    /// Connects; its update in round 1 will be `update`.
    pub async fn connect(prepared: Prepared, update: Vec<f32>) -> Self {
        let codec = SiloCodec::new(Limits::new(&prepared.plan));
        let mut dialer =
            Dialer::new(&prepared.config.coordinator, &prepared.credentials, codec, Settings::default()).unwrap();
        let connection = dialer.connect().await.unwrap();
        let config = SiloSetup {
            me: prepared.me,
            identity: IdentityKey::from_bytes(&prepared.identity.to_bytes()),
            roster: prepared.roster.clone(),
            plan: prepared.plan.clone(),
            journal: JournalState::default(),
            held: None,
        };
        let rng = Box::new(ChaCha20Rng::seed_from_u64(u64::from(prepared.me.0)));
        let mut machine = SiloMachine::new(config, rng, 0).unwrap();
        machine.handle_connected(0);
        let ctx = Digest([0; 32]);
        Self { prepared, update, machine, connection, _dialer: dialer, ctx, adverts: None, bind: None }
    }

    /// Takes part in round 1 until the coordinator asks for the vote. Keep the value: dropping it disconnects.
    pub async fn until_vote(&mut self) {
        timeout(PATIENCE, async {
            loop {
                self.execute().await;
                let envelope = self.connection.recv().await.unwrap();
                if matches!(envelope.message, CoordinatorMessage::CommitRequest { .. }) {
                    return;
                }
                self.note(&envelope.message);
                // Time does not matter: nothing here comes near a deadline.
                self.machine.handle_message(envelope, 1);
            }
        })
        .await
        .expect("the attempt reaches the vote in time");
    }

    /// Takes from a message what the signature over an input needs.
    fn note(&mut self, message: &CoordinatorMessage) {
        let plan = self.prepared.plan.clone();
        let quorum = plan.quorum();
        let rules = Rules { roster: &self.prepared.roster, ctx: &self.ctx, quorum: &quorum };
        match message {
            CoordinatorMessage::Open(open) => self.ctx = open.context.digest(),
            CoordinatorMessage::Adverts { adverts, .. } => {
                self.adverts = Some(verify::adverts(&rules, adverts.clone(), None, &[]).unwrap());
            }
            CoordinatorMessage::Shares { headers, .. } => {
                let adverts = self.adverts.as_ref().unwrap();
                self.bind = Some(verify::headers(&rules, headers.clone(), adverts, None).unwrap().bind());
            }
            _ => {}
        }
    }

    async fn execute(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                SiloOutput::Send(envelope) => {
                    let envelope = match envelope.message {
                        SiloMessage::MaskedInput { at, .. } => {
                            let clear = encode(&self.prepared.plan, &self.update);
                            let header = MaskedHeader::sign(
                                &self.prepared.identity,
                                &self.ctx,
                                &self.bind.unwrap(),
                                self.prepared.me,
                                &clear,
                            );
                            Envelope::with(SiloMessage::MaskedInput { at, header }, Arc::new(clear))
                        }
                        _ => envelope,
                    };
                    self.connection.send(envelope).await.unwrap();
                }
                SiloOutput::Train(request) => {
                    let local = MeasuredUpdate { update: self.update.clone(), held_out: HeldOutCounts::default() };
                    self.machine.handle_trained(TrainOutcome { round: request.at.round, result: Ok(local) }, 1);
                }
                SiloOutput::Work(work) => {
                    let done = tokio::task::spawn_blocking(|| work.run()).await.unwrap();
                    self.machine.handle_work_done(done, 1);
                }
                SiloOutput::Disconnect(event) => panic!("{event}"),
                _ => {}
            }
        }
    }
}

/// An update as a masked input would be, without masks.
fn encode(plan: &Plan, update: &[f32]) -> Vec<u8> {
    let params = plan.params(RoundKind::TrainB);
    let mut lanes = Vec::new();
    for (segment, range) in params.ranges() {
        match segment.kind {
            SegmentKind::FixedPoint { .. } => {
                fixed_point::encode(&update[range], segment, &mut ChaCha20Rng::seed_from_u64(0), &mut lanes).unwrap();
            }
            SegmentKind::Counts { .. } => {
                let mut counts = vec![0; range.len()];
                counts[0] = 1;
                fixed_point::encode_counts(&counts, segment, &mut lanes).unwrap();
            }
        }
    }
    packing::pack(params, &lanes).unwrap()
}
