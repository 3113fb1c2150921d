//! Prompts and the texts that continue them, as tokens: what stands where, and where the loss begins.
//!
//! A row is shown by its tokens' names, those that are predicted behind a bar; the expected ones are spelt by hand. What
//! trl 0.24.0 does (`add_eos` and `tokenize` of `SFTTrainer`, on transformers 4.57.1 and tokenizers 0.22.2) was compared
//! on 18,000 random rows, with four of the tokenizers below and those of stories15M and SmolLM2: the ids are the same in
//! every row, and so is the place where the loss begins wherever the prompt's tokens do not depend on what follows.

use blindsum_engine::data::{Columns, Dataset, Goal, Tally};
use serde_json::json;

use crate::words::{Mark, Tokenizer};

const WORDS: [&str; 3] = ["▁the", "▁cat", "▁sat"];
const BYTES: [&str; 5] = ["Ġthe", "Ġcat", "Ġsat", "the", "?Ċ"];

fn sentence_piece() -> Tokenizer {
    Tokenizer::new(Mark::SentencePiece, &WORDS)
}

/// With `</s>` as the model's end.
fn read(tokenizer: &Tokenizer, prompt: &str, text: &str) -> Dataset {
    read_with(tokenizer, &["</s>"], 64, prompt, text)
}

fn read_with(tokenizer: &Tokenizer, ends: &[&str], max_tokens: usize, prompt: &str, text: &str) -> Dataset {
    let ends: Vec<u32> = ends.iter().map(|name| tokenizer.id(name)).collect();
    let columns = Columns { prompt: Some("prompt".to_owned()), ..Columns::default() };
    let rows = [json!({"prompt": prompt, "text": text})];
    tokenizer.read(&columns, Goal::Continue { ends: &ends }, max_tokens, &rows)
}

/// The same without a column of prompts.
fn read_alone(tokenizer: &Tokenizer, ends: &[&str], text: &str) -> String {
    let ends: Vec<u32> = ends.iter().map(|name| tokenizer.id(name)).collect();
    let rows = [json!({"text": text})];
    let data = tokenizer.read(&Columns::default(), Goal::Continue { ends: &ends }, 64, &rows);
    tokenizer.shown(&data.rows.get(0))
}

fn shown(tokenizer: &Tokenizer, data: &Dataset) -> String {
    tokenizer.shown(&data.rows.get(0))
}

#[test]
fn prompt_and_text_are_one_string_to_the_tokenizer() {
    let own = sentence_piece();
    for (prompt, text, expected) in [
        // no second mark before the text
        ("the", " cat sat", "<s> ▁the | ▁cat ▁sat </s>"),
        ("the\n", "cat", "<s> ▁the <0x0A> | c a t </s>"),
        ("the:", " cat", "<s> ▁the : | ▁cat </s>"),
        // two spaces are two
        ("the", "  cat", "<s> ▁the | ▁ ▁cat </s>"),
        // nothing before, nothing behind
        ("", "the cat", "<s> | ▁the ▁cat </s>"),
        ("the", "", "<s> ▁the | </s>"),
        ("the ", "", "<s> ▁the ▁ | </s>"),
        ("", "", "<s> | </s>"),
        // no letter of these words is known: three bytes each
        ("the", " 猫", "<s> ▁the | ▁ <0xE7> <0x8C> <0xAB> </s>"),
        ("猫", " the", "<s> ▁ <0xE7> <0x8C> <0xAB> | ▁the </s>"),
    ] {
        let data = read(&own, prompt, text);
        assert_eq!(shown(&own, &data), expected, "{prompt:?} {text:?}");
        assert_eq!((data.seen.straddled, data.seen.glued), (Tally::default(), Tally::default()));
    }
    assert_eq!(read_alone(&own, &["</s>"], "the cat"), "<s> | ▁the ▁cat </s>");
    assert_eq!(read_alone(&own, &["</s>"], " cat"), "<s> | ▁ ▁cat </s>");
    let data = read(&own, "the", " cat");
    assert_eq!(data.rows.get(0).ids, [1, own.id("▁the"), own.id("▁cat"), 2]);
}

