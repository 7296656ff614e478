//! Keeps others from going on, as an ordinary user may. It says when all is in place, and goes on until it is killed.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::ExitCode,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["reading", path, hogs, many] => {
            let path = PathBuf::from(path);
            starve(hogs, many, move || fs::read(&path).is_ok())
        }
        ["tracing", process, hogs, many] => match process.parse() {
            Ok(process) => starve(hogs, many, move || is_refused_to_trace(process)),
            Err(error) => Err(io::Error::other(error)),
        },
        ["fill", socket] => fill(socket),
        _ => {
            eprintln!("probe_starve: what is `{}`?", args.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe_starve {}: {error}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// Keeps the processors busy, and does something with the weakest priority there is, for which the kernel takes a
/// lock that others need: whoever holds it gets no processor to let go of it. Until it is killed.
fn starve(
    hogs: &str,
    many: &str,
    again: impl Fn() -> bool + Clone + Send + 'static,
) -> io::Result<()> {
    let number = |text: &str| text.parse::<u32>().map_err(io::Error::other);
    let (hogs, many) = (number(hogs)?, number(many)?);
    for _ in 0..many {
        let again = again.clone();
        std::thread::spawn(move || {
            // SAFETY: three integers; zero is the calling thread.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
            while again() {}
        });
    }
    for _ in 0..hogs {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    stay("begun")
}

/// Tries to trace somebody; whether it was refused, as it is for as long as there is such a process.
fn is_refused_to_trace(process: i32) -> bool {
    // SAFETY: integers only; what is refused changes nothing.
    let outcome = unsafe { libc::ptrace(libc::PTRACE_ATTACH, process, 0, 0) };
    outcome == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Sends to a socket that nobody reads, until it takes nothing from anybody. What was sent stays until this is
/// killed.
fn fill(socket: &str) -> io::Result<()> {
    let (mut senders, mut sent) = (Vec::new(), 0);
    loop {
        let sender = UnixDatagram::unbound()?;
        sender.set_nonblocking(true)?;
        let before = sent;
        while sender.send_to(b"MESSAGE=", socket).is_ok() {
            sent += 1;
        }
        senders.push(sender);
        if sent == before {
            break;
        }
    }
    stay(&format!("full of {sent}"))
}

/// Says that all is in place, and waits to be killed.
fn stay(said: &str) -> io::Result<()> {
    println!("{said}");
    io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}
