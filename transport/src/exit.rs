//! Exit codes, one table for both services and the certificate tool.
//!
//! | code | meaning | remedy |
//! |---|---|---|
//! | 0 | done | |
//! | 1 | internal fault | a bug: report it with the log |
//! | 2 | wrong usage or configuration | the message names file, line and key |
//! | 3 | data or model | the message names the file |
//! | 4 | identity or certificates | the message names file and step |
//! | 5 | network | the other end is not reached or was lost |
//! | 6 | refused | the job or this organisation's rules do not allow it |
//! | 7 | disk or state directory | free space, permissions, a second process |
//! | 130 | stopped by SIGINT, in order | |
//! | 143 | stopped by SIGTERM, in order | |
//!
//! A stop on a signal is not 0, so that a script can tell an interrupted job from a finished one; a systemd unit says
//! `SuccessExitStatus=143`.

use blindsum_certs::files::FileError;
use blindsum_certs::{CertsError, ErrorKind};

use crate::close::{Blame, CloseCode};
use crate::config::ConfigError;
use crate::error::TransportError;
use crate::files::StateError;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// 0
    Done,
    /// 1
    Internal,
    /// 2
    Usage,
    /// 3
    Data,
    /// 4
    Identity,
    /// 5
    Network,
    /// 6
    Refused,
    /// 7
    Storage,
    /// 130
    Interrupted,
    /// 143
    Terminated,
}

impl ExitCode {
    /// The number.
    pub fn number(self) -> u8 {
        match self {
            ExitCode::Done => 0,
            ExitCode::Internal => 1,
            ExitCode::Usage => 2,
            ExitCode::Data => 3,
            ExitCode::Identity => 4,
            ExitCode::Network => 5,
            ExitCode::Refused => 6,
            ExitCode::Storage => 7,
            ExitCode::Interrupted => 130,
            ExitCode::Terminated => 143,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code.number())
    }
}

/// An error that knows how the process should end.
pub trait Exits {
    /// The exit code.
    fn exit_code(&self) -> ExitCode;
}

impl Exits for FileError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Storage
    }
}

impl Exits for CertsError {
    fn exit_code(&self) -> ExitCode {
        match self.kind() {
            ErrorKind::Internal => ExitCode::Internal,
            _ => ExitCode::Identity,
        }
    }
}

impl Exits for ConfigError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }
}

impl Exits for StateError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Storage
    }
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
    fn numbers_are_those_of_the_table() {
        let codes = [
            ExitCode::Done,
            ExitCode::Internal,
            ExitCode::Usage,
            ExitCode::Data,
            ExitCode::Identity,
            ExitCode::Network,
            ExitCode::Refused,
            ExitCode::Storage,
            ExitCode::Interrupted,
            ExitCode::Terminated,
        ];
        assert_eq!(codes.map(ExitCode::number), [0, 1, 2, 3, 4, 5, 6, 7, 130, 143]);
        let table = include_str!("exit.rs");
        for code in codes {
            assert!(table.contains(&format!("//! | {} |", code.number())), "{code:?} stands in the table");
        }
    }

    #[test]
    fn errors_map_to_who_is_wrong() {
        let by_peer = |code| TransportError::ClosedByPeer { peer: "coordinator".into(), code, reason: String::new() };
        assert_eq!(by_peer(CloseCode::JobDiffers).exit_code(), ExitCode::Refused);
        assert_eq!(by_peer(CloseCode::NotInRoster).exit_code(), ExitCode::Identity);
        assert_eq!(by_peer(CloseCode::Finished).exit_code(), ExitCode::Done);
        let lost = TransportError::Lost { peer: "coordinator".into(), why: String::new() };
        assert_eq!(lost.exit_code(), ExitCode::Network);
    }
}
