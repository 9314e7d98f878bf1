//! Accepting connections, a bounded number of them, and cutting slow clients.
//!
//! A client is cut when it takes longer than the configured time to send a request (counted from the last answer, so an idle
//! connection ends too; the time that the process itself works does not count), or when it takes none of an answer for as long. A client that trickles bytes in gains nothing: the time counts from the
//! last byte that was written to it, not from the last that came.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::config::Config;

/// Pause after an error of accept, mostly "too many open files": trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A client, as its requests know it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub addr: SocketAddr,
    working: Arc<AtomicUsize>,
}

impl Peer {
    /// Says that the process works on a request of this client, so that silence is no fault of the client's.
    pub fn work(&self) -> Working {
        self.working.fetch_add(1, Relaxed);
        Working(self.working.clone())
    }
}

/// Lasts as long as the work on a request.
#[derive(Debug)]
pub struct Working(Arc<AtomicUsize>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self { addr: *stream.remote_addr(), working: stream.io().working.clone() }
    }
}

/// A bound address.
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
    places: Arc<Semaphore>,
    time_max: Duration,
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    /// Why it cannot be bound, with the address.
    pub async fn bind(addr: SocketAddr, config: &Config) -> Result<Self, String> {
        let problem = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => format!("{addr} is in use by another process"),
            _ => format!("cannot listen on {addr}: {error}"),
        };
        let socket = TcpListener::bind(addr).await.map_err(problem)?;
        Ok(Self {
            addr: socket.local_addr().map_err(problem)?,
            socket,
            places: Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS))),
            time_max: Duration::from_millis(config.client_time_max_ms),
        })
    }

    /// The address that is bound.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let place = self.places.clone().acquire_owned().await.ok();
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // A connection without it works, only slower.
                    let _ = stream.set_nodelay(true);
                    return (Connection::new(stream, self.time_max, place), peer);
                }
                Err(error) => {
                    tracing::warn!("admin endpoint: cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.addr)
    }
}

/// A connection that ends when its client is too slow.
pub struct Connection {
    stream: TcpStream,
    time_max: Duration,
    /// Requests of this connection on which the process works.
    working: Arc<AtomicUsize>,
    /// Set anew by each write.
    read_timer: Pin<Box<Sleep>>,
    write_timer: Pin<Box<Sleep>>,
    writing: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(stream: TcpStream, time_max: Duration, place: Option<OwnedSemaphorePermit>) -> Self {
        let timer = || Box::pin(tokio::time::sleep(time_max));
        Self {
            stream,
            time_max,
            working: Arc::default(),
            read_timer: timer(),
            write_timer: timer(),
            writing: false,
            _place: place,
        }
    }

    /// Watches the pace of a write: `poll` is its result.
    fn paced<T>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let deadline = Instant::now() + self.time_max;
        if poll.is_ready() {
            self.writing = false;
            self.read_timer.as_mut().reset(deadline);
            return poll;
        }
        if !self.writing {
            self.writing = true;
            self.write_timer.as_mut().reset(deadline);
        }
        ready!(self.write_timer.as_mut().poll(context));
        Poll::Ready(Err(too_slow("takes nothing of its answer")))
    }
}

fn too_slow(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the client {what}"))
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.read_timer.as_mut().poll(context).is_ready() {
            if self.working.load(Relaxed) == 0 {
                return Poll::Ready(Err(too_slow("sends no request")));
            }
            let deadline = Instant::now() + self.time_max;
            self.read_timer.as_mut().reset(deadline);
        }
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, buf);
        self.paced(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, bufs);
        self.paced(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
