//! CSV and TSV as programs write them, and what is refused where readers would differ.

use blindsum_engine::data::{Columns, Goal, MAX_ROW_BYTES, Reading, Tokens};
use blindsum_testkit::models::uniform;

use crate::files::{Files, SECRET};
use crate::words::{Mark, Tokenizer};

#[test]
fn lines_are_those_of_an_editor_whatever_ends_them() {
    let files = Files::new();
    let (quoted, blank) = ("\"w1\nw2\",no\n", "\nw1,no\n\n\n");
    for (rows, line) in [("", 2), ("w1,no\nw2,yes\n", 4), (quoted, 4), (blank, 6), ("\n\"w1\n\nw2\",no\n", 6)] {
        for end in ["\n", "\r\n"] {
            let text = format!("text,label\n{rows}{SECRET},{SECRET}\nw1,no\n").replace('\n', end);
            files.refused("a.csv", &text, Some(line), "none of the job's");
            let text = format!("text,label\n{rows}{SECRET}\nw1,no\n").replace('\n', end);
            files.refused("b.csv", &text, Some(line), "1 fields");
            let text = text.replace(SECRET, &format!("{SECRET},{SECRET}")).replace(',', "\t");
            files.refused("c.tsv", &text, Some(line), "none of the job's");
        }
    }
    for end in ["\n", "\r\n"] {
        let text =
            format!("{{\"text\": \"w1\", \"label\": \"no\"}}\n\n{{\"text\": \"{SECRET}\"}}\n").replace('\n', end);
        files.refused("a.jsonl", &text, Some(3), "no key \"label\"");
    }
}

#[test]
fn broken_tables_are_refused_by_line() {
    let files = Files::new();
    files.refused("a.csv", format!("text,label\n{SECRET},no,{SECRET}\n"), Some(2), "3 fields, the first line 2");
    files.refused("b.csv", format!("text,label\nw1,no\n{SECRET}\n"), Some(3), "1 fields");
    let mut bytes = format!("text,label\nw1,no\n{SECRET} ").into_bytes();
    bytes.extend(b"\xff,no\n");
    files.refused("c.csv", &bytes, Some(3), "not UTF-8");
    // a file without a first line that names the columns starts with a record
    files.refused("d.csv", format!("{SECRET},no\n"), Some(1), "no column named \"text\"");
    files.refused("e.csv", "text,text,label\n", Some(1), "more than one column named \"text\"");
}

#[test]
fn rows_without_an_end_are_not_collected() {
    let files = Files::new();
    let long = SECRET.repeat(MAX_ROW_BYTES as usize / SECRET.len() + 8);
    files.refused("a.jsonl", format!("{{\"text\": \"{long}"), Some(1), "longer than 1 MiB");
    // an unclosed quote swallows the lines after it
    let rows = format!("{SECRET},no\n").repeat(200_000);
    files.refused("a.csv", format!("text,label\nw1,no\n\"w1,no\n{rows}"), Some(3), "unclosed quote");
    // but many rows together may be longer than one may be
    assert_eq!(files.read("b.csv", format!("text,label\n{}", "w1,no\n".repeat(300_000))).unwrap().len(), 300_000);
}

/// A tokenizer that shows every byte, so that what was read can be told from its tokens.
fn spelt(content: &str, extension: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let words = Tokenizer::new(Mark::Bytes, &[]);
    std::fs::write(dir.path().join("tokenizer.json"), words.json().to_string()).unwrap();
    let path = dir.path().join(format!("rows.{extension}"));
    std::fs::write(&path, content).unwrap();
    let tokens = Tokens::open(&dir.path().join("tokenizer.json"), &words.shape(), 4096).unwrap();
    let rows = Reading { columns: &Columns::default(), goal: Goal::Answer, tokens: &tokens }.read(&path).unwrap();
    rows.rows.all().iter().map(|row| words.text(&row.ids)).collect()
}

