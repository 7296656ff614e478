//! The commands: open, quote, read PCRs, put evidence together.
//!
//! Promises: nothing leaves here that our own verifier does not accept, because the TPM library
//! hands out structures and not the bytes that were signed. PCR values come with a quote only
//! when they are the quoted ones. Keys are used with an empty password, so no session is opened
//! for a quote and none can be left behind.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::str::FromStr as _;

use anyhow::{Context as _, Result, bail, ensure};
use governor_core::attest::{
    AttestationKey, Evidence, MAX_EVENT_LOG, Name, PcrSelection, Quote, Signature, composite,
};
use governor_core::digest::Digest;
use tss_esapi::handles::{KeyHandle, PcrHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    Data, DigestValues, PcrSelectSize, PcrSelectionList, PcrSlot, SignatureScheme,
};
use tss_esapi::traits::Marshall as _;
use tss_esapi::{Context, TctiNameConf};

use super::ak;

/// An open TPM with the attestation key loaded. Closing it flushes what it loaded.
pub struct Tpm {
    context: Context,
    ak: KeyHandle,
    public: Vec<u8>,
    key: AttestationKey,
    has_event_log: bool,
}

/// The attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ak {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    pub name: Name,
}

/// A quote that our own verifier accepts as the key's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// TPMS_ATTEST.
    pub quote: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

impl Tpm {
    /// Connects to the TPM and loads the attestation key kept in `state_dir`, which is made there
    /// if there is none.
    pub fn open(tcti: &str, state_dir: &Path) -> Result<Self> {
        let conf = check_tcti(tcti)?;
        let has_event_log = match &conf {
            TctiNameConf::Device(_) => true,
            // Another TPM than the one this machine was measured into.
            TctiNameConf::Swtpm(_) | TctiNameConf::Mssim(_) | TctiNameConf::Tabrmd(_) => false,
        };
        let mut context =
            Context::new(conf).with_context(|| format!("opening the TPM `{tcti}`"))?;
        let loaded = ak::load_or_create(&mut context, state_dir)?;
        Ok(Self {
            context,
            ak: loaded.handle,
            public: loaded.public,
            key: loaded.key,
            has_event_log,
        })
    }

    /// The loaded attestation key.
    pub fn ak(&self) -> Ak {
        Ak {
            public: self.public.clone(),
            name: self.key.name(),
        }
    }

    /// Has the TPM sign the PCRs of `selection` and `extra_data`.
    pub fn quote(&mut self, selection: &PcrSelection, extra_data: [u8; 32]) -> Result<Quoted> {
        Ok(self.quote_parsed(selection, extra_data)?.0)
    }

    /// Reads the PCRs of `selection`, all at one value of the TPM's update counter.
    pub fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<BTreeMap<u8, Digest>> {
        for _ in 0..ATTEMPTS {
            let mut values = BTreeMap::new();
            let mut counters = Vec::new();
            let pcrs: Vec<u8> = selection.iter().collect();
            for some in pcrs.chunks(PCRS_PER_READ) {
                counters.push(self.read_some(some, &mut values)?);
            }
            if counters.windows(2).all(|pair| pair[0] == pair[1]) {
                return Ok(values);
            }
        }
        bail!("reading PCRs {selection}: they changed during each of {ATTEMPTS} readings");
    }

    /// Reads PCRs and quotes them until both say the same.
    pub fn evidence(&mut self, selection: &PcrSelection, extra_data: [u8; 32]) -> Result<Evidence> {
        for _ in 0..ATTEMPTS {
            let pcrs = self.read_pcrs(selection)?;
            let (quoted, parsed) = self.quote_parsed(selection, extra_data)?;
            let read = composite(selection, &pcrs);
            if read.is_some_and(|digest| parsed.pcr_digest == digest.bytes()) {
                let Quoted { quote, signature } = quoted;
                let ak_public = self.public.clone();
                let event_log = if self.has_event_log {
                    event_log()?
                } else {
                    Vec::new()
                };
                return Ok(Evidence {
                    quote,
                    signature,
                    ak_public,
                    pcrs,
                    event_log,
                });
            }
        }
        bail!(
            "quoting PCRs {selection}: they changed between reading and quoting {ATTEMPTS} times"
        );
    }

