//! A file's rows, tokenised, and what an organisation should hear about them before they are used.
//!
//! Contract: what is said names the file, counts and lines, never a text or a label.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use blindsum_files::FileError;
use blindsum_privacy::Mutant;

use super::{DataError, Identity, RowStore, Seen, StoreKey, Tally, Target};

/// A file's rows, tokenised.
#[derive(Debug)]
pub struct Dataset {
    /// In the order of the file.
    pub rows: RowStore,
    /// All that a privacy ledger tags: which record each row is, in the same order; where privacy protects persons, who
    /// each unit of rows is, and then which record each of their rows is.
    pub identities: Vec<Identity>,
    /// SHA-256 of the file that they came from.
    pub sha256: [u8; 32],
    /// What was noticed when they were read.
    pub seen: Seen,
    pub(super) path: PathBuf,
    pub(super) key: StoreKey,
    pub(super) max_tokens: usize,
    /// Most rows of one person, where privacy protects persons.
    pub(super) rows_max: Option<u32>,
}

impl Dataset {
    /// The same rows from the file `kept`, so that [`Reading::read_or_kept`](super::Reading::read_or_kept) need not
    /// tokenise them again and memory holds only what is in use.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn kept_at(self, kept: &Path) -> Result<Self, FileError> {
        let rows = self.rows.kept_at(kept, self.key, self.seen, &self.identities)?;
        Ok(Dataset { rows, ..self })
    }

    /// Refuses rows of another file than the one that had this SHA-256 before it was read.
    pub(super) fn unchanged_since(self, before: [u8; 32]) -> Result<Self, DataError> {
        if self.sha256 == before {
            return Ok(self);
        }
        let what = "the file changed while it was read; start again when nobody writes to it";
        Err(DataError::whole(&self.path, what))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Number of those whom privacy protects: of rows, or of persons with theirs.
    pub fn units(&self) -> usize {
        self.rows.units()
    }

    /// Whether privacy protects persons, with all their rows that count.
    pub fn has_persons(&self) -> bool {
        self.rows_max.is_some()
    }

    /// Which record each unit is, or which person.
    pub fn unit_identities(&self) -> &[Identity] {
        &self.identities[..self.units()]
    }

    /// Which record each row is.
    fn row_identities(&self) -> &[Identity] {
        // where each row is a unit they are the same
        &self.identities[self.identities.len() - self.len()..]
    }

    /// Whose the rows are, to stand behind their number: ` of 80 persons`, or nothing where privacy protects rows.
    pub fn whose(&self) -> String {
        self.rows_max.map_or_else(String::new, |_| format!(" of {} persons", self.units()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Refuses held-out rows that are these training rows: all of them, under whatever name of the file; where the job is
    /// `private` also some of them, told by their words, and where it protects persons by their person too
    /// ([`Identity`]). Without privacy some are a remark.
    ///
    /// # Errors
    /// Names both files.
    pub fn apart_from(&self, held_out: &Dataset, private: bool) -> Result<Option<String>, DataError> {
        if Mutant::HeldOutOverlap.lives() {
            return Ok(None);
        }
        if self.sha256 == held_out.sha256 {
            return Err(DataError::same_rows(&self.path, &held_out.path));
        }
        let (persons, path) = (self.has_persons(), self.path.display());
        let owners = shared(self.unit_identities(), held_out.unit_identities());
        let rows = shared(self.row_identities(), held_out.row_identities());
        let said = match rows.first() {
            _ if persons && !owners.is_empty() => format!(
                "{} of {} persons with held-out rows have rows in the training file {path} too",
                owners.len(),
                held_out.units()
            ),
            Some(first) => {
                // rows of persons stand in another order than in the file
                let first = if persons { String::new() } else { format!(" (the first is row {})", first + 1) };
                let (number, of) = (rows.len(), held_out.len());
                format!("{number} of {of} held-out rows are rows of the training file {path} too{first}")
            }
            None => return Ok(None),
        };
        if private {
            let why = "each record has one ε, for being trained on or for being counted";
            return Err(DataError::whole(&held_out.path, format!("{said}: {why}. Take them out of one of the files")));
        }
        Ok(Some(format!("{}: {said}, so that the accuracy on them says little", held_out.path.display())))
    }

    /// Refuses a file without rows, or with nothing in any of them: whatever it is for, it cannot mean anything.
    ///
    /// # Errors
    /// Names the file.
    pub fn some(self) -> Result<Self, DataError> {
        let rows = self.rows.len() as u64;
        let what = match () {
            () if rows == 0 && self.seen.apart.count > 0 => {
                format!("none of its {} rows is brought in: choose a larger data.train_share", self.seen.apart.count)
            }
            () if rows == 0 => "the file holds no rows".to_owned(),
            () if self.seen.blank.count == rows => format!("the text of all {rows} rows is blank"),
            () if self.seen.all_prompt.count == rows => {
                format!(
                    "in all {rows} rows the prompt alone fills model.max_sequence_tokens: nothing is left to predict"
                )
            }
            () => return Ok(self),
        };
        Err(DataError::whole(&self.path, what))
    }

    /// Refuses rows of which all have one label: whoever trains on nothing else learns nothing.
    ///
    /// # Errors
    /// Names the file.
    pub fn several_labels(self) -> Result<Self, DataError> {
        if self.one_label() {
            return Err(DataError::whole(&self.path, self.one_label_said()));
        }
        Ok(self)
    }

    /// What the organisation should hear about rows that can be used all the same, one sentence each.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let (rows, path) = (self.rows.len(), self.path.display());
        if rows == 0 {
            return vec![format!("{path}: the file holds no rows, so nothing is measured with it")];
        }
        let of = |tally: Tally, what: &str, remedy: &str| {
            let Tally { count, first_line } = tally;
            let said = format!("{path}: {count} of {rows} rows {what} (the first in line {first_line}){remedy}");
            (count > 0).then_some(said)
        };
        let Seen { cut, all_prompt, blank, glued, straddled, left_out, apart } = self.seen;
        let not_brought_in = (apart.count > 0).then(|| {
            let all = apart.count + left_out.count + rows as u64;
            format!("{path}: {} of {all} rows are not brought in, as data.train_share says", apart.count)
        });
        let beyond = (left_out.count > 0).then(|| {
            format!(
                "{path}: {} of {} rows are left out (the first in line {}), since their persons have more than the {} that \
                 privacy.rows_max_per_unit lets count",
                left_out.count,
                left_out.count + rows as u64,
                left_out.first_line,
                self.rows_max.unwrap_or(0)
            )
        });
        let were_cut = format!("were cut to {} tokens", self.max_tokens);
        let one_label = self.one_label().then(|| format!("{path}: {}", self.one_label_said()));
        let said = [
            of(blank, "have a blank text", ""),
            of(cut, &were_cut, ""),
            of(all_prompt, "teach nothing, since their prompt alone fills model.max_sequence_tokens", ""),
            of(
                glued,
                "have nothing between the prompt and the text, so that two words become one",
                ": begin the text with the space or the line break",
            ),
            of(
                straddled,
                "have a token that holds the end of the prompt and the beginning of the text, and is predicted whole",
                ": where that is a space, put it at the beginning of the text",
            ),
            not_brought_in,
            beyond,
            one_label,
        ];
        said.into_iter().flatten().collect()
    }

    /// What an organisation should hear where rows say what an earlier row says: to differential privacy they are records
    /// of their own, to the ledger one. For private jobs alone.
    #[must_use]
    pub fn repeated(&self) -> Option<String> {
        let mut sorted = self.unit_identities().to_vec();
        sorted.sort_unstable();
        let (repeated, most) = sorted
            .chunk_by(|a, b| a == b)
            .fold((0, 1), |(repeated, most), same| (repeated + same.len() - 1, most.max(same.len())));
        let (path, rows) = (self.path.display(), self.len());
        (repeated > 0).then(|| {
            format!(
                "{path}: {repeated} of {rows} rows have the words of an earlier row, the most frequent {most} times: if they are \
                 copies of one record, take them out, since differential privacy counts each as a record of its own"
            )
        })
    }

    /// Whether all rows have the same label.
    fn one_label(&self) -> bool {
        let mut targets = self.rows.targets();
        match targets.next() {
            Some(first @ Target::Label(_)) => targets.all(|target| target == first),
            _ => false,
        }
    }

    fn one_label_said(&self) -> String {
        format!("all {} rows have one label: there is nothing to tell apart", self.rows.len())
    }
}

/// Places in `theirs`, from 0 and ascending, of those that are among `ours` too.
fn shared(ours: &[Identity], theirs: &[Identity]) -> Vec<usize> {
    let ours: HashSet<&Identity> = ours.iter().collect();
    theirs.iter().enumerate().filter(|(_, identity)| ours.contains(identity)).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Columns, Example, Goal};
    use super::*;

    #[test]
    fn rows_that_stand_several_times_are_remarked() {
        let said = |texts: &[&str]| {
            let key = StoreKey::new(&[0; 32], &[0; 32], &Columns::default(), Goal::Answer, 8, 100);
            let identities = texts.iter().map(|text| Identity::of_words([*text])).collect();
            let rows = vec![Example::unanswered(vec![1]); texts.len()].into();
            let (path, seen) = ("train.tsv".into(), Seen::default());
            Dataset { rows, identities, sha256: [1; 32], seen, path, key, max_tokens: 8, rows_max: None }.repeated()
        };
        let found = said(&["a", "b", " A ", "c", "b", "a"]).unwrap_or_default();
        assert!(found.contains("3 of 6 rows") && found.contains("most frequent 3 times"), "{found}");
        assert_eq!(said(&["a", "b", "c"]), None);
    }

    #[test]
    fn a_file_that_changes_under_the_reader_is_refused() {
        let read = |sha256| {
            let key = StoreKey::new(&[0; 32], &[0; 32], &Columns::default(), Goal::Answer, 8, 100);
            let (rows, path, seen) = (Vec::<Example>::new().into(), "train.tsv".into(), Seen::default());
            Dataset { rows, identities: Vec::new(), sha256, seen, path, key, max_tokens: 8, rows_max: None }
        };
        assert!(read([1; 32]).unchanged_since([1; 32]).is_ok());
        let error = read([1; 32]).unchanged_since([2; 32]).unwrap_err().to_string();
        assert!(error.contains("train.tsv") && error.contains("changed while it was read"), "{error}");
    }
}
