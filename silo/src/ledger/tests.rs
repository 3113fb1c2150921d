//! Tests of the ledger: what it refuses, what survives a crash, and ten ways to overdraw it, none of which works.

use super::*;
use blindsum_engine::data::Identity;

const LIMIT: OverJobs = OverJobs { max_epsilon: 3.0, delta: 1e-5 };

/// A job of 100 steps, ε = 1.9 in all.
fn account(job: u8) -> Account {
    let noise = blindsum_privacy::Mechanism::propose(2_000, 200, 100, 1.9, 1e-5).unwrap().noise_multiplier;
    Account {
        job: Digest([job; 32]),
        job_name: format!("job-{job}"),
        federation: "test".into(),
        silo: "clinic-a".into(),
        purpose: Purpose::Training,
        file: "train.jsonl".into(),
        units: 200,
        tags: Digest([0; 32]),
        sampling_rate: 0.1,
        noise_multiplier: noise,
        steps: 100,
        epsilon_limit: 1.9,
        delta: 1e-5,
        time_unix_seconds: 0,
    }
}

fn units(range: std::ops::Range<u16>) -> Vec<Identity> {
    range.map(|i| Identity::of_words([format!("record {i}").as_str()])).collect()
}

fn open(dir: &tempfile::TempDir) -> Ledger {
    Ledger::open(&dir.path().join("ledger"), LIMIT).unwrap()
}

fn path(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("ledger").join(LEDGER_FILE)
}

/// Spends a whole job on these units.
fn whole_job(ledger: &mut Ledger, account: Account, units: &[Identity]) -> Result<Spent, LedgerError> {
    let (number, mut spent) = (ledger.admit(account, units)?, None);
    for round in 1..=5 {
        spent = Some(ledger.debit(number, round, round, 20)?);
    }
    Ok(spent.unwrap())
}

#[test]
fn within_a_job_epsilon_is_the_accountants_over_all_debits_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(&dir);
    let number = ledger.admit(account(1), &units(0..200)).unwrap();
    assert_eq!(ledger.now(number), Spent { in_job: 0.0, over_jobs: 0.0 });
    ledger.debit(number, 1, 1, 5).unwrap();
    let second = ledger.debit(number, 1, 2, 5).unwrap();
    let exact = blindsum_privacy::spent(0.1, account(1).noise_multiplier, 10, 1e-5);
    assert_eq!(second, Spent { in_job: exact, over_jobs: exact }, "one job alone costs no more than its own figure");
    drop(ledger);
    let mut ledger = open(&dir);
    assert_eq!(ledger.admit(account(1), &units(0..200)).unwrap(), number);
    assert_eq!((ledger.now(number), ledger.cut_bytes()), (second, 0));
    assert_eq!(ledger.spendings()[number].retries(), 1);
    assert_eq!(ledger.steps_left(number).unwrap(), (90, 90));
}

#[test]
fn a_debit_past_the_jobs_limit_is_refused_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(&dir);
    whole_job(&mut ledger, account(1), &units(0..200)).unwrap();
    let before = std::fs::read(path(&dir)).unwrap();
    let error = ledger.debit(0, 5, 6, 1).unwrap_err();
    assert!(matches!(error, LedgerError::Exhausted { retries: 0, debits: 5, .. }), "{error}");
    assert!(error.spent_up());
    assert_eq!(std::fs::read(path(&dir)).unwrap(), before);
}

/// What a second job gets that brings the first one's records once more, in some disguise.
fn second_job_on(rows: &[Identity]) -> LedgerError {
    let dir = tempfile::tempdir().unwrap();
    whole_job(&mut open(&dir), account(1), &units(0..200)).unwrap();
    whole_job(&mut open(&dir), account(2), rows).unwrap_err()
}

