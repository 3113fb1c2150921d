//! Tokenised rows: in memory when fresh, afterwards from a file in the state directory, memory-mapped.
//!
//! ```text
//! "blindsum-tokens-6\n" | key: 32 bytes | seen: u64 each | rows: u64 | units: u64 | identities: u64 |
//! of each row, end: u64 each | target: u64 each | of each unit, end: u64 each | identities: 16 bytes each |
//! ids: u32 … | SHA-256 of all before
//! ```
//! Numbers are little-endian; `seen` is what was noticed when the rows were read; a row's end is counted in ids, a unit's
//! in rows. A target is the label, 2³² + the prompt's length, or 2³³ where it is unknown. Identities are those of the
//! units; where units are persons, those of the rows stand behind them.
//!
//! # Contract
//! - The key says what the rows were made from ([`StoreKey`]); a file with another key, of another version or damaged in
//!   any way is not used, and made anew.
//! - Ids are the text in another alphabet: the file has mode 0600 and lies in the state directory, which is 0700.
//! - Readers see a row by copying it; the operating system keeps what is in use in memory, not the program.

use std::fs::File;
use std::path::Path;

use blindsum_files::{FileError, write_atomic};
use memmap2::Mmap;
use sha2::{Digest, Sha256};

use super::{Columns, Example, Goal, Identity, Seen, Target, TrainShare, UnitColumn};

const MAGIC: &[u8] = b"blindsum-tokens-6\n";
const KEY: usize = 32;
const SEEN: usize = MAGIC.len() + KEY;
const HEAD: usize = SEEN + 8 * Seen::NUMBERS + 24;
/// Bytes of the tables for each row: its end, its target.
const ROW: usize = 16;
/// Bytes of the table for each unit: its end.
const UNIT: usize = 8;
const PROMPT: u64 = 1 << 32;
const UNKNOWN: u64 = 1 << 33;

/// What tokenised rows are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreKey([u8; KEY]);

impl StoreKey {
    /// The key of the rows that these inputs give: SHA-256 of the data file, that of `tokenizer.json`, how they are read,
    /// and up to which id.
    pub fn new(
        data: &[u8; 32],
        tokenizer: &[u8; 32],
        columns: &Columns,
        goal: Goal,
        max_tokens: usize,
        vocab: usize,
    ) -> Self {
        let mut hasher = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(data);
        field(hex::encode(tokenizer).as_bytes());
        field(&(max_tokens as u64).to_le_bytes());
        field(&(vocab as u64).to_le_bytes());
        field(columns.text.as_bytes());
        if let Some(UnitColumn { name, rows_max }) = &columns.unit {
            field(b"unit");
            field(name.as_bytes());
            field(&rows_max.to_le_bytes());
        }
        match goal {
            Goal::Label(labels) => {
                field(b"label");
                field(columns.label.as_bytes());
                labels.iter().for_each(|label| field(label.as_bytes()));
            }
            Goal::Continue { ends } => {
                field(b"continue");
                field(columns.prompt.as_deref().map_or(&b""[..], str::as_bytes));
                field(&[u8::from(columns.prompt.is_some())]);
                ends.iter().for_each(|end| field(&end.to_le_bytes()));
            }
            Goal::Answer => field(b"answer"),
        }
        StoreKey(hasher.finalize().into())
    }

    /// The key of a share of these rows.
    pub(super) fn of_share(self, share: Option<TrainShare>) -> Self {
        let Some(share) = share else { return self };
        StoreKey(Sha256::new_with_prefix(self.0).chain_update(share.to_bytes()).finalize().into())
    }
}

/// Rows that can be looked up by index, one unit's after another's.
#[derive(Debug)]
pub enum RowStore {
    /// As they were read.
    Memory(UnitRows),
    /// In a file.
    File(TokenFile),
}

/// Rows and where each unit of them ends.
#[derive(Debug)]
pub struct UnitRows {
    rows: Vec<Example>,
    ends: Vec<usize>,
}

/// Each row a unit of its own.
impl From<Vec<Example>> for RowStore {
    fn from(rows: Vec<Example>) -> Self {
        let ends = (1..=rows.len()).collect();
        RowStore::Memory(UnitRows { rows, ends })
    }
}

/// Units with their rows.
impl From<Vec<Vec<Example>>> for RowStore {
    fn from(units: Vec<Vec<Example>>) -> Self {
        let mut end = 0;
        let ends = units.iter().map(|unit| {
            end += unit.len();
            end
        });
        let ends = ends.collect();
        RowStore::Memory(UnitRows { ends, rows: units.into_iter().flatten().collect() })
    }
}

