//! The daemon's end of the control socket.
//!
//! Promises: the socket appears with its final mode, in one step, over whatever a dead daemon left;
//! a peer is identified and admitted before a byte of it is read; connections, messages, streams
//! and silence are bounded. Refuses to take the socket of a daemon that still answers.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    net::UnixListener,
    sync::{Semaphore, broadcast, mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use super::{
    MAX_MESSAGE,
    command::Command,
    connection::Connection,
    peer::Caller,
    proto::{GateEvent, control_server::ControlServer},
    service::Service,
};

/// What the server needs to know besides its socket.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cgroup below which everything is governed: callers in there are refused.
    pub governed: PathBuf,
    /// Connections at a time; more are closed at once.
    pub connections: usize,
    /// How long a connection may take until its first request is complete.
    pub patience: Duration,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Options {
    /// The limits of the shipped daemon.
    pub fn new(governed: impl Into<PathBuf>) -> Self {
        Self {
            governed: governed.into(),
            connections: 64,
            patience: Duration::from_secs(10),
            // Reading a policy of a million rows takes long on a slow machine, and others may wait before it.
            timeout: Duration::from_secs(600),
        }
    }
}

/// Connections so far, for metrics and tests.
#[derive(Debug, Default)]
pub struct Counters {
    pub accepted: AtomicU64,
    /// Closed before a byte was read: not root, or inside a governed zone.
    pub refused: AtomicU64,
    /// Closed because there were too many.
    pub crowded: AtomicU64,
}

/// Creates the socket at `path`, mode 0660, in a directory of mode 0755.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.with_context(|| format!("`{}` has no directory", path.display()))?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .with_context(|| format!("creating `{}`", directory.display()))?;
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!(
            "another daemon answers at `{}`; stop it first",
            path.display()
        );
    }
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing `{}`", fresh.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let listener =
        UnixListener::bind(&fresh).with_context(|| format!("binding `{}`", fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o660))
        .with_context(|| format!("setting the mode of `{}`", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("putting `{}` in place", path.display()))?;
    Ok(listener)
}

/// Serves until `shutdown` resolves, then gives open requests a moment to finish.
pub async fn serve(
    listener: UnixListener,
    options: Options,
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Arc<GateEvent>>,
    counters: Arc<Counters>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let timeout = options.timeout;
    let (admitted, connections) = mpsc::channel(1);
    let accepting = tokio::spawn(accept(listener, options, admitted, counters));

    let service = ControlServer::new(Service::new(commands, events, stopped.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let serving = Server::builder()
        .timeout(timeout)
        .concurrency_limit_per_connection(STREAMS as usize)
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(16 << 10)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), until(stopped));
    let stopping = async {
        shutdown.await;
        stop.send_replace(true);
        tokio::time::sleep(GRACE).await;
    };
    let outcome = tokio::select! {
        outcome = serving => outcome.context("serving the control socket"),
        () = stopping => Ok(()),
    };
    accepting.abort();
    outcome
}

/// Resolves when the flag is raised or nobody can raise it any more.
pub(crate) async fn until(mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow_and_update() {
        if stopped.changed().await.is_err() {
            return;
        }
    }
}

/// Accepts, identifies, admits: in that order, before anything is read.
async fn accept(
    listener: UnixListener,
    options: Options,
    admitted: mpsc::Sender<io::Result<Connection>>,
    counters: Arc<Counters>,
) {
    let places = Arc::new(Semaphore::new(options.connections));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a control connection");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let caller = match Caller::of(&stream) {
            Ok(caller) => caller,
            Err(error) => {
                counters.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "refused a control connection of an unknown peer");
                continue;
            }
        };
        if let Err(why) = caller.admit(&options.governed) {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%caller, %why, "refused a control connection");
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            counters.crowded.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%caller, "closed a control connection: too many are open");
            continue;
        };
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::new(stream, caller, options.patience, place);
        if admitted.send(Ok(connection)).await.is_err() {
            return;
        }
    }
}

/// Requests at a time on one connection.
const STREAMS: u32 = 16;
/// Between two attempts to accept when the first failed (out of descriptors).
const RETRY: Duration = Duration::from_millis(100);
/// For requests that are being answered when the daemon stops.
const GRACE: Duration = Duration::from_secs(1);
