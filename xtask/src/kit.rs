//! Policies for guests, made as an operator would make them: measured and baselined in the guest,
//! written and signed on the host with a key that never enters the guest, loaded through the CLI.

use crate::{
    compile,
    guest::{Guest, Output},
    paths, process, status,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
};

/// Where the workload of the tests lies in the guest.
pub(crate) const AGENT: &str = "/opt/agent/agent";
/// The user it runs as.
pub(crate) const USER: &str = "agent";
/// Listens in the guest, and policy allows it.
pub(crate) const ALLOWED: &str = "127.0.0.1:8443";
/// Listens in the guest, and policy does not.
pub(crate) const ELSEWHERE: &str = "127.0.0.2:8443";
/// The slice of the zone `agents`, and of the zone `tools` that needs no attestation.
pub(crate) const AGENTS_SLICE: &str = "governed-agents.slice";
pub(crate) const TOOLS_SLICE: &str = "governed-tools.slice";
/// Where a policy lies in the guest that is offered, and how.
const OFFERED: &str = "/root/policy";
pub(crate) const RELOAD: [&str; 4] = ["governor", "policy", "reload", OFFERED];

/// A signing key on the host, and what was learned from one guest.
#[derive(Debug)]
pub(crate) struct Kit {
    dir: PathBuf,
    governor: PathBuf,
    /// The daemon in the guest, as policy lists it.
    daemon: String,
    planner: String,
    libraries: String,
    /// The workload's user, by number.
    pub(crate) user: u32,
    reference: RefCell<String>,
    serial: Cell<u64>,
}

/// What varies between the policies of the tests. Everything else is the strictest that works.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) mode: &'static str,
    pub(crate) allowed: &'static str,
    pub(crate) on_revoke: &'static str,
    pub(crate) lease: &'static str,
    pub(crate) every: &'static str,
    /// Lines of sha256sum form beside the agent's own.
    pub(crate) planner: String,
    pub(crate) serial: Option<u64>,
    pub(crate) memory: &'static str,
    /// When the policy ends.
    pub(crate) until: String,
    /// Tables beside the others.
    pub(crate) tables: &'static str,
    /// Sets beside the others, by name, with their lines.
    pub(crate) sets: Vec<(&'static str, String)>,
    /// Lines under `[governor]` beside who the daemon is.
    pub(crate) governor: &'static str,
    /// Lines beside the daemon's own.
    pub(crate) daemons: String,
    /// Whether the policy lists the daemon, so that the gate guards itself.
    pub(crate) guarded: bool,
    pub(crate) thaw: bool,
    pub(crate) unlabelled: &'static str,
    /// The sockets outside that the agent may reach, as policy lists them.
    pub(crate) sockets: &'static str,
    /// The registers that are quoted.
    pub(crate) pcrs: &'static str,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            mode: "enforce",
            allowed: "127.0.0.1/32",
            on_revoke: "kill",
            lease: "20s",
            every: "2s",
            planner: String::new(),
            serial: None,
            memory: "w^x",
            until: "2090-01-01T00:00:00Z".into(),
            tables: "",
            sets: Vec::new(),
            governor: "",
            daemons: String::new(),
            guarded: true,
            thaw: false,
            unlabelled: "leave",
            sockets: "",
            pcrs: PCRS,
        }
    }
}

impl Kit {
    /// Puts the workload and the host's public key into the guest and learns what a policy needs.
    /// The registers that change with the guest's disk are not among those quoted.
    pub(crate) fn new(guest: &mut Guest) -> Result<Self> {
        let dir = paths::ensure(paths::vm().join("kit").join(unique()))?;
        let key = dir.join("policy_key");
        make_key(&key)?;
        guest.put_file(&dir.join("policy_key.pub"), "/etc/governor/trusted_keys")?;
        guest.sh("chmod 644 /etc/governor/trusted_keys")?.ok()?;
        guest.put_file(&compile::probe("probe_agent")?, AGENT)?;
        guest
            .sh(&format!(
                "chmod 755 {AGENT}; id {USER} 2>/dev/null || useradd --system {USER}"
            ))?
            .ok()
            .context("adding the workload's user")?;
        let daemon = guest
            .run(&["governor", "measure", "/usr/bin/governor"])?
            .ok()?
            .text();
        let planner = guest.run(&["governor", "measure", AGENT])?.ok()?.text();
        let libraries = guest
            .sh(&format!(
                "ldd {AGENT} | grep -o '/[^ ]*' | xargs governor measure"
            ))?
            .ok()
            .context("measuring the workload's libraries")?
            .text();
        let user = guest.run(&["id", "-u", USER])?.ok()?.text();
        let user = user.parse().context("the user's number")?;
        let reference = RefCell::new(baseline(guest, PCRS)?);
        Ok(Self {
            governor: paths::target().join("release/governor"),
            dir,
            daemon,
            planner,
            libraries,
            user,
            reference,
            serial: Cell::new(0),
        })
    }

