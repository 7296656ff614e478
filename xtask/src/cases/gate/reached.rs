//! The same file by another way than its path, and other files by a listed one.

use super::{tried::Try, *};

/// What decides is the content, by whatever name, mount, root, thread or descriptor it is reached.
pub(super) fn by_any_way(guest: &mut Guest) -> Result<()> {
    guest.put(LISTED, 0o755, &narrow::ending(9))?;
    guest.put(OTHER, 0o755, &narrow::ending(7))?;
    guest
        .sh(&format!(
            "cd {OWN} && chown {USER} listed other && ln -f listed listed-link && ln -f other other-link && \
             ln -sf listed listed-name && ln -sf other other-name"
        ))?
        .ok()?;
    let spec = Spec {
        planner: guest.run(&["governor", "measure", LISTED])?.ok()?.text(),
        ..Spec::default()
    };
    ways::load(guest, &spec)?;
    for (name, free, judged) in [("listed", 9, 9), ("other", 7, REFUSED)] {
        let path = format!("{OWN}/{name}");
        let (link, symlink) = (format!("{path}-link"), format!("{path}-name"));
        let inside = format!("/{name}");
        let (over, below) = (in_own("over"), "/opt/agent/own");
        for argv in [
            &[ways::PROBE, "by-descriptor", &path][..],
            &[ways::PROBE, "by-thread", &path],
            &[ways::PROBE, "by-thread", &link],
            &[ways::PROBE, "by-thread", &symlink],
            // Each below the other's path.
            &[ways::PROBE, "bound", &over, &path],
            &[ways::PROBE, "below", below, &inside],
        ] {
            let why = if judged == REFUSED {
                "not-authorized"
            } else {
                ""
            };
            let other = if name == "listed" { OTHER } else { LISTED };
            let before = format!("cp -p {other} {over}");
            Try::refused(argv, why)
                .after(&before)
                .ends(free, judged)
                .in_zone(guest, AGENTS_SLICE)?;
        }
    }
    guest
        .sh(&format!("cd {OWN} && rm listed* other* over"))?
        .ok()
        .map(drop)
}

/// A ring has the kernel open files for a task, by itself or by threads that are the kernel's.
pub(super) fn by_rings(guest: &mut Guest) -> Result<()> {
    opening::listing(guest)?;
    for by in ["task", "worker", "poller"] {
        for (access, path, judged) in [
            ("read", opened::DATA, 0),
            ("read", opened::OTHER, opened::REFUSES),
            ("write", "/proc/self/mem", opened::REFUSES),
        ] {
            let way = format!("ring-{by}-{access}:{path}");
            let argv = [opening::READER, "open", &way];
            let says = |code: i32| format!("{code} {way}");
            let free = guest.run(&argv)?.text();
            ensure!(free == says(0), "in no zone: {free}");
            let inside = in_zone(guest, opening::SLICE, &argv)?.text();
            ensure!(inside == says(judged), "in the zone: {inside}");
        }
    }
    Ok(())
}

fn in_own(name: &str) -> String {
    format!("{OWN}/{name}")
}

const OWN: &str = "/opt/agent/own";
const LISTED: &str = "/opt/agent/own/listed";
const OTHER: &str = "/opt/agent/own/other";
