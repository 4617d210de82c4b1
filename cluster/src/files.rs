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

    /// As [`Self::replace`], with what `fill` writes: a large file that is never in memory as a whole, and that leaves the
    /// disk free for others in between.
    ///
    /// # Errors
    /// Those of the system and of `fill`; what stood there stands.
    fn replace_by(
        &self,
        path: &Path,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        fill(&mut bytes)?;
        self.replace(path, &bytes)
    }

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

/// A large file is synced in parts of this size: one sync of all of it would hold up those of the log.
const PART: usize = 1 << 20;

/// Writes a file, each part synced before the next.
struct InParts {
    file: File,
    part: Vec<u8>,
}

impl Write for InParts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() == PART {
            self.flush()?;
        }
        let taken = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.part)?;
        self.part.clear();
        self.file.sync_data()
    }
}

/// Puts a file that was written aside in its place.
fn put_in_place(aside: &Path, path: &Path) -> io::Result<()> {
    fs::rename(aside, path)?;
    match path.parent() {
        Some(dir) => sync_dir(dir),
        None => Ok(()),
    }
}

impl Files for DiskFiles {
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let aside = path.with_extension("tmp");
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        put_in_place(&aside, path)
    }

    fn replace_by(
        &self,
        path: &Path,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let aside = path.with_extension("tmp");
        let written = File::create(&aside).and_then(|file| {
            let mut to = InParts {
                file,
                part: Vec::new(),
            };
            fill(&mut to)?;
            to.file.write_all(&to.part)?;
            to.file.sync_all()
        });
        if let Err(error) = written {
            // Its room may be what is wanting.
            let _ = fs::remove_file(&aside);
            return Err(error);
        }
        put_in_place(&aside, path)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_parts_is_whole_or_the_old_one() {
        let dir = std::env::temp_dir().join(format!("nightjar-files-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let path = dir.join("large");
        let piece: Vec<u8> = (0..PART / 3).map(|at| at as u8).collect();
        DiskFiles
            .replace_by(&path, &mut |to| {
                (0..7).try_for_each(|_| to.write_all(&piece))
            })
            .expect("it is written");
        let found = fs::read(&path).expect("it is there");
        assert!(found == piece.repeat(7));
        let failed = DiskFiles.replace_by(&path, &mut |to| {
            to.write_all(&piece.repeat(4))?;
            Err(io::Error::other("enough"))
        });
        assert!(failed.is_err() && fs::read(&path).expect("it is there") == found);
        assert!(!path.with_extension("tmp").exists());
        let _ = fs::remove_dir_all(&dir);
    }
}
