//! Two locks, so that only one process uses a store, and the process that holds them.
//!
//! ```text
//!  users.db-lock   locked as a whole    excludes processes that use this name of the database, and also
//!                                       covers the replacement by a restore
//!  users.db        one byte is locked   excludes processes that use another name of the same file: a hard
//!                                       link or a bind mount
//! ```
//!
//! Closing any handle on the database releases the locks of SQLite in this process ("POSIX advisory locks" in
//! its `os_unix.c`). So this handle is closed after those of SQLite, and a process never opens a file for a second
//! store.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::file::{Identity, LOCK, beside, cannot_open, identity, identity_of, make_private};
use super::{StoreError, restore};

/// The space that is needed to open a database on a full disk, in bytes. The index of the log takes 32 KiB at first.
const RESERVE: usize = 64 << 10;

/// The databases that are open in this process.
static OPEN: Mutex<Vec<Identity>> = Mutex::new(Vec::new());

/// The locks of a store that only this process has open. They end with the process, also if it is killed.
pub(super) struct Lock {
    /// The lock file; `None` if it does not exist.
    beside: Option<File>,
    /// `None` if the database does not exist, or if it is not writable, which SQLite reports.
    database: Option<Database>,
    created: bool,
}

impl Lock {
    /// Locks the store. Creates missing files.
    pub(super) fn take(database: &Path) -> Result<Self, StoreError> {
        let opened = Self::open(database, open_or_create, restore::complete)?;
        opened.map_err(|in_use| StoreError::unavailable(in_use.of(database)))
    }

    /// As [`take`](Self::take), without creating a file. If the files do not exist, no process has the store open.
    pub(super) fn inspect(database: &Path) -> Result<Result<Self, InUse>, StoreError> {
        Self::open(database, open_existing, |_| Ok(()))
    }

    /// Locks both files. `before` runs between the two, when the lock file is locked.
    fn open(
        database: &Path,
        open: Open,
        before: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<Result<Self, InUse>, StoreError> {
        let path = beside(database, LOCK);
        let (file, _) = open(&path).map_err(|error| cannot_open(&path, &error))?;
        match file.as_ref().map(File::try_lock) {
            None | Some(Ok(())) => {}
            Some(Err(TryLockError::WouldBlock)) => return Ok(Err(InUse(path))),
            Some(Err(TryLockError::Error(error))) => return Err(cannot_open(&path, &error)),
        }
        let mut lock = Self { beside: file, database: None, created: false };
        before(database)?;
        match Database::lock(database, open) {
            Ok((opened, created)) => (lock.database, lock.created) = (opened, created),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Err(InUse(database.into())));
            }
            // SQLite reports the error later, or that the file is read-only.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && database.exists() => {}
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem && database.exists() => {}
            Err(error) => return Err(cannot_open(database, &error)),
        }
        Ok(Ok(lock))
    }

    /// Reserves some space on the disk, in the lock file.
    pub(super) fn hold_reserve(&self) {
        if let Some(file) = &self.beside
            && file.metadata().is_ok_and(|file| file.len() < RESERVE as u64)
        {
            // A failure is ignored: the reserve only matters at the next start on a full disk.
            let _ = (&*file).write_all(&[b'\n'; RESERVE]);
        }
    }

    /// Releases the reserved space. False if there was none.
    pub(super) fn release_reserve(&self) -> bool {
        let Some(file) = &self.beside else { return false };
        file.metadata().is_ok_and(|file| file.len() > 0) && file.set_len(0).is_ok()
    }

    /// Whether the database was created.
    pub(super) fn has_created_it(&self) -> bool {
        self.created
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a forked child has it open until it runs another program. If unlocking
        // fails, closing is all that can be done.
        let _ = self.beside.take().map(|file| file.unlock());
    }
}

/// A file of the store is locked by another process, or by another store of this process.
pub(super) struct InUse(pub(super) PathBuf);

impl InUse {
    /// The error text for a database. It names the process that holds the lock, if that is known.
    pub(super) fn of(&self, database: &Path) -> String {
        let text = format!("{} is in use by another process", database.display());
        let Some((process, name)) = holder::of(&self.0) else { return text };
        let name = name.strip_suffix(LOCK).unwrap_or(&name);
        format!("{text}: {process}, which has opened it as {name}")
    }
}

/// Opens a file, and returns whether it was created. `None` if it does not exist.
type Open = fn(&Path) -> io::Result<(Option<File>, bool)>;