#[test]
fn overdraft_1_the_same_rows_in_another_job_and_overdraft_2_in_another_order() {
    let error = second_job_on(&units(0..200));
    let LedgerError::OverJobs { shared, others, .. } = &error else { panic!("{error}") };
    assert_eq!(shared.to_string(), "200 of 200 units");
    assert!(*others <= 1.9, "one other job alone spent what it states: {others}");
    assert!(error.to_string().contains("limit of 3"), "{error}");
    let mut shuffled = units(0..200);
    shuffled.rotate_left(77);
    shuffled.swap(3, 150);
    assert!(matches!(second_job_on(&shuffled), LedgerError::OverJobs { shared: InOtherJobs { number: 200, .. }, .. }));
}

#[test]
fn overdraft_3_one_row_more_or_less_4_half_of_the_rows_5_one_old_row_among_new_ones() {
    for (range, shared_rows) in [(0..201, 200), (0..199, 199), (0..100, 100), (199..400, 1)] {
        let error = second_job_on(&units(range));
        assert!(matches!(error, LedgerError::OverJobs { shared, .. } if shared.number == shared_rows), "{error}");
    }
    // Rows of which none was used are free, and nobody else pays for them.
    let dir = tempfile::tempdir().unwrap();
    whole_job(&mut open(&dir), account(1), &units(0..200)).unwrap();
    let spent = whole_job(&mut open(&dir), account(2), &units(200..400)).unwrap();
    assert_eq!(spent.in_job, spent.over_jobs);
}

/// Fifty persons of four rows each, and then these rows: all that an account of persons tags.
fn persons() -> Vec<Identity> {
    (0..50).map(|i| Identity::of_person(&format!("person {i}"))).chain(units(0..200)).collect()
}

#[test]
fn persons_and_records_meet_in_the_ledger_whichever_was_first() {
    let of_persons = |job| Account { units: 50, ..account(job) };
    let spent = |account, tagged: &[Identity]| {
        let dir = tempfile::tempdir().unwrap();
        whole_job(&mut open(&dir), account, tagged).unwrap();
        dir
    };
    let refused = |dir: &tempfile::TempDir, account, tagged: &[Identity]| {
        let (error, known) = (whole_job(&mut open(dir), account, tagged).unwrap_err(), "are in other jobs too");
        assert!(error.to_string().contains(known), "{error}");
        let LedgerError::OverJobs { would_be, others, shared, .. } = error else { panic!("{error}") };
        assert!(would_be > LIMIT.max_epsilon && others > 1.0, "{would_be} {others}");
        shared.to_string()
    };
    // The persons' job first: each of its rows is known, and so is each person, whatever it says now.
    let dir = spent(of_persons(1), &persons());
    assert_eq!(refused(&dir, account(2), &units(0..200)), "200 of 200 units");
    assert_eq!(refused(&dir, account(2), &units(199..399)), "1 of 200 units");
    let rewritten = [&persons()[..50], &units(200..400)].concat();
    assert_eq!(refused(&dir, of_persons(2), &rewritten), "50 of 250 persons and rows");
    let others: Vec<Identity> = (50..100).map(|i| Identity::of_person(&format!("person {i}"))).collect();
    assert_eq!(refused(&dir, of_persons(2), &[&others[..], &units(150..350)].concat()), "50 of 250 persons and rows");
    assert_eq!(open(&dir).who(&Identity::of_words(["Record 7"])).unwrap(), [0]);
    assert_eq!(open(&dir).who(&Identity::of_person("person 7")).unwrap(), [0]);
    let apart = whole_job(&mut open(&dir), of_persons(2), &[&others[..], &units(200..400)].concat()).unwrap();
    assert_eq!(apart.in_job, apart.over_jobs, "other persons with other rows");
    // The records' job first.
    let dir = spent(account(1), &units(0..200));
    assert_eq!(refused(&dir, of_persons(2), &persons()), "200 of 250 persons and rows");
}

