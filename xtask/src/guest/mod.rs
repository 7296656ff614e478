//! A guest machine: QEMU with a software TPM, driven through an agent inside it. The machine lives
//! as long as this value; dropping it kills what was started. Every wait has a bound, and an error
//! about a guest names its serial log. A guest must be used by the thread that booted it (the
//! children end with that thread).

mod accel;
mod channel;
mod machine;
mod serial;
mod tpm;

use crate::image::{self, Wanted};
use crate::progress::Step;
use crate::wire::Spec;
use anyhow::{Context, Result, bail};
use channel::Channel;
pub(crate) use channel::{Input, JobId};
use machine::{Machine, Station};
use std::any::Any;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// How to boot.
#[derive(Clone, Debug)]
pub(crate) struct BootOptions {
    pub(crate) kernel: Wanted,
    /// Added to the kernel command line.
    pub(crate) append: String,
    /// For commands that name no bound of their own.
    pub(crate) timeout: Duration,
    pub(crate) memory_mib: u32,
    pub(crate) processors: u32,
    /// The guest's time is the count of its instructions, one for each nanosecond. Slow, and only for
    /// one processor.
    pub(crate) counted: bool,
}

impl BootOptions {
    pub(crate) fn new(kernel: image::Kernel) -> Self {
        Self {
            kernel: Wanted::Debian(kernel),
            append: String::new(),
            timeout: Duration::from_secs(120),
            memory_mib: 1024,
            processors: 2,
            counted: false,
        }
    }
}

/// What a command in the guest left behind; `code` is 128 plus the signal if one ended it.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Output {
    /// Standard output without the white space around it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }

    /// An error that shows both streams unless the command ended with zero.
    pub(crate) fn ok(self) -> Result<Self> {
        if self.code != 0 {
            bail!(
                "ended with {}\n{}\n{}",
                self.code,
                self.text(),
                self.errors()
            );
        }
        Ok(self)
    }
}

/// Which of a command's streams some bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

#[derive(Debug)]
pub(crate) struct Guest {
    channel: Channel,
    machine: Machine,
    station: Station,
    options: BootOptions,
    /// What a suite's preparation leaves for its cases.
    kept: Option<Rc<dyn Any>>,
}

impl Guest {
    /// Keeps something for the cases that run in this boot.
    pub(crate) fn keep(&mut self, value: Rc<dyn Any>) {
        self.kept = Some(value);
    }

