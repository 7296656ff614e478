//! Child processes of xtask: one way to run them, with what cargo and rustup put into our own
//! environment taken out again, and with an error that shows the command and the end of its output.

use crate::progress::Step;
use anyhow::{Context, Result, bail};
use std::process::{Command, Output, Stdio};

/// A command with the outer cargo's and rustup's variables removed, so that an inner cargo chooses
/// its own toolchain and flags.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let ours = text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_BIN_")
            || INHERITED.contains(&text);
        if ours {
            command.env_remove(name);
        }
    }
    command
}

/// Runs to the end with output captured; the last lines of it become part of the error.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<Output> {
    let step = Step::start(what);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{what}: starting {}", show(command)))?;
    if output.status.success() {
        step.done();
        return Ok(output);
    }
    step.failed();
    bail!(
        "{what}: {} ended with {}\n{}{}",
        show(command),
        output.status,
        tail(&output.stdout, 20),
        tail(&output.stderr, 60)
    );
}

/// Runs quickly and quietly and returns standard output as text.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", show(command)))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}\n{}",
            show(command),
            output.status,
            tail(&output.stderr, 20)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("reading output of {}", show(command)))
}

/// True if the program is on PATH (or is a path to an existing file).
pub(crate) fn on_path(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else {
        return false;
    };
    std::env::split_paths(&path)
        .chain(SBIN.iter().map(Into::into))
        .any(|dir| dir.join(program).is_file())
}

pub(crate) fn tail(bytes: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let all: Vec<&str> = text.lines().collect();
    let start = all.len().saturating_sub(lines);
    all.iter()
        .skip(start)
        .map(|line| format!("    {line}\n"))
        .collect()
}

fn show(command: &Command) -> String {
    let mut text = format!("`{}", command.get_program().to_string_lossy());
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text.push('`');
    text
}

const INHERITED: &[&str] = &[
    "CARGO",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTUP_TOOLCHAIN",
    "RUSTUP_TOOLCHAIN_SOURCE",
    "RUST_RECURSION_COUNT",
    "LD_LIBRARY_PATH",
];

/// Administrative directories that an ordinary user's PATH leaves out on Debian.
const SBIN: &[&str] = &["/usr/sbin", "/sbin"];
