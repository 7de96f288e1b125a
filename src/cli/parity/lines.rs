//! A file line by line, within bounds. What a line means is in the module above.

use anyhow::Context as _;
use anyhow::bail;
use std::fmt;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

/// Bytes of one line.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The lines of a file or of standard input; empty ones are skipped.
pub(super) struct Lines {
    path: PathBuf,
    input: Box<dyn BufRead>,
    /// The number of the line that was read last, from 1.
    line: usize,
    bytes: Vec<u8>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Lines {
    /// Opens a file, or standard input if it is called `-`.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let input: Box<dyn BufRead> = if path.as_os_str() == "-" {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file = File::open(path);
            Box::new(BufReader::new(
                file.with_context(|| format!("could not open {}", path.display()))?,
            ))
        };
        Ok(Self { path: path.to_owned(), input, line: 0, bytes: Vec::new() })
    }

    /// Reads the next line and its number.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<(usize, &[u8])>> {
        loop {
            self.bytes.clear();
            self.line += 1;
            let mut input = self.input.by_ref().take(LINE_BYTES_MAX);
            let n_bytes = input
                .read_until(b'\n', &mut self.bytes)
                .with_context(|| format!("could not read {}", self.path.display()))?;
            if n_bytes == 0 {
                return Ok(None);
            }
            if !self.bytes.ends_with(b"\n") && u64::try_from(n_bytes)? == LINE_BYTES_MAX {
                bail!("line {} of {} is too long", self.line, self.path.display());
            }
            if !self.bytes.trim_ascii().is_empty() {
                return Ok(Some((self.line, self.bytes.trim_ascii())));
            }
        }
    }
}
