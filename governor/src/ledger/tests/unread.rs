//! What cannot be read, or looked at, is not taken for gone.

use super::*;

#[test]
fn a_ledger_that_cannot_be_read_is_missed_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    ledger.append(NOW, &[start()]).unwrap();
    let head = ledger.head();
    drop(ledger);
    let (there, aside) = (dir.path().join("ledger"), dir.path().join("aside"));
    fs::rename(&there, &aside).unwrap();
    // As on a disk that answers with errors.
    std::os::unix::fs::symlink(&there, &there).unwrap();
    let (mut ledger, recovered) = open(dir.path());
    assert_eq!(flaw(&recovered), Some(Flaw::Unreadable));
    assert_eq!(recovered.broken.map(|broken| broken.last), Some(head));
    assert!(ledger.append(NOW, &[start()]).is_err());
    fs::remove_file(&there).unwrap();
    fs::rename(&aside, &there).unwrap();
    assert_eq!(flaw(&open(dir.path()).1), None, "it was not lost");
}

#[test]
fn what_lies_where_a_ledger_was_is_none() {
    let lies = |put: fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, _) = open(dir.path());
        ledger.append(NOW, &[start()]).unwrap();
        let path = ledger.path().to_owned();
        drop(ledger);
        let (there, aside) = (dir.path().join("ledger"), dir.path().join("aside"));
        fs::rename(&there, &aside).unwrap();
        put(&path);
        let (_, recovered) = open(dir.path());
        assert_eq!(flaw(&recovered), Some(Flaw::Missing));
        if fs::remove_dir_all(&there).is_err() {
            fs::remove_file(&there).unwrap();
        }
        fs::rename(&aside, &there).unwrap();
        assert_eq!(flaw(&open(dir.path()).1), Some(Flaw::Missing), "for good");
    };
    lies(|path| fs::write(path.parent().unwrap(), "a file where a directory was").unwrap());
    lies(|path| fs::create_dir_all(path).unwrap());
    lies(|path| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    });
}

#[test]
fn an_anchor_that_cannot_be_read_locks_and_nothing_of_that_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    ledger.append(NOW, &[start()]).unwrap();
    drop(ledger);
    let (there, aside) = (dir.path().join("anchor"), dir.path().join("aside"));
    fs::rename(&there, &aside).unwrap();
    fs::create_dir(&there).unwrap();
    let (mut ledger, recovered) = open(dir.path());
    assert_eq!(flaw(&recovered), Some(Flaw::Unreadable));
    assert!(ledger.append(NOW, &[start()]).is_err());
    // Another is not begun in its place as long as nobody could tell which of the two counts.
    let before = fs::read(ledger.path()).unwrap();
    assert!(ledger.begin(NOW, &[start()]).is_err());
    assert!(!ledger.path().with_file_name("ledger.broken-1").exists());
    assert_eq!(fs::read(ledger.path()).unwrap(), before);
    fs::remove_dir(&there).unwrap();
    fs::rename(&aside, &there).unwrap();
    assert_eq!(flaw(&open(dir.path()).1), None);
}

/// The directory of the ledger cannot be entered, as on a disk that answers with errors.
fn unreadable(dir: &Path, meanwhile: impl FnOnce()) {
    let (there, aside) = (dir.join("ledger"), dir.join("aside"));
    fs::rename(&there, &aside).unwrap();
    std::os::unix::fs::symlink(&there, &there).unwrap();
    meanwhile();
    fs::remove_file(&there).unwrap();
    fs::rename(&aside, &there).unwrap();
}

#[test]
fn a_ledger_that_cannot_be_looked_at_takes_no_records_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    ledger.append(NOW, &[start()]).unwrap();
    unreadable(dir.path(), || {
        assert!(ledger.check().is_none(), "nothing is known to be wrong");
        let error = ledger.append(NOW, &[gap(1)]).unwrap_err();
        assert!(format!("{error:#}").starts_with("looking at"), "{error:#}");
        assert!(ledger.check().is_none() && !ledger.is_broken());
    });
    ledger.append(NOW, &[gap(1)]).unwrap();
    let head = ledger.head();
    drop(ledger);
    let (ledger, recovered) = open(dir.path());
    assert_eq!((ledger.head(), flaw(&recovered)), (head, None));
}

#[test]
fn nor_is_one_gone_that_could_not_be_undone_and_cannot_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = half_written(dir.path(), b"x");
    unreadable(dir.path(), || {
        assert!(ledger.append(NOW, &[gap(2)]).is_err());
        assert!(ledger.check().is_none() && !ledger.is_broken());
    });
    ledger.append(NOW, &[gap(2)]).unwrap();
    // What somebody wrote meanwhile is found all the same.
    unreadable(dir.path(), || {
        let path = dir.path().join("aside/ledger");
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"x").unwrap();
    });
    assert_eq!(ledger.check().map(|b| b.flaw), Some(Flaw::Contradicting));
}
