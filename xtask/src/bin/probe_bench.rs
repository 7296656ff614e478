//! The guest's side of the benchmark: it does the timed things itself and prints nanoseconds, so that
//! no shell and no agent stands between a cause and what is measured. All times are CLOCK_BOOTTIME,
//! which is what the daemon's journal says as well.

use std::{
    ffi::{CString, OsStr},
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    os::unix::ffi::OsStrExt as _,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["answer", file, to] => answer(file, to),
        ["pcr", rounds] => number(rounds).and_then(pcr),
        ["alarm", rounds, pin] => number(rounds).and_then(|rounds| alarm(rounds, pin)),
        ["pace", count] => number(count).and_then(pace),
        ["reached", dir, state, command @ ..] => reached(dir, state, command),
        ["written", dir, file, value, state] => written(dir, file, value, state),
        ["timed", command @ ..] => timed(command),
        ["spin", rounds] => number(rounds).map(spin),
        _ => {
            eprintln!("probe_bench: what is `{}`?", args.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe_bench {}: {error}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(io::Error::other)
}

/// In the zone: executes `file` when asked to, and says what came of it. The file is of no format that
/// the kernel knows, so what is allowed comes back as ENOEXEC and the process is still there.
fn answer(file: &str, to: &str) -> io::Result<()> {
    let file = CString::new(file).map_err(io::Error::other)?;
    let to: SocketAddr = to.parse().map_err(io::Error::other)?;
    // Both ends of both, so that they stay while nobody is at the other.
    let both = |path| fs::OpenOptions::new().read(true).write(true).open(path);
    let (mut asked, mut answers) = (both(ASK)?, both(ANSWER)?);
    println!("ready");
    io::stdout().flush()?;
    let mut question = [0];
    while asked.read(&mut question)? == 1 {
        match question[0] {
            ONCE => writeln!(answers, "{}", execute(&file)?)?,
            UNTIL_DENIED => {
                let first = execute(&file)?;
                writeln!(answers, "{first}")?;
                let (mut last, mut tries) = (first, 1u64);
                while last.allowed {
                    let next = execute(&file)?;
                    tries += 1;
                    if !next.allowed {
                        writeln!(answers, "{next} {} {tries}", last.began)?;
                    }
                    last = next;
                }
            }
            PACE => {
                let mut count = [0; 8];
                asked.read_exact(&mut count)?;
                for _ in 0..u64::from_ne_bytes(count) {
                    let tried = execute(&file)?;
                    if !tried.allowed {
                        return Err(io::Error::other("denied while the pace was taken"));
                    }
                    let took = connect(to)?;
                    writeln!(answers, "{} {took}", tried.ended - tried.began)?;
                }
                writeln!(answers, "over")?;
            }
            other => return Err(io::Error::other(format!("asked for `{other}`"))),
        }
    }
    Ok(())
}

/// One try to execute.
#[derive(Clone, Copy)]
struct Tried {
    allowed: bool,
    began: u64,
    ended: u64,
}

impl std::fmt::Display for Tried {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.allowed { "allowed" } else { "denied" };
        write!(out, "{what} {} {}", self.began, self.ended)
    }
}

fn execute(file: &CString) -> io::Result<Tried> {
    let (argv, environment) = ([file.as_ptr(), std::ptr::null()], [std::ptr::null()]);
    let began = now();
    // SAFETY: a string and two lists that end with null; all outlive the call, which comes back
    // unless the file is executed, and then nothing of this is left.
    unsafe { libc::execve(file.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
    let ended = now();
    let error = io::Error::last_os_error();
    let allowed = match error.raw_os_error() {
        Some(libc::ENOEXEC) => true,
        Some(libc::EPERM) => false,
        _ => return Err(error),
    };
    Ok(Tried {
        allowed,
        began,
        ended,
    })
}

/// Naming a peer is what the gate judges; nobody has to be there.
fn connect(to: SocketAddr) -> io::Result<u64> {
    let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    let began = now();
    socket.connect(to)?;
    Ok(now() - began)
}

/// Outside of the zone: who asks the one inside.
struct Asker {
    questions: fs::File,
    answers: BufReader<fs::File>,
}

impl Asker {
    fn open() -> io::Result<Self> {
        Ok(Self {
            questions: fs::OpenOptions::new().write(true).open(ASK)?,
            answers: BufReader::new(fs::File::open(ANSWER)?),
        })
    }

    fn ask(&mut self, question: &[u8]) -> io::Result<()> {
        self.questions.write_all(question)
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the one in the zone has ended"));
        }
        Ok(line.trim().to_owned())
    }

    /// Has it try once; whether it was allowed.
    fn is_allowed(&mut self) -> io::Result<bool> {
        self.ask(&[ONCE])?;
        Ok(self.answer()?.starts_with("allowed"))
    }

    /// Has the host appraised until work goes on.
    fn trusted(&mut self) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            quiet(&["governor", "attest", "now"])?;
            if self.is_allowed()? {
                return Ok(());
            }
        }
        Err(io::Error::other("the host is not trusted any more"))
    }
}

