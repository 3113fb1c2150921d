//! Operation lists that lead through a whole job, and those that leave it at its corners.

use super::Seed;
use crate::silo::What::{self, *};

type Operation = [u8; crate::operations::OPERATION];

/// P0 to P3 with all four.
fn to_masked() -> Vec<Operation> {
    let mut list = vec![Open.with(0, 0), Trained.with(0, 100), Work.with(0, 0)];
    list.extend([Adverts.with(15, 0), Shares.with(15, 0), Work.with(0, 0)]);
    list
}

/// P0 to P6: `survivors` are in the list, `voters` commit.
fn round(survivors: u8, voters: u8) -> Vec<Operation> {
    let mut list = to_masked();
    list.extend([CommitRequest.with(survivors, 0), RevealRequest.with(voters, 0)]);
    list.extend([SumRequest.with(0, 0), Work.with(0, 0), Result.with(0, 0), Work.with(0, 0), Certified.with(15, 0)]);
    list
}

fn repeated(what: What, times: usize) -> Vec<Operation> {
    vec![what.with(0, 0); times]
}

/// For `silo_machine`.
pub fn silo() -> Vec<Seed> {
    let connect = vec![Connect.with(0, 0)];
    let end = vec![Finished.with(0, 0)];
    let again = vec![Disconnect.with(0, 0), Connect.with(0, 0)];
    let restart = vec![Restart.with(0, 0), Connect.with(0, 0)];
    let caught_up = vec![Result.with(15, 3), Work.with(0, 0)];
    let lists: Vec<(&str, u8, Vec<Vec<Operation>>)> = vec![
        ("honest", 0, vec![connect.clone(), round(15, 15), round(15, 7), end.clone()]),
        ("honest-private", 1, vec![connect.clone(), round(15, 15), round(15, 7), end.clone()]),
        ("one-dropped", 2, vec![connect.clone(), round(7, 7), round(11, 11), end.clone()]),
        ("last-silo", 6, vec![connect.clone(), round(14, 14), round(14, 14), end]),
        ("reconnects", 0, vec![connect.clone(), round(15, 15), again.clone(), to_masked(), again, round(15, 15)]),
        (
            "abandoned-and-retried",
            0,
            vec![
                connect.clone(),
                to_masked(),
                vec![AbandonRequest.with(0, 0), Open.with(0, 0), Adverts.with(15, 1), Shares.with(15, 0)],
                vec![Work.with(0, 0), CommitRequest.with(15, 0), RevealRequest.with(15, 0)],
            ],
        ),
        (
            "retried-without-proof",
            1,
            vec![
                connect.clone(),
                to_masked(),
                vec![Open.with(0, 1), Trained.with(0, 90), Work.with(0, 0)],
                restart.clone(),
            ],
        ),
        ("late", 0, vec![connect.clone(), caught_up.clone(), caught_up.clone(), vec![Finished.with(0, 0)]]),
        (
            "restarts",
            0,
            vec![
                connect.clone(),
                to_masked(),
                vec![CommitRequest.with(15, 0)],
                restart.clone(),
                vec![RevealRequest.with(15, 0)],
                restart,
                vec![RevealRequest.with(15, 0), Result.with(15, 1), Work.with(0, 0), Restart.with(1, 0)],
                connect.clone(),
                caught_up,
            ],
        ),
        (
            "lying-dealer",
            0,
            vec![
                connect.clone(),
                to_masked()[..4].to_vec(),
                vec![Shares.with(15, 5), Work.with(0, 0), CommitRequest.with(15, 0), RevealRequest.with(15, 0)],
            ],
        ),
        (
            "deadlines",
            0,
            vec![connect.clone(), to_masked()[..3].to_vec(), repeated(Tick, 2), to_masked(), repeated(Tick, 2)],
        ),
        (
            "two-lists",
            0,
            vec![
                connect,
                to_masked(),
                vec![CommitRequest.with(7, 0), CommitRequest.with(11, 0), RevealRequest.with(11, 1)],
            ],
        ),
    ];
    let seed = |(name, head, parts): (&str, u8, Vec<Vec<Operation>>)| {
        ("silo_machine", name.to_owned(), [vec![head], parts.concat().concat()].concat())
    };
    lists.into_iter().map(seed).collect()
}

/// Whole rounds in which silo 2 lies in one way.
pub fn liars() -> Vec<Vec<u8>> {
    use crate::coordinator::What::*;
    let list = |lie: u8| {
        let mut list: Vec<Operation> = (0..4).map(|silo| Connect.with(silo, 0)).collect();
        list.push(Lie.with(2, lie));
        list.extend(vec![Everybody.with(15, 0); 7]);
        for _ in 0..12 {
            list.extend([Work.with(0, 0), Everybody.with(15, 0)]);
        }
        [vec![1], list.concat()].concat()
    };
    (1..crate::coordinator::LIES).map(list).collect()
}

