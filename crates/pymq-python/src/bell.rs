//! A descriptor that event loops wait on, for things that happen off their thread.
//!
//! It is readable from [`ring`](Bell::ring) until [`hush`](Bell::hush). It counts nothing: whoever
//! rings knows whether it rings already, under the lock of what it rings for.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;

/// A pair of sockets, because the standard library has no event descriptor and this needs no
/// `unsafe` and no crate.
pub(crate) struct Bell {
    rope: UnixStream,
    clapper: UnixStream,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let (rope, clapper) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        clapper.set_nonblocking(true)?;
        Ok(Self { rope, clapper })
    }

    pub(crate) fn fileno(&self) -> RawFd {
        self.clapper.as_raw_fd()
    }

    /// Makes it readable. Fails only where it is so already, or as many times as fit.
    pub(crate) fn ring(&self) {
        let _ = (&self.rope).write(&[0]);
    }

    /// Makes it silent again.
    pub(crate) fn hush(&self) {
        let mut rung = [0; 16];
        while matches!((&self.clapper).read(&mut rung), Ok(read) if read == rung.len()) {}
    }
}
