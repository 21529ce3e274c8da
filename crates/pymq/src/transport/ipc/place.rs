//! Where the file of a bus lies, and that nobody else can get at it.
//!
//! The invariant: a directory or file that another user owns or may write to is refused, and so is a
//! link; what we make is for our user alone. `ipc://NAME` is always below `/dev/shm`, whatever the
//! environment says, so that two programs of one user never miss each other.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::layout::{
    ARENA, BOOT_AT, FRESH, LOCK, LOCKS_AT, LOG, LOG_PROVIDED, MAGIC, MAGIC_AT, PROVIDED, SLOTS,
    VERSION, VERSION_AT, beacon,
};
use super::mapping::{Memory, kind_of_locks, lives, user};
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
pub(super) struct Place {
    directory: PathBuf,
    /// The one above, if it is ours to make too.
    above: Option<PathBuf>,
}

impl Place {
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
        let above = PathBuf::from(format!("/dev/shm/pymq-{}", user()));
        Ok(Self { directory: above.join(name), above: Some(above) })
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
            match self.open_file() {
                Ok(file) => return self.read(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                    return Err(refused(&self.file(), "it is a link"));
                }
                Err(error) => return Err(failed(&self.file(), error)),
            }
            match self.make() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Connection => {
                    // The directory may have gone with the bus's last user just now.
                    if begun.elapsed() > PATIENCE {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    fn open_file(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(self.file())
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
        let turn = Turn::take(file.try_clone().map_err(|error| failed(&path, error))?, &path)?;
        let memory = Memory::map(file).map_err(|error| failed(&path, error))?;
        let known = about.len() >= ARENA && memory.load(MAGIC_AT) == MAGIC;
        if !known {
            return Err(refused(&path, "it is no bus of PyMQ"));
        }
        if memory.load(VERSION_AT) != VERSION {
            let why = "another version of PyMQ made it; end the programs that use it and delete it";
            return Err(refused(&path, why));
        }
        if memory.load(LOCKS_AT) != kind_of_locks() {
            let why =
                "programs of another C library or architecture use it, whose locks are not ours";
            return Err(refused(&path, why));
        }
        if memory.load(BOOT_AT) != boot() {
            super::hub::start_again(&memory).map_err(|error| error.of("connect", "ipc://"))?;
        }
        drop(turn);
        Ok(memory)
    }

    /// Deletes what those left behind who were killed while they made a file.
    fn clear(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let maker = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED));
            let maker = maker.and_then(|rest| rest.split('-').next()?.parse().ok());
            if maker.is_some_and(|process| !lives(process)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Deletes the file, and the directory where that is ours and nothing else is in it.
    pub(super) fn delete(&self) {
        // What cannot be deleted is used again.
        let _ = fs::remove_file(self.file());
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
    write_locks(memory)?;
    memory.store(FRESH, ARENA);
    memory.store(PROVIDED, ARENA + FIRST);
    memory.store(LOG_PROVIDED, LOG + FIRST);
    memory.store(VERSION_AT, VERSION);
    memory.store(MAGIC_AT, MAGIC);
    Ok(())
}

/// Makes all locks anew.
pub(super) fn write_locks(memory: &Memory) -> Result<()> {
    let slots = (0..SLOTS).map(beacon);
    for at in [LOCK].into_iter().chain(slots) {
        memory.make_lock(at).map_err(|error| {
            Error::new(ErrorKind::Server, "connect", "ipc://", error.to_string())
        })?;
    }
    memory.store(LOCKS_AT, kind_of_locks());
    memory.store(BOOT_AT, boot());
    Ok(())
}

/// A number for this run of the system.
fn boot() -> u64 {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
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

/// Makes a directory for our user alone, or looks whether the one that is there is.
fn own_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(path, error));
        }
        _ => {}
    }
    let about = match fs::symlink_metadata(path) {
        // It has gone with the bus's last user just now; whoever calls tries again.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        about => about.map_err(|error| failed(path, error))?,
    };
    if !about.is_dir() {
        return Err(refused(path, "it is a link or a file, where the bus's directory should be"));
    }
    if about.uid() != user() {
        return Err(refused(path, "another user owns it"));
    }
    if about.mode() & 0o077 != 0 {
        return Err(refused(path, "others have rights to it; `chmod 700` takes them away"));
    }
    Ok(())
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
struct Turn(File);

impl Turn {
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

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
