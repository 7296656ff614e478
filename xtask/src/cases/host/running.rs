//! What runs, maps and connects outside of zones.

use super::*;

/// A program that no policy lists, beside one that policy does.
const MAKE: &str = "cd /root && rm -f changed renamed && cp /bin/true changed && echo >> changed && \
                    cp /bin/true renamed";

pub(super) fn only_what_is_listed(guest: &mut Guest) -> Result<()> {
    guest.sh(MAKE)?.ok()?;
    guest
        .sh("printf '#!/bin/sh\\nexit 0\\n' > /root/script && chmod 755 /root/script")?
        .ok()?;
    guest
        .sh("cp $(ldd /bin/ls | grep -o '/[^ ]*libselinux[^ ]*') /root/lib.so && echo >> /root/lib.so")?
        .ok()?;
    expect(guest, "/root/changed", 0, "before the host is a zone")?;
    guest
        .run(&FILLER)?
        .ok()
        .context("before the host is a zone")?;
    let host = load(guest)?;
    expect(guest, "/bin/true", 0, "a listed program")?;
    expect(guest, "/root/renamed", 0, "the same under another name")?;
    let edited = guest.sh("echo >> /root/renamed")?;
    ensure!(
        edited.code != 0 && edited.errors().contains("busy"),
        "what ran is written: {}",
        edited.errors()
    );
    expect(guest, "/root/changed", NOT_EXECUTED, "one byte more")?;
    expect(
        guest,
        &format!("{AGENT} hello"),
        NOT_EXECUTED,
        "an unlisted program",
    )?;
    expect(guest, "/root/script", NOT_EXECUTED, "an unlisted script")?;
    let through = format!("/lib64/ld-linux-x86-64.so.2 {AGENT} hello");
    expect(guest, &through, NOT_EXECUTED, "through the loader")?;
    let preloaded = guest.sh("LD_PRELOAD=/root/lib.so /bin/true 2>&1")?.text();
    ensure!(
        preloaded.contains("cannot be preloaded"),
        "an unlisted library: {preloaded}"
    );
    // From within a zone's cgroup, where systemd's own code is left alone, and back.
    let inside = "/sys/fs/cgroup/governed.slice/detour";
    let plug_in = format!(
        "mkdir -p {inside} && echo $$ > {inside}/cgroup.procs && enable -f /root/lib.so nothing"
    );
    let said = guest.run(&["/bin/bash", "-c", &plug_in])?.errors();
    ensure!(
        said.contains("failed to map") && !said.contains("nothing_struct"),
        "by way of a zone: {said}"
    );
    let fills = guest.run(&FILLER)?;
    ensure!(
        fills.code == gate::REFUSED - 100,
        "what fills pages that were measured: {} {}",
        fills.code,
        fills.errors()
    );
    // Started by the first process, as services are.
    let unit = |program: &'static str| ["systemd-run", "--quiet", "--wait", "--collect", program];
    let listed = guest.run(&unit("/bin/true"))?.code;
    ensure!(listed == 0, "a listed service: {listed}");
    let unlisted = guest.run(&unit("/root/changed"))?.code;
    ensure!(
        unlisted == gate::NOT_EXECUTED,
        "an unlisted service: {unlisted}"
    );
    let denials = guest.run(&["governor", "events"])?.text();
    ensure!(
        denials.contains("not-authorized") && denials.contains("host"),
        "denials are reported: {denials}"
    );
    let explained = |path: &'static str| ["governor", "explain", path, "--zone", "host"];
    ensure!(guest.run(&explained("/bin/true"))?.code == 0, "explained");
    ensure!(
        guest.run(&explained("/root/changed"))?.code == 3,
        "explained"
    );
    host.free(guest)
}

/// Makes a `userfaultfd` for what its own programs do, as anybody may. It ends with the kernel's error number.
const FILLER: [&str; 3] = ["perl", "-e", "exit(syscall(323, 1) < 0 ? $! + 0 : 0)"];

