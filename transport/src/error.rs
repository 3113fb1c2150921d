//! What can go wrong between the two ends, sorted by who is wrong, in sentences that name the remedy.

use std::io;
use std::net::SocketAddr;

use blindsum_certs::CertsError;
use blindsum_files::{ExitCode, Exits};
use quinn::ConnectionError;

use crate::close::{Blame, CloseCode, clean_reason};

/// A failed connection, listener or transfer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The other end closed and said why.
    #[error("the {peer} ended the connection because {code}{}", detail(.reason))]
    ClosedByPeer {
        /// `silo` or `coordinator`, or the peer's name.
        peer: String,
        /// Its code.
        code: CloseCode,
        /// Its words, cleaned.
        reason: String,
    },
    /// This end closed, for this reason.
    #[error("the connection to the {peer} was ended by this side because {code}{}", detail(.reason))]
    ClosedHere {
        /// The peer.
        peer: String,
        /// The code that the peer was told.
        code: CloseCode,
        /// The words that the peer was told.
        reason: String,
    },
    /// This end did not accept the other end's certificate.
    #[error("the certificate of the {peer} is not accepted: {why}")]
    PeerCertificate {
        /// The peer.
        peer: String,
        /// Why, with the remedy.
        why: String,
    },
    /// The other end did not accept this end's certificate.
    #[error("the {peer} does not accept this side's certificate: {why}")]
    OwnCertificate {
        /// The peer.
        peer: String,
        /// Why, with the remedy.
        why: String,
    },
    /// The other end speaks another protocol or version.
    #[error("the {peer} speaks another protocol or version ({why}): run the same release of blindsum on both ends")]
    Incompatible {
        /// The peer.
        peer: String,
        /// What differs.
        why: String,
    },
    /// Nobody answers.
    #[error("{address} does not answer ({why}): is the coordinator running, and does a firewall let UDP through?")]
    Unreachable {
        /// What was dialled.
        address: String,
        /// What was seen.
        why: String,
    },
    /// Nobody knows the host.
    #[error(
        "the host name in `{address}` is not known ({why}): check its spelling (`coordinator` in silo.toml) and this machine's DNS"
    )]
    UnknownHost {
        /// What was to be dialled.
        address: String,
        /// What the resolver said.
        why: String,
    },
    /// The connection broke.
    #[error("the connection to the {peer} was lost: {why}")]
    Lost {
        /// The peer.
        peer: String,
        /// What was seen.
        why: String,
    },
    /// The port is taken.
    #[error(
        "the UDP address {address} is in use already: is another coordinator running? Stop it, or choose another address for \
         `listen`"
    )]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The socket cannot be opened.
    #[error("cannot open the UDP address {address}: {source}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The coordinator's address makes no sense.
    #[error(
        "`{address}` is no address of the form host:port, such as `coordinator.example.org:4433`, with a port from 1 to 65535"
    )]
    BadAddress {
        /// What the configuration says.
        address: String,
    },
    /// A message of our own does not fit the limits.
    #[error("this side made a message that it may not send: {0}")]
    Misuse(String),
    /// Keys or certificates of this end.
    #[error(transparent)]
    Certs(#[from] CertsError),
}

fn detail(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

impl TransportError {
    /// Who is wrong, seen from this end: [`Blame::Misbehaved`] means the peer when this end closed, and this end when the
    /// peer closed.
    pub fn blame(&self) -> Blame {
        match self {
            TransportError::ClosedByPeer { code, .. } | TransportError::ClosedHere { code, .. } => code.blame(),
            TransportError::PeerCertificate { .. } | TransportError::OwnCertificate { .. } => Blame::Refused,
            TransportError::Certs(_) => Blame::Refused,
            TransportError::Incompatible { .. } => Blame::Incompatible,
            TransportError::Misuse(_) | TransportError::BadAddress { .. } => Blame::Misbehaved,
            TransportError::Unreachable { .. }
            | TransportError::UnknownHost { .. }
            | TransportError::Lost { .. }
            | TransportError::AddressInUse { .. }
            | TransportError::Socket { .. } => Blame::Environment,
        }
    }

    /// Whether trying again, unchanged, may help.
    pub fn retry(&self) -> bool {
        match self {
            TransportError::ClosedByPeer { code, .. } => code.retry(),
            TransportError::Unreachable { .. } | TransportError::UnknownHost { .. } | TransportError::Lost { .. } => {
                true
            }
            TransportError::ClosedHere { code, .. } => *code == CloseCode::Stalled,
            _ => false,
        }
    }

    /// Sorts quinn's error; `peer` is how the peer is called in the text.
    pub(crate) fn from_quinn(peer: &str, error: &ConnectionError) -> TransportError {
        let peer = peer.to_owned();
        match error {
            ConnectionError::ApplicationClosed(close) => TransportError::ClosedByPeer {
                peer,
                code: CloseCode::from_number(close.error_code.into_inner()),
                reason: clean_reason(&close.reason),
            },
            ConnectionError::ConnectionClosed(close) => {
                let code = u64::from(close.error_code);
                match alert(code) {
                    Some(number) => refused_by_peer(peer, number),
                    // CONNECTION_REFUSED of RFC 9000: full before any handshake.
                    None if code == 0x2 => {
                        TransportError::ClosedByPeer { peer, code: CloseCode::Busy, reason: String::new() }
                    }
                    // APPLICATION_ERROR: it ended during the handshake and may not say more.
                    None if code == 0xc => TransportError::Lost { peer, why: "it ended while connecting".to_owned() },
                    None => TransportError::Lost { peer, why: clean_reason(close.to_string().as_bytes()) },
                }
            }
            ConnectionError::TransportError(e) => match alert(u64::from(e.code)) {
                Some(number) => refused_here(peer, number, &e.reason),
                None => TransportError::Lost { peer, why: clean_reason(e.to_string().as_bytes()) },
            },
            ConnectionError::VersionMismatch => {
                TransportError::Incompatible { peer, why: "no common version of QUIC".to_owned() }
            }
            ConnectionError::TimedOut => {
                TransportError::Lost { peer, why: "nothing was heard from it for too long".to_owned() }
            }
            ConnectionError::Reset => TransportError::Lost { peer, why: "it was restarted".to_owned() },
            ConnectionError::LocallyClosed => {
                TransportError::ClosedHere { peer, code: CloseCode::Stopping, reason: String::new() }
            }
            ConnectionError::CidsExhausted => TransportError::Lost { peer, why: "too many connections".to_owned() },
        }
    }
}

/// The TLS alert in a QUIC crypto error (RFC 9001 section 4.8).
fn alert(code: u64) -> Option<u8> {
    (0x100..0x200).contains(&code).then_some((code & 0xff) as u8)
}

/// Alerts of RFC 8446 section 6 that concern protocol versions, not certificates.
fn versions_differ(alert: u8) -> Option<&'static str> {
    match alert {
        40 => Some("no common key exchange or cipher"),
        70 => Some("no common version of TLS"),
        109 | 110 => Some("TLS extensions differ"),
        120 => Some("no common application protocol"),
        _ => None,
    }
}

