//! From text to token ids, by the tokenizer that belongs to the base model.
//!
//! ```text
//! to label, to answer:  [before] text [behind]               as Hugging Face's tokenizer(text, truncation=True)
//! to continue:          [before] prompt+text [end]           the loss is on what follows the prompt, and on the end
//! ```
//!
//! Contract: what `tokenizer.json` puts before and behind a text is learnt once, when the file is read; no row has it
//! twice. No id lies beyond the base model's vocabulary.

use std::collections::BTreeSet;
use std::path::Path;

use blindsum_adapter::BaseShape;
use blindsum_files::read_public;
use sha2::{Digest, Sha256};
use tokenizers::{Encoding, PostProcessorWrapper, Token, Tokenizer};

use super::DataError;

/// Longest `tokenizer.json` that is read, in bytes.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// A tokenizer that cuts to a fixed length and never pads.
pub struct Tokens {
    tokenizer: Tokenizer,
    /// Special tokens that it puts before a text.
    before: Vec<u32>,
    /// Special tokens that it puts behind one.
    behind: Vec<u32>,
    /// Added tokens that swallow the blanks behind them.
    swallowing: BTreeSet<u32>,
    max_tokens: usize,
    vocab: usize,
    sha256: [u8; 32],
}

/// A text to label or to answer, as tokens.
pub(super) struct Encoded {
    pub ids: Vec<u32>,
    /// Whether it was cut.
    pub cut: bool,
}

/// A prompt and a text that continues it, as tokens.
pub(super) struct Continued {
    pub ids: Vec<u32>,
    /// How many of the ids are not predicted.
    pub given: usize,
    /// Whether they were cut.
    pub cut: bool,
    /// Whether one token holds the end of the prompt and the beginning of the text.
    pub straddled: bool,
}

