//! An HTTP/2 connection that writes once for many streams.
//!
//! A change wakes hundreds of streams of one connection. Each that has something to send wakes the connection, and the
//! runtime runs what was woken last before all that waits: by itself, a connection would write to its socket after each
//! stream. Which streams are woken together is decided in `http/stream`.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

/// A connection that, whenever it is woken, lets those run first that are ready already.
#[derive(Debug)]
pub(super) struct Gathered<'a, F> {
    connection: Pin<&'a mut F>,
    has_waited: bool,
}

impl<'a, F> Gathered<'a, F> {
    pub(super) fn new(connection: Pin<&'a mut F>) -> Self {
        Self { connection, has_waited: false }
    }
}

impl<F: Future> Future for Gathered<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.has_waited = !this.has_waited;
        if this.has_waited {
            // A task that wakes itself goes to the end of the queue.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.connection.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::Gathered;
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::Poll;
    use tokio::sync::Notify;

    /// Two streams that wake a connection, one after the other; returns what the connection found whenever it was polled.
    #[tokio::test]
    async fn what_is_ready_is_written_at_once() {
        let (n_ready, wake) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let found = RefCell::new(Vec::new());
        let connection = pin!(async {
            loop {
                let mut woken = pin!(wake.notified());
                let n = poll_fn(|cx| match woken.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(n_ready.load(Relaxed)),
                    Poll::Pending => Poll::Pending,
                });
                let n = n.await;
                found.borrow_mut().push(n);
                if n == 2 {
                    return;
                }
            }
        });
        for _ in 0..2 {
            let (n_ready, wake) = (Arc::clone(&n_ready), Arc::clone(&wake));
            tokio::spawn(async move {
                n_ready.fetch_add(1, Relaxed);
                wake.notify_one();
            });
        }
        Gathered::new(connection).await;
        assert_eq!(*found.borrow(), [2]);
    }
}