fn refused_by_peer(peer: String, alert: u8) -> TransportError {
    if let Some(why) = versions_differ(alert) {
        return TransportError::Incompatible { peer, why: why.to_owned() };
    }
    let why = match alert {
        42 => "it does not carry the name that the other end expects",
        43 => "it was issued for another role (a silo and the coordinator have different certificates)",
        44 => "it was revoked by the authority: make new keys and have them signed",
        45 => {
            "it is expired or not valid yet: have the authority sign a new one, and check the clocks of both machines"
        }
        46 => "it is not a certificate of this federation",
        48 => {
            "it was not signed by the authority that the other end trusts, or the other end's revocation list is another's"
        }
        49 => "the other end refused access",
        51 => "its signature does not hold",
        116 => "it was not shown",
        _ => return TransportError::OwnCertificate { peer, why: format!("TLS alert {alert}") },
    };
    TransportError::OwnCertificate { peer, why: why.to_owned() }
}

fn refused_here(peer: String, alert: u8, reason: &str) -> TransportError {
    if let Some(why) = versions_differ(alert) {
        return TransportError::Incompatible { peer, why: why.to_owned() };
    }
    let remedy = match alert {
        42 => "the certificate is for other host names than the one dialled: use one of those, or sign a new one",
        43 => "it was issued for another role (a silo and the coordinator have different certificates)",
        44 => "it was revoked by the authority",
        45 => {
            "it is expired or not valid yet: have the authority sign a new one, and check the clocks of both machines"
        }
        48 => "it was not signed by this federation's authority",
        51 => "it was not signed by this federation's authority, or its signature does not hold",
        116 => "it showed none",
        _ => "the handshake failed",
    };
    let detail = clean_reason(reason.as_bytes());
    TransportError::PeerCertificate { peer, why: format!("{remedy} [{detail}]") }
}

impl Exits for TransportError {
    fn exit_code(&self) -> ExitCode {
        match self {
            TransportError::Certs(e) => e.exit_code(),
            TransportError::PeerCertificate { .. } | TransportError::OwnCertificate { .. } => ExitCode::Identity,
            TransportError::ClosedByPeer { code: CloseCode::Finished, .. } => ExitCode::Done,
            TransportError::ClosedByPeer { code: CloseCode::NotInRoster, .. } => ExitCode::Identity,
            TransportError::BadAddress { .. } => ExitCode::Usage,
            TransportError::Misuse(_) => ExitCode::Internal,
            other => match other.blame() {
                Blame::Refused | Blame::Incompatible => ExitCode::Refused,
                Blame::Nobody | Blame::Misbehaved | Blame::Environment => ExitCode::Network,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_become_sentences() {
        let text = refused_by_peer("coordinator".into(), 44).to_string();
        assert!(text.contains("revoked by the authority"), "{text}");
        let text = refused_here("coordinator".into(), 48, "invalid peer certificate: UnknownIssuer").to_string();
        assert!(text.contains("this federation's authority") && text.contains("UnknownIssuer"), "{text}");
        assert!(matches!(refused_by_peer("silo".into(), 120), TransportError::Incompatible { .. }));
        assert_eq!(alert(0x130), Some(48));
        assert_eq!(alert(0x2), None);
    }

    #[test]
    fn only_trouble_that_may_pass_is_tried_again() {
        let lost = TransportError::from_quinn("coordinator", &ConnectionError::TimedOut);
        assert!(lost.retry() && lost.blame() == Blame::Environment);
        assert!(!refused_by_peer("coordinator".into(), 45).retry());
    }

    #[test]
    fn the_exit_code_says_who_is_wrong() {
        let by_peer = |code| TransportError::ClosedByPeer { peer: "coordinator".into(), code, reason: String::new() };
        assert_eq!(by_peer(CloseCode::JobDiffers).exit_code(), ExitCode::Refused);
        assert_eq!(by_peer(CloseCode::NotInRoster).exit_code(), ExitCode::Identity);
        assert_eq!(by_peer(CloseCode::Finished).exit_code(), ExitCode::Done);
        let lost = TransportError::Lost { peer: "coordinator".into(), why: String::new() };
        assert_eq!(lost.exit_code(), ExitCode::Network);
    }
}
