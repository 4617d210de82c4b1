//! A disk that forgets what was not synced. It stands on real files; for each it also keeps what a power loss would
//! leave: the bytes of the last sync, and the names as of the last sync of any file. It can tear, fill up and fail.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nightjar_cluster::log_env::{FileSystem, Handle, Permission, WriteExt};
use nightjar_cluster::{Disk, Files};
use parking_lot::Mutex;

const SECTOR: usize = 512;

/// Numbers from a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound.max(1)
    }
}

enum NameOp {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Delete(PathBuf),
}

#[derive(Default)]
struct State {
    /// Bytes of each file as of its last sync.
    synced: BTreeMap<u64, Vec<u8>>,
    /// The open file of each number, to read what was written since.
    live: BTreeMap<u64, Arc<File>>,
    /// Names as a power loss would leave them at best.
    names: BTreeMap<PathBuf, u64>,
    /// Names now.
    now: BTreeMap<PathBuf, u64>,
    ops: Vec<NameOp>,
    next: u64,
}

impl State {
    fn number(&mut self, path: &Path, file: File) -> (u64, Arc<File>) {
        let number = match self.now.get(path) {
            Some(number) => *number,
            None => {
                self.next += 1;
                self.now.insert(path.to_owned(), self.next);
                self.ops.push(NameOp::Create(path.to_owned(), self.next));
                self.next
            }
        };
        let file = self.live.entry(number).or_insert_with(|| Arc::new(file));
        (number, file.clone())
    }

    fn commit_names(&mut self) {
        for op in std::mem::take(&mut self.ops) {
            apply(&mut self.names, op);
        }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, op: NameOp) {
    match op {
        NameOp::Create(path, number) => {
            names.insert(path, number);
        }
        NameOp::Rename(from, to) => {
            if let Some(number) = names.remove(&from) {
                names.insert(to, number);
            }
        }
        NameOp::Delete(path) => {
            names.remove(&path);
        }
    }
}

#[derive(Default)]
pub struct Sim {
    state: Mutex<State>,
    /// Syncs do nothing: what a build without them would be.
    pub lies: AtomicBool,
    pub full: AtomicBool,
    pub sync_fails: AtomicBool,
    pub syncs: AtomicU64,
}

/// The disk, cheap to clone.
#[derive(Clone)]
pub struct SimDisk(pub Arc<Sim>);

impl SimDisk {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// A disk on which the files of a directory stand already.
    #[allow(dead_code, reason = "for those that go on with what a crash left")]
    pub fn standing(root: &Path) -> Self {
        let disk = Self::new();
        let mut dirs = vec![root.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                    continue;
                }
                let bytes = std::fs::read(&path).unwrap();
                let file = OpenOptions::new().read(true).write(true).open(&path);
                let mut state = disk.0.state.lock();
                let (number, _) = state.number(&path, file.unwrap());
                state.synced.insert(number, bytes);
                state.commit_names();
            }
        }
        disk
    }

    pub fn disk(&self) -> Disk<Self> {
        Disk {
            log: Arc::new(self.clone()),
            files: Arc::new(self.clone()),
        }
    }

    /// What a power loss at this moment leaves, written below `to` in place of `root`.
    pub fn crash(&self, root: &Path, to: &Path, dice: &mut Dice) {
        let mut state = self.0.state.lock();
        let mut names = state.names.clone();
        let keep = dice.below(state.ops.len() as u64 + 1) as usize;
        for op in state.ops.drain(..).take(keep) {
            apply(&mut names, op);
        }
        std::fs::create_dir_all(to.join("log")).unwrap();
        std::fs::create_dir_all(to.join("snapshots")).unwrap();
        for (path, number) in names {
            let old = state.synced.get(&number).cloned().unwrap_or_default();
            let mut new = Vec::new();
            if let Some(file) = state.live.get(&number) {
                let len = file.metadata().unwrap().len();
                new.resize(len as usize, 0);
                file.read_exact_at(&mut new, 0).unwrap();
            }
            let bytes = tear(&old, &new, dice);
            let path = to.join(path.strip_prefix(root).unwrap());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    fn check_space(&self) -> io::Result<()> {
        if self.0.full.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "nospace"));
        }
        Ok(())
    }

    fn synced(&self, number: u64, file: &File) -> io::Result<()> {
        if self.0.sync_fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk does not answer"));
        }
        self.0.syncs.fetch_add(1, Ordering::Relaxed);
        if self.0.lies.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut state = self.0.state.lock();
        let mut bytes = vec![0; file.metadata()?.len() as usize];
        file.read_exact_at(&mut bytes, 0)?;
        state.synced.insert(number, bytes);
        state.commit_names();
        Ok(())
    }
}

