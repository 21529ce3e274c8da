//! The raw limits: what the system takes at least to get something from one process to another, and
//! to wake it.

#![allow(unsafe_code, reason = "the raw limit is the system's own calls, and nothing around them")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Outcome;
use crate::round::Figure;
use crate::worker::{self, Worker};

/// Two processes, each asleep on a word until the other changes it.
pub(crate) const FUTEX: &str = "futex";
/// Two processes and a socket of packets.
pub(crate) const SOCKET: &str = "socket";

/// For how long those sleep who are woken now and then.
pub(crate) const PAUSE: Duration = Duration::from_micros(300);

/// How a time is taken: `once` again and again, for a span.
pub(crate) type Timed = fn(Duration, &mut dyn FnMut() -> Outcome<()>) -> Outcome<Figure>;

/// Two words that two processes share.
struct Words(*mut libc::c_void);

impl Words {
    fn at(path: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(4096)?;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of a page of a file that has one.
        let page = unsafe {
            libc::mmap(std::ptr::null_mut(), 4096, both, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(page)) }
    }

    /// Each in a line of the cache of its own.
    fn word(&self, number: usize) -> &AtomicU32 {
        // SAFETY: within the page, aligned, and mapped until `self` goes.
        unsafe { AtomicU32::from_ptr(self.0.cast::<u32>().add(64 * number)) }
    }

    fn wake(&self, number: usize) {
        let word = self.word(number);
        word.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the word is mapped.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    }

    fn sleep(&self, number: usize, seen: u32) {
        let word = self.word(number);
        while word.load(Ordering::SeqCst) == seen {
            let ever = std::ptr::null::<libc::timespec>();
            // SAFETY: the word is mapped, and there is no time limit.
            unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, ever) };
        }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: mapped by `at`, and nothing of it is used any more.
        unsafe { libc::munmap(self.0, 4096) };
    }
}

/// This end of two processes that wake each other.
pub(crate) struct Futexes {
    words: Words,
    _other: Worker,
}

impl Futexes {
    pub(crate) fn new(path: &str) -> Outcome<Self> {
        let words = Words::at(path)?;
        Ok(Self { words, _other: Worker::own(&["socket", "futexes", path])? })
    }

    pub(crate) fn exchange(&mut self) -> Outcome<()> {
        let seen = self.words.word(1).load(Ordering::SeqCst);
        self.words.wake(0);
        self.words.sleep(1, seen);
        Ok(())
    }
}

/// This end of two processes of which one wakes the other now and then, and says when.
pub(crate) struct Sleepers {
    words: Words,
    _other: Worker,
}

impl Sleepers {
    pub(crate) fn new(path: &str) -> Outcome<Self> {
        let words = Words::at(path)?;
        Ok(Self { words, _other: Worker::own(&["socket", "sleepers", path])? })
    }

    /// Sleeps until it is woken; how many nanoseconds ago that was begun.
    pub(crate) fn wait(&mut self) -> u32 {
        self.words.sleep(0, self.words.word(0).load(Ordering::SeqCst));
        nanoseconds().wrapping_sub(self.words.word(1).load(Ordering::SeqCst))
    }
}

/// The time, as all processes see it, in nanoseconds.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A part of it; what differs by more than four seconds is never compared.
fn nanoseconds() -> u32 {
    now() as u32
}

/// This end of a socket of packets, with another process at the other.
pub(crate) struct Packets {
    socket: OwnedFd,
    bytes: Vec<u8>,
    _other: Worker,
}

/// Connects with a process that does `work`: sends back what it gets, or sends as fast as it can.
pub(crate) fn packets(path: &str, work: &str, bytes: usize) -> Outcome<Packets> {
    let listening = socket()?;
    let address = address(path);
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the address is on our stack, and as long as we say.
    checked(unsafe { libc::bind(listening.as_raw_fd(), (&raw const address).cast(), length) })?;
    // SAFETY: it takes no pointers.
    checked(unsafe { libc::listen(listening.as_raw_fd(), 1) })?;
    let other = Worker::own(&["socket", &format!("{work} {bytes}"), path])?;
    let nobody = std::ptr::null_mut();
    // SAFETY: nobody is told who has connected.
    let accepted = checked(unsafe {
        libc::accept(listening.as_raw_fd(), nobody, std::ptr::null_mut::<libc::socklen_t>())
    })?;
    // SAFETY: the system has just made it, for us.
    let socket = unsafe { OwnedFd::from_raw_fd(accepted) };
    Ok(Packets { socket, bytes: vec![7; bytes], _other: other })
}

impl Packets {
    pub(crate) fn exchange(&mut self) -> Outcome<()> {
        send(&self.socket, &self.bytes)?;
        self.receive()
    }

    pub(crate) fn receive(&mut self) -> Outcome<()> {
        Ok(receive(&self.socket, &mut self.bytes)?)
    }
}

/// The other end of either; serves until its starter is gone.
pub(crate) fn serve(work: &str, path: &str) -> Outcome<()> {
    match work {
        "futexes" => return wake_back(&Words::at(path)?),
        "sleepers" => return wake_now_and_then(&Words::at(path)?),
        _ => {}
    }
    let (work, bytes) = work.split_once(' ').ok_or("a work and a length")?;
    let mut bytes = vec![7; bytes.parse()?];
    let (socket, address) = (socket()?, address(path));
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the address is on our stack, and as long as we say.
    checked(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    worker::ready()?;
    // It ends when nobody is at the other end.
    while (work != "echo" || receive(&socket, &mut bytes).is_ok()) && send(&socket, &bytes).is_ok()
    {
    }
    Ok(())
}

fn wake_back(words: &Words) -> Outcome<()> {
    let mut seen = words.word(0).load(Ordering::SeqCst);
    worker::ready()?;
    loop {
        words.sleep(0, seen);
        seen = words.word(0).load(Ordering::SeqCst);
        words.wake(1);
    }
}

fn wake_now_and_then(words: &Words) -> Outcome<()> {
    worker::ready()?;
    loop {
        std::thread::sleep(PAUSE);
        words.word(1).store(nanoseconds(), Ordering::SeqCst);
        words.wake(0);
    }
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: it takes no pointers.
    let made = checked(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0) })?;
    // SAFETY: the system has just made it, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

fn address(path: &str) -> libc::sockaddr_un {
    // SAFETY: zeros are an address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, byte) in address.sun_path.iter_mut().zip(path.bytes().take(100)) {
        *to = byte as libc::c_char;
    }
    address
}

fn checked(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the bytes are ours, as many as we say.
    let sent = unsafe {
        libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL)
    };
    whole(sent, bytes.len())
}

fn receive(socket: &OwnedFd, bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the bytes are ours, as many as we say.
    let received =
        unsafe { libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    whole(received, bytes.len())
}

fn whole(done: isize, length: usize) -> io::Result<()> {
    match done {
        ..0 => Err(io::Error::last_os_error()),
        done if done.cast_unsigned() == length => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
