//! A bus between processes, in a directory that goes with the test.
#![allow(
    dead_code,
    missing_debug_implementations,
    unreachable_pub,
    reason = "each test binary uses its own part of this module"
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The place of a bus that no other test knows.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pymq-test-{}-{number}", std::process::id());
        Self(Path::new("/dev/shm").join(name))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn url(&self) -> String {
        format!("ipc://{}", self.0.display())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Nothing is there where nobody has connected.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
