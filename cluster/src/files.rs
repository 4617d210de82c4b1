//! The few small files beside the log, written so that a crash leaves the old or the new content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Writes small files durably. Tests put a disk in its place that forgets what was not synced.
pub trait Files: Send + Sync {
    /// Puts a whole file in place, or leaves the old one: written aside, synced, renamed, the directory synced.
    ///
    /// # Errors
    /// Those of the system.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Overwrites a part of a file, made if missing, and syncs it if asked to.
    ///
    /// # Errors
    /// Those of the system.
    fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8], sync: bool) -> io::Result<()>;

    /// Removes a file; it need not be there.
    ///
    /// # Errors
    /// Those of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFiles;

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

impl Files for DiskFiles {
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let aside = path.with_extension("tmp");
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        match path.parent() {
            Some(dir) => sync_dir(dir),
            None => Ok(()),
        }
    }

    fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8], sync: bool) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)?;
        if sync { file.sync_data() } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
