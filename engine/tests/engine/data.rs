//! Data files as organisations have them, good and bad; and nothing of a bad row in what is said about it.

use blindsum_engine::data::{
    Columns, DataError, Dataset, Example, Goal, MAX_ROW_BYTES, Reading, RowStore, Target, Tokens,
};
use blindsum_files::{ExitCode, Exits};
use blindsum_testkit::models::write_tokenizer;

use std::path::PathBuf;

/// A word that stands in the bad rows and must stand nowhere else.
const SECRET: &str = "xylophone";

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_tokenizer(dir.path(), true);
        Files { dir }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn tokens(&self, max: usize) -> Tokens {
        Tokens::open(&self.dir.path().join("tokenizer.json"), max).unwrap()
    }

    fn read(&self, name: &str, content: impl AsRef<[u8]>) -> Result<Dataset, DataError> {
        self.write(name, content);
        self.read_for(name, Goal::Label(&["no", "yes", "3"].map(str::to_owned)), None, 16)
    }

    fn read_for(&self, name: &str, goal: Goal, prompt: Option<&str>, max: usize) -> Result<Dataset, DataError> {
        let columns = Columns { prompt: prompt.map(str::to_owned), ..Columns::default() };
        Reading { columns: &columns, goal, tokens: &self.tokens(max) }.read(&self.dir.path().join(name))
    }

    /// The error for this file: one line, names file and line, and never the secret, however it is shown.
    fn refused(&self, name: &str, content: impl AsRef<[u8]>, line: Option<u64>, word: &str) {
        let error = self.read(name, content).unwrap_err();
        let shown = error.to_string();
        let found = if let DataError::Row { line, .. } = error { Some(line) } else { None };
        assert_eq!(found, line, "{shown}");
        assert_eq!(error.exit_code(), ExitCode::Data);
        let place = line.map_or(format!("{name}: "), |line| format!("{name}:{line}: "));
        assert!(shown.contains(&place) && shown.contains(word), "{shown}");
        assert!(std::error::Error::source(&error).is_none());
        for text in [shown, format!("{error:?}"), format!("{error:#?}")] {
            assert!(!text.to_lowercase().contains(SECRET), "{text}");
        }
    }
}

#[test]
fn the_three_formats_give_the_same_examples() {
    let files = Files::new();
    let json = files.read(
        "a.jsonl",
        "{\"text\": \"the film was good\", \"label\": \"yes\", \"id\": 7}\n\n{\"label\": 3, \"text\": \"w1 w2\"}\r\n\
         {\"text\": \"\", \"label\": \"no\"}",
    );
    let csv = files.read("a.csv", "id,label,text\n7,yes,the film was good\n8,3,\"w1\nw2\"\r\n\n9, no ,\n");
    let tsv = files.read("a.tsv", "label\ttext\nyes\tthe film was good\n3\tw1 w2\nno\t\n");
    let expected = json.unwrap().rows.all();
    let ids: Vec<&[u32]> = expected.iter().map(|e| e.ids.as_slice()).collect();
    assert_eq!(ids, [&[2, 8, 9, 10, 4, 3][..], &[2, 12, 13, 3], &[2, 3]]);
    assert_eq!(expected.iter().filter_map(|e| e.label()).collect::<Vec<_>>(), [1, 2, 0]);
    assert_eq!(csv.unwrap().rows.all(), expected);
    assert_eq!(tsv.unwrap().rows.all(), expected);
}

#[test]
fn a_file_without_rows_is_called_by_its_name() {
    let files = Files::new();
    for (name, content) in
        [("a.jsonl", ""), ("b.jsonl", "\n \n"), ("a.csv", ""), ("b.csv", "text,label\r\n"), ("a.tsv", "")]
    {
        let data = files.read(name, content).unwrap();
        assert!(data.is_empty());
        let [remark] = data.remarks().try_into().unwrap();
        assert!(remark.contains(name) && remark.contains("holds no rows"), "{remark}");
        let error = data.some().unwrap_err();
        assert!(error.to_string().contains(&format!("{name}: the file holds no rows")), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Data);
    }
}

