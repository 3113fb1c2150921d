//! Where tests look in: seams between the agent and its machine.
//!
//! The shipped binary uses [`NoSeams`] and is built without the feature `harness`, so that it has no way to set others; no switch of its configuration or command line reaches any of this. The harness
//! in `tests/` has implementations that pause, kill, or record, in binaries of its own.

use blindsum_protocol::silo::{MeasuredUpdate, SiloOutput, TrainRequest};

use crate::journal::{JournalError, JournalFile};

/// Called by the agent at the steps that tests care about. Every method does nothing unusual by default.
pub trait Seams: Send + 'static {
    /// Before an output of the machine is executed. Outputs come in the machine's order. May block: it runs on a thread
    /// for blocking work.
    fn before(&mut self, output: &SiloOutput) {
        let _ = output;
    }

    /// After the output that was last shown to [`Seams::before`] was executed: a journal entry is on the disk, a message
    /// is handed to the connection, work is on its thread. May block, as before.
    fn executed(&mut self) {}

    /// Instead of [`JournalFile::append`], on a thread for blocking work.
    ///
    /// # Errors
    /// The disk's; the agent then stops.
    fn append(&mut self, journal: &mut JournalFile, body: &[u8]) -> Result<(), JournalError> {
        journal.append(body)
    }

    /// After local training, before the machine gets the update.
    fn local_update(&mut self, request: &TrainRequest, update: &mut MeasuredUpdate) {
        let _ = (request, update);
    }
}

/// No seam at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSeams;

impl Seams for NoSeams {}
