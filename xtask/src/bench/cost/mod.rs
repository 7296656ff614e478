//! What the gate costs whoever starts programs, opens files and forks, as a ratio to the same guest
//! without it.
//!
//! In a guest whose time is the count of its instructions, on one processor and with addresses that
//! do not vary. Each kind of work is counted twice before governor is installed, so that what differs
//! for no reason stands beside what differs for one. Instructions are not time: no cache misses, no
//! contention, and string instructions are replaced by loops (see `accelerator`).

mod apart;
mod files;
pub(super) mod first;
mod peers;
mod programs;

use super::figures::median;
use crate::{
    guest::{BootOptions, Guest},
    image::Kernel,
    install,
    kit::{AGENTS_SLICE, Kit, Spec},
    paths, status,
};
use anyhow::{Context as _, Result, ensure};
use files::{MANY, PROBE, SCRIPT, SIZES, STILL, Sets};
use std::{fmt::Write as _, time::Duration};

/// Where work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Inside,
    Outside,
}

impl Place {
    /// A slice at the same depth.
    const fn slice(self) -> &'static str {
        match self {
            Self::Inside => AGENTS_SLICE,
            Self::Outside => "plain-agents.slice",
        }
    }
}

/// One kind of work.
struct Work {
    name: &'static str,
    place: Place,
    argv: &'static [&'static str],
    /// What the ratio may be.
    bound: f64,
    /// So many times as many rounds are done, and then one of so many.
    often: u32,
    seldom: u32,
}

