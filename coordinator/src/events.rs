//! The log's lines: one per phase change, drop, failed attempt and finished round, under stable event names.
//!
//! With `--log-format json` each line carries `event` and its fields; drivers and dashboards read these, so the names
//! `phase`, `progress`, `dropped`, `attempt_failed`, `round_completed`, `convicted` and `finished` do not change. Silos are named,
//! nothing of theirs is shown.

use std::path::Path;

use blindsum_crypto::{Roster, SiloId};
use blindsum_protocol::coordinator::{Conviction, CoordinatorEvent, RoundReport};
use blindsum_protocol::plan::round_name;
use tracing::{debug, error, info, warn};

use crate::output::names;

/// Writes one event of the machine to the log; tells whether people are shown it unless they ask for less.
pub(crate) fn log(event: &CoordinatorEvent, roster: &Roster) -> bool {
    let shown = !matches!(
        event,
        CoordinatorEvent::Ready(_) | CoordinatorEvent::Progress { .. } | CoordinatorEvent::Ignored(..)
    );
    match event {
        CoordinatorEvent::Phase { at, phase, silos } => info!(
            event = "phase",
            round = at.round,
            attempt = at.attempt,
            phase = phase.name(),
            cohort = silos,
            "round {}, attempt {}: {} ({silos} silos)",
            at.round,
            at.attempt,
            phase.name()
        ),
        CoordinatorEvent::Ready(silo) => {
            let silo = roster.name_of(*silo);
            debug!(event = "ready", silo, "{silo} is ready");
        }
        CoordinatorEvent::Declined(at, silo, reason) => {
            let silo = roster.name_of(*silo);
            info!(
                event = "declined",
                round = at.round,
                attempt = at.attempt,
                silo,
                reason = reason.name(),
                "{at}: {silo} does not take part: {reason}; its own log says more"
            );
        }
        CoordinatorEvent::Progress { phase, done, expected } => {
            debug!(event = "progress", phase = phase.name(), done, expected, "{}: {done} of {expected}", phase.name());
        }
        CoordinatorEvent::Dropped(at, silo, why) => {
            let silo = roster.name_of(*silo);
            info!(event = "dropped", round = at.round, attempt = at.attempt, silo, why, "{at}: dropped {silo}: {why}");
        }
        CoordinatorEvent::Complaint(at, by, dealer) => {
            let (by, dealer) = (roster.name_of(*by), roster.name_of(*dealer));
            warn!(
                event = "complaint",
                round = at.round,
                attempt = at.attempt,
                by,
                dealer,
                "{at}: {by} complains that {dealer} sent it shares that do not open"
            );
        }
        CoordinatorEvent::Failed(at, why) => warn!(
            event = "attempt_failed",
            round = at.round,
            attempt = at.attempt,
            why,
            "round {}, attempt {} failed: {why}",
            at.round,
            at.attempt
        ),
        CoordinatorEvent::Ignored(silo, what) => {
            debug!(event = "ignored", silo = roster.name_of(*silo), what, "ignored a message");
        }
        CoordinatorEvent::Misbehaviour(silo, what) => {
            let silo = roster.name_of(*silo);
            warn!(event = "misbehaviour", silo, what, "{silo} misbehaved: {what}");
        }
        CoordinatorEvent::Waiting(what) => warn!(event = "waiting", what, "waiting: {what}"),
        CoordinatorEvent::Stuck(why) => error!(event = "stuck", why, "the job cannot go on: {why}"),
    }
    shown
}

/// Writes a conviction to the log, with where its evidence lies.
pub(crate) fn log_conviction(conviction: &Conviction, roster: &Roster, path: &Path) {
    let Conviction { at, guilt, evidence } = conviction;
    let (silo, file) = (roster.name_of(guilt.silo), path.display());
    warn!(
        event = "convicted",
        round = at.round,
        attempt = at.attempt,
        silo,
        rule = guilt.check.rule(),
        fault = evidence.fault.name(),
        what = guilt.what,
        %file,
        "{at}: {silo} is at fault and left out of the rest of the job: {} ({}); the proof is in {file}, for anybody to check \
         with `blindsum-coordinator evidence`",
        guilt.what,
        guilt.check.rule()
    );
}

/// The silos of the roster whose update is not in the sum.
fn outside(report: &RoundReport, roster: &Roster) -> Vec<SiloId> {
    roster.ids().filter(|id| !report.survivors.contains(id)).collect()
}

/// Writes a finished round to the log; `rounds` are the job's training rounds.
pub(crate) fn log_round(report: &RoundReport, roster: &Roster, rounds: u32) {
    let accuracy = report.held_out.map(|held_out| held_out.mean_accuracy);
    let dropped = names(roster, &report.dropped).join(", ");
    let without = names(roster, &outside(report, roster)).join(", ");
    info!(
        event = "round_completed",
        round = report.round,
        rounds,
        attempt = report.attempt,
        silos = roster.len(),
        cohort = report.cohort.len(),
        survivors = report.survivors.len(),
        dropped,
        accuracy,
        saturated_share = report.saturated_share,
        masked_input_bytes = report.bytes.masked_input,
        payload_up_bytes = report.bytes.payload_up,
        control_up_bytes = report.bytes.control_up,
        payload_down_bytes = report.bytes.payload_down,
        control_down_bytes = report.bytes.control_down,
        wall_seconds = report.duration_ms as f64 / 1000.0,
        "{} completed in attempt {}: {} of {} silos in the sum{}{}",
        round_name(report.round, rounds),
        report.attempt,
        report.survivors.len(),
        roster.len(),
        if without.is_empty() { String::new() } else { format!(" (without {without})") },
        accuracy
            .map_or_else(String::new, |accuracy| format!(", held-out accuracy before it {:.1} %", accuracy * 100.0))
    );
}
