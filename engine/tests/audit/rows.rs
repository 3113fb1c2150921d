//! What becomes of rows before a step: which records they are, and that held-out ones are others.

use blindsum_adapter::BaseShape;
use blindsum_engine::data::{Columns, Goal, Identity, Reading, Tokens};

use crate::{Found, judged};

const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "good": 1, "film": 2}, "unk_token": "[UNK]"}}"#;
const CONFIG: &str = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16,
    "num_attention_heads": 2, "vocab_size": 10, "max_position_embeddings": 128}"#;

/// A held-out file that holds a training row, written otherwise and under another label, is refused.
pub fn held_out_rows_are_no_training_rows() -> Found {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let shape = BaseShape::from_config_json(CONFIG).expect("a shape");
    let tokens = Tokens::open(&write("tokenizer.json", TOKENIZER), &shape, 16).expect("a tokenizer");
    let (columns, labels) = (Columns::default(), ["no", "yes"].map(str::to_owned));
    let reading = Reading { columns: &columns, goal: Goal::Label(&labels), tokens: &tokens };
    let read = |name, text| reading.read(&write(name, text)).expect("rows");
    let train = read("train.jsonl", "{\"text\": \"good film\", \"label\": \"yes\"}\n");
    let held_out = read("held-out.csv", "label,text\nno,film\nno, Good  FILM\n");
    match train.apart_from(&held_out, true) {
        Err(error) => judged(true, error.to_string().split(':').nth(1).unwrap_or_default().to_owned()),
        Ok(_) => judged(false, "a training row is counted as held out".to_owned()),
    }
}

/// Spaces and capitals make no other record.
pub fn spelling_makes_no_other_record() -> Found {
    let same = Identity::of_words(["a good film"]) == Identity::of_words(["A  good\tfilm "]);
    judged(same, format!("the same words written otherwise are the same record: {same}"))
}
