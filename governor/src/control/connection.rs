//! One accepted connection: the socket, who is at its end, and its place among the 64.
//!
//! Promises: a connection that has not asked for anything when its time is up reads an error, which
//! closes it; the place is given back when the connection is gone, however it went.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::OwnedSemaphorePermit,
    time::Sleep,
};
use tonic::transport::server::Connected;

use super::peer::Caller;

/// What handlers can know about the connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) caller: Caller,
    asked: Arc<AtomicBool>,
}

impl Peer {
    /// A whole request has arrived: the connection may stay.
    pub(crate) fn asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    peer: Peer,
    patience: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(crate) fn new(
        stream: UnixStream,
        caller: Caller,
        patience: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let peer = Peer {
            caller,
            asked: Arc::new(AtomicBool::new(false)),
        };
        Self {
            stream,
            peer,
            patience: Box::pin(tokio::time::sleep(patience)),
            _place: place,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.peer.asked.load(Ordering::Relaxed) && self.patience.as_mut().poll(cx).is_ready() {
            tracing::info!(caller = %self.peer.caller, "closed a control connection that did not ask");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