    /// What was kept.
    pub(crate) fn kept<T: 'static>(&self) -> Result<Rc<T>> {
        let kept = self
            .kept
            .clone()
            .context("the suite prepared nothing for its cases")?;
        kept.downcast()
            .map_err(|_other| anyhow::anyhow!("the suite kept something else"))
    }

    /// Boots a machine with a fresh disk overlay and a fresh TPM, and waits until systemd has
    /// finished starting it. An emulated machine may fault in its first seconds, before any code of
    /// ours runs; it gets a second chance, and the log says so.
    pub(crate) fn boot(options: &BootOptions) -> Result<Self> {
        let image = image::prepare(&options.kernel)?;
        match Self::start(options, Station::new(&image)?) {
            Ok(guest) => Ok(guest),
            Err(error) => {
                eprintln!("warning: booting once more after: {error:#}");
                Self::start(options, Station::new(&image)?)
            }
        }
    }

    fn start(options: &BootOptions, station: Station) -> Result<Self> {
        let name = station.image.source.name.clone();
        let step = Step::start(&format!("booting a guest with kernel {name}"));
        let (machine, channel) = Machine::start(&station, options)?;
        let mut guest = Self {
            channel,
            machine,
            station,
            options: options.clone(),
            kept: None,
        };
        guest.ready()?;
        step.done();
        Ok(guest)
    }

    /// Runs a command as root to its end.
    pub(crate) fn run(&mut self, argv: &[&str]) -> Result<Output> {
        self.run_for(argv, self.options.timeout)
    }

    pub(crate) fn run_for(&mut self, argv: &[&str], bound: Duration) -> Result<Output> {
        let spec = Spec {
            argv: owned(argv),
            ..Spec::default()
        };
        self.run_spec(&spec, &[], bound)
    }

    /// Runs a shell script as root.
    pub(crate) fn sh(&mut self, script: &str) -> Result<Output> {
        self.run(&["sh", "-c", script])
    }

    /// Waits for something that has no event to wait on, looking five times a second.
    pub(crate) fn wait_until(&mut self, condition: &str) -> Result<()> {
        let patience = PATIENCE.as_secs();
        let script = format!(
            "now() {{ read up rest < /proc/uptime; echo ${{up%.*}}; }}; end=$(( $(now) + {patience} )); \
             until ( {condition} ) > /dev/null 2>&1; do test $(now) -lt $end || exit 1; sleep 0.2; done"
        );
        self.run_for(&["sh", "-c", &script], PATIENCE + self.options.timeout)?
            .ok()
            .with_context(|| format!("waiting until `{condition}`"))
            .map(drop)
    }

    /// Runs a command as another user, by number.
    pub(crate) fn run_as(&mut self, user: u32, argv: &[&str]) -> Result<Output> {
        let spec = Spec {
            argv: owned(argv),
            cwd: "/".to_owned(),
            user: Some(user),
            ..Spec::default()
        };
        self.run_spec(&spec, &[], self.options.timeout)
    }

    /// Runs a command and gives it bytes on standard input.
    pub(crate) fn run_with_input(&mut self, argv: &[&str], input: &[u8]) -> Result<Output> {
        let spec = Spec {
            argv: owned(argv),
            ..Spec::default()
        };
        self.run_spec(&spec, input, self.options.timeout)
    }

    pub(crate) fn run_spec(
        &mut self,
        spec: &Spec,
        input: &[u8],
        bound: Duration,
    ) -> Result<Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let code = self.stream(
            spec,
            Input::Bytes(input),
            bound,
            &mut |stream, bytes| match stream {
                Stream::Out => stdout.extend_from_slice(bytes),
                Stream::Err => stderr.extend_from_slice(bytes),
            },
        )?;
        Ok(Output {
            code,
            stdout,
            stderr,
        })
    }

    /// Runs a command and hands over its output as it comes.
    pub(crate) fn stream(
        &mut self,
        spec: &Spec,
        input: Input<'_>,
        bound: Duration,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<i32> {
        let outcome = self
            .channel
            .spawn(spec, input)
            .and_then(|job| self.channel.wait(job, bound, sink));
        outcome.with_context(|| {
            format!(
                "running `{}` in the guest ({})",
                spec.argv.join(" "),
                self.whereabouts()
            )
        })
    }

    /// Starts a command as root in the background; its output is kept until it is waited for.
    pub(crate) fn spawn(&mut self, argv: &[&str]) -> Result<JobId> {
        self.spawn_spec(
            &Spec {
                argv: owned(argv),
                ..Spec::default()
            },
            &[],
        )
    }

    pub(crate) fn spawn_spec(&mut self, spec: &Spec, input: &[u8]) -> Result<JobId> {
        self.channel
            .spawn(spec, Input::Bytes(input))
            .with_context(|| {
                format!(
                    "starting `{}` in the guest ({})",
                    spec.argv.join(" "),
                    self.whereabouts()
                )
            })
    }

    /// The process id a background command has in the guest.
    pub(crate) fn pid(&mut self, job: JobId) -> Result<u32> {
        self.channel
            .pid(job)
            .with_context(|| format!("asking for a pid ({})", self.whereabouts()))
    }

    pub(crate) fn wait(&mut self, job: JobId, bound: Duration) -> Result<Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let code = self
            .channel
            .wait(job, bound, &mut |stream, bytes| match stream {
                Stream::Out => stdout.extend_from_slice(bytes),
                Stream::Err => stderr.extend_from_slice(bytes),
            })
            .with_context(|| {
                format!(
                    "waiting for a command in the guest ({})",
                    self.whereabouts()
                )
            })?;
        Ok(Output {
            code,
            stdout,
            stderr,
        })
    }

    /// Waits until a background command has written something.
    pub(crate) fn wait_for_output(
        &mut self,
        job: JobId,
        wanted: &[u8],
        bound: Duration,
    ) -> Result<()> {
        self.channel
            .wait_for_output(job, wanted, bound)
            .with_context(|| {
                format!(
                    "waiting for `{}` in the guest ({})",
                    String::from_utf8_lossy(wanted),
                    self.whereabouts()
                )
            })
    }

    /// Sends a signal to a background command's process group.
    pub(crate) fn kill(&mut self, job: JobId, signal: u8) -> Result<()> {
        self.channel.kill(job, signal)
    }

    /// Writes a file, replacing what is there and making its parents.
    pub(crate) fn put(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.channel
            .put(path, mode, bytes, TRANSFER_BOUND)
            .with_context(|| format!("writing `{path}` in the guest ({})", self.whereabouts()))
    }

    /// Copies a file of the host, with its permission bits.
    pub(crate) fn put_file(&mut self, from: &Path, to: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let reading = || format!("reading `{}`", from.display());
        let mode = from.metadata().with_context(reading)?.permissions().mode() & 0o7777;
        let bytes = std::fs::read(from).with_context(reading)?;
        self.put(to, mode, &bytes)
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.channel
            .get(path, TRANSFER_BOUND)
            .with_context(|| format!("reading `{path}` in the guest ({})", self.whereabouts()))
    }

    /// Stops the TPM in the middle of whatever it does, or lets it go on.
    pub(crate) fn withhold_tpm(&self, withheld: bool) -> Result<()> {
        self.machine.withhold_tpm(withheld)
    }

    /// Resets the TPM while the guest runs on.
    pub(crate) fn reset_tpm(&mut self) -> Result<()> {
        self.machine.reset_tpm()
    }

    /// Waits for the agent's first word after something in the guest ended it.
    pub(crate) fn agent_again(&mut self) -> Result<()> {
        self.channel
            .hello(BOOT_BOUND)
            .with_context(|| format!("waiting for another agent ({})", self.whereabouts()))
    }

    /// An orderly restart; disk and TPM state stay.
    pub(crate) fn reboot(&mut self) -> Result<()> {
        self.run(&["systemctl", "--no-block", "reboot"])?
            .ok()
            .context("asking for a reboot")?;
        self.machine.wait_for_end(STOP_BOUND)?;
        self.again()
    }

    /// The same with this added to the kernel command line, from now on.
    pub(crate) fn reboot_with(&mut self, append: &str) -> Result<()> {
        append.clone_into(&mut self.options.append);
        self.reboot()
    }

    /// Takes the power away and boots again; what was not synced is lost.
    pub(crate) fn power_cycle(&mut self) -> Result<()> {
        self.machine.kill();
        self.again()
    }

    fn again(&mut self) -> Result<()> {
        let step = Step::start("booting the guest again");
        let (machine, channel) = Machine::start(&self.station, &self.options)?;
        self.machine = machine;
        self.channel = channel;
        self.ready()?;
        step.done();
        Ok(())
    }

    /// An orderly end, for suites that look at what a stop does; otherwise just drop the guest.
    #[expect(
        dead_code,
        reason = "part of the contract; no suite stops a guest for good yet"
    )]
    pub(crate) fn shutdown(mut self) -> Result<()> {
        self.run(&["systemctl", "--no-block", "poweroff"])?
            .ok()
            .context("asking for power off")?;
        self.machine.wait_for_end(STOP_BOUND)
    }

    /// The short name of the running kernel.
    pub(crate) fn kernel(&self) -> &str {
        &self.station.image.source.name
    }

    /// Says what a case leaves out here, and which feature of the kernel it would need.
    pub(crate) fn leaves_out(&self, what: &str, needs: &str) {
        println!("left out on {}: {what} (needs {needs})", self.kernel());
    }

    pub(crate) fn serial_log(&self) -> PathBuf {
        self.machine.serial_log()
    }

    /// What the serial watcher found wrong so far (a panic, a soft lockup), if anything.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.machine.trouble()
    }

    /// A kernel fault since the last call: the case that ran meanwhile is to blame.
    pub(crate) fn take_fault(&self) -> Option<String> {
        self.machine.take_fault()
    }

    /// Waits for the agent, for systemd, and for udev, which loads modules until well after that.
    fn ready(&mut self) -> Result<()> {
        self.channel
            .hello(BOOT_BOUND)
            .with_context(|| format!("waiting for the guest's agent ({})", self.whereabouts()))?;
        let waited = self.run_for(&["systemctl", "is-system-running", "--wait"], BOOT_BOUND)?;
        if !matches!(waited.text().as_str(), "running" | "degraded") {
            let state = waited.text();
            bail!(
                "the guest ended its start as `{state}` ({})",
                self.whereabouts()
            );
        }
        self.run_for(&["udevadm", "settle"], BOOT_BOUND)?;
        Ok(())
    }

    /// For errors: the log's path and whatever the watcher saw.
    fn whereabouts(&self) -> String {
        let log = self.serial_log();
        match self.machine.trouble() {
            Some(line) => format!("serial log `{}`: {line}", log.display()),
            None => format!("serial log `{}`", log.display()),
        }
    }
}

fn owned(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&arg| arg.to_owned()).collect()
}

/// An emulated processor on a busy host is slow; a guest that needs longer than this hangs.
const BOOT_BOUND: Duration = Duration::from_secs(420);
/// For what a case waits for that comes by itself.
const PATIENCE: Duration = Duration::from_secs(90);
const STOP_BOUND: Duration = Duration::from_secs(180);
const TRANSFER_BOUND: Duration = Duration::from_secs(300);
