//! How many streams the machine can carry, where the configuration does not say.
//!
//! Linux tells how much memory there is in files; where they are missing, there is a careful guess. How many connections are
//! accepted is decided in `http/serve.rs`.

use std::fs;

/// Resident memory that is set aside for a stream, with its connection and the kernel's part; measured are 14 to 20 KB.
const STREAM_BYTES: usize = 24 * 1024;
/// The part of the memory, as a divisor, that streams may take.
const MEMORY_SHARE: usize = 2;
/// Streams where the system does not tell its limits.
const STREAMS_FALLBACK: usize = 8_000;
/// Streams that memory allows on the smallest machine.
const STREAMS_MIN: usize = 64;
/// Connections that streams leave to others, so that evaluations, kills and probes get through however many streams there are.
const CONNECTIONS_RESERVED_MIN: usize = 64;
/// The part of all connections, as a divisor, that streams leave to others: 2 %.
const CONNECTIONS_RESERVED_SHARE: usize = 50;

/// Returns how many streams the memory of this process allows, at most one for each connection but for those that are
/// reserved.
pub(super) fn streams(connections_max: usize) -> usize {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let memory = [
        total_memory(&read("/proc/meminfo")),
        read("/sys/fs/cgroup/memory.max").trim().parse().ok(),
        read("/sys/fs/cgroup/memory/memory.limit_in_bytes").trim().parse().ok(),
    ];
    let memory = memory.into_iter().flatten().min();
    let by_memory = memory.map(|bytes| bytes / MEMORY_SHARE / STREAM_BYTES);
    let by_memory = by_memory.unwrap_or(STREAMS_FALLBACK).max(STREAMS_MIN);
    by_memory.min(connections_max.saturating_sub(reserved(connections_max))).max(1)
}

/// How many of so many connections are not for streams; half of them where they are very few.
fn reserved(connections_max: usize) -> usize {
    let share = (connections_max / CONNECTIONS_RESERVED_SHARE).max(CONNECTIONS_RESERVED_MIN);
    share.min(connections_max / 2)
}

/// The bytes of memory of the machine. Source: `proc_meminfo(5)`.
fn total_memory(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_connections_bound_streams() {
        assert_eq!(
            total_memory("MemTotal:       24000000 kB\nMemFree: 1 kB\n"),
            Some(24_576_000_000)
        );
        assert_eq!([100, 60, 1].map(streams), [50, 30, 1]);
    }

    #[test]
    fn streams_leave_connections_to_others() {
        assert_eq!([0, 1, 150, 3_584, 60_000].map(reserved), [0, 0, 64, 71, 1_200]);
        // With 20,000 descriptors there are 19,488 connections, and 19,000 streams have room.
        assert_eq!(19_488 - reserved(19_488), 19_099);
    }
}
