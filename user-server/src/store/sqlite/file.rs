//! The database file: how it is opened, and whether it is still in its place.

use std::error::Error;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{Durability, StoreError, error};

/// How long a call waits while another program has locked the database, such as a backup by SQLite's own tools. They
/// hold the lock for moments.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The size to which the log is truncated after a burst, in bytes: eight times its usual size.
pub(super) const LOG_LIMIT: u32 = 32 << 20;

/// The page cache of the writer, in KiB. It fits the inner pages of a hundred million users, and the pages of a large
/// transaction.
const WRITER_CACHE: u32 = 8 << 10;

/// The page cache of each reader, in KiB. Pages are read in order, or from the cache of the operating system.
const READER_CACHE: u32 = 1 << 10;

/// The purpose of a connection.
#[derive(Clone, Copy)]
pub(super) enum Access {
    Read,
    Write(Durability),
    /// Inspection, which changes nothing.
    Inspect,
}

/// The absolute path of a database, without symbolic links. SQLite keeps the log next to the target of a link.
pub(super) fn resolve(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| match (path.parent(), path.file_name()) {
        // The file does not exist yet. Opening it reports any other error.
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            fs::canonicalize(parent).map_or_else(|_| path.into(), |parent| parent.join(name))
        }
        _ => path.into(),
    })
}

/// Opens a connection. It blocks.
pub(super) fn open(path: &Path, access: Access) -> Result<Connection, StoreError> {
    connect(path, access).map_err(|error| error::of_file(path, &error))
}

fn connect(path: &Path, access: Access) -> rusqlite::Result<Connection> {
    // Each connection is used by one thread. The path is not a URI, even if it looks like one.
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_WRITE;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, matches!(access, Access::Write(_)));
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Otherwise a manipulated schema could call any function.
    connection.pragma_update(None, "trusted_schema", false)?;
    // SQLite takes a negative number for KiB.
    let cache =
        |kibibytes: u32| connection.pragma_update(None, "cache_size", -i64::from(kibibytes));
    match access {
        Access::Read => {
            cache(READER_CACHE)?;
            connection.pragma_update(None, "query_only", true)?;
        }
        // The log of a killed server is kept for the next one. If there is none, SQLite removes its own log when the
        // connection is closed.
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
            // The writer runs checkpoints itself: see `checkpoints.rs`.
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            connection.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
        }
    }
    Ok(connection)
}

/// Checks that files can be created in the folder of a database, by creating and removing one.
pub(super) fn try_folder(database: &Path) -> Result<(), StoreError> {
    let path = beside(database, "-check");
    let made = make_private(&path).and_then(|_| fs::remove_file(&path));
    made.map_err(|error| cannot_open(database, &error))
}

/// Creates a file that only this user can read and write, whatever the umask is. SQLite gives its other files the
/// permissions of the database.
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

/// The permissions for the owner only.
#[cfg(unix)]
const PRIVATE: u32 = 0o600;

/// The error of opening or creating a file, with advice.
pub(super) fn cannot_open(path: &Path, error: &io::Error) -> StoreError {
    let folder = path.parent().unwrap_or(path).display();
    let path = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            StoreError::full(format!("cannot create {path}: {error}"))
        }
        ErrorKind::NotFound => StoreError::unavailable(format!(
            "cannot create {path}: the folder {folder} does not exist; create it, or use another one"
        )),
        ErrorKind::PermissionDenied => StoreError::unavailable(format!(
            "cannot create or open {path}: this user may not write to {folder}; change its owner or \
             permissions, or use another folder"
        )),
        ErrorKind::ReadOnlyFilesystem => StoreError::unavailable(format!(
            "cannot create or open {path}: the file system is read-only"
        )),
        ErrorKind::IsADirectory => StoreError::unavailable(format!(
            "{path} is a folder: use a file in it, such as users.db"
        )),
        _ => StoreError::unavailable(format!("cannot open {path}: {error}")),
    }
}

/// The files of an open store.
pub(super) struct Files {
    database: PathBuf,
    all: Vec<(PathBuf, Identity)>,
}

impl Files {
    /// The files of a database that is open.
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

    /// Checks that the files are still found under their names. SQLite does not notice if they are moved or removed,
    /// and continues to write to files that nothing will read.
    ///
    /// # Errors
    /// The first file that is not in place.
    pub(super) fn are_in_place(&self) -> Result<(), Misplaced> {
        for (path, opened) in &self.all {
            match identity(path) {
                Ok(found) if found == *opened => {}
                Ok(_) => return Err(Misplaced { path: path.clone(), error: None }),
                Err(error) => return Err(Misplaced { path: path.clone(), error: Some(error) }),
            }
        }
        Ok(())
    }

    /// Fails if the file system has become read-only.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        // Opens the lock file. Closing the database would release the locks of SQLite.
        match OpenOptions::new().write(true).open(beside(&self.database, LOCK)) {
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Err(error),
            // Other errors, such as a lack of file descriptors, say nothing about the file system.
            _ => Ok(()),
        }
    }
}

/// A file of the store is no longer found under its name.
#[derive(Debug)]
pub(super) struct Misplaced {
    path: PathBuf,
    /// `None` if there is another file.
    error: Option<io::Error>,
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            None => write!(f, "{} was replaced by another file", self.path.display()),
            Some(error) => write!(f, "{}: {error}", self.path.display()),
        }
    }
}

impl Error for Misplaced {
    /// The source of the I/O error: the `Display` text includes the error itself.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_ref()?.source()
    }
}

/// Identifies a file, so that another file of the same name is noticed.
#[cfg(unix)]
pub(super) type Identity = (u64, u64);

#[cfg(unix)]
pub(super) fn identity_of(file: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

/// On other systems an open file cannot be replaced.
#[cfg(not(unix))]
pub(super) type Identity = ();

#[cfg(not(unix))]
pub(super) fn identity_of(_: &fs::Metadata) -> Identity {}

pub(super) fn identity(path: &Path) -> io::Result<Identity> {
    Ok(identity_of(&fs::metadata(path)?))
}

/// Warns if a database has several names. SQLite looks for the log, which may have the latest changes, next to the name
/// under which the database is opened.
#[cfg(unix)]
pub(super) fn warn_of_other_names(database: &Path) {
    use std::os::unix::fs::MetadataExt;
    if let Ok(file) = fs::metadata(database)
        && file.nlink() > 1
    {
        tracing::warn!(
            path = %database.display(),
            names = file.nlink(),
            "the database has several names (hard links): always open it under the same name, or the \
             changes in its log are missing"
        );
    }
}

#[cfg(not(unix))]
pub(super) fn warn_of_other_names(_: &Path) {}

/// The suffix of the lock file.
pub(super) const LOCK: &str = "-lock";

/// The suffix of SQLite's write-ahead log, which exists while the database is open.
pub(super) const LOG: &str = "-wal";

/// The suffix of the index of that log.
pub(super) const INDEX: &str = "-shm";

/// The suffix of the journal that SQLite uses without a write-ahead log.
pub(super) const JOURNAL: &str = "-journal";

pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
