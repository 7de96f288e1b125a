//! How long the head of a request may take.
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
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Instant;

/// No byte of a head has come.
const NOT_BEGUN: u64 = u64::MAX;

/// When the head that is waited for began. Only the task of the connection writes and reads it.
#[derive(Debug)]
pub(super) struct Pace {
    head_timeout: Duration,
    opened_at: Instant,
    /// Milliseconds after the connection was opened.
    head_begun_ms: AtomicU64,
    /// Whether the first head, of which bytes were read before hyper got the connection, is still to come.
    is_first: AtomicBool,
}

impl Pace {
    pub(super) fn new(sockets: &Sockets, opened_at: Instant) -> Self {
        let head_timeout = sockets.head_timeout;
        let (head_begun_ms, is_first) = (AtomicU64::new(0), AtomicBool::new(true));
        Self { head_timeout, opened_at, head_begun_ms, is_first }
    }

    fn wait_for_head(&self) {
        if !self.is_first.swap(false, Relaxed) {
            self.head_begun_ms.store(NOT_BEGUN, Relaxed);
        }
    }

    fn note_read(&self) {
        if self.head_begun_ms.load(Relaxed) == NOT_BEGUN {
            let ms = u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or_default();
            self.head_begun_ms.store(ms, Relaxed);
        }
    }

    /// When the head must be complete, if it has begun.
    fn head_deadline(&self) -> Option<Instant> {
        match self.head_begun_ms.load(Relaxed) {
            NOT_BEGUN => None,
            ms => Some(self.opened_at + Duration::from_millis(ms) + self.head_timeout),
        }
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
            this.pace.note_read();
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
        self.0.wait_for_head();
        let sleep = tokio::time::sleep_until(deadline.into());
        Box::pin(HeadSleep { sleep, pace: Arc::clone(&self.0) })
    }
}

pin_project! {
    /// Ends when the connection was idle for too long, or a head that has begun took too long.
    struct HeadSleep {
        #[pin]
        sleep: tokio::time::Sleep,
        pace: Arc<Pace>,
    }
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if let Some(deadline) = this.pace.head_deadline()
            && this.sleep.deadline() != deadline
        {
            this.sleep.as_mut().reset(deadline);
        }
        this.sleep.poll(cx)
    }
}

impl Sleep for HeadSleep {}
