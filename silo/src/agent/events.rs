//! The log's lines: one per phase change and adopted round, under stable event names.
//!
//! Ids and counts only. With differential privacy, training losses and counts are not logged at any level: they come from
//! training rows without noise, and a log travels further than its writer thinks.

use blindsum_crypto::Roster;
use blindsum_protocol::plan::round_name;
use blindsum_protocol::silo::{Adoption, SiloEvent};
use tracing::{debug, error, info, warn};

/// Writes one event of the machine to the log.
pub(crate) fn log(event: &SiloEvent) {
    match event {
        SiloEvent::Joined(at) => {
            info!(event = "phase", round = at.round, attempt = at.attempt, phase = "joined", "{event}");
        }
        SiloEvent::Phase(at, awaited) => {
            info!(event = "phase", round = at.round, attempt = at.attempt, phase = awaited, "{event}");
        }
        SiloEvent::Committed(at, survivors) => {
            info!(event = "phase", round = at.round, attempt = at.attempt, phase = "committed", survivors, "{event}");
        }
        SiloEvent::Declined(at, ..) => {
            warn!(event = "declined", round = at.round, attempt = at.attempt, "{event}");
        }
        SiloEvent::Left(at, why) => {
            warn!(event = "attempt_failed", round = at.round, attempt = at.attempt, why, "{event}");
        }
        SiloEvent::Abandoned(at) => {
            info!(event = "abandoned", round = at.round, attempt = at.attempt, "{event}");
        }
        SiloEvent::Ignored(_) => debug!(event = "ignored", "{event}"),
        SiloEvent::Misbehaviour(_) => warn!(event = "misbehaviour", "{event}"),
        SiloEvent::Restored(at, what) => {
            error!(event = "restored", round = at.round, attempt = at.attempt, what, "{event}");
        }
        SiloEvent::Forked(at) => {
            error!(event = "forked", round = at.round, attempt = at.attempt, "{event}");
        }
    }
}

/// Writes an adopted round to the log; `rounds` are the job's training rounds.
pub(crate) fn log_adoption(adoption: &Adoption, roster: &Roster, rounds: u32) {
    let report = &adoption.report;
    let accuracy = report.held_out.map(|held_out| held_out.mean_accuracy);
    let survivors: Vec<String> = report.survivors.iter().map(|&silo| roster.name_of(silo)).collect();
    let at = adoption.at;
    info!(
        event = "round_completed",
        round = at.round,
        rounds,
        attempt = at.attempt,
        survivors = survivors.len(),
        accuracy,
        saturated_share = report.saturated_share,
        model_hash = %adoption.model_hash,
        "{} adopted: the sum of {}{}",
        round_name(at.round, rounds),
        survivors.join(", "),
        accuracy.map_or_else(String::new, |accuracy| format!(
            "; held-out accuracy of all before it {:.1} %",
            accuracy * 100.0
        ))
    );
}
