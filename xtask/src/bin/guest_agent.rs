//! The host's hand inside a guest: runs commands and moves files at the request of frames on a
//! virtio port. Standard library only, statically linked, so that it runs in any root file system.
//! It decides nothing and keeps nothing: when it restarts, every open request is void, which the
//! host learns from the `Hello` it begins with.

#[path = "../wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::{CHUNK, Frame, Kind, Spec};

type Port = Arc<Mutex<File>>;

fn main() -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(port_path()?)?;
    let mut from = file.try_clone()?;
    let port: Port = Arc::new(Mutex::new(file));
    reply(&port, Kind::Hello, 0, &[]);
    let mut open = Open::default();
    loop {
        let frame = wire::receive(&mut from)?;
        open.take(frame, &port);
    }
}

/// The port is found by the name QEMU gave it; udev may not have run yet.
fn port_path() -> io::Result<String> {
    for entry in std::fs::read_dir("/sys/class/virtio-ports")? {
        let entry = entry?;
        if std::fs::read_to_string(entry.path().join("name"))?.trim() == "governor.agent" {
            return Ok(format!("/dev/{}", entry.file_name().to_string_lossy()));
        }
    }
    Err(io::Error::other("no virtio port named governor.agent"))
}

/// Requests in progress that later frames may belong to.
#[derive(Default)]
struct Open {
    inputs: BTreeMap<u32, Sender<Vec<u8>>>,
    groups: BTreeMap<u32, i32>,
    files: BTreeMap<u32, (String, u32, File)>,
}

impl Open {
    fn take(&mut self, frame: Frame, port: &Port) {
        let Frame {
            kind,
            request,
            payload,
        } = frame;
        let outcome = match kind {
            Kind::Run => self.start(request, &payload, port),
            Kind::Stdin => {
                if let Some(input) = self.inputs.get(&request) {
                    let _ended = input.send(payload);
                }
                Ok(())
            }
            Kind::StdinEnd => {
                self.inputs.remove(&request);
                Ok(())
            }
            Kind::Kill => {
                if let (Some(group), Some(signal)) = (self.groups.get(&request), payload.first()) {
                    // SAFETY: kill takes two integers and touches no memory of ours.
                    unsafe { kill(-*group, i32::from(*signal)) };
                }
                Ok(())
            }
            Kind::Put => self.begin_put(request, &payload),
            Kind::PutData => match self.files.get_mut(&request) {
                Some((_, _, file)) => file.write_all(&payload),
                None => Ok(()),
            },
            Kind::PutEnd => self.end_put(request, port),
            Kind::Get => {
                let port = Arc::clone(port);
                std::thread::spawn(move || {
                    let path = String::from_utf8_lossy(&payload).into_owned();
                    if let Err(error) = get(&path, request, &port) {
                        reply(
                            &port,
                            Kind::Failed,
                            request,
                            format!("reading `{path}`: {error}").as_bytes(),
                        );
                    }
                });
                Ok(())
            }
            Kind::Hello
            | Kind::Stdout
            | Kind::Stderr
            | Kind::Exit
            | Kind::Done
            | Kind::Failed
            | Kind::GetData
            | Kind::Started => Err(io::Error::other("a frame that only the guest sends")),
        };
        if let Err(error) = outcome {
            self.files.remove(&request);
            reply(port, Kind::Failed, request, error.to_string().as_bytes());
        }
    }

    fn start(&mut self, request: u32, payload: &[u8], port: &Port) -> io::Result<()> {
        let spec = Spec::decode(payload).ok_or_else(|| io::Error::other("malformed request"))?;
        let (program, args) = spec
            .argv
            .split_first()
            .ok_or_else(|| io::Error::other("no command"))?;
        let mut command = Command::new(program);
        command
            .args(args)
            .envs(spec.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(if spec.cwd.is_empty() {
            "/root"
        } else {
            &spec.cwd
        });
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.process_group(0);
        if let Some(user) = spec.user {
            command.uid(user).gid(user);
        }
        // SAFETY: the closure only makes three system calls on constant arguments, which is allowed
        // between fork and exec.
        unsafe { command.pre_exec(reset_oom_score) };
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::other(format!("starting `{program}`: {error}")))?;
        let pid = child.id();
        reply(port, Kind::Started, request, &pid.to_le_bytes());
        self.groups.insert(request, pid as i32);
        if let Some(stdin) = child.stdin.take() {
            let (sender, receiver) = channel();
            self.inputs.insert(request, sender);
            std::thread::spawn(move || feed(stdin, receiver));
        }
        let pumps = [
            child
                .stdout
                .take()
                .map(|pipe| Pump::start(pipe, Kind::Stdout, request, port)),
            child
                .stderr
                .take()
                .map(|pipe| Pump::start(pipe, Kind::Stderr, request, port)),
        ];
        let port = Arc::clone(port);
        std::thread::spawn(move || {
            let code = match child.wait() {
                Ok(status) => status
                    .code()
                    .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
                Err(_lost) => 255,
            };
            pumps.into_iter().flatten().for_each(Pump::drain);
            reply(&port, Kind::Exit, request, &code.to_le_bytes());
        });
        Ok(())
    }

