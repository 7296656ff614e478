//! The daemon under bad input, without what it needs, and across restarts and reboots.

use super::{Case, Suite};
use crate::{
    guest::{BootOptions, Guest},
    install,
    kit::{AGENT, AGENTS_SLICE, Kit, Spec, in_zone},
    paths, status,
};
use anyhow::{Context as _, Result, ensure};
use std::{path::Path, rc::Rc};

pub(crate) const SUITE: Suite = Suite {
    name: "daemon",
    options: BootOptions::new,
    prepare,
    cases: &[
        Case {
            name: "policies_that_are_not_right_are_refused",
            run: bad_policies,
        },
        Case {
            name: "without_trusted_keys_nothing_is_accepted",
            run: no_keys,
        },
        Case {
            name: "the_control_socket_is_for_root",
            run: control_socket,
        },
        Case {
            name: "the_unit_grants_no_more_than_it_lists",
            run: unit,
        },
        Case {
            name: "it_stays_small",
            run: memory,
        },
        Case {
            name: "a_full_disk_stops_grants_and_nothing_else",
            run: full_disk,
        },
        Case {
            name: "a_tpm_that_is_missing_is_named",
            run: no_tpm,
        },
        Case {
            name: "a_damaged_ledger_is_refused",
            run: damaged_ledger,
        },
        Case {
            name: "a_restart_adopts_and_a_kill_opens_nothing",
            run: restart,
        },
        Case {
            name: "evidence_verifies_elsewhere",
            run: evidence,
        },
        Case {
            name: "the_package_comes_off",
            run: reinstall,
        },
        Case {
            name: "policy_and_serial_survive_a_reboot",
            run: reboot,
        },
    ],
};

/// A kernel whose LSM list lacks `bpf`.
pub(crate) const WITHOUT_BPF: Suite = Suite {
    name: "without-bpf",
    options: |kernel| BootOptions {
        append: "lsm=lockdown,yama,integrity".into(),
        ..BootOptions::new(kernel)
    },
    prepare: |guest| {
        guest.put_file(
            &paths::target().join("dist/governor.deb"),
            "/root/governor.deb",
        )?;
        guest
            .run(&["dpkg", "-i", "/root/governor.deb"])?
            .ok()
            .map(drop)
    },
    cases: &[Case {
        name: "it_refuses_to_pretend",
        run: refuses_to_pretend,
    }],
};

fn prepare(guest: &mut Guest) -> Result<()> {
    install::package(guest, &paths::target().join("dist/governor.deb"))?;
    let kit = Kit::new(guest)?;
    guest.keep(Rc::new(kit));
    Ok(())
}

fn loaded(guest: &mut Guest) -> Result<Rc<Kit>> {
    let kit = guest.kept::<Kit>()?;
    kit.load(guest, &Spec::default())?;
    Ok(kit)
}

fn hello(guest: &mut Guest) -> Result<i32> {
    Ok(in_zone(guest, AGENTS_SLICE, &[AGENT, "hello"])?.code)
}

