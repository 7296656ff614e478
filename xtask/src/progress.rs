//! Progress of long steps on standard error: a spinner on a terminal, plain lines elsewhere. A step
//! that was neither finished nor failed (an early return) says nothing more.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Step {
    what: String,
    since: Instant,
    spinner: Option<ProgressBar>,
}

impl Step {
    pub(crate) fn start(what: &str) -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if spinner.is_none() {
            eprintln!("... {what}");
        }
        Self {
            what: what.to_owned(),
            since: Instant::now(),
            spinner,
        }
    }

    pub(crate) fn done(self) {
        self.end("ok ");
    }

    pub(crate) fn failed(self) {
        self.end("ERR");
    }

    fn end(self, mark: &str) {
        if let Some(bar) = &self.spinner {
            bar.finish_and_clear();
        }
        let seconds = self.since.elapsed().as_secs_f32();
        if seconds >= 0.5 || mark == "ERR" {
            eprintln!("{mark} {} ({seconds:.1}s)", self.what);
        }
    }
}
