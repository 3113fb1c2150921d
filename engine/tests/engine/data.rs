//! Data files as organisations have them, good and bad; and nothing of a bad row in what is said about it.

use blindsum_adapter::BaseShape;
use blindsum_engine::data::{Columns, Example, Goal, Reading, RowStore, Tokens};
use blindsum_files::{ExitCode, Exits};
use blindsum_testkit::models::write_tokenizer;

use crate::files::{Files, SECRET, shape};

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
    let [remark] = read.remarks().try_into().unwrap();
    assert!(remark.contains("a.csv: 1 of 2 rows were cut to 16 tokens (the first in line 2)"), "{remark}");
    // exactly as long as may be is not cut
    let words = "w5 ".repeat(14);
    assert!(files.read("a.csv", format!("text,label\n{words},yes\nw1,no\n")).unwrap().remarks().is_empty());
    // to be answered, and from the rows of an earlier start
    files.write("b.jsonl", format!("{{\"text\": \"{}\"}}\n", "word ".repeat(500)).repeat(20));
    let (columns, tokens) = (Columns::default(), files.tokens(16));
    let reading = Reading { columns: &columns, goal: Goal::Answer, tokens: &tokens };
    let (path, kept) = (files.dir.path().join("b.jsonl"), files.dir.path().join("kept"));
    for data in [
        reading.read_or_kept(&path, &kept, None).unwrap().kept_at(&kept),
        Ok(reading.read_or_kept(&path, &kept, None).unwrap()),
    ] {
        let [remark] = data.unwrap().remarks().try_into().unwrap();
        assert!(remark.contains("b.jsonl: 20 of 20 rows were cut to 16 tokens (the first in line 1)"), "{remark}");
    }
    assert!(kept.exists());
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
    let first = reading.read_or_kept(&path, &kept, None).unwrap();
    assert!(matches!(first.rows, RowStore::Memory(_)) && !kept.exists());
    let sha256 = first.sha256;
    let rows = first.kept_at(&kept).unwrap().rows.all();
    let again = reading.read_or_kept(&path, &kept, None).unwrap();
    assert!(matches!(again.rows, RowStore::File(_)) && again.sha256 == sha256 && again.rows.all() == rows);

    files.write("a.csv", "text,label\nw1,no\nw3,yes\n");
    let other = reading.read_or_kept(&path, &kept, None).unwrap();
    assert!(matches!(other.rows, RowStore::Memory(_)) && other.sha256 != sha256);
    let copy = files.write("copy.csv", "text,label\nw1,no\nw3,yes\n");
    let copy = reading.read(&copy).unwrap();
    let error = other.apart_from(&copy, false).unwrap_err().to_string();
    assert!(error.contains("a.csv: ") && error.contains("copy.csv holds the very rows"), "{error}");
}

