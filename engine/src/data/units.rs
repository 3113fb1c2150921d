//! The rows of one person brought together, and no more of each than the job lets count.
//!
//! ```text
//! file: a1 b1 a2 c1 a3 b2 ─► units: {a1 a3} {b1 b2} {c1}      two of a person's rows at most: a2 is left out
//! ```
//!
//! Contract: which of a person's rows stay follows from the rows of that person alone, and not from their order, so that
//! a file with one person more or less differs by that person's unit and nothing else. Units stand in the order of their
//! first rows, the rows of one in the order of the file.

use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};

use super::{Example, Identity, RowStore, Seen};
use crate::mutants;

/// Where a file says whose each row is, and how many of one person's count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitColumn {
    /// Column (or JSON key) that names the person.
    pub name: String,
    /// Most rows of one person, at least 1.
    pub rows_max: u32,
}

/// A row as it was read.
pub(super) struct Row {
    pub line: u64,
    pub unit: Identity,
    /// Which record it is.
    pub identity: Identity,
    /// What decides whether it stays: [`rank`].
    pub rank: [u8; 32],
    pub example: Example,
    /// What was remarkable in it.
    pub seen: Seen,
}

/// A row's place among those of its person: a hash of what stands in it.
pub(super) fn rank(unit: Identity, text: &str, beside: Option<&str>) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(b"blindsum rows of a unit 1\n");
    hasher.update(unit.0);
    for part in [Some(text), beside] {
        hasher.update([u8::from(part.is_some())]);
        hasher.update((part.map_or(0, str::len) as u64).to_le_bytes());
        hasher.update(part.unwrap_or_default());
    }
    hasher.finalize().into()
}

/// Rows by person.
pub(super) struct Gathered {
    pub rows: RowStore,
    /// Which each unit is; where units are persons, after them which each row is.
    pub identities: Vec<Identity>,
    /// Of the rows that stayed; how many did not.
    pub seen: Seen,
}

pub(super) fn gathered(rows: Vec<Row>, rows_max: u32) -> Gathered {
    let left_out = beyond(&rows, rows_max as usize);
    let mut seen = Seen::default();
    let (mut places, mut identities) = (HashMap::new(), Vec::new());
    let (mut units, mut records) = (Vec::new(), Vec::new());
    for (i, row) in rows.into_iter().enumerate() {
        seen.left_out.note_if(left_out.contains(&i), row.line);
        if left_out.contains(&i) {
            continue;
        }
        seen.add(row.seen);
        let place = *places.entry(row.unit).or_insert_with(|| {
            identities.push(row.unit);
            units.push(Vec::new());
            records.push(Vec::new());
            units.len() - 1
        });
        units[place].push(row.example);
        records[place].push(row.identity);
    }
    identities.extend(records.into_iter().flatten());
    Gathered { rows: units.into(), identities, seen }
}

/// The cap: rows that their person has beyond `most`, those of the largest ranks.
fn beyond(rows: &[Row], most: usize) -> BTreeSet<usize> {
    let most = mutants::rows_max(most);
    let mut of: HashMap<Identity, Vec<usize>> = HashMap::new();
    rows.iter().enumerate().for_each(|(i, row)| of.entry(row.unit).or_default().push(i));
    let mut left_out = BTreeSet::new();
    for mut own in of.into_values().filter(|own| own.len() > most) {
        own.sort_by_key(|&i| rows[i].rank);
        left_out.extend(own.split_off(most));
    }
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(unit: u8, text: &str) -> Row {
        let unit = Identity([unit; Identity::BYTES]);
        let example = Example::labelled(text.bytes().map(u32::from).collect(), 0);
        let identity = Identity::of_words([text]);
        Row { line: 7, unit, identity, rank: rank(unit, text, None), example, seen: Seen::default() }
    }

    fn texts(rows: Vec<Row>, most: u32) -> (Vec<Vec<String>>, u64) {
        let Gathered { rows, identities, seen } = gathered(rows, most);
        assert_eq!(rows.units() + rows.len(), identities.len());
        let text = |row: Example| row.ids.iter().map(|&id| char::from(id as u8)).collect::<String>();
        let records = (0..rows.len()).map(|i| Identity::of_words([text(rows.get(i)).as_str()]));
        assert_eq!(records.collect::<Vec<_>>(), identities[rows.units()..], "of the rows that stay, in their order");
        ((0..rows.units()).map(|i| rows.unit(i).into_iter().map(text).collect()).collect(), seen.left_out.count)
    }

    #[test]
    fn which_rows_of_a_person_stay_is_a_matter_of_that_persons_rows_alone() {
        let own: Vec<String> = (0..9).map(|i| format!("a{i}")).collect();
        let of = |own: &[String]| own.iter().map(|text| row(1, text)).collect::<Vec<Row>>();
        let (alone, left_out) = texts(of(&own), 3);
        assert_eq!((alone.len(), alone[0].len(), left_out), (1, 3, 6));
        let turned: Vec<String> = own.iter().rev().cloned().collect();
        let sorted = |mut unit: Vec<String>| {
            unit.sort();
            unit
        };
        for (others, first) in [(1, false), (50, true), (300, false)] {
            let mut rows = of(&turned);
            let others = (0..others).map(|i| row(2 + (i % 40) as u8, &format!("b{i}")));
            rows.splice(if first { 0..0 } else { 4..4 }, others);
            let (units, _) = texts(rows, 3);
            assert!(units.iter().all(|unit| unit.len() <= 3));
            assert!(units.into_iter().any(|unit| sorted(unit) == sorted(alone[0].clone())));
        }
        assert!(alone[0] != own[..3] && alone[0] != own[6..], "neither the first nor the last: {alone:?}");
        // equal rows are as good as one another
        assert_eq!(texts(vec![row(1, "x"), row(1, "x"), row(1, "x")], 2), (vec![vec!["x".to_owned(); 2]], 1));
    }

    #[test]
    fn persons_stand_in_the_order_of_their_first_rows_and_rows_in_that_of_the_file() {
        let rows = ["c1", "a1", "c2", "b1", "a2"].map(|text| row(text.as_bytes()[0], text));
        let (units, left_out) = texts(rows.into(), 2);
        assert_eq!((units.concat().join(" "), units.len(), left_out), ("c1 c2 a1 a2 b1".to_owned(), 3, 0));
    }
}