#[test]
fn a_token_of_both_is_predicted_and_counted() {
    let own = sentence_piece();
    let (first, none) = (Tally { count: 1, first_line: 1 }, Tally::default());
    // the space that ends the prompt is the mark of the text's first word; by count of tokens it would be given
    let data = read(&own, "the ", "cat sat");
    assert_eq!(shown(&own, &data), "<s> ▁the | ▁cat ▁sat </s>");
    assert_eq!((data.seen.straddled, data.seen.glued), (first, none));
    let [remark] = data.remarks().try_into().unwrap();
    assert!(remark.contains("1 of 1 rows have a token that holds the end of the prompt"), "{remark}");
    for (prompt, text, expected) in [("th", "e cat", "<s> | ▁the ▁cat </s>"), ("the c", "at", "<s> ▁the | ▁cat </s>")]
    {
        let data = read(&own, prompt, text);
        assert_eq!(shown(&own, &data), expected, "{prompt:?} {text:?}");
        assert_eq!((data.seen.straddled, data.seen.glued), (none, first));
    }
    // words that run together are said, since somebody forgot the space
    let data = read(&own, "the", "cat");
    assert_eq!((shown(&own, &data).as_str(), data.seen.glued), ("<s> ▁the | c a t </s>", first));
    let [remark] = data.remarks().try_into().unwrap();
    assert!(remark.contains("1 of 1 rows have nothing between the prompt and the text"), "{remark}");
}

#[test]
fn the_end_stands_at_the_end_alone() {
    // as e5-mistral's file, or one saved with add_eos_token
    let own = sentence_piece().with("<eot>", false, false).around(&["<s>"], &["</s>"]);
    for (ends, prompt, text, expected) in [
        (&["</s>"][..], "the", " cat", "<s> ▁the | ▁cat </s>"),
        (&["</s>"], "the", " cat</s>", "<s> ▁the | ▁cat </s>"),
        (&["</s>"], "the", "", "<s> ▁the | </s>"),
        (&["</s>"], "", "", "<s> | </s>"),
        // of several ends the tokenizer's own
        (&["<eot>", "</s>"], "the", " cat", "<s> ▁the | ▁cat </s>"),
        (&["<eot>", "</s>"], "the", " cat<eot>", "<s> ▁the | ▁cat <eot>"),
        // the model's, where the tokenizer's is none of them
        (&["<eot>"], "the", " cat", "<s> ▁the | ▁cat <eot>"),
        // a model that names no end
        (&[], "the", " cat", "<s> ▁the | ▁cat </s>"),
        (&[], "the", " cat</s>", "<s> ▁the | ▁cat </s>"),
    ] {
        let data = read_with(&own, ends, 64, prompt, text);
        assert_eq!(shown(&own, &data), expected, "{ends:?} {prompt:?} {text:?}");
    }
    assert_eq!(read_alone(&own, &["</s>"], "the cat"), "<s> | ▁the ▁cat </s>");
    assert_eq!(shown(&sentence_piece(), &read_with(&sentence_piece(), &[], 64, "the", " cat")), "<s> ▁the | ▁cat");
}

#[test]
fn a_text_that_ends_in_any_of_several_ends_gets_no_other() {
    // Llama 3 Instruct names three
    let own = sentence_piece().with("<eot>", false, false).with("<eom>", false, false);
    let ends = ["</s>", "<eom>", "<eot>"];
    for (prompt, text, expected) in [
        ("the", " cat", "<s> ▁the | ▁cat </s>"),
        ("the", " cat</s>", "<s> ▁the | ▁cat </s>"),
        ("the", " cat<eom>", "<s> ▁the | ▁cat <eom>"),
        ("the", " cat<eot>", "<s> ▁the | ▁cat <eot>"),
        ("the", "<eot>", "<s> ▁the | <eot>"),
        // an end inside is none, nor is one that the prompt ends with
        ("the", " cat<eot> sat", "<s> ▁the | ▁cat <eot> ▁ ▁sat </s>"),
        ("the<eot>", "", "<s> ▁the <eot> | </s>"),
        // nor one with something behind it
        ("the", " cat<eot>\n", "<s> ▁the | ▁cat <eot> ▁ <0x0A> </s>"),
    ] {
        assert_eq!(shown(&own, &read_with(&own, &ends, 64, prompt, text)), expected, "{prompt:?} {text:?}");
    }
    assert_eq!(read_alone(&own, &ends, "the<eom>"), "<s> | ▁the <eom>");
}

