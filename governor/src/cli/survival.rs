//! `governor measure --survival` and `governor policy check-survival`: what this host cannot go on without.
//!
//! Promises: nothing is executed to find out; sets are written whole or not at all; a set carries no name
//! that hides something. Exit code 3 of the check: something vital is not listed.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use governor_core::{
    digest::Digest,
    policy::{self, Policy},
};
use serde_json::{Value, json};

use super::{Done, Globals, output};
use crate::{
    bundle,
    control::Failure,
    survival::{self, Found, Missing, Need, Role},
    text,
};

/// Measures what this host needs, for a `[survival]` table.
pub(super) fn measure(globals: &Globals, out: Option<&Path>) -> Done {
    let needs = survival::needs(Path::new("/"), &[globals.config()?.governed])?;
    let listing = survival::listing(&needs);
    let sets = [Role::Executable, Role::Library, Role::Script].map(|role| {
        let listed = listing.sets.get(&role).map(Vec::as_slice);
        Set::of(role, listed.unwrap_or_default())
    });
    let left_out: Vec<String> = sets
        .iter()
        .flat_map(|set| set.unfit.iter().cloned())
        .chain(listing.left_out.iter().map(Missing::to_string))
        .collect();
    if let Some(dir) = out {
        fs::create_dir_all(dir).with_context(|| format!("making `{}`", dir.display()))?;
        sets.iter().try_for_each(|set| set.write(dir))?;
    }
    if globals.json {
        let listed = |set: &Set| {
            let files: Vec<Value> = set.listed.iter().map(described).collect();
            (set.role.key().to_owned(), Value::from(files))
        };
        output::print_lossless(&json!({
            "survival": sets.iter().map(listed).collect::<serde_json::Map<_, _>>(),
            "left_out": left_out,
            "notices": needs.notices(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for notice in needs.notices() {
        output::complain(&format!("warning: {}", text::strip(notice)));
    }
    for what in &left_out {
        output::complain(&format!("warning: left out: {}", text::strip(what)));
    }
    output::print(&match out {
        Some(_) => toml(&sets),
        None => sets.iter().map(Set::shown).collect(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Holds the survival set of the policy in `dir` against this host.
pub(super) fn check(globals: &Globals, dir: &Path) -> Done {
    let policy = policy::parse(&bundle::read(dir)?)
        .map_err(|found| Failure::Failed(format!("the policy does not lint:\n{found}")))?;
    let governed = governed(globals.config()?.governed, &policy);
    let needs = survival::needs(Path::new("/"), &governed)?;
    let missing = survival::missing(&needs, policy.survival());
    let vital = missing.iter().filter(|one| one.is_vital()).count();
    if globals.json {
        let listed: Vec<Value> = missing.iter().map(lost).collect();
        let notices = needs.notices();
        output::print_json(&json!({ "ok": vital == 0, "missing": listed, "notices": notices }))?;
    } else {
        for notice in needs.notices() {
            output::complain(&format!("warning: {}", text::strip(notice)));
        }
        let lines = missing.iter().map(line);
        let (name, serial) = (text::strip(policy.name()), policy.serial());
        let others = missing.len() - vital;
        let verdict = match vital {
            0 => "lists all that is vital to this host",
            _ => "would shut you out, list what `governor measure --survival` finds",
        };
        let last = format!(
            "policy `{name}` serial {serial} {verdict} ({} needed, {vital} vital and {others} other not \
             listed)",
            needs.iter().count()
        );
        output::print(&lines.chain([last]).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(match vital {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(3),
    })
}

/// The cgroups whose processes are work.
fn governed(slice: String, policy: &Policy) -> Vec<String> {
    let zones = policy.zones().values().map(|zone| zone.cgroup.clone());
    // A zone of the whole host makes no work of it.
    zones
        .chain([slice])
        .filter(|path| !path.trim_matches('/').is_empty())
        .collect()
}

fn line(missing: &Missing) -> String {
    let mark = if missing.is_vital() {
        "MISSING"
    } else {
        "advised"
    };
    format!("{mark}  {}", text::strip(&missing.to_string()))
}

fn lost(missing: &Missing) -> Value {
    let Missing { need, found } = missing;
    let (digest, note) = match found {
        Found::Unlisted(digest) => (Some(digest.to_string()), None),
        Found::Gone => (None, Some("gone".to_owned())),
        Found::Unmeasured(why) => (None, Some(why.clone())),
    };
    json!({
        "path": need.path.to_string_lossy(),
        "role": need.role.to_string(),
        "why": need.reason(),
        "vital": missing.is_vital(),
        "sha256": digest,
        "note": note,
    })
}

fn described((digest, need): &(Digest, Need)) -> Value {
    json!({
        "sha256": digest.to_string(),
        "path": need.path.to_string_lossy(),
        "why": need.reason(),
        "vital": need.why.is_vital(),
    })
}

/// One list of a `[survival]` table.
struct Set {
    role: Role,
    listed: Vec<(Digest, Need)>,
    /// Files whose names a set cannot carry.
    unfit: Vec<String>,
}

impl Set {
    fn of(role: Role, all: &[(Digest, Need)]) -> Self {
        let fits = |(_, need): &&(Digest, Need)| {
            need.path
                .to_str()
                .is_some_and(|path| !path.contains('\\') && text::strip(path) == path)
        };
        let (listed, unfit): (Vec<_>, Vec<_>) = all.iter().partition(fits);
        let unfit = unfit.into_iter().map(|(_, need)| {
            format!(
                "{}: a set cannot carry its name, rename the file",
                need.path.display()
            )
        });
        Self {
            role,
            listed: listed.into_iter().cloned().collect(),
            unfit: unfit.collect(),
        }
    }

    fn name(&self) -> String {
        format!("survival-{}", self.role.key())
    }

    fn file(&self) -> String {
        format!("{}.sha256", self.name())
    }

    fn text(&self) -> String {
        let line = |(digest, need): &(Digest, Need)| format!("{digest}  {}\n", need.path.display());
        self.listed.iter().map(line).collect()
    }

    fn shown(&self) -> String {
        format!("# {}\n{}", self.name(), self.text())
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let path: PathBuf = dir.join(self.file());
        let doing = || format!("writing `{}`", path.display());
        let mut file = tempfile::NamedTempFile::new_in(dir).with_context(doing)?;
        file.write_all(self.text().as_bytes()).with_context(doing)?;
        let readable = fs::Permissions::from_mode(0o644);
        file.as_file()
            .set_permissions(readable)
            .with_context(doing)?;
        file.persist(&path).with_context(doing)?;
        Ok(())
    }
}

/// What a policy says to list the sets.
fn toml(sets: &[Set]) -> String {
    let mut out = String::from("[set]\n");
    for set in sets {
        let _infallible = writeln!(out, "{} = \"{}\"", set.name(), set.file());
    }
    out.push_str("\n[survival]\n");
    for set in sets {
        let _infallible = writeln!(out, "{} = [\"{}\"]", set.role.key(), set.name());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use governor_core::policy::RawBundle;

    use super::*;
    use crate::survival::Why;

    fn set(role: Role, paths: &[&[u8]]) -> Set {
        let need = |path: &&[u8]| Need {
            path: PathBuf::from(OsStr::from_bytes(path)),
            role,
            why: Why::Init,
            by: None,
            gone: false,
        };
        let all: Vec<_> = paths
            .iter()
            .map(|path| (Digest::of(path), need(path)))
            .collect();
        Set::of(role, &all)
    }

    #[test]
    fn what_is_written_is_a_policys_survival_table() {
        let sets = [
            set(Role::Executable, &[b"/bin/sh", b"/bin/a b"]),
            set(Role::Library, &[b"/lib/libc.so.6"]),
            set(Role::Script, &[b"/bin/x"]),
        ];
        let dir = tempfile::tempdir().expect("a directory");
        sets.iter()
            .for_each(|set| set.write(dir.path()).expect("written"));
        let header = "[policy]\nformat = 1\nname = \"a\"\nserial = 1\n\
            not_before = 2026-11-01T00:00:00Z\nnot_after = 2026-12-01T00:00:00Z\n[governor]\n";
        fs::write(
            dir.path().join("policy.toml"),
            format!("{header}{}", toml(&sets)),
        )
        .expect("written");
        let files: RawBundle = bundle::read(dir.path()).expect("read");
        let policy = policy::parse(&files).expect("lints");
        assert_eq!(policy.warnings(), []);
        let survival = policy.survival();
        assert_eq!(
            survival.exec,
            [Digest::of(b"/bin/sh"), Digest::of(b"/bin/a b")].into()
        );
        assert_eq!(survival.libraries, [Digest::of(b"/lib/libc.so.6")].into());
        assert_eq!(survival.scripts, [Digest::of(b"/bin/x")].into());
    }

    #[test]
    fn names_that_a_set_cannot_carry_are_left_out_and_told() {
        let odd: &[&[u8]] = &[
            b"/a\n/bin/sh",
            b"/b\\",
            b"/c\xff",
            "/d\u{202e}".as_bytes(),
            b"/e",
        ];
        let set = set(Role::Script, odd);
        assert_eq!(set.text(), format!("{}  /e\n", Digest::of(b"/e")));
        assert_eq!(set.unfit.len(), 4);
    }
}
