//! Who is asked to do what work may not do itself: by Unix sockets, whoever listens there.

use super::{tried::Try, *};
use crate::guest::JobId;

/// Whoever has root execute what they are asked to, the first process among them, is not reached from a zone; nor
/// is another zone. Who is in the same zone is.
pub(super) fn nobody_outside_is_asked(guest: &mut Guest) -> Result<()> {
    let spec = prepared(guest, "")?;
    load(guest, &spec)?;
    let engine = Engine::start(guest)?;
    let outcome = (|| {
        for asked in engines() {
            Try::refused(&asked, WHY).in_zone(guest, AGENTS_SLICE)?;
        }
        // The first process, and whoever keeps the journal, as they are on each host.
        for (kind, at) in [
            ("stream", "/run/systemd/userdb/io.systemd.DynamicUser"),
            ("stream", "/run/dbus/system_bus_socket"),
            ("stream", "/run/systemd/journal/stdout"),
            ("datagram", "/run/systemd/notify"),
            ("datagram", "/run/systemd/journal/socket"),
        ] {
            Try::refused(&[PROBE, "ask", kind, at, "X=1"], WHY).in_zone(guest, AGENTS_SLICE)?;
        }
        among_themselves(guest)?;
        another_zone(guest)?;
        // Once for each who asked where nobody judges, and never for work.
        let ran = guest.sh(&format!("cat {RAN}"))?.ok()?.text().len();
        ensure!(ran == engines().len(), "executed {ran} times");
        Ok(())
    })();
    engine.end(guest)?;
    outcome
}

/// Who is in the zone is asked, by whatever name: pairs, paths, abstract names.
fn among_themselves(guest: &mut Guest) -> Result<()> {
    for kind in ["stream", "packet", "datagram"] {
        let path = format!("{OWN}/neighbour");
        let before = format!("rm -f {path}");
        for at in [path.as_str(), "@neighbour"] {
            Try::let_be(&[PROBE, "neighbour", kind, at])
                .after(&before)
                .in_zone(guest, AGENTS_SLICE)?;
        }
        Try::let_be(&[PROBE, "pair", kind]).in_zone(guest, AGENTS_SLICE)?;
    }
    Ok(())
}

fn another_zone(guest: &mut Guest) -> Result<()> {
    let at = format!("{OWN}/other-zone");
    let slice = format!("--slice={TOOLS_SLICE}");
    let user = format!("--uid={USER}");
    guest.sh(&format!("rm -f {at}"))?.ok()?;
    let job = guest.spawn(&[
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        "--unit=other-zone",
        &slice,
        &user,
        "--",
        PROBE,
        "serve",
        "stream",
        &at,
    ])?;
    guest.wait_for_output(job, b"listening", BOUND)?;
    let asked = [PROBE, "ask", "stream", &at, ""];
    let outcome = Try::refused(&asked, WHY).in_zone(guest, AGENTS_SLICE);
    guest.sh("systemctl stop other-zone")?.ok()?;
    guest.wait(job, BOUND)?;
    outcome
}

/// Policy names who is reached: by the socket that lies where nobody else could have put it, and by the next one that
/// is put there. What is observed is told with the path.
pub(super) fn who_is_named_is_reached(guest: &mut Guest) -> Result<()> {
    let named = "\"/run/engine/stream\", \"/run/engine/packet\", \"/run/engine/datagram\", \"/run/engine/mounted/later\", \
                 \"/run/engine/link\", \"/run/anybodys/stream\", \"/run/works/stream\", \"/run/works/linked\", \"/run/systemd/notify\"";
    let spec = prepared(guest, named)?;
    load(guest, &spec)?;
    let engine = Engine::start(guest)?;
    let outcome = (|| {
        guest
            .sh("ln -sf stream /run/engine/link; test -S /run/anybodys/stream && ln -f /run/engine/stream /run/works/linked")?
            .ok()?;
        wait_for_sockets(guest, [4, 1, 4])?;
        for why in NOT_FOUND {
            let said = format!("journalctl -u governor -o cat | grep -qF '{why}'");
            guest
                .wait_until(&said)
                .with_context(|| format!("nobody says `{why}`"))?;
        }
        for asked in engines() {
            let at = asked[asked.len() - 2];
            let is_named = at.starts_with("/run/engine/");
            if is_named {
                Try::let_be(&asked).in_zone(guest, AGENTS_SLICE)?;
            } else {
                // Where others may put one, work among them, and names that anybody can take.
                Try::refused(&asked, WHY).in_zone(guest, AGENTS_SLICE)?;
            }
        }
        Try::let_be(&[PROBE, "ask", "datagram", "/run/systemd/notify", "X=1"])
            .in_zone(guest, AGENTS_SLICE)?;
        // What is there by now under the name is the one that was named, whoever it is reached by.
        let other_name = [PROBE, "ask", "stream", "/run/engine/link", ""];
        Try::let_be(&other_name).in_zone(guest, AGENTS_SLICE)
    })();
    let outcome = outcome.and_then(|()| another_takes_its_place(guest, engine));
    outcome.and_then(|()| observed(guest))
}

fn another_takes_its_place(guest: &mut Guest, engine: Engine) -> Result<()> {
    engine.end(guest)?;
    guest
        .sh("mv /run/engine/stream /run/engine/moved; rm -f /run/engine/packet /run/engine/datagram")?
        .ok()?;
    wait_for_sockets(guest, [1, 4, 4])?;
    let engine = Engine::start(guest)?;
    guest
        .sh("mkdir -p /run/engine/mounted && mount -t tmpfs -o mode=755 tmpfs /run/engine/mounted")?
        .ok()?;
    let later = guest.spawn(&[PROBE, "serve", "stream", "/run/engine/mounted/later"])?;
    guest.wait_for_output(later, b"listening", BOUND)?;
    let outcome = wait_for_sockets(guest, [5, 0, 4]).and_then(|()| {
        for at in ["stream", "mounted/later"] {
            let at = format!("/run/engine/{at}");
            Try::let_be(&[PROBE, "ask", "stream", &at, ""]).in_zone(guest, AGENTS_SLICE)?;
        }
        Ok(())
    });
    guest.kill(later, 9)?;
    guest.wait(later, BOUND)?;
    guest.run(&["umount", "/run/engine/mounted"])?.ok()?;
    engine.end(guest)?;
    outcome
}