#[test]
fn overdraft_6_the_same_job_again_with_other_rows_or_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(&dir);
    whole_job(&mut ledger, account(1), &units(0..200)).unwrap();
    let error = ledger.admit(account(1), &units(0..199)).unwrap_err();
    assert!(matches!(error, LedgerError::OtherData { .. }), "{error}");
    let error = ledger.admit(Account { units: 199, ..account(1) }, &units(0..200)).unwrap_err();
    assert!(matches!(error, LedgerError::OtherData { .. }), "{error}");
    let louder = Account { noise_multiplier: 50.0, ..account(1) };
    let error = ledger.admit(louder, &units(0..200)).unwrap_err();
    assert!(matches!(error, LedgerError::OtherMechanism { what: "noise multiplier", .. }), "{error}");
    // Alone, each run is another one.
    let alone = Account { purpose: Purpose::Alone, silo: String::new(), ..account(1) };
    assert!(matches!(ledger.admit(alone, &units(0..200)), Err(LedgerError::OverJobs { .. })));
}

#[test]
fn overdraft_7_two_processes_at_once_decide_on_what_both_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (open(&dir), open(&dir));
    // Either may begin: neither job has spent anything yet.
    let a = one.admit(account(1), &units(0..200)).unwrap();
    let b = other.admit(account(2), &units(100..300)).unwrap();
    let mut refused = 0;
    for round in 1..=10 {
        for (ledger, number) in [(&mut one, a), (&mut other, b)] {
            match ledger.debit(number, round, round, 10) {
                Ok(_) => assert_eq!(refused, 0, "what is refused stays refused"),
                Err(LedgerError::OverJobs { would_be, .. }) => {
                    assert!(would_be > LIMIT.max_epsilon);
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused > 1);
    let over_jobs = open(&dir).inspect(b).unwrap().0.over_jobs;
    assert!(over_jobs <= LIMIT.max_epsilon && over_jobs > 0.8 * LIMIT.max_epsilon, "{over_jobs}");
    // The same line may not be appended twice by two writers: every line is there.
    assert_eq!(open(&dir).spendings().iter().map(|s| s.debits.len()).sum::<usize>(), 20 - refused);
}

/// A ledger with one job and the mark that its silo has of it.
fn spent_once() -> (tempfile::TempDir, LedgerMark) {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(&dir);
    let number = ledger.admit(account(1), &units(0..200)).unwrap();
    for round in 1..=3 {
        ledger.debit(number, round, round, 5).unwrap();
    }
    (dir, ledger.mark())
}

fn remembered(dir: &tempfile::TempDir, mark: Option<&LedgerMark>) -> Result<(), LedgerError> {
    let ledger = open(dir);
    let number = ledger.find(Digest([1; 32]), "clinic-a", Purpose::Training);
    ledger.remembered(mark, Path::new("state/ledger-mark.json"), number, &[(1, 1), (2, 2), (3, 4)])
}

#[test]
fn overdraft_8_a_ledger_that_is_cut_or_put_back_9_or_begun_anew() {
    let (dir, mark) = spent_once();
    remembered(&dir, Some(&mark)).unwrap();
    let (whole, head) = (std::fs::read_to_string(path(&dir)).unwrap(), dir.path().join("ledger").join(HEAD_FILE));
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    for kept in [1, 2, 4] {
        std::fs::write(path(&dir), lines[..kept].concat()).unwrap();
        // Cut alone: its own head tells, and that it is gone.
        let cut = || Ledger::open(&dir.path().join("ledger"), LIMIT).unwrap_err();
        assert!(cut().to_string().contains("remembers a line 5"), "{kept}: {}", cut());
        let last = std::fs::read(&head).unwrap();
        std::fs::remove_file(&head).unwrap();
        assert!(kept == 1 || cut().to_string().contains("head.json is gone"), "{kept}");
        // An old copy of the whole folder: the silo's mark tells.
        let line = lines[kept - 1].trim_end();
        let link = line[line.len() - 66..line.len() - 2].parse().unwrap();
        LedgerMark { ledger: mark.ledger, lines: kept, link }.write(&head).unwrap();
        let error = remembered(&dir, Some(&mark)).unwrap_err();
        assert!(matches!(error, LedgerError::RolledBack { .. }), "{kept}: {error}");
        // Also where the mark is gone, the journal remembers.
        let error = remembered(&dir, None).unwrap_err();
        assert!(error.to_string().contains("of which it holds no debit"), "{kept}: {error}");
        std::fs::write(&head, last).unwrap();
    }
    std::fs::remove_dir_all(dir.path().join("ledger")).unwrap();
    let error = remembered(&dir, Some(&mark)).unwrap_err();
    assert!(matches!(error, LedgerError::OtherLedger { .. }), "{error}");
    assert!(matches!(remembered(&dir, None), Err(LedgerError::RolledBack { .. })));
}

#[test]
fn overdraft_10_a_line_that_is_changed_removed_or_moved_and_tags_that_are() {
    let (dir, _) = spent_once();
    let whole = std::fs::read_to_string(path(&dir)).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let without: String = [&lines[..2], &lines[3..]].concat().concat();
    let moved: String = [lines[0], lines[1], lines[3], lines[2], lines[4]].concat();
    let fewer = whole.replacen("\"steps\":5", "\"steps\":1", 1);
    for (changed, line) in
        [(without, 3), (moved, 3), (fewer, 3), (whole.replacen("\"units\":200", "\"units\":201", 1), 2)]
    {
        assert_ne!(changed, whole);
        std::fs::write(path(&dir), changed).unwrap();
        let error = Ledger::open(&dir.path().join("ledger"), LIMIT).unwrap_err();
        assert!(matches!(error, LedgerError::Damaged { line: found, .. } if found == line), "{line}: {error}");
    }
    std::fs::write(path(&dir), &whole).unwrap();
    let ledger = open(&dir);
    let tags = dir.path().join("ledger/tags").join(format!("{}.tags", ledger.spendings()[0].account.tags));
    let sound = std::fs::read(&tags).unwrap();
    let (key, away) = (dir.path().join("ledger/key"), dir.path().join("key"));
    std::fs::rename(&key, &away).unwrap();
    let error = Ledger::open(&dir.path().join("ledger"), LIMIT).unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { .. }) && error.to_string().contains("is gone"), "{error}");
    assert!(!key.exists());
    std::fs::rename(&away, &key).unwrap();
    for changed in [sound[16..].to_vec(), sound[1..].to_vec(), Vec::new()] {
        std::fs::write(&tags, changed).unwrap();
        let error = open(&dir).admit(account(2), &units(0..100)).unwrap_err();
        assert!(matches!(error, LedgerError::Tags { account: 0, .. }), "{error}");
    }
    std::fs::remove_file(&tags).unwrap();
    assert!(matches!(open(&dir).verify_tags(), Err(LedgerError::Tags { .. })));
}

