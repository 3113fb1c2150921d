//! One row as the engine sees it: token ids, and what the model should make of them.

/// One row: what the engine needs and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids with the tokenizer's special tokens, at least one.
    pub ids: Vec<u32>,
    /// What the model should make of them.
    pub target: Target,
}

/// What a model should make of an example.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Index into the job's labels.
    Label(u32),
    /// Each token after so many, the prompt's; the first token of a text is never predicted.
    After(u32),
    /// Nothing that is known: the row is to be answered. It cannot be trained on or measured with.
    Unknown,
}

impl Example {
    /// A text and its label.
    pub fn labelled(ids: Vec<u32>, label: u32) -> Self {
        Example { ids, target: Target::Label(label) }
    }

    /// A text to continue, whose first `prompt` tokens are given.
    pub fn text(ids: Vec<u32>, prompt: u32) -> Self {
        Example { ids, target: Target::After(prompt) }
    }

    /// A text that is to be answered.
    pub fn unanswered(ids: Vec<u32>) -> Self {
        Example { ids, target: Target::Unknown }
    }

    /// The label, where that is the target.
    pub fn label(&self) -> Option<u32> {
        match self.target {
            Target::Label(label) => Some(label),
            Target::After(_) | Target::Unknown => None,
        }
    }

    /// The places in `ids` of the tokens to predict; none where the target is something else.
    pub fn predicted(&self) -> std::ops::Range<usize> {
        match self.target {
            Target::Label(_) | Target::Unknown => 0..0,
            Target::After(prompt) => (prompt as usize).max(1).min(self.ids.len())..self.ids.len(),
        }
    }

    /// Whether this continues a text of which nothing is left to predict: it teaches nothing.
    pub fn is_all_prompt(&self) -> bool {
        matches!(self.target, Target::After(_)) && self.predicted().is_empty()
    }
}

/// Shows the length only: ids are the text in another alphabet.
impl std::fmt::Debug for Example {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Example").field("tokens", &self.ids.len()).finish_non_exhaustive()
    }
}
