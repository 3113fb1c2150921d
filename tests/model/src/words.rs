//! A way to a harm in words: silos keep their names although states are sorted at every step.

use crate::moves::Move;
use crate::safety::{Harm, certified, is_quorum};
use crate::state::{Session, Set, State, members};
use crate::world::World;

const LETTERS: [char; 3] = ['A', 'B', 'C'];

/// One line for each move of a path that [`World::shortest`] found.
pub fn tell(world: &World, path: &[(State, Option<Move>)], harm: Harm) -> Vec<String> {
    let numbers = world.own.numbers;
    let mut names: Vec<usize> = (1..=numbers.honest().into()).collect();
    let colluders: Vec<String> = (numbers.honest() + 1..=numbers.n).map(|i| format!("P{i}")).collect();
    let with = if colluders.is_empty() { String::new() } else { format!(" and the colluders {}", colluders.join(" ")) };
    let mut lines = Vec::new();
    for (state, step) in path {
        let Some(step) = step else { break };
        let raw = world.apply(state, step);
        lines.push(line(world, state, &raw, step, &names, &with));
        let order = raw.canonical().1;
        names = order.iter().map(|&i| names[i]).collect();
    }
    lines.push(format!("=> {}", harm.words()));
    lines
}

fn line(world: &World, before: &State, after: &State, step: &Move, names: &[usize], with: &str) -> String {
    let all = |set: Set| match set {
        0 => "nobody".to_owned(),
        set => {
            let mut who: Vec<usize> = members(set).map(|i| names[i]).collect();
            who.sort_unstable();
            who.iter().map(|i| format!("P{i}")).collect::<Vec<_>>().join(" ")
        }
    };
    match *step {
        Move::Open { at, proven, silos } => {
            let joined = members(silos).filter(|&i| after.rows[i].session.attempt() == Some(at));
            let joined = joined.fold(0, |set: Set, i| set | 1 << i);
            let silent = members(joined).filter(|&i| after.rows[i].silent).fold(0, |set: Set, i| set | 1 << i);
            let proof = match proven {
                0 => "no proof".to_owned(),
                _ => format!("the ABANDON certificate of attempt {}", proven.trailing_zeros() + 1),
            };
            let mut text = format!("attempt {} is opened at {} with {proof}", at + 1, all(silos));
            if joined != silos {
                text += &format!("; {} declines", all(silos & !joined));
            }
            if silent != 0 {
                text += &format!("; {} will send a fresh update without held-out counts", all(silent));
            }
            text
        }
        Move::Adverts { at, t1, ref new, silos } => {
            let listed =
                (0..names.len()).filter(|&i| after.rows[i].facts[usize::from(at)].listed[usize::from(t1)] != 0);
            let listed = listed.fold(0, |set: Set, i| set | 1 << i);
            let again = new.as_ref().is_some_and(|which| which.iter().any(|&w| w > 1));
            let again = if again { " (a second advert among them)" } else { "" };
            let t1 = LETTERS[usize::from(t1)];
            let listed = all(listed);
            format!("attempt {}: {} sees the adverts T1-{t1} of {listed}{with}{again}, and deals", at + 1, all(silos))
        }
        Move::Shares { at, t2, silos, .. } => {
            let listed = after.rows_where(|row| row.facts[usize::from(at)].headers >> t2 & 1 == 1);
            let t2 = LETTERS[usize::from(t2)];
            format!("attempt {}: {} sees the headers T2-{t2} of {}{with}, and sends y", at + 1, all(silos), all(listed))
        }
        Move::Commit { at, t3, silos, .. } => {
            let listed = after.rows_where(|row| row.facts[usize::from(at)].survives >> t3 & 1 == 1);
            let replied = after.rows_where(|row| row.facts[usize::from(at)].revealed >> t3 & 1 == 1);
            let votes = after.rows_where(|row| row.facts[usize::from(at)].voted >> t3 & 1 == 1);
            let ends = match (certified(&world.own, after, at) >> t3 & 1 == 1, replied) {
                (true, _) => ", which makes a certificate, and they reveal".to_owned(),
                (false, 0) => ", no certificate".to_owned(),
                (false, who) => format!(", no certificate; {} reveals all the same", all(who)),
            };
            let (t3, listed) = (LETTERS[usize::from(t3)], all(listed));
            let signed = all(silos & votes);
            format!("attempt {}: {signed} signs COMMIT to the list T3-{t3} of {listed}{with}{ends}", at + 1)
        }
        Move::Abandon { at, silos } => {
            let votes = after.rows_where(|row| row.facts[usize::from(at)].abandoned);
            let enough = if is_quorum(&world.own, votes) { ", which makes a certificate" } else { "" };
            format!("attempt {}: {} signs ABANDON{enough}", at + 1, all(silos))
        }
        Move::Restart { silo, lost } => {
            let lost = if lost { " before its vote is in the journal" } else { "" };
            format!("P{} crashes{lost} and starts again{}", names[silo], taken_up(after.rows[silo].session))
        }
        Move::Restore { silo, keep } => {
            let (had, taken) = (before.rows[silo].journal.len(), taken_up(after.rows[silo].session));
            let name = names[silo];
            format!("P{name} starts again from an old copy of its disk: {keep} of {had} journal entries{taken}")
        }
    }
}

fn taken_up(session: Session) -> &'static str {
    match session {
        Session::Idle => "",
        _ => "; its COMMIT vote is taken up again",
    }
}
