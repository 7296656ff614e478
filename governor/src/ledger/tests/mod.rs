//! The ledger on a real file system: what survives, and what is noticed.

mod locks;
mod unread;

use governor_core::{
    lineage::{self, Gap},
    time::{BootTime, Span, WallTime},
};

use super::*;

const NOW: ClockReading = ClockReading {
    wall: WallTime(1),
    boot: BootTime(2),
    suspended: Span(0),
};

fn gap(count: u64) -> Kind {
    Kind::Gap(Gap {
        what: "test".into(),
        count,
    })
}

fn start() -> Kind {
    Kind::Start(lineage::Start {
        anchored: true,
        ..lineage::Start::default()
    })
}

fn open(dir: &Path) -> (Ledger, Recovered) {
    Ledger::open(dir, [7; 16], None)
}

fn flaw(recovered: &Recovered) -> Option<Flaw> {
    recovered.broken.as_ref().map(|broken| broken.flaw)
}

#[test]
fn records_survive_and_torn_tails_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    ledger.append(NOW, &[start(), gap(2)]).unwrap();
    let head = ledger.head();
    let path = ledger.path().to_owned();
    drop(ledger);
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(&[9, 0, 0, 0, 1])
        .unwrap();
    let (mut ledger, recovered) = open(dir.path());
    assert_eq!((ledger.head(), flaw(&recovered)), (head, None));
    ledger.append(NOW, &[gap(3)]).unwrap();
    drop(ledger);
    assert_eq!(open(dir.path()).0.head().size, 3);
}

#[test]
fn a_full_disk_changes_nothing() {
    // /dev/full fails every write with ENOSPC and is a file like any other until then.
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    ledger.append(NOW, &[gap(1)]).unwrap();
    let head = ledger.head();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let frame = batch::after(head, [7; 16], NOW, &[gap(2)]).unwrap().0;
    let good = ledger.file.replace(full);
    assert!(ledger.write(&frame).is_err());
    ledger.file = good;
    assert_eq!(ledger.head(), head);
    ledger.append(NOW, &[gap(2)]).unwrap();
}

/// What somebody does to the files while the daemon runs, and what it is.
#[test]
fn a_ledger_that_was_full_waits_for_room_and_not_for_a_small_record() {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    ledger.append(NOW, &[start()]).unwrap();
    let (length, size) = (ledger.length, fs::metadata(&ledger.path).unwrap().len());
    // A file that may be written within its size and never grows.
    let small = memfd_create("small", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let small = File::from(small);
    small.set_len(length + 4096).unwrap();
    let sealed = nix::fcntl::FcntlArg::F_ADD_SEALS(nix::fcntl::SealFlag::F_SEAL_GROW);
    nix::fcntl::fcntl(&small, sealed).unwrap();
    let good = ledger.file.replace(small);
    ledger.make_room().unwrap();
    ledger.full = true;
    ledger.make_room().unwrap_err();
    assert!(ledger.full, "there is no room");
    ledger.file = good;
    ledger.append(NOW, &[gap(1)]).unwrap();
    assert!(!ledger.full);
    assert!(ledger.length > length && fs::metadata(&ledger.path).unwrap().len() > size);
}

#[test]
fn what_is_done_to_the_file_while_it_is_open_is_noticed_and_kept() {
    type Deed = fn(&Path);
    let deeds: [(Deed, Flaw); 6] = [
        (|path| fs::remove_file(path).unwrap(), Flaw::Missing),
        (
            |path| fs::rename(path, path.with_extension("away")).unwrap(),
            Flaw::Missing,
        ),
        (
            |path| {
                let bytes = fs::read(path).unwrap();
                fs::remove_file(path).unwrap();
                fs::write(path, bytes).unwrap();
            },
            Flaw::Missing,
        ),
        (
            |path| {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(20).unwrap();
            },
            Flaw::RolledBack,
        ),
        (
            |path| {
                let mut file = OpenOptions::new().append(true).open(path).unwrap();
                file.write_all(b"x").unwrap();
            },
            Flaw::Contradicting,
        ),
        (
            |path| {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                let long_ago = std::time::SystemTime::UNIX_EPOCH;
                file.set_modified(long_ago).unwrap();
            },
            Flaw::Contradicting,
        ),
    ];
    for (number, (deed, expected)) in deeds.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, _) = open(dir.path());
        ledger.append(NOW, &[start()]).unwrap();
        assert!(ledger.check().is_none(), "deed {number}: nothing was done");
        let copy = fs::read(ledger.path()).unwrap();
        deed(ledger.path());
        assert_eq!(ledger.check().map(|b| b.flaw), Some(expected), "{number}");
        assert!(ledger.check().is_none(), "it is news once");
        assert!(ledger.append(NOW, &[gap(1)]).is_err());
        let path = ledger.path().to_owned();
        drop(ledger);
        // Putting it back does not make it good.
        fs::write(&path, copy).unwrap();
        assert_eq!(flaw(&open(dir.path()).1), Some(expected), "{number}");
    }
}