#[test]
fn a_beginning_that_is_spelt_out_is_not_put_there_again() {
    let own = sentence_piece();
    for (prompt, text, expected) in [
        ("<s>the", " cat", "<s> ▁the | ▁cat </s>"),
        ("<s>", "the", "<s> | ▁the </s>"),
        ("", "<s>the", "<s> | ▁the </s>"),
        // in the middle it is the row's own business
        ("the", "<s>", "<s> ▁the | <s> </s>"),
    ] {
        assert_eq!(shown(&own, &read(&own, prompt, text)), expected, "{prompt:?} {text:?}");
    }
    assert_eq!(read_alone(&own, &["</s>"], "<s>the"), "<s> | ▁the </s>");

    // of two opening tokens both must be there; they are never predicted where there is a column of prompts
    let two = sentence_piece().with("<sop>", false, false).around(&["<s>", "<sop>"], &[]);
    for (prompt, text, expected) in [
        ("the", " cat", "<s> <sop> ▁the | ▁cat </s>"),
        ("<s><sop>the", " cat", "<s> <sop> ▁the | ▁cat </s>"),
        ("<s>the", " cat", "<s> <sop> <s> ▁the | ▁cat </s>"),
        ("", "<s><sop>the", "<s> <sop> | ▁the </s>"),
    ] {
        assert_eq!(shown(&two, &read(&two, prompt, text)), expected, "{prompt:?} {text:?}");
    }
    // a tokenizer that puts nothing there: what comes first has nothing to be predicted from
    let none = sentence_piece().around(&[], &[]);
    for (prompt, text, expected) in
        [("", "the cat", "▁the | ▁cat </s>"), ("", "", "</s> |"), ("the", "", "▁the | </s>")]
    {
        assert_eq!(shown(&none, &read(&none, prompt, text)), expected, "{prompt:?} {text:?}");
    }
}

#[test]
fn byte_level_tokens_begin_where_their_space_does() {
    let own = Tokenizer::new(Mark::Bytes, &BYTES);
    for (prompt, text, expected, straddled) in [
        ("the", " cat sat", "<s> the | Ġcat Ġsat </s>", 0),
        ("the ", "cat", "<s> the | Ġcat </s>", 1),
        ("the", "  cat", "<s> the | Ġ Ġcat </s>", 0),
        ("the ", " cat", "<s> the Ġ | Ġcat </s>", 0),
        ("the\n", "the", "<s> the Ċ | the </s>", 0),
        ("the?", "\nthe", "<s> the ? | Ċ the </s>", 0),
        // a letter of two bytes on either side
        ("thé", " cat", "<s> th Ã © | Ġcat </s>", 0),
        ("the ", "é", "<s> the Ġ | Ã © </s>", 0),
    ] {
        let data = read(&own, prompt, text);
        assert_eq!(
            (shown(&own, &data).as_str(), data.seen.straddled.count),
            (expected, straddled),
            "{prompt:?} {text:?}"
        );
    }
    // where nothing keeps "?" and the line break apart (Llama 3, Qwen2): the text's first character is in that token
    let whole = Tokenizer::new(Mark::WholeBytes, &BYTES);
    let data = read(&whole, "the?", "\nthe");
    assert_eq!((shown(&whole, &data).as_str(), data.seen.straddled.count), ("<s> the | ?Ċ the </s>", 1));
    assert_eq!(shown(&whole, &read(&whole, "the?\n", "the")), "<s> the ?Ċ | the </s>");
}

#[test]
fn newer_sentencepiece_files_put_no_mark_behind_a_special_token() {
    let own = Tokenizer::new(Mark::Metaspace, &WORDS).with("<bot>", false, false);
    assert_eq!(shown(&own, &read(&own, "the", " cat")), "<s> ▁the | ▁cat </s>");
    assert_eq!(shown(&own, &read(&own, "the<bot>", "cat")), "<s> ▁the <bot> | c a t </s>");
    assert_eq!(shown(&own, &read(&own, "the<bot>", " cat")), "<s> ▁the <bot> | ▁cat </s>");
    // the older ones do, wherever the prompt ends
    let older = sentence_piece().with("<bot>", false, false);
    assert_eq!(shown(&older, &read(&older, "the<bot>", "cat")), "<s> ▁the <bot> | ▁cat </s>");
    assert_eq!(shown(&older, &read(&older, "the", "<bot>cat")), "<s> ▁the | <bot> ▁cat </s>");
}

