//! Connections of silos: one task and one bounded queue each, so that a slow silo delays nobody.
//!
//! ```text
//! Listener::accept ─► Links ── a task per connection ─► events ─► driver
//!                       ▲                    ▲
//!                       └── send, close ─────┴── queue of that connection
//! ```
//!
//! # Contract
//! Every connection has a number. The newest of a silo counts; what an older one still says is told apart by its number
//! and ignored. Sending never waits: a queue that is full means that the silo does not read, and ends its connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blindsum_crypto::{Roster, SiloId};
use blindsum_protocol::Limits;
use blindsum_protocol::coordinator::DisconnectReason;
use blindsum_protocol::message::{CoordinatorMessage, Envelope, SiloMessage};
use blindsum_transport::codec::CoordinatorCodec;
use blindsum_transport::{CloseCode, Connection, TransportError};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;
use tracing::{debug, error};

/// Received messages of all silos that may wait for the driver.
const EVENTS: usize = 64;
/// How long the end of the service waits for the last messages to arrive.
const FAREWELL: Duration = Duration::from_secs(8);

/// Where tests listen: gets the silo, the number of its connection, and each message as it was received, before the
/// coordinator acts on it. Nothing in the shipped program sets one.
pub type Tap = Arc<dyn Fn(SiloId, u64, &Envelope<SiloMessage>) + Send + Sync>;

/// What a connection says.
pub(crate) struct LinkEvent {
    pub silo: SiloId,
    /// Number of the connection.
    pub link: u64,
    pub what: What,
}

/// The kinds of [`LinkEvent`].
pub(crate) enum What {
    Message(Envelope<SiloMessage>),
    Down(TransportError),
}

/// Worst case of what waits in the queues here, bytes, for `silos` connections with queues of `queue_length`, with every
/// message as long as the job allows. Each connection may hold one more message for a full queue of events. Sums come
/// from the machine's own results and are shared, not copied, so that a queue to a silo holds control messages only.
pub(crate) fn memory(limits: &Limits, silos: usize, queue_length: usize) -> usize {
    queues(limits.from_silo() + limits.payload_max(), limits.from_coordinator(), silos, queue_length)
}

fn queues(incoming: usize, control_out: usize, silos: usize, queue_length: usize) -> usize {
    let events = EVENTS.saturating_add(silos).saturating_mul(incoming);
    events.saturating_add(silos.saturating_mul(queue_length).saturating_mul(control_out))
}

enum Command {
    Send(Envelope<CoordinatorMessage>),
    /// Deliver what is queued, then close.
    Finish(CloseCode, String),
    /// Close at once.
    Close(CloseCode, String),
}

struct Live {
    link: u64,
    queue: mpsc::Sender<Command>,
}

/// All connections.
pub(crate) struct Links {
    roster: Arc<Roster>,
    live: BTreeMap<SiloId, Live>,
    events: (mpsc::Sender<LinkEvent>, mpsc::Receiver<LinkEvent>),
    tasks: JoinSet<()>,
    next: u64,
    queue_length: usize,
    tap: Option<Tap>,
}

impl Links {
    /// No connection yet; `queue_length` messages may wait for one silo.
    pub fn new(roster: Arc<Roster>, queue_length: usize) -> Self {
        let (live, tasks) = (BTreeMap::new(), JoinSet::new());
        Self { roster, live, events: mpsc::channel(EVENTS), tasks, next: 0, queue_length, tap: None }
    }

