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
/// Streams that are allowed on the smallest machine.
const STREAMS_MIN: usize = 64;

/// Returns how many streams the memory of this process allows, at most one for each connection.
pub(super) fn streams(connections_max: usize) -> usize {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let memory = [
        total_memory(&read("/proc/meminfo")),
        read("/sys/fs/cgroup/memory.max").trim().parse().ok(),
        read("/sys/fs/cgroup/memory/memory.limit_in_bytes").trim().parse().ok(),
    ];
    let memory = memory.into_iter().flatten().min();
    let by_memory = memory.map(|bytes| bytes / MEMORY_SHARE / STREAM_BYTES);
    by_memory.unwrap_or(STREAMS_FALLBACK).min(connections_max).max(STREAMS_MIN)
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
        assert_eq!(streams(100), 100);
        assert_eq!(streams(1), STREAMS_MIN);
    }
}
