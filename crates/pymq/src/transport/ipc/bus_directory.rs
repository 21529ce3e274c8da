//! Where the file of a bus lies, and that nobody else can get at it.
//!
//! The invariant: a directory or file that another user owns or may write to is refused, and so is a
//! link; what we make is for our user alone. `ipc://NAME` is always below `/dev/shm`, whatever the
//! environment says, so that two programs of one user never miss each other.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::doorbell::PIPE;
use super::layout::{
    ARENA, BOOT_AT, FRESH, IDENTITY_AT, LOCK, LOG, LOG_PROVIDED, MAGIC, MAGIC_AT, NUMBERING,
    PROVIDED, SLOTS, VERSION, VERSION_AT, beacon,
};
use super::mapping::Memory;
use super::system::{lives, numbering, user};
use crate::error::{Error, ErrorKind, Result};

/// The longest name of a file.
const LONGEST: usize = 240;
/// The file of a bus, in its directory.
const FILE: &str = "bus";
/// What a file is called while it is made.
const UNFINISHED: &str = ".new-";
/// How much a new file has for its log and its blocks.
const FIRST: u64 = 256 << 10;
/// How long others may hold up who opens the file.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directory of a bus.
#[derive(Clone, Debug)]
pub(super) struct BusDirectory {
    directory: PathBuf,
    /// The one above, if it is ours to make too.
    above: Option<PathBuf>,
}

impl BusDirectory {
    /// The place that an address names.
    ///
    /// # Errors
    /// `Config` for what is no such address.
    pub(super) fn of(url: &str) -> Result<Self> {
        let bad = |why: &str| Err(Error::config("ipc://", why.to_owned()));
        let Some(name) = url.strip_prefix("ipc://") else {
            return bad("not an ipc address; use ipc://NAME or ipc:///directory");
        };
        if name.contains(['?', '#', '\0']) {
            return bad("an ipc address is ipc://NAME or ipc:///directory, without options");
        }
        if name.is_empty() {
            return bad("the bus needs a name that its programs share, such as ipc://shop");
        }
        if name.starts_with('/') {
            return Ok(Self { directory: PathBuf::from(name), above: None });
        }
        let name = file_name(name);
        if name.len() > LONGEST {
            return bad("the name is too long; use one of at most 80 letters");
        }
        let above = above();
        Ok(Self { directory: above.join(name), above: Some(above) })
    }

    /// The places of all buses under `/dev/shm` that are this user's.
    ///
    /// # Errors
    /// `Config` where the directory above them is not ours alone, `Connection` if it cannot be read.
    pub(super) fn all() -> Result<Vec<Self>> {
        let above = above();
        if !is_own(&above)? {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&above).map_err(|error| failed(&above, error))?;
        let places = entries
            .flatten()
            .map(|entry| Self { directory: entry.path(), above: Some(above.clone()) });
        Ok(places.collect())
    }

    /// The address that names it.
    pub(super) fn address(&self) -> String {
        match (&self.above, self.directory.file_name()) {
            (Some(_), Some(name)) => format!("ipc://{}", name_of(&name.to_string_lossy())),
            _ => format!("ipc://{}", self.directory.display()),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file, mapped and in order, made where there is none.
    pub(super) fn open(&self) -> Result<Memory> {
        let begun = Instant::now();
        loop {
            if let Some(above) = &self.above {
                own_directory(above)?;
            }
            own_directory(&self.directory)?;
            self.clear();
            if let Some(file) = self.open_file()? {
                return self.read(file);
            }
            // The directory may have gone with the bus's last user just now.
            if let Err(error) = self.make()
                && (self.directory.exists() || begun.elapsed() > PATIENCE)
            {
                return Err(error);
            }
        }
    }

    /// The file, mapped and in order; `None` where there is none.
    pub(super) fn existing(&self) -> Result<Option<Memory>> {
        if let Some(above) = &self.above
            && !is_own(above)?
        {
            return Ok(None);
        }
        if !is_own(&self.directory)? {
            return Ok(None);
        }
        self.open_file()?.map(|file| self.read(file)).transpose()
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    fn open_file(&self) -> Result<Option<File>> {
        let path = self.file();
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        match opened {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                Err(refused(&path, "it is a link"))
            }
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// Makes the file in another name, whole, and gives it its own then: others see all or nothing.
    fn make(&self) -> Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let new = self.directory.join(format!("{UNFINISHED}{}-{number}", std::process::id()));
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&new);
        let file = opened.map_err(|error| failed(&new, error))?;
        let filled =
            Memory::map(file).map_err(|error| failed(&new, error)).and_then(|memory| fill(&memory));
        let made = filled.and_then(|()| match fs::hard_link(&new, self.file()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed(&self.file(), error))
            }
            _ => Ok(()),
        });
        // Nobody misses it: it is the bus by now, or another one is.
        let _ = fs::remove_file(&new);
        made
    }

