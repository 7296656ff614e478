//! Lint and verify without a daemon: what loading would refuse wherever it happens, they refuse.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use ssh_key::{LineEnding, PrivateKey, private::Ed25519Keypair};
use tempfile::TempDir;

#[test]
fn the_example_lints_and_says_whom_it_trusts() {
    let home = Home::new();
    let output = home.governor(&["policy", "lint", "policy"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    assert!(
        said.starts_with("reference.toml:1:1: warning: no attestation key is listed"),
        "{said}"
    );
    assert!(
        said.ends_with("policy `agent-host` serial 7 lints: 1 zones, 1 workloads, 2 warnings\n"),
        "{said}"
    );
}

#[test]
fn reference_values_that_cannot_be_read_are_refused_before_they_are_loaded() {
    let home = Home::new();
    home.edit("policy/reference.toml", "names = []", "name = []");
    let error = "reference.toml:6:1: error: unknown field `name`";
    let output = home.governor(&["policy", "lint", "policy"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).starts_with(error), "{output:?}");
    assert!(!text(&output.stdout).contains("lints"), "{output:?}");
    let output = home.governor(&["policy", "lint", "policy", "--json"]);
    let reply: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(reply["ok"], false);
    assert_eq!(reply["diagnostics"][0]["line"], 6);
    let output = home.verified();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains(error), "{output:?}");
}

#[test]
fn zones_lie_where_this_configuration_governs() {
    let home = Home::new();
    fs::write(
        home.0.path().join("governor.toml"),
        "governed = \"other.slice\"\n",
    )
    .expect("written");
    let error = "policy.toml:1:1: error: zone `agents` has the cgroup \
                 `governed.slice/governed-agents.slice`, which is not below `other.slice`";
    let output = home.governor(&["policy", "lint", "policy"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains(error), "{output:?}");
    let output = home.verified();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains(error), "{output:?}");
}

#[test]
fn ending_the_zone_of_the_whole_host_says_what_it_stops_and_lets_run() {
    let home = Home::new();
    copy(&home.0.path().join("policy"), &home.0.path().join("before"));
    home.edit(
        "before/policy.toml",
        "[workload.planner]",
        "[zone.host]\ncgroup = \"/\"\nrequires = \"policy\"\nmode = \"observe\"\n\n\
         [workload.hosted]\nzone = \"host\"\nexec = [\"governor\"]\nstarted_by = [\"operator\"]\n\
         user = [\"agent\"]\n\n[workload.planner]",
    );
    let alone = home.governor(&["policy", "lint", "policy"]);
    assert!(!text(&alone.stdout).contains("zone.host"), "{alone:?}");
    let lint = ["policy", "lint", "policy", "--in-place-of"];
    let same = home.governor(&[&lint[..], &["policy"]].concat());
    assert_eq!(same.stdout, alone.stdout, "nothing ends");
    let output = home.governor(&[&lint[..], &["before"]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    for words in [
        "policy.toml:1:1: warning: without the [zone.host] of the policy before, whatever is outside",
        "policy.toml:1:1: warning: workload `hosted` of [zone.host] is gone, and what runs as it is killed,",
        "lints: 1 zones, 1 workloads, 4 warnings\n",
    ] {
        assert!(said.contains(words), "{said}");
    }
    home.edit("before/policy.toml", "[policy]", "[police]");
    let output = home.governor(&[&lint[..], &["before"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("reading the policy before, `before`"),
        "{output:?}"
    );
    let found = text(&output.stdout);
    assert!(
        found.contains("no attestation key"),
        "what is wrong with the other is not said: {found}"
    );
}

#[test]
fn what_is_signed_and_lints_verifies() {
    let home = Home::new();
    // The example's validity is short; this test's is not.
    home.edit(
        "policy/policy.toml",
        "not_before = 2026",
        "not_before = 2020",
    );
    home.edit("policy/policy.toml", "not_after = 2027", "not_after = 2099");
    let output = home.verified();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("verifies"), "{output:?}");
}

/// The example, a key, and a configuration that says nothing.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/agent-host");
        copy(&example, &home.path().join("policy"));
        fs::write(home.path().join("governor.toml"), "").expect("written");
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
        let private = key.to_openssh(LineEnding::LF).expect("encodes");
        fs::write(home.path().join("key"), private.as_bytes()).expect("written");
        let public = key.public_key().to_openssh().expect("encodes");
        fs::write(home.path().join("keys"), public).expect("written");
        Self(home)
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.0.path().join(name);
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.contains(from), "{name} has no {from}");
        fs::write(&path, text.replacen(from, to, 1)).expect("written");
    }

    fn governor(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_governor"))
            .args(["--config", "governor.toml"])
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .expect("run")
    }

    /// Signs the policy and asks whether it would be accepted.
    fn verified(&self) -> Output {
        let signed = self.governor(&["policy", "sign", "--key", "key", "policy"]);
        assert_eq!(signed.status.code(), Some(0), "{signed:?}");
        self.governor(&["policy", "verify", "--keys", "keys", "policy"])
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("UTF-8")
}