/// Observed, it is reached, and said with what somebody needs to name it.
fn observed(guest: &mut Guest) -> Result<()> {
    let engine = Engine::start(guest)?;
    let outcome = (|| {
        guest
            .run(&["governor", "observe", "--zone", "agents", "--for", "10m"])?
            .ok()?;
        for at in ["/run/anybodys/stream", "@engine"] {
            expect_code(guest, &[PROBE, "ask", "stream", at, ""], 0)?;
        }
        let events = guest.run(&["governor", "events", "--denials", "--json"])?;
        let events = events.ok()?.text();
        for at in ["/run/anybodys/stream", "@engine"] {
            let words = ["would-deny", WHY, at];
            let told = events
                .lines()
                .any(|line| words.iter().all(|word| line.contains(word)));
            ensure!(told, "nobody is told of `{at}`: {events}");
        }
        Ok(())
    })();
    engine.end(guest)?;
    // What an operator has observed goes on with the next policy.
    guest
        .run(&["governor", "observe", "--zone", "agents", "--for", "0s"])?
        .ok()?;
    outcome
}

fn expect_code(guest: &mut Guest, argv: &[&str], expected: i32) -> Result<()> {
    let seen = in_zone(guest, AGENTS_SLICE, argv)?;
    ensure!(
        seen.code == expected,
        "{argv:?} ended with {}: {}",
        seen.code,
        seen.text()
    );
    Ok(())
}

/// Root's, who execute what they are asked to.
struct Engine(Vec<JobId>);

impl Engine {
    fn start(guest: &mut Guest) -> Result<Self> {
        guest
            .sh(&format!(
                "mkdir -p /run/engine /run/anybodys /run/works; chmod 1777 /run/anybodys; chown {USER} /run/works; \
                 rm -f /run/engine/[spd]* /run/anybodys/stream {WORKS}"
            ))?
            .ok()?;
        let mut jobs = Vec::new();
        for (kind, at) in ENGINES {
            let job = guest.spawn(&[PROBE, "serve", kind, at])?;
            guest.wait_for_output(job, b"listening", BOUND)?;
            jobs.push(job);
        }
        guest.run(&["chown", USER, WORKS])?.ok()?;
        Ok(Self(jobs))
    }

    fn end(self, guest: &mut Guest) -> Result<()> {
        for job in self.0 {
            guest.kill(job, 9)?;
            guest.wait(job, BOUND)?;
        }
        Ok(())
    }
}

/// How each of them is asked.
fn engines() -> Vec<[&'static str; 5]> {
    let by_kind = ENGINES.map(|(kind, at)| [PROBE, "ask", kind, at, RUNS]);
    by_kind.to_vec()
}

/// The probe where it is work, a program for root that leaves a mark, and a policy that names these sockets.
fn prepared(guest: &mut Guest, sockets: &'static str) -> Result<Spec> {
    guest.put_file(&compile::probe("probe_peer")?, PROBE)?;
    guest
        .sh(&format!(
            "chmod 755 {PROBE}; mkdir -p {OWN}; chown {USER} {OWN}; rm -f {RAN}; \
             printf '#!/bin/sh\\nprintf x >> {RAN}\\n' > {RUNS}; chmod 755 {RUNS}"
        ))?
        .ok()?;
    Ok(Spec {
        planner: guest.run(&["governor", "measure", PROBE])?.ok()?.text(),
        sockets,
        ..Spec::default()
    })
}

/// Until so many are found, absent and unfit.
fn wait_for_sockets(guest: &mut Guest, wanted: [u64; 3]) -> Result<()> {
    let mut seen = [0; 3];
    let until = std::time::Instant::now() + BOUND;
    while std::time::Instant::now() < until {
        let status = status::of(guest)?;
        seen = ["found", "absent", "unfit"].map(|what| status.number(&["sockets", what]));
        if seen == wanted {
            return Ok(());
        }
    }
    anyhow::bail!("found, absent and unfit are {seen:?}, not {wanted:?}")
}

const ENGINES: [(&str, &str); 6] = [
    ("stream", "/run/engine/stream"),
    ("packet", "/run/engine/packet"),
    ("datagram", "/run/engine/datagram"),
    ("stream", "/run/anybodys/stream"),
    ("stream", WORKS),
    ("stream", "@engine"),
];
/// What is said of those that are not found.
const NOT_FOUND: [&str; 5] = [
    "`/run/engine/mounted/later`: nothing is there",
    "`/run/engine/link`: it is a link",
    "`/run/anybodys/stream`: into `/run/anybodys` its group or others may put one",
    "`/run/works/stream`: into `/run/works` a user may put one whom a workload may run as",
    // By which what counts by another path loses nothing.
    "`/run/works/linked`: into `/run/works` somebody may put one who is neither root nor its owner",
];
/// In a directory of the user that work runs as, and that user's.
const WORKS: &str = "/run/works/stream";
const WHY: &str = "unlisted-peer";
const PROBE: &str = "/opt/agent/peer";
const OWN: &str = "/opt/agent/peers";
/// What an engine is asked to execute, and what that leaves.
const RUNS: &str = "/opt/agent/for-anybody";
const RAN: &str = "/run/engine-ran";
