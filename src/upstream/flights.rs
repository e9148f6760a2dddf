//! One piece of work for all who want its result at the same time.

use std::{collections::HashMap, hash::Hash};

use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};
use parking_lot::Mutex;

/// Work under way, by what it is about.
///
/// Whoever waits drives it, and it ends when nobody does: no task of its own is left behind.
pub(super) struct Flights<K, V: Clone> {
    under_way: Mutex<HashMap<K, WeakShared<BoxFuture<'static, V>>>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    pub(super) fn new() -> Self {
        Self { under_way: Mutex::default() }
    }

    /// The result of the work under way for `key`, which `start` begins if there is none.
    pub(super) async fn join(&self, key: &K, start: impl FnOnce() -> BoxFuture<'static, V>) -> V {
        let work = self.current(key, start);
        let result = work.clone().await;
        let mut under_way = self.under_way.lock();
        // A later flight for the same key is not ours to end.
        let ours = |known: &WeakShared<_>| known.upgrade().is_none_or(|known: Shared<_>| known.ptr_eq(&work));
        if under_way.get(key).is_some_and(ours) {
            under_way.remove(key);
        }
        result
    }

    fn current(&self, key: &K, start: impl FnOnce() -> BoxFuture<'static, V>) -> Shared<BoxFuture<'static, V>> {
        let mut under_way = self.under_way.lock();
        // What nobody waits for any more leaves its entry behind.
        under_way.retain(|_, work| work.upgrade().is_some());
        if let Some(work) = under_way.get(key).and_then(WeakShared::upgrade) {
            return work;
        }
        let work = start().shared();
        if let Some(weak) = work.downgrade() {
            under_way.insert(key.clone(), weak);
        }
        work
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Work that ends when it is let, and counts how often it was begun.
    struct Work {
        begun: AtomicUsize,
        gate: Semaphore,
    }

    impl Work {
        fn new() -> Arc<Self> {
            Arc::new(Self { begun: AtomicUsize::new(0), gate: Semaphore::new(0) })
        }

        fn start(self: &Arc<Self>) -> BoxFuture<'static, usize> {
            let work = Arc::clone(self);
            let number = work.begun.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                work.gate.acquire().await.unwrap().forget();
                number
            }
            .boxed()
        }
    }

    #[tokio::test]
    async fn all_who_wait_share_one_result_and_later_ones_get_another() {
        let (flights, work) = (Flights::new(), Work::new());
        let mut waiters = Box::pin(join_all((0..10).map(|_| flights.join(&"key", || work.start()))));
        assert_eq!(waiters.as_mut().now_or_never(), None);
        work.gate.add_permits(1);
        assert_eq!(waiters.await, [1; 10]);
        work.gate.add_permits(1);
        assert_eq!(flights.join(&"key", || work.start()).await, 2);
        assert!(flights.under_way.lock().is_empty());
    }

    #[tokio::test]
    async fn a_waiter_that_leaves_takes_nothing_along() {
        let (flights, work) = (Flights::new(), Work::new());
        let mut first = Box::pin(flights.join(&"key", || work.start()));
        let mut second = Box::pin(flights.join(&"key", || work.start()));
        assert_eq!((first.as_mut().now_or_never(), second.as_mut().now_or_never()), (None, None));
        drop(first);
        work.gate.add_permits(1);
        assert_eq!(second.await, 1);

        // When the last one leaves, the work ends with it.
        let mut alone = Box::pin(flights.join(&"key", || work.start()));
        assert_eq!(alone.as_mut().now_or_never(), None);
        drop(alone);
        work.gate.add_permits(1);
        assert_eq!(flights.join(&"key", || work.start()).await, 3);
    }
}
