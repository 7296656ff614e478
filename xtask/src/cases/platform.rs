//! What every other suite leans on: the kernel, the LSM list, the TPM and its event log, cgroups, and
//! the harness's own promises (streams, exit codes, files, background commands, reboot).

use super::{Case, Suite, nothing};
use crate::guest::{BootOptions, Guest};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

pub(crate) const SUITE: Suite = Suite {
    name: "platform",
    options: BootOptions::new,
    kernels: super::Kernels::Every,
    prepare: nothing,
    cases: &[
        Case {
            name: "kernel_is_the_one_asked_for",
            run: kernel_is_the_one_asked_for,
        },
        Case {
            name: "bpf_is_an_active_lsm",
            run: bpf_is_an_active_lsm,
        },
        Case {
            name: "systemd_is_running",
            run: systemd_is_running,
        },
        Case {
            name: "cgroup2_is_mounted",
            run: cgroup2_is_mounted,
        },
        Case {
            name: "bpffs_and_btf_are_there",
            run: bpffs_and_btf_are_there,
        },
        Case {
            name: "tpm_has_measured_the_boot",
            run: tpm_has_measured_the_boot,
        },
        Case {
            name: "event_log_is_there",
            run: event_log_is_there,
        },
        Case {
            name: "only_loopback_is_there",
            run: only_loopback_is_there,
        },
        Case {
            name: "commands_keep_streams_and_codes_apart",
            run: commands_keep_streams_and_codes_apart,
        },
        Case {
            name: "files_go_both_ways",
            run: files_go_both_ways,
        },
        Case {
            name: "probes_run",
            run: probes_run,
        },
        Case {
            name: "background_commands_can_be_killed",
            run: background_commands_can_be_killed,
        },
        Case {
            name: "a_hung_command_is_an_error",
            run: a_hung_command_is_an_error,
        },
        Case {
            name: "reboot_keeps_disk_and_tpm",
            run: reboot_keeps_disk_and_tpm,
        },
        Case {
            name: "power_cut_keeps_what_was_synced",
            run: power_cut_keeps_what_was_synced,
        },
    ],
};

fn kernel_is_the_one_asked_for(guest: &mut Guest) -> Result<()> {
    let release = guest.run(&["uname", "-r"])?.ok()?.text();
    let wanted = format!("{}.", guest.kernel());
    ensure!(
        release.starts_with(&wanted),
        "asked for {wanted}x, runs {release}"
    );
    Ok(())
}

fn bpf_is_an_active_lsm(guest: &mut Guest) -> Result<()> {
    let list = guest
        .run(&["cat", "/sys/kernel/security/lsm"])?
        .ok()?
        .text();
    ensure!(list.split(',').any(|name| name == "bpf"), "active: {list}");
    Ok(())
}

fn systemd_is_running(guest: &mut Guest) -> Result<()> {
    let state = guest.run(&["systemctl", "is-system-running"])?.text();
    let failed = guest
        .run(&[
            "systemctl",
            "--failed",
            "--plain",
            "--no-legend",
            "--no-pager",
        ])?
        .text();
    ensure!(state == "running", "{state}: {failed}");
    Ok(())
}

fn cgroup2_is_mounted(guest: &mut Guest) -> Result<()> {
    let kind = guest
        .run(&["stat", "-f", "-c", "%T", "/sys/fs/cgroup"])?
        .ok()?
        .text();
    ensure!(kind == "cgroup2fs", "it is {kind}");
    guest
        .sh("grep -qw memory /sys/fs/cgroup/cgroup.controllers")?
        .ok()
        .context("no memory controller")?;
    Ok(())
}

fn bpffs_and_btf_are_there(guest: &mut Guest) -> Result<()> {
    let kind = guest
        .run(&["stat", "-f", "-c", "%T", "/sys/fs/bpf"])?
        .ok()?
        .text();
    ensure!(kind == "bpf_fs", "/sys/fs/bpf is {kind}");
    guest
        .run(&["test", "-s", "/sys/kernel/btf/vmlinux"])?
        .ok()
        .context("no BTF")?;
    Ok(())
}

fn tpm_has_measured_the_boot(guest: &mut Guest) -> Result<()> {
    for pcr in [0, 4, 7, 9] {
        let value = pcr_value(guest, pcr)?;
        ensure!(
            value.bytes().any(|digit| digit != b'0'),
            "PCR {pcr} is zero"
        );
    }
    Ok(())
}

fn event_log_is_there(guest: &mut Guest) -> Result<()> {
    let log = guest.get("/sys/kernel/security/tpm0/binary_bios_measurements")?;
    ensure!(log.len() > 1000, "only {} bytes", log.len());
    let marker = b"Spec ID Event03";
    ensure!(
        log.windows(marker.len()).any(|bytes| bytes == marker),
        "not a crypto-agile log"
    );
    Ok(())
}

fn only_loopback_is_there(guest: &mut Guest) -> Result<()> {
    let links = guest.run(&["ls", "/sys/class/net"])?.ok()?.text();
    ensure!(links == "lo", "interfaces: {links}");
    Ok(())
}

