//! One process at a time: two locks, and a name for the process that has them.
//!
//! ```text
//!  users.db-lock   locked as a whole    by whoever opens the store under this name; also while a restore
//!                                       replaces the database
//!  users.db        one byte is locked   by whoever opens this file under any name: another hard link, a
//!                                       bind mount
//! ```
//!
//! Closing any handle on the database undoes the locks that SQLite has on it in this process ("POSIX
//! advisory locks" in its `os_unix.c`). So this handle is closed after those of SQLite, and a process does
//! not open a file for a second store.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::file::{Identity, LOCK, beside, cannot_open, identity, identity_of, make_private};
use super::{StoreError, copy};

/// What it takes to open a database on a disk that is full: the index of the log, which has 32 KiB at first.
const RESERVE: usize = 64 << 10;

/// The databases that stores of this process have open.
static OPEN: Mutex<Vec<Identity>> = Mutex::new(Vec::new());

/// That this process alone has the store open. Its end, however it comes, is the end of the lock.
pub(super) struct Lock {
    /// Beside the database; `None` if nobody has ever had one.
    beside: Option<File>,
    /// `None` if there is none, or it may not be written, which SQLite reports.
    database: Option<Database>,
    made: bool,
}

impl Lock {
    /// Makes the files if there are none.
    pub(super) fn take(database: &Path) -> Result<Self, StoreError> {
        let opened = Self::open(database, open_or_make, copy::complete_restore)?;
        opened.map_err(|in_use| StoreError::unavailable(in_use.of(database)))
    }

    /// The same without making any file: where there is none, nobody has the store open.
    pub(super) fn inspect(database: &Path) -> Result<Result<Self, InUse>, StoreError> {
        Self::open(database, open_if_there, |_| Ok(()))
    }

    /// Does what has to be done before the database is opened once the file beside it is locked.
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
        let mut lock = Self { beside: file, database: None, made: false };
        before(database)?;
        match Database::lock(database, open) {
            Ok((opened, made)) => (lock.database, lock.made) = (opened, made),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Err(InUse(database.into())));
            }
            // SQLite says so, or that it can only be read.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && database.exists() => {}
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem && database.exists() => {}
            Err(error) => return Err(cannot_open(database, &error)),
        }
        Ok(Ok(lock))
    }

    /// Holds some room on the disk, in the file beside the database.
    pub(super) fn hold_reserve(&self) {
        if let Some(file) = &self.beside
            && file.metadata().is_ok_and(|file| file.len() < RESERVE as u64)
        {
            // Without it, a disk that is full is all the same until the next start.
            let _ = (&*file).write_all(&[b'\n'; RESERVE]);
        }
    }

    /// Gives that room back. False if there was none.
    pub(super) fn give_reserve(&self) -> bool {
        let Some(file) = &self.beside else { return false };
        file.metadata().is_ok_and(|file| file.len() > 0) && file.set_len(0).is_ok()
    }

    /// Whether there was no database.
    pub(super) fn has_made_it(&self) -> bool {
        self.made
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that the process has just forked has it open until
        // it is another program. If that fails, closing it is all there is.
        let _ = self.beside.take().map(|file| file.unlock());
    }
}

/// A file of a store is locked by another process, or by another store of this one.
pub(super) struct InUse(pub(super) PathBuf);

impl InUse {
    /// Says so of a database, with the process that has it if that can be known.
    pub(super) fn of(&self, database: &Path) -> String {
        let text = format!("{} is in use by another process", database.display());
        let Some((process, name)) = holder::of(&self.0) else { return text };
        let name = name.strip_suffix(LOCK).unwrap_or(&name);
        format!("{text}: {process}, which has it as {name}")
    }
}

/// Opens a file to lock it, and says whether it was made for that; `None` where there is none.
type Open = fn(&Path) -> io::Result<(Option<File>, bool)>;

fn open_or_make(path: &Path) -> io::Result<(Option<File>, bool)> {
    match make_private(path) {
        Ok(file) => Ok((Some(file), true)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok((Some(OpenOptions::new().read(true).write(true).open(path)?), false))
        }
        Err(error) => Err(error),
    }
}

fn open_if_there(path: &Path) -> io::Result<(Option<File>, bool)> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok((Some(file), false)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((None, false)),
        Err(error) => Err(error),
    }
}

/// A database that is locked.
struct Database {
    file: File,
    identity: Identity,
}

impl Database {
    /// `WouldBlock` if another store has it.
    fn lock(path: &Path, open: Open) -> io::Result<(Option<Self>, bool)> {
        let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it is opened: closing it would undo the locks of the other store.
        if identity(path).is_ok_and(|identity| is_open(&all, identity)) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let (file, made) = open(path)?;
        let Some(file) = file else { return Ok((None, false)) };
        range::lock(&file)?;
        let identity = identity_of(&file.metadata()?);
        all.push(identity);
        Ok((Some(Self { file, identity }), made))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|identity| *identity != self.identity);
        // See the other lock.
        range::unlock(&self.file);
    }
}

/// Elsewhere than on Unix files have no identity here, and a file that is open cannot have another name.
fn is_open(all: &[Identity], identity: Identity) -> bool {
    cfg!(unix) && all.contains(&identity)
}

/// A lock of one byte that belongs to the open file, not to the process (OFD, fcntl_locking(2)).
#[cfg(target_os = "linux")]
mod range {
    use std::fs::File;
    use std::io::{self, ErrorKind};

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    /// Far behind the bytes that SQLite locks, which are at 1 GiB, and behind the end of any file.
    const BYTE: i64 = 1 << 62;

    pub(super) fn lock(file: &File) -> io::Result<()> {
        match set(file, libc::F_WRLCK) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error),
            // EACCES is the other errno for a lock that somebody has.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(ErrorKind::WouldBlock.into())
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    "the file system has no locks of open files: a server that opens the database \
                     under another name is not noticed"
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

/// Elsewhere there is no such lock, or it is in the way of SQLite's (flock of the BSDs).
#[cfg(not(target_os = "linux"))]
mod range {
    pub(super) fn lock(_: &std::fs::File) -> std::io::Result<()> {
        Ok(())
    }

    pub(super) fn unlock(_: &std::fs::File) {}
}

/// Who has a lock.
#[cfg(target_os = "linux")]
mod holder {
    use std::fs;
    use std::path::Path;

    use super::identity;

    /// The process, and the name under which it has the file, if this user may know it.
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
    fn a_lock_ends_although_a_child_has_its_file_open() {
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
