//! The processes behind one guest. A `Station` is what stays over reboots: disk overlay, firmware
//! variables, TPM state, in a directory of its own that goes when it does. A `Machine` is one run of
//! QEMU and swtpm on it. Sockets are inherited descriptors, so no path is ever too long or left over.

use super::channel::Channel;
use super::serial::Serial;
use super::{BootOptions, accel, tpm};
use crate::image::Image;
use crate::{paths, process};
use anyhow::{Context, Result, bail};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) image: Image,
    /// Of the firmware whose variables were copied.
    code: &'static str,
    dir: PathBuf,
    log: PathBuf,
}

impl Station {
    pub(crate) fn new(image: &Image) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let me = format!(
            "{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::SeqCst)
        );
        let runs = paths::ensure(paths::vm().join("run"))?;
        sweep(&runs);
        let dir = paths::ensure(runs.join(&me))?;
        let logs = paths::ensure(paths::vm().join("logs"))?;
        let log = logs.join(format!("{}-{me}.log", image.source.name));
        let (code, variables) = firmware()?;
        let station = Self {
            image: image.clone(),
            code,
            dir,
            log,
        };
        tpm::provision(&station.dir.join("tpm"))?;
        std::fs::copy(variables, station.variables()).context("copying firmware variables")?;
        let mut overlay = process::command("qemu-img");
        overlay.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
        overlay.arg(&station.image.rootfs).arg(station.overlay());
        process::capture(&mut overlay).context("making the guest's disk overlay")?;
        Ok(station)
    }

    fn overlay(&self) -> PathBuf {
        self.dir.join("root.qcow2")
    }

    fn variables(&self) -> PathBuf {
        self.dir.join("variables.fd")
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        let _swept_later = std::fs::remove_dir_all(&self.dir);
    }
}

#[derive(Debug)]
pub(crate) struct Machine {
    qemu: Arc<Mutex<Child>>,
    tpm: Child,
    /// What QEMU tells the TPM beside commands.
    tpm_control: UnixStream,
    serial: Serial,
    log: PathBuf,
}

impl Machine {
    pub(crate) fn start(station: &Station, options: &BootOptions) -> Result<(Self, Channel)> {
        let (mut tpm, tpm_socket) = tpm::start(
            &station.dir.join("tpm"),
            &station.log.with_extension("tpm.log"),
        )?;
        let (agent, agent_far) = UnixStream::pair().context("making the agent's socket pair")?;
        let (console, console_far) = std::io::pipe().context("making the console's pipe")?;
        let mut command = command(
            station,
            options,
            tpm_socket.as_raw_fd(),
            agent_far.as_raw_fd(),
        );
        command
            .stdin(Stdio::null())
            .stdout(
                console_far
                    .try_clone()
                    .context("sharing the console's pipe")?,
            )
            .stderr(console_far);
        own_child(&mut command, Inherit::two(&tpm_socket, &agent_far));
        let tpm_control = tpm_socket.try_clone().context("sharing the TPM's socket")?;
        let spawned = command.spawn().context("starting QEMU");
        // Our copies of QEMU's ends would hide its end from us.
        drop(command);
        drop((tpm_socket, agent_far));
        let qemu = match spawned {
            Ok(child) => Arc::new(Mutex::new(child)),
            Err(error) => {
                end(&mut tpm);
                return Err(error);
            }
        };
        let serial = Serial::watch(console, &station.log, Arc::clone(&qemu))?;
        let machine = Self {
            qemu,
            tpm,
            tpm_control,
            serial,
            log: station.log.clone(),
        };
        Ok((machine, Channel::new(agent)?))
    }

    pub(crate) fn wait_for_end(&mut self, bound: Duration) -> Result<()> {
        let ended = self.serial.ended.recv_timeout(bound);
        self.kill();
        if ended.is_err() {
            bail!(
                "the guest did not stop within {}s (serial log `{}`)",
                bound.as_secs(),
                self.log.display()
            );
        }
        Ok(())
    }

    /// Ends both processes, QEMU first, and reaps them.
    pub(crate) fn kill(&mut self) {
        end(&mut self.qemu.lock().unwrap_or_else(PoisonError::into_inner));
        end(&mut self.tpm);
    }

    /// Stops the TPM, or has it go on.
    pub(crate) fn withhold_tpm(&self, withheld: bool) -> Result<()> {
        let signal = if withheld {
            libc::SIGSTOP
        } else {
            libc::SIGCONT
        };
        let number = i32::try_from(self.tpm.id()).context("the TPM's process number")?;
        // SAFETY: two integers; the child is ours and not reaped, so the number is its own.
        if unsafe { libc::kill(number, signal) } != 0 {
            return Err(std::io::Error::last_os_error()).context("stopping the TPM");
        }
        Ok(())
    }