/// Extends a register that is quoted, and sees when the next try is denied.
fn pcr(rounds: u64) -> io::Result<()> {
    let mut asker = Asker::open()?;
    let mut tpm = fs::OpenOptions::new().read(true).write(true).open(TPM)?;
    for _ in 0..rounds {
        asker.trusted()?;
        asker.ask(&[UNTIL_DENIED])?;
        let first = asker.answer()?;
        if !first.starts_with("allowed") {
            return Err(io::Error::other("denied before the register was extended"));
        }
        // The daemon reads once a second: what is wanted is the wait from anywhere in between.
        std::thread::sleep(Duration::from_nanos(
            now().wrapping_mul(ODD) % 1_000_000_000,
        ));
        command(&mut tpm, &extend())?;
        let extended = now();
        println!("{extended} {}", asker.answer()?);
        command(&mut tpm, &reset())?;
    }
    Ok(())
}

/// Reaches for the gate while the daemon is stopped, and sees what the very next try comes to.
fn alarm(rounds: u64, pin: &str) -> io::Result<()> {
    let mut asker = Asker::open()?;
    let shown = Command::new("systemctl")
        .args(["show", "--property=MainPID", "--value", "governor"])
        .output()?;
    let daemon = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
    let pin = CString::new(pin).map_err(io::Error::other)?;
    for _ in 0..rounds {
        asker.trusted()?;
        // The first process may send it signals; others are an alarm of their own.
        quiet(&[
            "systemctl",
            "kill",
            "--signal=STOP",
            "--kill-whom=main",
            "governor",
        ])?;
        while state_of(&daemon)? != "T" {
            std::thread::yield_now();
        }
        if !asker.is_allowed()? {
            return Err(io::Error::other("denied before there was an alarm"));
        }
        let mut attr = [0u64; 16];
        attr[0] = pin.as_ptr() as u64;
        // SAFETY: a block of the size that is passed; the path that it points to outlives the call.
        let got = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_OBJ_GET,
                attr.as_mut_ptr(),
                size_of_val(&attr),
            )
        };
        let raised = now();
        if got >= 0 {
            return Err(io::Error::other("a map of the gate was handed out"));
        }
        asker.ask(&[ONCE])?;
        let answer = asker.answer()?;
        println!("{raised} {answer} {}", state_of(&daemon)?);
        quiet(&[
            "systemctl",
            "kill",
            "--signal=CONT",
            "--kill-whom=main",
            "governor",
        ])?;
        let mut unlocked = false;
        for _ in 0..ATTEMPTS {
            unlocked = quiet(&["governor", "unlock", "--reason", "benchmark"])?;
            if unlocked {
                break;
            }
        }
        if !unlocked {
            return Err(io::Error::other("the host cannot be unlocked"));
        }
    }
    Ok(())
}

/// What execs and connects take in the zone.
fn pace(count: u64) -> io::Result<()> {
    let mut asker = Asker::open()?;
    let mut question = vec![PACE];
    question.extend(count.to_ne_bytes());
    asker.ask(&question)?;
    loop {
        let answer = asker.answer()?;
        if answer == "over" {
            return Ok(());
        }
        println!("{answer}");
    }
}

/// Runs a command and sees when a cgroup comes to a state.
fn reached(dir: &str, state: &str, argv: &[&str]) -> io::Result<()> {
    let mut events = fs::File::open(format!("{dir}/cgroup.events"))?;
    let [program, arguments @ ..] = argv else {
        return Err(io::Error::other("no command"));
    };
    let began = now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()?;
    let event = until(&mut events, state)?;
    let status = child.wait()?;
    println!("{began} {event} {}", now());
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("the command ended with {status}")))
    }
}

/// Writes a control file and sees when the cgroup comes to a state.
fn written(dir: &str, file: &str, value: &str, state: &str) -> io::Result<()> {
    let mut events = fs::File::open(format!("{dir}/cgroup.events"))?;
    let mut control = fs::OpenOptions::new()
        .write(true)
        .open(format!("{dir}/{file}"))?;
    let began = now();
    control.write_all(value.as_bytes())?;
    let told = now();
    let event = until(&mut events, state)?;
    println!("{began} {event} {told}");
    Ok(())
}

