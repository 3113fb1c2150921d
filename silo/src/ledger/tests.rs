//! Tests of the ledger: what it refuses, what survives a crash.

use super::*;

fn covers() -> Covers {
    Covers {
        schema: 1,
        job: Digest([0xaa; 32]),
        train_file: "train.jsonl".into(),
        train_sha256: Digest([0xbb; 32]),
        records: 2000,
        sampling_rate: 0.02,
        noise_multiplier: 1.0,
        clip_norm: 0.5,
        expected_batch_examples: 40.0,
        delta: 1e-5,
        epsilon_limit: 100.0,
    }
}

fn open(dir: &tempfile::TempDir, covers: Covers) -> Result<Ledger, LedgerError> {
    Ledger::open(&dir.path().join("ledger.jsonl"), covers)
}

#[test]
fn epsilon_covers_all_debits_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(&dir, covers()).unwrap();
    assert_eq!(ledger.epsilon_so_far(), 0.0);
    let first = ledger.debit(1, 1, 5).unwrap();
    let second = ledger.debit(1, 2, 5).unwrap();
    assert!(second > first && first > 0.0);
    assert_eq!(second, blindsum_privacy::spent(0.02, 1.0, 10, 1e-5));
    drop(ledger);
    let ledger = open(&dir, covers()).unwrap();
    assert_eq!(ledger.debits().len(), 2);
    assert_eq!(ledger.epsilon_so_far(), second);
    assert_eq!(ledger.cut_bytes(), 0);
}

#[test]
fn a_debit_past_the_limit_is_refused_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let limit = blindsum_privacy::spent(0.02, 1.0, 10, 1e-5);
    let mut ledger = open(&dir, Covers { epsilon_limit: limit, ..covers() }).unwrap();
    ledger.debit(1, 1, 5).unwrap();
    ledger.debit(2, 2, 5).unwrap();
    let error = ledger.debit(2, 3, 1).unwrap_err();
    assert!(matches!(error, LedgerError::Exhausted { retries: 0, debits: 2, .. }), "{error}");
    assert_eq!(ledger.debits().len(), 2);
    drop(ledger);
    assert_eq!(open(&dir, covers()).unwrap().debits().len(), 2);
}

#[test]
fn another_job_other_data_and_another_mechanism_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir, covers()).unwrap().debit(1, 1, 5).unwrap();
    let error = open(&dir, Covers { job: Digest([0xcc; 32]), ..covers() }).unwrap_err();
    assert!(matches!(error, LedgerError::OtherJob { .. }), "{error}");
    let error = open(&dir, Covers { train_sha256: Digest([0xdd; 32]), ..covers() }).unwrap_err();
    assert!(matches!(error, LedgerError::OtherData { .. }), "{error}");
    assert!(error.to_string().contains("new job with a new state_dir"), "{error}");
    let error = open(&dir, Covers { records: 1999, ..covers() }).unwrap_err();
    assert!(matches!(error, LedgerError::OtherData { .. }), "{error}");
    let error = open(&dir, Covers { noise_multiplier: 0.9, ..covers() }).unwrap_err();
    assert!(matches!(error, LedgerError::OtherMechanism { what: "noise multiplier", .. }), "{error}");
}

#[test]
fn a_torn_last_line_is_cut_and_said_a_damaged_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(&dir, covers()).unwrap();
    ledger.debit(1, 1, 5).unwrap();
    ledger.debit(2, 2, 5).unwrap();
    drop(ledger);
    let path = dir.path().join("ledger.jsonl");
    let whole = std::fs::read(&path).unwrap();

    std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    let mut ledger = open(&dir, covers()).unwrap();
    assert_eq!(ledger.debits().len(), 1);
    assert!(ledger.cut_bytes() > 0);
    ledger.debit(2, 3, 5).unwrap();
    drop(ledger);
    assert_eq!(open(&dir, covers()).unwrap().debits().len(), 2);

    let mut text = String::from_utf8(whole).unwrap();
    text = text.replacen("\"round\":1", "\"round\":x", 1);
    std::fs::write(&path, text).unwrap();
    let error = open(&dir, covers()).unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { line: 2, .. }), "{error}");
}

#[test]
fn after_a_full_disk_no_line_follows_the_torn_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(&dir, covers()).unwrap();
    ledger.debit(1, 1, 5).unwrap();
    let good = ledger.file.try_clone().unwrap();
    ledger.break_disk(b"{\"round\":1,\"atte");
    let error = ledger.debit(1, 2, 5).unwrap_err();
    assert!(matches!(error, LedgerError::Io { .. }), "{error}");
    // The disk is back, the torn line still there.
    ledger.file = good;
    let error = ledger.debit(1, 3, 5).unwrap_err();
    assert!(error.to_string().contains("restart the silo"), "{error}");
    drop(ledger);
    let mut ledger = open(&dir, covers()).unwrap();
    assert!(ledger.cut_bytes() > 0);
    assert_eq!(ledger.debits().len(), 1);
    ledger.debit(1, 4, 5).unwrap();
}