fn bad_policies(guest: &mut Guest) -> Result<()> {
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

fn no_keys(guest: &mut Guest) -> Result<()> {
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

fn control_socket(guest: &mut Guest) -> Result<()> {
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

fn unit(guest: &mut Guest) -> Result<()> {
    let status = guest
        .sh("cat /proc/$(systemctl show -p MainPID --value governor)/status")?
        .ok()?;
    let text = status.text();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
            .unwrap_or_default()
            .to_owned()
    };
    ensure!(
        field("Seccomp:") == "2",
        "no system call filter: {}",
        field("Seccomp:")
    );
    ensure!(field("NoNewPrivs:") == "1", "new privileges may be had");
    let names = guest
        .run(&["capsh", &format!("--decode={}", field("CapBnd:"))])?
        .ok()?
        .text();
    let mut held: Vec<&str> = names
        .rsplit('=')
        .next()
        .unwrap_or_default()
        .split(',')
        .collect();
    held.sort_unstable();
    let mut listed = [
        "cap_bpf",
        "cap_perfmon",
        "cap_sys_admin",
        "cap_net_admin",
        "cap_kill",
        "cap_sys_ptrace",
        "cap_dac_read_search",
    ];
    listed.sort_unstable();
    ensure!(held == listed, "it may hold {names}");
    Ok(())
}

fn memory(guest: &mut Guest) -> Result<()> {
    loaded(guest)?;
    let resident = guest
        .sh("awk '/^VmRSS/ {print $2}' /proc/$(systemctl show -p MainPID --value governor)/status")?
        .ok()?
        .text();
    let kib: u64 = resident
        .parse()
        .with_context(|| format!("reading `{resident}`"))?;
    ensure!(kib <= 30 * 1024, "{kib} KiB are resident");
    Ok(())
}

fn full_disk(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    guest
        .sh("systemctl stop governor && mount -t tmpfs -o size=2m tmpfs /var/lib/governor/ledger && \
             systemctl start governor")?
        .ok()
        .context("putting the ledger on a small disk")?;
    let outcome = (|| {
        kit.load(
            guest,
            &Spec {
                lease: "6s",
                every: "1s",
                ..Spec::default()
            },
        )?;
        guest.sh("dd if=/dev/zero of=/var/lib/governor/ledger/filler bs=4k status=none; true")?;
        let refused = kit.offer(guest, &kit.signed(&Spec::default())?)?;
        ensure!(
            refused.code == 1,
            "a reload without a record: {} {}",
            refused.code,
            refused.text()
        );
        let said = status::of(guest)?;
        ensure!(
            said.reasons().contains("ledger-unwritable"),
            "{}",
            said.reasons()
        );
        wait_until(
            guest,
            "systemd-run --quiet --wait --pipe --collect --slice=governed-agents.slice \
             --uid=agent -- /opt/agent/agent hello; test $? = 203",
        )
        .context("waiting for the lease to run out")?;
        guest
            .run(&["rm", "/var/lib/governor/ledger/filler"])?
            .ok()?;
        wait_until(guest, "governor attest now").context("waiting for trust to come back")?;
        ensure!(hello(guest)? == 0, "work does not go on");
        Ok(())
    })();
    guest
        .sh("systemctl stop governor && umount /var/lib/governor/ledger && systemctl start governor")?
        .ok()
        .context("taking the small disk away")?;
    outcome
}

fn no_tpm(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    guest
        .sh("cp /etc/governor/governor.toml /root/conf && \
             printf '[tpm]\\ntcti = \"device:/dev/tpm-none\"\\n' > /etc/governor/governor.toml && \
             rm -rf /sys/fs/bpf/governor && systemctl restart governor")?
        .ok()?;
    let asked = guest.run(&["governor", "attest", "now"])?;
    let said = status::of(guest)?;
    let denied = hello(guest)?;
    guest
        .sh("cp /root/conf /etc/governor/governor.toml && systemctl restart governor")?
        .ok()?;
    ensure!(asked.code == 3, "{} {}", asked.code, asked.text());
    ensure!(
        said.reasons().contains("tpm-unavailable"),
        "{}",
        said.reasons()
    );
    ensure!(denied == 203, "attested work without a TPM: {denied}");
    kit.trusted(guest)
}

fn damaged_ledger(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    let file = "/var/lib/governor/ledger/ledger";
    guest.sh(&format!(
        "systemctl stop governor; cp {file} /root/ledger; \
             printf x | dd of={file} bs=1 seek=100 conv=notrunc status=none; \
             systemctl start governor"
    ))?;
    let state = guest
        .sh("systemctl show -p Result --value governor; journalctl -u governor -n 30 -o cat")?;
    let denied = in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
    guest
        .sh(&format!(
            "systemctl stop governor; cp /root/ledger {file}; systemctl start governor"
        ))?
        .ok()?;
    ensure!(state.text().contains("checksum"), "{}", state.text());
    ensure!(
        denied == 203,
        "an unknown program while the daemon is down: {denied}"
    );
    kit.trusted(guest)
}

fn restart(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    for signal in ["KILL", "TERM"] {
        guest
            .run(&[
                "systemctl",
                "kill",
                &format!("--signal={signal}"),
                "governor",
            ])?
            .ok()?;
        let denied = in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
        ensure!(denied == 203, "right after SIG{signal}: {denied}");
        wait_until(guest, "governor status --json > /dev/null; test $? != 4")?;
        kit.trusted(guest)?;
        let said = status::of(guest)?;
        ensure!(
            said.text(&["daemon", "adopted"]) == "true",
            "it did not adopt"
        );
        ensure!(hello(guest)? == 0, "work does not go on after SIG{signal}");
    }
    Ok(())
}

fn evidence(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    let nonce = "5a".repeat(32);
    guest
        .sh(&format!(
            "rm -rf /root/evidence; governor attest quote --out /root/evidence --nonce {nonce}"
        ))?
        .ok()?;
    let verify = |guest: &mut Guest, nonce: &str| -> Result<i32> {
        Ok(guest
            .run(&[
                "governor",
                "attest",
                "verify",
                "/root/evidence",
                "--reference",
                "/root/policy/reference.toml",
                "--pcrs",
                crate::kit::PCRS,
                "--nonce",
                nonce,
            ])?
            .code)
    };
    let code = verify(guest, &nonce)?;
    ensure!(code == 0, "genuine evidence: {code}");
    let code = verify(guest, &"a5".repeat(32))?;
    ensure!(code == 5, "another nonce: {code}");
    guest.sh("printf x >> /root/evidence/quote.bin")?.ok()?;
    let code = verify(guest, &nonce)?;
    ensure!(code != 0, "a changed quote: {code}");
    drop(kit);
    Ok(())
}

fn reinstall(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    guest
        .run(&["dpkg", "-i", "/root/governor.deb"])?
        .ok()
        .context("installing it again")?;
    kit.trusted(guest)?;
    ensure!(hello(guest)? == 0, "work does not go on after an upgrade");
    Ok(())
}

fn reboot(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    let lower = kit.signed(&Spec::default())?;
    kit.load(guest, &Spec::default())?;
    let serial = status::of(guest)?.text(&["policy", "serial"]);
    guest.reboot()?;
    kit.trusted(guest)?;
    let said = status::of(guest)?;
    ensure!(
        said.text(&["policy", "serial"]) == serial,
        "the policy is {}",
        said.policy()
    );
    ensure!(
        hello(guest)? == 0,
        "the workload does not run after a reboot"
    );
    let answer = kit.offer(guest, &lower)?;
    ensure!(
        answer.code == 3,
        "a lower serial after a reboot: {} {}",
        answer.code,
        answer.text()
    );
    Ok(())
}

fn refuses_to_pretend(guest: &mut Guest) -> Result<()> {
    let doctor = guest.run(&["governor", "doctor"])?;
    ensure!(doctor.code != 0, "doctor is content: {}", doctor.text());
    ensure!(
        doctor.text().contains("lsm"),
        "doctor does not say how: {}",
        doctor.text()
    );
    let start = guest.run(&["systemctl", "start", "governor"])?;
    ensure!(start.code != 0, "the service started");
    guest.run(&["systemctl", "stop", "governor"])?;
    let log = guest
        .run(&["journalctl", "-u", "governor", "-o", "cat"])?
        .text();
    ensure!(log.contains("bpf"), "the journal does not say why: {log}");
    Ok(())
}

/// Waits for something that has no event to wait on, looking twice a second, for a minute.
fn wait_until(guest: &mut Guest, condition: &str) -> Result<()> {
    let script = format!(
        "for i in $(seq 120); do if ( {condition} ) >/dev/null 2>&1; then exit 0; fi; sleep 0.5; done; exit 1"
    );
    guest.sh(&script)?.ok().map(drop)
}
