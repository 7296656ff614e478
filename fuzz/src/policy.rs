//! Policies: what lint accepts can be loaded, whatever is in it, and does not depend on its order.

use std::collections::BTreeMap;

use governor_common::names::{
    EGRESS_ROWS, PORT_RANGES, SCOPE_SURVIVAL, ZONE_PATH_LEN, ZONE_PATH_ROWS,
};
use governor_core::{
    policy::{
        CompileError, Compiled, Diagnostics, Epochs, Ids, Policy, RawBundle, Severity, compile,
        parse,
    },
    time::{BootTime, ClockReading, Span, WallTime},
};

/// Inside the example's validity.
pub(crate) const NOW: WallTime = WallTime(1_794_700_800);

/// What is refused is so at a place in a file; what is accepted compiles, and compiles to the same when
/// tables and lists stand in another order.
pub fn check(bytes: &[u8]) -> bool {
    let mut parts = bytes.split(|byte| *byte == 0);
    let files = NAMES.iter().map(|name| (*name).to_owned());
    let files: BTreeMap<String, Vec<u8>> = files.zip(parts.by_ref().map(<[u8]>::to_vec)).collect();
    let Ok(bundle) = RawBundle::new(files.clone()) else {
        return false;
    };
    let policy = match parse(&bundle) {
        Ok(policy) => policy,
        Err(found) => {
            assert!(found.errors() > 0);
            check_places(&found, &bundle);
            return false;
        }
    };
    assert!(
        policy
            .warnings()
            .iter()
            .all(|found| found.severity == Severity::Warning)
    );
    let rows = rows(&policy);
    let turned = files.get("policy.toml").and_then(|text| turned(text));
    let mut files = files;
    files.extend(turned.map(|text| ("policy.toml".to_owned(), text)));
    let again = RawBundle::new(files).ok().map(|bundle| parse(&bundle));
    match again {
        Some(Ok(again)) => assert_eq!(rows, self::rows(&again), "order matters"),
        Some(Err(found)) => unreachable!("in another order it is refused: {found}"),
        None => {}
    }
    if let Ok(compiled) = &rows {
        check_rows(compiled);
    }
    true
}

/// The example; and one with all that it leaves out.
pub fn seeds() -> Vec<Vec<u8>> {
    let all = |policy: &[u8]| {
        let mut files = example();
        files.insert("policy.toml".to_owned(), policy.to_vec());
        let parts: Vec<Vec<u8>> = NAMES
            .iter()
            .map(|name| files.remove(*name).unwrap_or_default())
            .collect();
        parts.join(&0)
    };
    vec![all(POLICY.as_bytes()), all(MORE.as_bytes())]
}

/// The files of the example.
pub(crate) fn example() -> BTreeMap<String, Vec<u8>> {
    let texts = [POLICY, REFERENCE, GOVERNOR, PLANNER, LIBRARIES, BASE];
    NAMES
        .iter()
        .zip(texts)
        .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
        .collect()
}

/// Every complaint is about a place in a file of the bundle, and can be printed.
pub(crate) fn check_places(found: &Diagnostics, bundle: &RawBundle) {
    for one in found.all() {
        let text = bundle.get(&one.file).unwrap_or_default();
        let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
        assert!((1..=lines).contains(&(one.line as usize)), "{one}");
        assert!(
            one.column >= 1 && one.column as usize <= text.len() + 1,
            "{one}"
        );
        assert!(!one.message.contains(char::is_control), "{one:?}");
        assert!(one.message.len() < 2048, "{one}");
    }
    assert!(found.all().len() <= 1024, "complaints are bounded");
}

fn rows(policy: &Policy) -> Result<Compiled, CompileError> {
    let mut ids = Ids::default();
    ids.assign(policy);
    let users = BTreeMap::from([("agent".to_owned(), 1000)]);
    let clock = ClockReading {
        wall: NOW,
        boot: BootTime(1_000_000_000),
        suspended: Span(0),
    };
    let epochs = Epochs {
        attested: 3,
        policy: 5,
    };
    let rows = compile(policy, &ids, &users, clock, epochs, 7, &BTreeMap::new());
    if let Err(error) = &rows {
        let of_this_host = matches!(error, CompileError::UnknownUser { .. });
        assert!(of_this_host, "lint accepts what cannot be loaded: {error}");
    }
    rows
}