#[test]
fn added_tokens_beside_the_boundary_stay_on_their_side() {
    // one that takes the blanks on its right, as Phi-3's, and one that takes those on its left, as RoBERTa's <mask>
    let own = Tokenizer::new(Mark::Metaspace, &WORDS).with("<bot>", false, true).with("<now>", true, false);
    for (prompt, text, expected) in [
        ("the<bot>", "cat", "<s> ▁the <bot> | c a t </s>"),
        ("the<bot>", "  cat", "<s> ▁the <bot> | c a t </s>"),
        ("the<bot> ", " cat", "<s> ▁the <bot> | c a t </s>"),
        ("the", "<bot> cat", "<s> ▁the | <bot> c a t </s>"),
        ("the", "<now> cat", "<s> ▁the | <now> ▁cat </s>"),
        ("the ", "<now> cat", "<s> ▁the | <now> ▁cat </s>"),
        ("the <now>", " cat", "<s> ▁the <now> | ▁cat </s>"),
    ] {
        let data = read(&own, prompt, text);
        assert_eq!(shown(&own, &data), expected, "{prompt:?} {text:?}");
    }
}

#[test]
fn the_tokens_are_the_same_wherever_the_prompt_ends() {
    let string = "the  cat sat: thé\n cat.猫 the</s> sat?\nthe";
    for own in [
        sentence_piece(),
        sentence_piece().around(&["<s>"], &["</s>"]),
        Tokenizer::new(Mark::Metaspace, &WORDS),
        Tokenizer::new(Mark::Bytes, &BYTES),
        Tokenizer::new(Mark::WholeBytes, &BYTES),
    ] {
        let whole = read(&own, "", string).rows.get(0);
        let mut before = 1;
        for at in (0..=string.len()).filter(|&at| string.is_char_boundary(at)) {
            let row = read(&own, &string[..at], &string[at..]).rows.get(0);
            assert_eq!(row.ids, whole.ids, "{at}");
            let given = row.predicted().start;
            assert!(given >= before, "{at}: what was given stays given");
            before = given;
        }
        assert_eq!(before, whole.ids.len() - 1, "all but the end");
    }
    // byte for byte: the predicted tokens hold the text, and without the first of them less than it
    let (own, string) = (Tokenizer::new(Mark::Bytes, &BYTES), string.replace("</s>", ""));
    let length = |ids: &[u32]| ids.iter().filter(|&&id| id > 2).map(|&id| own.name(id).chars().count()).sum::<usize>();
    for at in (0..=string.len()).filter(|&at| string.is_char_boundary(at)) {
        let row = read(&own, &string[..at], &string[at..]).rows.get(0);
        let (first, text) = (row.predicted().start, string.len() - at);
        assert!(length(&row.ids[first..]) >= text && length(&row.ids[first + 1..]) <= text, "{at}");
    }
}

#[test]
fn rows_are_cut_at_their_end_and_a_prompt_that_fills_them_is_said() {
    let own = sentence_piece();
    for (max_tokens, expected, cut, all_prompt) in [
        (6, "<s> ▁the ▁cat | ▁sat </s>", 0, 0),
        (5, "<s> ▁the ▁cat | ▁sat </s>", 0, 0),
        // as TRL cuts: the end is the first to go
        (4, "<s> ▁the ▁cat | ▁sat", 1, 0),
        (3, "<s> ▁the ▁cat |", 1, 1),
        (2, "<s> ▁the |", 1, 1),
    ] {
        let data = read_with(&own, &["</s>"], max_tokens, "the cat", " sat");
        let found = (data.seen.cut.count, data.seen.all_prompt.count);
        assert_eq!((shown(&own, &data).as_str(), found), (expected, (cut, all_prompt)), "{max_tokens}");
        let remarks = data.remarks();
        let said = format!("1 of 1 rows were cut to {max_tokens} tokens (the first in line 1)");
        assert_eq!(remarks.iter().any(|remark| remark.contains(&said)), cut == 1, "{remarks:?}");
    }
    // nothing is left to learn from such a file
    let error = read_with(&own, &["</s>"], 3, "the cat", " sat").some().unwrap_err().to_string();
    assert!(error.contains("in all 1 rows the prompt alone fills model.max_sequence_tokens"), "{error}");
}