pub(super) fn workload(guest: &mut Guest) -> Result<()> {
    // What is revoked here is content that no other case uses.
    let make = format!("cp {AGENT} {HOSTED} && echo >> {HOSTED}");
    guest.sh(&make)?.ok()?;
    guest.sh(MAKE)?.ok()?;
    let listed = guest.run(&["governor", "measure", HOSTED])?.ok()?.text();
    let host = guest.kept::<Host>()?;
    let mut spec = host.spec();
    spec.sets.push(("hosted", listed));
    spec.tables = WITH_WORKLOAD;
    host.kit.load(guest, &spec)?;
    let hosted = |what: &str| format!("{HOSTED} {what}");
    expect(guest, &hosted("hello"), 0, "the workload")?;
    // It has a label: what only survives is not for it.
    let survivor = hosted("exec /bin/true");
    let refused = gate::REFUSED;
    expect(guest, &survivor, refused, "a survivor that it starts")?;
    let socket = hosted("tcp 127.0.0.1:8443");
    expect(guest, &socket, refused, "a zone without families")?;
    let unit = [
        "systemd-run",
        "--quiet",
        "--collect",
        "--unit=hosted",
        "--property=Type=exec",
        HOSTED,
        "hold",
    ];
    guest.run(&unit)?.ok()?;
    ended_knowingly(guest, &host)?;
    host.kit.load(guest, &spec)?;
    guest.run(&unit)?.ok()?;
    let revoke = ["revoke", "--workload", "hosted", "--reason", "drill"];
    guest.run(&[&["governor"][..], &revoke].concat())?.ok()?;
    let state = guest.sh("systemctl is-active hosted.service")?.text();
    ensure!(state.trim() != "active", "it goes on: {state}");
    let again = hosted("hello");
    expect(guest, &again, NOT_EXECUTED, "the workload, once revoked")?;
    expect(guest, "/bin/true", 0, "what survives")?;
    host.free(guest)
}

/// A policy without the zone stops what is labelled in it: refused until the operator says that it is meant.
fn ended_knowingly(guest: &mut Guest, host: &Host) -> Result<()> {
    let without = host.kit.signed(&Spec::default())?;
    let refused = host.kit.offer(guest, &without)?;
    ensure!(
        refused.code == 3 && refused.errors().contains("1 of `host/hosted` (kill)"),
        "{} {}",
        refused.code,
        refused.errors()
    );
    let active = ["systemctl", "is-active", "--quiet", "hosted.service"];
    ensure!(guest.run(&active)?.code == 0, "it was stopped");
    expect(guest, "/root/changed", NOT_EXECUTED, "the zone stands")?;
    let meant = [
        "governor",
        "policy",
        "reload",
        "--ends-host",
        "/root/policy",
    ];
    guest.run(&meant)?.ok()?;
    ensure!(guest.run(&active)?.code != 0, "it goes on");
    // Who asked, the first process and the daemon do.
    expect(guest, "/root/changed", 0, "without the zone")?;
    ensure!(
        guest
            .run(&["systemctl", "is-active", "--quiet", "governor"])?
            .code
            == 0
    );
    guest
        .sh("systemctl reset-failed hosted.service; true")?
        .ok()
        .map(drop)
}

pub(super) fn network(guest: &mut Guest) -> Result<()> {
    let host = load(guest)?;
    // Nobody listens and no route leads there; what matters is who says no.
    let said = |guest: &mut Guest, to: &str| -> Result<String> {
        let script = format!("exec 3<>/dev/{to}; echo x >&3");
        Ok(guest.run(&["/bin/bash", "-c", &script])?.errors())
    };
    // The first hop that a socket names would get what is sent to this host.
    let hops = "use Socket; socket(S, PF_INET, SOCK_DGRAM, 17) or die; \
                setsockopt(S, 0, 4, pack('C8', 131, 7, 4, 203, 0, 113, 9, 0)) or print \"$!\"";
    let routed = guest.run(&["perl", "-e", hops])?.ok()?.text();
    ensure!(
        routed.contains("not permitted"),
        "a route of its own: {routed}"
    );
    for (to, refused) in [
        ("tcp/127.0.0.1/9", false),
        ("tcp/10.66.0.1/443", true),
        ("udp/10.66.0.1/53", true),
        ("udp/10.77.0.1/53", false),
        ("udp/10.77.0.1/54", true),
    ] {
        let answer = said(guest, to)?;
        ensure!(
            answer.contains("Operation not permitted") == refused,
            "{to}: {answer}"
        );
    }
    host.free(guest)
}

