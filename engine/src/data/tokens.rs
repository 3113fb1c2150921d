//! From text to token ids, by the tokenizer that belongs to the base model.

use std::path::Path;

use blindsum_files::read_public;
use sha2::{Digest, Sha256};
use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use super::DataError;

/// Longest `tokenizer.json` that is read, in bytes.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// A tokenizer that cuts to a fixed length and never pads.
pub struct Tokens {
    tokenizer: Tokenizer,
    max_tokens: usize,
    sha256: [u8; 32],
}

impl Tokens {
    /// Reads a `tokenizer.json`. Texts become at most `max_tokens` tokens, special tokens included; what the file itself
    /// says about cutting and padding is ignored.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(path: &Path, max_tokens: usize) -> Result<Self, DataError> {
        let broken = |what: &str| DataError::whole(path, what);
        let bytes = read_public(path, MAX_TOKENIZER_BYTES)?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|_| {
            broken("not a tokenizer.json that the tokenizers library reads; take the file that was published with the model")
        })?;
        let truncation = TruncationParams {
            max_length: max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
            direction: TruncationDirection::Right,
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|_| broken("max_sequence_tokens leaves no room beside its special tokens"))?;
        tokenizer.with_padding(None);
        Ok(Tokens { tokenizer, max_tokens, sha256: Sha256::digest(&bytes).into() })
    }

    /// The most tokens of a text.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// SHA-256 of the file.
    pub(super) fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The ids of `text` with special tokens, and whether it was cut.
    pub(super) fn encode(&self, text: &str) -> Result<(Vec<u32>, bool), &'static str> {
        // the library's message may quote the text
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|_| "the tokenizer cannot read the text")?;
        let ids = encoding.get_ids().to_vec();
        match ids.len() {
            0 => Err("the text gives no tokens: the tokenizer adds no special tokens and the text is empty to it"),
            n if n > self.max_tokens => Err("the tokenizer gives more tokens than it was asked for"),
            _ => Ok((ids, !encoding.get_overflowing().is_empty())),
        }
    }

    /// The ids of `prompt`, `text` and `end`, how many of them are the prompt's, and whether they were cut.
    ///
    /// The two parts are tokenised one by one, so that the prompt's tokens are those that stand there when the model is
    /// used; special tokens that the tokenizer puts first (`<s>`) stand before the first part. What separates the parts, a
    /// space or a line break, must stand in one of them.
    pub(super) fn encode_text(
        &self,
        prompt: Option<&str>,
        text: &str,
        end: Option<u32>,
    ) -> Result<(Vec<u32>, u32, bool), &'static str> {
        let encode = |part: &str, special: bool| -> Result<_, &'static str> {
            let encoding =
                self.tokenizer.encode_fast(part, special).map_err(|_| "the tokenizer cannot read the text")?;
            Ok((encoding.get_ids().to_vec(), !encoding.get_overflowing().is_empty()))
        };
        let (mut ids, prompt_cut) = encode(prompt.unwrap_or(text), true)?;
        let given = if prompt.is_some() { ids.len() } else { 0 };
        let mut cut = prompt_cut;
        if prompt.is_some() {
            let (rest, text_cut) = encode(text, false)?;
            ids.extend(rest);
            cut |= text_cut;
        }
        if ids.last().copied() != end {
            ids.extend(end);
        }
        cut |= ids.len() > self.max_tokens;
        ids.truncate(self.max_tokens);
        if ids.is_empty() {
            return Err("the text gives no tokens: the tokenizer adds no special tokens and the text is empty to it");
        }
        Ok((ids, given.min(self.max_tokens) as u32, cut))
    }
}
