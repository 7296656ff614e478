//! Break-glass on the command line: what is signed, by whom, and what is told.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use governor_core::{
    digest::Digest,
    engine::{BREAK_GLASS, GlassChallenge, GlassKeys, Request},
};
use ssh_key::{LineEnding, PrivateKey, private::Ed25519Keypair};

use crate::daemon::Daemon;

const KEY: u8 = 4;

/// What the played daemon wants signed.
pub(crate) fn challenge(request: &Request) -> GlassChallenge {
    // One that wants something else signed than was asked for.
    let request = match request.reason() {
        "twisted" => Request::new("twisted", 1).expect("a request"),
        _ => request.clone(),
    };
    GlassChallenge {
        host: Digest::of(b"host"),
        boot: [1; 16],
        nonce: [2; 32],
        request,
    }
}

/// Who signed it, by the daemon's own code.
pub(crate) fn signer(request: &Request, signature: &[u8]) -> Result<String, String> {
    let line = key(KEY).public_key().to_openssh().expect("encodes");
    let keys = GlassKeys::parse(&line).expect("keys");
    let signer = keys.signer(&challenge(request), signature);
    signer.map_err(|error| error.to_string())
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn key_file(dir: &Path, seed: u8) -> PathBuf {
    let path = dir.join(format!("key{seed}"));
    let text = key(seed).to_openssh(LineEnding::LF).expect("encodes");
    fs::write(&path, text).expect("written");
    let ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, ours).expect("ours");
    path
}

fn governor(daemon: &Daemon, arguments: &[&str], file: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_governor"));
    command.arg("--socket").arg(&daemon.path).arg("break-glass");
    command.args(arguments).args(file).output().expect("run")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_at_hand_breaks_the_glass() {
    let daemon = Daemon::start(|_| {}).await;
    let dir = daemon.directory.path();
    let ask = ["--reason", "tpm", "--for", "30m", "--key"];
    let output = governor(&daemon, &ask, Some(&key_file(dir, KEY)));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let fingerprint = key(KEY).public_key().fingerprint(ssh_key::HashAlg::Sha256);
    let expected =
        format!("THE GLASS IS BROKEN until 2026-11-20T12:00:00.000Z, signed by {fingerprint}");
    assert!(text(&output.stdout).starts_with(&expected), "{output:?}");

    let output = governor(&daemon, &ask, Some(&key_file(dir, KEY + 1)));
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(
        text(&output.stderr).contains("which is not trusted"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_asked_for_is_not_signed() {
    let daemon = Daemon::start(|_| {}).await;
    let key = key_file(daemon.directory.path(), KEY);
    let twisted = ["--reason", "twisted", "--for", "30m", "--key"];
    let output = governor(&daemon, &twisted, Some(&key));
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(
        text(&output.stderr).contains("nothing was signed"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_the_bound() {
    let daemon = Daemon::start(|_| {}).await;
    let key = key_file(daemon.directory.path(), KEY);
    for (reason, span, says) in [
        ("tpm", "5h", "from 1 s to 14400 s, not 18000 s"),
        ("tpm", "0s", "from 1 s to 14400 s, not 0 s"),
        (" ", "1m", "1 to 512 characters"),
    ] {
        let asked = ["--reason", reason, "--for", span, "--key"];
        let output = governor(&daemon, &asked, Some(&key));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(says), "{output:?}");
    }
    // Nor does the daemon's end of the socket believe the command line.
    let mut client = daemon.client().await;
    let request = governor::control::proto::GlassChallengeRequest {
        reason: "tpm".into(),
        seconds: u64::MAX,
    };
    let failure = client.glass_challenge(request).await.expect_err("refused");
    assert_eq!(failure.code(), 2, "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_elsewhere_signs_with_ssh_keygen() {
    let daemon = Daemon::start(|_| {}).await;
    let dir = daemon.directory.path();
    let (key, out) = (key_file(dir, KEY), dir.join("challenge"));
    let ask = ["--reason", "tpm", "--for", "30m"];
    let output = governor(
        &daemon,
        &[&ask[..], &["--challenge-out"]].concat(),
        Some(&out),
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("within 300 s"), "{output:?}");
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", BREAK_GLASS, "-f"])
        .args([&key, &out])
        .output()
        .expect("running ssh-keygen: install the package openssh-client");
    assert!(signed.status.success(), "{signed:?}");
    let signature = dir.join("challenge.sig");
    let again =
        |ask: &[&str]| governor(&daemon, &[ask, &["--signature"]].concat(), Some(&signature));
    assert_eq!(again(&ask).status.code(), Some(0));
    let other = again(&["--reason", "tpm", "--for", "31m"]);
    assert_eq!(other.status.code(), Some(5), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_a_passphrase_is_pointed_to_ssh_keygen() {
    let daemon = Daemon::start(|_| {}).await;
    let path = daemon.directory.path().join("locked");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "secret", "-f"])
        .arg(&path)
        .output()
        .expect("running ssh-keygen: install the package openssh-client");
    assert!(made.status.success(), "{made:?}");
    let ask = ["--reason", "tpm", "--for", "30m", "--key"];
    let output = governor(&daemon, &ask, Some(&path));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let how = "ssh-keygen -Y sign -n governor-break-glass@v1";
    assert!(text(&output.stderr).contains(how), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_it_takes_no_key_and_an_owed_record_is_said() {
    let daemon = Daemon::start(|_| {}).await;
    let end = ["--end", "--reason", "it works again"];
    let output = governor(&daemon, &end, None);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("2 killed"), "{output:?}");
    assert!(text(&output.stderr).contains("is owed; the journal has it: the disk is full"));
    let output = governor(&daemon, &[&end[..], &["--json"]].concat(), None);
    let reply: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&reply["killed"], &reply["unwritten"]),
        (&2.into(), &"the disk is full".into())
    );
}
