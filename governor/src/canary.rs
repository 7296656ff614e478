//! The canary: a process in a zone of its own that nothing is allowed in, which tries to execute a file
//! once a second. While the gate does its work it is refused; once it is not, somebody knows.
//!
//! Promises: what is reported was seen. A canary that dies is replaced; one that stays silent is no
//! report, and its silence is noticed by whoever waits for it. The file it tries is a script of a few
//! bytes, so trying costs nothing.

use std::{
    ffi::CString,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use tokio::sync::mpsc;

use crate::{cgroups, gate::CanaryLabel};

/// What it tries to execute: it writes a word if it is.
const FILE: &str = "/usr/lib/governor/canary";
/// How often.
const EVERY: Duration = Duration::from_secs(1);

const READY: u8 = b'r';
const REFUSED: u8 = b'd';
const UNCLEAR: u8 = b'e';

/// What one try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Refused, as it must be.
    Refused,
    /// Executed.
    Passed,
    /// Neither: the file is missing, the canary died.
    Unclear(String),
}

/// Keeps a canary alive and reports what becomes of it, until nobody listens.
pub(crate) fn keep(label: CanaryLabel, reports: mpsc::Sender<Report>) -> Result<()> {
    thread::Builder::new()
        .name("canary".into())
        .spawn(move || {
            let mut canary = None;
            loop {
                let report = attempt(&mut canary, &label);
                if matches!(report, Err(_) | Ok(Report::Passed)) {
                    // Another one takes its place at the next try.
                    canary = None;
                }
                let report = report.unwrap_or_else(|error| Report::Unclear(format!("{error:#}")));
                if reports.blocking_send(report).is_err() {
                    return;
                }
                thread::sleep(EVERY);
            }
        })
        .context("starting the canary's thread")?;
    Ok(())
}

fn attempt(canary: &mut Option<Canary>, label: &CanaryLabel) -> Result<Report> {
    let canary = match canary {
        Some(canary) => canary,
        none => none.insert(Canary::start(label)?),
    };
    canary.attempt()
}

/// One process. Dropping it ends it.
struct Canary {
    process: Child,
    asks: ChildStdin,
    answers: ChildStdout,
}

impl Canary {
    fn start(label: &CanaryLabel) -> Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .arg("canary")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .env_clear()
            .spawn()
            .context("starting the canary")?;
        let (Some(asks), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("the canary has no pipes");
        };
        let mut canary = Self {
            process,
            asks,
            answers,
        };
        // From here on it maps nothing more: in its zone it could not.
        let ready = canary.answer()?;
        if ready != READY {
            bail!("the canary said `{ready:#x}` instead of being ready");
        }
        let pid = i32::try_from(canary.process.id()).context("the canary's number")?;
        let held = cgroups::open_pidfd(pid).context("taking hold of the canary")?;
        label.put(&held).context("labelling the canary")?;
        Ok(canary)
    }

    fn attempt(&mut self) -> Result<Report> {
        self.asks.write_all(b"t").context("asking the canary")?;
        Ok(match self.answer()? {
            REFUSED => Report::Refused,
            UNCLEAR => {
                let errno = Errno::from_raw(self.answer()?.into());
                Report::Unclear(format!("executing `{FILE}`: {errno}"))
            }
            // The file's own words.
            _ => Report::Passed,
        })
    }

    fn answer(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.answers
            .read_exact(&mut byte)
            .context("listening to the canary, which has ended")?;
        Ok(byte[0])
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        // It has ended, or it ends now; either way it is not left behind.
        let _ended_already = self.process.kill();
        let _ended_already = self.process.wait();
    }
}

/// The canary's own side: tries when asked, ends when nobody asks any more.
pub fn run() -> ExitCode {
    crate::memory::stay_in_small_pages();
    crate::arguments::forget();
    // It would be called after the link that it was started by.
    let _called_so = nix::sys::prctl::set_name(c"governor-canary");
    match tries() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn tries() -> Result<()> {
    let file = CString::new(FILE).context("naming the file")?;
    debug_assert!(Path::new(FILE).is_absolute());
    let (mut asks, mut answers) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut say = |bytes: &[u8]| -> Result<()> {
        answers.write_all(bytes)?;
        answers.flush()?;
        Ok(())
    };
    say(&[READY])?;
    let mut asked = [0];
    while asks.read(&mut asked)? == 1 {
        let Err(errno) = nix::unistd::execv(&file, &[file.as_c_str()]);
        if errno == Errno::EPERM {
            say(&[REFUSED])?;
        } else {
            say(&[UNCLEAR, u8::try_from(errno as i32).unwrap_or(0)])?;
        }
    }
    Ok(())
}