#[test]
fn a_ledger_put_back_or_taken_away_between_daemons_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    ledger.append(NOW, &[start()]).unwrap();
    let path = ledger.path().to_owned();
    let old = fs::read(&path).unwrap();
    ledger.append(NOW, &[start()]).unwrap();
    let head = ledger.head();
    drop(ledger);
    let anchor = dir.path().join("anchor");
    let noted = fs::read(&anchor).unwrap();
    let found = |kernel| {
        let (_, recovered) = Ledger::open(dir.path(), [7; 16], kernel);
        fs::write(&anchor, &noted).unwrap();
        flaw(&recovered)
    };
    assert_eq!(found(Some(head)), None);
    fs::write(&path, old).unwrap();
    assert_eq!(found(None), Some(Flaw::RolledBack), "by the anchor");
    fs::remove_file(&path).unwrap();
    assert_eq!(found(None), Some(Flaw::Missing), "by the anchor");
    fs::remove_file(&anchor).unwrap();
    assert_eq!(found(Some(head)), Some(Flaw::Missing), "by the kernel");
    fs::remove_file(&anchor).unwrap();
    fs::create_dir(dir.path().join("policy")).unwrap();
    fs::write(dir.path().join("policy/ab.bundle"), "").unwrap();
    assert_eq!(found(None), Some(Flaw::Missing), "by the kept policy");
}

#[test]
fn damage_gives_it_up_and_an_operator_begins_another() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    // Two batches: what is wrong in the last one alone looks like a write that was cut short.
    ledger.append(NOW, &[start()]).unwrap();
    ledger.append(NOW, &[gap(2)]).unwrap();
    let path = ledger.path().to_owned();
    drop(ledger);
    let mut bytes = fs::read(&path).unwrap();
    bytes[30] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (mut ledger, recovered) = open(dir.path());
    let broken = recovered.broken.unwrap();
    assert_eq!(broken.flaw, Flaw::Contradicting);
    assert!(broken.detail.contains("checksum"), "{}", broken.detail);
    ledger.begin(NOW, &[start()]).unwrap();
    ledger.append(NOW, &[gap(4)]).unwrap();
    let aside = path.with_file_name("ledger.broken-1");
    assert_eq!(fs::read(aside).unwrap(), bytes, "the old one is kept");
    let head = ledger.head();
    drop(ledger);
    let (ledger, recovered) = open(dir.path());
    assert_eq!((ledger.head(), flaw(&recovered)), (head, None));
}

#[test]
fn a_ledger_begins_with_more_than_fits_into_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    let long = Kind::Gap(Gap {
        what: "x".repeat(MAX_RECORD - 100),
        count: 1,
    });
    let kinds = vec![long; 100];
    ledger.append(NOW, &kinds).unwrap_err();
    ledger.begin(NOW, &kinds).unwrap();
    ledger.append(NOW, &[gap(1)]).unwrap();
    let head = ledger.head();
    assert_eq!(head.size, 101);
    drop(ledger);
    let (ledger, recovered) = open(dir.path());
    assert_eq!((ledger.head(), flaw(&recovered)), (head, None));
}

