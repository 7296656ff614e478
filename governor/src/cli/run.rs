//! `governor run`: start a command inside a zone, in a leaf cgroup of its own.
//!
//! Promises: the daemon moves this very process, and the command takes its place, so the exit code
//! is the command's own and nothing of governor stays in the zone. Never asks a shell.

use std::{
    convert::Infallible,
    env,
    ffi::{CString, OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::signal::{self, SigHandler, Signal},
};

use super::{Done, Globals};
use crate::control::{Failure, proto};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The zone
    #[arg(long)]
    zone: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(globals: &Globals, args: Args) -> Done {
    let Args { zone, command } = args;
    // Everything that can be wrong here is wrong before this process enters the zone.
    let argv = command
        .iter()
        .map(|arg| terminated(arg))
        .collect::<Result<Vec<_>, _>>()?;
    let environment: Vec<_> = env::vars_os()
        .filter_map(|(name, value)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        })
        .collect();
    let name = command.first().map(OsString::as_os_str).unwrap_or_default();
    let candidates = candidates(name, env::var_os("PATH").as_deref());
    let request = proto::EnterZoneRequest { zone: zone.clone() };
    globals.ask(async |client| client.enter_zone(request).await)?;
    match exec(&zone, &candidates, &argv, &environment)? {}
}

/// Replaces this process with the first candidate that can be executed.
fn exec(
    zone: &str,
    candidates: &[PathBuf],
    argv: &[CString],
    environment: &[CString],
) -> Result<Infallible, Failure> {
    // SAFETY: the default action is no handler, so no code of ours runs in a signal context.
    // The runtime ignores this signal, and what is ignored stays so in the command.
    let reset = unsafe { signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    if let Err(errno) = reset {
        return Err(Failure::Failed(format!("resetting SIGPIPE: {errno}")));
    }
    let mut refused = None;
    for candidate in candidates {
        let path = terminated(candidate.as_os_str())?;
        let Err(errno) = nix::unistd::execve(&path, argv, environment);
        if [Errno::ENOENT, Errno::ENOTDIR].contains(&errno) {
            continue;
        }
        let first = refused.is_none();
        if first || errno != Errno::EACCES {
            refused = Some((candidate, errno));
        }
        // Not executable for this user: another directory may have one that is.
        if errno != Errno::EACCES {
            break;
        }
    }
    Err(match refused {
        None => {
            let name = argv
                .first()
                .map(|name| name.to_string_lossy())
                .unwrap_or_default();
            Failure::Failed(format!("command `{name}` was not found"))
        }
        Some((path, Errno::EPERM)) => {
            let path = path.display();
            Failure::Denied(format!(
                "denied by the gate: `{path}`; see `governor explain {path} --zone {zone}`"
            ))
        }
        Some((path, errno)) => {
            Failure::Failed(format!("executing `{}`: {}", path.display(), errno.desc()))
        }
    })
}

/// Where the command may be: as named if it has a slash, else in each directory of `path`.
fn candidates(name: &OsStr, path: Option<&OsStr>) -> Vec<PathBuf> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.as_bytes().contains(&b'/') {
        return vec![Path::new(name).to_owned()];
    }
    // An empty or relative entry would mean the current directory, which anyone may have written.
    env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH)))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .collect()
}

fn terminated(text: &OsStr) -> Result<CString, Failure> {
    match CString::new(text.to_owned().into_vec()) {
        Ok(text) => Ok(text),
        Err(_) => Err(Failure::Usage("an argument contains a zero byte".into())),
    }
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_searched_as_usual() {
        let found = |name: &str, path: &str| candidates(OsStr::new(name), Some(OsStr::new(path)));
        assert_eq!(
            found("ls", "/a:/b"),
            [Path::new("/a/ls"), Path::new("/b/ls")]
        );
        assert_eq!(found("./ls", "/a"), [Path::new("./ls")]);
        assert_eq!(found("ls", ":.:rel:/a"), [Path::new("/a/ls")]);
        assert!(found("", "/a").is_empty());
        assert!(candidates(OsStr::new("ls"), None).contains(&PathBuf::from("/bin/ls")));
    }
}
