//! `cargo xtask vm`: one command in one guest. The command's output is ours, stream by stream, and
//! so is its exit code; a failure of the harness itself is 1 with an error on standard error.

use crate::guest::{BootOptions, Guest, Input, Stream};
use crate::image::{Kernel, Wanted};
use crate::wire::Spec;
use crate::{install, tools};
use anyhow::{Context, Result, bail};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kernel to boot.
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Kernel,
    /// Boot this kernel file instead (with `--modules`).
    #[arg(long, requires = "modules")]
    vmlinuz: Option<PathBuf>,
    /// The `lib/modules/RELEASE` directory of `--vmlinuz`.
    #[arg(long, requires = "vmlinuz")]
    modules: Option<PathBuf>,
    /// Added to the kernel command line.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Copies a file or directory of the host into the guest.
    #[arg(long, value_name = "SRC:DST")]
    copy: Vec<String>,
    /// The policy directory to sign and load instead of the example.
    #[arg(long, conflicts_with = "bare")]
    policy: Option<PathBuf>,
    /// Seconds the command may take.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Leaves governor out.
    #[arg(long)]
    bare: bool,
    /// The command, run as root.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    tools::need(tools::Group::Guest)?;
    let package = if args.bare {
        None
    } else {
        Some(crate::dist::build()?)
    };
    let mut options = BootOptions::new(args.kernel);
    options.append.clone_from(&args.append);
    if let (Some(vmlinuz), Some(modules)) = (&args.vmlinuz, &args.modules) {
        options.kernel = Wanted::Files {
            vmlinuz: vmlinuz.clone(),
            modules: modules.clone(),
        };
    }
    let mut guest = Guest::boot(&options)?;
    for copy in &args.copy {
        let (from, to) = copy
            .split_once(':')
            .with_context(|| format!("`--copy {copy}`: not SRC:DST"))?;
        copy_in(&mut guest, Path::new(from), to)?;
    }
    let _kit;
    if let Some(package) = package {
        _kit = install::everything(&mut guest, &package, args.policy.as_deref())?;
    }
    let terminal = std::io::stdin().is_terminal();
    let input = if terminal {
        Input::Bytes(&[])
    } else {
        Input::Source(Box::new(std::io::stdin()))
    };
    let spec = Spec {
        argv: args.command.clone(),
        ..Spec::default()
    };
    let mut broken = None;
    let code = guest.stream(
        &spec,
        input,
        Duration::from_secs(args.timeout),
        &mut |stream, bytes| {
            let written = match stream {
                Stream::Out => std::io::stdout()
                    .write_all(bytes)
                    .and_then(|()| std::io::stdout().flush()),
                Stream::Err => std::io::stderr().write_all(bytes),
            };
            if let Err(error) = written {
                broken = Some(error);
            }
        },
    )?;
    if let Some(error) = broken {
        bail!("passing on the command's output: {error}");
    }
    if let Some(line) = guest.trouble() {
        eprintln!(
            "warning: the guest's console says `{line}` ({})",
            guest.serial_log().display()
        );
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}

/// A file keeps its permission bits; a directory goes with everything below it.
fn copy_in(guest: &mut Guest, from: &Path, to: &str) -> Result<()> {
    if !from.is_dir() {
        return guest.put_file(from, to);
    }
    let packed = crate::process::command("tar")
        .args(["-c", "--owner=0", "--group=0", "-C"])
        .arg(from)
        .arg(".")
        .output()
        .with_context(|| format!("packing `{}`", from.display()))?;
    if !packed.status.success() {
        bail!(
            "packing `{}`: tar ended with {}",
            from.display(),
            packed.status
        );
    }
    let unpack = format!("mkdir -p '{to}' && tar -x -C '{to}'");
    guest
        .run_with_input(&["sh", "-c", &unpack], &packed.stdout)?
        .ok()
        .with_context(|| format!("unpacking into `{to}`"))?;
    Ok(())
}
