//! Exit codes: the one table of every program of the house.
//!
//! A stop on a signal is not 0, so that a script can tell an interrupted job from a finished one; a systemd unit says
//! `SuccessExitStatus=143`.

macro_rules! exit_codes {
    ($($name:ident = $number:literal, $meaning:literal, $remedy:literal;)+) => {
        /// How a process ends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ExitCode {
            $(#[doc = concat!(stringify!($number), ": ", $meaning)] $name,)+
        }

        impl ExitCode {
            /// The table, in its order.
            pub const ALL: &'static [ExitCode] = &[$(ExitCode::$name),+];

            /// The number.
            pub fn number(self) -> u8 {
                match self { $(ExitCode::$name => $number,)+ }
            }

            /// What it means.
            pub fn meaning(self) -> &'static str {
                match self { $(ExitCode::$name => $meaning,)+ }
            }

            /// What its reader can do.
            pub fn remedy(self) -> &'static str {
                match self { $(ExitCode::$name => $remedy,)+ }
            }
        }

        /// The table in one line, for `--help`.
        pub const HELP: &str = concat!("Exit codes:", $(" ", stringify!($number), " ", $meaning, ";",)+ " docs/operations.md says what to do.");
    };
}

exit_codes! {
    Done = 0, "done", "";
    Internal = 1, "internal fault", "a bug: report it with the log";
    Usage = 2, "wrong usage or configuration", "the message names file, line and key";
    Data = 3, "data or model", "the message names the file and line, never what stands there";
    Identity = 4, "identity or certificates", "the message names the file and the step";
    Network = 5, "network", "the other end is not reached, was lost, or ended the job before this silo held the last result";
    Refused = 6, "refused", "the job, or this organisation's policy, does not allow it";
    Storage = 7, "disk or state directory", "free space, permissions, or a second process";
    HungUp = 129, "stopped by SIGHUP, in order", "start it again: it goes on";
    Interrupted = 130, "stopped by SIGINT, in order", "start it again: it goes on";
    Terminated = 143, "stopped by SIGTERM, in order", "start it again: it goes on; under systemd: `SuccessExitStatus=143`";
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_frozen_and_the_operators_table_is_this_one() {
        let numbers: Vec<u8> = ExitCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 129, 130, 143]);
        let page = include_str!("../../docs/operations.md");
        for code in ExitCode::ALL {
            let row = format!("| {} | {} | {}", code.number(), code.meaning(), code.remedy());
            assert!(page.contains(row.trim_end()), "docs/operations.md lacks the row {row:?}");
        }
    }
}
