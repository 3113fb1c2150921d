//! The connection to the coordinator, kept up: dials, dials again, and tells the driver.
//!
//! # Contract
//! Every connection has a number, and a message is sent only on the connection that it was made for: the first message on
//! a new one must be the machine's Hello. Neither side of the two queues waits for the other, so they cannot stall.

use std::time::Duration;

use blindsum_certs::Credentials;
use blindsum_protocol::message::{CoordinatorMessage, Envelope, SiloMessage};
use blindsum_protocol::{Limits, Plan};
use blindsum_service::Stop;
use blindsum_transport::codec::SiloCodec;
use blindsum_transport::{CloseCode, Connection, Dialer, Settings, TransportError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::agent::error::AgentError;

/// Received messages that may wait for the driver.
const EVENTS: usize = 4;
/// How long the end of the agent waits for its last messages to arrive.
const FAREWELL: Duration = Duration::from_secs(10);

/// What the connection says.
pub(crate) enum LinkEvent {
    /// Connected, to this address.
    Up(String),
    /// A message.
    Message(Envelope<CoordinatorMessage>),
    /// Lost; it dials again by itself.
    Down(String),
    /// The coordinator says that the job is over.
    Over,
    /// There will be no further connection.
    Ended(AgentError),
}

enum Command {
    Send(Envelope<SiloMessage>),
    /// Close at once, and dial again.
    Close(CloseCode, String),
    /// Deliver what is queued, close, and end.
    Finish(CloseCode),
}

/// The driver's handle.
pub(crate) struct Link {
    events: mpsc::Receiver<(u64, LinkEvent)>,
    /// Few: a silo has a handful of messages per attempt, its masked input shared and not copied.
    commands: mpsc::UnboundedSender<(u64, Command)>,
    task: JoinHandle<()>,
    /// The connection that is up, as the driver knows it; 0 for none.
    current: u64,
}

impl Link {
    /// Starts to dial. Gives up when there was no connection for `give_up_after`; by default never.
    ///
    /// # Errors
    /// A bad address or bad credentials.
    pub fn start(
        address: &str,
        credentials: &Credentials,
        plan: &Plan,
        give_up_after: Option<Duration>,
        stop: Stop,
    ) -> Result<Self, AgentError> {
        // Losing a connection costs nothing; hanging on to a coordinator that was restarted holds up a round.
        let settings = Settings {
            idle_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(4),
            ..Settings::default()
        };
        let dialer = Dialer::new(address, credentials, SiloCodec::new(Limits::new(plan)), settings)?;
        let (sink, events) = mpsc::channel(EVENTS);
        let (commands, queue) = mpsc::unbounded_channel();
        let task = tokio::spawn(keep_up(dialer, sink, queue, give_up_after, stop));
        Ok(Self { events, commands, task, current: 0 })
    }

    /// The next event. May be cancelled.
    pub async fn next(&mut self) -> LinkEvent {
        match self.events.recv().await {
            Some((number, event)) => {
                match event {
                    LinkEvent::Up(_) => self.current = number,
                    LinkEvent::Down(_) => self.current = 0,
                    _ => {}
                }
                event
            }
            // The task ends by itself only after `Ended`, and on a stop, which the driver sees by itself.
            None => std::future::pending().await,
        }
    }

    /// Sends on the connection that is up; dropped where there is none, which the machine expects.
    pub fn send(&mut self, envelope: Envelope<SiloMessage>) {
        drop(self.commands.send((self.current, Command::Send(envelope))));
    }

    /// Closes the connection because the coordinator did what an honest one cannot do; it dials again by itself.
    pub fn close_for_misbehaviour(&mut self, reason: &str) {
        drop(self.commands.send((self.current, Command::Close(CloseCode::Protocol, reason.to_owned()))));
    }

    /// Delivers what is queued, as far as it goes in a few seconds, and closes.
    pub async fn finish(mut self, code: CloseCode) {
        drop(self.commands.send((self.current, Command::Finish(code))));
        // Messages that still come in are read and dropped, so that the task can see the command.
        let drain = async { while self.events.recv().await.is_some() {} };
        drop(tokio::time::timeout(FAREWELL, drain).await);
        self.task.abort();
    }
}

/// Why a connection ended, for [`keep_up`].
enum Ending {
    /// Dial again.
    Again(String),
    /// End with this event, if any.
    End(Option<Box<LinkEvent>>),
}

async fn keep_up(
    mut dialer: Dialer<SiloCodec>,
    events: mpsc::Sender<(u64, LinkEvent)>,
    mut commands: mpsc::UnboundedReceiver<(u64, Command)>,
    give_up_after: Option<Duration>,
    stop: Stop,
) {
    for number in 1.. {
        let connection = tokio::select! {
            result = dialer.reconnect(&stop, give_up_after) => match result {
                Ok(Some(connection)) => connection,
                Ok(None) => break,
                Err(error) => {
                    drop(events.send((number, ended(error))).await);
                    break;
                }
            },
            () = asked_to_finish(&mut commands) => break,
        };
        let up = LinkEvent::Up(connection.remote_address().to_string());
        if events.send((number, up)).await.is_err() {
            break;
        }
        match serve(connection, number, &events, &mut commands).await {
            Ending::Again(why) => {
                if events.send((number, LinkEvent::Down(why))).await.is_err() {
                    break;
                }
            }
            Ending::End(event) => {
                if let Some(event) = event {
                    drop(events.send((number, *event)).await);
                }
                break;
            }
        }
    }
    dialer.close().await;
}

/// Throws away what was meant for an earlier connection; returns when the driver wants no further one.
async fn asked_to_finish(commands: &mut mpsc::UnboundedReceiver<(u64, Command)>) {
    while !matches!(commands.recv().await, None | Some((_, Command::Finish(_)))) {}
}

async fn serve(
    mut connection: Connection<SiloCodec>,
    number: u64,
    events: &mpsc::Sender<(u64, LinkEvent)>,
    commands: &mut mpsc::UnboundedReceiver<(u64, Command)>,
) -> Ending {
    let error = loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some((meant_for, Command::Send(envelope))) if meant_for == number => {
                    if let Err(error) = connection.send(envelope).await {
                        break error;
                    }
                }
                Some((meant_for, Command::Close(code, reason))) if meant_for == number => {
                    connection.close(code, &reason);
                    return Ending::Again("the connection was closed by this side".into());
                }
                Some((_, Command::Finish(code))) => {
                    connection.finish(code, "").await;
                    return Ending::End(None);
                }
                Some(_) => {}
                None => return Ending::End(None),
            },
            message = connection.recv() => match message {
                Ok(envelope) => {
                    if events.send((number, LinkEvent::Message(envelope))).await.is_err() {
                        return Ending::End(None);
                    }
                }
                Err(error) => break error,
            },
        }
    };
    match error {
        TransportError::ClosedByPeer { code: CloseCode::Finished, .. } => Ending::End(Some(Box::new(LinkEvent::Over))),
        error if error.retry() => Ending::Again(error.to_string()),
        error => Ending::End(Some(Box::new(ended(error)))),
    }
}

fn ended(error: TransportError) -> LinkEvent {
    match error {
        TransportError::ClosedByPeer { code: CloseCode::Finished, .. } => LinkEvent::Over,
        error => LinkEvent::Ended(AgentError::Transport(error)),
    }
}
