//! Tokenizers as published models have them, over a few words: whole words and single bytes, so that ids can be told by
//! heart.
//!
//! A word in the vocabulary is merged from its first character on: with `▁cat` there, `▁cat` is one token, and `cat`
//! without its mark stays `c a t`.

use std::collections::BTreeMap;

use blindsum_adapter::BaseShape;
use blindsum_engine::data::{Columns, Dataset, Example, Goal, Reading, Tokens};
use blindsum_testkit::models::TINY_LLAMA_CONFIG;
use serde_json::{Value, json};

/// How a tokenizer marks the space before a word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    /// `▁` for each space, and one before each piece of text: Llama 1 and 2, Mistral up to 0.3.
    SentencePiece,
    /// The same, before the first piece alone: their files with `legacy = false`.
    Metaspace,
    /// `Ġ` for each space and nothing put before, in words as GPT-2 cuts them: GPT-2, Qwen2.
    Bytes,
    /// The same without cutting into words, so that anything may merge with anything.
    WholeBytes,
}

#[derive(Clone)]
pub struct Tokenizer {
    mark: Mark,
    /// By id.
    pieces: Vec<String>,
    merges: Vec<[String; 2]>,
    added: Vec<Value>,
    /// Names around a text.
    template: [Vec<String>; 2],
}

impl Tokenizer {
    /// `<unk> <s> </s>`, every byte, the mark, and these words; `<s>` before each text.
    pub fn new(mark: Mark, words: &[&str]) -> Self {
        let pieces = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
        let template = [vec!["<s>".to_owned()], Vec::new()];
        let mut own = Tokenizer { mark, pieces, merges: Vec::new(), added: Vec::new(), template };
        for id in 0..3 {
            own.note_added(id, false, false);
        }
        if matches!(mark, Mark::Bytes | Mark::WholeBytes) {
            own.pieces.extend((0..=255).map(|byte| spell(byte).to_string()));
        } else {
            own.pieces.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
            own.pieces.extend(('a'..='z').chain(['▁', '.', ':', '?']).map(|c| c.to_string()));
        }
        for word in words {
            let mut whole = String::new();
            for c in word.chars() {
                let longer = format!("{whole}{c}");
                if !whole.is_empty() && !own.pieces.contains(&longer) {
                    own.merges.push([whole, c.to_string()]);
                    own.pieces.push(longer.clone());
                }
                whole = longer;
            }
        }
        own
    }

    /// With an added token, which takes the blanks on its left or right into itself.
    pub fn with(mut self, token: &str, left: bool, right: bool) -> Self {
        self.pieces.push(token.to_owned());
        self.note_added(self.pieces.len() - 1, left, right);
        self
    }

    /// With other special tokens around a text.
    pub fn around(self, before: &[&str], behind: &[&str]) -> Self {
        let template = [before, behind].map(|names| names.iter().map(|&name| name.to_owned()).collect());
        Tokenizer { template, ..self }
    }

    fn note_added(&mut self, id: usize, left: bool, right: bool) {
        let content = &self.pieces[id];
        let token = json!({"id": id, "content": content, "single_word": false, "lstrip": left, "rstrip": right,
                           "normalized": false, "special": true});
        self.added.push(token);
    }

    pub fn id(&self, name: &str) -> u32 {
        self.pieces.iter().position(|piece| piece == name).unwrap() as u32
    }

    pub fn name(&self, id: u32) -> &str {
        &self.pieces[id as usize]
    }

    /// A small Llama with this vocabulary.
    pub fn shape(&self) -> BaseShape {
        BaseShape { vocab: self.pieces.len(), ..BaseShape::from_config_json(TINY_LLAMA_CONFIG).unwrap() }
    }

    /// `tokenizer.json`.
    pub fn json(&self) -> Value {
        let special = |name: &String| json!({"SpecialToken": {"id": name, "type_id": 0}});
        let mut single: Vec<Value> = self.template[0].iter().map(special).collect();
        single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
        single.extend(self.template[1].iter().map(special));
        let known = self.template.iter().flatten();
        let known = known.map(|name| (name.clone(), json!({"id": name, "ids": [self.id(name)], "tokens": [name]})));
        let pair = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]);
        let special: serde_json::Map<_, _> = known.collect();
        let template = json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special});
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                           "use_regex": self.mark == Mark::Bytes});
        let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
        let marks = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
                           {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
        let (normalizer, cut, last) = match self.mark {
            Mark::SentencePiece => (marks, Value::Null, template),
            Mark::Metaspace => (Value::Null, metaspace, template),
            Mark::Bytes | Mark::WholeBytes => {
                (Value::Null, bytes.clone(), json!({"type": "Sequence", "processors": [bytes, template]}))
            }
        };
        let vocab: BTreeMap<&String, usize> = self.pieces.iter().enumerate().map(|(id, piece)| (piece, id)).collect();
        let fallback = matches!(self.mark, Mark::SentencePiece | Mark::Metaspace);
        json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": self.added,
               "normalizer": normalizer, "pre_tokenizer": cut, "post_processor": last, "decoder": null,
               "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                         "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": fallback, "vocab": vocab,
                         "merges": self.merges}})
    }

    /// What is read of these rows.
    pub fn read(&self, columns: &Columns, goal: Goal, max_tokens: usize, rows: &[Value]) -> Dataset {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, content: String| std::fs::write(dir.path().join(name), content).unwrap();
        write("tokenizer.json", self.json().to_string());
        write("rows.jsonl", rows.iter().map(|row| format!("{row}\n")).collect());
        let tokens = Tokens::open(&dir.path().join("tokenizer.json"), &self.shape(), max_tokens).unwrap();
        Reading { columns, goal, tokens: &tokens }.read(&dir.path().join("rows.jsonl")).unwrap()
    }

    /// A row's tokens by name, those that are predicted behind a bar.
    pub fn shown(&self, row: &Example) -> String {
        let mut names: Vec<&str> = row.ids.iter().map(|&id| self.name(id)).collect();
        names.insert(row.predicted().start, "|");
        names.join(" ")
    }

    /// The text of byte-level tokens, special ones left out.
    pub fn text(&self, ids: &[u32]) -> String {
        let bytes: BTreeMap<char, u8> = (0..=255).map(|byte| (spell(byte), byte)).collect();
        let pieces = ids.iter().filter(|&&id| id > 2).flat_map(|&id| self.pieces[id as usize].chars());
        String::from_utf8(pieces.map(|c| bytes[&c]).collect()).unwrap()
    }
}

/// The character by which GPT-2 writes a byte: itself where it can be seen, else one beyond 255, in order.
fn spell(byte: u8) -> char {
    let seen = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let hidden = (0..byte).filter(|&other| !seen(other)).count() as u32;
    if seen(byte) { char::from(byte) } else { char::from_u32(256 + hidden).unwrap() }
}
