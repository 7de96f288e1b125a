//! The files that a process starts from when the store is away: written whole or not at all, with the one before kept.
//!
//! What is in them is not looked at here; that is for `image` and `directory_image`.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Digests of tokens are in the files, and names that may be secret.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// The steps by which a file is replaced; a crash can fall before each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Write,
    Sync,
    KeepOlder,
    Rename,
    SyncFolder,
}

/// A folder of files.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`, which is created when the first file is written.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Replaces a file; the one before stays beside it as the older generation.
    ///
    /// At every moment, and after a crash at any moment, one of the two is there as a whole.
    ///
    /// # Errors
    ///
    /// Those of the system; then the files are as they were, or the newer one is missing and the older one is there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_in_steps(name, bytes, |_| Ok(()))
    }

    /// As [`Folder::write`]; `before` is told of each step, and ends it there by an error, as a crash would.
    fn write_in_steps(
        &self,
        name: &str,
        bytes: &[u8],
        before: impl Fn(Step) -> io::Result<()>,
    ) -> io::Result<()> {
        before(Step::Create)?;
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.path)?;
        let [current, older, unfinished] =
            ["", ".old", ".tmp"].map(|end| self.path.join(format!("{name}{end}")));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&unfinished)?;
        before(Step::Write)?;
        file.write_all(bytes)?;
        before(Step::Sync)?;
        file.sync_all()?;
        drop(file);
        before(Step::KeepOlder)?;
        match fs::rename(&current, &older) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        before(Step::Rename)?;
        fs::rename(&unfinished, &current)?;
        before(Step::SyncFolder)?;
        // The names are kept in the folder, so it has to reach the disk too.
        File::open(&self.path)?.sync_all()
    }

    /// Reads a file with `read`, or the older generation if that fails; what cannot be used is set aside under another name.
    ///
    /// `None` if neither can be used.
    pub fn read<T>(
        &self,
        name: &str,
        bytes_max: usize,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> (Option<T>, Vec<String>) {
        let mut problems = Vec::new();
        for end in ["", ".old"] {
            let path = self.path.join(format!("{name}{end}"));
            let bytes = match read_at_most(&path, bytes_max) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    problems.push(format!("cannot read {}: {error}", path.display()));
                    continue;
                }
            };
            match read(&bytes) {
                Ok(found) => return (Some(found), problems),
                Err(problem) => {
                    problems.push(format!("cannot use {}: {problem}", path.display()));
                    set_aside(&path);
                }
            }
        }
        (None, problems)
    }

    /// Removes the files of that name.
    pub fn remove(&self, name: &str) {
        for end in ["", ".old"] {
            // OK because a file too many does no harm: nothing names it.
            let _ = fs::remove_file(self.path.join(format!("{name}{end}")));
        }
    }
}

fn read_at_most(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Keeps a damaged file for those who want to know what happened, out of the way.
fn set_aside(path: &Path) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".bad");
    // OK because the file is only in the way of being overwritten.
    let _ = fs::rename(path, aside);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Temporary(PathBuf);

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn temporary() -> (Temporary, Folder) {
        let path = std::env::temp_dir().join(format!("vexil-{}", crate::clock::Ids.next()));
        (Temporary(path.clone()), Folder::new(path))
    }

    /// Reads a file of which the text `bad` cannot be used.
    fn read(folder: &Folder) -> (Option<String>, usize) {
        let read = |bytes: &[u8]| match bytes {
            b"bad" => Err("it is bad".to_owned()),
            good => Ok(String::from_utf8_lossy(good).into_owned()),
        };
        let (found, problems) = folder.read("f", 10, read);
        (found, problems.len())
    }

    #[test]
    fn the_newest_that_can_be_used_is_read() {
        let (place, folder) = temporary();
        assert_eq!(read(&folder), (None, 0));
        folder.write("f", b"one").unwrap();
        folder.write("f", b"two").unwrap();
        assert_eq!(read(&folder), (Some("two".to_owned()), 0));
        folder.write("f", b"bad").unwrap();
        assert_eq!(read(&folder), (Some("two".to_owned()), 1), "the generation before");
        assert!(place.0.join("f.bad").exists());
        folder.write("f", b"longer than it may be").unwrap();
        assert_eq!(
            read(&folder).0.as_deref(),
            Some("longer than"),
            "no more than one byte too many"
        );
        folder.remove("f");
        assert_eq!(read(&folder), (None, 0));
    }

    #[test]
    fn a_crash_between_any_two_steps_leaves_one_generation() {
        let (place, folder) = temporary();
        let [current, older, unfinished] = ["f", "f.old", "f.tmp"].map(|name| place.0.join(name));
        folder.write("f", b"one").unwrap();
        // Before the first rename: the new one is there under its passing name, whole or not.
        fs::write(&unfinished, b"tw").unwrap();
        assert_eq!(read(&folder), (Some("one".to_owned()), 0));
        // Between the renames.
        fs::rename(&current, &older).unwrap();
        assert_eq!(read(&folder), (Some("one".to_owned()), 0));
        // The next write mends it.
        folder.write("f", b"three").unwrap();
        assert_eq!(read(&folder), (Some("three".to_owned()), 0));
        fs::write(&current, b"bad").unwrap();
        assert_eq!(read(&folder), (Some("one".to_owned()), 1));
    }

    #[test]
    fn a_crash_before_any_step_leaves_the_old_or_the_new_one() {
        use Step::{Create, KeepOlder, Rename, Sync, SyncFolder, Write};
        for step in [Create, Write, Sync, KeepOlder, Rename, SyncFolder] {
            let (_place, folder) = temporary();
            folder.write("f", b"zero").unwrap();
            folder.write("f", b"one").unwrap();
            // Twice, because the second begins with what the first has left.
            for _ in 0..2 {
                let crash = |at| if at == step { Err(io::ErrorKind::Other.into()) } else { Ok(()) };
                assert!(folder.write_in_steps("f", b"two", crash).is_err());
                let (found, n_problems) = read(&folder);
                let expected = if step == SyncFolder { "two" } else { "one" };
                assert_eq!((found.as_deref(), n_problems), (Some(expected), 0), "{step:?}");
            }
            folder.write("f", b"three").unwrap();
            assert_eq!(read(&folder).0.as_deref(), Some("three"), "{step:?}");
        }
    }

    #[test]
    fn nobody_else_may_read_it() {
        let (place, folder) = temporary();
        folder.write("f", b"one").unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(place.0.clone()), mode(place.0.join("f"))), (0o700, 0o600));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_nothing_more() {
        let (place, _) = temporary();
        fs::write(&place.0, b"a file where the folder should be").unwrap();
        let folder = Folder::new(place.0.clone());
        assert!(folder.write("f", b"one").is_err());
        assert_eq!(read(&folder).0, None);
        fs::remove_file(&place.0).unwrap();
    }
}
