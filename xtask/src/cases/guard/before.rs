//! What only can be done before the guard is armed: a program of the gate's is taken away alone, and root takes
//! hold of the switch, open to be written, and of programs that are loaded and not yet in their place.

use std::rc::Rc;

use super::*;
use crate::kit::Kit;

/// The one who takes hold, and uses it when asked.
const REACH: &str = "/root/probe_reach";
const ASK: &str = "/root/probe_reach ask /run/held-ask /run/held-answer";
const SWITCH: &str = "/proc/sys/kernel/ftrace_enabled";

/// Asks for descriptors of the maps that the programs alone write, which nobody writes even before the guard is armed,
/// and of one that the daemon writes too, which shows that the answers differ (`BPF_OBJ_GET`).
const CLOSED: &str = "my ($dir) = glob('/sys/fs/bpf/governor/maps-*');
    for my $name ('DIGESTS', 'SOCKETS', 'NAMED') {
        my $path = \"$dir/$name\";
        my $attr = pack('p L L', $path, 0, 0);
        my $fd = syscall(321, 7, $attr, length $attr);
        die \"$name: $!\" if $fd < 0;
        open(my $info, '<', \"/proc/self/fdinfo/$fd\") or die $!;
        print grep { /^frozen/ } <$info>;
    }";

/// Puts itself into the canary's zone and executes something (`BPF_OBJ_GET`, `pidfd_open`, `BPF_MAP_UPDATE_ELEM`).
/// The numbers are `ZONE_CANARY` and `WORKLOAD_NONE`.
const EXECUTES: &str = "my ($path) = glob('/sys/fs/bpf/governor/maps-*/LABELS');
    my $attr = pack('p L L', $path, 0, 0);
    my $map = syscall(321, 7, $attr, length $attr);
    die \"LABELS: $!\" if $map < 0;
    open(my $info, '<', \"/proc/self/fdinfo/$map\") or die $!;
    my ($size) = map { /^value_size:\\s*(\\d+)/ } <$info>;
    my $own = syscall(434, $$ + 0, 0);
    die \"pidfd: $!\" if $own < 0;
    my ($key, $label) = (pack('L', $own), pack('L L', 0xfffffffa, 0xfffffffd) . chr(0) x $size);
    $attr = pack('L x4 p p Q', $map, $key, $label, 0);
    syscall(321, 2, $attr, length $attr) == 0 or die \"label: $!\";
    exec '/usr/bin/true'; exit 1;";

/// Comes while the gate is not armed, for only then can one of its programs be taken away and the others left: the
/// one that refuses the canary.
pub(super) fn canary_executes(guest: &mut Guest) -> Result<()> {
    let kit = unarmed(guest)?;
    guest
        .sh("systemctl stop governor && rm /sys/fs/bpf/governor/links-*/bprm_check_security")?
        .ok()?;
    // The kernel lets go of a program whose pin went when it comes to it, and refuses until then.
    guest.put("/root/executes.pl", 0o600, EXECUTES.as_bytes())?;
    let executed = guest.wait_until("perl /root/executes.pl; test $? = 137");
    guest
        .run(&["systemctl", "start", "governor"])?
        .ok()
        .context("having that program again")?;
    executed.context("waiting for who executes in the canary's zone to be ended by SIGKILL")?;
    // No daemon was there that a canary could have told.
    locked(guest)?;
    let said = status::of(guest)?.reasons();
    ensure!(said.contains("tampered:canary-passed"), "{said}");
    crate::kit::unlock(guest)?;
    kit.trusted(guest)?;
    works(guest)
}

/// A gate that nobody guards yet, and work that is trusted.
fn unarmed(guest: &mut Guest) -> Result<Rc<Kit>> {
    ensure!(
        status::of(guest)?.missing().contains(&"guard".to_owned()),
        "the gate is armed already; this case comes before the others that arm it"
    );
    let spec = Spec {
        guarded: false,
        ..Spec::default()
    };
    zone::load(guest, &spec)
}

/// Comes while the gate is not armed, for only then can anybody take hold.
pub(super) fn of_no_use(guest: &mut Guest) -> Result<()> {
    unarmed(guest)?;
    let said = guest.run(&["perl", "-e", CLOSED])?.ok()?.text();
    ensure!(
        said == "frozen:\t1\nfrozen:\t1\nfrozen:\t0",
        "whether nobody may write the maps: {said}"
    );
    guest.put_file(&compile::probe("probe_reach")?, REACH)?;
    guest
        .sh(&format!(
            "chmod 755 {REACH} && mkfifo /run/held-ask /run/held-answer && \
             systemd-run --quiet --unit=held {REACH} hold /run/held-ask /run/held-answer && \
             timeout 30 {ASK} here"
        ))?
        .ok()
        .context("taking hold of things")?;
    let outcome = uses(guest);
    guest
        .sh("systemctl stop held; rm -f /run/held-ask /run/held-answer")?
        .ok()?;
    outcome
}

fn uses(guest: &mut Guest) -> Result<()> {
    // Each of them works where nobody guards anything.
    for (what, becomes) in [
        ("write", "0"),
        ("attach", "0"),
        ("link", "0"),
        ("ride", "1"),
    ] {
        let done = guest.sh(&format!(
            "{ASK} {what} >&2; code=$?; cat {SWITCH}; {ASK} detach > /dev/null; echo 1 > {SWITCH}; exit $code"
        ))?;
        ensure!(
            done.code == 0 && done.text() == becomes,
            "`{what}` before the guard is armed: {} {} {}",
            done.code,
            done.text(),
            done.errors()
        );
    }
    // The canary may have met a gate that was switched off.
    guest
        .wait_until("governor attest now || { governor unlock --reason 'another case'; false; }")
        .context("waiting for trust")?;
    armed(guest)?;
    for (what, signal, costs) in [
        ("attach", "program-refused", Costs::Nothing),
        ("link", "program-refused", Costs::Nothing),
        ("ride", "program-refused", Costs::Nothing),
        ("write", "ftrace-touched", Costs::Trust),
    ] {
        let recorded = format!("grep -ao {signal} /var/lib/governor/ledger/ledger | wc -l");
        let before = guest.sh(&recorded)?.ok()?.text();
        refused(guest, &format!("{ASK} {what}"), costs)?;
        guest
            .wait_until(&format!("test $({recorded}) -gt {before}"))
            .with_context(|| format!("waiting for the record of `{what}`"))?;
        let said = status::of(guest)?.reasons();
        ensure!(
            (costs == Costs::Trust) == said.contains(&format!("tampered:{signal}")),
            "after `{what}`: {said}"
        );
        let value = guest.sh(&format!("cat {SWITCH}"))?.ok()?.text();
        ensure!(value == "1", "`{what}` turned the switch to `{value}`");
    }
    works(guest)
}