    /// Learns what the registers hold now, after a test extended one.
    pub(crate) fn baseline(&self, guest: &mut Guest) -> Result<()> {
        self.baseline_of(guest, PCRS)
    }

    /// The same, of other registers than the tests quote.
    pub(crate) fn baseline_of(&self, guest: &mut Guest, pcrs: &str) -> Result<()> {
        *self.reference.borrow_mut() = baseline(guest, pcrs)?;
        Ok(())
    }

    /// The directory of a policy, not yet signed.
    pub(crate) fn write(&self, spec: &Spec) -> Result<PathBuf> {
        let serial = spec.serial.unwrap_or(self.serial.get() + 1);
        self.serial.set(self.serial.get().max(serial));
        let dir = self.dir.join(format!("policy-{serial}-{}", unique()));
        let put = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))
        };
        paths::ensure(dir.join("sets"))?;
        put(
            "sets/planner.sha256",
            &format!("{}\n{}", self.planner, spec.planner),
        )?;
        put("sets/os-libraries.sha256", &format!("{}\n", self.libraries))?;
        put(
            "sets/governor.sha256",
            &format!("{}\n{}", self.daemon, spec.daemons),
        )?;
        for (name, lines) in &spec.sets {
            put(&format!("sets/{name}.sha256"), lines)?;
        }
        put("reference.toml", &format!("{}\n", self.reference.borrow()))?;
        put("policy.toml", &policy(spec, serial))?;
        Ok(dir)
    }

    /// The same, signed on the host.
    pub(crate) fn signed(&self, spec: &Spec) -> Result<PathBuf> {
        let dir = self.write(spec)?;
        self.sign(&dir)?;
        Ok(dir)
    }

    /// Signs a directory with the key that the guest trusts.
    pub(crate) fn sign(&self, dir: &Path) -> Result<()> {
        self.sign_with(dir, &self.dir.join("policy_key"))
    }

    /// Signs a directory with any key.
    pub(crate) fn sign_with(&self, dir: &Path, key: &Path) -> Result<()> {
        let mut sign = process::command(&self.governor);
        sign.args(["policy", "sign", "--key"]).arg(key).arg(dir);
        process::capture(&mut sign)
            .context("signing a policy on the host")
            .map(drop)
    }

    /// Signs whatever is there, as `sha256sum` and `ssh-keygen` do it, without looking at it.
    pub(crate) fn sign_with_openssh(&self, dir: &Path) -> Result<()> {
        let script = "rm -f SHA256SUMS SHA256SUMS.sig && find . -type f | sed 's|^./||' | sort | \
                      xargs sha256sum > ../sums && mv ../sums SHA256SUMS && \
                      ssh-keygen -q -Y sign -f \"$1\" -n governor-policy@v1 SHA256SUMS";
        let mut sign = process::command("sh");
        sign.args(["-c", script, "sh"])
            .arg(self.dir.join("policy_key"))
            .current_dir(dir);
        process::capture(&mut sign)
            .context("signing with ssh-keygen")
            .map(drop)
    }

    /// A copy of somebody's policy directory, to be signed without touching theirs. Its reference
    /// values become those of this guest.
    pub(crate) fn copy(&self, from: &Path) -> Result<PathBuf> {
        let to = self.dir.join(format!("copy-{}", unique()));
        for file in walk(from)? {
            let target = to.join(file.strip_prefix(from).unwrap_or(&file));
            paths::ensure(target.parent().unwrap_or(&to).to_owned())?;
            std::fs::copy(&file, &target)
                .with_context(|| format!("copying `{}`", file.display()))?;
        }
        let reference = to.join("reference.toml");
        if reference.exists() {
            std::fs::write(&reference, format!("{}\n", self.reference.borrow()))
                .with_context(|| format!("writing `{}`", reference.display()))?;
        }
        Ok(to)
    }

    /// The example policy, adapted to this guest as its README says: measured anew, baselined, and
    /// valid for as long as anybody runs these tests.
    pub(crate) fn example(&self, guest: &mut Guest) -> Result<PathBuf> {
        let dir = self.copy(&paths::root().join("policies/agent-host"))?;
        let base = guest.run(&["governor", "measure", "/bin/sh"])?.ok()?.text();
        let put = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))
        };
        put("sets/governor.sha256", &format!("{}\n", self.daemon))?;
        put("sets/os-base.sha256", &format!("{base}\n"))?;
        put("sets/planner.sha256", &format!("{}\n", self.planner))?;
        put("sets/os-libraries.sha256", &format!("{}\n", self.libraries))?;
        let policy = dir.join("policy.toml");
        let text = std::fs::read_to_string(&policy)
            .with_context(|| format!("reading `{}`", policy.display()))?;
        // Serials only grow, also past those that this guest has seen.
        self.serial.set(self.serial.get() + 1);
        let serial = format!("serial = {}", self.serial.get());
        let lasting: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("valid ="))
            .map(|line| match line {
                line if line.starts_with("not_after") => "not_after = 2090-01-01T00:00:00Z",
                line if line.starts_with("serial =") => &serial,
                line => line,
            })
            .collect();
        put("policy.toml", &lasting.join("\n"))?;
        self.sign(&dir)?;
        Ok(dir)
    }

    /// The key that signs policies.
    pub(crate) fn key(&self) -> PathBuf {
        self.path("policy_key")
    }

    /// A file of this kit's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A key that the guest does not trust.
    pub(crate) fn stranger(&self) -> Result<PathBuf> {
        let key = self.dir.join(format!("stranger-{}", unique()));
        make_key(&key)?;
        Ok(key)
    }

    /// Copies a policy into the guest and has the daemon load it.
    pub(crate) fn offer(&self, guest: &mut Guest, dir: &Path) -> Result<Output> {
        self.put(guest, dir)?;
        guest.run(&RELOAD)
    }

    /// Puts a directory where [`RELOAD`] looks for it.
    pub(crate) fn put(&self, guest: &mut Guest, dir: &Path) -> Result<()> {
        guest.run(&["rm", "-rf", OFFERED])?.ok()?;
        for file in walk(dir)? {
            let name = file
                .strip_prefix(dir)
                .unwrap_or(&file)
                .display()
                .to_string();
            guest.put_file(&file, &format!("{OFFERED}/{name}"))?;
        }
        Ok(())
    }

    /// Signs, loads, and waits until the host is trusted. What an earlier case locked is unlocked.
    pub(crate) fn load(&self, guest: &mut Guest, spec: &Spec) -> Result<()> {
        unlock(guest)?;
        let dir = self.signed(spec)?;
        self.offer(guest, &dir)?.ok().context("loading a policy")?;
        self.trusted(guest)
    }

    /// Takes trust away by a policy that no evidence satisfies.
    pub(crate) fn distrust(&self, guest: &mut Guest, spec: &Spec) -> Result<()> {
        let dir = self.doubted(spec)?;
        self.offer(guest, &dir)?.ok()?;
        let code = guest.run(&["governor", "attest", "now"])?.code;
        ensure!(code == 3, "the host must not be trusted: {code}");
        Ok(())
    }

    /// A signed policy whose reference values list nobody's key: a digest of other bytes.
    pub(crate) fn doubted(&self, spec: &Spec) -> Result<PathBuf> {
        let dir = self.write(spec)?;
        let path = dir.join("reference.toml");
        let text = std::fs::read_to_string(&path)?;
        let (before, key) = text.split_once("000b").context("no key is listed")?;
        let rest = key.get(64..).context("a short key in them")?;
        std::fs::write(&path, format!("{before}000b{}{rest}", "cd".repeat(32)))?;
        self.sign(&dir)?;
        Ok(dir)
    }

    /// Asks for an appraisal and waits for it.
    pub(crate) fn trusted(&self, guest: &mut Guest) -> Result<()> {
        let status = guest.run(&["governor", "attest", "now"])?;
        let said = format!("{}\n{}", status.text(), status.errors());
        ensure!(status.code == 0, "the host is not trusted: {said}");
        Ok(())
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        // Left-over files are below target/ and named for this process.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// An operator ends what locked the host, if something did.
pub(crate) fn unlock(guest: &mut Guest) -> Result<()> {
    if status::of(guest)?.trust() == "locked" {
        let unlock = ["governor", "unlock", "--reason", "another case"];
        guest.run(&unlock)?.ok().context("unlocking")?;
    }
    Ok(())
}

/// Runs the workload in its zone, as systemd starts services there.
pub(crate) fn in_zone(guest: &mut Guest, slice: &str, argv: &[&str]) -> Result<Output> {
    let slice = format!("--slice={slice}");
    let user = format!("--uid={USER}");
    let run = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect"];
    guest.run(&[&run[..], &[&slice, &user, "--"], argv].concat())
}

fn policy(spec: &Spec, serial: u64) -> String {
    let Spec {
        mode,
        allowed,
        on_revoke,
        lease,
        every,
        memory,
        until,
        tables,
        sets,
        governor,
        guarded,
        thaw,
        unlabelled,
        sockets,
        pcrs,
        ..
    } = spec;
    let listed = |(name, _): &(&str, String)| format!("{name} = \"sets/{name}.sha256\"\n");
    let sets: String = sets.iter().map(listed).collect();
    let daemon = if *guarded { "\"governor\"" } else { "" };
    format!(
        r#"[policy]
format = 1
name = "test"
serial = {serial}
not_before = 2020-01-01T00:00:00Z
not_after = {until}

[governor]
exec = [{daemon}]
{governor}
[attestation]
verifiers = ["local"]
threshold = 1
pcrs = [{pcrs}]
reference = "reference.toml"
every = "{every}"
lease = "{lease}"

[zone.agents]
cgroup = "governed.slice/{AGENTS_SLICE}"
mode = "{mode}"
memory = "{memory}"
families = ["inet", "inet6", "unix"]
on_revoke = "{on_revoke}"
observe_up_to = "30m"
thaw = {thaw}
unlabelled = "{unlabelled}"

[zone.tools]
cgroup = "governed.slice/{TOOLS_SLICE}"
requires = "policy"
families = ["inet", "unix"]
on_revoke = "deny"

[workload.planner]
zone = "agents"
exec = ["planner"]
libraries = ["os-libraries"]
started_by = ["operator", "planner"]
user = ["{USER}", "root"]
on_revoke = "{on_revoke}"
sockets = [{sockets}]
egress = [
  {{ to = "{allowed}", ports = ["8443"], protocol = "tcp" }},
  {{ to = "{allowed}", ports = ["5353"], protocol = "udp" }},
]

[workload.tool]
zone = "tools"
exec = ["planner"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["{USER}"]
on_revoke = "deny"

{tables}

[set]
governor = "sets/governor.sha256"
planner = "sets/planner.sha256"
os-libraries = "sets/os-libraries.sha256"
{sets}"#
    )
}

fn baseline(guest: &mut Guest, pcrs: &str) -> Result<String> {
    let shown = guest.run(&["governor", "attest", "baseline", "--pcrs", pcrs])?;
    Ok(shown.ok().context("taking a baseline")?.text())
}

fn make_key(path: &Path) -> Result<()> {
    let mut keygen = process::command("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "policy@test", "-f"])
        .arg(path);
    process::capture(&mut keygen)
        .context("making a policy key")
        .map(drop)
}

fn walk(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let listing = std::fs::read_dir(dir).with_context(|| format!("listing `{}`", dir.display()))?;
    for entry in listing {
        let path = entry
            .with_context(|| format!("listing `{}`", dir.display()))?
            .path();
        if path.is_dir() {
            files.extend(walk(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// A name nobody else in this process or another uses.
fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!(
        "{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// What the tests quote: firmware, boot order, secure boot state and the command line. PCR 14 stays
/// zero in these guests, so a test can extend it.
pub(crate) const PCRS: &str = "0,1,2,3,4,5,6,7,8,9,14";
