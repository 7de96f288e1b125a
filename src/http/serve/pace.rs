//! How long the head of a request may take, and when a connection is old.
//!
//! hyper has one timer for a head, which runs from the end of the request before it. A connection may be idle for long, but
//! a head that has begun must be finished soon, or somebody keeps the connection by sending a byte now and then. So hyper is
//! given a timer that knows when the head began.

use crate::http::serve::Sockets;
use crate::http::serve::connection::Start;
use hyper::rt::Sleep;
use hyper::rt::Timer;
use pin_project_lite::pin_project;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Instant;

/// What the timer, the connection and its answers know of each other; they belong to one task.
///
/// It asks for the time only when a head comes in pieces, which is seldom: hyper tells the time when it waits for a head.
#[derive(Debug)]
pub(super) struct Pace {
    head_timeout: Duration,
    /// When the first head must be complete, of which bytes were read before hyper got the connection.
    first_head_until: Instant,
    /// The deadline that hyper gives to the first wait of a connection that is old.
    old_deadline: Instant,
    is_first: AtomicBool,
    has_begun: AtomicBool,
    is_old: AtomicBool,
}

impl Pace {
    /// Of a connection whose first byte came at `begun_at`, and which is to close after `age`.
    pub(super) fn new(sockets: &Sockets, begun_at: Instant, age: Duration) -> Self {
        Self {
            head_timeout: sockets.head_timeout,
            first_head_until: begun_at + sockets.head_timeout,
            old_deadline: begun_at + age + sockets.idle_timeout,
            is_first: AtomicBool::new(true),
            has_begun: AtomicBool::new(true),
            is_old: AtomicBool::new(false),
        }
    }

    /// Whether the connection had reached its age when it began to wait for the present request.
    pub(super) fn is_old(&self) -> bool {
        self.is_old.load(Relaxed)
    }
}

/// A connection that gives back the bytes that were read already, and notes when others come.
#[derive(Debug)]
pub(super) struct Paced<IO> {
    io: IO,
    start: Start,
    n_given_back: usize,
    pace: Arc<Pace>,
}

impl<IO> Paced<IO> {
    pub(super) fn new(io: IO, start: Start, pace: Arc<Pace>) -> Self {
        Self { io, start, n_given_back: 0, pace }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Paced<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let start = this.start.bytes().get(this.n_given_back..).unwrap_or_default();
        if !start.is_empty() {
            let given = start.get(..buffer.remaining()).unwrap_or(start);
            buffer.put_slice(given);
            this.n_given_back += given.len();
            // The rest of the head with it, if it is there: hyper doubles its buffer to read a second time.
            return match Pin::new(&mut this.io).poll_read(cx, buffer) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
            };
        }
        let n_before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
        if buffer.filled().len() > n_before {
            this.pace.has_begun.store(true, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Paced<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The timer that hyper gets for HTTP/1: it uses it for nothing but heads.
#[derive(Debug)]
pub(super) struct HeadTimer(pub(super) Arc<Pace>);

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(std::time::Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        let (pace, deadline) = (&self.0, Instant::from(deadline));
        let is_first = pace.is_first.swap(false, Relaxed);
        pace.has_begun.store(is_first, Relaxed);
        if deadline >= pace.old_deadline {
            pace.is_old.store(true, Relaxed);
        }
        let head_until = is_first.then_some(pace.first_head_until);
        let sleep = tokio::time::sleep_until(deadline);
        Box::pin(HeadSleep { sleep, head_until, pace: Arc::clone(pace) })
    }
}

pin_project! {
    /// Ends when the connection was idle for too long, or a head that has begun took too long.
    struct HeadSleep {
        #[pin]
        sleep: tokio::time::Sleep,
        // When the head must be complete, if it has begun.
        head_until: Option<Instant>,
        pace: Arc<Pace>,
    }
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.head_until.is_none() && this.pace.has_begun.load(Relaxed) {
            *this.head_until = Some(Instant::now() + this.pace.head_timeout);
        }
        if let Some(until) = *this.head_until
            && this.sleep.deadline() != until
        {
            this.sleep.as_mut().reset(until);
        }
        this.sleep.poll(cx)
    }
}

impl Sleep for HeadSleep {}