    /// Extends a PCR of the SHA-256 bank.
    pub fn extend(&mut self, pcr: u8, digest: &Digest) -> Result<()> {
        let handle =
            PcrHandle::try_from(u32::from(pcr)).with_context(|| format!("`{pcr}` is not a PCR"))?;
        let mut values = DigestValues::new();
        let bytes = tss_esapi::structures::Digest::try_from(digest.bytes().to_vec())
            .context("passing a digest")?;
        values.set(HashingAlgorithm::Sha256, bytes);
        self.context
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.pcr_extend(handle, values)
            })
            .with_context(|| format!("extending PCR {pcr}"))
    }

    fn quote_parsed(
        &mut self,
        selection: &PcrSelection,
        extra_data: [u8; 32],
    ) -> Result<(Quoted, Quote)> {
        let pcrs: Vec<u8> = selection.iter().collect();
        let list = pcr_list(&pcrs)?;
        let data = Data::try_from(extra_data.to_vec()).context("passing the challenge")?;
        let ak = self.ak;
        let (attest, signature) = self
            .context
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.quote(ak, data, SignatureScheme::Null, list)
            })
            .with_context(|| format!("quoting PCRs {selection}"))?;
        let quote = attest.marshall().context("writing the quote")?;
        let signature = signature.marshall().context("writing the signature")?;

        let checking = "checking the TPM's own quote";
        let parsed = Quote::parse(&quote).context(checking)?;
        let verified = Signature::parse(&signature).context(checking)?;
        self.key.verify(&quote, &verified).context(checking)?;
        ensure!(
            parsed.extra_data == extra_data,
            "{checking}: it answers another challenge"
        );
        Ok((Quoted { quote, signature }, parsed))
    }

    /// Reads at most eight PCRs; the TPM's update counter at that moment.
    fn read_some(&mut self, pcrs: &[u8], values: &mut BTreeMap<u8, Digest>) -> Result<u32> {
        let asked = pcr_list(pcrs)?;
        let (counter, read, digests) = self
            .context
            .execute_without_session(|context| context.pcr_read(asked.clone()))
            .with_context(|| format!("reading PCRs {pcrs:?}"))?;
        // The TPM leaves out what it does not have, such as a whole bank.
        ensure!(
            read == asked && digests.len() == pcrs.len(),
            "reading PCRs {pcrs:?}: the TPM does not have all of them in a SHA-256 bank"
        );
        for (pcr, digest) in pcrs.iter().zip(digests.value()) {
            let bytes = <[u8; 32]>::try_from(digest.value())
                .with_context(|| format!("reading PCR {pcr}: it is not a SHA-256 digest"))?;
            values.insert(*pcr, Digest::new(bytes));
        }
        Ok(counter)
    }
}

impl std::fmt::Debug for Tpm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tpm")
            .field("ak", &self.key.name().to_string())
            .finish_non_exhaustive()
    }
}

/// Stops the TPM library from writing to standard error; its errors reach us as values.
///
/// # Safety
/// It changes the environment: call it while the process has one thread.
pub unsafe fn silence_library_log() {
    // SAFETY: the caller promises that no other thread exists to read the environment.
    unsafe { std::env::set_var("TSS2_LOG", "all+NONE") };
}

pub(super) fn check_tcti(tcti: &str) -> Result<TctiNameConf> {
    TctiNameConf::from_str(tcti)
        .with_context(|| format!("`{tcti}` does not say how to reach a TPM, as `device:PATH` does"))
}

/// One bank, three octets: the form that TPMs sign.
fn pcr_list(pcrs: &[u8]) -> Result<PcrSelectionList> {
    let slots: Result<Vec<PcrSlot>, _> = pcrs
        .iter()
        .map(|pcr| PcrSlot::try_from(1_u32 << pcr))
        .collect();
    PcrSelectionList::builder()
        .with_size_of_select(PcrSelectSize::ThreeOctets)
        .with_selection(HashingAlgorithm::Sha256, &slots.context("selecting PCRs")?)
        .build()
        .context("selecting PCRs")
}

/// The firmware's log; none on a machine whose firmware kept none.
fn event_log() -> Result<Vec<u8>> {
    let reading = || format!("reading the event log `{EVENT_LOG}`");
    let file = match File::open(EVENT_LOG) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(reading),
    };
    let mut log = Vec::new();
    let limit = u64::try_from(MAX_EVENT_LOG).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1))
        .read_to_end(&mut log)
        .with_context(reading)?;
    ensure!(
        log.len() <= MAX_EVENT_LOG,
        "{}: it is larger than {MAX_EVENT_LOG} bytes",
        reading()
    );
    Ok(log)
}

const EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
/// A TPML_DIGEST has room for eight.
const PCRS_PER_READ: usize = 8;
/// PCRs change rarely once a machine has booted; one that changes this often is no accident.
const ATTEMPTS: u32 = 5;
