//! The log's disk, watched: what fails is said with its file, and after a sync that failed nothing is changed any more.
//!
//! The engine panics when a sync fails. Here such a sync is noted and passed over, and whatever the engine does behind it
//! is refused: after it pages may be gone that no later sync would tell of, and files must not be removed whose copies
//! may not stand. Whoever writes asks [`Trouble::get`] before it takes a write for done.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use raft_engine::env::{FileSystem, Handle, Permission, WriteExt};

/// The first sync that failed, in words.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// What failed, and on which file; `None`: nothing.
    pub fn get(&self) -> Option<String> {
        self.0.lock().clone()
    }

    fn note(&self, what: String) {
        self.0.lock().get_or_insert(what);
    }

    /// Nothing is changed behind a sync that failed.
    fn refuse(&self) -> io::Result<()> {
        match self.get() {
            Some(what) => Err(io::Error::other(what)),
            None => Ok(()),
        }
    }
}

/// The disk below, watched.
pub(crate) struct Watched<F> {
    disk: Arc<F>,
    pub trouble: Trouble,
}

impl<F> Watched<F> {
    pub fn new(disk: Arc<F>) -> Self {
        Self {
            disk,
            trouble: Trouble::default(),
        }
    }
}

/// One file of it, open.
pub(crate) struct File<H> {
    file: Arc<H>,
    path: PathBuf,
    trouble: Trouble,
}

/// A reader or a writer of a file.
pub(crate) struct Access<A> {
    access: A,
    path: PathBuf,
    trouble: Trouble,
}

/// Says which file it was, and why. The caller looks at the kind, and for a full disk the engine at the text.
fn named(path: &Path, what: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| {
        // Before anything else asks the system for something.
        let last = io::Error::last_os_error();
        let kind = error.kind();
        if matches!(
            kind,
            io::ErrorKind::StorageFull | io::ErrorKind::Interrupted
        ) {
            return error;
        }
        // The engine's own file system keeps the kind alone, and names its call.
        let why = if error.raw_os_error().is_none() && last.kind() == kind {
            last
        } else {
            error
        };
        io::Error::new(kind, format!("{} cannot be {what}: {why}", path.display()))
    }
}

impl<F: FileSystem> Watched<F> {
    fn file(&self, path: &Path, file: io::Result<F::Handle>) -> io::Result<File<F::Handle>> {
        Ok(File {
            file: Arc::new(file.map_err(named(path, "opened"))?),
            path: path.to_owned(),
            trouble: self.trouble.clone(),
        })
    }
}

impl<F: FileSystem> FileSystem for Watched<F> {
    type Handle = File<F::Handle>;
    type Reader = Access<F::Reader>;
    type Writer = Access<F::Writer>;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<Self::Handle> {
        self.trouble.refuse()?;
        let path = path.as_ref();
        self.file(path, self.disk.create(path))
    }

    fn open<P: AsRef<Path>>(&self, path: P, perm: Permission) -> io::Result<Self::Handle> {
        let path = path.as_ref();
        self.file(path, self.disk.open(path, perm))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.trouble.refuse()?;
        self.disk.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, src_path: P, dst_path: P) -> io::Result<()> {
        self.trouble.refuse()?;
        self.disk.rename(src_path, dst_path)
    }

    fn reuse<P: AsRef<Path>>(&self, src_path: P, dst_path: P) -> io::Result<()> {
        self.trouble.refuse()?;
        self.disk.reuse(src_path, dst_path)
    }

    fn delete_metadata<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.disk.delete_metadata(path)
    }

    fn exists_metadata<P: AsRef<Path>>(&self, path: P) -> bool {
        self.disk.exists_metadata(path)
    }

    fn new_reader(&self, handle: Arc<Self::Handle>) -> io::Result<Self::Reader> {
        Ok(Access {
            access: self.disk.new_reader(handle.file.clone())?,
            path: handle.path.clone(),
            trouble: self.trouble.clone(),
        })
    }

    fn new_writer(&self, handle: Arc<Self::Handle>) -> io::Result<Self::Writer> {
        Ok(Access {
            access: self.disk.new_writer(handle.file.clone())?,
            path: handle.path.clone(),
            trouble: self.trouble.clone(),
        })
    }
}

impl<H: Handle> Handle for File<H> {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        self.trouble.refuse()?;
        self.file.truncate(offset)
    }

    fn file_size(&self) -> io::Result<usize> {
        self.file.file_size()
    }

    fn sync(&self) -> io::Result<()> {
        if self.trouble.get().is_none()
            && let Err(error) = self.file.sync()
        {
            self.trouble
                .note(named(&self.path, "synced")(error).to_string());
        }
        Ok(())
    }
}

