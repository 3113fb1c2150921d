//! What an organisation should hear about its rows, counted while they are read and kept with them.
//!
//! Contract: counts and lines, never a text or a label; they are for the organisation alone and never leave it.

/// Rows of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Line of the first; 0 without any.
    pub first_line: u64,
}

impl Tally {
    pub(super) fn note_if(&mut self, holds: bool, line: u64) {
        if holds && self.count == 0 {
            self.first_line = line;
        }
        self.count += u64::from(holds);
    }
}

/// What was noticed in a file's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Cut to the job's `max_sequence_tokens`.
    pub cut: Tally,
    /// Without anything to predict, since their prompt alone fills `max_sequence_tokens`: they teach nothing.
    pub all_prompt: Tally,
    /// Whose text is empty or blank.
    pub blank: Tally,
    /// In which the prompt's last word and the text's first become one, since nothing stands between them.
    pub glued: Tally,
    /// In which one token holds the end of the prompt and the beginning of the text, other than those.
    pub straddled: Tally,
    /// Left out, since their person has more rows than count; not among the others.
    pub left_out: Tally,
    /// Not brought in, since a share of the rows is; not among the others.
    pub apart: Tally,
}

impl Seen {
    /// Numbers of [`to_numbers`](Self::to_numbers).
    pub(super) const NUMBERS: usize = 14;

    pub(super) fn to_numbers(self) -> [u64; Self::NUMBERS] {
        let mut numbers = [0; Self::NUMBERS];
        for (pair, tally) in numbers.chunks_exact_mut(2).zip(self.tallies()) {
            pair.copy_from_slice(&[tally.count, tally.first_line]);
        }
        numbers
    }

    pub(super) fn of_numbers(numbers: [u64; Self::NUMBERS]) -> Self {
        let tally = |i: usize| Tally { count: numbers[2 * i], first_line: numbers[2 * i + 1] };
        Seen::of_tallies(std::array::from_fn(tally))
    }

    /// Adds what was noticed in rows that stand behind all before.
    pub(super) fn add(&mut self, more: Seen) {
        let mut tallies = self.tallies();
        for (tally, more) in tallies.iter_mut().zip(more.tallies()) {
            let first_line = if tally.count == 0 { more.first_line } else { tally.first_line };
            *tally = Tally { count: tally.count + more.count, first_line };
        }
        *self = Seen::of_tallies(tallies);
    }

    fn tallies(self) -> [Tally; Self::NUMBERS / 2] {
        let Seen { cut, all_prompt, blank, glued, straddled, left_out, apart } = self;
        [cut, all_prompt, blank, glued, straddled, left_out, apart]
    }

    fn of_tallies(tallies: [Tally; Self::NUMBERS / 2]) -> Self {
        let [cut, all_prompt, blank, glued, straddled, left_out, apart] = tallies;
        Seen { cut, all_prompt, blank, glued, straddled, left_out, apart }
    }
}

/// Whether the prompt ends and the text begins inside what becomes one word. Scripts without capital letters, of which
/// some put no space between words, are not looked at.
pub(super) fn glued(prompt: &str, text: &str) -> bool {
    let inside = |c: char| c.is_lowercase() || c.is_uppercase() || c.is_ascii_digit();
    prompt.chars().next_back().is_some_and(inside) && text.chars().next().is_some_and(inside)
}
