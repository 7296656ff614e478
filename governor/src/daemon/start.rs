//! Starting: adopt what is pinned, learn from the ledger, go on with the kept policy.
//!
//! The gate comes first: whatever fails after it, the kernel denies. Nothing found is granted
//! again but by a decision of the engine made now; the kept policy is verified from its signature
//! on like any other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use governor_core::{
    digest::Digest,
    engine::{
        Cause, Effect, Engine, GlassKeys, Host, Input, KernelView, Refused, leased, survivors,
    },
    lineage::Since,
    policy::{self, Epochs, HOST, RawBundle, TrustedKeys, VerifiedPolicy},
    time::{BootTime, Span, WallTime},
};
use tokio::sync::{broadcast, mpsc};

use super::{
    Daemon, FromTpm, clock,
    draining::{LastTaken, Losses},
    events::Recent,
    execute::{Hands, by_number},
    failing::Failing,
    loading::{FromHost, LOOKING},
    offers::Offers,
    store::Store,
    unlabelled::{Crowds, Looks},
};
use crate::{
    bundle::{self, Empty},
    config::Config,
    control::proto,
    gate::{self, Drained, Gate, Opened},
    ledger::{Beside, Ledger},
    lock::KeptLock,
    progress,
    seeding::Seeder,
};

/// Everything up to the loop.
pub(super) fn start(
    config: Config,
    (mut gate, opened): (Gate, Opened),
    tpm: mpsc::Sender<FromTpm>,
    looked: mpsc::Sender<FromHost>,
    feed: broadcast::Sender<Arc<proto::GateEvent>>,
) -> Result<Daemon> {
    let boot_id = clock::boot_id()?;
    let noted = gate.ledger_head().context("reading the ledger's head")?;
    let governed = gate.governed_root().context("reading what is governed")?;
    // Maps without a zone are what a first start left that was cut short: nothing was governed yet.
    let opened = match governed {
        Some(_) => opened,
        None => Opened::Fresh,
    };
    let opened = match opened {
        Opened::Fresh => "fresh",
        Opened::Adopted => "adopted",
        Opened::Upgraded => "upgraded",
    }
    .to_owned();
    if let Some(governed) = governed.filter(|path| *path != format!("/{}", config.governed))
        && gate.is_armed().context("reading the guard")?
    {
        bail!(
            "the gate is armed and governs `{governed}`, the configuration says `{}`: put `governed` \
             back, or take the gate down first (`governor disarm`)",
            config.governed
        );
    }
    let (ledger, recovered) = Ledger::open(&config.state, boot_id, noted);
    if let Some(why) = ledger.refuses() {
        tracing::error!("the ledger `{}` is {why}", ledger.path().display());
    }
    let (lock, store) = (KeptLock::of(&config.state), Store::open(&config.state));
    let glass_keys = glass_keys(&config, &gate).context("reading who may break the glass")?;
    let host = Host {
        id: host_id(&config.host)?,
        governed_root: config.governed.clone(),
        opens_judged: gate.opens_judged(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        object: Digest::new(gate::object_digest()),
        daemon: own_digest()?,
        glass_keys: glass_keys.clone(),
    };
    let now = clock::now()?;
    tell_gap(recovered.last.as_ref(), &boot_id, now.boot);
    let state = gate.state().context("reading the gate's state")?;
    let table = gate.table().context("reading the table in force")?;
    let kernel = KernelView {
        gate: opened.clone(),
        epochs: Epochs {
            attested: state.epoch_attested,
            policy: state.epoch_policy,
        },
        generation: table.iter().map(|row| row.generation).max().unwrap_or(0),
        revoked_all: gate.revoked_all().context("reading the gate's state")?,
        armed: gate.is_armed().context("reading the guard")?,
        // Also one that ended while nobody was there: what ran on it is stopped as policy says. One
        // that was taken back has no end any more, or another epoch.
        lease: (state.lease_deadline != 0 && state.lease_epoch == state.epoch_attested)
            .then_some(BootTime(state.lease_deadline)),
        tombstones: gate
            .tombstones()
            .context("reading the tombstones")?
            .into_keys()
            .collect(),
        boot_id,
        break_glass: gate
            .break_glass()
            .context("reading the gate's state")?
            .map(BootTime),
        survivors: survivors(&table),
        leased: leased(&table),
    };
    // What the first step stops is in zones of the table that was found.
    let zones = gate.zones_in_force().context("listing the zones")?;
    let step = Engine::start(now, host, recovered, &kernel);
    let told = gate.told();
    let seeder = gate.take_asker().map(Seeder::start).transpose()?;
    let mut daemon = Daemon {
        config,
        engine: step.next,
        hands: Hands {
            gate,
            ledger: Beside::start(ledger)?,
            lock,
            store,
            offered: None,
            keys: None,
            glass_keys: glass_keys
                .as_ref()
                .map(GlassKeys::digests)
                .unwrap_or_default(),
            table: None,
            down: false,
            zones: by_number(&zones),
            unnamed: None,
            found: Drained::default(),
            taken: LastTaken::default(),
            crowds: Crowds::default(),
            unwritten: Failing::default(),
            unkept: Failing::default(),
            #[cfg(feature = "fault-points")]
            fault: crate::fault::Fault::default(),
        },
        recent: Recent::default(),
        feed,
        tpm,
        attester: None,
        reading_pcrs: false,
        waiting: Vec::new(),
        losses: Losses::since(told),
        boot_id,
        started: now.boot,
        opened,
        leaves: 0,
        disarming: None,
        looked,
        canary: super::watch::Heard::now(now.boot, 0),
        offers: Offers::default(),
        owed_policy: None,
        again: (now.boot, Span(0)),
        seeder,
        peers: None,
        looks: Looks::default(),
    };
    #[cfg(feature = "fault-points")]
    {
        crate::fault::confess();
        let _nothing_is_written_yet = daemon.hands.fault.begin("start", &step.effects);
    }
    let hands = &mut daemon.hands;
    let outcome = hands.perform(now, &daemon.engine, step.effects);
    let is_table = |(failed, _): &&(Effect, _)| matches!(failed, Effect::InstallTable(_));
    if let Some((_, error)) = outcome.failed.iter().find(is_table) {
        // Without it nothing is governed, and work would be started into nothing.
        bail!("governing `{}`: {error}", daemon.config.governed);
    }
    for failed in outcome.into_failed() {
        daemon.apply(failed)?;
    }
    if let Err(error) = crate::stopping::prepare() {
        tracing::warn!("connections of what is stopped cannot be closed: {error:#}");
    }
    // What happened while nobody looked, before anything is granted.
    daemon.watch()?;
    daemon.resume()?;
    daemon.find_sockets();
    // Once there is a policy again, which may bound what is lost.
    daemon.apply(Input::LeftOut(told.left_out))?;
    daemon.drain()?;
    daemon.tell_unlabelled(now)?;
    // The maps of this layout know everything now; programs of an older one may go.
    daemon
        .hands
        .gate
        .release_previous()
        .context("letting go of an older gate")?;
    #[cfg(feature = "fault-points")]
    crate::fault::at("ready");
    daemon
        .hands
        .gate
        .mark_ready()
        .context("marking the gate ready")?;
    Ok(daemon)
}

/// Since when nobody may have watched. The record of this start says it too.
fn tell_gap(last: Option<&Since>, boot_id: &[u8], now: BootTime) {
    let Some(last) = last else {
        return;
    };
    match last.span_in(boot_id, now) {
        Some(span) => tracing::info!(
            sequence = last.sequence,
            gap_ms = span.0 / 1_000_000,
            "nobody may have watched since the ledger's last record"
        ),
        None => tracing::info!(
            sequence = last.sequence,
            wall = last.wall,
            "the host was rebooted since the ledger's last record"
        ),
    }
}

impl Daemon {
    /// Goes on with the policy that was accepted last, if it still verifies.
    pub(super) fn resume(&mut self) -> Result<()> {
        let Some((serial, digest)) = self.engine.highest() else {
            self.apply(Input::NoPolicyKept)?;
            return Ok(());
        };
        let resumed = match self.hands.store.load(digest) {
            Ok(Some(bundle)) => self.verify(&bundle),
            Ok(None) => Err(anyhow::anyhow!("it is not in the state directory any more")),
            Err(error) => Err(error),
        };
        if let Ok(verified) = &resumed
            && let Err(shut_out) = self.fits_host(verified.policy())
        {
            tracing::error!("zone `{HOST}` is only observed until a policy is loaded: {shut_out}");
            self.apply(Input::HostShutOut)?;
        }
        let answer = match resumed {
            Ok(verified) => {
                let users = users(&verified)?;
                let policy = Arc::new(verified);
                let applied = self.apply(Input::PolicyOffered {
                    policy,
                    users,
                    uid: None,
                })?;
                self.owed_policy.clone_from(&applied.failed);
                match applied.failed {
                    Some(error) => Err(Refused::Denied(error)),
                    None => applied.answer,
                }
            }
            Err(error) => {
                let why = format!("resuming the policy with serial {serial}: {error:#}");
                self.apply(Input::PolicyRefused {
                    why,
                    digest: Some(digest),
                    uid: None,
                })?
                .answer
            }
        };
        if let Err(refused) = answer {
            tracing::error!(?refused, "no policy is in force; load one that verifies");
            self.apply(Input::NoPolicyKept)?;
        }
        Ok(())
    }

    /// Tries again what could not be written down or done, once records are taken: the policy was
    /// accepted before, so nobody has to offer it.
    pub(super) fn resume_if_owed(&mut self) -> Result<()> {
        if self.owed_policy.is_none() || self.engine.policy().is_some() {
            self.owed_policy = None;
            self.again.1 = Span(0);
            return Ok(());
        }
        let now = clock::now()?.boot;
        if self.engine.trust().has(&Cause::LedgerUnwritable) || now < self.again.0 {
            return Ok(());
        }
        // Each time leaves a record. What the kernel or the host does not take is not taken a second later.
        let wait = Span(self.again.1.0.saturating_mul(2)).clamp(Span::seconds(1), LONGEST);
        self.again = (now.after(wait), wait);
        self.resume()
    }

    /// The keys this host trusts, and what time it is for them.
    pub(super) fn trusted(&mut self) -> Result<(TrustedKeys, WallTime)> {
        // Read at each use: a key that was taken out of the file stops counting at once.
        let mut keys = self.config.trusted_keys()?;
        // Whoever may write the file must not be able to let in keys of their own.
        let pinned = self.hands.gate.pinned_keys();
        if let Some((known, least)) = pinned.context("reading the keys the gate was armed with")? {
            let known = known.into_iter().map(Digest::new).collect();
            keys = keys.only(&known, usize::try_from(least).unwrap_or(usize::MAX))?;
        }
        self.hands.keys = Some((keys.digests(), keys.threshold()));
        // Set back or not: the latest wall clock that was seen.
        let now = self.engine.corrected(clock::now()?);
        Ok((keys, now.wall))
    }

    fn verify(&mut self, bundle: &RawBundle) -> Result<VerifiedPolicy> {
        let (keys, now) = self.trusted()?;
        // Of a policy of many rows nothing is heard for long.
        progress::takes(LOOKING);
        Ok(policy::open(bundle, &keys, now)?)
    }
}

/// For how long an owed policy is not tried again, at most.
const LONGEST: Span = Span::seconds(60);

/// Whom workloads run as, by number; nothing where one of them is not known any more.
pub(super) fn numbers(verified: &VerifiedPolicy) -> Option<BTreeSet<u32>> {
    let named = users(verified).ok()?;
    let workloads = verified.policy().workloads().values();
    let listed = workloads.flat_map(|workload| &workload.users);
    listed
        .map(|user| user.parse().ok().or_else(|| named.get(user).copied()))
        .collect()
}

/// User ids for the names a policy uses.
pub(super) fn users(verified: &VerifiedPolicy) -> Result<BTreeMap<String, u32>> {
    let mut users = BTreeMap::new();
    for name in verified
        .policy()
        .workloads()
        .values()
        .flat_map(|workload| &workload.users)
    {
        if name.parse::<u32>().is_ok() {
            continue;
        }
        let user = nix::unistd::User::from_name(name)
            .with_context(|| format!("looking up the user `{name}`"))?;
        if let Some(user) = user {
            users.insert(name.clone(), user.uid.as_raw());
        }
    }
    Ok(users)
}

/// What names this host in challenges: a digest of the machine id, which itself stays private.
fn host_id(path: &Path) -> Result<Digest> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("reading the host's id `{}`", path.display()))?;
    Ok(Digest::of_parts(&[
        b"governor-host-v1\0",
        text.trim().as_bytes(),
    ]))
}

/// Who may break the glass, of those who could when the gate was armed. Whoever may write the file must
/// not be able to let in keys of their own.
fn glass_keys(config: &Config, gate: &Gate) -> Result<Result<GlassKeys, String>> {
    let pinned = gate.pinned_glass_keys()?;
    let keys = config.glass_keys().and_then(|keys| match pinned {
        None => Ok(keys),
        Some(known) => {
            let known = known.into_iter().map(Digest::new).collect();
            keys.only(&known).map_err(|error| error.to_string())
        }
    });
    Ok(keys)
}

/// What policy must list for this daemon to be one: its program, as it was started.
fn own_digest() -> Result<Digest> {
    let own = ["/proc/self/exe".into()];
    let measured = bundle::measure(&own, Empty::NotListed).context("measuring our own program")?;
    let own = measured.first().context("our own program is empty")?;
    Ok(own.digest)
}