fn open_or_create(path: &Path) -> io::Result<(Option<File>, bool)> {
    match make_private(path) {
        Ok(file) => Ok((Some(file), true)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok((Some(OpenOptions::new().read(true).write(true).open(path)?), false))
        }
        Err(error) => Err(error),
    }
}

fn open_existing(path: &Path) -> io::Result<(Option<File>, bool)> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok((Some(file), false)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((None, false)),
        Err(error) => Err(error),
    }
}

/// A locked database.
struct Database {
    file: File,
    identity: Identity,
}

impl Database {
    /// # Errors
    /// `WouldBlock` if another store has locked it.
    fn lock(path: &Path, open: Open) -> io::Result<(Option<Self>, bool)> {
        let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        // Checked before opening: closing the file would release the locks of the other store.
        if identity(path).is_ok_and(|identity| is_open(&all, identity)) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let (file, created) = open(path)?;
        let Some(file) = file else { return Ok((None, false)) };
        range::lock(&file)?;
        let identity = identity_of(&file.metadata()?);
        all.push(identity);
        Ok((Some(Self { file, identity }), created))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|identity| *identity != self.identity);
        // Closing is not enough, as for the lock file.
        range::unlock(&self.file);
    }
}

/// Files have no identity on systems other than Unix, and an open file cannot have another name there.
fn is_open(all: &[Identity], identity: Identity) -> bool {
    cfg!(unix) && all.contains(&identity)
}

/// A lock of one byte that belongs to the open file, not to the process: an OFD lock, see fcntl_locking(2).
#[cfg(target_os = "linux")]
mod range {
    use std::fs::File;
    use std::io::{self, ErrorKind};

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    /// The position of the byte: beyond the bytes that SQLite locks at 1 GiB, and beyond the end of any file.
    const BYTE: i64 = 1 << 62;

    pub(super) fn lock(file: &File) -> io::Result<()> {
        match set(file, libc::F_WRLCK) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error),
            // EACCES is the other errno for a lock that is held.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(ErrorKind::WouldBlock.into())
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    "the file system has no OFD locks: a server that opens the database under another \
                     name is not noticed"
                );
                Ok(())
            }
        }
    }

    pub(super) fn unlock(file: &File) {
        let _ = set(file, libc::F_UNLCK);
    }

    fn set(file: &File, what: i32) -> io::Result<()> {
        let lock = libc::flock {
            l_type: what as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: BYTE,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(file, FcntlArg::F_OFD_SETLK(&lock))?;
        Ok(())
    }
}

/// Other systems have no such lock, or it conflicts with SQLite's locks (flock of the BSDs).
#[cfg(not(target_os = "linux"))]
mod range {
    pub(super) fn lock(_: &std::fs::File) -> std::io::Result<()> {
        Ok(())
    }

    pub(super) fn unlock(_: &std::fs::File) {}
}

/// Finds the process that holds a lock.
#[cfg(target_os = "linux")]
mod holder {
    use std::fs;
    use std::path::Path;

    use super::identity;

    /// The process, and the name under which it has opened the file, if this user may read that.
    pub(super) fn of(path: &Path) -> Option<(u32, String)> {
        let wanted = identity(path).ok()?;
        for process in fs::read_dir("/proc").ok()?.flatten() {
            let Ok(pid) = process.file_name().to_str()?.parse::<u32>() else { continue };
            if pid == std::process::id() {
                continue;
            }
            let process = process.path();
            let Ok(open) = fs::read_dir(process.join("fd")) else { continue };
            for file in open.flatten() {
                let is_locked = || {
                    let info = process.join("fdinfo").join(file.file_name());
                    fs::read_to_string(info).is_ok_and(|info| info.contains("\nlock:"))
                };
                if identity(&file.path()).is_ok_and(|it| it == wanted) && is_locked() {
                    let name = fs::read_link(file.path()).ok()?.display().to_string();
                    return Some((pid, name));
                }
            }
        }
        None
    }
}

#[cfg(not(target_os = "linux"))]
mod holder {
    pub(super) fn of(_: &std::path::Path) -> Option<(u32, String)> {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lock_ends_although_a_child_has_its_file() {
        let folder = std::env::temp_dir().join(format!("lock-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&folder).unwrap();
        let database = folder.join("users.db");
        let lock = Lock::take(&database).unwrap();
        let of_child = [
            lock.beside.as_ref().unwrap().try_clone().unwrap(),
            lock.database.as_ref().unwrap().file.try_clone().unwrap(),
        ];
        assert!(Lock::take(&database).is_err());
        drop(lock);
        assert!(Lock::take(&database).is_ok());
        drop(of_child);
        fs::remove_dir_all(folder).unwrap();
    }
}
