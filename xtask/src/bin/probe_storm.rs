//! Starts programs in a zone, once or very often, and counts exactly what the kernel answered. It goes
//! into the zone's cgroup itself; it has no label, so it counts as the operator.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    process::ExitCode,
    time::Duration,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["once", leaf, programs @ ..] => enter(leaf).and_then(|()| once(programs)),
        ["watch", leaf, program, file] => enter(leaf).and_then(|()| watch(program, file)),
        ["storm", leaf, program, tries] => enter(leaf).and_then(|()| storm(program, tries)),
        _ => {
            eprintln!("probe_storm: what is `{}`?", args.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe_storm {}: {error}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// What the kernel made of a try.
enum Answer {
    Allowed,
    Denied,
    /// Anything that is no verdict of the gate.
    Void(String),
}

#[derive(Default)]
struct Counts {
    tries: u64,
    allowed: u64,
    denied: u64,
    void: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            tries,
            allowed,
            denied,
            void,
        } = self;
        write!(
            out,
            "tries={tries} allowed={allowed} denied={denied} void={void}"
        )
    }
}

impl Counts {
    fn add(&mut self, answer: &Answer) {
        self.tries += 1;
        match answer {
            Answer::Allowed => self.allowed += 1,
            Answer::Denied => self.denied += 1,
            Answer::Void(_) => self.void += 1,
        }
    }
}

fn enter(leaf: &str) -> io::Result<()> {
    fs::create_dir_all(leaf)?;
    fs::write(format!("{leaf}/cgroup.procs"), "0")
}

/// Says of each program what came of starting it.
fn once(programs: &[&str]) -> io::Result<()> {
    for program in programs {
        match start(&name(program)?) {
            Answer::Allowed => println!("allowed"),
            Answer::Denied => println!("denied"),
            Answer::Void(why) => println!("{why}"),
        }
    }
    Ok(())
}

/// Tries the same program for as long as it lives; how often and with what answers stands in a file.
fn watch(program: &str, file: &str) -> io::Result<()> {
    let program = name(program)?;
    let file = File::create(file)?;
    let mut counts = Counts::default();
    loop {
        counts.add(&start(&program));
        // Numbers only grow, so a line is never shorter than the one it replaces.
        file.write_all_at(format!("{counts}\n").as_bytes(), 0)?;
        if counts.tries == 1 {
            println!("begun");
            io::stdout().flush()?;
        }
        std::thread::sleep(BETWEEN);
    }
}

/// Tries as fast as it goes, so often, and says how far it is now and then.
fn storm(program: &str, tries: &str) -> io::Result<()> {
    let program = name(program)?;
    let tries: u64 = tries.parse().map_err(io::Error::other)?;
    let mut counts = Counts::default();
    while counts.tries < tries {
        let answer = start(&program);
        counts.add(&answer);
        if let Answer::Void(why) = answer {
            println!("void {why}");
        }
        if counts.tries == 1 || counts.tries.is_multiple_of(TOLD_EVERY) {
            println!("at {}", counts.tries);
            io::stdout().flush()?;
        }
    }
    println!("over {counts}");
    Ok(())
}

/// Starts a program in a child that shares this process's memory until it executes, and waits for it.
fn start(program: &CString) -> Answer {
    let argv = [
        program.as_ptr().cast_mut(),
        c"hello".as_ptr().cast_mut(),
        std::ptr::null_mut(),
    ];
    let environment = [std::ptr::null_mut()];
    let mut pid = 0;
    // SAFETY: strings and lists that end with null; all outlive the call.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            argv.as_ptr(),
            environment.as_ptr(),
        )
    };
    match error {
        0 => {}
        libc::EPERM => return Answer::Denied,
        other => return Answer::Void(io::Error::from_raw_os_error(other).to_string()),
    }
    let mut status = 0;
    loop {
        // SAFETY: our own child, and a number of ours that is written to.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if waited == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Answer::Void(error.to_string());
        }
    }
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        Answer::Allowed
    } else if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL {
        // Allowed by the check and killed at the commit, because the world changed in between; or by
        // anybody else, so it is no verdict.
        Answer::Void("killed".into())
    } else {
        Answer::Void(format!("it ended with {status:#x}"))
    }
}

fn name(program: &str) -> io::Result<CString> {
    CString::new(program).map_err(io::Error::other)
}

const BETWEEN: Duration = Duration::from_millis(50);
const TOLD_EVERY: u64 = 500;
