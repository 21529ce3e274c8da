//! A descriptor that event loops wait on, for things that happen off their thread.
//!
//! It is readable from [`ring`](Bell::ring) until [`hush`](Bell::hush). It counts nothing: whoever
//! rings knows whether it rings already, under the lock of what it rings for.

use std::io::{self, Read as _, Write as _};

#[cfg(unix)]
mod pair {
    use std::os::fd::AsRawFd as _;
    pub(super) use std::os::unix::net::UnixStream as Stream;

    pub(super) fn make() -> std::io::Result<(Stream, Stream)> {
        Stream::pair()
    }

    pub(super) fn descriptor(stream: &Stream) -> super::Descriptor {
        stream.as_raw_fd()
    }
}

#[cfg(windows)]
mod pair {
    use std::net::TcpListener;
    pub(super) use std::net::TcpStream as Stream;
    use std::os::windows::io::AsRawSocket as _;

    /// Windows has no pairs; whoever else connects to the port in between is not let in.
    pub(super) fn make() -> std::io::Result<(Stream, Stream)> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let rope = Stream::connect(listener.local_addr()?)?;
        loop {
            let (clapper, peer) = listener.accept()?;
            if peer == rope.local_addr()? {
                return Ok((rope, clapper));
            }
        }
    }

    pub(super) fn descriptor(stream: &Stream) -> super::Descriptor {
        stream.as_raw_socket()
    }
}

/// What an event loop of Python's takes for a descriptor.
#[cfg(unix)]
pub(crate) type Descriptor = std::os::fd::RawFd;
#[cfg(windows)]
pub(crate) type Descriptor = std::os::windows::io::RawSocket;

/// A pair of sockets, because the standard library has no event descriptor and this needs no
/// `unsafe` and no crate.
pub(crate) struct Bell {
    rope: pair::Stream,
    clapper: pair::Stream,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let (rope, clapper) = pair::make()?;
        rope.set_nonblocking(true)?;
        clapper.set_nonblocking(true)?;
        Ok(Self { rope, clapper })
    }

    pub(crate) fn fileno(&self) -> Descriptor {
        pair::descriptor(&self.clapper)
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
