//! `governor break-glass`: denials are lifted for a while, with a credential, on the record.
//!
//! Promises: a private key is read and used here and goes nowhere; what is signed is a challenge for
//! exactly what was asked on this command line, whatever the daemon sent. Refuses keys that need a
//! passphrase: `--challenge-out` and `ssh-keygen` take those, and keys on other machines.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::ArgGroup;
use governor_core::engine::{BREAK_GLASS, GlassChallenge, Request};
use ssh_key::{HashAlg, LineEnding};

use super::{Done, Globals, output};
use crate::{
    bundle,
    control::{Failure, proto},
    text,
};

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("how").required(true))]
pub(super) struct Args {
    /// Why, for the record
    #[arg(long)]
    reason: String,
    /// How long, such as `30m`; at most 4 h
    #[arg(
        long = "for",
        value_name = "TIME",
        value_parser = super::seconds,
        required_unless_present = "end",
        conflicts_with = "end"
    )]
    seconds: Option<u64>,
    /// Sign with this private key (OpenSSH format, without a passphrase)
    #[arg(long, group = "how", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Write what is to be signed, for `ssh-keygen -Y sign -n governor-break-glass@v1`
    #[arg(long, group = "how", value_name = "FILE")]
    challenge_out: Option<PathBuf>,
    /// The signature that was made of it; `--reason` and `--for` as before
    #[arg(long, group = "how", value_name = "FILE")]
    signature: Option<PathBuf>,
    /// End it now; takes no credential
    #[arg(long, group = "how")]
    end: bool,
}

pub(super) fn break_glass(globals: &Globals, args: Args) -> Done {
    let Args {
        reason,
        seconds,
        key,
        challenge_out,
        signature,
        end: _,
    } = args;
    let Some(seconds) = seconds else {
        return end(globals, reason);
    };
    let reason = text::strip(reason.trim()).into_owned();
    let request = Request::new(&reason, seconds)
        .map_err(|error| Failure::Usage(format!("reading `--reason` and `--for`: {error}")))?;
    if let Some(path) = challenge_out {
        return write_challenge(globals, &request, &path);
    }
    let signature = match (key, signature) {
        (Some(key), _) => {
            // Before a challenge is asked for: one that nobody can sign voids another's.
            let key = bundle::private(&key, BREAK_GLASS)?;
            let (challenge, _) = challenge(globals, &request)?;
            let signed = key.sign(BREAK_GLASS, HashAlg::Sha512, challenge.as_bytes());
            let signed = signed.context("signing the challenge")?;
            let armor = signed.to_pem(LineEnding::LF);
            armor.context("writing the signature")?.into_bytes()
        }
        (None, Some(path)) => {
            fs::read(&path).with_context(|| format!("reading `{}`", path.display()))?
        }
        (None, None) => return Err(Failure::Usage("nothing says how to sign".into())),
    };
    let request = proto::BreakGlassRequest {
        reason,
        seconds,
        signature,
    };
    let reply = globals.ask(async |client| client.break_glass(request).await)?;
    if globals.json {
        output::print_json(&reply)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&format!(
        "THE GLASS IS BROKEN until {}, signed by {}: in no zone anything is denied but what was revoked; \
         end it with `governor break-glass --end --reason R`",
        text::strip(&reply.until),
        text::strip(&reply.key)
    ))?;
    warn_unwritten(&reply.unwritten);
    Ok(ExitCode::SUCCESS)
}

fn end(globals: &Globals, reason: String) -> Done {
    let request = proto::EndBreakGlassRequest { reason };
    let reply = globals.ask(async |client| client.end_break_glass(request).await)?;
    if globals.json {
        output::print_json(&reply)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&format!(
        "break-glass is over: {} frozen, {} quarantined, {} killed; a fresh quote is due, see `governor \
         status`",
        reply.frozen, reply.quarantined, reply.killed
    ))?;
    warn_unwritten(&reply.unwritten);
    Ok(ExitCode::SUCCESS)
}

/// A challenge for exactly this, as text and as it reads.
fn challenge(globals: &Globals, request: &Request) -> Result<(String, u64), Failure> {
    let asked = proto::GlassChallengeRequest {
        reason: request.reason().to_owned(),
        seconds: request.span().as_seconds(),
    };
    let reply = globals.ask(async |client| client.glass_challenge(asked).await)?;
    let read = GlassChallenge::parse(&reply.challenge)
        .map_err(|error| Failure::Verification(error.to_string()))?;
    if read.request != *request {
        return Err(Failure::Verification(format!(
            "the daemon wants a signature for {}, not for {request}; nothing was signed",
            read.request
        )));
    }
    Ok((reply.challenge, reply.patience_seconds))
}

fn write_challenge(globals: &Globals, request: &Request, path: &Path) -> Done {
    let (challenge, patience) = challenge(globals, request)?;
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(challenge.as_bytes()));
    written.with_context(|| format!("writing the challenge to `{}`", path.display()))?;
    let shown = path.display().to_string();
    let shown = text::strip(&shown);
    output::print(&format!(
        "`{shown}` is good for one try within {patience} s. Sign it where the key is, with `ssh-keygen -Y \
         sign -n {BREAK_GLASS} -f KEY {shown}`, then say the same here with `--signature {shown}.sig`"
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn warn_unwritten(why: &str) {
    if !why.is_empty() {
        output::complain(&format!(
            "the record could not be written and is owed; the journal has it: {}",
            text::strip(why)
        ));
    }
}