pub(super) fn observed(guest: &mut Guest) -> Result<()> {
    guest.sh(MAKE)?.ok()?;
    let host = load(guest)?;
    guest
        .run(&["governor", "observe", "--zone", "host", "--for", "5m"])?
        .ok()?;
    expect(guest, "/root/changed", 0, "an unlisted program, observed")?;
    // What it starts is nobody either.
    let nested = format!("{AGENT} spawn /bin/true");
    expect(guest, &nested, 0, "what an unlisted program starts")?;
    let events = guest.run(&["governor", "events"])?.text();
    ensure!(
        events.contains("would-deny") || events.contains("would deny"),
        "nothing was reported: {events}"
    );
    guest
        .run(&["governor", "observe", "--zone", "host", "--for", "0s"])?
        .ok()?;
    expect(guest, "/root/changed", NOT_EXECUTED, "observed no more")?;
    host.free(guest)
}

/// Whoever chose what runs a listed script is what they were, and nothing of the script's workload.
pub(super) fn observed_script(guest: &mut Guest) -> Result<()> {
    guest
        .sh(&format!(
            "cd /root && rm -f ready go && mkfifo ready go && cp {AGENT} {STARTED} && echo next >> {STARTED} && \
             cp {AGENT} {INTERPRETER} && echo other >> {INTERPRETER} && \
             cp /bin/bash own-bash && echo >> own-bash && chmod 755 own-bash && \
             printf '#!/root/own-bash\necho > ready; read x < go; exec {STARTED} hello\n' > {SCRIPT} && \
             chmod 755 {SCRIPT}"
        ))?
        .ok()?;
    let host = guest.kept::<Host>()?;
    let mut spec = host.spec();
    for (name, path) in [
        ("started", STARTED),
        ("script", SCRIPT),
        ("agent", AGENT),
        ("interpreter", INTERPRETER),
    ] {
        let listed = guest.run(&["governor", "measure", path])?.ok()?.text();
        spec.sets.push((name, listed));
    }
    spec.tables = WITH_SCRIPT;
    host.kit.load(guest, &spec)?;
    expect(guest, SCRIPT, NOT_EXECUTED, "an unlisted interpreter")?;
    let observe = |guest: &mut Guest, long: &str| -> Result<()> {
        let argv = ["governor", "observe", "--zone", "host", "--for", long];
        guest.run(&argv)?.ok().map(drop)
    };
    observe(guest, "5m")?;
    let job = guest.spawn(&["/bin/sh", "-c", &format!("cd /root && {SCRIPT}")])?;
    guest.sh("timeout 60 cat /root/ready")?.ok()?;
    observe(guest, "0s")?;
    let before = gate::counted(guest, "wrong-starter")?;
    guest.sh("timeout 60 sh -c 'echo > /root/go'")?.ok()?;
    let code = guest.wait(job, gate::BOUND)?.code;
    let after = gate::counted(guest, "wrong-starter")?;
    ensure!(
        code == NOT_EXECUTED && after == before + 1,
        "it started what the script's workload may start, or was refused for another reason: {code}, \
         {before}, {after}"
    );
    guest
        .sh(&format!(
            "rm /root/ready /root/go /root/own-bash {STARTED} {SCRIPT} {INTERPRETER}"
        ))?
        .ok()?;
    host.free(guest)
}

const HOSTED: &str = "/root/hosted";
/// What only the script's workload starts; nobody revoked it.
const STARTED: &str = "/root/started";
const SCRIPT: &str = "/root/listed-script";
/// What is listed as its interpreter, and is not.
const INTERPRETER: &str = "/root/listed-interpreter";

const WITH_WORKLOAD: &str = tables!(
    r#"
[workload.hosted]
zone = "host"
exec = ["hosted"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["root"]
"#
);

const WITH_SCRIPT: &str = tables!(
    r#"
[workload.scripted]
zone = "host"
exec = ["agent"]
libraries = ["os-libraries"]
scripts = ["script"]
interpreters = ["interpreter"]
started_by = ["operator"]
user = ["root"]

[workload.started]
zone = "host"
exec = ["started"]
libraries = ["os-libraries"]
started_by = ["scripted"]
user = ["root"]
"#
);