fn check_rows(compiled: &Compiled) {
    assert!(
        compiled
            .rows
            .windows(2)
            .all(|pair| pair[0].key < pair[1].key)
    );
    for row in &compiled.rows {
        let survives = row.key.scope == SCOPE_SURVIVAL;
        assert!(survives || (row.epoch != 0 && row.class != 0), "{row:?}");
        assert!(row.key.zone != 0 && row.key.digest.len() == 32);
    }
    assert!(compiled.egress.len() <= EGRESS_ROWS as usize);
    for (key, bits, row) in &compiled.egress {
        let used = row.count as usize;
        assert!((1..=PORT_RANGES).contains(&used) && *bits <= 128, "{key:?}");
        let (used, free) = row.ports.split_at(used);
        assert!(
            used.iter()
                .all(|range| 0 < range.low && range.low <= range.high)
        );
        assert!(used.windows(2).all(|pair| pair[0].high < pair[1].low));
        assert!(free.iter().all(|range| range.low == 0 && range.high == 0));
    }
    assert!(compiled.zone_paths.len() <= ZONE_PATH_ROWS as usize);
    for (path, zone) in &compiled.zone_paths {
        assert!(
            path.starts_with('/') && path.len() < ZONE_PATH_LEN && *zone != 0,
            "{path}"
        );
    }
}

/// The same document with its tables in order of name and its lists from behind.
fn turned(text: &[u8]) -> Option<Vec<u8>> {
    let table: toml::Table = toml::from_str(str::from_utf8(text).ok()?).ok()?;
    let table = table
        .into_iter()
        .map(|(key, value)| (key, backwards(value)));
    let table: toml::Table = table.collect();
    toml::to_string(&table).ok().map(String::into_bytes)
}

fn backwards(value: toml::Value) -> toml::Value {
    match value {
        toml::Value::Array(mut items) => {
            items.reverse();
            toml::Value::Array(items.into_iter().map(backwards).collect())
        }
        toml::Value::Table(table) => {
            let table = table
                .into_iter()
                .map(|(key, value)| (key, backwards(value)));
            toml::Value::Table(table.collect())
        }
        plain @ (toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)) => plain,
    }
}

const NAMES: [&str; 6] = [
    "policy.toml",
    "reference.toml",
    "sets/governor.sha256",
    "sets/planner.sha256",
    "sets/os-libraries.sha256",
    "sets/os-base.sha256",
];
const POLICY: &str = include_str!("../../policies/agent-host/policy.toml");
const REFERENCE: &str = include_str!("../../policies/agent-host/reference.toml");
const GOVERNOR: &str = include_str!("../../policies/agent-host/sets/governor.sha256");
const PLANNER: &str = include_str!("../../policies/agent-host/sets/planner.sha256");
const LIBRARIES: &str = include_str!("../../policies/agent-host/sets/os-libraries.sha256");
const BASE: &str = include_str!("../../policies/agent-host/sets/os-base.sha256");

/// What the example leaves out.
const MORE: &str = r#"
[policy]
format = 1
name = "more"
serial = 8
not_before = 2026-11-01T00:00:00Z
not_after = 2027-02-01T00:00:00Z
clock_step = "5m"

[governor]
exec = ["governor"]
libraries = ["os-libraries"]
modules = ["os-base"]
kexec = []

[zone.host]
cgroup = "/"
mode = "observe"
requires = "policy"

[zone.jobs]
cgroup = "governed.slice/governed-jobs.slice"
requires = "policy"
memory = "any"
families = ["unix", "inet", "inet6", "netlink"]
on_revoke = "deny"

[workload.first]
zone = "jobs"
exec = ["planner"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["0", "agent"]
sockets = ["/run/systemd/journal/socket", "/run/dbus/system_bus_socket"]
egress = [
    { to = "10.0.0.0/8", ports = ["80", "443"], protocol = "tcp" },
    { to = "10.1.0.0/16", ports = ["1000-2000"], protocol = "tcp" },
    { to = "2001:db8::/32", ports = ["53"], protocol = "udp" },
]

[workload.second]
zone = "jobs"
exec = ["os-base"]
started_by = ["first"]
user = ["1000"]

[events]
losses = 100
within = "1m"

[risk.probing]
count = 5
of = "denied-connect"
within = "60s"
action = "kill"

[set]
governor = "sets/governor.sha256"
planner = "sets/planner.sha256"
os-libraries = "sets/os-libraries.sha256"
os-base = "sets/os-base.sha256"

[survival]
exec = ["os-base"]
libraries = ["os-libraries"]
scripts = []
egress = [{ to = "192.0.2.1", ports = ["1-65535"], protocol = "udp" }]
"#;
