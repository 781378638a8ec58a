//! The file: who may have it open, and how, and whether it is in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{Durability, StoreError, error};

/// How long a call waits for another program that has the database locked, such as a backup by
/// SQLite's own tools: they hold it for moments.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What the log is cut back to after a burst, in bytes: twice what it usually has.
pub(super) const LOG_LIMIT: u32 = 32 << 20;

/// What the writer keeps of the database in memory, in KiB: the inner pages of a hundred million
/// users, and the pages of a large transaction.
const WRITER_CACHE: u32 = 16 << 10;

/// Likewise, of each reader: pages are read in order, or from the cache of the operating system.
const READER_CACHE: u32 = 2 << 10;

/// For whom a connection is.
#[derive(Clone, Copy)]
pub(super) enum Access {
    Read,
    Write(Durability),
    /// For somebody who leaves everything as it was.
    Inspect,
}

/// Where a database really is: SQLite keeps its log beside what a symbolic link leads to, and names that
/// begin at the root are those that others look for.
pub(super) fn resolve(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| match (path.parent(), path.file_name()) {
        // There is no such file yet. What else may be wrong is told when it is opened.
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            fs::canonicalize(parent).map_or_else(|_| path.into(), |parent| parent.join(name))
        }
        _ => path.into(),
    })
}

/// Opens a connection, which blocks.
pub(super) fn open(path: &Path, access: Access) -> Result<Connection, StoreError> {
    connect(path, access).map_err(|error| error::of_file(path, &error))
}

fn connect(path: &Path, access: Access) -> rusqlite::Result<Connection> {
    // Each connection has one thread. The path is no URI, whatever it begins with.
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_WRITE;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, matches!(access, Access::Write(_)));
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Or else a damaged schema could run what it likes.
    connection.pragma_update(None, "trusted_schema", false)?;
    // SQLite takes a negative number for KiB.
    let cache =
        |kibibytes: u32| connection.pragma_update(None, "cache_size", -i64::from(kibibytes));
    match access {
        Access::Read => {
            cache(READER_CACHE)?;
            connection.pragma_update(None, "query_only", true)?;
        }
        // A log that a killed server has left is for the next one. Without one, what SQLite makes is
        // gone again when it is closed.
        Access::Inspect if beside(path, LOG).exists() => {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        Access::Inspect => {}
        Access::Write(durability) => {
            cache(WRITER_CACHE)?;
            let synchronous = match durability {
                Durability::Full => "FULL",
                Durability::Relaxed => "NORMAL",
            };
            connection.pragma_update(None, "synchronous", synchronous)?;
            // The writer does it: see `checkpoints.rs`.
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            connection.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
        }
    }
    Ok(connection)
}

/// Whether there can be files in the folder of a database: makes one, and removes it.
pub(super) fn try_folder(database: &Path) -> Result<(), StoreError> {
    let path = beside(database, "-check");
    let made = make_private(&path).and_then(|_| fs::remove_file(&path));
    made.map_err(|error| cannot_open(database, &error))
}

/// Makes a file that nobody but this user can read or write, whatever the umask is. SQLite makes its own
/// files beside a database like the database.
pub(super) fn make_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::fs::Permissions;
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(PRIVATE).open(path)?;
        file.set_permissions(Permissions::from_mode(PRIVATE))?;
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

/// For the owner alone.
#[cfg(unix)]
const PRIVATE: u32 = 0o600;

/// Why a file cannot be opened or made, and what can be done about it.
pub(super) fn cannot_open(path: &Path, error: &io::Error) -> StoreError {
    let folder = path.parent().unwrap_or(path).display();
    let path = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            StoreError::full(format!("cannot make {path}: {error}"))
        }
        ErrorKind::NotFound => StoreError::unavailable(format!(
            "cannot make {path}: there is no folder {folder}; make it, or name another one"
        )),
        ErrorKind::PermissionDenied => StoreError::unavailable(format!(
            "cannot make or open {path}: this user may not write in {folder}; change its owner or \
             permissions, or name another folder"
        )),
        ErrorKind::ReadOnlyFilesystem => StoreError::unavailable(format!(
            "cannot make or open {path}: the file system can only be read"
        )),
        ErrorKind::IsADirectory => StoreError::unavailable(format!(
            "{path} is a folder: wanted a file in it, such as users.db"
        )),
        _ => StoreError::unavailable(format!("cannot open {path}: {error}")),
    }
}

/// The files that a store consists of, as they were when it was opened.
pub(super) struct Files {
    database: PathBuf,
    all: Vec<(PathBuf, Identity)>,
}

impl Files {
    /// Of a database that is open.
    pub(super) fn of(database: &Path) -> Result<Self, StoreError> {
        let cannot =
            |path: &Path, error| StoreError::unavailable(format!("{}: {error}", path.display()));
        let identified = |path: PathBuf| match identity(&path) {
            Ok(opened) => Ok((path, opened)),
            Err(error) => Err(cannot(&path, error)),
        };
        let paths = [database.into(), beside(database, LOG), beside(database, LOCK)];
        let all = paths.into_iter().map(identified).collect::<Result<_, _>>();
        Ok(Self { database: database.into(), all: all? })
    }

    /// Whether they still are what everybody finds under their names: SQLite does not notice if they are
    /// moved or removed, and writes on to what nobody will ever read.
    pub(super) fn are_in_place(&self) -> Result<(), String> {
        self.all.iter().try_for_each(|(path, opened)| match identity(path) {
            Ok(there) if there == *opened => Ok(()),
            Ok(_) => Err(format!("{} is another file by now", path.display())),
            Err(error) => Err(format!("{}: {error}", path.display())),
        })
    }

    /// Whether the file system has become one that cannot be written.
    pub(super) fn may_be_written(&self) -> Result<(), String> {
        // Of the lock, since of the database it would undo the locks of SQLite.
        match OpenOptions::new().write(true).open(beside(&self.database, LOCK)) {
            // That there are no file descriptors left is another matter.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Err(error.to_string()),
            _ => Ok(()),
        }
    }
}

/// What tells a file from another one in its place.
#[cfg(unix)]
pub(super) type Identity = (u64, u64);

#[cfg(unix)]
pub(super) fn identity_of(file: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

/// Elsewhere files that are open cannot be replaced.
#[cfg(not(unix))]
pub(super) type Identity = ();

#[cfg(not(unix))]
pub(super) fn identity_of(_: &fs::Metadata) -> Identity {}

pub(super) fn identity(path: &Path) -> io::Result<Identity> {
    Ok(identity_of(&fs::metadata(path)?))
}

/// Warns of a database with several names: SQLite looks for the log, which may have the latest changes,
/// beside the name under which it is opened.
#[cfg(unix)]
pub(super) fn warn_of_other_names(database: &Path) {
    use std::os::unix::fs::MetadataExt;
    if let Ok(file) = fs::metadata(database)
        && file.nlink() > 1
    {
        tracing::warn!(
            path = %database.display(),
            names = file.nlink(),
            "the database has several names (hard links): always open it under the same one, or the \
             changes in its log are missed"
        );
    }
}

#[cfg(not(unix))]
pub(super) fn warn_of_other_names(_: &Path) {}

/// Of the file that is locked.
pub(super) const LOCK: &str = "-lock";

/// Of SQLite's write-ahead log, which is there while the database is open.
pub(super) const LOG: &str = "-wal";

/// Of the index of that log.
pub(super) const INDEX: &str = "-shm";

/// Of the journal that SQLite keeps where there is no log.
pub(super) const JOURNAL: &str = "-journal";

pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
