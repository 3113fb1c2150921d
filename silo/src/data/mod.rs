//! Labelled texts of one organisation: read, checked, and turned into token ids once.
//!
//! Contract: nothing that this module returns, prints or logs, errors included, carries a record's text or label;
//! errors name the file and the line.

/// One training or held-out row: what the engine needs and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids with the tokenizer's special tokens, at least one.
    pub ids: Vec<u32>,
    /// Index into the job's labels.
    pub label: u32,
}

/// Shows the length only: ids are the text in another alphabet.
impl std::fmt::Debug for Example {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Example").field("tokens", &self.ids.len()).finish_non_exhaustive()
    }
}