#[test]
fn an_anchor_that_cannot_be_written_stops_the_records_after_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    ledger.append(NOW, &[start()]).unwrap();
    ledger.anchor = Anchor::of(Path::new("/proc/self/nowhere"));
    ledger.append(NOW, &[start()]).unwrap();
    let size = ledger.head().size;
    assert!(ledger.append(NOW, &[start()]).is_err());
    assert_eq!(ledger.head().size, size);
    ledger.anchor = Anchor::of(dir.path());
    ledger.append(NOW, &[start()]).unwrap();
}

#[test]
fn what_a_failing_record_found_is_still_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path());
    ledger.append(NOW, &[start()]).unwrap();
    fs::remove_file(ledger.path()).unwrap();
    assert!(ledger.append(NOW, &[start()]).is_err());
    assert_eq!(ledger.check().map(|b| b.flaw), Some(Flaw::Missing));
    assert!(ledger.check().is_none());
}

#[test]
fn a_ledger_that_cannot_be_written_yet_is_read_and_takes_records_once_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (state, target) = (dir.path().join("state"), dir.path().join("target"));
    std::os::unix::fs::symlink(&target, &state).unwrap();
    let (mut ledger, recovered) = open(&state);
    assert_eq!((flaw(&recovered), ledger.refuses()), (None, None));
    assert!(ledger.append(NOW, &[start()]).is_err() && ledger.check().is_none());
    fs::create_dir(&target).unwrap();
    ledger.append(NOW, &[start()]).unwrap();
    let head = ledger.head();
    drop(ledger);
    assert_eq!(open(&state).0.head(), head);
}

/// A ledger whose last record could not be written, and what was written of it not be cut off.
fn half_written(dir: &Path, half: &[u8]) -> Ledger {
    let (mut ledger, _) = open(dir);
    for _ in 0..2 {
        ledger.append(NOW, &[start()]).unwrap();
    }
    // As on a file system that has just become read-only.
    let writable = ledger.file.replace(File::open(ledger.path()).unwrap());
    assert!(ledger.append(NOW, &[gap(1)]).is_err());
    assert!(ledger.refuses().unwrap().contains("could not be undone"));
    assert!(ledger.append(NOW, &[gap(1)]).is_err(), "it is not yet");
    let mut file = OpenOptions::new().append(true).open(ledger.path()).unwrap();
    file.write_all(half).unwrap();
    ledger.file = writable;
    ledger
}

#[test]
fn a_write_that_could_not_be_undone_is_undone_once_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (frame, _) = batch::after(Head::EMPTY, [0; 16], NOW, &[gap(7)]).unwrap();
    for half in [&frame[..3], &frame] {
        let mut ledger = half_written(dir.path(), half);
        let before = ledger.head();
        ledger.append(NOW, &[gap(2)]).unwrap();
        assert_eq!((ledger.refuses(), ledger.check()), (None, None));
        let head = ledger.head();
        assert_eq!(head.size, before.size + 1);
        drop(ledger);
        let (ledger, recovered) = open(dir.path());
        assert_eq!((ledger.head(), flaw(&recovered)), (head, None));
    }
}

#[test]
fn what_was_changed_before_it_could_be_undone_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = half_written(dir.path(), b"");
    let mut bytes = fs::read(ledger.path()).unwrap();
    bytes[HEADER.len() + 20] ^= 1;
    fs::write(ledger.path(), bytes).unwrap();
    assert!(ledger.append(NOW, &[gap(2)]).is_err());
    assert_eq!(ledger.check().map(|b| b.flaw), Some(Flaw::Contradicting));
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = half_written(dir.path(), b"");
    fs::remove_file(ledger.path()).unwrap();
    assert!(ledger.append(NOW, &[gap(2)]).is_err());
    assert_eq!(ledger.check().map(|b| b.flaw), Some(Flaw::Missing));
}

#[test]
fn what_was_written_while_it_could_not_be_is_somebody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let (mut other, _) = open(&dir.path().join("target"));
    other.append(NOW, &[start()]).unwrap();
    drop(other);
    let state = dir.path().join("state");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &state).unwrap();
    let (mut ledger, _) = open(&state);
    fs::rename(dir.path().join("target"), dir.path().join("nowhere")).unwrap();
    assert!(ledger.append(NOW, &[gap(1)]).is_err());
    assert_eq!(ledger.check().map(|b| b.flaw), Some(Flaw::Contradicting));
}