    pub(crate) fn reset_tpm(&mut self) -> Result<()> {
        tpm::reset(&mut self.tpm_control)
    }

    pub(crate) fn serial_log(&self) -> PathBuf {
        self.log.clone()
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.serial.trouble()
    }

    pub(crate) fn take_fault(&self) -> Option<String> {
        self.serial.take_fault()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(station: &Station, options: &BootOptions, tpm: RawFd, agent: RawFd) -> Command {
    let image = &station.image;
    let mut qemu = process::command("qemu-system-x86_64");
    qemu.args([
        "-machine",
        "q35,sata=off,smbus=off",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ])
    .args(accelerator(image, options))
    .args(["-nic", "none", "-rtc", "base=utc"])
    .args([
        "-m",
        &options.memory_mib.to_string(),
        "-smp",
        &options.processors.to_string(),
    ])
    .args([
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
    ])
    .arg("-drive")
    .arg(format!(
        "if=pflash,unit=0,format=raw,readonly=on,file={}",
        station.code
    ))
    .arg("-drive")
    .arg(format!(
        "if=pflash,unit=1,format=raw,file={}",
        escaped(&station.variables())
    ))
    .arg("-kernel")
    .arg(&image.source.vmlinuz)
    .arg("-initrd")
    .arg(&image.initramfs)
    .arg("-append")
    .arg(format!("{COMMAND_LINE} {}", options.append).trim())
    .arg("-drive")
    .arg(format!(
        "if=none,id=root,format=qcow2,file={}",
        escaped(&station.overlay())
    ))
    .args(["-device", "virtio-blk-pci,drive=root"])
    .arg("-drive")
    .arg(format!(
        "if=none,id=modules,format=raw,readonly=on,file={}",
        escaped(&image.modules)
    ))
    .args(["-device", "virtio-blk-pci,drive=modules"])
    .args(["-chardev", &format!("socket,id=tpm,fd={tpm}")])
    .args([
        "-tpmdev",
        "emulator,id=tpm0,chardev=tpm",
        "-device",
        "tpm-crb,tpmdev=tpm0",
    ])
    .args(["-device", "virtio-serial-pci"])
    .args(["-chardev", &format!("socket,id=agent,fd={agent}")])
    .args([
        "-device",
        "virtserialport,chardev=agent,name=governor.agent",
    ]);
    qemu
}

/// The first that this host has.
fn firmware() -> Result<(&'static str, &'static str)> {
    let found = FIRMWARE
        .into_iter()
        .find(|(code, variables)| Path::new(code).is_file() && Path::new(variables).is_file());
    found.context("no UEFI firmware below `/usr/share/OVMF`: install the package `ovmf`")
}

/// Counting takes emulation. String instructions count once for each byte there, unless the processor
/// is said to be bad at them; then the kernel moves words, as it would elsewhere in its own way.
fn accelerator(image: &crate::image::Image, options: &BootOptions) -> &'static [&'static str] {
    if options.counted {
        &[
            "-accel",
            "tcg,thread=single",
            "-cpu",
            "max,-erms,-fsrm",
            "-icount",
            "shift=0,sleep=on",
        ]
    } else {
        accel::choose(image)
    }
}

/// Descriptors that a child keeps although ours are closed on exec.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherit([RawFd; 2]);

impl Inherit {
    pub(crate) fn one(one: &impl AsRawFd) -> Self {
        Self([one.as_raw_fd(), one.as_raw_fd()])
    }

    fn two(one: &impl AsRawFd, other: &impl AsRawFd) -> Self {
        Self([one.as_raw_fd(), other.as_raw_fd()])
    }
}

/// Ties the child's life to ours and lets it keep the descriptors. The caller keeps them open until
/// the child has been spawned.
pub(crate) fn own_child(command: &mut Command, Inherit(descriptors): Inherit) {
    let prepare = move || {
        // SAFETY: prctl with these arguments reads and writes no memory.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        for descriptor in descriptors {
            // SAFETY: the caller keeps the descriptor open, and fcntl F_SETFD touches no memory.
            if unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes only async-signal-safe system calls and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

fn end(child: &mut Child) {
    let _ended_already = child.kill();
    let _reaped_already = child.wait();
}

/// Removes what killed runs left behind: directories whose first number is no living process.
fn sweep(runs: &Path) {
    for entry in std::fs::read_dir(runs)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next());
        if let Some(owner) = owner
            && !Path::new("/proc").join(owner).exists()
        {
            let _next_time = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// QEMU's option syntax doubles a comma in a value.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 lsm=lockdown,yama,integrity,bpf \
     systemd.show_status=0 rd.udev.log_level=3 systemd.log_target=journal";
/// Code and variables. The smaller image measures the same and unpacks itself in half the time, which is a
/// third of an emulated boot; Debian 13 has the larger one alone.
const FIRMWARE: [(&str, &str); 2] = [
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
];