impl<A: Read> Read for Access<A> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.access.read(to).map_err(named(&self.path, "read"))
    }
}

impl<A: Write> Write for Access<A> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.trouble.refuse()?;
        self.access
            .write(from)
            .map_err(named(&self.path, "written"))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.access.flush()
    }
}

impl<A: Seek> Seek for Access<A> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.access.seek(to)
    }
}

impl<A: WriteExt> WriteExt for Access<A> {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.trouble.refuse()?;
        self.access
            .truncate(offset)
            .map_err(named(&self.path, "shortened"))
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.trouble.refuse()?;
        self.access.allocate(offset, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_engine::{Config, Engine, LogBatch, ReadableSize};
    use std::sync::atomic::{AtomicBool, Ordering};

    use raft_engine::env::DefaultFileSystem as Real;

    /// The real disk, until its syncs fail.
    #[derive(Default)]
    struct Failing(Arc<AtomicBool>);

    struct FailingFile(Arc<<Real as FileSystem>::Handle>, Arc<AtomicBool>);

    impl FileSystem for Failing {
        type Handle = FailingFile;
        type Reader = <Real as FileSystem>::Reader;
        type Writer = <Real as FileSystem>::Writer;

        fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<FailingFile> {
            Ok(FailingFile(Arc::new(Real.create(path)?), self.0.clone()))
        }

        fn open<P: AsRef<Path>>(&self, path: P, perm: Permission) -> io::Result<FailingFile> {
            Ok(FailingFile(
                Arc::new(Real.open(path, perm)?),
                self.0.clone(),
            ))
        }

        fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
            Real.delete(path)
        }

        fn rename<P: AsRef<Path>>(&self, src_path: P, dst_path: P) -> io::Result<()> {
            Real.rename(src_path, dst_path)
        }

        fn new_reader(&self, handle: Arc<FailingFile>) -> io::Result<Self::Reader> {
            Real.new_reader(handle.0.clone())
        }

        fn new_writer(&self, handle: Arc<FailingFile>) -> io::Result<Self::Writer> {
            Real.new_writer(handle.0.clone())
        }
    }

    impl Handle for FailingFile {
        fn truncate(&self, offset: usize) -> io::Result<()> {
            self.0.truncate(offset)
        }

        fn file_size(&self) -> io::Result<usize> {
            self.0.file_size()
        }

        fn sync(&self) -> io::Result<()> {
            if self.1.load(Ordering::Relaxed) {
                return Err(io::Error::from_raw_os_error(5));
            }
            self.0.sync()
        }
    }

    fn stands(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut found: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn after_a_sync_that_failed_nothing_is_changed_and_nothing_panics() {
        let name = format!("nightjar-watched-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let fails = Arc::new(AtomicBool::new(false));
        let watched = Arc::new(Watched::new(Arc::new(Failing(fails.clone()))));
        let trouble = watched.trouble.clone();
        let config = Config {
            dir: dir.to_str().unwrap().to_owned(),
            target_file_size: ReadableSize(1 << 10),
            purge_threshold: ReadableSize(1 << 10),
            ..Config::default()
        };
        let engine = Engine::open_with_file_system(config, watched).unwrap();
        let write = |sync| {
            let mut batch = LogBatch::default();
            batch.put(1, b"key".to_vec(), vec![7; 700]).unwrap();
            engine.write(&mut batch, sync)
        };
        // Enough for files that could be removed.
        for _ in 0..5 {
            write(true).unwrap();
        }
        assert_eq!(trouble.get(), None);
        fails.store(true, Ordering::Relaxed);
        // The engine does not hear of it, lest it panics; whoever writes does.
        let _ = write(true);
        let what = trouble.get().expect("a sync failed");
        assert!(what.contains(".raftlog cannot be synced: "), "{what}");
        assert!(what.contains("os error 5"), "{what}");
        assert!(what.contains(dir.to_str().unwrap()), "{what}");
        // The disk is good again, but nobody knows what of that batch it has.
        fails.store(false, Ordering::Relaxed);
        let before = stands(&dir);
        assert!(write(true).unwrap_err().to_string().contains(&what));
        assert!(engine.purge_expired_files().is_err(), "files are removed");
        drop(engine);
        assert_eq!(stands(&dir), before);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
