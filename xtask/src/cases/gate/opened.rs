//! Files that are opened by work which opens only what is listed, each way of opening, and what comes of it.

/// EPERM.
pub(super) const REFUSES: i32 = 1;
/// Each way of opening, and what comes of it where only what is listed is opened.
pub(super) const WAYS: [(&str, i32); 29] = [
    // What is written meanwhile, be it by itself, is not what was measured.
    ("both:/opt/agent/own/theirs", REFUSES),
    (THEIRS, 0),
    (DATA, 0),
    (SAME, 0),
    (EMPTY, 0),
    (EMPTY_TOO, 0),
    // Nobody is to hold what others are about to fill.
    (IN_MEMORY, REFUSES),
    (EMPTY_ELSEWHERE, REFUSES),
    (EMPTY_OF_THEIRS, REFUSES),
    (OTHER, REFUSES),
    ("/opt/agent/own/to-data", 0),
    ("/opt/agent/own/to-other", REFUSES),
    ("again:/opt/agent/own/data", 0),
    ("again:/opt/agent/own/other", REFUSES),
    ("write:/opt/agent/own/out", 0),
    ("memory:text", REFUSES),
    ("nameless:/opt/agent/own", REFUSES),
    ("/opt/agent/own", 0),
    ("/opt/agent/own/pipe", REFUSES),
    ("/dev/null", 0),
    ("/dev/zero", 0),
    ("/dev/full", 0),
    ("/dev/random", 0),
    ("/dev/urandom", 0),
    ("/dev/ptmx", REFUSES),
    ("/proc/self/environ", REFUSES),
    ("/proc/self/maps", REFUSES),
    ("/sys/kernel/mm/transparent_hugepage/enabled", REFUSES),
    // Of no size, so it measures as nothing, which is listed; and it says something.
    ("/sys/fs/cgroup/cgroup.controllers", REFUSES),
];
pub(super) const OWN: &str = "/opt/agent/own";
pub(super) const DATA: &str = "/opt/agent/own/data";
/// Of what another holds, and of nothing.
pub(super) const SAME: &str = "/opt/agent/own/same";
pub(super) const EMPTY: &str = "/opt/agent/own/empty";
pub(super) const EMPTY_TOO: &str = "/opt/agent/own/empty-too";
/// On a file system of which no digest is kept.
pub(super) const IN_MEMORY: &str = "/run/opened-empty";
/// On the disk, and in no set by its path; and of an owner whose files are not kept.
pub(super) const EMPTY_ELSEWHERE: &str = "/opt/agent/own/empty-elsewhere";
pub(super) const EMPTY_OF_THEIRS: &str = "/opt/agent/own/empty-theirs";
pub(super) const DATA_SET: [&str; 9] = [
    DATA,
    SAME,
    EMPTY,
    EMPTY_TOO,
    IN_MEMORY,
    EMPTY_OF_THEIRS,
    LATER,
    LATER_SCRIPT,
    THEIRS,
];
pub(super) const LATER: &str = "/opt/agent/own/later";
pub(super) const THEIRS: &str = "/opt/agent/own/theirs";
pub(super) const OTHER: &str = "/opt/agent/own/other";
pub(super) const LATER_SCRIPT: &str = "/opt/agent/own/later-script";