impl RowStore {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            RowStore::Memory(memory) => memory.rows.len(),
            RowStore::File(file) => file.rows,
        }
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        match self {
            RowStore::Memory(memory) => memory.ends.len(),
            RowStore::File(file) => file.units,
        }
    }

    /// The rows of unit `i`; an index beyond the units is a bug of the caller and panics.
    pub fn unit(&self, i: usize) -> Vec<Example> {
        let end = |i: usize| match self {
            RowStore::Memory(memory) => memory.ends[i],
            RowStore::File(file) => file.unit_end(i),
        };
        let start = if i == 0 { 0 } else { end(i - 1) };
        (start..end(i)).map(|row| self.get(row)).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row `i`; an index beyond the rows is a bug of the caller and panics.
    pub fn get(&self, i: usize) -> Example {
        match self {
            RowStore::Memory(memory) => memory.rows[i].clone(),
            RowStore::File(file) => file.get(i),
        }
    }

    /// Every row, in order.
    pub fn all(self) -> Vec<Example> {
        match self {
            RowStore::Memory(memory) => memory.rows,
            RowStore::File(file) => (0..file.rows).map(|i| file.get(i)).collect(),
        }
    }

    /// What the model should make of each row, in order.
    pub fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        (0..self.len()).map(|i| match self {
            RowStore::Memory(memory) => memory.rows[i].target,
            RowStore::File(file) => file.target(i),
        })
    }

    /// The same rows from the file at `path`, written there if they are not yet in it.
    ///
    /// # Errors
    /// If the file cannot be written or mapped.
    pub fn kept_at(self, path: &Path, key: StoreKey, seen: Seen, identities: &[Identity]) -> Result<Self, FileError> {
        match self {
            RowStore::File(_) => Ok(self),
            RowStore::Memory(memory) => {
                write_atomic(path, &to_bytes(key, seen, &memory, identities), 0o600)?;
                // what was just written and does not read back is kept in memory
                Ok(TokenFile::open(path, key).map_or(RowStore::Memory(memory), RowStore::File))
            }
        }
    }
}

/// A mapped file of rows.
#[derive(Debug)]
pub struct TokenFile {
    map: Mmap,
    rows: usize,
    units: usize,
    identities: usize,
}

impl TokenFile {
    /// Maps the file at `path`, if it is there, sound, and made from what `key` says.
    #[allow(unsafe_code)]
    pub fn open(path: &Path, key: StoreKey) -> Option<Self> {
        let file = File::open(path).ok()?;
        // SAFETY: the file lies in the silo's own state directory, which is locked by the running agent, has mode 0700,
        // and in which nobody writes to it: it is replaced by renaming. Reads outside it would be stopped by the checks below.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let (body, sum) = map.split_at_checked(map.len().checked_sub(32)?)?;
        if !body.starts_with(MAGIC) || body.get(MAGIC.len()..MAGIC.len() + KEY)? != key.0 {
            return None;
        }
        let count = |i: usize| usize::try_from(number(body, HEAD - 24 + 8 * i)?).ok();
        let (rows, units, identities) = (count(0)?, count(1)?, count(2)?);
        let tables = [(rows, ROW), (units, UNIT), (identities, Identity::BYTES)];
        let tables = tables.iter().try_fold(HEAD, |sum, (of, each)| sum.checked_add(of.checked_mul(*each)?))?;
        let ids = body.len().checked_sub(tables)?;
        if ids % 4 != 0 || Sha256::digest(body)[..] != *sum {
            return None;
        }
        // ends that rise to what they divide, and leave nothing of it empty
        let divides = |at: usize, ends: usize, whole: usize| {
            let mut before = 0;
            let mut rise = (0..ends).map(|i| number(body, at + 8 * i)).map(|end| {
                let rises = end.is_some_and(|end| end > before);
                before = end.unwrap_or(0);
                rises
            });
            rise.all(|rises| rises) && before == whole as u64
        };
        let all_known = identities == units || identities == units + rows;
        let sound = all_known && divides(HEAD, rows, ids / 4) && divides(HEAD + ROW * rows, units, rows);
        sound.then_some(TokenFile { map, rows, units, identities })
    }

    /// What was noticed when the rows were read.
    pub fn seen(&self) -> Seen {
        Seen::of_numbers(std::array::from_fn(|i| number(&self.map, SEEN + 8 * i).unwrap_or(0)))
    }

