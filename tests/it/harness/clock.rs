//! A clock that a test can move for one process: a library that is loaded before it and answers when the time is asked for.

use super::Folder;
use std::path::PathBuf;
use tokio::process::Command;

/// Adds to the time what stands in a file: seconds for the time of day, and seconds for the time that only passes.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *time) {
    long failed = syscall(SYS_clock_gettime, id, time);
    const char *path = getenv("SHIFTED_CLOCK");
    int file = failed || !path ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return (int)failed;
    char text[64] = {0}, *rest = text;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    long of_day = strtol(text, &rest, 10), passed = strtol(rest, NULL, 10);
    if (id == CLOCK_REALTIME) time->tv_sec += of_day;
    if (id == CLOCK_MONOTONIC) time->tv_sec += passed;
    return 0;
}
"#;

/// The clock of a process.
#[derive(Debug)]
pub struct ShiftedClock(Folder);

impl ShiftedClock {
    /// Makes a clock that is right.
    pub async fn new() -> Self {
        let clock = Self(Folder::new());
        let source = clock.0.path().join("clock.c");
        std::fs::write(&source, LIBRARY).unwrap();
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-o"]).arg(clock.library()).arg(&source);
        assert!(compile.status().await.unwrap().success());
        clock.shift(0, 0);
        clock
    }

    fn library(&self) -> PathBuf {
        self.0.path().join("clock.so")
    }

    /// Lets a process live by it.
    pub fn rules(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", self.library()).env("SHIFTED_CLOCK", self.0.path().join("shift"));
        command
    }

    /// Sets by how many seconds the time of day is wrong, and how many more have passed than in truth; the latter may only grow.
    pub fn shift(&self, of_day: i64, passed: u64) {
        let [new, shift] = ["new", "shift"].map(|name| self.0.path().join(name));
        std::fs::write(&new, format!("{of_day} {passed}")).unwrap();
        std::fs::rename(new, shift).unwrap();
    }
}
