//! The attester against a real software TPM over loopback, and what our verifier says of what it
//! makes; `tpm2_checkquote` gives a second opinion where it is installed.
//!
//! Needs `swtpm` (Debian and Ubuntu: packages `swtpm` and `libtss2-dev`) and, to extend a PCR as
//! something else on the machine would, `tpm2-tools`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use governor::attester::{Attester, Tpm, files};
use governor_core::attest::{
    AttestationResult, Challenge, Evidence, Nonce, PcrSelection, ReferenceValues, Rejection,
    appraise,
};
use governor_core::digest::Digest;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

#[test]
fn evidence_is_accepted_until_a_pcr_changes() {
    let swtpm = Swtpm::start();
    let reference = swtpm.baseline();
    let evidence = swtpm.evidence(&challenge());
    assert_eq!(evidence.pcrs.len(), selection().iter().count());
    let result = appraised(&evidence, &challenge(), &reference).unwrap();
    assert_eq!(Some(&result.ak_name()), reference.ak_names().first());
    assert_eq!(result.evidence_digest(), evidence.digest());

    swtpm.extend(14, &Digest::of(b"something else"));
    let evidence = swtpm.evidence(&challenge());
    let rejection = appraised(&evidence, &challenge(), &reference).unwrap_err();
    assert!(
        matches!(rejection, Rejection::PcrDiffers { pcr: 14, .. }),
        "{rejection}"
    );
    assert!(rejection.is_contradiction());
}

#[test]
fn evidence_answers_one_challenge_on_listed_keys_only() {
    let swtpm = Swtpm::start();
    let reference = swtpm.baseline();
    let evidence = swtpm.evidence(&challenge());
    let other = Challenge {
        nonce: Nonce::new([2; 32]),
        ..challenge()
    };
    assert_eq!(
        appraised(&evidence, &other, &reference),
        Err(Rejection::ChallengeDiffers)
    );
    let fewer = PcrSelection::new([0, 1]).unwrap();
    let rejection = appraise(&evidence, &challenge(), &fewer, &reference).unwrap_err();
    assert_eq!(rejection.code(), "selection-differs");
    let nobody = ReferenceValues::new([], evidence.pcrs.clone());
    assert_eq!(
        appraised(&evidence, &challenge(), &nobody),
        Err(Rejection::NoAkListed)
    );

    // Another TPM in the same state is not this one.
    let stranger = Swtpm::start().evidence(&challenge());
    assert_eq!(stranger.pcrs, evidence.pcrs);
    let rejection = appraised(&stranger, &challenge(), &reference).unwrap_err();
    assert_eq!(rejection.code(), "ak-not-listed");
}

#[test]
fn the_key_stays_over_starts_and_is_never_replaced() {
    let swtpm = Swtpm::start();
    let first = swtpm.open().ak();
    assert_eq!(swtpm.open().ak(), first);
    let file = swtpm.state().join("attestation-key");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let kept = fs::read(&file).unwrap();

    // The right file for another TPM.
    let other = Swtpm::start();
    fs::create_dir_all(other.state()).unwrap();
    fs::write(other.state().join("attestation-key"), &kept).unwrap();
    let error = format!(
        "{:#}",
        Tpm::open(&other.tcti(), &other.state()).unwrap_err()
    );
    assert!(
        error.starts_with("loading the attestation key `"),
        "{error}"
    );
    assert_eq!(
        fs::read(other.state().join("attestation-key")).unwrap(),
        kept
    );

    // A damaged file, anywhere in it.
    for position in [0, 15, 20, 80, kept.len() - 1] {
        let mut damaged = kept.clone();
        damaged[position] ^= 1;
        fs::write(&file, &damaged).unwrap();
        Tpm::open(&swtpm.tcti(), &swtpm.state()).unwrap_err();
        assert_eq!(fs::read(&file).unwrap(), damaged);
    }
    fs::write(&file, &kept).unwrap();
    assert_eq!(swtpm.open().ak(), first);
}

#[test]
fn many_pcrs_are_read_together() {
    let swtpm = Swtpm::start();
    let all = PcrSelection::new(0..24).unwrap();
    swtpm.extend(23, &Digest::of(b"application"));
    let mut tpm = swtpm.open();
    let pcrs = tpm.read_pcrs(&all).unwrap();
    assert_eq!(pcrs.len(), 24);
    assert_eq!(pcrs[&0], Digest::new([0; 32]));
    assert_eq!(pcrs[&17], Digest::new([0xff; 32]));
    let extended = Digest::of_parts(&[&[0; 32], Digest::of(b"application").bytes()]);
    assert_eq!(pcrs[&23], extended);
    assert_eq!(tpm.evidence(&all, [7; 32]).unwrap().pcrs, pcrs);
}

