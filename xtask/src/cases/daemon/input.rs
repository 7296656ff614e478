//! What the daemon is given and must refuse, naming what is wrong.

use super::*;
use crate::{
    cases::reading,
    ledger::{self, Ledger},
};

pub(super) fn bad_policies(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    let write = |dir: &Path, name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes);
    let before = status::of(guest)?.text(&["policy", "serial"]);
    type Break =
        fn(&Path, &dyn Fn(&Path, &str, &[u8]) -> std::io::Result<()>) -> std::io::Result<()>;
    // What is wrong, how, whether it is signed after that, what the answer must name.
    let cases: [(&str, Break, bool, &str); 8] = [
        (
            "unsigned",
            |dir, _| std::fs::remove_file(dir.join("SHA256SUMS.sig")),
            false,
            "SHA256SUMS.sig",
        ),
        (
            "a truncated signature",
            |dir, write| {
                let text = std::fs::read(dir.join("SHA256SUMS.sig"))?;
                write(dir, "SHA256SUMS.sig", text.get(..80).unwrap_or_default())
            },
            false,
            "SHA256SUMS.sig",
        ),
        (
            "a file changed after signing",
            |dir, write| {
                let mut text = std::fs::read(dir.join("policy.toml"))?;
                text.extend(b"# more\n");
                write(dir, "policy.toml", &text)
            },
            false,
            "policy.toml",
        ),
        (
            "a file that is not listed",
            |dir, write| write(dir, "extra", b"x"),
            false,
            "extra",
        ),
        (
            "a policy that is not UTF-8",
            |dir, write| write(dir, "policy.toml", b"\xff\xfe"),
            true,
            "UTF-8",
        ),
        (
            "a digest of the wrong length",
            |dir, write| write(dir, "sets/planner.sha256", b"abcd  short\n"),
            true,
            "planner.sha256:1",
        ),
        (
            "an unknown key",
            |dir, write| {
                let text = std::fs::read_to_string(dir.join("policy.toml"))?;
                write(
                    dir,
                    "policy.toml",
                    text.replace("families", "familys").as_bytes(),
                )
            },
            true,
            "familys",
        ),
        (
            "a file that is too large",
            |dir, write| write(dir, "sets/large.sha256", &vec![b'\n'; 9 << 20]),
            false,
            "large",
        ),
    ];
    for (what, spoil, sign, named) in cases {
        let dir = kit.signed(&Spec::default())?;
        spoil(&dir, &write).with_context(|| format!("preparing {what}"))?;
        if sign {
            kit.sign_with_openssh(&dir)?;
        }
        let answer = kit.offer(guest, &dir)?;
        let said = format!("{} {}", answer.text(), answer.errors());
        ensure!(
            matches!(answer.code, 1 | 5),
            "{what}: ended with {}: {said}",
            answer.code
        );
        ensure!(
            said.contains(named),
            "{what}: the answer does not name `{named}`: {said}"
        );
    }
    let after = status::of(guest)?.text(&["policy", "serial"]);
    ensure!(
        before == after,
        "the policy changed from {before} to {after}"
    );
    ensure!(hello(guest)? == 0, "the old policy does not go on");
    Ok(())
}

/// Each is told where it is, to who asked and in the record; work goes on, and the serial is still to be had.
pub(super) fn mistaken(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    guest
        .sh(&format!(
            "systemd-run --quiet --collect --unit=goes-on --slice={AGENTS_SLICE} --uid={USER} -- {AGENT} hold"
        ))?
        .ok()?;
    let state = |guest: &mut Guest| -> Result<[String; 4]> {
        let said = status::of(guest)?;
        let of_policy = |name| said.text(&["policy", name]);
        let pid = ["systemctl", "show", "--property=MainPID,ActiveState"];
        let pid = guest.run(&[&pid[..], &["goes-on"]].concat())?.ok()?.text();
        Ok([of_policy("serial"), of_policy("rows"), said.trust(), pid])
    };
    let before = state(guest)?;
    let dir = kit.write(&Spec::default())?;
    let right = std::fs::read_to_string(dir.join("policy.toml"))?;
    let wrong = right
        .replacen("mode = \"enforce\"", "mode = \"enforced\"", 1)
        .replacen("\nuser = ", "\nusers = ", 1);
    std::fs::write(dir.join("policy.toml"), &wrong)?;
    kit.sign_with_openssh(&dir)?;
    let place = |start: &str, column: usize| -> Result<String> {
        let line = wrong.lines().position(|line| line.starts_with(start));
        let line = line.with_context(|| format!("no line begins with `{start}`"))?;
        Ok(format!("policy.toml:{}:{column}: error: ", line + 1))
    };
    let places = [place("mode = ", 8)?, place("users = ", 1)?];
    let records = |ledger: &Ledger| -> Result<[u64; 2]> {
        Ok(places.each_ref().map(|place| ledger.times(place)))
    };
    let told = records(&ledger::of(guest)?)?;
    let answer = kit.offer(guest, &dir)?;
    let said = format!("{} {}", answer.text(), answer.errors());
    ensure!(answer.code == 5, "it ended with {}: {said}", answer.code);
    for place in &places {
        ensure!(said.contains(place), "it does not name {place}: {said}");
    }
    let now = records(&ledger::of(guest)?)?;
    ensure!(
        now == told.map(|times| times + 1),
        "recorded {told:?} times, then {now:?}"
    );
    let after = state(guest)?;
    ensure!(after == before, "{before:?} became {after:?}");
    ensure!(hello(guest)? == 0, "the old policy does not go on");
    std::fs::write(dir.join("policy.toml"), &right)?;
    kit.sign(&dir)?;
    kit.offer(guest, &dir)?.ok().context("put right")?;
    guest.run(&["systemctl", "stop", "goes-on"])?.ok().map(drop)
}

