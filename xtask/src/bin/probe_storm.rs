//! Starts programs in a zone, once or very often, and counts exactly what the kernel answered. It goes
//! into the zone's cgroup itself; it has no label, so it counts as the operator.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    process::ExitCode,
    time::{Duration, Instant},
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["once", leaf, programs @ ..] => enter(leaf).and_then(|()| once(programs)),
        ["watch", leaf, program, file] => enter(leaf).and_then(|()| watch(program, file)),
        ["storm", leaf, program, tries] => enter(leaf).and_then(|()| storm(program, tries)),
        [
            "load",
            leaf,
            listed,
            unlisted,
            starters,
            workers,
            seconds,
            dirs @ ..,
        ] => {
            enter(leaf).and_then(|()| load([listed, unlisted], [starters, workers, seconds], dirs))
        }
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

/// So many processes that start programs, and so many that make, change and start files in these
/// directories, all at once. What is not answered as it has to be is said.
fn load(programs: [&str; 2], numbers: [&str; 3], dirs: &[&str]) -> io::Result<()> {
    let [starters, workers, seconds] = numbers.map(|number| number.parse::<u64>());
    let number = |parsed: Result<u64, _>| parsed.map_err(io::Error::other);
    let (starters, workers) = (number(starters)?, number(workers)?);
    let until = Instant::now() + Duration::from_secs(number(seconds)?);
    let (mut said, say) = io::pipe()?;
    for who in 0..starters + workers {
        // SAFETY: there is one thread, so the child may do what it likes.
        match unsafe { libc::fork() } {
            0 => {}
            child if child > 0 => continue,
            _ => return Err(io::Error::last_os_error()),
        }
        let mut counts = Counts::default();
        // Each is waited for at least once, however busy the machine is.
        let done = loop {
            let round = if who < starters {
                start_both(programs, &mut counts)
            } else {
                let dir = dirs[who as usize % dirs.len()];
                work(programs[0], &format!("{dir}/work-{who}"), &mut counts)
            };
            if round.is_err() || Instant::now() >= until {
                break round;
            }
        };
        let line = match done {
            Ok(()) => format!("{counts}\n"),
            Err(error) => format!("{counts} failed: {error}\n"),
        };
        // One write is one line.
        let written = (&say).write_all(line.as_bytes());
        std::process::exit(i32::from(written.is_err()));
    }
    drop(say);
    let mut lines = String::new();
    said.read_to_string(&mut lines)?;
    print!("{lines}");
    println!("told {}", lines.lines().count());
    Ok(())
}

fn start_both([listed, unlisted]: [&str; 2], counts: &mut Counts) -> io::Result<()> {
    counts.expect(listed, "what is listed", "allowed")?;
    counts.expect(unlisted, "what is not", "denied")
}

/// Makes a file of listed content, changes it in every way there is, and starts it each time.
fn work(listed: &str, path: &str, counts: &mut Counts) -> io::Result<()> {
    let content = fs::read(listed)?;
    replace(path, &content)?;
    counts.expect(path, "a file just made", "allowed")?;
    match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
        other => {
            let why = format!("it ran, and was opened for writing: {other:?}");
            return Err(io::Error::other(why));
        }
    }
    replace(path, &[&content[..], b"x"].concat())?;
    counts.expect(path, "a changed file in its place", "denied")?;
    let file = OpenOptions::new().write(true).open(path)?;
    let writing = start(&name(path)?);
    if !matches!(&writing, Answer::Void(_)) {
        return Err(io::Error::other("it was started while somebody wrote it"));
    }
    file.set_len(u64::try_from(content.len()).map_err(io::Error::other)?)?;
    drop(file);
    counts.expect(path, "the same file, changed back", "allowed")?;
    fs::remove_file(path)
}

/// As files are replaced.
fn replace(path: &str, content: &[u8]) -> io::Result<()> {
    let new = format!("{path}.new");
    fs::write(&new, content)?;
    fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    fs::rename(&new, path)
}

impl Counts {
    fn expect(&mut self, path: &str, what: &str, expected: &str) -> io::Result<()> {
        let answer = start(&name(path)?);
        self.add(&answer);
        let seen = match answer {
            Answer::Allowed => "allowed",
            Answer::Denied => "denied",
            Answer::Void(ref why) => why,
        };
        if seen == expected {
            return Ok(());
        }
        let why = format!("{what}, `{path}`: expected {expected}, seen {seen}");
        Err(io::Error::other(why))
    }
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
