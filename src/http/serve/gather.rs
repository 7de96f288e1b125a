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
    use std::cell::Cell;
    use std::future::Future;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::Context;
    use std::task::Poll;
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_connection_that_is_woken_goes_once_to_the_end_of_the_queue() {
        let wakes = Arc::new(Wakes::default());
        let (n_polled, waker) = (Cell::new(0), Arc::clone(&wakes).into());
        let connection = pin!(poll_fn(|_| {
            n_polled.set(n_polled.get() + 1);
            if n_polled.get() == 2 { Poll::Ready(()) } else { Poll::Pending }
        }));
        let mut gathered = pin!(Gathered::new(connection));
        let mut poll = || {
            let is_ready = gathered.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            (is_ready, n_polled.get(), wakes.0.load(Relaxed))
        };
        assert_eq!(poll(), (false, 0, 1), "it asks to be polled again, and others run before");
        assert_eq!(poll(), (false, 1, 1), "then it works, and does not ask without need");
        assert_eq!(poll(), (false, 1, 2));
        assert_eq!(poll(), (true, 2, 2));
    }
}
