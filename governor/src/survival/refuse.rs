//! Whether a policy that makes a zone of the whole host would shut its operator out.
//!
//! Promises: an enforcing policy whose survival set lacks something vital is refused, with names; one that
//! only observes is accepted with warnings. Takes seconds and reads hundreds of files: not for a loop that
//! has anything else to do.

use std::path::Path;

use governor_core::policy::{Mode, Policy, Survival};
use thiserror::Error;

use super::{Missing, Needs, lasting_needs, missing};
use crate::text;

/// Files that are named one by one.
const NAMED: usize = 20;

/// What a person should look at although the policy is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

/// Why a policy would shut the operator out, or why that cannot be told.
#[derive(Debug, Error)]
pub enum ShutOut {
    #[error("looking for what this host needs to go on: {0:#}")]
    Look(anyhow::Error),
    #[error(
        "the survival set would shut the operator out ({count} files that this host cannot go on without \
         are not listed): {named}{more}; list what `governor measure --survival` finds, and sign the policy again",
        named = .named.join(", "),
        more = match .count - .named.len() { 0 => String::new(), more => format!(", and {more} more") }
    )]
    Missing { named: Vec<String>, count: usize },
}

/// Holds the policy's survival set against this host, for a zone of the whole host in `mode`.
pub fn refuse_if_shut_out(policy: &Policy, mode: Mode) -> Result<Vec<Warning>, ShutOut> {
    judge(lasting_needs(Path::new("/")), policy.survival(), mode)
}

fn judge(
    needs: anyhow::Result<Needs>,
    survival: &Survival,
    mode: Mode,
) -> Result<Vec<Warning>, ShutOut> {
    let needs = match (needs, mode) {
        (Ok(needs), _) => needs,
        (Err(error), Mode::Enforce) => return Err(ShutOut::Look(error)),
        (Err(error), Mode::Observe) => return Ok(vec![Warning(ShutOut::Look(error).to_string())]),
    };
    let (vital, advisable): (Vec<Missing>, Vec<Missing>) = missing(&needs, survival)
        .into_iter()
        .partition(Missing::is_vital);
    let mut warnings: Vec<Warning> = needs.notices().iter().map(|one| stripped(one)).collect();
    if !vital.is_empty() {
        let refusal = ShutOut::Missing {
            named: vital.iter().take(NAMED).map(line).collect(),
            count: vital.len(),
        };
        match mode {
            Mode::Enforce => return Err(refusal),
            Mode::Observe => warnings.push(Warning(format!("when this enforces, {refusal}"))),
        }
    }
    if !advisable.is_empty() {
        let named: Vec<String> = advisable.iter().take(NAMED).map(line).collect();
        let more = match advisable.len() - named.len() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        warnings.push(Warning(format!(
            "not in the survival set and used by this host ({}): {}{more}",
            advisable.len(),
            named.join(", ")
        )));
    }
    Ok(warnings)
}

fn line(missing: &Missing) -> String {
    text::strip(&missing.to_string()).into_owned()
}

fn stripped(text: &str) -> Warning {
    Warning(text::strip(text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _};

    use governor_core::digest::Digest;

    use super::*;

    /// A host that consists of scripts of systemd, and of one that runs at login.
    fn host(scripts: usize) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let put = |path: String| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(&path, format!("#!/bin/sh\n# {}\n", path.display())).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        };
        for n in 0..scripts {
            put(format!("usr/lib/systemd/s{n:02}"));
        }
        put("etc/update-motd.d/10-x".into());
        dir
    }

    fn scripts(dir: &Path) -> BTreeSet<Digest> {
        let all = fs::read_dir(dir).expect("a directory");
        let read = |entry: std::io::Result<fs::DirEntry>| fs::read(entry.expect("one").path());
        all.map(|entry| Digest::of(&read(entry).expect("read")))
            .collect()
    }

    #[test]
    fn what_is_vital_refuses_and_the_rest_warns() {
        let dir = host(23);
        let judge = |survival: &Survival, mode| judge(lasting_needs(dir.path()), survival, mode);
        let nothing = Survival::default();
        let refused = judge(&nothing, Mode::Enforce)
            .expect_err("refused")
            .to_string();
        assert!(refused.contains("(23 files that"), "{refused}");
        assert!(
            refused.contains("/usr/lib/systemd/s19 (script): systemd, and 3 more"),
            "{refused}"
        );
        assert!(
            refused.contains("`governor measure --survival`"),
            "{refused}"
        );
        assert!(!refused.contains("motd"), "{refused}");

        let warned = judge(&nothing, Mode::Observe).expect("accepted");
        assert_eq!(warned.len(), 2, "{warned:?}");
        assert!(warned[0].0.contains(&refused), "{warned:?}");
        assert!(warned[1].0.contains("by this host (1): /etc"), "{warned:?}");

        let mut listed = Survival {
            scripts: scripts(&dir.path().join("usr/lib/systemd")),
            ..Survival::default()
        };
        let warned = judge(&listed, Mode::Enforce).expect("accepted");
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert!(
            warned[0].0.contains("/etc/update-motd.d/10-x"),
            "{warned:?}"
        );
        listed
            .scripts
            .extend(scripts(&dir.path().join("etc/update-motd.d")));
        assert_eq!(judge(&listed, Mode::Enforce).expect("accepted"), []);

        // In another role it is not listed.
        let exec = Survival {
            exec: listed.scripts,
            ..Survival::default()
        };
        assert!(judge(&exec, Mode::Enforce).is_err());
    }

    #[test]
    fn a_host_that_cannot_be_looked_at_is_not_enforced_upon() {
        let look = || Err(anyhow::anyhow!("no proc"));
        let survival = Survival::default();
        let refused = judge(look(), &survival, Mode::Enforce).expect_err("refused");
        assert!(refused.to_string().ends_with("no proc"), "{refused}");
        let warned = judge(look(), &survival, Mode::Observe).expect("accepted");
        assert_eq!(warned.len(), 1);
    }
}