#[test]
fn held_out_rows_that_are_training_rows_are_found_in_any_order_form_and_number() {
    let files = Files::new();
    let (columns, labels, tokens) = (Columns::default(), ["no", "yes"].map(str::to_owned), files.tokens(16));
    let reading = Reading { columns: &columns, goal: Goal::Label(&labels), tokens: &tokens };
    let read = |name: &str, text: &str| reading.read(&files.write(name, text)).unwrap();
    let train = read("train.csv", "text,label\nw1,no\nw2,yes\nw3,no\n");
    // Other columns, another order, format, spelling or label make no other row; other words do.
    let apart = read("apart.jsonl", "{\"text\": \"w1 w2\", \"label\": \"no\"}\n");
    assert_eq!(train.apart_from(&apart, true).unwrap(), None);
    let relabelled = read("relabelled.jsonl", "{\"text\": \" W1 \", \"label\": \"yes\"}\n");
    assert!(train.apart_from(&relabelled, true).unwrap_err().to_string().contains("1 of 1 held-out rows"));
    let some = "{\"text\": \"w4\", \"label\": \"no\"}\n{\"id\": 7, \"label\": \"no\", \"text\": \"w3\"}\n";
    let some = read("some.jsonl", &format!("{some}{}", "{\"label\": \"yes\", \"text\": \"w2\"}\n".repeat(2)));
    let error = train.apart_from(&some, true).unwrap_err().to_string();
    assert!(error.contains("some.jsonl: 3 of 4 held-out rows") && error.contains("train.csv"), "{error}");
    assert!(error.contains("the first is row 2") && error.contains("each record has one ε"), "{error}");
    let remark = train.apart_from(&some, false).unwrap().unwrap();
    assert!(remark.contains("3 of 4") && remark.contains("says little"), "{remark}");
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
        (format!("{{\"text\": \"w1\", \"text\": \"{SECRET}\", \"label\": \"no\"}}"), "the key \"text\" stands twice"),
        (format!("{{\"label\": \"no\", \"text\": \"{SECRET}\", \"label\": \"no\"}}"), "the key \"label\" stands twice"),
        // the same key in another spelling, and one that is not read
        (
            format!("{{\"text\": \"w1\", \"te\\u0078t\": \"{SECRET}\", \"label\": \"no\"}}"),
            "the key \"text\" stands twice",
        ),
        (format!("{{\"text\": \"w1\", \"{SECRET}\": 1, \"{SECRET}\": 1, \"label\": \"no\"}}"), "a key stands twice"),
    ] {
        files.refused("a.jsonl", format!("{{\"text\": \"w1\", \"label\": \"no\"}}\n{row}\n"), Some(2), word);
    }
    let mut bytes = format!("{{\"text\": \"{SECRET} ").into_bytes();
    bytes.extend(b"\xff\", \"label\": \"no\"}\n");
    files.refused("b.jsonl", bytes, Some(1), "not UTF-8");
}

#[test]
fn a_text_that_the_tokenizer_cannot_read_is_refused_by_line() {
    let files = Files::new();
    write_tokenizer(files.dir.path(), false);
    files.refused("a.csv", format!("text,label\nw1,no\n{SECRET},no\n"), Some(3), "tokenizer");
}

#[test]
fn a_token_beyond_the_vocabulary_is_refused_by_line_before_anything_is_trained() {
    let files = Files::new();
    // the test's words have the ids 0 to 110; the model's vocabulary ends before w98
    let small = BaseShape { vocab: 109, ..shape() };
    let rows = "{\"text\": \"w1\"}\n\n{\"text\": \"w97 w97 w98\"}\n";
    let path = files.write("a.jsonl", rows);
    let columns = Columns::default();
    let read = |shape: &BaseShape, goal, max| {
        let tokens = Tokens::open(&files.dir.path().join("tokenizer.json"), shape, max)?;
        Reading { columns: &columns, goal, tokens: &tokens }.read(&path)
    };
    for goal in [Goal::Answer, Goal::Continue { ends: &[3] }] {
        let error = read(&small, goal, 16).unwrap_err().to_string();
        assert!(
            error.contains("a.jsonl:3: ") && error.contains("beyond the base model's vocabulary of 109"),
            "{error}"
        );
        assert!(!error.contains("110") && !error.contains("w98"), "{error}");
        assert_eq!(read(&BaseShape { vocab: 110, ..shape() }, goal, 16).unwrap().len(), 2);
        // what was cut off is not looked up
        assert_eq!(read(&small, goal, 3).unwrap().len(), 2);
    }
    let error = read(&BaseShape { vocab: 3, ..shape() }, Goal::Answer, 16).unwrap_err().to_string();
    assert!(
        error.contains("tokenizer.json: its special tokens lie beyond the base model's vocabulary of 3"),
        "{error}"
    );
    for max in [0, 1, 2] {
        let error = read(&shape(), Goal::Answer, max).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: max_sequence_tokens leaves no room"), "{error}");
    }
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
    let error = Tokens::open(&tokenizer, &shape(), 16).err().unwrap().to_string();
    assert!(error.contains("tokenizer.json") && !error.contains(SECRET), "{error}");
}

#[test]
fn an_example_does_not_show_its_tokens() {
    let files = Files::new();
    let read = files.read("a.csv", "text,label\nw77,yes\n").unwrap();
    let shown = format!("{read:?} {:#?}", read.rows.get(0));
    assert!(!shown.contains("88") && !shown.contains("label"), "{shown}");
}