#[test]
fn a_ledger_that_changes_under_an_open_one_stops_it() {
    let (dir, _) = spent_once();
    let mut ledger = open(&dir);
    let number = ledger.admit(account(1), &units(0..200)).unwrap();
    let whole = std::fs::read(path(&dir)).unwrap();
    std::fs::write(path(&dir), &whole[..whole.len() / 2]).unwrap();
    let error = ledger.debit(number, 4, 4, 5).unwrap_err();
    assert!(error.to_string().contains("became shorter") && !error.spent_up(), "{error}");
    std::fs::remove_file(path(&dir)).unwrap();
    std::fs::write(path(&dir), &whole).unwrap();
    let error = ledger.debit(number, 4, 4, 5).unwrap_err();
    assert!(error.to_string().contains("replaced by another file"), "{error}");
}

#[test]
fn a_torn_last_line_is_cut_and_said() {
    let (dir, _) = spent_once();
    let mut whole = std::fs::read(path(&dir)).unwrap();
    whole.extend(b"{\"entry\":\"debit\",\"account\":0,\"rou");
    std::fs::write(path(&dir), &whole).unwrap();
    let mut ledger = open(&dir);
    assert!(ledger.spendings()[0].debits.len() == 3 && ledger.cut_bytes() > 0);
    let number = ledger.admit(account(1), &units(0..200)).unwrap();
    ledger.debit(number, 4, 4, 5).unwrap();
    drop(ledger);
    let ledger = open(&dir);
    assert!(ledger.spendings()[0].debits.len() == 4 && ledger.cut_bytes() == 0);
}

