//! What is in a zone and has no label: it ran before, or was moved there.

use super::*;

fn with(unlabelled: &'static str) -> Spec {
    Spec {
        unlabelled,
        ..frozen_by_policy()
    }
}

pub(super) fn stopped(guest: &mut Guest) -> Result<()> {
    let kit = load(guest, &with("leave"))?;
    let job = start(guest, "labelled", &["hold"], "holding")?;
    // By itself, and beside work that is authorized.
    let alone = gate::moved_into(guest, &format!("{ZONE}/moved"))?;
    let beside = gate::moved_into(guest, &cgroup("labelled"))?;
    let both = [&alone, &beside];
    // Whoever has only just begun may be about to execute what a service manager made it for.
    for pid in both {
        let told = format!("governor status | grep 'in zone' | grep -q ' {pid} /'");
        guest.wait_until(&told)?;
    }

    kit.load(guest, &with("freeze"))?;
    for pid in both {
        guest.wait_until(&format!(
            "grep -q /governor-held-{pid}- /proc/{pid}/cgroup && \
             grep -q 'frozen 1' /sys/fs/cgroup/$(cut -d: -f3 /proc/{pid}/cgroup)/cgroup.events"
        ))?;
    }
    let goes_on = |guest: &mut Guest| -> Result<()> {
        let frozen = is_frozen(guest, &cgroup("labelled"))?;
        ensure!(
            !frozen && main_pid(guest, "labelled")? != "0",
            "what is authorized does not go on"
        );
        Ok(())
    };
    goes_on(guest)?;
    by_hand_of_zone(guest, "resume")?.ok()?;
    for pid in both {
        guest
            .wait_until(&format!(
                "grep -q 'frozen 0' /sys/fs/cgroup/$(cut -d: -f3 /proc/{pid}/cgroup)/cgroup.events"
            ))
            .context("an operator lets it go on")?;
    }

    kit.load(guest, &with("kill"))?;
    for pid in both {
        ends(guest, pid)?;
    }
    goes_on(guest)?;
    let later = gate::moved_into(guest, &format!("{ZONE}/moved"))?;
    ends(guest, &later).context("who is moved in later is found")?;
    goes_on(guest)?;
    gate::expect(guest, &["hello"], 0, "a copy that is started now")?;
    hides(guest, LEADERLESS).context("one whose first thread has ended")?;
    hides(guest, AGELESS).context("one that forks all the time")?;
    goes_on(guest)?;
    kit.load(guest, &with("leave"))?;
    end(guest, vec![job])
}

fn ends(guest: &mut Guest, pid: &str) -> Result<()> {
    guest.wait_until(&format!(
        "! test -d /proc/{pid} || grep -q 'State:.Z' /proc/{pid}/status"
    ))
}

/// Moves itself into a leaf of the zone, and must be gone from there.
fn hides(guest: &mut Guest, program: &str) -> Result<()> {
    let leaf = format!("{ZONE}/hides");
    guest.put("/root/hides.py", 0o644, program.as_bytes())?;
    guest
        .sh(&format!(
            "mkdir -p {leaf}; python3 /root/hides.py {leaf} >/dev/null 2>&1 & \
             for i in $(seq 600); do grep -q 'populated 1' {leaf}/cgroup.events && exit 0; sleep 0.1; done; exit 1"
        ))?
        .ok()
        .context("moving it in, where it is not for long")?;
    guest.wait_until(&format!("grep -q 'populated 0' {leaf}/cgroup.events"))?;
    guest.run(&["rmdir", &leaf])?.ok().map(drop)
}

const LEADERLESS: &str = "
import ctypes, sys, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
open(sys.argv[1] + '/cgroup.procs', 'w').write('0')
ctypes.CDLL(None).pthread_exit(None)
";
const AGELESS: &str = "
import os, sys, time
open(sys.argv[1] + '/cgroup.procs', 'w').write('0')
while True:
    if os.fork():
        os._exit(0)
    time.sleep(0.2)
";

fn by_hand_of_zone(guest: &mut Guest, verb: &str) -> Result<Output> {
    guest.run(&["governor", verb, "--zone", "agents", "--reason", "drill"])
}
