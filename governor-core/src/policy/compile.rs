//! From a policy to what the kernel's maps hold.
//!
//! Promises: the same policy, numbers, users, clock and epochs give the same rows in the same
//! order, however the policy was written down. Refuses a user nobody knows and a name without a
//! number: a row for somebody else would be worse than none.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use governor_common::{
    names::{
        PORT_RANGES, SCOPE_START, SCOPE_SURVIVAL, SCOPE_ZONE, STARTER_OPERATOR, STARTERS, USERS,
        WORKLOAD_SURVIVAL,
    },
    net::{AF_INET, AF_INET6, EgressKey, EgressRow},
    row::{
        ROLE_DATA, ROLE_EXECUTABLE, ROLE_INTERPRETER, ROLE_LIBRARY, ROLE_SCRIPT, ROLE_SOCKET, Row,
        RowKey,
    },
};
use ipnet::IpNet;

use super::{
    egress::{self, Rule},
    ids::Ids,
    model::{Mode, Policy, Requires, Starter, Survival, Validity, Workload, Zone},
    report::quoted,
    sockets::SocketPath,
};
use crate::{
    digest::Digest,
    time::{BootTime, ClockReading},
};

/// The epochs that rows are written with, one for each trust class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    pub attested: u64,
    pub policy: u64,
}

/// The content of the kernel's maps, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    pub rows: Vec<Row>,
    /// Key, bits of the address that count, value.
    pub egress: Vec<(EgressKey, u32, EgressRow)>,
    /// Absolute cgroup path and zone.
    pub zone_paths: Vec<(String, u32)>,
}

/// Why a checked policy cannot be loaded here and now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error(
        "user {} of workload `{workload}` does not exist on this host",
        quoted(user)
    )]
    UnknownUser { workload: String, user: String },
    #[error(
        "user {} of workload `{workload}` has the number that means nobody",
        quoted(user)
    )]
    NobodyUser { workload: String, user: String },
    #[error("zone `{zone}` has no number")]
    NoZoneId { zone: String },
    #[error("workload `{workload}` has no number")]
    NoWorkloadId { workload: String },
    #[error("number {id} of `{name}` is reserved")]
    ReservedId { name: String, id: u32 },
    #[error("number {id} of `{name}` is used twice")]
    IdTwice { name: String, id: u32 },
    #[error("workload `{workload}` has more starters, users or ports than a row holds")]
    DoesNotFit { workload: String },
    #[error("epoch is zero, which no row may carry")]
    NoEpoch,
    #[error("generation is zero, which no row may carry")]
    NoGeneration,
}

/// Compiles `policy`. A zone in `observe` is observed until the time given if the policy lets the operator do that at
/// all (`observe_up_to`), and stays as the policy has it if not.
pub fn compile(
    policy: &Policy,
    ids: &Ids,
    users: &BTreeMap<String, u32>,
    clock: ClockReading,
    epochs: Epochs,
    generation: u32,
    observe: &BTreeMap<String, BootTime>,
) -> Result<Compiled, CompileError> {
    if epochs.attested == 0 || epochs.policy == 0 {
        return Err(CompileError::NoEpoch);
    }
    if generation == 0 {
        return Err(CompileError::NoGeneration);
    }
    ids.check()?;
    let mut compiled = Compiled::default();
    let mut rows = BTreeMap::new();
    let mut zones = BTreeMap::new();
    for (name, zone) in policy.zones() {
        let missing = || CompileError::NoZoneId { zone: name.clone() };
        let id = ids.zone(name).ok_or_else(missing)?;
        let observed = observe
            .get(name)
            .filter(|_| zone.observe_up_to.is_some() || zone.is_host())
            .copied();
        let base = zone_row(
            zone,
            id,
            observed,
            policy.validity(),
            clock,
            epochs,
            generation,
        );
        rows.insert(base.key, base);
        if zone.is_host() {
            survival_rows(policy.survival(), &base, &mut rows);
            let owner = Row {
                workload: WORKLOAD_SURVIVAL,
                ..base
            };
            let rules = &policy.survival().egress;
            egress_rows("[survival]", rules, &owner, &mut compiled.egress)?;
        } else {
            compiled.zone_paths.push((format!("/{}", zone.cgroup), id));
        }
        zones.insert(name.as_str(), base);
    }
    for (name, workload) in policy.workloads() {
        let missing = || CompileError::NoZoneId {
            zone: workload.zone.clone(),
        };
        let zone = zones.get(workload.zone.as_str()).ok_or_else(missing)?;
        let base = workload_row(name, workload, zone, ids, users, clock)?;
        workload_rows(workload, &base, &mut rows);
        egress_rows(name, &workload.egress, &base, &mut compiled.egress)?;
    }
    // After all that is started, which one of them may be in another workload.
    for workload in policy.workloads().values() {
        if let Some(zone) = zones.get(workload.zone.as_str()) {
            unstarted_rows(workload, zone, &mut rows);
        }
    }
    compiled.rows = rows.into_values().collect();
    compiled
        .egress
        .sort_by_key(|(key, bits, _)| (key.workload, key.protocol, key.family, key.address, *bits));
    compiled.zone_paths.sort();
    Ok(compiled)
}