#[test]
fn rows_that_teach_nothing_are_counted_with_the_line_of_the_first() {
    let files = Files::new();
    let fine = files.read("a.csv", "text,label\nw1,no\nw2,yes\n").unwrap().some().unwrap().several_labels().unwrap();
    assert!(fine.remarks().is_empty());

    let blank = files.read("b.csv", "text,label\r\nw1,no\r\n,yes\r\n \t,no\r\n").unwrap().some().unwrap();
    let [remark] = blank.remarks().try_into().unwrap();
    assert!(remark.contains("b.csv: 2 of 3 rows have a blank text (the first in line 3)"), "{remark}");
    let error = files.read("c.tsv", "text\tlabel\n\tno\n \tyes\n").unwrap().some().unwrap_err().to_string();
    assert!(error.contains("c.tsv: the text of all 2 rows is blank"), "{error}");

    let one = files.read("d.csv", "text,label\nw1,yes\nw2,yes\n").unwrap().some().unwrap();
    let [remark] = one.remarks().try_into().unwrap();
    assert!(remark.contains("d.csv: all 2 rows have one label") && !remark.contains("yes"), "{remark}");
    assert!(one.several_labels().unwrap_err().to_string().contains("d.csv: all 2 rows have one label"));
}

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
            if !rows.contains('"') {
                let text = text.replace(SECRET, &format!("{SECRET},{SECRET}")).replace(',', "\t");
                files.refused("c.tsv", &text, Some(line), "none of the job's");
            }
        }
    }
    for end in ["\n", "\r\n"] {
        let text =
            format!("{{\"text\": \"w1\", \"label\": \"no\"}}\n\n{{\"text\": \"{SECRET}\"}}\n").replace('\n', end);
        files.refused("a.jsonl", &text, Some(3), "no key \"label\"");
    }
}

#[test]
fn booleans_count_as_their_spelling_and_a_byte_order_mark_is_passed_over() {
    let files = Files::new();
    files.write("a.jsonl", "\u{feff}{\"text\": \"w1\", \"label\": true}\n");
    let labels = ["false".to_owned(), "true".to_owned()];
    let read = files.read_for("a.jsonl", Goal::Label(&labels), None, 16).unwrap();
    assert_eq!(read.rows.get(0).label(), Some(1));
    assert_eq!(files.read("a.csv", "\u{feff}text,label\nw1,no\n").unwrap().len(), 1);
}

#[test]
fn long_texts_are_cut_and_counted() {
    let files = Files::new();
    let read = files.read("a.csv", format!("text,label\n{},yes\nw1,no\n", "w5 ".repeat(40))).unwrap();
    assert_eq!((read.rows.get(0).ids.len(), read.seen.cut.count), (16, 1));
    assert_eq!(read.rows.get(0).ids.last(), Some(&3), "the closing token stays");
}

#[test]
fn texts_without_labels_are_read_for_prediction() {
    let files = Files::new();
    files.write("a.jsonl", "{\"text\": \"w1\"}\n");
    let read = files.read_for("a.jsonl", Goal::Answer, None, 16).unwrap();
    assert!(read.rows.get(0) == Example::unanswered(vec![2, 12, 3]) && read.remarks().is_empty());
}

#[test]
fn rows_are_kept_for_the_next_start_and_read_again_when_the_file_is_another() {
    let files = Files::new();
    let kept = files.dir.path().join("tokens-train");
    let (columns, labels, tokens) = (Columns::default(), ["no", "yes"].map(str::to_owned), files.tokens(16));
    let reading = Reading { columns: &columns, goal: Goal::Label(&labels), tokens: &tokens };
    let path = files.write("a.csv", "text,label\nw1,no\nw2,yes\n");
    let first = reading.read_or_kept(&path, &kept).unwrap();
    assert!(matches!(first.rows, RowStore::Memory(_)) && !kept.exists());
    let sha256 = first.sha256;
    let rows = first.kept_at(&kept).unwrap().rows.all();
    let again = reading.read_or_kept(&path, &kept).unwrap();
    assert!(matches!(again.rows, RowStore::File(_)) && again.sha256 == sha256 && again.rows.all() == rows);

    files.write("a.csv", "text,label\nw1,no\nw3,yes\n");
    let other = reading.read_or_kept(&path, &kept).unwrap();
    assert!(matches!(other.rows, RowStore::Memory(_)) && other.sha256 != sha256);
    let copy = files.write("copy.csv", "text,label\nw1,no\nw3,yes\n");
    let copy = reading.read(&copy).unwrap();
    let error = other.apart_from(&copy).unwrap_err().to_string();
    assert!(error.contains("a.csv: ") && error.contains("copy.csv holds the very rows"), "{error}");
}

#[test]
fn a_label_that_the_job_does_not_name_is_refused_by_line() {
    let files = Files::new();
    let good = "{\"text\": \"w1\", \"label\": \"no\"}\n";
    let row = format!("{good}{{\"text\": \"{SECRET}\", \"label\": \"{SECRET}\"}}\n");
    files.refused("a.jsonl", row, Some(2), "none of the job's 3 labels: \"no\", \"yes\", \"3\"");
    files.refused("a.csv", format!("text,label\nw1,no\n{SECRET},{SECRET}\n"), Some(3), "none of the job's");
    files.refused("b.csv", format!("text,label\n\"w1\nw2\",no\n{SECRET},{SECRET}\n"), Some(4), "none of the job's");
    files.refused("a.tsv", format!("text\tlabel\n{SECRET}\tmaybe {SECRET}\n"), Some(2), "none of the job's");
    files.refused("b.tsv", "text\tlabel\nw1\tNo\n", Some(2), "none of the job's");
}