    fn begin_put(&mut self, request: u32, payload: &[u8]) -> io::Result<()> {
        let malformed = || io::Error::other("malformed request");
        let (mode, path) = payload.split_first_chunk::<4>().ok_or_else(malformed)?;
        let path = String::from_utf8(path.to_vec()).map_err(io::Error::other)?;
        let mode = u32::from_le_bytes(*mode);
        if let Some(parent) = std::path::Path::new(&path).parent() {
            std::fs::create_dir_all(parent)?;
        }
        // A running executable cannot be written to, but it can be replaced.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)?;
        self.files.insert(request, (path, mode, file));
        Ok(())
    }

    fn end_put(&mut self, request: u32, port: &Port) -> io::Result<()> {
        if let Some((path, mode, file)) = self.files.remove(&request) {
            drop(file);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
            reply(port, Kind::Done, request, &[]);
        }
        Ok(())
    }
}

fn feed(mut stdin: ChildStdin, receiver: Receiver<Vec<u8>>) {
    for bytes in receiver {
        if stdin.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn get(path: &str, request: u32, port: &Port) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        reply(
            port,
            Kind::GetData,
            request,
            buffer.get(..count).unwrap_or(&[]),
        );
    }
    reply(port, Kind::Done, request, &[]);
    Ok(())
}

/// Carries one pipe to the host until its end.
struct Pump {
    ended: Receiver<()>,
    reading: Arc<AtomicBool>,
    carried: Arc<AtomicU64>,
}

impl Pump {
    fn start(mut pipe: impl Read + Send + 'static, kind: Kind, request: u32, port: &Port) -> Self {
        let (sender, ended) = channel();
        let reading = Arc::new(AtomicBool::new(true));
        let carried = Arc::new(AtomicU64::new(0));
        let (port, waiting, count) = (Arc::clone(port), Arc::clone(&reading), Arc::clone(&carried));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                waiting.store(true, Ordering::SeqCst);
                let read = pipe.read(&mut buffer);
                waiting.store(false, Ordering::SeqCst);
                count.fetch_add(1, Ordering::SeqCst);
                match read {
                    Ok(0) | Err(_) => break,
                    Ok(length) => reply(&port, kind, request, buffer.get(..length).unwrap_or(&[])),
                }
            }
            let _gone = sender.send(());
        });
        Self {
            ended,
            reading,
            carried,
        }
    }

    /// Waits for the pipe's end. A descendant may keep the pipe open for ever, so a pipe that stays
    /// empty ends it as well.
    fn drain(self) {
        let mut seen = u64::MAX;
        loop {
            match self.ended.recv_timeout(Duration::from_millis(150)) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = self.carried.load(Ordering::SeqCst);
            if now == seen && self.reading.load(Ordering::SeqCst) {
                return;
            }
            seen = now;
        }
    }
}

/// A reply that cannot be written means the host is gone, and the reading side ends us.
fn reply(port: &Port, kind: Kind, request: u32, payload: &[u8]) {
    let mut port = port.lock().unwrap_or_else(PoisonError::into_inner);
    let _host_gone = wire::send(&mut *port, kind, request, payload);
}

/// Commands must not inherit our exemption from the kernel's choice when memory runs out.
fn reset_oom_score() -> io::Result<()> {
    // SAFETY: the path is a constant that ends in a zero byte.
    let file = unsafe { open(c"/proc/self/oom_score_adj".as_ptr(), O_WRONLY) };
    if file >= 0 {
        // SAFETY: one byte of a constant is read.
        unsafe { write(file, c"0".as_ptr(), 1) };
        // SAFETY: the descriptor was opened above and is used nowhere else.
        unsafe { close(file) };
    }
    Ok(())
}

unsafe extern "C" {
    fn kill(pid: i32, signal: i32) -> i32;
    fn open(path: *const std::ffi::c_char, flags: i32, ...) -> i32;
    fn write(file: i32, bytes: *const std::ffi::c_char, length: usize) -> isize;
    fn close(file: i32) -> i32;
}

const O_WRONLY: i32 = 1;
