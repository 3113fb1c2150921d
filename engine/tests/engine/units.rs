//! Rows of persons: brought together whatever their order and format, capped, and refused where it is not said whose.

use blindsum_engine::data::{
    Columns, DataError, Dataset, Example, Goal, Identity, Reading, RowStore, TrainShare, UnitColumn,
};

use crate::files::{Files, SECRET};

fn columns(rows_max: u32) -> Columns {
    Columns { unit: Some(UnitColumn { name: "who".to_owned(), rows_max }), ..Columns::default() }
}

/// Reads rows to answer.
fn read(files: &Files, name: &str, content: &str, rows_max: u32) -> Result<Dataset, DataError> {
    let path = files.write(name, content);
    Reading { columns: &columns(rows_max), goal: Goal::Answer, tokens: &files.tokens(16) }.read(&path)
}

fn units(data: &Dataset) -> Vec<Vec<Example>> {
    (0..data.units()).map(|i| data.rows.unit(i)).collect()
}

#[test]
fn the_three_formats_give_the_same_persons() {
    let files = Files::new();
    let json = "{\"text\": \"w1\", \"who\": \"P7\"}\n{\"who\": 8, \"text\": \"w2\"}\n{\"text\": \"w3 w4\", \"who\": \" P7 \"}\n";
    let json = read(&files, "a.jsonl", json, 5).unwrap();
    let csv = read(&files, "a.csv", "who,n,text\nP7,1,w1\n8,2,w2\n\"P7\",3,w3 w4\n", 5).unwrap();
    let tsv = read(&files, "a.tsv", "text\twho\nw1\tP7\nw2\t8\nw3 w4\t P7\n", 5).unwrap();
    let example = |ids: &[u32]| Example::unanswered([&[2], ids, &[3]].concat());
    let expected = vec![vec![example(&[12]), example(&[14, 15])], vec![example(&[13])]];
    for data in [&json, &csv, &tsv] {
        assert_eq!((data.len(), data.units(), units(data)), (3, 2, expected.clone()));
        assert_eq!(data.unit_identities(), ["P7", "8"].map(Identity::of_person));
        let records = ["w1", "w3 w4", "w2"].map(|words| Identity::of_words([words]));
        assert_eq!(data.identities, [data.unit_identities(), &records].concat());
        assert_eq!((data.whose(), data.remarks()), (" of 2 persons".to_owned(), Vec::new()));
    }
}

#[test]
fn no_person_has_more_rows_than_count_and_those_left_out_are_remarked() {
    let files = Files::new();
    let line = |i: usize| format!("{},w{} {}\n", if i.is_multiple_of(3) { "a" } else { "b" }, 1 + i, "w5 ".repeat(i));
    let content = format!("who,text\n{}c,w99\n", (0..30).map(line).collect::<String>());
    let data = read(&files, "a.csv", &content, 4).unwrap();
    let kept = units(&data);
    assert_eq!(kept.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 1]);
    let remarks = data.remarks();
    let [cut, left_out] = &remarks[..] else { panic!("{remarks:?}") };
    assert!(cut.contains("of 9 rows were cut"), "only rows that stay: {cut}");
    let wanted = "a.csv: 22 of 31 rows are left out (the first in line ";
    assert!(left_out.contains(wanted) && left_out.contains("more than the 4 that privacy.rows_max"), "{left_out}");
    // the same rows stay in another order, in another format and in other company
    let turned: String = (0..30).rev().map(line).collect();
    let turned = read(&files, "b.csv", &format!("who,text\n{turned}"), 4).unwrap();
    let alone: String = (0..30).step_by(3).map(line).collect();
    let alone = read(&files, "c.csv", &format!("who,text\n{alone}"), 4).unwrap();
    let a = Identity::of_person("a");
    let place = |data: &Dataset| data.unit_identities().iter().position(|who| *who == a).unwrap();
    let mut other = turned.rows.unit(place(&turned));
    other.reverse();
    assert_eq!((other, alone.rows.unit(0)), (kept[0].clone(), kept[0].clone()));
    assert!(read(&files, "a.csv", &content, 20).unwrap().remarks().iter().all(|remark| !remark.contains("left out")));
}

#[test]
fn a_row_of_nobody_is_refused_by_file_and_line() {
    let files = Files::new();
    let refused = |name: &str, content: String, place: &str, word: &str| {
        let error = read(&files, name, &content, 3).unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(&format!("{name}:{place}")) && shown.contains(word), "{shown}");
        assert!(!format!("{shown}{error:?}").contains(SECRET), "{shown}");
    };
    let json = |rest: &str| format!("{{\"text\": \"w1\", \"who\": 1}}\n{{\"text\": \"{SECRET}\"{rest}}}\n");
    refused("a.jsonl", json(""), "2: ", "the object has no key \"who\"");
    refused("a.jsonl", json(", \"who\": \" \""), "2: ", "the value of \"who\" is blank");
    refused("a.jsonl", json(", \"who\": null"), "2: ", "the value of \"who\" is no string");
    refused("a.jsonl", json(&format!(", \"who\": \"{SECRET}\", \"who\": 3")), "2: ", "the key \"who\" stands twice");
    refused("a.csv", format!("text,who\n{SECRET},\u{a0}\n"), "2: ", "the value of \"who\" is blank");
    refused("a.csv", format!("text,whose\n{SECRET},1\n"), "1: ", "no column named \"who\"");
    refused("a.tsv", format!("who\ttext\twho\n1\t{SECRET}\t1\n"), "1: ", "more than one column named \"who\"");
}

