//! Who is there, who is missing, how many are needed and until when: the lines that break the silence of waiting.

use blindsum_crypto::{Roster, SiloId};
use blindsum_protocol::coordinator::{Phase, Waiting};
use blindsum_service::{WAITING, WORKING};
use tracing::info;

use crate::output::names;

/// How long nothing need be said while `waiting` lasts.
pub(crate) fn silence(waiting: &Waiting, is_up: impl Fn(SiloId) -> bool) -> std::time::Duration {
    let all_at_work = waiting.attempt.is_some() && waiting.expected.iter().all(|&silo| is_up(silo));
    if all_at_work { WORKING } else { WAITING }
}

/// Writes what is waited for to the log.
pub(crate) fn log(waiting: &Waiting, roster: &Roster, is_up: impl Fn(SiloId) -> bool, now_ms: u64) {
    let away: Vec<SiloId> = waiting.expected.iter().copied().filter(|&silo| !is_up(silo)).collect();
    let connected: Vec<SiloId> = waiting.missing.iter().copied().filter(|&silo| is_up(silo)).collect();
    let seconds_left = waiting.until_ms.map(|at| at.saturating_sub(now_ms).div_ceil(1000));
    info!(
        event = "waiting_for",
        round = waiting.round,
        attempt = waiting.attempt,
        phase = waiting.phase.name(),
        missing = names(roster, &waiting.missing).join(", "),
        not_connected = names(roster, &away).join(", "),
        needed = waiting.needed,
        seconds_left,
        "{}",
        sentence(waiting, roster, &away, &connected, seconds_left)
    );
}

/// Writes for whom the service stays after the job's end.
pub(crate) fn log_lingering(untold: &[SiloId], roster: &Roster, left: std::time::Duration) {
    let (missing, seconds_left) = (names(roster, untold).join(", "), left.as_secs());
    info!(
        event = "waiting_for",
        missing,
        seconds_left,
        "the job is over; staying {seconds_left} s at most for silos that have not heard so: {missing}"
    );
}

fn sentence(
    waiting: &Waiting,
    roster: &Roster,
    away: &[SiloId],
    connected: &[SiloId],
    seconds_left: Option<u64>,
) -> String {
    let list = |silos: &[SiloId]| names(roster, silos).join(", ");
    let (round, all) = (waiting.round, waiting.expected.len());
    let here: Vec<SiloId> = waiting.expected.iter().copied().filter(|silo| !waiting.missing.contains(silo)).collect();
    let mut parts = Vec::new();
    if !away.is_empty() {
        parts.push(format!("not connected: {}", list(away)));
    }
    if waiting.phase == Phase::Gathering {
        let who = if here.is_empty() { String::new() } else { format!(" ({})", list(&here)) };
        parts.insert(0, format!("{} of {all} silos are here{who}", here.len()));
        if !connected.is_empty() {
            parts.push(format!("catching up: {}", list(connected)));
        }
        parts.push(match seconds_left {
            Some(seconds) => format!("round {round} opens in at most {seconds} s with those that are here"),
            None => format!("round {round} needs {} of them and waits until they come", waiting.needed),
        });
        return parts.join("; ");
    }
    let attempt = waiting.attempt.unwrap_or_default();
    let what = match waiting.phase {
        Phase::Advertise => "training and advertising",
        phase => phase.name(),
    };
    if !connected.is_empty() {
        parts.insert(0, format!("still at work: {}", list(connected)));
    }
    if matches!(waiting.phase, Phase::Advertise | Phase::Share | Phase::MaskedInput) {
        parts.push(format!("needs at least {} silos to go on", waiting.needed));
    }
    if let Some(seconds) = seconds_left {
        parts.push(format!("waits at most {seconds} s"));
    }
    let rest = if parts.is_empty() { "waits for the silos' answers".to_owned() } else { parts.join("; ") };
    format!("round {round}, attempt {attempt}: {what}; {rest}")
}

#[cfg(test)]
mod tests {
    use blindsum_crypto::{IdentityKey, RosterEntry};

    use super::*;

    fn roster() -> Roster {
        let entry = |(i, name): (usize, &str)| RosterEntry {
            name: name.to_owned(),
            identity: IdentityKey::from_bytes(&[i as u8 + 1; 32]).public(),
        };
        let entries = ["a", "b", "c", "d"].into_iter().enumerate().map(entry).collect();
        Roster::new("clinics", 1, entries).unwrap()
    }

    fn waiting(phase: Phase, missing: &[u16], until_ms: Option<u64>) -> Waiting {
        let attempt = (phase != Phase::Gathering).then_some(2);
        let expected = (0..4).map(SiloId).collect();
        Waiting {
            phase,
            round: 3,
            attempt,
            expected,
            missing: missing.iter().map(|&i| SiloId(i)).collect(),
            needed: 3,
            until_ms,
        }
    }

    fn said(waiting: &Waiting, up: &[u16]) -> String {
        let away: Vec<SiloId> = waiting.expected.iter().copied().filter(|silo| !up.contains(&silo.0)).collect();
        let connected: Vec<SiloId> = waiting.missing.iter().copied().filter(|silo| up.contains(&silo.0)).collect();
        sentence(waiting, &roster(), &away, &connected, waiting.until_ms.map(|at| at / 1000))
    }

    #[test]
    fn gathering_says_who_is_here_who_is_missing_and_how_many_are_needed() {
        assert_eq!(
            said(&waiting(Phase::Gathering, &[2, 3], None), &[0, 1]),
            "2 of 4 silos are here (a, b); not connected: c, d; round 3 needs 3 of them and waits until they come"
        );
        assert_eq!(
            said(&waiting(Phase::Gathering, &[3], Some(23_000)), &[0, 1, 2, 3]),
            "3 of 4 silos are here (a, b, c); catching up: d; round 3 opens in at most 23 s with those that are here"
        );
    }

    #[test]
    fn an_attempt_says_who_is_still_at_work_and_until_when() {
        let waiting = waiting(Phase::Advertise, &[2, 3], Some(480_000));
        assert_eq!(
            said(&waiting, &[0, 1, 2]),
            "round 3, attempt 2: training and advertising; still at work: c; not connected: d; needs at least 3 silos \
             to go on; waits at most 480 s"
        );
        assert_eq!(silence(&waiting, |silo| silo.0 < 3), WAITING);
        assert_eq!(silence(&waiting, |_| true), WORKING);
    }
}
