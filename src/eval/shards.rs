//! A map from keys to shared values, of which the next version shares almost everything.
//!
//! A search costs one hash and one probe, however many keys there are; a change copies one shard of many. Order is not its
//! concern.
// HOT: searching does not allocate.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::borrow::Borrow;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Shards of one map. At 200,000 keys a shard has 200: few enough to copy in microseconds.
const N_SHARDS: usize = 1_024;
/// Maps of up to so many keys have one shard, so that many small environments cost little.
const ONE_SHARD_MAX: usize = 256;

/// Entries by the hash that also chooses the shard, so that a key is hashed once.
type Shard<K, V> = HashTable<(K, Arc<V>)>;

fn hash_of(key: &str) -> u64 {
    FixedState::default().hash_one(key)
}

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

impl<K: Eq + Clone + Borrow<str>, V> Shards<K, V> {
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<V>> {
        let hash = hash_of(key);
        let shard = self.shards.get(self.shard_of(hash))?;
        shard.find(hash, |(each, _)| each.borrow() == key).map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|(_, value)| value)
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
            next.put(key, value);
        }
        next
    }

    fn put(&mut self, key: &K, value: Option<&Arc<V>>) {
        let hash = hash_of(key.borrow());
        let i = self.shard_of(hash);
        let Some(shard) = self.shards.get_mut(i) else { return };
        // Copies the shard at its first change, and not again.
        let shard = Arc::make_mut(shard);
        if let Ok(entry) = shard.find_entry(hash, |(each, _)| each == key) {
            entry.remove();
            self.len -= 1;
        }
        if let Some(value) = value {
            let entry = (key.clone(), Arc::clone(value));
            shard.insert_unique(hash, entry, |(each, _)| hash_of(each.borrow()));
            self.len += 1;
        }
    }

    fn split(&mut self) {
        let shards = (0..N_SHARDS).map(|_| Arc::default()).collect();
        let all = std::mem::replace(self, Self { shards, len: 0 });
        for (key, value) in all.shards.iter().flat_map(|shard| shard.iter()) {
            self.put(key, Some(value));
        }
    }

    fn shard_of(&self, hash: u64) -> usize {
        /// The table inside uses the lowest and the highest bits.
        const SHARD_SHIFT: u32 = 40;
        match self.shards.len() {
            1 => 0,
            _ => usize::try_from(hash >> SHARD_SHIFT).unwrap_or_default() % N_SHARDS,
        }
    }
}