    /// Which record or person each unit is; where units are persons, then which record each row is.
    pub fn identities(&self) -> Vec<Identity> {
        let end = self.ids();
        let (chunks, _) = self.map[end - Identity::BYTES * self.identities..end].as_chunks();
        chunks.iter().map(|chunk| Identity(*chunk)).collect()
    }

    /// Where the ids begin.
    fn ids(&self) -> usize {
        HEAD + ROW * self.rows + UNIT * self.units + Identity::BYTES * self.identities
    }

    fn unit_end(&self, i: usize) -> usize {
        assert!(i < self.units, "unit {i} of {}", self.units);
        number(&self.map, HEAD + ROW * self.rows + 8 * i).unwrap_or(0) as usize
    }

    fn get(&self, i: usize) -> Example {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        // every range was checked when the file was opened
        let read = |at: usize| number(&self.map, at).unwrap_or(0) as usize;
        let end = read(HEAD + 8 * i);
        let start = if i == 0 { 0 } else { read(HEAD + 8 * (i - 1)) };
        let ids = self.ids();
        let bytes = &self.map[ids + 4 * start..ids + 4 * end];
        let ids = bytes.as_chunks().0.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect();
        Example { ids, target: self.target(i) }
    }

    fn target(&self, i: usize) -> Target {
        match number(&self.map, HEAD + 8 * self.rows + 8 * i).unwrap_or(UNKNOWN) {
            UNKNOWN.. => Target::Unknown,
            prompt @ PROMPT.. => Target::After((prompt - PROMPT) as u32),
            label => Target::Label(label as u32),
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn to_bytes(key: StoreKey, seen: Seen, UnitRows { rows, ends }: &UnitRows, identities: &[Identity]) -> Vec<u8> {
    let ids: usize = rows.iter().map(|row| row.ids.len()).sum();
    let identities_len = Identity::BYTES * identities.len();
    let mut bytes = Vec::with_capacity(HEAD + ROW * rows.len() + UNIT * ends.len() + identities_len + 4 * ids + 32);
    bytes.extend(MAGIC);
    bytes.extend(key.0);
    bytes.extend(seen.to_numbers().iter().flat_map(|number| number.to_le_bytes()));
    let counts = [rows.len(), ends.len(), identities.len()];
    bytes.extend(counts.iter().flat_map(|&count| (count as u64).to_le_bytes()));
    let mut end = 0u64;
    for row in rows {
        end += row.ids.len() as u64;
        bytes.extend(end.to_le_bytes());
    }
    for row in rows {
        let target = match row.target {
            Target::Label(label) => u64::from(label),
            Target::After(prompt) => PROMPT + u64::from(prompt),
            Target::Unknown => UNKNOWN,
        };
        bytes.extend(target.to_le_bytes());
    }
    bytes.extend(ends.iter().flat_map(|&end| (end as u64).to_le_bytes()));
    bytes.extend(identities.iter().flat_map(|identity| identity.0));
    for id in rows.iter().flat_map(|row| &row.ids) {
        bytes.extend(id.to_le_bytes());
    }
    let sum = Sha256::digest(&bytes);
    bytes.extend(sum);
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key(n: u8) -> StoreKey {
        StoreKey([n; KEY])
    }

    fn seen() -> Seen {
        Seen::of_numbers(std::array::from_fn(|i| i as u64 * i as u64))
    }

    /// Of three units and, if these are `persons`, of their five rows.
    fn identities(persons: bool) -> Vec<Identity> {
        (1..=if persons { 8 } else { 3 }).map(|i| Identity([i; Identity::BYTES])).collect()
    }

    fn units() -> Vec<Vec<Example>> {
        vec![
            vec![Example::labelled(vec![1, 2, 3], 7), Example::text(vec![u32::MAX], 0)],
            vec![Example::text(vec![4; 100], 99)],
            vec![Example::labelled(vec![9], 0), Example::unanswered(vec![5, 6])],
        ]
    }

    fn memory() -> UnitRows {
        UnitRows { rows: units().concat(), ends: vec![2, 3, 5] }
    }

    #[test]
    fn rows_come_back_from_the_file_as_they_went_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        assert!(TokenFile::open(&path, key(1)).is_none(), "there is none yet");
        for persons in [false, true] {
            let store = RowStore::from(units()).kept_at(&path, key(1), seen(), &identities(persons)).unwrap();
            assert!(matches!(store, RowStore::File(_)));
            let again = TokenFile::open(&path, key(1)).unwrap();
            assert_eq!((again.seen(), again.identities()), (seen(), identities(persons)));
            let again = RowStore::File(again);
            for store in [store, again] {
                assert_eq!((store.len(), (0..store.units()).map(|i| store.unit(i)).collect::<Vec<_>>()), (5, units()));
                assert_eq!((0..store.len()).map(|i| store.get(i)).collect::<Vec<_>>(), units().concat());
            }
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let alone = RowStore::from(units().concat());
        assert_eq!((alone.units(), alone.unit(2)), (5, units()[1].clone()));
        let none = RowStore::from(Vec::<Example>::new()).kept_at(&path, key(2), Seen::default(), &[]).unwrap();
        assert!(none.is_empty() && matches!(none, RowStore::File(_)));
    }

    #[test]
    fn a_file_made_from_something_else_or_damaged_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let sound = to_bytes(key(1), seen(), &memory(), &identities(true));
        std::fs::write(&path, &sound).unwrap();
        assert!(TokenFile::open(&path, key(1)).is_some() && TokenFile::open(&path, key(2)).is_none());
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(TokenFile::open(&path, key(1)).is_none(), "byte {at}");
            std::fs::write(&path, &sound[..at]).unwrap();
            assert!(TokenFile::open(&path, key(1)).is_none(), "{at} bytes");
        }
        // a sum that fits does not make a table sound
        let ends = HEAD + ROW * 5;
        for (at, value) in [
            (HEAD - 24, u64::MAX),
            (HEAD - 24, 6),
            (HEAD - 16, u64::MAX),
            (HEAD - 16, 2),
            (HEAD - 8, u64::MAX),
            (HEAD - 8, 7),
            (HEAD - 8, 0),
            (HEAD, 0),
            (HEAD + 24, 1000),
            (HEAD + 24, 104),
            (ends, 0),
            (ends + 8, 2),
            (ends + 16, 4),
            (ends + 16, 6),
        ] {
            let mut forged = sound[..sound.len() - 32].to_vec();
            forged[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let sum = Sha256::digest(&forged);
            forged.extend(sum);
            std::fs::write(&path, &forged).unwrap();
            assert!(TokenFile::open(&path, key(1)).is_none(), "{value} at {at}");
        }
    }

    #[test]
    fn the_key_says_everything_that_rows_depend_on() {
        let labels = ["a".to_owned(), "b".to_owned()];
        let columns = Columns::default();
        let prompted = Columns { prompt: Some("text".to_owned()), ..Columns::default() };
        let empty = Columns { prompt: Some(String::new()), ..Columns::default() };
        let ends = |ends| Goal::Continue { ends };
        let of_persons = |name: &str, rows_max| Columns {
            unit: Some(UnitColumn { name: name.to_owned(), rows_max }),
            ..Columns::default()
        };
        let key = |data, tokenizer, columns, goal| StoreKey::new(&[data; 32], &[tokenizer; 32], columns, goal, 64, 100);
        let keys = [
            key(1, 2, &columns, Goal::Label(&labels)),
            key(3, 2, &columns, Goal::Label(&labels)),
            key(1, 4, &columns, Goal::Label(&labels)),
            StoreKey::new(&[1; 32], &[2; 32], &columns, Goal::Label(&labels), 65, 100),
            StoreKey::new(&[1; 32], &[2; 32], &columns, Goal::Label(&labels), 64, 101),
            key(1, 2, &columns, Goal::Label(&labels[..1])),
            key(1, 2, &columns, ends(&[])),
            key(1, 2, &columns, ends(&[3])),
            key(1, 2, &columns, ends(&[3, 4])),
            key(1, 2, &prompted, ends(&[3])),
            key(1, 2, &empty, ends(&[3])),
            key(1, 2, &columns, Goal::Answer),
            key(1, 2, &of_persons("who", 3), Goal::Answer),
            key(1, 2, &of_persons("who", 4), Goal::Answer),
            key(1, 2, &of_persons("whose", 3), Goal::Answer),
            key(1, 2, &columns, Goal::Answer).of_share(Some(TrainShare::new(0.5, [1; 32]))),
            key(1, 2, &columns, Goal::Answer).of_share(Some(TrainShare::new(0.25, [1; 32]))),
            key(1, 2, &columns, Goal::Answer).of_share(Some(TrainShare::new(0.5, [2; 32]))),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "{i}");
        }
    }
}