pub(super) fn no_keys(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    let good = kit.signed(&Spec::default())?;
    guest
        .sh("cp /etc/governor/trusted_keys /root/keys; : > /etc/governor/trusted_keys")?
        .ok()?;
    let empty = kit.offer(guest, &good)?;
    guest.sh("rm /etc/governor/trusted_keys")?.ok()?;
    let missing = kit.offer(guest, &good)?;
    guest
        .sh("cp /root/keys /etc/governor/trusted_keys; chmod 666 /etc/governor/trusted_keys")?
        .ok()?;
    let writable = kit.offer(guest, &good)?;
    guest.sh("chmod 644 /etc/governor/trusted_keys")?.ok()?;
    ensure!(
        empty.code == 5,
        "no key listed: {} {}",
        empty.code,
        empty.errors()
    );
    ensure!(
        missing.code == 5,
        "no file: {} {}",
        missing.code,
        missing.errors()
    );
    ensure!(
        writable.code == 5,
        "anyone may write it: {} {}",
        writable.code,
        writable.errors()
    );
    kit.offer(guest, &good)?.ok().map(drop)
}

pub(super) fn control_socket(guest: &mut Guest) -> Result<()> {
    loaded(guest)?;
    let other = guest.run_as(65534, &["governor", "status"])?;
    ensure!(
        other.code == 4,
        "another user: {} {}",
        other.code,
        other.text()
    );
    // The file's mode is not what protects it: the kernel says who connected.
    guest
        .run(&["chmod", "666", "/run/governor/control.sock"])?
        .ok()?;
    let other = guest.run_as(65534, &["governor", "status"])?;
    guest
        .run(&["chmod", "660", "/run/governor/control.sock"])?
        .ok()?;
    ensure!(
        other.code == 4,
        "another user who reaches it: {} {}",
        other.code,
        other.text()
    );
    let garbage = "import socket,os\n\
                   for n in (1, 100, 100000):\n\
                   \x20s = socket.socket(socket.AF_UNIX); s.connect('/run/governor/control.sock')\n\
                   \x20try:\n\
                   \x20\x20s.sendall(os.urandom(n)); s.shutdown(1); s.recv(65536)\n\
                   \x20except OSError: pass\n";
    guest
        .run(&["python3", "-c", garbage])?
        .ok()
        .context("sending garbage")?;
    ensure!(
        guest.run(&["governor", "status"])?.code == 0,
        "it does not answer after garbage"
    );
    Ok(())
}

/// A policy that takes long to read is read while everything is revoked: it does not take that back.
pub(super) fn offered_before(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    let offering = reading::begun(guest, &kit)?;
    guest
        .run(&["governor", "revoke", "--all", "--reason", "test"])?
        .ok()?;
    let offered = guest.wait(offering, Duration::from_secs(120))?;
    ensure!(
        offered.code != 0 && offered.errors().contains("offer it again"),
        "it took the revocation back: {} {}",
        offered.code,
        offered.errors()
    );
    let reasons = status::of(guest)?.reasons();
    ensure!(reasons.contains("operator-revoked"), "now: {reasons}");
    let code = in_zone(guest, AGENTS_SLICE, &[AGENT])?.code;
    ensure!(code != 0, "work runs that was revoked");
    // Offered again it is taken, like any.
    kit.load(guest, &Spec::default())
}
