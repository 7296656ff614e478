//! Evidence and reference values as files: what `governor attest` reads and writes.
//!
//! Promises: each part is a file of its own, the signed bytes exactly as signed, so that other
//! tools can check them. Reading is strict: a part that is missing or does not parse is an error.
//! Verification here gives a list of objections for people and never an attestation result:
//! evidence from files grants nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use governor_core::attest::{
    Challenge, Evidence, MAX_EVENT_LOG, PCR_COUNT, PcrSelection, ReferenceValues, Rejection,
    diagnose_answer,
};
use governor_core::digest::Digest;

use super::Tpm;

/// TPMS_ATTEST.
pub const QUOTE: &str = "quote.bin";
/// TPMT_SIGNATURE.
pub const SIGNATURE: &str = "signature.bin";
/// TPMT_PUBLIC.
pub const AK_PUBLIC: &str = "ak.pub";
/// What the quote answers, as TOML.
pub const CHALLENGE: &str = "challenge.toml";
/// The `[pcr]` table of reference values.
pub const PCRS: &str = "pcrs.toml";
/// As the firmware wrote it; left out where there is none.
pub const EVENT_LOG: &str = "event_log.bin";

/// What this machine's TPM says now, as the text of a `reference.toml`. Believed because the
/// operator asks for it, on a machine known to be good.
pub fn baseline(tcti: &str, state_dir: &Path, selection: &PcrSelection) -> Result<String> {
    let mut tpm = Tpm::open(tcti, state_dir)?;
    let pcrs = tpm.read_pcrs(selection)?;
    Ok(ReferenceValues::new([tpm.ak().name], pcrs).write())
}

/// Evidence over `extra_data`, from this machine's TPM.
pub fn quote(
    tcti: &str,
    state_dir: &Path,
    selection: &PcrSelection,
    extra_data: [u8; 32],
) -> Result<Evidence> {
    Tpm::open(tcti, state_dir)?.evidence(selection, extra_data)
}

/// Name and content of each file.
pub fn evidence_files(evidence: &Evidence) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        (QUOTE.to_owned(), evidence.quote.clone()),
        (SIGNATURE.to_owned(), evidence.signature.clone()),
        (AK_PUBLIC.to_owned(), evidence.ak_public.clone()),
        (PCRS.to_owned(), write_pcrs(&evidence.pcrs).into_bytes()),
    ];
    if !evidence.event_log.is_empty() {
        files.push((EVENT_LOG.to_owned(), evidence.event_log.clone()));
    }
    files
}

/// Writes each part into `dir`, which is made if it is missing. Never overwrites: evidence that
/// mixes two quotes would be worse than none.
pub fn write_evidence_dir(dir: &Path, evidence: &Evidence) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making the folder `{}`", dir.display()))?;
    for (name, content) in evidence_files(evidence) {
        let path = dir.join(name);
        File::create_new(&path)
            .and_then(|mut file| file.write_all(&content))
            .with_context(|| format!("writing `{}`", path.display()))?;
    }
    Ok(())
}

/// Reads what [`write_evidence_dir`] wrote.
pub fn read_evidence_dir(dir: &Path) -> Result<Evidence> {
    let pcrs = String::from_utf8(read(dir, PCRS)?)
        .with_context(|| format!("reading `{}`", dir.join(PCRS).display()))?;
    Ok(Evidence {
        quote: read(dir, QUOTE)?,
        signature: read(dir, SIGNATURE)?,
        ak_public: read(dir, AK_PUBLIC)?,
        pcrs: read_pcrs(&pcrs)
            .with_context(|| format!("reading `{}`", dir.join(PCRS).display()))?,
        event_log: read_optional(dir, EVENT_LOG)?.unwrap_or_default(),
    })
}

/// The challenge that lies beside the evidence in `dir`. It is a claim: [`verify`] says whether the
/// quote answers it.
pub fn read_challenge(dir: &Path) -> Result<Challenge> {
    let reading = || format!("reading `{}`", dir.join(CHALLENGE).display());
    let text = String::from_utf8(read(dir, CHALLENGE)?).with_context(reading)?;
    Challenge::parse(&text).with_context(reading)
}

/// Everything that speaks against the evidence in `dir` as an answer to `extra_data`; nothing
/// does where the list is empty.
pub fn verify(
    dir: &Path,
    extra_data: &Digest,
    selection: &PcrSelection,
    reference: &ReferenceValues,
) -> Result<Vec<Rejection>> {
    Ok(diagnose_answer(
        &read_evidence_dir(dir)?,
        extra_data,
        selection,
        reference,
    ))
}

pub(super) fn write_pcrs(pcrs: &BTreeMap<u8, Digest>) -> String {
    let mut text = "[pcr]\n".to_owned();
    for (pcr, value) in pcrs {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{pcr} = \"{value}\"");
    }
    text
}

/// The grammar of reference values, which must name no key.
pub(super) fn read_pcrs(text: &str) -> Result<BTreeMap<u8, Digest>> {
    let values = ReferenceValues::parse(text)?;
    ensure!(
        values.ak_names().is_empty(),
        "PCR values name no attestation key"
    );
    Ok((0..PCR_COUNT)
        .filter_map(|pcr| Some((pcr, *values.pcr(pcr)?)))
        .collect())
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>> {
    read_optional(dir, name)?.with_context(|| {
        format!(
            "reading evidence: `{}` is missing",
            dir.join(name).display()
        )
    })
}

fn read_optional(dir: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = dir.join(name);
    let reading = || format!("reading `{}`", path.display());
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(reading),
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_EVENT_LOG).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .with_context(reading)?;
    ensure!(
        bytes.len() <= MAX_EVENT_LOG,
        "{}: it is too large to be evidence",
        reading()
    );
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        Evidence {
            quote: vec![1, 2],
            signature: vec![3],
            ak_public: vec![4],
            pcrs: BTreeMap::from([(0, Digest::of(b"0")), (23, Digest::of(b"23"))]),
            event_log: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        for evidence in [
            evidence(),
            Evidence {
                event_log: vec![5],
                ..evidence()
            },
        ] {
            let dir = dir.path().join(evidence.event_log.len().to_string());
            write_evidence_dir(&dir, &evidence).unwrap();
            assert_eq!(read_evidence_dir(&dir).unwrap(), evidence);
            let error = write_evidence_dir(&dir, &evidence).unwrap_err();
            assert!(error.to_string().starts_with("writing `"), "{error}");
        }
    }

    #[test]
    fn a_missing_part_is_an_error() {
        for name in [QUOTE, SIGNATURE, AK_PUBLIC, PCRS] {
            let dir = tempfile::tempdir().unwrap();
            write_evidence_dir(dir.path(), &evidence()).unwrap();
            fs::remove_file(dir.path().join(name)).unwrap();
            let error = read_evidence_dir(dir.path()).unwrap_err().to_string();
            assert!(error.ends_with(&format!("{name}` is missing")), "{error}");
        }
    }

    #[test]
    fn pcr_values_name_no_key() {
        let name = format!("000b{}", Digest::of(b""));
        let error = read_pcrs(&format!("[ak]\nnames = [\"{name}\"]\n")).unwrap_err();
        assert_eq!(error.to_string(), "PCR values name no attestation key");
    }
}