#[test]
fn nothing_is_left_in_the_tpm() {
    let swtpm = Swtpm::start();
    drop(swtpm.open());
    for _ in 0..20 {
        // A raw TPM has room for three objects and three loaded sessions.
        swtpm.evidence(&challenge());
        let missing = PcrSelection::new([0]).unwrap();
        swtpm.open().quote(&missing, [0; 32]).unwrap();
    }
    if let Some(handles) = swtpm.tool("tpm2_getcap", &["handles-transient"]) {
        assert_eq!(handles.trim(), "");
        let sessions = swtpm
            .tool("tpm2_getcap", &["handles-loaded-session"])
            .unwrap();
        assert_eq!(sessions.trim(), "");
    }
}

#[test]
fn files_verify_elsewhere() {
    let swtpm = Swtpm::start();
    let text = files::baseline(&swtpm.tcti(), &swtpm.state(), &selection()).unwrap();
    let reference = ReferenceValues::parse(&text).unwrap();
    let extra = Digest::of(b"a nonce of somebody else");
    let evidence =
        files::quote(&swtpm.tcti(), &swtpm.state(), &selection(), *extra.bytes()).unwrap();
    let dir = swtpm.dir.path().join("evidence");
    files::write_evidence_dir(&dir, &evidence).unwrap();
    assert_eq!(
        files::verify(&dir, &extra, &selection(), &reference).unwrap(),
        []
    );
    let other = Digest::of(b"another nonce");
    let found = files::verify(&dir, &other, &selection(), &reference).unwrap();
    assert_eq!(found, [Rejection::ChallengeDiffers]);

    // The same signature and nonce, judged by tools that share no code with ours.
    let public = fs::read(dir.join(files::AK_PUBLIC)).unwrap();
    let sized = [
        &u16::try_from(public.len()).unwrap().to_be_bytes()[..],
        &public,
    ]
    .concat();
    fs::write(dir.join("ak.tpm2b"), sized).unwrap();
    let check = |nonce: &Digest| {
        let mut check = Command::new("tpm2_checkquote");
        check
            .current_dir(&dir)
            .args(["-u", "ak.tpm2b", "-m", files::QUOTE]);
        check.args([
            "-s",
            files::SIGNATURE,
            "-g",
            "sha256",
            "-q",
            &nonce.to_string(),
        ]);
        check.output()
    };
    let Ok(accepted) = check(&extra) else {
        eprintln!("no second opinion: `tpm2_checkquote` of package `tpm2-tools` is not installed");
        return;
    };
    assert!(
        accepted.status.success(),
        "{}",
        String::from_utf8_lossy(&accepted.stderr)
    );
    assert!(!check(&other).unwrap().status.success());
}

#[tokio::test]
async fn the_thread_answers_and_recovers() {
    let mut swtpm = Swtpm::start();
    let attester = Attester::start(&swtpm.tcti(), &swtpm.state()).unwrap();
    let name = attester.ak().await.unwrap().name;
    let clone = attester.clone();
    let (pcrs, evidence) = tokio::join!(
        attester.read_pcrs(selection()),
        clone.evidence(selection(), *challenge().extra_data().bytes()),
    );
    let (pcrs, evidence) = (pcrs.unwrap(), evidence.unwrap());
    assert_eq!(evidence.pcrs, pcrs);
    let reference = ReferenceValues::new([name], pcrs);
    appraised(&evidence, &challenge(), &reference).unwrap();
    attester.quote(selection(), [3; 32]).await.unwrap();

    swtpm.stop();
    for _ in 0..2 {
        attester.quote(selection(), [3; 32]).await.unwrap_err();
    }
    assert!(swtpm.run());
    let evidence = attester
        .evidence(selection(), *challenge().extra_data().bytes())
        .await
        .unwrap();
    let result = appraised(&evidence, &challenge(), &reference).unwrap();
    assert_eq!(result.ak_name(), name);
}

