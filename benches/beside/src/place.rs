//! Where all of them meet: a folder in memory, which goes with the measurement.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::Outcome;

/// What the memory that iceoryx2 shares is named with, before the number of the process that measures.
const PREFIX: &str = "pymq-beside-";
const MEMORY: &str = "/dev/shm";

/// The folder. Whoever made it takes it away.
pub(crate) struct Place {
    path: String,
    is_ours: bool,
}

impl Place {
    pub(crate) fn new() -> Outcome<Self> {
        let path = format!("{MEMORY}/{PREFIX}{}", std::process::id());
        fs::create_dir_all(&path)?;
        // As a bus wants its directory.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(Self { path, is_ours: true })
    }

    /// The one that another process has made.
    pub(crate) fn at(path: &str) -> Self {
        Self { path: path.to_owned(), is_ours: false }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// What names in the memory begin with that cannot lie in the folder.
    pub(crate) fn prefix(&self) -> String {
        format!("{}_", self.path.rsplit('/').next().unwrap_or(PREFIX))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        // It is in memory, and ends with the machine at the latest. What zenoh leaves beside it when its
        // processes are killed, the next one that starts takes away.
        let _ = fs::remove_dir_all(&self.path);
        let prefix = self.prefix();
        for left in fs::read_dir(MEMORY).into_iter().flatten().flatten() {
            if left.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_file(left.path());
            }
        }
    }
}