fn commands_keep_streams_and_codes_apart(guest: &mut Guest) -> Result<()> {
    let output = guest.run_with_input(&["sh", "-c", "cat; echo error >&2; exit 42"], b"input")?;
    ensure!(
        output.stdout == b"input" && output.stderr == b"error\n" && output.code == 42,
        "{output:?}"
    );
    let killed = guest.sh("kill -9 $$")?;
    ensure!(killed.code == 128 + 9, "a kill ended with {}", killed.code);
    let other = guest.run_as(65534, &["id", "-u"])?.ok()?.text();
    ensure!(other == "65534", "ran as {other}");
    let absent = guest.run(&["/no/such/program"]);
    ensure!(absent.is_err(), "a program that is absent ran");
    let detached = guest.sh("sleep 100 & echo started")?.ok()?.text();
    ensure!(detached == "started", "{detached}");
    Ok(())
}

fn files_go_both_ways(guest: &mut Guest) -> Result<()> {
    let bytes: Vec<u8> = (0..3_000_001u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    guest.put("/root/new/file", 0o640, &bytes)?;
    ensure!(guest.get("/root/new/file")? == bytes, "the content differs");
    let mode = guest
        .run(&["stat", "-c", "%a", "/root/new/file"])?
        .ok()?
        .text();
    ensure!(mode == "640", "mode {mode}");
    ensure!(
        guest.get("/root/absent").is_err(),
        "an absent file was read"
    );
    Ok(())
}

fn probes_run(guest: &mut Guest) -> Result<()> {
    let probe = crate::compile::probe("probe_hello")?;
    guest.put_file(&probe, "/root/probe_hello")?;
    let said = guest.run(&["/root/probe_hello"])?.ok()?.text();
    ensure!(said == "hello from a probe", "{said}");
    Ok(())
}

fn background_commands_can_be_killed(guest: &mut Guest) -> Result<()> {
    let job = guest.spawn(&["sh", "-c", "echo up; sleep 1000"])?;
    let pid = guest.pid(job)?;
    guest
        .run(&["test", "-d", &format!("/proc/{pid}")])?
        .ok()
        .context("the command does not run")?;
    let score = guest.get(&format!("/proc/{pid}/oom_score_adj"))?;
    ensure!(
        score == b"0\n",
        "it inherited the agent's exemption: {}",
        String::from_utf8_lossy(&score)
    );
    guest.kill(job, 15)?;
    let output = guest.wait(job, Duration::from_secs(30))?;
    ensure!(
        output.code == 128 + 15 && output.stdout == b"up\n",
        "{output:?}"
    );
    Ok(())
}

fn a_hung_command_is_an_error(guest: &mut Guest) -> Result<()> {
    let hung = guest.run_for(&["sleep", "1000"], Duration::from_secs(2));
    let Err(error) = hung else {
        anyhow::bail!("it ended")
    };
    let text = format!("{error:#}");
    ensure!(
        text.contains("serial log"),
        "the error names no log: {text}"
    );
    guest.run(&["true"])?.ok()?;
    Ok(())
}

fn reboot_keeps_disk_and_tpm(guest: &mut Guest) -> Result<()> {
    guest.sh("echo kept > /root/kept")?.ok()?;
    guest.sh("tpm2_nvdefine -Q -C o -s 4 0x1500016 && echo -n data | tpm2_nvwrite -Q -C o -i - 0x1500016")?.ok()?;
    let before = pcr_values(guest)?;
    let boot = guest.get("/proc/sys/kernel/random/boot_id")?;
    guest.reboot()?;
    ensure!(
        guest.get("/proc/sys/kernel/random/boot_id")? != boot,
        "it did not boot again"
    );
    ensure!(guest.get("/root/kept")? == b"kept\n", "the disk was lost");
    let stored = guest.sh("tpm2_nvread -C o 0x1500016")?.ok()?.text();
    ensure!(stored == "data", "the TPM lost its memory: {stored}");
    let after = pcr_values(guest)?;
    ensure!(before == after, "the PCRs changed:\n{before}\n{after}");
    Ok(())
}

fn power_cut_keeps_what_was_synced(guest: &mut Guest) -> Result<()> {
    guest
        .sh("echo synced > /root/synced; sync -f /root/synced")?
        .ok()?;
    guest.power_cycle()?;
    ensure!(
        guest.get("/root/synced")? == b"synced\n",
        "what was synced is lost"
    );
    Ok(())
}

fn pcr_value(guest: &mut Guest, pcr: u32) -> Result<String> {
    let text = guest
        .run(&["tpm2_pcrread", &format!("sha256:{pcr}")])?
        .ok()?
        .text();
    let value = text.rsplit("0x").next().context("no value")?;
    ensure!(value.len() == 64, "PCR {pcr} is `{text}`");
    Ok(value.to_owned())
}

fn pcr_values(guest: &mut Guest) -> Result<String> {
    Ok(guest
        .run(&["tpm2_pcrread", "sha256:0,1,2,3,4,5,6,7,8,9,14"])?
        .ok()?
        .text())
}