#[tokio::test]
async fn a_hung_tpm_holds_nobody_for_ever() {
    let swtpm = Swtpm::start();
    let attester = Attester::start(&swtpm.tcti(), &swtpm.state()).unwrap();
    let name = attester.ak().await.unwrap().name;
    swtpm.signal(Signal::SIGSTOP);
    let patience = Duration::from_millis(20);
    let mut refused = None;
    for _ in 0..20 {
        // The caller gives up; the command cannot be taken back.
        let quote = attester.quote(selection(), [3; 32]);
        if let Ok(answer) = tokio::time::timeout(patience, quote).await {
            refused = Some(answer.unwrap_err().to_string());
            break;
        }
    }
    let refused = refused.expect("requests queue up without end");
    assert!(refused.starts_with("the TPM has not answered"), "{refused}");

    swtpm.signal(Signal::SIGCONT);
    let deadline = Instant::now() + Duration::from_secs(10);
    let ak = loop {
        match attester.ak().await {
            Ok(ak) => break ak,
            Err(error) => assert!(Instant::now() < deadline, "{error:#}"),
        }
        tokio::time::sleep(patience).await;
    };
    assert_eq!(ak.name, name);
}

fn selection() -> PcrSelection {
    PcrSelection::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]).expect("a selection")
}

fn challenge() -> Challenge {
    let digest = Digest::of(b"test");
    Challenge {
        nonce: Nonce::new([1; 32]),
        host: digest,
        policy: digest,
        ledger_size: 1,
        ledger_head: digest,
        trips: 0,
    }
}

fn appraised(
    evidence: &Evidence,
    challenge: &Challenge,
    reference: &ReferenceValues,
) -> Result<AttestationResult, Rejection> {
    appraise(evidence, challenge, &selection(), reference)
}

/// A software TPM of its own for each test, ended with it.
struct Swtpm {
    process: Option<Child>,
    port: u16,
    dir: TempDir,
}

impl Swtpm {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(dir.path().join("tpm")).expect("a folder for the TPM");
        let mut swtpm = Self {
            process: None,
            port: 0,
            dir,
        };
        for _ in 0..10 {
            swtpm.port = free_ports();
            if swtpm.run() {
                return swtpm;
            }
        }
        panic!("`swtpm` ends as soon as it starts");
    }

    /// Whether it listens; false where another process was quicker to take a port.
    fn run(&mut self) -> bool {
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
        command
            .arg("--tpmstate")
            .arg(format!("dir={}", self.dir.path().join("tpm").display()));
        for (option, port) in [("--server", self.port), ("--ctrl", self.port + 1)] {
            command
                .arg(option)
                .arg(format!("type=tcp,port={port},bindaddr=127.0.0.1"));
        }
        let process = command.stderr(Stdio::null()).spawn();
        let process = process.expect("starting `swtpm`: install the package `swtpm`");
        let process = self.process.insert(process);
        // The control port has its own listener, so asking there disturbs nobody.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let listens = TcpStream::connect(("127.0.0.1", self.port + 1)).is_ok();
            if process.try_wait().expect("asking after `swtpm`").is_some() {
                return false;
            }
            if listens {
                return true;
            }
            assert!(Instant::now() < deadline, "`swtpm` does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("ending `swtpm`");
            process.wait().expect("ending `swtpm`");
        }
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("`swtpm` runs");
        let id = Pid::from_raw(process.id().try_into().expect("a process id"));
        kill(id, signal).expect("signalling `swtpm`");
    }

    fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }

    fn open(&self) -> Tpm {
        Tpm::open(&self.tcti(), &self.state()).expect("opening the TPM")
    }

    fn evidence(&self, challenge: &Challenge) -> Evidence {
        let extra = *challenge.extra_data().bytes();
        self.open()
            .evidence(&selection(), extra)
            .expect("making evidence")
    }

    fn baseline(&self) -> ReferenceValues {
        let text = files::baseline(&self.tcti(), &self.state(), &selection());
        ReferenceValues::parse(&text.expect("a baseline")).expect("reference values")
    }

    fn extend(&self, pcr: u8, digest: &Digest) {
        self.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={digest}")])
            .expect("running `tpm2_pcrextend`: install the package `tpm2-tools`");
    }

    /// What a tool prints; nothing where it is not installed.
    fn tool(&self, name: &str, args: &[&str]) -> Option<String> {
        let output = Command::new(name)
            .env("TPM2TOOLS_TCTI", self.tcti())
            .args(args)
            .output();
        let output = output.ok()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{name}` failed: {errors}");
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Two ports in a row that were free a moment ago: the TPM library expects them so.
fn free_ports() -> u16 {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = first.local_addr().expect("its address").port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
    panic!("no two free ports in a row");
}
