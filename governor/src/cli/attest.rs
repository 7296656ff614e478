//! `governor attest`: evidence about this host, as files that can be verified elsewhere.
//!
//! `baseline` reads the TPM, `quote` asks the daemon, `verify` needs neither. Evidence that nobody
//! should rely on exits with 5 and with everything that speaks against it.

use std::{
    fs,
    path::{Component, Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use governor_core::attest::{Nonce, PcrSelection, ReferenceValues};
use serde_json::json;

use super::{Done, Globals, output, render};
use crate::{
    attester::files,
    control::{
        Failure,
        proto::{self, TrustState},
    },
    text,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Print this host's reference values as it is now
    Baseline {
        /// The PCRs that policy quotes
        #[arg(long, default_value = PCRS, value_parser = PcrSelection::parse)]
        pcrs: PcrSelection,
        /// How to reach the TPM [default: as configured]
        #[arg(long)]
        tcti: Option<String>,
    },
    /// Ask the daemon for a quote and write the evidence to a new directory
    Quote {
        /// The directory to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// 64 hexadecimal digits chosen by whoever will verify [default: the daemon's choice]
        #[arg(long, value_name = "HEX", value_parser = nonce)]
        nonce: Option<[u8; 32]>,
    },
    /// Have the daemon appraise this host now; exit code 0 only if it is trusted then
    Now,
    /// Appraise evidence in a directory
    Verify {
        /// What `governor attest quote` wrote
        dir: PathBuf,
        /// The reference values
        #[arg(long, value_name = "FILE")]
        reference: PathBuf,
        /// The PCRs that must be quoted
        #[arg(long, default_value = PCRS, value_parser = PcrSelection::parse)]
        pcrs: PcrSelection,
        /// The nonce that was asked for; without it, nothing shows when the quote was made
        #[arg(long, value_name = "HEX", value_parser = nonce)]
        nonce: Option<[u8; 32]>,
    },
}

/// As the example policy quotes them.
const PCRS: &str = "0,1,2,3,4,5,6,7,8,9,14";

pub(super) fn attest(globals: &Globals, verb: Verb) -> Done {
    match verb {
        Verb::Baseline { pcrs, tcti } => baseline(globals, &pcrs, tcti),
        Verb::Quote { out, nonce } => quote(globals, &out, nonce),
        Verb::Now => now(globals),
        Verb::Verify {
            dir,
            reference,
            pcrs,
            nonce,
        } => verify(globals, &dir, &reference, &pcrs, nonce),
    }
}

fn baseline(globals: &Globals, pcrs: &PcrSelection, tcti: Option<String>) -> Done {
    let config = globals.config()?;
    let tcti = tcti.unwrap_or(config.tpm.tcti);
    let reference = files::baseline(&tcti, &config.state, pcrs)?;
    if globals.json {
        output::print_json(&json!({ "reference": reference.lines().collect::<Vec<_>>() }))?;
    } else {
        output::print(&reference)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn quote(globals: &Globals, out: &Path, nonce: Option<[u8; 32]>) -> Done {
    let request = proto::QuoteRequest {
        nonce: nonce.map(Vec::from),
    };
    let reply = globals.ask(async |client| client.quote(request).await)?;
    store(out, &reply.files)?;
    if globals.json {
        let paths: Vec<_> = reply.files.iter().map(|file| &file.path).collect();
        output::print_json(&json!({ "directory": out, "files": paths }))?;
    } else {
        let (count, out) = (reply.files.len(), out.display());
        output::print(&format!(
            "wrote {count} files to `{out}`; verify them anywhere with `governor attest verify \
             {out} --reference FILE`"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes files into a directory that must not exist yet, so that no two quotes mix.
fn store(out: &Path, files: &[proto::File]) -> Result<()> {
    fs::create_dir(out).with_context(|| format!("creating `{}`", out.display()))?;
    for file in files {
        let path = Path::new(&file.path);
        let mut parts = path.components();
        ensure!(
            matches!(
                (parts.next(), parts.next()),
                (Some(Component::Normal(_)), None)
            ),
            "writing evidence: `{}` is not the name of a file",
            text::strip(&file.path)
        );
        let path = out.join(path);
        fs::write(&path, &file.content).with_context(|| format!("writing `{}`", path.display()))?;
    }
    Ok(())
}

fn now(globals: &Globals) -> Done {
    let request = proto::ReattestRequest {};
    let reply = globals.ask(async |client| client.reattest(request).await)?;
    if globals.json {
        output::print_json(&reply)?;
    } else {
        output::print(&render::appraised(&reply))?;
    }
    let state = reply.trust.map(|trust| trust.state()).unwrap_or_default();
    Ok(if state == TrustState::Trusted && reply.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}

fn verify(
    globals: &Globals,
    dir: &Path,
    reference: &Path,
    pcrs: &PcrSelection,
    nonce: Option<[u8; 32]>,
) -> Done {
    let context = || format!("reading `{}`", reference.display());
    let values = fs::read_to_string(reference).with_context(context)?;
    let values = ReferenceValues::parse(&values).with_context(context)?;
    let mut challenge = files::read_challenge(dir)?;
    if let Some(nonce) = nonce {
        // What was asked for, whatever the file says was.
        challenge.nonce = Nonce::new(nonce);
    }
    let objections: Vec<_> = files::verify(dir, &challenge.extra_data(), pcrs, &values)?
        .iter()
        .map(|objection| text::strip(&objection.to_string()).into_owned())
        .collect();
    if globals.json {
        output::print_json(&json!({
            "ok": objections.is_empty(),
            "nonce_checked": nonce.is_some(),
            "objections": objections,
        }))?;
    }
    if !objections.is_empty() {
        let dir = dir.display();
        let listed = objections.join("\n- ");
        return Err(Failure::Verification(format!(
            "the evidence in `{dir}` fails:\n- {listed}"
        )));
    }
    if !globals.json {
        output::print(&format!(
            "nothing speaks against the evidence in `{}`\nit binds policy {}, ledger head {} at {} \
             records, trips {}",
            dir.display(),
            challenge.policy,
            challenge.ledger_head,
            challenge.ledger_size,
            challenge.trips
        ))?;
    }
    if nonce.is_none() {
        output::complain("without `--nonce` nothing shows when the quote was made");
    }
    Ok(ExitCode::SUCCESS)
}

fn nonce(text: &str) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err("a nonce is 64 hexadecimal digits".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_stays_in_its_directory() {
        let directory = tempfile::tempdir().expect("directory");
        let file = |path: &str| proto::File {
            path: path.into(),
            content: b"x".to_vec(),
        };
        let out = directory.path().join("evidence");
        store(&out, &[file("quote.bin"), file("pcrs.txt")]).expect("stored");
        assert_eq!(fs::read(out.join("quote.bin")).expect("file"), b"x");
        assert!(
            store(&out, &[file("quote.bin")]).is_err(),
            "an old directory was reused"
        );
        for (at, path) in ["../x", "/x", "a/b", "..", "."].into_iter().enumerate() {
            let out = directory.path().join(at.to_string());
            assert!(store(&out, &[file(path)]).is_err(), "{path}");
        }
        assert_eq!(
            fs::read_dir(directory.path()).expect("directory").count(),
            6
        );
    }
}
