//! The host's end of the agent's port: requests are numbered, one thread sorts the replies into a
//! queue per request. When the agent restarts or the machine ends, every open request fails at once
//! rather than at its bound.

use super::Stream;
use crate::wire::{self, CHUNK, Frame, Kind, Spec};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A command in the guest that has not been waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobId(u32);

/// Shared with the threads that feed commands; a frame is written under the lock, whole.
type Port = Arc<Mutex<UnixStream>>;

/// What a command reads on standard input.
pub(crate) enum Input<'a> {
    Bytes(&'a [u8]),
    /// Passed on as it comes, by a thread of its own that ends with its source.
    Source(Box<dyn Read + Send>),
}

type Queues = Arc<Mutex<BTreeMap<u32, Sender<Frame>>>>;

#[derive(Debug)]
pub(crate) struct Channel {
    port: Port,
    queues: Queues,
    hellos: Receiver<()>,
    jobs: BTreeMap<JobId, Job>,
    last: u32,
}

#[derive(Debug)]
struct Job {
    replies: Receiver<Frame>,
    pid: Option<u32>,
}

impl Channel {
    pub(crate) fn new(port: UnixStream) -> Result<Self> {
        port.set_write_timeout(Some(Duration::from_secs(120)))
            .context("bounding writes to the agent")?;
        let mut from = port.try_clone().context("sharing the agent's port")?;
        let queues = Queues::default();
        let (greet, hellos) = channel();
        let sorted = Arc::clone(&queues);
        std::thread::spawn(move || {
            while let Ok(frame) = wire::receive(&mut from) {
                let mut queues = sorted.lock().unwrap_or_else(PoisonError::into_inner);
                if frame.kind == Kind::Hello {
                    queues.clear();
                    let _not_waited_for = greet.send(());
                } else if let Some(queue) = queues.get(&frame.request) {
                    let _given_up = queue.send(frame);
                }
            }
            sorted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        });
        Ok(Self {
            port: Arc::new(Mutex::new(port)),
            queues,
            hellos,
            jobs: BTreeMap::new(),
            last: 0,
        })
    }

    /// Waits for the agent's first word.
    pub(crate) fn hello(&mut self, bound: Duration) -> Result<()> {
        match self.hellos.recv_timeout(bound) {
            Ok(()) => Ok(()),
            Err(RecvTimeoutError::Timeout) => bail!("no word within {}s", bound.as_secs()),
            Err(RecvTimeoutError::Disconnected) => bail!("the machine ended"),
        }
    }

    pub(crate) fn spawn(&mut self, spec: &Spec, input: Input<'_>) -> Result<JobId> {
        let (request, replies) = self.open();
        self.send(Kind::Run, request, &spec.encode())?;
        match input {
            Input::Bytes(bytes) => {
                for chunk in bytes.chunks(CHUNK) {
                    self.send(Kind::Stdin, request, chunk)?;
                }
                self.send(Kind::StdinEnd, request, &[])?;
            }
            Input::Source(source) => {
                let port = Arc::clone(&self.port);
                std::thread::spawn(move || feed(source, &port, request));
            }
        }
        let job = JobId(request);
        self.jobs.insert(job, Job { replies, pid: None });
        Ok(job)
    }

    pub(crate) fn pid(&mut self, job: JobId) -> Result<u32> {
        let entry = self.jobs.get_mut(&job).context("no such command")?;
        if let Some(pid) = entry.pid {
            return Ok(pid);
        }
        let frame = next(&entry.replies, Instant::now() + REPLY_BOUND)?;
        match (frame.kind, frame.payload.as_slice().try_into()) {
            (Kind::Started, Ok(pid)) => {
                let pid = u32::from_le_bytes(pid);
                entry.pid = Some(pid);
                Ok(pid)
            }
            _ => Err(refusal(&frame)),
        }
    }

