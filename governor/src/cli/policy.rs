//! `governor policy`: check, sign and verify a policy directory, and put it in force.
//!
//! `lint`, `sign` and `verify` need no daemon and read no clock but for validity. A refused reload
//! changes nothing; what is refused is said with file, line and column.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use governor_core::{
    engine,
    policy::{self, Diagnostic, Policy, PolicyError, RawBundle, Severity, VerifiedPolicy},
    time::WallTime,
};
use serde_json::{Value, json};

use super::{Done, Globals, output};
use crate::{
    bundle, config,
    control::{Failure, proto},
    text,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Say what is wrong with a policy directory, signed or not
    Lint {
        /// The policy's directory
        dir: PathBuf,
        /// The directory of the policy that it comes in place of: also say what becomes of what runs
        #[arg(long, value_name = "DIR")]
        in_place_of: Option<PathBuf>,
    },
    /// Write SHA256SUMS and sign it
    Sign {
        /// The policy's directory
        dir: PathBuf,
        /// An OpenSSH private key without passphrase; with one, use
        /// `ssh-keygen -Y sign -n governor-policy@v1 -f KEY SHA256SUMS`
        #[arg(long)]
        key: PathBuf,
    },
    /// Say whether a daemon with these trusted keys would accept the directory now
    Verify {
        /// The policy's directory
        dir: PathBuf,
        /// OpenSSH public keys, one a line [default: as configured]
        #[arg(long)]
        keys: Option<PathBuf>,
        /// How many distinct keys must have signed [default: as configured]
        #[arg(long, value_name = "N")]
        threshold: Option<u32>,
    },
    /// Say what this host cannot go on without and the directory's survival set lacks
    CheckSurvival {
        /// The policy's directory
        dir: PathBuf,
    },
    /// Print the policy in force
    Show,
    /// Put a signed directory in force
    Reload {
        /// The policy's directory
        dir: PathBuf,
        /// Also if it has no [zone.host] and what runs as a workload of that zone is stopped for it
        #[arg(long)]
        ends_host: bool,
    },
}

pub(super) fn policy(globals: &Globals, verb: Verb) -> Done {
    match verb {
        Verb::Lint { dir, in_place_of } => lint(globals, &dir, in_place_of.as_deref()),
        Verb::Sign { dir, key } => sign(globals, &dir, &key),
        Verb::Verify {
            dir,
            keys,
            threshold,
        } => verify(globals, &dir, keys, threshold),
        Verb::CheckSurvival { dir } => super::survival::check(globals, &dir),
        Verb::Show => show(globals),
        Verb::Reload { dir, ends_host } => reload(globals, &dir, ends_host),
    }
}