    /// Shows every message of later connections to `tap`.
    #[cfg(feature = "harness")]
    pub fn tap(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Takes a new connection; tells whose it is, and whether it replaces an older one of the same silo.
    pub fn add(&mut self, connection: Connection<CoordinatorCodec>) -> Option<(SiloId, bool)> {
        let Some(silo) = self.roster.id_of(connection.peer_name()) else {
            connection.close(CloseCode::NotInRoster, "");
            return None;
        };
        // Connections that ended leave their task's result behind; take them out now and then.
        while self.tasks.try_join_next().is_some() {}
        self.next += 1;
        let (queue, commands) = mpsc::channel(self.queue_length);
        self.tasks.spawn(serve(connection, commands, self.events.0.clone(), (silo, self.next), self.tap.clone()));
        let replaced = self.live.insert(silo, Live { link: self.next, queue }).is_some();
        Some((silo, replaced))
    }

    /// The next event of a connection that counts. May be cancelled.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        loop {
            let event = self.events.1.recv().await?;
            if self.live.get(&event.silo).is_some_and(|live| live.link == event.link) {
                if matches!(event.what, What::Down(_)) {
                    self.live.remove(&event.silo);
                }
                return Some(event);
            }
        }
    }

    /// Whether the silo is connected.
    pub fn is_up(&self, silo: SiloId) -> bool {
        self.live.contains_key(&silo)
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Queues a message; dropped where the silo is not connected, which the machine expects. False when the silo does not
    /// read and was cut off.
    pub fn send(&mut self, silo: SiloId, envelope: Envelope<CoordinatorMessage>) -> bool {
        let Some(live) = self.live.get(&silo) else { return true };
        match live.queue.try_send(Command::Send(envelope)) {
            // Where the connection has just ended, its last event is on the way.
            Ok(()) | Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(_)) => {
                // Dropping the queue closes the connection.
                self.live.remove(&silo);
                false
            }
        }
    }

    /// Closes a silo's connection for the machine's reason.
    pub fn close(&mut self, silo: SiloId, reason: &DisconnectReason) {
        let code = match reason {
            DisconnectReason::OtherRoster(_) => CloseCode::RosterDiffers,
            DisconnectReason::OtherJob(_) => CloseCode::JobDiffers,
            DisconnectReason::OtherHistory(_) | DisconnectReason::Restored => CloseCode::StateDiffers,
            DisconnectReason::Misbehaviour(_) => CloseCode::Protocol,
        };
        if let Some(live) = self.live.remove(&silo) {
            // Where the queue is full, dropping it closes the connection without words.
            drop(live.queue.try_send(Command::Close(code, reason.to_string())));
        }
    }

    /// Delivers what is queued, as far as it goes in a few seconds, and closes all connections.
    pub async fn finish(&mut self, code: CloseCode, reason: &str) {
        for live in std::mem::take(&mut self.live).into_values() {
            drop(live.queue.try_send(Command::Finish(code, reason.to_owned())));
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            debug!("some silos did not take their last messages");
        }
    }
}

async fn serve(
    mut connection: Connection<CoordinatorCodec>,
    mut commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<LinkEvent>,
    (silo, link): (SiloId, u64),
    tap: Option<Tap>,
) {
    let error = loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Send(envelope)) => match connection.send(envelope).await {
                    Ok(()) => {}
                    Err(TransportError::Misuse(why)) => error!(event = "fault", why, "a message could not be sent"),
                    Err(error) => break error,
                },
                Some(Command::Finish(code, reason)) => return connection.finish(code, &reason).await,
                Some(Command::Close(code, reason)) => return connection.close(code, &reason),
                None => return connection.close(CloseCode::Stalled, "it did not read its messages"),
            },
            message = connection.recv() => match message {
                Ok(envelope) => {
                    if let Some(tap) = &tap {
                        tap(silo, link, &envelope);
                    }
                    let event = LinkEvent { silo, link, what: What::Message(envelope) };
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
                Err(error) => break error,
            },
        }
    };
    // The driver is gone only at the very end.
    drop(events.send(LinkEvent { silo, link, what: What::Down(error) }).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_bound_counts_full_queues_of_the_longest_messages() {
        assert_eq!(queues(1000, 10, 3, 256), (EVENTS + 3) * 1000 + 3 * 256 * 10);
        assert_eq!(queues(usize::MAX, 10, 3, 256), usize::MAX);
    }
}
