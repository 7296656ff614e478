//! `governor run`: start a command inside a zone, in a leaf cgroup of its own.
//!
//! Promises: the daemon moves this very process, and the command takes its place, so the exit code
//! is the command's own and nothing of governor stays in the zone. With a user named, the command
//! gets that user's groups and none of root's privileges, or does not run. Never asks a shell.

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
    unistd::{self, Gid, Uid},
};

use super::{Done, Globals};
use crate::control::{Failure, proto};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The zone
    #[arg(long)]
    zone: String,
    /// Run the command as this user; most workloads do not list root
    #[arg(long, value_name = "NAME|UID", value_parser = user)]
    user: Option<User>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(globals: &Globals, args: Args) -> Done {
    let Args {
        zone,
        user,
        command,
    } = args;
    // Everything that can be wrong here is wrong before this process enters the zone.
    let argv = command
        .iter()
        .map(|arg| terminated(arg))
        .collect::<Result<Vec<_>, _>>()?;
    // Looked up out here: in the zone, asking a name service may already be denied.
    let account = user.as_ref().map(account).transpose()?;
    let environment: Vec<_> = variables(env::vars_os(), account.as_ref())
        .filter_map(|(name, value)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        })
        .collect();
    let name = command.first().map(OsString::as_os_str).unwrap_or_default();
    let candidates = candidates(name, env::var_os("PATH").as_deref());
    let request = proto::EnterZoneRequest { zone: zone.clone() };
    globals.ask(async |client| client.enter_zone(request).await)?;
    if let Some(account) = &account {
        become_user(account)?;
    }
    match exec(&zone, &candidates, &argv, &environment)? {}
}

/// Whom the command runs as, as written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum User {
    Name(String),
    Id(u32),
}

pub(super) fn user(text: &str) -> Result<User, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            // The kernel reads this one as "leave it as it is".
            Ok(u32::MAX) | Err(_) => Err(format!("`{text}` is not a user id: it is too large")),
            Ok(id) => Ok(User::Id(id)),
        };
    }
    let is_name = !text.is_empty()
        && !text.starts_with(['-', '+'])
        && !text.contains(|c: char| c == ':' || c == '/' || c.is_whitespace() || c.is_control());
    if is_name {
        Ok(User::Name(text.to_owned()))
    } else {
        Err(format!("`{text}` is neither a user's name nor a user id"))
    }
}

/// What a process needs to become that user.
struct Account {
    user: unistd::User,
    groups: Vec<Gid>,
}

fn account(wanted: &User) -> Result<Account, Failure> {
    let (shown, found) = match wanted {
        User::Name(name) => (name.clone(), unistd::User::from_name(name)),
        User::Id(id) => (id.to_string(), unistd::User::from_uid(Uid::from_raw(*id))),
    };
    let user = match found {
        Ok(Some(user)) => user,
        // Without an account nothing says which groups the command would have.
        Ok(None) => {
            let why = format!("there is no user `{shown}` on this host; see `getent passwd`");
            return Err(Failure::Failed(why));
        }
        Err(errno) => {
            let why = format!("looking up the user `{shown}`: {}", errno.desc());
            return Err(Failure::Failed(why));
        }
    };
    if !Uid::effective().is_root() {
        let why = format!("only root may run a command as `{shown}`; use sudo");
        return Err(Failure::Failed(why));
    }
    let failed = |why: &str| Failure::Failed(format!("looking up the groups of `{shown}`: {why}"));
    let name = CString::new(user.name.clone()).map_err(|error| failed(&error.to_string()))?;
    let groups = unistd::getgrouplist(&name, user.gid).map_err(|errno| failed(errno.desc()))?;
    Ok(Account { user, groups })
}

/// Takes on a user's groups and id, in the order that leaves no privilege behind.
fn become_user(account: &Account) -> Result<(), Failure> {
    let Account { user, groups } = account;
    let name = &user.name;
    let failed =
        |what: &str, errno: Errno| Failure::Failed(format!("{what} of `{name}`: {}", errno.desc()));
    unistd::setgroups(groups).map_err(|errno| failed("taking the groups", errno))?;
    unistd::setresgid(user.gid, user.gid, user.gid)
        .map_err(|errno| failed("taking the group", errno))?;
    unistd::setresuid(user.uid, user.uid, user.uid)
        .map_err(|errno| failed("taking the user id", errno))
}

/// The environment of the command: ours, with what says who and where the user is.
fn variables(
    ours: impl Iterator<Item = (OsString, OsString)>,
    account: Option<&Account>,
) -> impl Iterator<Item = (OsString, OsString)> {
    let theirs: Vec<(OsString, OsString)> = account.map_or_else(Vec::new, |account| {
        let user = &account.user;
        vec![
            ("HOME".into(), user.dir.clone().into()),
            ("LOGNAME".into(), user.name.clone().into()),
            ("SHELL".into(), user.shell.clone().into()),
            ("USER".into(), user.name.clone().into()),
        ]
    });
    let kept = theirs.clone();
    ours.filter(move |(name, _)| !kept.iter().any(|(theirs, _)| theirs == name))
        .chain(theirs)
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
    fn a_user_is_a_name_or_an_id() {
        assert_eq!(user("0"), Ok(User::Id(0)));
        assert_eq!(user("4294967294"), Ok(User::Id(u32::MAX - 1)));
        for name in ["nobody", "svc-build.2", "1a", "host$"] {
            assert_eq!(user(name), Ok(User::Name(name.into())));
        }
        for bad in [
            "",
            "4294967295",
            "99999999999",
            "-1",
            "+1",
            "a:b",
            "a/b",
            "a b",
            "a\n",
        ] {
            assert!(user(bad).is_err(), "`{bad}`");
        }
    }

    #[test]
    fn the_environment_says_who_the_command_runs_as() {
        let ours = || {
            [("HOME", "/root"), ("LANG", "C")]
                .map(|(name, value)| (OsString::from(name), OsString::from(value)))
                .into_iter()
        };
        assert!(variables(ours(), None).eq(ours()));
        let root = unistd::User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        let account = Account {
            user: unistd::User {
                name: "build".into(),
                dir: "/srv/build".into(),
                ..root
            },
            groups: Vec::new(),
        };
        let all: Vec<_> = variables(ours(), Some(&account)).collect();
        let value = |name: &str| {
            let mut found = all.iter().filter(|(known, _)| known == name);
            let value = found.next().map(|(_, value)| value.to_str().unwrap());
            assert!(found.next().is_none(), "`{name}` is there twice");
            value
        };
        assert_eq!(value("HOME"), Some("/srv/build"));
        assert_eq!(value("USER"), Some("build"));
        assert_eq!(value("LANG"), Some("C"));
    }

    #[test]
    fn a_user_without_an_account_is_refused_before_anything_happens() {
        let refused = account(&User::Name("no-such-user".into())).err();
        assert!(matches!(refused, Some(Failure::Failed(why)) if why.contains("`no-such-user`")));
    }

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
