//! Counting requests against a rate, in one number for each who is counted.
//!
//! The generic cell rate algorithm: the number is the time at which everything that was taken is given back. It knows
//! nothing of requests and addresses.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const NANOS_PER_SEC: u64 = 1_000_000_000;
/// Sets of a table; with 4 cells of 16 bytes each, a table has 1 MiB and counts for 65,536 at once.
const SETS: u64 = 16_384;
/// Cells of one set, which share a line of the processor's cache.
const CELLS_PER_SET: usize = 4;

/// How fast something may be taken; up to a second's worth at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    interval_ns: u64,
    burst_ns: u64,
}

/// When everything that was taken is given back, in nanoseconds after the start; and for whom it counts.
#[derive(Debug, Default)]
pub(super) struct Cell {
    owner: AtomicU64,
    free_at_ns: AtomicU64,
}

impl Rate {
    /// A rate of so many per second; `None` for 0, which is no limit.
    pub(super) fn per_second(n: u32) -> Option<Self> {
        let interval_ns = NANOS_PER_SEC.checked_div(u64::from(n))?;
        Some(Self { interval_ns, burst_ns: NANOS_PER_SEC.saturating_sub(interval_ns) })
    }

    /// Takes one, or says how long to wait until there is one.
    pub(super) fn take(self, cell: &Cell, now: Duration) -> Result<(), Duration> {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut free_at_ns = cell.free_at_ns.load(Relaxed);
        loop {
            let begin_ns = free_at_ns.max(now_ns);
            let wait_ns = (begin_ns - now_ns).saturating_sub(self.burst_ns);
            if wait_ns > 0 {
                return Err(Duration::from_nanos(wait_ns));
            }
            let next_ns = begin_ns.saturating_add(self.interval_ns);
            match cell.free_at_ns.compare_exchange_weak(free_at_ns, next_ns, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(current) => free_at_ns = current,
            }
        }
    }
}

impl Rate {
    /// Gives one back that was taken.
    pub(super) fn give_back(self, cell: &Cell) {
        let earlier = |free_at_ns: u64| Some(free_at_ns.saturating_sub(self.interval_ns));
        // OK because there is always an earlier time.
        let _ = cell.free_at_ns.fetch_update(Relaxed, Relaxed, earlier);
    }
}

/// Cells for a fixed number of owners.
///
/// Whoever is new gets the cell of its set that was used least lately. If there are more at once than there are cells,
/// somebody's count begins anew: a full table limits less, never the wrong one.
#[derive(Debug)]
pub(super) struct Table(Box<[Set]>);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([Cell; CELLS_PER_SET]);

impl Table {
    pub(super) fn new() -> Self {
        Self((0..SETS).map(|_| Set::default()).collect())
    }

    /// The cell of the owner with this hash.
    pub(super) fn cell(&self, hash: u64) -> Option<&Cell> {
        let Set(cells) = usize::try_from(hash % SETS).ok().and_then(|index| self.0.get(index))?;
        // Never 0, as in a cell that has no owner.
        let owner = hash | 1 << 63;
        if let Some(own) = cells.iter().find(|cell| cell.owner.load(Relaxed) == owner) {
            return Some(own);
        }
        let cell = cells.iter().min_by_key(|cell| cell.free_at_ns.load(Relaxed))?;
        // Two who come at once may both begin here; then one count is lost, which does no harm.
        cell.owner.store(owner, Relaxed);
        cell.free_at_ns.store(0, Relaxed);
        Some(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::Cell;
    use super::Rate;
    use super::Table;
    use proptest::prelude::*;
    use std::thread;
    use std::time::Duration;

    fn rate(rps: u32) -> Rate {
        Rate::per_second(rps).unwrap()
    }

    #[test]
    fn a_second_may_be_taken_at_once_and_comes_back_evenly() {
        let (rate, cell) = (rate(100), Cell::default());
        let n_taken = (0..1_000).filter(|_| rate.take(&cell, Duration::ZERO).is_ok()).count();
        assert_eq!(n_taken, 100);
        let wait = rate.take(&cell, Duration::ZERO).unwrap_err();
        assert_eq!(wait, Duration::from_millis(10));
        assert!(rate.take(&cell, wait).is_ok());
        assert!(rate.take(&cell, wait).is_err());
        // However long nothing is taken, there is never more than a second's worth.
        let later = Duration::from_secs(1_000);
        let n_taken = (0..1_000).filter(|_| rate.take(&cell, later).is_ok()).count();
        assert_eq!(n_taken, 100);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more() {
        let (rate, cell) = (rate(100), Cell::default());
        for _ in 0..1_000 {
            assert!(rate.take(&cell, Duration::from_secs(1)).is_ok());
            rate.give_back(&cell);
        }
        // Nor is there more than a second's worth afterwards.
        let now = Duration::from_secs(2);
        let n_taken = (0..1_000).filter(|_| rate.take(&cell, now).is_ok()).count();
        assert_eq!(n_taken, 100);
    }

    #[test]
    fn zero_is_no_limit() {
        assert!(Rate::per_second(0).is_none());
    }

    #[test]
    fn threads_share_what_there_is() {
        let (rate, cell) = (rate(1_000), Cell::default());
        let take_all = || (0..1_000).filter(|_| rate.take(&cell, Duration::ZERO).is_ok()).count();
        let n_taken: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take_all)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(n_taken, 1_000);
    }

    #[test]
    fn owners_do_not_share_and_a_full_table_gives_way() {
        let (rate, table) = (rate(1), Table::new());
        let take = |hash| rate.take(table.cell(hash).unwrap(), Duration::ZERO).is_ok();
        // All of one set.
        let owners: Vec<u64> = (1..=4).map(|n| n * super::SETS).collect();
        assert!(owners.iter().all(|owner| take(*owner)));
        assert!(!owners.iter().any(|owner| take(*owner)));
        assert!(take(5 * super::SETS), "one more gets the place of another");
        assert!(take(1), "another set has places");
    }

    proptest! {
        #[test]
        fn no_schedule_gets_more_than_the_rate(
            rps in 1_u32..5_000,
            gaps_us in prop::collection::vec(0_u64..20_000, 1..2_000),
        ) {
            let (rate, cell) = (rate(rps), Cell::default());
            let (mut now, mut n_taken) = (Duration::ZERO, 0_u32);
            for gap in gaps_us {
                now += Duration::from_micros(gap);
                match rate.take(&cell, now) {
                    Ok(()) => n_taken += 1,
                    Err(wait) => {
                        prop_assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1));
                        // To wait as long as one is told is enough, and less is not.
                        let early = now + wait.saturating_sub(Duration::from_nanos(1));
                        prop_assert!(rate.take(&cell, early).is_err());
                        now += wait;
                        prop_assert!(rate.take(&cell, now).is_ok());
                        n_taken += 1;
                    }
                }
            }
            let allowed = f64::from(rps) * (1.0 + now.as_secs_f64());
            prop_assert!(f64::from(n_taken) <= allowed * 1.000_01 + 1.0, "{n_taken} of {allowed}");
        }

        #[test]
        fn who_keeps_to_the_rate_is_never_refused(rps in 1_u32..5_000, n in 1_u32..2_000) {
            let (rate, cell) = (rate(rps), Cell::default());
            for i in 0..n {
                let now = Duration::from_secs(u64::from(i)) / rps;
                prop_assert!(rate.take(&cell, now).is_ok());
            }
        }
    }
}