#[test]
fn held_out_rows_of_a_training_person_or_with_the_words_of_a_training_row_are_refused() {
    let files = Files::new();
    let data = |name: &str, content: &str| read(&files, name, content, 2).unwrap();
    let train = data("train.csv", "who,text\nann,w1\nben,w2\nann,w3\n");
    let apart = data("apart.csv", "who,text\ncat,w4\nAnn,w5\n");
    assert_eq!(train.apart_from(&apart, true).unwrap(), None);
    let shared = data("shared.csv", "who,text\ncat,w7\nben,w8\ncat,w9\n");
    let error = train.apart_from(&shared, true).unwrap_err().to_string();
    let wanted = "shared.csv: 1 of 2 persons with held-out rows have rows in the training file ";
    assert!(error.contains(wanted) && error.contains("train.csv"), "{error}");
    let copied = data("copied.csv", "text,who\nw4,cat\n W3,dan\nw5,cat\n");
    let error = train.apart_from(&copied, true).unwrap_err().to_string();
    let wanted = "copied.csv: 1 of 3 held-out rows are rows of the training file ";
    assert!(error.contains(wanted) && error.contains("train.csv too:"), "the same words of another person: {error}");
}

#[test]
fn persons_are_kept_for_the_next_start() {
    let files = Files::new();
    let path = files.write("a.csv", "who,text\nann,w1\nben,w2\nann,w3\nann,w4\n");
    let kept = files.dir.path().join("tokens-train");
    let (mut columns, tokens) = (columns(2), files.tokens(16));
    let open = |columns: &Columns| {
        Reading { columns, goal: Goal::Answer, tokens: &tokens }.read_or_kept(&path, &kept, None).unwrap()
    };
    let first = open(&columns);
    let (wanted, identities, remarks) = (units(&first), first.identities.clone(), first.remarks());
    assert!(remarks.len() == 1 && wanted.len() == 2, "{remarks:?}");
    let again = first.kept_at(&kept).unwrap();
    for data in [again, open(&columns)] {
        assert!(matches!(data.rows, RowStore::File(_)));
        assert_eq!((units(&data), &data.identities, data.remarks()), (wanted.clone(), &identities, remarks.clone()));
    }
    // another cap, or none, means other rows
    columns.unit = Some(UnitColumn { name: "who".to_owned(), rows_max: 3 });
    assert_eq!((open(&columns).len(), open(&Columns::default()).units()), (4, 4));
}

#[test]
fn a_share_of_the_rows_or_persons_is_the_same_at_every_start_and_in_any_company() {
    let files = Files::new();
    let kept = files.dir.path().join("tokens-train");
    let tokens = files.tokens(16);
    let open = |name: &str, columns: &Columns, part| {
        let reading = Reading { columns, goal: Goal::Answer, tokens: &tokens };
        let share = Some(TrainShare::new(part, [7; 32]));
        reading.read_or_kept(&files.dir.path().join(name), &kept, share).unwrap()
    };
    let line = |i: usize| format!("p{},w{}\n", i / 3, i % 90);
    files.write("a.csv", format!("who,text\n{}", (0..90).map(line).collect::<String>()));
    files.write("b.csv", format!("who,text\n{}", (0..150).rev().map(line).collect::<String>()));
    for (columns, units) in [(Columns::default(), 90), (columns(2), 30)] {
        let half = open("a.csv", &columns, 0.5);
        let (identities, remarks) = (half.unit_identities().to_vec(), half.remarks());
        assert!(identities.len().abs_diff(units / 2) < units / 3, "{} of {units}", identities.len());
        let wanted = format!("a.csv: {} of 90 rows are not brought in", half.seen.apart.count);
        assert!(remarks.iter().any(|remark| remark.contains(&wanted)), "{remarks:?}");
        let rows = 90 - half.seen.apart.count - half.seen.left_out.count;
        assert_eq!(half.len() as u64, rows);
        // kept, and another share is another file
        half.kept_at(&kept).unwrap();
        let again = open("a.csv", &columns, 0.5);
        assert!(matches!(again.rows, RowStore::File(_)));
        assert_eq!((again.unit_identities(), again.remarks()), (&identities[..], remarks));
        let third = open("a.csv", &columns, 0.3).unit_identities().to_vec();
        assert!(third.len() < identities.len() && third.iter().all(|who| identities.contains(who)));
        let other = open("b.csv", &columns, 0.5).unit_identities().to_vec();
        assert!(identities.iter().all(|who| other.contains(who)));
    }
    let none = open("a.csv", &Columns::default(), 1e-9).some().unwrap_err().to_string();
    assert!(none.contains("none of its 90 rows is brought in: choose a larger data.train_share"), "{none}");
}
