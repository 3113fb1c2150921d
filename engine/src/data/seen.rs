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
}

impl Seen {
    /// Numbers of [`to_numbers`](Self::to_numbers).
    pub(super) const NUMBERS: usize = 10;

    pub(super) fn to_numbers(self) -> [u64; Self::NUMBERS] {
        let Seen { cut, all_prompt, blank, glued, straddled } = self;
        let [a, b, c, d, e] = [cut, all_prompt, blank, glued, straddled].map(|t| (t.count, t.first_line));
        [a.0, a.1, b.0, b.1, c.0, c.1, d.0, d.1, e.0, e.1]
    }

    pub(super) fn of_numbers(numbers: [u64; Self::NUMBERS]) -> Self {
        let tally = |i: usize| Tally { count: numbers[2 * i], first_line: numbers[2 * i + 1] };
        Seen { cut: tally(0), all_prompt: tally(1), blank: tally(2), glued: tally(3), straddled: tally(4) }
    }
}

/// Whether the prompt ends and the text begins inside what becomes one word. Scripts without capital letters, of which
/// some put no space between words, are not looked at.
pub(super) fn glued(prompt: &str, text: &str) -> bool {
    let inside = |c: char| c.is_lowercase() || c.is_uppercase() || c.is_ascii_digit();
    prompt.chars().next_back().is_some_and(inside) && text.chars().next().is_some_and(inside)
}