fn lint(globals: &Globals, dir: &Path, before: Option<&Path>) -> Done {
    let parsed = policy::parse(&bundle::read(dir)?);
    // What is wrong with this one is said whatever the one before is.
    let (before, unread) = match before.map(parsed_before).transpose() {
        Ok(before) => (before, None),
        Err(failure) => (None, Some(failure)),
    };
    let found = match &parsed {
        Ok(policy) => {
            let mut found = complaints(policy, &globals.config()?.governed);
            found.extend(
                before
                    .iter()
                    .flat_map(|b| engine::lint_in_place_of(b, policy)),
            );
            found
        }
        Err(diagnostics) => diagnostics.all().to_vec(),
    };
    let good = parsed.is_ok() && unread.is_none() && !found.iter().any(is_error);
    if globals.json {
        output::print_json(&json!({ "ok": good, "diagnostics": listed(&found) }))?;
    } else {
        print_each(&found)?;
        if let Some(policy) = parsed.as_ref().ok().filter(|_| good) {
            let (name, serial) = (text::strip(policy.name()), policy.serial());
            let (zones, workloads) = (policy.zones().len(), policy.workloads().len());
            output::print(&format!(
                "policy `{name}` serial {serial} lints: {zones} zones, {workloads} workloads, {} \
                 warnings",
                found.len()
            ))?;
        }
    }
    if let Some(failure) = unread {
        return Err(failure);
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is wrong with the one before says nothing of the one after: it only has to be read.
fn parsed_before(dir: &Path) -> Result<Policy, Failure> {
    policy::parse(&bundle::read(dir)?).map_err(|diagnostics| {
        Failure::Failed(format!(
            "reading the policy before, `{}`:\n{diagnostics}",
            text::strip(&dir.display().to_string())
        ))
    })
}

fn sign(globals: &Globals, dir: &Path, key: &Path) -> Done {
    let signed = bundle::sign(dir, key)?;
    if globals.json {
        output::print_json(&json!({
            "fingerprint": signed.fingerprint,
            "manifest_changed": signed.manifest_changed,
            "already": signed.already,
            "dropped": signed.dropped,
            "signatures": signed.signatures,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if signed.dropped != 0 {
        output::complain(&format!(
            "{} older signatures no longer fitted and were dropped",
            signed.dropped
        ));
    }
    let what = if signed.already {
        "was signed already"
    } else {
        "is signed"
    };
    output::print(&format!(
        "`{}` {what} by {}; signatures: {}",
        text::strip(&dir.display().to_string()),
        text::strip(&signed.fingerprint),
        signed.signatures
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn verify(globals: &Globals, dir: &Path, keys: Option<PathBuf>, threshold: Option<u32>) -> Done {
    // Named keys stand alone; the configuration is asked only for what was left out.
    let keys = match keys {
        Some(keys) => config::read_keys(&keys, threshold.unwrap_or(1))?,
        None => {
            let trust = globals.config()?.trust;
            config::read_keys(&trust.keys, threshold.unwrap_or(trust.threshold))?
        }
    };
    let verified = match policy::open(&bundle::read(dir)?, &keys, now()) {
        Ok(verified) => verified,
        Err(error) => return Err(refused(error)),
    };
    let found = complaints(verified.policy(), &globals.config()?.governed);
    if let Some(error) = found.iter().find(|one| is_error(one)) {
        return Err(Failure::Failed(format!("refusing the policy:\n{error}")));
    }
    if globals.json {
        output::print_json(&described(&verified, &found))?;
    } else {
        print_each(&found)?;
        let policy = verified.policy();
        output::print(&format!(
            "policy `{}` serial {} verifies: valid until {}, sha256:{}\nsigned by {}",
            text::strip(policy.name()),
            policy.serial(),
            policy.validity().until,
            verified.digest(),
            verified.signers().join(", ")
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(globals: &Globals) -> Done {
    let request = proto::PolicyShowRequest {};
    let reply = globals.ask(async |client| client.policy_show(request).await)?;
    if globals.json {
        // The files as text where they are text: that is what a reader wants.
        let files: BTreeMap<&str, &str> = reply
            .files
            .iter()
            .filter_map(|file| Some((file.path.as_str(), str::from_utf8(&file.content).ok()?)))
            .collect();
        output::print_lossless(&json!({
            "policy": reply.policy,
            "signed_by": reply.signed_by,
            "files": files,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(policy) = &reply.policy else {
        output::print("no policy is in force; load one with `governor policy reload DIR`")?;
        return Ok(ExitCode::from(3));
    };
    let mut out = format!(
        "# {} serial {}, valid until {}, {} rows, sha256:{}\n# signed by {}\n",
        policy.name,
        policy.serial,
        policy.not_after,
        policy.rows,
        hex::encode(&policy.digest),
        reply.signed_by.join(", ")
    );
    for file in reply
        .files
        .iter()
        .filter(|file| file.path == policy::POLICY)
    {
        out.push_str(&String::from_utf8_lossy(&file.content));
    }
    output::print(&text::strip_lines(&out))?;
    Ok(ExitCode::SUCCESS)
}

fn reload(globals: &Globals, dir: &Path, ends_host: bool) -> Done {
    let files = message(&bundle::read(dir)?);
    let request = proto::ReloadRequest { files, ends_host };
    let reply = globals
        .ask(async |client| client.reload(request).await)
        // What is wrong is the policy, not the command line.
        .map_err(Failure::of_input)?;
    if globals.json {
        output::print_json(&reply)?;
        return Ok(ExitCode::SUCCESS);
    }
    for warning in &reply.warnings {
        output::complain(&format!("warning: {}", text::strip(warning)));
    }
    if let Some(policy) = &reply.policy {
        output::print(&format!(
            "policy `{}` serial {} is in force: {} rows, valid until {}",
            text::strip(&policy.name),
            policy.serial,
            policy.rows,
            text::strip(&policy.not_after)
        ))?;
    }
    for change in &reply.changes {
        output::print(&format!("- {}", text::strip(change)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn message(bundle: &RawBundle) -> Vec<proto::File> {
    bundle
        .files()
        .map(|(path, content)| proto::File {
            path: path.into(),
            content: content.into(),
        })
        .collect()
}

/// Which exit code a refused policy has.
fn refused(error: PolicyError) -> Failure {
    let text = error.to_string();
    match error {
        PolicyError::Signature(_) | PolicyError::Manifest(_) => Failure::Verification(text),
        PolicyError::Bundle(_) | PolicyError::Invalid(_) => Failure::Failed(text),
        PolicyError::NotYetValid { .. }
        | PolicyError::Expired { .. }
        | PolicyError::SerialTooLow { .. }
        | PolicyError::SerialReused { .. } => Failure::Denied(text),
    }
}

/// What is wrong with a policy that parses: what was seen while it was read, and what loading it would
/// meet on any host whose work is governed below `governed`.
fn complaints(policy: &Policy, governed: &str) -> Vec<Diagnostic> {
    let mut found = policy.warnings().to_vec();
    found.extend(engine::lint(policy, governed));
    found
}

fn is_error(one: &Diagnostic) -> bool {
    one.severity == Severity::Error
}

fn described(verified: &VerifiedPolicy, found: &[Diagnostic]) -> Value {
    let policy = verified.policy();
    json!({
        "name": policy.name(),
        "serial": policy.serial(),
        "not_before": policy.validity().from.to_string(),
        "not_after": policy.validity().until.to_string(),
        "digest": verified.digest().to_string(),
        "signed_by": verified.signers(),
        "warnings": listed(found),
    })
}

fn listed(found: &[Diagnostic]) -> Vec<Value> {
    let severity = |severity| match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    found
        .iter()
        .map(|one| {
            json!({
                "severity": severity(one.severity),
                "file": one.file,
                "line": one.line,
                "column": one.column,
                "message": one.message,
                "hint": one.hint,
            })
        })
        .collect()
}

fn print_each(found: &[Diagnostic]) -> Result<(), Failure> {
    found
        .iter()
        .try_for_each(|one| output::print(&text::strip_lines(&one.to_string())))
}

fn now() -> WallTime {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    WallTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use governor_core::policy::SignatureError;

    use super::*;

    #[test]
    fn refused_policies_have_the_exit_code_of_their_reason() {
        let code = |error| refused(error).code();
        let (from, until, now) = (WallTime(1), WallTime(1), WallTime(2));
        assert_eq!(code(PolicyError::Signature(SignatureError::Unsigned)), 5);
        assert_eq!(code(PolicyError::Expired { until, now }), 3);
        assert_eq!(code(PolicyError::NotYetValid { from, now }), 3);
        assert_eq!(
            code(PolicyError::SerialTooLow {
                serial: 1,
                highest: 2
            }),
            3
        );
    }
}
