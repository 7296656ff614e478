//! The guest's side of what the gate costs: it does one kind of work over and over and prints how many
//! nanoseconds each took. In a guest whose time is the count of its instructions those are
//! instructions. Nothing else runs between the two readings but the kernel and what is started.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Write as _},
    process::ExitCode,
    ptr,
    time::Instant,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe_cost {}: {error}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> io::Result<()> {
    let [rounds, what, operands @ ..] = args else {
        return Err(io::Error::other(
            "expected a number of rounds and what to do",
        ));
    };
    let rounds: usize = rounds.parse().map_err(io::Error::other)?;
    match (*what, operands) {
        ("fork", [file]) => {
            let program = Program::new(&[file])?;
            repeat(rounds, || program.fork_and_execute())
        }
        ("spawn", argv) if !argv.is_empty() => {
            let program = Program::new(argv)?;
            repeat(rounds, || program.spawn())
        }
        ("each", [dir]) => {
            let mut paths: Vec<String> = Vec::new();
            for entry in std::fs::read_dir(dir)? {
                paths.push(entry?.path().to_string_lossy().into_owned());
            }
            let programs: io::Result<Vec<Program>> =
                paths.iter().map(|path| Program::new(&[path])).collect();
            each(&programs?, Program::spawn)
        }
        ("child", []) => repeat(rounds, || forked(|| 0)),
        ("open", [file]) => repeat(rounds, || File::open(file).map(drop)),
        _ => Err(io::Error::other("what is that?")),
    }
}

fn repeat(rounds: usize, work: impl Fn() -> io::Result<()>) -> io::Result<()> {
    each(&vec![(); rounds], |()| work())
}

/// All that is measured is done before anything is printed.
fn each<T>(things: &[T], work: impl Fn(&T) -> io::Result<()>) -> io::Result<()> {
    let mut took = Vec::with_capacity(things.len());
    for thing in things {
        let began = Instant::now();
        work(thing)?;
        took.push(began.elapsed().as_nanos());
    }
    let mut out = io::stdout().lock();
    for one in took {
        writeln!(out, "{one}")?;
    }
    Ok(())
}

/// What is executed, made ready before it is measured.
struct Program {
    arguments: Vec<CString>,
}

impl Program {
    fn new(argv: &[&str]) -> io::Result<Self> {
        let arguments: Result<_, _> = argv.iter().map(|word| CString::new(*word)).collect();
        Ok(Self {
            arguments: arguments.map_err(io::Error::other)?,
        })
    }

    fn pointers(&self) -> Vec<*mut libc::c_char> {
        let words = self.arguments.iter().map(|word| word.as_ptr().cast_mut());
        words.chain([ptr::null_mut()]).collect()
    }

    /// A copy of this process, which executes the program.
    fn fork_and_execute(&self) -> io::Result<()> {
        let argv = self.pointers();
        let path = argv[0];
        let none = [ptr::null()];
        forked(|| {
            // SAFETY: strings and lists that end with null, all of which the copy has.
            unsafe { libc::execve(path, argv.as_ptr().cast(), none.as_ptr()) };
            FAILED
        })
    }

    /// The same without a copy: the C library lends its memory (vfork).
    fn spawn(&self) -> io::Result<()> {
        let argv = self.pointers();
        let none = [ptr::null_mut()];
        let mut pid = 0;
        // SAFETY: a place for the number, strings and lists that end with null; all outlive the call.
        let failed = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                argv[0],
                ptr::null(),
                ptr::null(),
                argv.as_ptr(),
                none.as_ptr(),
            )
        };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        reap(pid)
    }
}

/// A child that does this and ends with what it returns.
fn forked(child: impl FnOnce() -> libc::c_int) -> io::Result<()> {
    // SAFETY: this process has one thread, so its copy holds no lock that nobody will open.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = child();
            // SAFETY: ends the copy, without what would be done at an ordinary end.
            unsafe { libc::_exit(code) }
        }
        pid => reap(pid),
    }
}

fn reap(pid: libc::pid_t) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: a place for the status, which outlives the call.
    if unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {
        return Err(io::Error::last_os_error());
    }
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("it ended with status {status}")))
    }
}

/// What a shell says of a command that it cannot execute.
const FAILED: libc::c_int = 127;
