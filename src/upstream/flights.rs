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
