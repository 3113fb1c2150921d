//! Why a connection ends: the one mapping between reasons and QUIC close codes.
//!
//! The code says who is wrong and whether coming back can help; a short reason text says what it was. Codes are wire
//! format: they never change their number. The text comes from the other end and is cleaned before it is shown.

use std::fmt;

/// Who is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody: an orderly end.
    Nobody,
    /// The end that receives this code sent something that no correct program sends.
    Misbehaved,
    /// Both are in order but do not belong together (another job, another roster).
    Incompatible,
    /// The end that closed does not want this peer (unknown name, its own rules).
    Refused,
    /// The end that closed has trouble of its own.
    Environment,
}

macro_rules! close_codes {
    ($($(#[$doc:meta])+ $name:ident = $code:literal, $blame:ident, retry $retry:literal, $text:literal;)+) => {
        /// A reason to end a connection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CloseCode {
            $($(#[$doc])+ $name,)+
            /// A code of a later version.
            Other(u32),
        }

        impl CloseCode {
            /// Every code that this version knows.
            pub const ALL: &'static [CloseCode] = &[$(CloseCode::$name),+];

            /// The number on the wire.
            pub fn number(self) -> u32 {
                match self { $(CloseCode::$name => $code,)+ CloseCode::Other(code) => code }
            }

            /// Reads a number from the wire.
            pub fn from_number(number: u64) -> CloseCode {
                match number {
                    $($code => CloseCode::$name,)+
                    other => CloseCode::Other(u32::try_from(other).unwrap_or(u32::MAX)),
                }
            }

            /// Who is wrong.
            pub fn blame(self) -> Blame {
                match self { $(CloseCode::$name => Blame::$blame,)+ CloseCode::Other(_) => Blame::Environment }
            }

            /// Whether the peer may connect again with hope.
            pub fn retry(self) -> bool {
                match self { $(CloseCode::$name => $retry,)+ CloseCode::Other(_) => true }
            }

            /// What it means, as a sentence's end after "because".
            pub fn meaning(self) -> &'static str {
                match self { $(CloseCode::$name => $text,)+ CloseCode::Other(_) => "of a reason that this version does not know" }
            }
        }
    };
}

close_codes! {
    /// The job is over.
    Finished = 0, Nobody, retry false, "the job is finished";
    /// The program is shutting down; it may come back.
    Stopping = 1, Nobody, retry true, "it is shutting down";
    /// The same silo connected again; the newer connection counts.
    Replaced = 2, Nobody, retry false, "a second process connected as the same silo, and the newer connection counts: never run one identity twice; find out which of the two has the true state directory, and stop the other one for good";
    /// Bytes that are no frame or no message.
    Malformed = 0x101, Misbehaved, retry false, "it received bytes that are not a message of this protocol";
    /// A control frame longer than anything in this job.
    FrameTooLarge = 0x102, Misbehaved, retry false, "it received a message longer than this job allows";
    /// A payload that is missing, unexpected or of another length than the round gives.
    PayloadLength = 0x103, Misbehaved, retry false, "it received a payload of another length than this round has";
    /// Well-formed, but against the rules of the session.
    Protocol = 0x104, Misbehaved, retry false, "a message broke the rules of the session";
    /// A started message stopped coming, or was not taken.
    Stalled = 0x105, Environment, retry true, "a message stopped half-way for too long";
    /// The two ends hold different jobs.
    JobDiffers = 0x201, Incompatible, retry false, "its job differs: compare the digests that both ends print at start";
    /// The two ends pin different rosters.
    RosterDiffers = 0x202, Incompatible, retry false, "its roster differs: compare the fingerprints that both ends print at start";
    /// The two ends hold different models or states of the job.
    StateDiffers = 0x203, Incompatible, retry false, "its state of the job differs: one end was restored or works on another model";
    /// The certificate is good but its name is not in the roster.
    NotInRoster = 0x301, Refused, retry false, "the name in the certificate is not in its roster";
    /// The other end's own rules forbid it.
    Policy = 0x302, Refused, retry false, "its own rules do not allow this";
    /// Full; later is better.
    Busy = 0x303, Refused, retry true, "it has no room for another connection now";
    /// A bug or fault there.
    Internal = 0x401, Environment, retry true, "of a fault on its side";
    /// Its disk is full or broken.
    Storage = 0x402, Environment, retry true, "it cannot write to its disk";
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.meaning())
    }
}

/// Longest reason text sent or shown, in bytes.
pub const MAX_REASON: usize = 240;

/// Printable ASCII of at most [`MAX_REASON`] characters: what a peer wrote must not steer a terminal or a log.
pub fn clean_reason(bytes: &[u8]) -> String {
    bytes.iter().take(MAX_REASON).map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_distinct_and_read_back() {
        let numbers: HashSet<u32> = CloseCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers.len(), CloseCode::ALL.len());
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_number(u64::from(code.number())), *code);
            assert!(!code.meaning().is_empty());
        }
        assert_eq!(CloseCode::from_number(u64::MAX), CloseCode::Other(u32::MAX));
    }

    #[test]
    fn numbers_on_the_wire_are_frozen() {
        let frozen =
            [0, 1, 2, 0x101, 0x102, 0x103, 0x104, 0x105, 0x201, 0x202, 0x203, 0x301, 0x302, 0x303, 0x401, 0x402];
        assert_eq!(CloseCode::ALL.iter().map(|code| code.number()).collect::<Vec<_>>(), frozen);
    }

    #[test]
    fn who_broke_the_rules_does_not_come_back() {
        for code in CloseCode::ALL {
            if matches!(code.blame(), Blame::Misbehaved | Blame::Incompatible) {
                assert!(!code.retry(), "{code:?}");
            }
        }
    }

    #[test]
    fn a_peers_text_is_cleaned() {
        assert_eq!(clean_reason(b"ok \x1b[31m\n\xff"), "ok ?[31m??");
        assert_eq!(clean_reason(&[b'a'; 1000]).len(), MAX_REASON);
    }
}