/// Waits until a cgroup's events say `state`; one that is gone is in any state.
fn until(events: &mut fs::File, state: &str) -> io::Result<u64> {
    loop {
        let mut text = String::new();
        let read = events
            .rewind()
            .and_then(|()| events.read_to_string(&mut text));
        match read {
            Ok(_) if text.lines().any(|line| line == state) => return Ok(now()),
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(now()),
            Err(error) => return Err(error),
        }
        let mut changed = libc::pollfd {
            fd: events.as_raw_fd(),
            events: libc::POLLPRI,
            revents: 0,
        };
        // That a cgroup is removed need not be told to whoever waits for its events, so it is looked
        // at now and then.
        // SAFETY: one structure, which outlives the call.
        if unsafe { libc::poll(&raw mut changed, 1, LOOK) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
}

fn timed(argv: &[&str]) -> io::Result<()> {
    let began = now();
    let done = quiet(argv)?;
    println!("{began} {}", now());
    if done {
        Ok(())
    } else {
        Err(io::Error::other("the command failed"))
    }
}

/// A loop of arithmetic and memory that takes as many instructions everywhere: a yardstick for how
/// much slower an emulated processor is.
fn spin(rounds: u64) {
    let mut table = [0u64; 512];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let began = now();
    for _ in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = usize::try_from(state % 512).unwrap_or_default();
        if let Some(cell) = table.get_mut(at) {
            *cell = cell.wrapping_add(state).rotate_left(9);
        }
    }
    let took = now() - began;
    std::hint::black_box(table);
    println!("{took}");
}

/// Runs a command to its end; whether it ended well.
fn quiet(argv: &[&str]) -> io::Result<bool> {
    let [program, arguments @ ..] = argv else {
        return Err(io::Error::other("no command"));
    };
    let status = Command::new(OsStr::from_bytes(program.as_bytes()))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

/// The letter that /proc shows.
fn state_of(pid: &str) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit(')').next().unwrap_or_default();
    Ok(rest
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Sends a command to the TPM and waits for its answer.
fn command(tpm: &mut fs::File, bytes: &[u8]) -> io::Result<()> {
    tpm.write_all(bytes)?;
    let mut answer = [0; 1024];
    let length = tpm.read(&mut answer)?;
    let code = answer.get(6..10).filter(|_| length >= 10);
    if code == Some(&[0; 4]) {
        Ok(())
    } else {
        Err(io::Error::other(format!("the TPM answered {code:x?}")))
    }
}

/// TPM2_PCR_Extend of [`PCR`] with a digest of ones.
fn extend() -> Vec<u8> {
    let mut digest = vec![0, 0, 0, 1, 0, 0x0b];
    digest.extend([1; 32]);
    with_password(0x182, &digest)
}

/// TPM2_PCR_Reset of [`PCR`].
fn reset() -> Vec<u8> {
    with_password(0x13d, &[])
}

/// A command about [`PCR`] with an empty password.
fn with_password(code: u32, parameters: &[u8]) -> Vec<u8> {
    let mut body = PCR.to_be_bytes().to_vec();
    // The size of the session; its handle, no nonce, no attributes, no password.
    body.extend(9u32.to_be_bytes());
    body.extend(0x4000_0009_u32.to_be_bytes());
    body.extend([0; 5]);
    body.extend(parameters);
    let size = u32::try_from(10 + body.len()).unwrap_or_default();
    let mut bytes = vec![0x80, 0x02];
    bytes.extend(size.to_be_bytes());
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// CLOCK_BOOTTIME in nanoseconds.
fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel fills one structure, which outlives the call. The clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Pipes with names between the one in the zone and the one outside.
const ASK: &str = "/run/bench/ask";
const ANSWER: &str = "/run/bench/answer";
const ONCE: u8 = b'o';
const UNTIL_DENIED: u8 = b'u';
const PACE: u8 = b'p';
const TPM: &str = "/dev/tpmrm0";
/// The debug register: the only one that can be put back without a boot.
const PCR: u32 = 16;
const BPF_OBJ_GET: libc::c_long = 7;
/// Milliseconds.
const LOOK: libc::c_int = 10;
/// Spreads times that are close together.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
/// How often something is asked for that takes the daemon a moment.
const ATTEMPTS: usize = 50;
