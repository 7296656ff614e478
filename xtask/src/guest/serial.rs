//! The watcher of a guest's console: copies every line to the log, remembers the first that means
//! trouble, and stops the machine where waiting on would be pointless (a panic, a broken
//! accelerator, both of which otherwise hang).

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// The first line of each kind; a stall may only mean that the host is busy.
#[derive(Debug, Default)]
struct Trouble {
    fault: Option<String>,
    stall: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Serial {
    trouble: Arc<Mutex<Trouble>>,
    pub(crate) ended: Receiver<()>,
}

impl Serial {
    pub(crate) fn watch(
        console: PipeReader,
        log: &Path,
        machine: Arc<Mutex<Child>>,
    ) -> Result<Self> {
        let mut log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(log)
            .with_context(|| format!("opening the serial log `{}`", log.display()))?;
        let trouble = Arc::new(Mutex::new(Trouble::default()));
        let (sender, ended) = channel();
        let seen = Arc::clone(&trouble);
        std::thread::spawn(move || {
            let mut lines = BufReader::new(console);
            let mut line = Vec::new();
            while let Ok(1..) = lines.read_until(b'\n', &mut line) {
                let _disk_full = log.write_all(&line);
                let text = String::from_utf8_lossy(&line);
                let fatal = FATAL.iter().any(|mark| text.contains(mark));
                let mut first = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if fatal || FAULTS.iter().any(|mark| text.contains(mark)) {
                    first.fault.get_or_insert_with(|| text.trim().to_owned());
                } else if STALLS.iter().any(|mark| text.contains(mark)) {
                    first.stall.get_or_insert_with(|| text.trim().to_owned());
                }
                drop(first);
                if fatal {
                    let _ended_already = machine
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .kill();
                }
                line.clear();
            }
            let _nobody_waits = sender.send(());
        });
        Ok(Self { trouble, ended })
    }

    /// A fault, else a stall, that has been seen.
    pub(crate) fn trouble(&self) -> Option<String> {
        let seen = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        seen.fault.clone().or_else(|| seen.stall.clone())
    }

    /// The fault since the last call, if there was one.
    pub(crate) fn take_fault(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fault
            .take()
    }
}

const FATAL: &[&str] = &[
    "KVM internal error",
    "end Kernel panic",
    "initramfs: no root file system",
];
const FAULTS: &[&str] = &[
    "Kernel panic",
    "BUG: ",
    "Oops: ",
    "general protection fault",
    "WARNING: CPU",
    "UBSAN: ",
];
const STALLS: &[&str] = &[
    "soft lockup",
    "hard LOCKUP",
    "detected stalls",
    "blocked for more than",
];
