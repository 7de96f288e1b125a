//! How many streams the machine can carry, where the configuration does not say.
//!
//! Linux tells its limits in files; where they are missing, there is a careful guess. How many connections are accepted is
//! decided in `http/serve.rs`.

use std::fs;

/// Descriptors that are kept for the database, the listener, files and connections without streams.
const DESCRIPTORS_RESERVED: usize = 512;
/// Resident memory that is set aside for a stream, with its connection and the kernel's part; measured are 14 to 20 KB.
const STREAM_BYTES: usize = 24 * 1024;
/// The part of the memory, as a divisor, that streams may take.
const MEMORY_SHARE: usize = 2;
/// Streams where the system does not tell its limits.
const STREAMS_FALLBACK: usize = 8_000;
/// Streams that are allowed on the smallest machine.
const STREAMS_MIN: usize = 64;

/// Returns how many streams the descriptors and the memory of this process allow.
pub(super) fn streams() -> usize {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let descriptors = open_files(&read("/proc/self/limits"))
        .map(|n_files| n_files.saturating_sub(DESCRIPTORS_RESERVED));
    let memory = [
        total_memory(&read("/proc/meminfo")),
        read("/sys/fs/cgroup/memory.max").trim().parse().ok(),
        read("/sys/fs/cgroup/memory/memory.limit_in_bytes").trim().parse().ok(),
    ];
    let memory = memory.into_iter().flatten().min();
    let memory = memory.map(|bytes| bytes / MEMORY_SHARE / STREAM_BYTES);
    descriptors.into_iter().chain(memory).min().unwrap_or(STREAMS_FALLBACK).max(STREAMS_MIN)
}

/// The limit on open files of a process. Source: `proc_pid_limits(5)`.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
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
    fn the_systems_files_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            20000                1048576              files     \n";
        assert_eq!(open_files(limits), Some(20_000));
        assert_eq!(open_files("Max open files            unlimited            unlimited"), None);
        assert_eq!(
            total_memory("MemTotal:       24000000 kB\nMemFree: 1 kB\n"),
            Some(24_576_000_000)
        );
        assert!(streams() >= STREAMS_MIN);
    }
}