#[test]
fn after_a_full_disk_no_line_follows_the_torn_one() {
    let (dir, _) = spent_once();
    let mut ledger = open(&dir);
    let number = ledger.admit(account(1), &units(0..200)).unwrap();
    let good = ledger.chain.break_disk(b"{\"entry\":\"debit\",\"acc");
    let error = ledger.debit(number, 4, 4, 5).unwrap_err();
    assert!(matches!(error, LedgerError::Io { .. }), "{error}");
    // The disk is back, the torn line still there.
    ledger.chain.mend_disk(good);
    ledger.debit(number, 4, 5, 5).unwrap();
    assert!(ledger.cut_bytes() > 0);
    assert_eq!(open(&dir).spendings()[0].debits.len(), 4);
}

#[test]
fn who_finds_the_jobs_that_may_hold_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(&dir);
    ledger.admit(account(1), &units(0..200)).unwrap();
    ledger.admit(account(2), &units(150..250)).unwrap();
    ledger.admit(Account { purpose: Purpose::HeldOut, sampling_rate: 1.0, ..account(2) }, &units(250..260)).unwrap();
    let found = |text: &str| ledger.who(&Identity::of_words([text])).unwrap();
    assert_eq!(found("Record  7 "), [0]);
    assert_eq!(found("record 160"), [0, 1]);
    assert_eq!(found("record 255"), [2]);
    assert!(found("record 999").is_empty());
}

#[test]
fn a_tag_says_nothing_without_the_key() {
    let (one, other) = (TagKey::new(&[1; 32]), TagKey::new(&[2; 32]));
    let unit = Identity::of_words(["a text that somebody guesses"]);
    assert_ne!(one.tag(&unit), other.tag(&unit));
    assert_ne!(one.tag(&unit), unit.0);
    assert!(!format!("{one:?}").contains(|c: char| c.is_ascii_digit()));
    let mode = |path: PathBuf| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions());
    let (dir, _) = spent_once();
    assert_eq!(mode(dir.path().join("ledger/key")) & 0o777, 0o600);
    let key = dir.path().join("ledger/key");
    let open_to = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&key, open_to(0o644)).unwrap();
    let error = Ledger::look(&dir.path().join("ledger"), LIMIT).unwrap_err();
    assert!(error.to_string().contains("chmod 600") && error.to_string().contains("keep the key"), "{error}");
    std::fs::set_permissions(&key, open_to(0o600)).unwrap();
    assert_eq!(mode(path(&dir)) & 0o777, 0o600);
    assert_eq!(mode(dir.path().join("ledger")) & 0o777, 0o700);
}

#[test]
fn a_ledger_whose_file_is_gone_or_emptied_beside_its_tags_is_not_begun_anew() {
    for emptied in [None, Some(0), Some(20)] {
        let (dir, _) = spent_once();
        let folder = dir.path().join("ledger");
        match emptied {
            None => std::fs::remove_file(path(&dir)).unwrap(),
            Some(bytes) => File::options().write(true).open(path(&dir)).unwrap().set_len(bytes).unwrap(),
        }
        for _ in 0..2 {
            let error = Ledger::open(&folder, LIMIT).unwrap_err();
            assert!(matches!(error, LedgerError::Lost { .. }) && error.to_string().contains("tags"), "{error}");
            assert!(matches!(Ledger::look(&folder, LIMIT), Err(LedgerError::Lost { .. })));
        }
        // Also where the key went with it.
        let _ = std::fs::remove_file(path(&dir));
        std::fs::remove_file(folder.join(KEY_FILE)).unwrap();
        assert!(matches!(Ledger::open(&folder, LIMIT), Err(LedgerError::Lost { .. })));
        assert!(!folder.join(KEY_FILE).exists(), "a new key would be in the way of the old ledger");
    }
}