impl Tokens {
    /// Reads a `tokenizer.json` for a base model of this shape. Texts become at most `max_tokens` tokens, special ones
    /// included; what the file itself says about cutting and padding is ignored.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(path: &Path, shape: &BaseShape, max_tokens: usize) -> Result<Self, DataError> {
        let broken = |what: &str| DataError::whole(path, what);
        let foreign = |what: &str| broken(&format!("{what}; take the file that was published with the model"));
        let bytes = read_public(path, MAX_TOKENIZER_BYTES)?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes)
            .map_err(|_| foreign("not a tokenizer.json that the tokenizers library reads"))?;
        tokenizer.with_padding(None);
        // taking it away cannot fail
        let _ = tokenizer.with_truncation(None);
        let [before, behind] = around(&tokenizer)
            .ok_or_else(|| foreign("its post_processor does not put a text once among its special tokens"))?;
        // Special tokens are ours to place; a byte-level post_processor would only cut blanks off the places of tokens.
        tokenizer.with_post_processor(None::<PostProcessorWrapper>);
        if before.len() + behind.len() >= max_tokens {
            return Err(broken("max_sequence_tokens leaves no room beside its special tokens"));
        }
        let vocab = shape.vocab;
        if before.iter().chain(&behind).any(|&id| id as usize >= vocab) {
            let what = "its special tokens lie beyond the base model's vocabulary";
            return Err(broken(&format!("{what} of {vocab}: tokenizer.json and config.json do not belong together")));
        }
        let added = tokenizer.get_added_tokens_decoder();
        let swallowing = added.iter().filter(|(_, token)| token.rstrip).map(|(&id, _)| id).collect();
        Ok(Tokens { tokenizer, before, behind, swallowing, max_tokens, vocab, sha256: Sha256::digest(&bytes).into() })
    }

    /// The most tokens of a text.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// SHA-256 of the file.
    pub(super) fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Rows of the base model's word embedding.
    pub(super) fn vocab(&self) -> usize {
        self.vocab
    }

    /// The ids of `text` with special tokens; the closing ones stay where it is cut.
    pub(super) fn encode(&self, text: &str) -> Result<Encoded, String> {
        // the library's message may quote the text
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|_| UNREADABLE)?;
        let room = self.max_tokens - self.before.len() - self.behind.len();
        let tokens = encoding.get_ids();
        let kept = &tokens[..tokens.len().min(room)];
        let ids = self.checked([&self.before, kept, &self.behind].concat())?;
        Ok(Encoded { ids, cut: tokens.len() > room })
    }

    /// The ids of `prompt` and `text` as one string, and of the end: one of `ends`, the first where the text has none.
    ///
    /// As TRL's `SFTTrainer` does with prompt and completion, so a space or a line break between the two must stand in
    /// one of them. A token with characters of both is predicted, since a part of the text would go unlearnt else. The
    /// tokenizer's own opening tokens stand there once, even where the prompt spells them out.
    pub(super) fn encode_text(&self, prompt: Option<&str>, text: &str, ends: &[u32]) -> Result<Continued, String> {
        let before_text = prompt.unwrap_or_default();
        let whole = [before_text, text].concat();
        let encoding = self.tokenizer.encode(whole.as_str(), false).map_err(|_| UNREADABLE)?;
        let tokens = encoding.get_ids();
        let places = encoding.get_offsets();
        let reaches = |i: usize| {
            let (start, end) = places[i];
            let blanks = if self.swallowing.contains(&tokens[i]) {
                whole.get(start..end).map_or(0, |found| found.len() - found.trim_end().len())
            } else {
                0
            };
            end - blanks > before_text.len()
        };
        let first =
            if before_text.is_empty() { 0 } else { (0..tokens.len()).find(|&i| reaches(i)).unwrap_or(tokens.len()) };
        let straddled = places.get(first).is_some_and(|&(start, _)| start < before_text.len());

        let opening = if tokens.starts_with(&self.before) { &[][..] } else { &self.before };
        let given = if prompt.is_some() { self.before.len().max(opening.len() + first) } else { 0 };
        let is_end = |token: Option<&u32>| token.is_some_and(|id| ends.contains(id));
        let closing = match ends.first() {
            _ if is_end(tokens[first..].last()) => &[][..],
            Some(_) if is_end(self.behind.last()) => &self.behind,
            Some(end) => std::slice::from_ref(end),
            None if tokens[first..].ends_with(&self.behind) => &[],
            None => &self.behind,
        };
        let mut ids = [opening, tokens, closing].concat();
        let cut = ids.len() > self.max_tokens;
        ids.truncate(self.max_tokens);
        Ok(Continued { given: given.min(ids.len()), ids: self.checked(ids)?, cut, straddled })
    }

    /// Refuses what the base model cannot look up.
    fn checked(&self, ids: Vec<u32>) -> Result<Vec<u32>, String> {
        if ids.is_empty() {
            let what = "the text gives no tokens: the tokenizer adds no special tokens and the text is empty to it";
            return Err(what.to_owned());
        }
        if ids.iter().any(|&id| id as usize >= self.vocab) {
            return Err(format!(
                "a token of the row lies beyond the base model's vocabulary of {}: tokenizer.json knows words that the \
                 weights do not (added tokens?); take them out of the row, or choose a base model that has them",
                self.vocab
            ));
        }
        Ok(ids)
    }
}

const UNREADABLE: &str = "the tokenizer cannot read the text";

/// The special tokens before and behind a text; `None` where they are not around one text.
fn around(tokenizer: &Tokenizer) -> Option<[Vec<u32>; 2]> {
    let text = Encoding::from_tokens(vec![Token::new(0, String::new(), (0, 0))], 0);
    let whole = tokenizer.post_process(text, None, true).ok()?;
    let (ids, special) = (whole.get_ids(), whole.get_special_tokens_mask());
    let at = special.iter().position(|&mask| mask == 0)?;
    let once = special.iter().filter(|&&mask| mask == 0).count() == 1;
    once.then(|| [ids[..at].to_vec(), ids[at + 1..].to_vec()])
}