#[test]
fn broken_json_is_refused_by_line() {
    let files = Files::new();
    for (row, word) in [
        (format!("{{\"text\": \"{SECRET}\", \"label\": yes}}"), "not valid JSON"),
        (format!("{{\"text\": \"{SECRET}"), "not valid JSON"),
        (format!("\"{SECRET}\""), "not a JSON object"),
        (format!("[\"{SECRET}\"]"), "not a JSON object"),
        (format!("{{\"{SECRET}\": 1, \"label\": \"yes\"}}"), "no key \"text\""),
        (format!("{{\"text\": \"{SECRET}\"}}"), "no key \"label\""),
        (format!("{{\"text\": [\"{SECRET}\"], \"label\": \"yes\"}}"), "\"text\" is not a string"),
        (format!("{{\"text\": \"w1\", \"label\": [\"{SECRET}\"]}}"), "\"label\" is no string"),
        (format!("{{\"text\": \"w1\", \"label\": null, \"{SECRET}\": 1}}"), "\"label\" is no string"),
    ] {
        files.refused("a.jsonl", format!("{{\"text\": \"w1\", \"label\": \"no\"}}\n{row}\n"), Some(2), word);
    }
    let mut bytes = format!("{{\"text\": \"{SECRET} ").into_bytes();
    bytes.extend(b"\xff\", \"label\": \"no\"}\n");
    files.refused("b.jsonl", bytes, Some(1), "not UTF-8");
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

#[test]
fn a_text_that_the_tokenizer_cannot_read_is_refused_by_line() {
    let files = Files::new();
    write_tokenizer(files.dir.path(), false);
    files.refused("a.csv", format!("text,label\nw1,no\n{SECRET},no\n"), Some(3), "tokenizer");
}

#[test]
fn files_that_are_missing_or_of_another_kind_are_refused() {
    let files = Files::new();
    files.refused("a.xlsx", SECRET, None, ".jsonl, .csv or .tsv");
    let error = files.read_for("missing.jsonl", Goal::Label(&[]), None, 16).unwrap_err();
    assert!(error.to_string().contains("missing.jsonl does not exist"), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Data);
    std::fs::create_dir(files.dir.path().join("folder.csv")).unwrap();
    let error = files.read_for("folder.csv", Goal::Label(&[]), None, 16).unwrap_err().to_string();
    assert!(error.contains("folder.csv is a folder"), "{error}");
    let tokenizer = files.write("tokenizer.json", format!("{{\"{SECRET}\": 1}}"));
    let error = Tokens::open(&tokenizer, 16).err().unwrap().to_string();
    assert!(error.contains("tokenizer.json") && !error.contains(SECRET), "{error}");
}

#[test]
fn an_example_does_not_show_its_tokens() {
    let files = Files::new();
    let read = files.read("a.csv", "text,label\nw77,yes\n").unwrap();
    let shown = format!("{read:?} {:#?}", read.rows.get(0));
    assert!(!shown.contains("88") && !shown.contains("label"), "{shown}");
}

#[test]
fn texts_to_continue_are_prompt_text_and_end() {
    let files = Files::new();
    let continued = |name: &str, content: &str, prompt: Option<&str>, max: usize| {
        files.write(name, content);
        let read = files.read_for(name, Goal::Continue { end_token: Some(99) }, prompt, max).unwrap();
        (read.seen, read.rows.all())
    };
    let rows = "prompt\ttext\nthe film\twas good\n\tw1\nthe film was\tw2\n";
    let (_, whole) = continued("a.tsv", rows, None, 16);
    let ids = |rows: &[Example]| rows.iter().map(|e| e.ids.clone()).collect::<Vec<_>>();
    // the test's tokenizer puts [CLS] = 2 and [SEP] = 3 around the first part
    assert_eq!(ids(&whole), [vec![2, 10, 4, 3, 99], vec![2, 12, 3, 99], vec![2, 13, 3, 99]]);
    assert!(whole.iter().all(|e| e.target == Target::After(0) && e.predicted() == (1..e.ids.len())));

    let (seen, given) = continued("b.tsv", rows, Some("prompt"), 16);
    assert_eq!(ids(&given), [vec![2, 8, 9, 3, 10, 4, 99], vec![2, 3, 12, 99], vec![2, 8, 9, 10, 3, 13, 99]]);
    let predicted: Vec<_> = given.iter().map(Example::predicted).collect();
    assert_eq!((predicted, seen.all_prompt.count), (vec![4..7, 2..4, 5..7], 0));

    // cut at the end; what the prompt alone fills has nothing to predict, and says so
    let (seen, cut) = continued("c.tsv", rows, Some("prompt"), 5);
    assert_eq!((seen.cut.count, seen.all_prompt.count, seen.all_prompt.first_line), (2, 1, 4));
    assert_eq!(ids(&cut), [vec![2, 8, 9, 3, 10], vec![2, 3, 12, 99], vec![2, 8, 9, 10, 3]]);
}