#[test]
fn a_start_that_was_killed_at_any_point_is_followed_by_one_that_works() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        open(&dir);
        std::fs::read(path(&dir)).unwrap()
    };
    for kept in (0..=whole.len()).rev().step_by(whole.len() / 12) {
        let dir = tempfile::tempdir().unwrap();
        open(&dir);
        File::options().write(true).open(path(&dir)).unwrap().set_len(kept as u64).unwrap();
        let mut ledger = open(&dir);
        let number = ledger.admit(account(1), &units(0..200)).unwrap();
        ledger.debit(number, 1, 1, 5).unwrap();
    }
    // The key is there or not, never in part; whoever finds it goes on with it.
    let dir = tempfile::tempdir().unwrap();
    open(&dir);
    std::fs::remove_file(path(&dir)).unwrap();
    let key = std::fs::read(dir.path().join("ledger/key")).unwrap();
    open(&dir);
    assert_eq!(std::fs::read(dir.path().join("ledger/key")).unwrap(), key);
}

#[test]
fn a_last_line_that_only_lacks_its_end_is_still_a_debit() {
    let (dir, mark) = spent_once();
    let whole = std::fs::read(path(&dir)).unwrap();
    std::fs::write(path(&dir), &whole[..whole.len() - 1]).unwrap();
    assert_eq!(open(&dir).spendings()[0].debits.len(), 3);
    assert_eq!(std::fs::read(path(&dir)).unwrap(), whole);
    remembered(&dir, Some(&mark)).unwrap();
}

#[test]
fn lines_that_could_not_be_taken_in_are_not_missing_from_later_sums() {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (open(&dir), open(&dir));
    let a = one.admit(account(1), &units(0..200)).unwrap();
    let b = other.admit(account(2), &units(0..200)).unwrap();
    let b_alone = other.admit(account(3), &units(0..10)).unwrap();
    other.debit(b, 1, 1, 60).unwrap();
    let tags = dir.path().join("ledger/tags").join(format!("{}.tags", other.spendings()[b_alone].account.tags));
    let away = dir.path().join("away");
    std::fs::rename(&tags, &away).unwrap();
    assert!(matches!(one.debit(a, 1, 1, 60), Err(LedgerError::Tags { .. })));
    std::fs::rename(&away, &tags).unwrap();
    // Both debits together pass the limit; who missed the other's line would not know.
    let error = one.debit(a, 1, 2, 90).unwrap_err();
    assert!(error.to_string().contains("start again"), "{error}");
    assert_eq!(open(&dir).spendings()[b].steps(), 60);
}

#[test]
fn limits_that_limit_nothing_are_refused() {
    let (dir, _) = spent_once();
    for (max_epsilon, delta) in
        [(f64::INFINITY, 1e-5), (f64::NAN, 1e-5), (0.0, 1e-5), (3.0, 1.0), (3.0, 1e300), (3.0, 0.0)]
    {
        let limit = OverJobs { max_epsilon, delta };
        for opened in [Ledger::open(&dir.path().join("ledger"), limit).map(Some), Ledger::look(dir.path(), limit)] {
            let error = opened.unwrap_err();
            assert!(matches!(error, LedgerError::Limit { .. }), "{error}");
        }
    }
}

#[test]
fn a_ledger_says_under_which_limits_it_was_used() {
    let (dir, _) = spent_once();
    assert_eq!(open(&dir).limits(), [LIMIT]);
    let wider = OverJobs { max_epsilon: 20.0, delta: 1e-5 };
    let mut ledger = Ledger::open(&dir.path().join("ledger"), wider).unwrap();
    let number = ledger.admit(account(1), &units(0..200)).unwrap();
    ledger.debit(number, 4, 4, 5).unwrap();
    assert_eq!(open(&dir).limits(), [LIMIT, wider]);
    // What one job alone spends holds at its own δ, which the organisation allows or not.
    let error = ledger.admit(Account { delta: 2e-5, ..account(2) }, &units(300..500)).unwrap_err();
    assert!(matches!(error, LedgerError::Delta { .. }), "{error}");
}