/// For `coordinator_machine`.
pub fn coordinator() -> Vec<Seed> {
    use crate::coordinator::What::*;
    let connect: Vec<Operation> = (0..4).map(|silo| Connect.with(silo, 0)).collect();
    let everybody = |who| Everybody.with(who, 0);
    // adverts, shares, masked inputs, COMMITs, reveals; then results and certificates
    let round = |who: u8| -> Vec<Operation> {
        let mut list = vec![everybody(who); 6];
        list.extend([Work.with(0, 0), everybody(who), everybody(who), everybody(who), everybody(who)]);
        list
    };
    let without_3 = |list: Vec<Operation>| [list, vec![Tick.with(0, 0)]].concat();
    let lists: Vec<(&str, u8, Vec<Vec<Operation>>)> = vec![
        ("honest", 0, vec![connect.clone(), round(15), round(15), vec![Tick.with(0, 0)]]),
        ("honest-private", 1, vec![connect.clone(), round(15), round(15), vec![Tick.with(0, 0)]]),
        (
            "one-lost-after-shares",
            0,
            vec![
                connect.clone(),
                vec![everybody(15), everybody(15), Disconnect.with(3, 0)],
                without_3(vec![everybody(7), everybody(7)]),
                without_3(vec![everybody(7), everybody(7)]),
                vec![everybody(7), everybody(7), Work.with(0, 0), everybody(7), everybody(7)],
            ],
        ),
        (
            "restarted-at-the-list",
            0,
            vec![
                connect.clone(),
                vec![everybody(15), everybody(15), everybody(15), Restart.with(0, 0)],
                connect.clone(),
                vec![everybody(15); 6],
                vec![Work.with(0, 0), everybody(15), everybody(15), Restart.with(0, 0)],
                connect.clone(),
                vec![everybody(15); 3],
            ],
        ),
        ("lying-dealer", 0, vec![connect.clone(), vec![Lie.with(1, 1)], round(15), round(15), round(15)]),
        (
            "other-shares",
            1,
            vec![connect.clone(), vec![Lie.with(2, 2)], round(15), vec![Disconnect.with(3, 0)], round(15)],
        ),
        ("other-input", 0, vec![connect.clone(), vec![Lie.with(2, 4)], round(15), round(15)]),
        (
            "abandoned",
            0,
            vec![
                connect.clone(),
                vec![everybody(15), everybody(15), everybody(3)],
                vec![Tick.with(0, 0), everybody(15), everybody(15), everybody(15), Tick.with(0, 0)],
                round(15),
            ],
        ),
        (
            "says-otherwise",
            0,
            vec![
                vec![Connect.with(0, 1), Connect.with(1, 0), Connect.with(2, 0), Hello.with(3, 0), Hello.with(0, 1)],
                vec![Decline.with(1, 2), Tick.with(1, 50), Connect.with(3, 0), Tick.with(0, 0), everybody(15)],
                vec![Replay.with(2, 1), Replay.with(3, 4), everybody(15), Complain.with(1, 0), Abandon.with(0, 0)],
            ],
        ),
    ];
    let seed = |(name, head, parts): (&str, u8, Vec<Vec<Operation>>)| {
        ("coordinator_machine", name.to_owned(), [vec![head], parts.concat().concat()].concat())
    };
    lists.into_iter().map(seed).collect()
}

#[cfg(test)]
mod tests {
    use crate::{coordinator, silo};

    #[test]
    fn the_coordinator_goes_where_the_names_say() {
        for (_, name, bytes) in super::coordinator() {
            let rounds = match name.as_str() {
                "honest" | "honest-private" => 2,
                "one-lost-after-shares" | "restarted-at-the-list" | "abandoned" => 1,
                _ => 0,
            };
            let done = coordinator::rounds_done(&bytes);
            assert!(done >= rounds, "{name}: {done} rounds");
        }
    }

    #[test]
    fn the_operations_lead_where_their_names_say() {
        for (_, name, bytes) in super::silo() {
            let rounds = match name.as_str() {
                "honest" | "honest-private" | "one-dropped" | "last-silo" | "late" | "reconnects" => 2,
                "restarts" => 1,
                _ => 0,
            };
            assert_eq!(silo::rounds_held(&bytes), rounds, "{name}");
        }
    }
}
