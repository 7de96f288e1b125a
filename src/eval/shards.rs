//! A map from keys to shared values, of which the next version shares almost everything.
//!
//! A search costs one hash and one probe, however many keys there are; a change copies one shard of many. Order is not its
//! concern.
// HOT: searching does not allocate.

use foldhash::fast::FixedState;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::Hash;
use std::sync::Arc;

/// Shards of one map. At 200,000 keys a shard has 200: few enough to copy in microseconds.
const N_SHARDS: usize = 1_024;
/// Maps of up to so many keys have one shard, so that many small environments cost little.
const ONE_SHARD_MAX: usize = 256;

type Shard<K, V> = HashMap<K, Arc<V>, FixedState>;

/// A map from keys to shared values.
#[derive(Debug)]
pub(crate) struct Shards<K, V> {
    /// One, or [`N_SHARDS`].
    shards: Vec<Arc<Shard<K, V>>>,
    len: usize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self { shards: vec![Arc::default()], len: 0 }
    }
}

impl<K: Hash + Eq + Clone + Borrow<str>, V> Shards<K, V> {
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<V>> {
        self.shards.get(self.shard_of(key))?.get(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    /// Returns the map that this one becomes by a change, in which `None` stands for removed.
    pub(crate) fn with<'c>(
        &self,
        change: impl ExactSizeIterator<Item = (&'c K, Option<&'c Arc<V>>)>,
    ) -> Self
    where
        K: 'c,
        V: 'c,
    {
        let mut next = Self { shards: self.shards.clone(), len: self.len };
        if next.shards.len() == 1 && self.len + change.len() > ONE_SHARD_MAX {
            next.split();
        }
        for (key, value) in change {
            let i = next.shard_of(key.borrow());
            let Some(shard) = next.shards.get_mut(i) else { continue };
            // Copies the shard at its first change, and not again.
            let shard = Arc::make_mut(shard);
            let before = match value {
                Some(value) => shard.insert(key.clone(), Arc::clone(value)),
                None => shard.remove(key.borrow()),
            };
            next.len += usize::from(value.is_some());
            next.len -= usize::from(before.is_some());
        }
        next
    }

    fn split(&mut self) {
        let all: Vec<Arc<Shard<K, V>>> =
            std::mem::replace(&mut self.shards, (0..N_SHARDS).map(|_| Arc::default()).collect());
        for (key, value) in all.iter().flat_map(|shard| shard.iter()) {
            let i = self.shard_of(key.borrow());
            if let Some(shard) = self.shards.get_mut(i) {
                Arc::make_mut(shard).insert(key.clone(), Arc::clone(value));
            }
        }
    }

    fn shard_of(&self, key: &str) -> usize {
        if self.shards.len() == 1 {
            return 0;
        }
        /// The map inside uses other bits of its hash.
        const SHARD_SHIFT: u32 = 40;
        let hash = FixedState::default().hash_one(key) >> SHARD_SHIFT;
        usize::try_from(hash).unwrap_or_default() % N_SHARDS
    }
}
