use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use super::AuthError;

/// The clock of some file systems ticks so slowly. A file changed so shortly before it was read may
/// change again without a new time of change.
const TICK: Duration = Duration::from_secs(2);

type Parse<T> = Box<dyn Fn(&[u8]) -> Result<T, String> + Send + Sync>;

/// What a file holds, read again when it has changed. One that cannot be used any more leaves what
/// was there before, and an error in the log.
pub(super) struct Watched<T> {
    path: PathBuf,
    parse: Parse<T>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

/// The file as it was at the last look.
struct Seen {
    stamp: Result<Stamp, String>,
    bytes: Vec<u8>,
}

#[derive(PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    /// Files are most often replaced by a rename, which may even bring an older time along.
    inode: u64,
    /// Not settled: to be read again all the same.
    fresh: bool,
}

impl<T> Watched<T> {
    /// Reads the file.
    pub(super) fn open(
        path: &Path,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, AuthError> {
        let (stamp, bytes) = read(path).map_err(|error| AuthError::of_file(path, error))?;
        let value = parse(&bytes).map_err(|error| AuthError::of_file(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            parse: Box::new(parse),
            current: RwLock::new(Arc::new(value)),
            seen: Mutex::new(Seen { stamp: Ok(stamp), bytes }),
        })
    }

    pub(super) fn current(&self) -> Arc<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the file, and tells whether there is something new in it.
    pub(super) fn refresh(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = fs::metadata(&self.path).map(|metadata| Stamp::of(&metadata));
        if matches!((&seen.stamp, &stamp), (Ok(old), Ok(new)) if old == new && !new.fresh) {
            return false;
        }
        match read(&self.path) {
            Ok((stamp, bytes)) => {
                seen.stamp = Ok(stamp);
                if bytes == seen.bytes {
                    return false;
                }
                seen.bytes = bytes;
            }
            Err(error) => {
                let error = error.to_string();
                // Once, not at every look.
                if !matches!(&seen.stamp, Err(known) if *known == error) {
                    self.complain(&error);
                    seen.stamp = Err(error);
                }
                return false;
            }
        }
        match (self.parse)(&seen.bytes) {
            Ok(value) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!(target: "balafon::auth", file = %self.path.display(), "reloaded");
                true
            }
            Err(error) => {
                self.complain(&error);
                false
            }
        }
    }

    fn complain(&self, error: &str) {
        let file = self.path.display();
        tracing::error!(target: "balafon::auth", %file, error, "cannot be used; what it held before stays in force");
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok();
        let age = modified.and_then(|time| SystemTime::now().duration_since(time).ok());
        let fresh = age.is_none_or(|age| age < TICK);
        Self { modified, len: metadata.len(), inode: inode(metadata), fresh }
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

/// The stamp is that from before the reading: a change in between is seen at the next look.
fn read(path: &Path) -> io::Result<(Stamp, Vec<u8>)> {
    let stamp = Stamp::of(&fs::metadata(path)?);
    Ok((stamp, fs::read(path)?))
}

/// Shows no contents: they may be keys.
impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.path).finish()
    }
}