fn zone_row(
    zone: &Zone,
    id: u32,
    observed: Option<BootTime>,
    validity: Validity,
    clock: ClockReading,
    epochs: Epochs,
    generation: u32,
) -> Row {
    Row {
        key: RowKey {
            zone: id,
            scope: SCOPE_ZONE,
            digest: [0; 32],
        },
        class: zone.requires.number(),
        mode: if observed.is_some() {
            Mode::Observe
        } else {
            zone.mode
        }
        .number(),
        memory: zone.memory.number(),
        generation,
        families: zone.families,
        epoch: match zone.requires {
            Requires::Attestation => epochs.attested,
            Requires::Policy => epochs.policy,
        },
        not_before: clock.boot_time_of(validity.from).0,
        not_after: clock.boot_time_of(validity.until).0,
        observe_until: match (zone.mode, observed) {
            // Nobody checked what a host that is only observed would be shut out by, so that it does not
            // begin to enforce by itself.
            (Mode::Observe, _) if zone.is_host() => u64::MAX,
            // As policy has it: as long as the policy is valid.
            (Mode::Observe, _) => clock.boot_time_of(validity.until).0,
            (Mode::Enforce, Some(until)) => until.0,
            (Mode::Enforce, None) => 0,
        },
        ..Row::default()
    }
}

/// What all rows of a workload share: the zone's row with the workload's own limits.
fn workload_row(
    name: &str,
    workload: &Workload,
    zone: &Row,
    ids: &Ids,
    users: &BTreeMap<String, u32>,
    clock: ClockReading,
) -> Result<Row, CompileError> {
    let missing = |workload: &str| CompileError::NoWorkloadId {
        workload: workload.to_owned(),
    };
    let id = |other: &str| {
        ids.workload(&workload.zone, other)
            .ok_or_else(|| missing(other))
    };
    let mut starters = BTreeSet::new();
    for starter in &workload.started_by {
        starters.insert(match starter {
            Starter::Operator => STARTER_OPERATOR,
            Starter::Workload(other) => id(other)?,
        });
    }
    let mut numbers = BTreeSet::new();
    for user in &workload.users {
        numbers.insert(resolve(name, user, users)?);
    }
    let does_not_fit = || CompileError::DoesNotFit {
        workload: name.to_owned(),
    };
    Ok(Row {
        workload: id(name)?,
        roles: workload.opens.flag(),
        not_before: clock.boot_time_of(workload.validity.from).0,
        not_after: clock.boot_time_of(workload.validity.until).0,
        starters: places::<STARTERS>(starters).ok_or_else(does_not_fit)?,
        users: places::<USERS>(numbers).ok_or_else(does_not_fit)?,
        ..*zone
    })
}