impl Work {
    const fn inside(name: &'static str, argv: &'static [&'static str], bound: f64) -> Self {
        Self {
            name,
            place: Place::Inside,
            argv,
            bound,
            often: 1,
            seldom: 1,
        }
    }

    const fn outside(name: &'static str, argv: &'static [&'static str], bound: f64) -> Self {
        Self {
            place: Place::Outside,
            ..Self::inside(name, argv, bound)
        }
    }

    const fn one_in(self, seldom: u32) -> Self {
        Self { seldom, ..self }
    }

    /// For what takes so little that whatever the host does of its own would be in half of the rounds.
    const fn times(self, often: u32) -> Self {
        Self { often, ..self }
    }

    /// How many rounds are done where so many are asked for.
    fn of(&self, rounds: u32) -> u32 {
        (rounds.saturating_mul(self.often) / self.seldom).max(FEWEST)
    }
}

const WORKS: [Work; 12] = [
    Work::inside("fork+exec+exit, static", &["fork", STILL], 1.02),
    EXECS,
    Work::inside("exec with 30 libraries", &["spawn", MANY], 1.03).one_in(4),
    Work::inside("vfork+exec+exit, 28 KB", &["spawn", SIZES[0].0], 1.04).times(4),
    Work::inside("vfork+exec+exit, 2 MB", &["spawn", SIZES[1].0], 1.04).times(4),
    Work::inside("vfork+exec+exit, 60 MB", &["spawn", SIZES[2].0], 1.04).times(4),
    Work::inside("vfork+exec+exit, 512 MB", &["spawn", SIZES[3].0], 1.04).times(4),
    Work::inside("open+close, inside", &["open", OPENED], 1.08),
    Work::outside("open+close, outside zones", &["open", OPENED], 1.04),
    Work::outside("fork+exit, outside zones", &["child"], 1.01),
    Work::outside("vfork+exec+exit, outside zones", &["spawn", STILL], 1.04),
    Work::inside(THE_SCRIPT, &["spawn", "/bin/sh", SCRIPT], 1.03).one_in(10),
];

/// The one that is counted with tables of several sizes.
const EXECS: Work = Work::inside("vfork+exec+exit, static", &["spawn", STILL], 1.04);

/// The table of one kernel.
pub(super) fn measure(kernel: Kernel, rounds: u32, only: Option<&str>) -> Result<Vec<String>> {
    let works = WORKS.into_iter();
    let works: Vec<Work> = works
        .filter(|work| work.name.contains(only.unwrap_or_default()))
        .collect();
    let all = |guest: &mut Guest, rounds| all(guest, &works, rounds);
    let (mut guest, sets) = prepared(kernel, "")?;
    let none = all(&mut guest, rounds)?;
    let again = all(&mut guest, rounds)?;
    install::package(&mut guest, &paths::target().join("dist/governor.deb"))
        .context("installing the package")?;
    let kit = Kit::new(&mut guest)?;
    let script = files::of_the_script(&mut guest)?;
    let spec = |mode, filler: usize| Spec {
        mode,
        lease: "300s",
        every: "60s",
        tables: WORKLOAD,
        sets: vec![
            ("cost", format!("{}{}\n", sets.programs, script.programs)),
            (
                "cost-libraries",
                format!("{}{}\n", sets.libraries, script.libraries),
            ),
            ("filler", filling(filler)),
        ],
        ..Spec::default()
    };
    // Once the guard is armed it keeps the account of the programs to itself.
    let disarmed = Spec {
        guarded: false,
        ..spec("enforce", FEW)
    };
    let load = |guest: &mut Guest, spec: &Spec| -> Result<()> {
        kit.load(guest, spec)?;
        // Who reads them has the one processor too.
        status::once_measured_ahead(guest, PATIENCE).map(drop)
    };
    load(&mut guest, &disarmed)?;
    let apart = programs::table(&mut guest, &works, rounds)?;
    let observing = match only {
        Some(_) => None,
        None => {
            load(&mut guest, &spec("observe", FEW))?;
            Some(all(&mut guest, rounds)?)
        }
    };
    load(&mut guest, &spec("enforce", FEW))?;
    let enforcing = all(&mut guest, rounds)?;
    let Some(observing) = observing else {
        let rows = works.iter().enumerate().map(|(at, work)| {
            let (again, enforcing) = (again[at] / none[at], enforcing[at] / none[at]);
            format!(
                "| {} | {:.0} | {again:.4} | {enforcing:.4} | {} | {} |",
                work.name,
                none[at],
                work.bound,
                judged(enforcing, work.bound)
            )
        });
        let heading = [
            "",
            "| work | instructions | same again | enforcing | at most | |",
            "|---|---|---|---|---|---|",
        ];
        let heading = heading.map(str::to_owned).into_iter();
        return Ok(heading.chain(rows).chain(apart).collect());
    };
    let mut others_apart = Vec::new();
    for (work, none) in works.iter().zip(&none) {
        if work.name == THE_SCRIPT {
            others_apart.push(apart::without_the_daemon(&mut guest, work, *none, rounds)?);
        }
    }
    let few = one(&mut guest, &EXECS, rounds)?;
    let again_few = one(&mut guest, &EXECS, rounds)? / few;
    let mut sizes = vec![flat_in_size(&works, &enforcing)];
    for entries in ENTRIES {
        load(&mut guest, &spec("enforce", entries))?;
        let ratio = one(&mut guest, &EXECS, rounds)? / few;
        sizes.push(format!(
            "| {}, {} rows beside {} | {few:.0} | {again_few:.4} | | | | | {ratio:.4} | {FLAT} | {} |",
            EXECS.name,
            entries * ROWS_EACH,
            FEW * ROWS_EACH,
            judged(ratio, FLAT),
        ));
    }
    // Last, for what it attaches stays.
    for (work, none) in works.iter().zip(&none) {
        if work.argv == ["open", OPENED] && work.place == Place::Inside {
            let spec = spec("enforce", FEW);
            others_apart.extend(apart::opens(&mut guest, &kit, spec, *none, rounds)?);
        }
    }
    drop(guest);
    let (mut guest, _) = prepared(kernel, "ima_policy=tcb")?;
    let mut others = vec![all(&mut guest, rounds / OF_PEERS)?];
    drop(guest);
    let (mut guest, _) = prepared(kernel, "")?;
    peers::install(&mut guest)?;
    for integrity in ["none", "sha256"] {
        peers::start(&mut guest, integrity)?;
        others.push(all(&mut guest, rounds / OF_PEERS)?);
    }
    let rows = works.iter().enumerate().map(|(at, work)| {
        let ratio = |counts: &Vec<f64>| counts[at] / none[at];
        let mut row = format!("| {} | {:.0} |", work.name, none[at]);
        for counts in [&again]
            .into_iter()
            .chain(&others)
            .chain([&observing, &enforcing])
        {
            let _infallible = write!(row, " {:.4} |", ratio(counts));
        }
        let verdict = judged(ratio(&enforcing), work.bound);
        format!("{row} {} | {verdict} |", work.bound)
    });
    let heading = [
        "",
        "| work | instructions | same again | IMA | fapolicyd | fapolicyd, sha256 | observing | enforcing | at most | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ];
    let heading = heading.map(str::to_owned);
    Ok(heading
        .into_iter()
        .chain(rows)
        .chain(sizes)
        .chain(others_apart)
        .chain(apart)
        .collect())
}

/// The largest count of what differs in size alone, beside the smallest.
fn flat_in_size(works: &[Work], counts: &[f64]) -> String {
    let all = works.iter().zip(counts);
    let of_sizes = all.filter(|(work, _)| work.name.ends_with('B'));
    let (least, most) = of_sizes.fold((f64::MAX, 0.0_f64), |(least, most), (_, count)| {
        (least.min(*count), most.max(*count))
    });
    let ratio = most / least;
    format!(
        "| vfork+exec+exit, the largest of the four sizes beside the smallest | {least:.0} | | | | | | {ratio:.4} | \
         {FLAT} | {} |",
        judged(ratio, FLAT)
    )
}

const fn judged(ratio: f64, bound: f64) -> &'static str {
    if ratio > bound { "OVER" } else { "ok" }
}

/// A guest that counts, with everything in it that is started.
fn prepared(kernel: Kernel, append: &str) -> Result<(Guest, Sets)> {
    let mut guest = Guest::boot(&BootOptions {
        append: format!("norandmaps clocksource=tsc tsc=reliable {append}"),
        memory_mib: 3072,
        processors: 1,
        counted: true,
        // A million rows are put in force.
        timeout: Duration::from_secs(1800),
        ..BootOptions::new(kernel)
    })?;
    let sets = files::put(&mut guest)?;
    settle(&mut guest)?;
    Ok((guest, sets))
}

/// Waits until whatever the boot started is done.
fn settle(guest: &mut Guest) -> Result<()> {
    guest.run_for(
        &["systemctl", "is-system-running", "--wait"],
        Duration::from_secs(600),
    )?;
    let source = guest
        .sh("cat /sys/devices/system/clocksource/clocksource0/current_clocksource")?
        .ok()?
        .text();
    ensure!(
        source.trim() == "tsc",
        "the guest's clock is `{}`, which does not count",
        source.trim()
    );
    Ok(())
}

fn all(guest: &mut Guest, works: &[Work], rounds: u32) -> Result<Vec<f64>> {
    // Whatever was just put in place may still be busy with itself, which would all be in the first row.
    if let Some(first) = works.first() {
        one(guest, first, first.of(rounds))?;
    }
    works
        .iter()
        .map(|work| one(guest, work, work.of(rounds)))
        .collect()
}

/// The median of how many instructions a round took. The first tenth is for caches to fill.
fn one(guest: &mut Guest, work: &Work, rounds: u32) -> Result<f64> {
    one_by(guest, PROBE, work, rounds)
}

fn one_by(guest: &mut Guest, program: &str, work: &Work, rounds: u32) -> Result<f64> {
    let rounds = rounds.to_string();
    let slice = format!("--slice={}", work.place.slice());
    let mut command = vec![
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        &slice,
        "--working-directory=/",
        "--",
        program,
        &rounds,
    ];
    command.extend(work.argv);
    let output = guest
        .run_for(&command, Duration::from_secs(3600))?
        .ok()
        .with_context(|| format!("counting `{}`", work.name))?;
    let counts: Result<Vec<f64>, _> = output.text().lines().map(str::parse).collect();
    let counts = counts.with_context(|| format!("reading the counts of `{}`", work.name))?;
    median(counts.get(counts.len() / 10..).unwrap_or_default())
}

/// Digests that nothing has: entries for the table to be large.
fn filling(entries: usize) -> String {
    let mut lines = String::with_capacity(entries * 70);
    for entry in 1..=entries {
        // Spread over all bits, as digests are.
        let word = (entry as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let _infallible = writeln!(lines, "{}  f", format!("{word:016x}").repeat(4));
    }
    lines
}

const THE_SCRIPT: &str = "a script like configure";
const OPENED: &str = "/etc/hostname";
/// For the daemon to look at whatever is listed.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Rounds.
const FEWEST: u32 = 10;
/// One round for so many: some of them read a file whole each time it is executed.
const OF_PEERS: u32 = 8;
/// Programs that are listed, with two rows each: to be started, and to be mapped.
const FEW: usize = 10;
const ROWS_EACH: usize = 2;
const ENTRIES: [usize; 2] = [5_000, 500_000];
/// A ratio that is called flat.
const FLAT: f64 = 1.01;

const WORKLOAD: &str = r#"
[workload.cost]
zone = "agents"
exec = ["cost"]
libraries = ["cost-libraries"]
started_by = ["operator", "cost"]
user = ["root"]
on_revoke = "kill"

[workload.filler]
zone = "agents"
exec = ["filler"]
started_by = ["operator"]
user = ["root"]
on_revoke = "kill"
"#;