#[test]
fn a_quoted_field_is_what_pandas_wrote() {
    // pandas.DataFrame({"id": …, "text": texts}).to_csv(sep="\t", index=False) of pandas 3.1.1; csv.excel_tab writes the same
    let texts =
        ["He said \"hi\" to me", "a\tb", "two\nlines", "\"", "\"\"", "6\" nails", "x,y", " \"spaced\" ", "cr\r\nlf"];
    let quoted = "id\ttext\n0\t\"He said \"\"hi\"\" to me\"\n1\t\"a\tb\"\n2\t\"two\nlines\"\n3\t\"\"\"\"\n\
                  4\t\"\"\"\"\"\"\n5\t\"6\"\" nails\"\n6\tx,y\n7\t\" \"\"spaced\"\" \"\n8\t\"cr\r\nlf\"\n";
    assert_eq!(spelt(quoted, "tsv"), texts);
    // a quote inside a field that does not begin with one is a quote
    let bare = "text\nHe said \"hi\" to me\n6\" nails\n \"spaced\" \nend\"\n";
    for extension in ["tsv", "csv"] {
        assert_eq!(spelt(bare, extension), ["He said \"hi\" to me", "6\" nails", " \"spaced\" ", "end\""]);
    }
    // names may be quoted too, behind a byte order mark; quotes around everything mean nothing; the last line may be open
    assert_eq!(spelt("\u{feff}\"text\"\t\"id\"\r\n\"a\"\t\"1\"\r\n\"b\"\t\"2\"", "tsv"), ["a", "b"]);
    assert_eq!(spelt("text\tid\na\t\nb\t\"\"\nc\t", "tsv"), ["a", "b", "c"]);
}

#[test]
fn a_quote_that_readers_take_differently_is_refused_by_line() {
    let files = Files::new();
    for (extension, tab) in [("tsv", "\t"), ("csv", ",")] {
        let name = format!("a.{extension}");
        let table = |rows: &str| format!("text{tab}label\nw1{tab}no\n{}", rows.replace('\t', tab));
        // pandas takes the quotes off the first word alone
        files.refused(&name, table(&format!("\"{SECRET}\" w1\tno\n")), Some(3), "behind its closing quote");
        files.refused(&name, table(&format!("w1\t\"no\"{SECRET}\n")), Some(3), "behind its closing quote");
        // pandas takes the rows from here to the next quote for one, and says nothing
        let open = table(&format!("w1\tno\n\"{SECRET}\tno\nw1\tno\n\"w1\tno\n"));
        files.refused(&name, open, Some(4), "behind its closing quote");
        files.refused(&name, table(&format!("\"w1\n\nw2\"\tno\n\"{SECRET}\tno\nw1\tno\n")), Some(6), "never closed");
        files.refused(&name, table(&format!("w1\t\"{SECRET}")), Some(3), "never closed");
        files.refused(&name, table("w1\t\""), Some(3), "never closed");
    }
}

/// What is well formed is read as the `csv` crate reads it, however the fields are chosen.
#[test]
fn tables_are_those_of_the_csv_crate() {
    let pieces = ["", "a", "b c", "\"", "\"\"", "\t", ",", "\n", "\r\n", " ", "é", "x\"y"];
    let mut draw = uniform(5, 40_000).into_iter().map(|u| ((u + 1.0) * 1e6) as usize);
    let mut next = move |below: usize| draw.next().unwrap() % below;
    for delimiter in [b'\t', b','] {
        for _ in 0..200 {
            let style = [csv::QuoteStyle::Necessary, csv::QuoteStyle::Always][next(2)];
            let end = [csv::Terminator::Any(b'\n'), csv::Terminator::CRLF][next(2)];
            let mut writer = csv::WriterBuilder::new()
                .delimiter(delimiter)
                .quote_style(style)
                .terminator(end)
                .from_writer(Vec::new());
            writer.write_record(["id", "text", "more"]).unwrap();
            let mut texts = Vec::new();
            for row in 0..next(8) {
                let mut field = || (0..next(4)).map(|_| pieces[next(pieces.len())]).collect::<String>();
                let (text, more) = (field(), field());
                writer.write_record([row.to_string(), text.clone(), more]).unwrap();
                texts.push(text);
            }
            let content = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let extension = if delimiter == b',' { "csv" } else { "tsv" };
            let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(content.as_bytes());
            let theirs: Vec<String> = reader.records().map(|record| record.unwrap()[1].to_owned()).collect();
            assert_eq!((&spelt(&content, extension), &theirs), (&texts, &texts), "{content:?}");
        }
    }
}