fn workload_rows(workload: &Workload, base: &Row, rows: &mut BTreeMap<RowKey, Row>) {
    let mut add = |scope: u32, digests: &BTreeSet<Digest>, role: u32| {
        for digest in digests {
            let key = RowKey {
                zone: base.key.zone,
                scope,
                digest: *digest.bytes(),
            };
            match rows.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(Row {
                        key,
                        roles: base.roles | role,
                        ..*base
                    });
                }
                Entry::Occupied(mut row) => row.get_mut().roles |= role,
            }
        }
    };
    for scope in [SCOPE_START, base.workload] {
        add(scope, &workload.exec, ROLE_EXECUTABLE);
        add(scope, &workload.scripts, ROLE_SCRIPT);
    }
    add(base.workload, &workload.interpreters, ROLE_INTERPRETER);
    add(base.workload, &workload.libraries, ROLE_LIBRARY);
    add(base.workload, &workload.data, ROLE_DATA);
    let sockets = workload.sockets.iter().map(SocketPath::digest).collect();
    add(base.workload, &sockets, ROLE_SOCKET);
}

/// Interpreters are started by nobody, and whoever tries is told why. Several workloads may share one, so the
/// row is nobody's.
fn unstarted_rows(workload: &Workload, zone: &Row, rows: &mut BTreeMap<RowKey, Row>) {
    for digest in &workload.interpreters {
        let key = RowKey {
            zone: zone.key.zone,
            scope: SCOPE_START,
            digest: *digest.bytes(),
        };
        rows.entry(key).or_insert(Row {
            key,
            roles: ROLE_INTERPRETER,
            ..*zone
        });
    }
}

/// Content that unlabelled tasks of the host execute and map, whatever trust says: a row of it has no
/// class, no epoch, no validity, and grants nothing to anybody else.
fn survival_rows(survival: &Survival, zone: &Row, rows: &mut BTreeMap<RowKey, Row>) {
    let roles = [
        (&survival.exec, ROLE_EXECUTABLE),
        (&survival.libraries, ROLE_LIBRARY),
        (&survival.scripts, ROLE_SCRIPT),
    ];
    for (digests, role) in roles {
        for digest in digests {
            let key = RowKey {
                zone: zone.key.zone,
                scope: SCOPE_SURVIVAL,
                digest: *digest.bytes(),
            };
            let row = rows.entry(key).or_insert(Row {
                key,
                ..Row::default()
            });
            row.roles |= role;
        }
    }
}

fn egress_rows(
    name: &str,
    rules: &[Rule],
    base: &Row,
    out: &mut Vec<(EgressKey, u32, EgressRow)>,
) -> Result<(), CompileError> {
    for ((protocol, net), ports) in egress::prefixes(rules) {
        let does_not_fit = || CompileError::DoesNotFit {
            workload: name.to_owned(),
        };
        let mut row = EgressRow::default();
        row.ports
            .get_mut(..ports.len())
            .ok_or_else(does_not_fit)?
            .copy_from_slice(&ports);
        row.count = u32::try_from(ports.len().min(PORT_RANGES)).unwrap_or(0);
        let (family, address) = match net {
            IpNet::V4(net) => {
                let mut address = [0; 16];
                address[..4].copy_from_slice(&net.network().octets());
                (AF_INET, address)
            }
            IpNet::V6(net) => (AF_INET6, net.network().octets()),
        };
        let key = EgressKey {
            generation: base.generation,
            workload: base.workload,
            protocol: short(protocol.number()),
            family: short(family),
            address,
        };
        out.push((key, u32::from(net.prefix_len()), row));
    }
    Ok(())
}

/// The user's number plus one.
fn resolve(workload: &str, user: &str, users: &BTreeMap<String, u32>) -> Result<u32, CompileError> {
    let owned = || (workload.to_owned(), user.to_owned());
    let number = user
        .parse::<u32>()
        .ok()
        .or_else(|| users.get(user).copied());
    let number = number.ok_or_else(|| {
        let (workload, user) = owned();
        CompileError::UnknownUser { workload, user }
    })?;
    number.checked_add(1).ok_or_else(|| {
        let (workload, user) = owned();
        CompileError::NobodyUser { workload, user }
    })
}

/// `values` in the first places, zeros in the others.
fn places<const N: usize>(values: BTreeSet<u32>) -> Option<[u32; N]> {
    let mut places = [0; N];
    for (index, value) in values.into_iter().enumerate() {
        *places.get_mut(index)? = value;
    }
    Some(places)
}

/// Families and protocols are small numbers; one that is not is no number the kernel looks up.
fn short(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(0)
}