/// Each sector that differs is the old or the new one, and so is the length.
fn tear(old: &[u8], new: &[u8], dice: &mut Dice) -> Vec<u8> {
    if old == new {
        return old.to_vec();
    }
    let len = match dice.below(3) {
        0 => old.len(),
        1 => new.len(),
        _ => old.len() + dice.below((new.len().abs_diff(old.len())) as u64 + 1) as usize,
    };
    let mut bytes = vec![0; len];
    // How much of what was written since had reached the disk differs from crash to crash.
    let share = dice.below(5);
    for at in (0..len).step_by(SECTOR) {
        let end = (at + SECTOR).min(len);
        let from = if dice.below(4) < share { new } else { old };
        if let Some(part) = from.get(at..end.min(from.len()).max(at)) {
            bytes[at..at + part.len()].copy_from_slice(part);
        }
    }
    bytes
}

pub struct SimHandle {
    number: u64,
    file: Arc<File>,
    disk: SimDisk,
}

impl Handle for SimHandle {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        self.file.set_len(offset as u64)
    }

    fn file_size(&self) -> io::Result<usize> {
        Ok(self.file.metadata()?.len() as usize)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.synced(self.number, &self.file)
    }
}

pub struct SimFile {
    handle: Arc<SimHandle>,
    at: u64,
}

impl Read for SimFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.handle.file.read_at(buf, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for SimFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.handle.disk.check_space() {
            // A full disk takes a part.
            self.handle
                .file
                .write_all_at(&buf[..buf.len() / 2], self.at)?;
            return Err(error);
        }
        self.handle.file.write_all_at(buf, self.at)?;
        self.at += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SimFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let len = self.handle.file.metadata()?.len() as i64;
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => (self.at as i64 + by) as u64,
            SeekFrom::End(by) => (len + by) as u64,
        };
        Ok(self.at)
    }
}

impl WriteExt for SimFile {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.handle.truncate(offset)?;
        self.at = offset as u64;
        Ok(())
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.handle.disk.check_space()?;
        self.handle.file.set_len((offset + size) as u64)
    }
}

impl FileSystem for SimDisk {
    type Handle = SimHandle;
    type Reader = SimFile;
    type Writer = SimFile;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<SimHandle> {
        self.check_space()?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)?;
        let (number, file) = self.0.state.lock().number(path.as_ref(), file);
        let disk = self.clone();
        Ok(SimHandle { number, file, disk })
    }

    fn open<P: AsRef<Path>>(&self, path: P, _: Permission) -> io::Result<SimHandle> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let (number, file) = self.0.state.lock().number(path.as_ref(), file);
        let disk = self.clone();
        Ok(SimHandle { number, file, disk })
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        let mut state = self.0.state.lock();
        std::fs::remove_file(&path)?;
        state.now.remove(path.as_ref());
        state.ops.push(NameOp::Delete(path.as_ref().to_owned()));
        Ok(())
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        let mut state = self.0.state.lock();
        std::fs::rename(&from, &to)?;
        if let Some(number) = state.now.remove(from.as_ref()) {
            state.now.insert(to.as_ref().to_owned(), number);
        }
        let op = NameOp::Rename(from.as_ref().to_owned(), to.as_ref().to_owned());
        state.ops.push(op);
        Ok(())
    }

    fn new_reader(&self, handle: Arc<SimHandle>) -> io::Result<SimFile> {
        Ok(SimFile { handle, at: 0 })
    }

    fn new_writer(&self, handle: Arc<SimHandle>) -> io::Result<SimFile> {
        Ok(SimFile { handle, at: 0 })
    }
}

impl Files for SimDisk {
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.check_space()?;
        let mut state = self.0.state.lock();
        let aside = path.with_extension("tmp");
        std::fs::write(&aside, bytes)?;
        std::fs::rename(&aside, path)?;
        // A new file under this name.
        state.now.remove(path);
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let (number, _) = state.number(path, file);
        if !self.0.lies.load(Ordering::Relaxed) {
            state.synced.insert(number, bytes.to_vec());
            state.commit_names();
        }
        Ok(())
    }

    fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8], sync: bool) -> io::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        let (number, file) = self.0.state.lock().number(path, file);
        file.write_all_at(bytes, offset)?;
        if sync {
            self.synced(number, &file)?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                state.now.remove(path);
                state.ops.push(NameOp::Delete(path.to_owned()));
                Ok(())
            }
        }
    }
}
