//! The attester: one thread that owns the TPM and makes evidence.
//!
//! Promises: only this folder names the TPM library; commands go to the TPM one at a time, and
//! whoever waits for an answer is a task that may give up, since a TPM command cannot be
//! cancelled. After any error the connection is closed, with all it had loaded, and the next
//! request opens a new one. Refuses to queue without end behind a TPM that does not answer, and
//! never makes a second key in place of one that does not load. It cannot extend a PCR.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use anyhow::Context as _;
use governor_core::attest::{Evidence, PcrSelection};
use governor_core::digest::Digest;
use tokio::sync::oneshot;

mod ak;
pub mod files;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod tpm;

pub use tpm::{Ak, Quoted, Tpm, silence_library_log};

/// Where the kernel's own resource manager is.
pub const DEFAULT_TCTI: &str = "device:/dev/tpmrm0";

/// A handle to the thread that owns the TPM. The thread ends with the last handle. For a caller
/// without tasks there is [`Tpm`] itself.
#[derive(Clone, Debug)]
pub struct Attester {
    requests: SyncSender<Request>,
}

/// What the attester was doing when it failed; `{:#}` adds the causes.
pub struct AttesterError(anyhow::Error);

type Result<T> = std::result::Result<T, AttesterError>;
type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Something to do with the TPM. It sends its own answer.
struct Request(Job);

/// The TPM, where it is open, and how to open it.
struct Connection {
    tcti: String,
    state_dir: PathBuf,
    open: Option<Tpm>,
}

impl Attester {
    /// Starts the thread. The TPM is opened, and on the very first use the key made, when
    /// something is first asked; what stands in the way is that request's error, and the next
    /// request tries again.
    pub fn start(tcti: &str, state_dir: &Path) -> Result<Self> {
        tpm::check_tcti(tcti).map_err(AttesterError)?;
        let connection = Connection {
            tcti: tcti.to_owned(),
            state_dir: state_dir.to_owned(),
            open: None,
        };
        let (requests, queue) = sync_channel(QUEUE);
        thread::Builder::new()
            .name("attester".into())
            .spawn(move || serve(connection, &queue))
            .context("starting the attester's thread")
            .map_err(AttesterError)?;
        Ok(Self { requests })
    }

    /// The attestation key, made on the first use ever.
    pub async fn ak(&self) -> Result<Ak> {
        self.request(|tpm| Ok(tpm.ak())).await
    }

    /// The TPM's signature over the PCRs of `selection` and `extra_data`.
    pub async fn quote(&self, selection: PcrSelection, extra_data: [u8; 32]) -> Result<Quoted> {
        self.request(move |tpm| tpm.quote(&selection, extra_data))
            .await
    }

    /// The values of the PCRs of `selection`, unsigned: they can only take trust away.
    pub async fn read_pcrs(&self, selection: PcrSelection) -> Result<BTreeMap<u8, Digest>> {
        self.request(move |tpm| tpm.read_pcrs(&selection)).await
    }

    /// A quote and all that is needed to appraise it.
    pub async fn evidence(
        &self,
        selection: PcrSelection,
        extra_data: [u8; 32],
    ) -> Result<Evidence> {
        self.request(move |tpm| tpm.evidence(&selection, extra_data))
            .await
    }

    /// Extends a PCR.
    pub async fn extend(&self, pcr: u8, digest: Digest) -> Result<()> {
        self.request(move |tpm| tpm.extend(pcr, &digest)).await
    }

    async fn request<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Tpm) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more, perhaps because what came before took too long.
            if answer.is_closed() {
                return;
            }
            drop(answer.send(connection.perform(act)));
        });
        self.requests.try_send(Request(job)).map_err(|error| {
            AttesterError(match error {
                TrySendError::Full(_) => {
                    anyhow::anyhow!("the TPM has not answered {QUEUE} earlier requests")
                }
                TrySendError::Disconnected(_) => anyhow::anyhow!("the attester's thread has ended"),
            })
        })?;
        answered
            .await
            .context("the attester's thread gave a request up")
            .map_err(AttesterError)?
            .map_err(AttesterError)
    }
}

impl Connection {
    /// Acts with the TPM open. An error closes it: whatever was loaded is flushed, and what a
    /// broken connection may have left behind is not relied on.
    fn perform<T>(&mut self, act: impl FnOnce(&mut Tpm) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut tpm = match self.open.take() {
            Some(tpm) => tpm,
            None => Tpm::open(&self.tcti, &self.state_dir)?,
        };
        let done = act(&mut tpm)?;
        self.open = Some(tpm);
        Ok(done)
    }
}

fn serve(mut connection: Connection, queue: &Receiver<Request>) {
    for Request(job) in queue {
        // A panic in the TPM library costs one answer and the connection, not the thread.
        if catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err() {
            connection.open = None;
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request")
    }
}

impl fmt::Display for AttesterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for AttesterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttesterError({:#})", self.0)
    }
}

impl std::error::Error for AttesterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Requests that may wait: more than the daemon ever has open at once.
const QUEUE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_tcti_is_refused_at_once() {
        let error =
            Attester::start("carrier-pigeon:coop=1", Path::new("/nonexistent")).unwrap_err();
        assert!(
            error.to_string().contains("`carrier-pigeon:coop=1`"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_missing_tpm_is_an_error_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let attester = Attester::start("device:/nonexistent/tpm", dir.path()).unwrap();
        let selection = PcrSelection::new([0]).unwrap();
        for _ in 0..2 {
            let error = attester.read_pcrs(selection.clone()).await.unwrap_err();
            let text = format!("{error:#}");
            assert!(
                text.starts_with("opening the TPM `device:/nonexistent/tpm`: "),
                "{text}"
            );
        }
    }
}