    fn read(&self, file: File) -> Result<Memory> {
        let path = self.file();
        let about = file.metadata().map_err(|error| failed(&path, error))?;
        if !about.is_file() {
            return Err(refused(&path, "it is no file"));
        }
        if about.uid() != user() || about.mode() & 0o077 != 0 {
            return Err(refused(&path, "another user owns it or has rights to it"));
        }
        let turn = FileLock::take(file.try_clone().map_err(|error| failed(&path, error))?, &path)?;
        let memory = Memory::map(file).map_err(|error| failed(&path, error))?;
        let known = about.len() >= ARENA && memory.load(MAGIC_AT) == MAGIC;
        if !known {
            return Err(refused(&path, "it is no bus of PyMQ"));
        }
        if memory.load(VERSION_AT) != VERSION {
            let why = "another version of PyMQ made it; end the programs that use it and delete it";
            return Err(refused(&path, why));
        }
        memory.know();
        let (then, now) = (memory.load(BOOT_AT), boot());
        // Where the system does not tell, all who are there may live.
        if then != now && then != 0 && now != 0 {
            super::bus_lock::start_again(&memory).map_err(|error| error.of("connect", "ipc://"))?;
        }
        if memory.load(NUMBERING) != numbering() {
            memory.store(NUMBERING, 0);
        }
        drop(turn);
        Ok(memory)
    }

    /// Whether a file is the one that lies here, as far as can be seen from this process.
    pub(super) fn is_at_its_place(&self, memory: &Memory) -> bool {
        !self.directory.is_dir() || memory.is_at(&self.file())
    }