    /// Waits for the command's end and hands over its output; at the bound the command is killed.
    pub(crate) fn wait(
        &mut self,
        job: JobId,
        bound: Duration,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<i32> {
        let entry = self.jobs.remove(&job).context("no such command")?;
        let end = Instant::now() + bound;
        let outcome = loop {
            let frame = match next(&entry.replies, end) {
                Ok(frame) => frame,
                Err(error) => {
                    let _also_gone = self.kill(job, 9);
                    break Err(error);
                }
            };
            if frame.kind == Kind::Stdout {
                sink(Stream::Out, &frame.payload);
            } else if frame.kind == Kind::Stderr {
                sink(Stream::Err, &frame.payload);
            } else if frame.kind == Kind::Exit {
                let code = frame.payload.as_slice().try_into();
                break code.map(i32::from_le_bytes).context("reading an exit code");
            } else if frame.kind != Kind::Started {
                break Err(refusal(&frame));
            }
        };
        self.close(job.0);
        outcome
    }

    /// Waits until a running command has written `wanted`; what it wrote so far is used up.
    pub(crate) fn wait_for_output(
        &mut self,
        job: JobId,
        wanted: &[u8],
        bound: Duration,
    ) -> Result<()> {
        let entry = self.jobs.get(&job).context("no such command")?;
        let end = Instant::now() + bound;
        let mut seen = Vec::new();
        while !seen.windows(wanted.len()).any(|window| window == wanted) {
            let frame = next(&entry.replies, end)
                .with_context(|| format!("it wrote only `{}`", String::from_utf8_lossy(&seen)))?;
            if frame.kind == Kind::Stdout || frame.kind == Kind::Stderr {
                seen.extend_from_slice(&frame.payload);
            } else if frame.kind == Kind::Exit {
                bail!(
                    "it ended after writing `{}`",
                    String::from_utf8_lossy(&seen)
                );
            } else if frame.kind != Kind::Started {
                return Err(refusal(&frame));
            }
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self, job: JobId, signal: u8) -> Result<()> {
        self.send(Kind::Kill, job.0, &[signal])
    }

    pub(crate) fn put(
        &mut self,
        path: &str,
        mode: u32,
        bytes: &[u8],
        bound: Duration,
    ) -> Result<()> {
        let (request, replies) = self.open();
        let mut head = mode.to_le_bytes().to_vec();
        head.extend_from_slice(path.as_bytes());
        self.send(Kind::Put, request, &head)?;
        for chunk in bytes.chunks(CHUNK) {
            self.send(Kind::PutData, request, chunk)?;
        }
        self.send(Kind::PutEnd, request, &[])?;
        let frame = next(&replies, Instant::now() + bound);
        self.close(request);
        let frame = frame?;
        if frame.kind != Kind::Done {
            return Err(refusal(&frame));
        }
        Ok(())
    }

    pub(crate) fn get(&mut self, path: &str, bound: Duration) -> Result<Vec<u8>> {
        let (request, replies) = self.open();
        self.send(Kind::Get, request, path.as_bytes())?;
        let end = Instant::now() + bound;
        let mut content = Vec::new();
        let outcome = loop {
            match next(&replies, end) {
                Ok(frame) if frame.kind == Kind::GetData => {
                    content.extend_from_slice(&frame.payload)
                }
                Ok(frame) if frame.kind == Kind::Done => break Ok(content),
                Ok(frame) => break Err(refusal(&frame)),
                Err(error) => break Err(error),
            }
        };
        self.close(request);
        outcome
    }

    fn open(&mut self) -> (u32, Receiver<Frame>) {
        self.last += 1;
        let (sender, replies) = channel();
        self.queues
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.last, sender);
        (self.last, replies)
    }

    fn close(&mut self, request: u32) {
        self.queues
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&request);
    }

    fn send(&self, kind: Kind, request: u32, payload: &[u8]) -> Result<()> {
        write(&self.port, kind, request, payload).context("writing to the guest's agent")
    }
}

fn write(port: &Port, kind: Kind, request: u32, payload: &[u8]) -> std::io::Result<()> {
    wire::send(
        &mut *port.lock().unwrap_or_else(PoisonError::into_inner),
        kind,
        request,
        payload,
    )
}

fn feed(mut source: Box<dyn Read + Send>, port: &Port, request: u32) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = source.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or(&[]);
        if write(port, Kind::Stdin, request, bytes).is_err() {
            return;
        }
    }
    let _machine_gone = write(port, Kind::StdinEnd, request, &[]);
}

/// What the agent said instead of the reply that was waited for.
fn refusal(frame: &Frame) -> anyhow::Error {
    anyhow::anyhow!(
        "the agent says: {}",
        String::from_utf8_lossy(&frame.payload)
    )
}

fn next(replies: &Receiver<Frame>, end: Instant) -> Result<Frame> {
    match replies.recv_timeout(end.saturating_duration_since(Instant::now())) {
        Ok(frame) => Ok(frame),
        Err(RecvTimeoutError::Timeout) => bail!("no end within its time"),
        Err(RecvTimeoutError::Disconnected) => bail!("the machine or its agent ended"),
    }
}

/// For replies that come as soon as the request has been read.
const REPLY_BOUND: Duration = Duration::from_secs(60);
