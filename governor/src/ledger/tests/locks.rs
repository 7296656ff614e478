//! The file beside the ledger that keeps a lock of which no record can be written.

use super::*;

#[test]
fn what_keeps_locks_is_made_at_the_start_and_missed_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, recovered) = open(dir.path());
    assert!(recovered.locked.is_empty());
    let file = dir.path().join("lock");
    // As a version that knew of no such file left it.
    ledger.append(NOW, &[start()]).unwrap();
    fs::remove_file(&file).unwrap();
    let (mut ledger, recovered) = open(dir.path());
    assert!(recovered.locked.is_empty() && file.exists());
    let keeps = lineage::Start {
        keeps_locks: true,
        ..lineage::Start::default()
    };
    ledger.append(NOW, &[Kind::Start(keeps)]).unwrap();
    KeptLock::of(dir.path())
        .keep(&["clock-stepped: by 3 s".to_owned()])
        .unwrap();
    assert_eq!(open(dir.path()).1.locked, ["clock-stepped: by 3 s"]);
    KeptLock::of(dir.path()).forget().unwrap();
    assert!(open(dir.path()).1.locked.is_empty());
    fs::remove_file(&file).unwrap();
    for start in [
        "it is gone",
        "one that ended before its first record made it anew",
    ] {
        let locked = open(dir.path()).1.locked;
        assert!(
            locked[0].starts_with("lock-unreadable: "),
            "{start}: {locked:?}"
        );
    }
}

#[test]
fn a_ledger_that_follows_another_says_that_locks_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    let file = dir.path().join("lock");
    fs::remove_file(&file).unwrap();
    let begun = lineage::Begun {
        keeps_locks: true,
        ..lineage::Begun::default()
    };
    ledger.begin(NOW, &[Kind::Begun(Box::new(begun))]).unwrap();
    assert!(file.exists() && open(dir.path()).1.locked.is_empty());
    fs::remove_file(&file).unwrap();
    assert!(!open(dir.path()).1.locked.is_empty());
}

#[test]
fn a_ledger_without_room_for_what_keeps_locks_takes_no_records() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    ledger.append(NOW, &[start()]).unwrap();
    drop(ledger);
    let file = dir.path().join("lock");
    fs::remove_file(&file).unwrap();
    let (mut ledger, _) = open(dir.path());
    (ledger.file, ledger.lock) = (None, KeptLock::of(Path::new("/proc/self/nowhere")));
    ledger.append(NOW, &[start()]).unwrap_err();
    ledger.lock = KeptLock::of(dir.path());
    ledger.append(NOW, &[start()]).unwrap();
}
