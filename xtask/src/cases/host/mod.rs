//! The whole host as a zone: what is listed goes on whatever becomes of trust, nothing else runs, and
//! nobody who administers the host is shut out.

/// Tables that make the whole host a zone, and others after them.
macro_rules! tables {
    ($more:literal) => {
        concat!(
            r#"[zone.host]
cgroup = "/"
requires = "policy"
on_revoke = "kill"
observe_up_to = "10m"

[survival]
exec = ["survival-exec"]
libraries = ["survival-libraries"]
scripts = ["survival-scripts"]
egress = [{ to = "10.77.0.0/16", ports = ["53"], protocol = "udp" }]
"#,
            $more
        )
    };
}

mod helpers;
mod running;
mod surviving;

use super::{Case, Suite, gate};
use crate::{
    guest::{BootOptions, Guest},
    install,
    kit::{AGENT, Kit, Spec},
    paths,
};
use anyhow::{Context as _, Result, ensure};
use std::rc::Rc;

pub(crate) const SUITE: Suite = Suite {
    name: "host",
    options: BootOptions::new,
    kernels: super::Kernels::EveryBut(&["a_kept_policy_that_would_shut_out_by_now_is_observed"]),
    prepare,
    cases: &[
        Case {
            name: "nothing_runs_that_is_not_listed",
            run: running::only_what_is_listed,
        },
        Case {
            name: "what_the_kernel_starts_is_judged",
            run: helpers::judged,
        },
        Case {
            name: "a_workload_of_the_host_is_governed",
            run: running::workload,
        },
        Case {
            name: "the_host_connects_where_policy_says",
            run: running::network,
        },
        Case {
            name: "an_observed_host_reports_and_labels_nobody",
            run: running::observed,
        },
        Case {
            name: "another_interpreter_has_no_label_of_the_script",
            run: running::observed_script,
        },
        Case {
            name: "whoever_administers_it_is_not_shut_out",
            run: surviving::without_trust,
        },
        Case {
            name: "a_daemon_without_a_policy_leaves_it_governed",
            run: surviving::without_a_policy,
        },
        Case {
            name: "what_ran_only_for_broken_glass_is_stopped",
            run: surviving::glass,
        },
        Case {
            name: "a_kept_policy_that_would_shut_out_by_now_is_observed",
            run: surviving::shut_out_later,
        },
        Case {
            name: "a_policy_that_shuts_out_is_refused",
            run: surviving::shut_out,
        },
        Case {
            name: "the_kernel_reported_no_fault",
            run: gate::no_fault,
        },
    ],
};

/// What a policy is made from, and what the host was found to need.
struct Host {
    kit: Kit,
    exec: String,
    libraries: String,
    scripts: String,
}

fn prepare(guest: &mut Guest) -> Result<()> {
    install::package(guest, &paths::target().join("dist/governor.deb"))?;
    // Before the guard is armed: keys that come later count after a reboot.
    guest
        .sh(&format!(
            "ssh-keygen -q -t ed25519 -N '' -C glass -f {GLASS_KEY} && \
             cat {GLASS_KEY}.pub >> /etc/governor/break_glass_keys && systemctl restart governor"
        ))?
        .ok()
        .context("making a break-glass key")?;
    let kit = Kit::new(guest)?;
    guest
        .run(&[
            "governor",
            "measure",
            "--survival",
            "--out",
            "/root/survival",
        ])?
        .ok()
        .context("measuring what the host needs")?;
    let mut read = |name: &str| -> Result<String> {
        let path = format!("/root/survival/survival-{name}.sha256");
        Ok(guest.run(&["cat", &path])?.ok()?.text())
    };
    let host = Host {
        kit,
        exec: read("exec")?,
        libraries: read("libraries")?,
        scripts: read("scripts")?,
    };
    guest.keep(Rc::new(host));
    Ok(())
}

impl Host {
    /// A policy that makes the whole host a zone.
    fn spec(&self) -> Spec {
        Spec {
            tables: tables!(""),
            sets: vec![
                ("survival-exec", self.exec.clone()),
                ("survival-libraries", self.libraries.clone()),
                ("survival-scripts", self.scripts.clone()),
            ],
            ..Spec::default()
        }
    }

    /// Everything outside of zones is free again.
    fn free(&self, guest: &mut Guest) -> Result<()> {
        self.kit.load(guest, &Spec::default())?;
        let code = shell(guest, &format!("{AGENT} hello"))?;
        ensure!(code == 0, "no zone, and still refused: {code}");
        Ok(())
    }
}

/// Loads a policy that makes the whole host a zone.
fn load(guest: &mut Guest) -> Result<Rc<Host>> {
    let host = guest.kept::<Host>()?;
    host.kit.load(guest, &host.spec())?;
    // An earlier case may have left it observed.
    guest
        .run(&["governor", "observe", "--zone", "host", "--for", "0s"])?
        .ok()?;
    Ok(host)
}

fn shell(guest: &mut Guest, script: &str) -> Result<i32> {
    Ok(guest.run(&["/bin/sh", "-c", script])?.code)
}

fn expect(guest: &mut Guest, script: &str, expected: i32, what: &str) -> Result<()> {
    let done = guest.run(&["/bin/sh", "-c", script])?;
    let said = format!("{}{}", done.text(), done.errors());
    ensure!(
        done.code == expected,
        "{what}: expected {expected}, it ended with {}: {said}",
        done.code
    );
    Ok(())
}

const GLASS_KEY: &str = "/root/glass";
/// How a shell ends that may not execute what it was told to.
const NOT_EXECUTED: i32 = 126;