    /// The files of those who were killed while they made one.
    pub(super) fn unfinished(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let of_the_dead = |entry: &fs::DirEntry| {
            let name = entry.file_name();
            let maker = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED));
            let maker = maker.and_then(|rest| rest.split('-').next()?.parse().ok());
            maker.is_some_and(|process| !lives(process))
        };
        entries.flatten().filter(of_the_dead).map(|entry| entry.path()).collect()
    }

    /// Deletes what those left behind who were killed while they made a file.
    pub(super) fn clear(&self) {
        for path in self.unfinished() {
            // What cannot be deleted harms nobody.
            let _ = fs::remove_file(path);
        }
    }

    /// Deletes the file, if it is still the one that lies here, and the directory where that is ours and
    /// nothing else is in it. Whoever calls this has the lock of the bus, on which nobody is and nothing lies.
    pub(super) fn delete(&self, memory: &Memory) {
        if memory.is_at(&self.file()) {
            self.delete_pipes();
            // What cannot be deleted is used again.
            let _ = fs::remove_file(self.file());
        }
        if memory.is_deleted() {
            memory.vacate();
        }
        self.leave();
    }

    /// Deletes the pipes, which nobody opens who does not have the file.
    fn delete_pipes(&self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for entry in
            entries.filter(|entry| entry.file_name().as_bytes().starts_with(PIPE.as_bytes()))
        {
            let _ = fs::remove_file(entry.path());
        }
    }

    /// Deletes the directory where that is ours and nothing is in it.
    pub(super) fn leave(&self) {
        if self.above.is_some() {
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

/// Writes what a new file begins with; last what tells that it is one.
pub(super) fn fill(memory: &Memory) -> Result<()> {
    memory.provide(0, LOG)?;
    memory.provide(LOG, LOG + FIRST)?;
    memory.provide(ARENA, ARENA + FIRST)?;
    free_locks(memory);
    memory.store(NUMBERING, numbering());
    memory.store(IDENTITY_AT, Uuid::new_v4().as_u64_pair().0);
    memory.store(FRESH, ARENA);
    memory.store(PROVIDED, ARENA + FIRST);
    memory.store(LOG_PROVIDED, LOG + FIRST);
    memory.store(VERSION_AT, VERSION);
    memory.store(MAGIC_AT, MAGIC);
    memory.know();
    Ok(())
}

/// Takes all locks from whoever had them, of whom nobody lives.
pub(super) fn free_locks(memory: &Memory) {
    [LOCK].into_iter().chain((0..SLOTS).map(beacon)).for_each(|at| memory.free_lock(at));
    memory.store(BOOT_AT, boot());
}

/// A number for this run of the system; 0 where it does not tell.
fn boot() -> u64 {
    let Ok(id) = fs::read_to_string("/proc/sys/kernel/random/boot_id") else { return 0 };
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    id.bytes().fold(0xcbf2_9ce4_8422_2325, hash)
}

/// A name as one of a file: what is no letter, digit, `-` or `_` is written as its bytes.
fn file_name(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let mut written = String::new();
    for (place, byte) in name.bytes().enumerate() {
        if plain(byte) && !(place == 0 && byte == b'.') {
            written.push(byte.into());
        } else {
            written.push_str(&format!("%{byte:02x}"));
        }
    }
    written
}

/// A name from that of its directory.
fn name_of(written: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = written.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *byte == b'%');
        let code = code.and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*byte));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The directory above those of all buses with a name, of this user.
fn above() -> PathBuf {
    PathBuf::from(format!("/dev/shm/pymq-{}", user()))
}

/// Makes a directory for our user alone, or looks whether the one that is there is.
fn own_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(path, error));
        }
        _ => {}
    }
    // Where it has gone with the bus's last user just now, whoever calls tries again.
    is_own(path).map(drop)
}

/// Whether a directory is there, which is our user's alone.
fn is_own(path: &Path) -> Result<bool> {
    let about = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        about => about.map_err(|error| failed(path, error))?,
    };
    if !about.is_dir() {
        return Err(refused(path, "it is a link or a file, where the bus's directory should be"));
    }
    if about.uid() != user() {
        return Err(refused(path, "another user owns it"));
    }
    if about.mode() & 0o077 != 0 {
        let why =
            "others have rights to it; name a directory that is for the bus alone, of mode 700";
        return Err(refused(path, why));
    }
    Ok(true)
}

fn refused(path: &Path, why: &str) -> Error {
    Error::config("ipc://", format!("{} is refused: {why}", path.display()))
}

fn failed(path: &Path, error: io::Error) -> Error {
    let full = [libc::ENOSPC, libc::EDQUOT];
    let kind = match error.raw_os_error() {
        Some(number) if full.contains(&number) => ErrorKind::Server,
        _ => ErrorKind::Connection,
    };
    let why = format!("{}: {error}", path.display());
    Error::new(kind, "connect", "ipc://", why).with_source(error)
}

/// The right to look at a file before it is used: one process at a time, for microseconds. The system
/// takes it back from the dead.
struct FileLock(File);

impl FileLock {
    fn take(file: File, path: &Path) -> Result<Self> {
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(fs::TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(fs::TryLockError::WouldBlock) => {
                    let why = "another process opens it and does not go on";
                    return Err(Error::new(
                        ErrorKind::Connection,
                        "connect",
                        "ipc://",
                        format!("{}: {why}", path.display()),
                    ));
                }
                Err(fs::TryLockError::Error(error)) => return Err(failed(path, error)),
            }
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
