//! Writing to standard output and standard error.
//!
//! Promises: a reader that went away ends the command quietly; JSON is one value, with every string
//! in it stripped, or escaped where programs need it exactly.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::{control::Failure, text};

/// Prints `text` and a line break.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush()) {
        // Nobody reads any more, so nothing is left to do.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::Failed(format!(
            "writing to standard output: {error}"
        ))),
        Ok(()) => Ok(()),
    }
}

/// Prints `value` as JSON on several lines.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(&format!("{:#}", stripped(value)?))
}

/// Prints `value` as JSON on several lines, characters that would be stripped as escapes: for what
/// programs must get back exactly.
pub(super) fn print_lossless(value: &impl Serialize) -> Result<(), Failure> {
    match serde_json::to_string_pretty(value) {
        Ok(json) => print(&text::escape_json(&json)),
        Err(error) => Err(Failure::Failed(format!("writing JSON: {error}"))),
    }
}

/// Prints `value` as JSON on one line.
pub(super) fn print_json_line(value: &impl Serialize) -> Result<(), Failure> {
    print(&stripped(value)?.to_string())
}

/// Prints to standard error, if that can be done.
pub(super) fn complain(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

fn stripped(value: &impl Serialize) -> Result<serde_json::Value, Failure> {
    match serde_json::to_value(value) {
        Ok(mut value) => {
            text::strip_json(&mut value);
            Ok(value)
        }
        Err(error) => Err(Failure::Failed(format!("writing JSON: {error}"))),
    }
}
