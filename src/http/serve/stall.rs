//! Answers over HTTP/2 that nobody reads, and connections of HTTP/2 on which nothing happens.
//!
//! A client may let one stream of its connection stand still by giving it no window. The kernel sees a connection that is
//! alive, and hyper waits without end and asks the body for nothing meanwhile, not even whether it is over. So each answer is
//! watched by the task that sends it: a piece that nobody takes for too long, or that stands in the way of an answer which is
//! to end, resets the stream. Of connections of HTTP/1 the kernel keeps the time; see `connection`.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::body::Body as HttpBody;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::body::SizeHint;
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use pin_project_lite::pin_project;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;
use tokio::time::Sleep;
use tokio::time::sleep;
use tower::Service;
use tower::ServiceExt;

/// Bytes that are handed to HTTP/2 at once, as many as a frame has: whoever takes so many in the time is slow, and not gone.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// An answer that can be over while its last piece is not taken.
pub(crate) trait Ends: fmt::Debug + Send + Sync {
    /// Takes note of who asks whether it is to end, and wants to be woken then.
    fn register(&self, waker: &Waker);

    /// Whether it is to end.
    fn is_over(&self) -> bool;

    /// Hears that it ends because nobody has read it.
    fn give_up(&self);
}

/// What tells when an answer is over; it stands in the answer's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Ending(pub(crate) Arc<dyn Ends>);

/// What the body of an answer and the task that sends it know of each other.
#[derive(Debug, Default)]
struct Pulse {
    /// Pieces that were handed over.
    n_pieces: AtomicU32,
    /// Whether the last one was not taken yet.
    waits: AtomicBool,
    ending: OnceLock<Ending>,
}

/// What the answers of one connection share.
#[derive(Debug, Default)]
struct Shared {
    /// Of the request whose task begins next.
    next: Mutex<Option<Arc<Pulse>>>,
    n_open: AtomicUsize,
    n_begun: AtomicUsize,
}

/// The service of one connection, whose answers are watched.
#[derive(Debug, Clone)]
pub(super) struct Watched<S> {
    service: S,
    shared: Arc<Shared>,
}

/// Runs the tasks of one connection's answers.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    shared: Arc<Shared>,
    stall_timeout: Duration,
}

impl<S> Watched<S> {
    /// Watches the answers of a service; the second part sends them.
    pub(super) fn new(service: S, stall_timeout: Duration) -> (Self, Tasks) {
        let shared = Arc::<Shared>::default();
        (Self { service, shared: Arc::clone(&shared) }, Tasks { shared, stall_timeout })
    }
}

impl Tasks {
    /// Waits until no request was there for this long; it may take twice as long to see it.
    pub(super) async fn idle(&self, time: Duration) {
        loop {
            let n_begun = self.shared.n_begun.load(Relaxed);
            sleep(time).await;
            if self.shared.n_open.load(Relaxed) == 0 && self.shared.n_begun.load(Relaxed) == n_begun
            {
                return;
            }
        }
    }
}

impl<S> hyper::service::Service<Request<Incoming>> for Watched<S>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    type Response = axum::http::Response<Pieces>;
    type Error = Infallible;
    // Boxed, because the task of a request keeps room for its handler as long as its answer is sent.
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let pulse = Arc::<Pulse>::default();
        // hyper gives the future to the executor next, before it looks at another request.
        *self.shared.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&pulse));
        let answer = self.service.clone().oneshot(request);
        let pieces = move |response: Response| {
            if let Some(ending) = response.extensions().get::<Ending>() {
                // OK because it is set once.
                let _ = pulse.ending.set(ending.clone());
            }
            response.map(|body| Pieces { body, rest: Bytes::new(), pulse })
        };
        answer.map(|answer| answer.map(pieces)).boxed()
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let next = self.shared.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(pulse) = next else { return TokioExecutor::new().execute(future) };
        self.shared.n_begun.fetch_add(1, Relaxed);
        self.shared.n_open.fetch_add(1, Relaxed);
        let open = Open(Arc::clone(&self.shared));
        let stall_timeout = self.stall_timeout;
        TokioExecutor::new().execute(Sending {
            future,
            pulse,
            stall_timeout,
            stall: None,
            _open: open,
        });
    }
}

/// Counts an answer for as long as it is sent.
#[derive(Debug)]
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.n_open.fetch_sub(1, Relaxed);
    }
}

/// The wait for one piece to be taken.
struct Stall {
    n_pieces: u32,
    sleep: Pin<Box<Sleep>>,
}

pin_project! {
    /// The task of one answer; HTTP/2 resets the stream when it ends early.
    struct Sending<F> {
        #[pin]
        future: F,
        pulse: Arc<Pulse>,
        stall_timeout: Duration,
        stall: Option<Stall>,
        _open: Open,
    }
}

impl<F: Future<Output = ()>> Future for Sending<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.future.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let pulse = &**this.pulse;
        if !pulse.waits.load(Relaxed) {
            *this.stall = None;
            return Poll::Pending;
        }
        let ending = pulse.ending.get();
        if let Some(Ending(ending)) = ending {
            // hyper does not poll the body meanwhile, and each waker that was registered wakes once.
            ending.register(cx.waker());
            if ending.is_over() {
                return Poll::Ready(());
            }
        }
        let n_pieces = pulse.n_pieces.load(Relaxed);
        if this.stall.as_ref().is_none_or(|stall| stall.n_pieces != n_pieces) {
            let sleep = Box::pin(sleep(*this.stall_timeout));
            *this.stall = Some(Stall { n_pieces, sleep });
        }
        let has_stalled = |stall: &mut Stall| stall.sleep.as_mut().poll(cx).is_ready();
        if !this.stall.as_mut().is_some_and(has_stalled) {
            return Poll::Pending;
        }
        if let Some(ending) = ending {
            ending.0.give_up();
        }
        Poll::Ready(())
    }
}

/// The body of an answer, in pieces that are not too large.
#[derive(Debug)]
pub(super) struct Pieces {
    body: Body,
    rest: Bytes,
    pulse: Arc<Pulse>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            let frame = match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                other => {
                    this.pulse.waits.store(false, Relaxed);
                    return other;
                }
            };
            match frame.into_data() {
                Ok(data) => this.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES_MAX));
        this.pulse.n_pieces.fetch_add(1, Relaxed);
        this.pulse.waits.store(true, Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.body.size_hint() } else { SizeHint::new() }
    }
}
