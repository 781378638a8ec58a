use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::AuthError;
use super::contents::{Contents, Summary};
use super::table::without_mark;
use crate::file_watch::{Change, FileWatch};
use crate::http_client::BoxError;

type Parse<T> = Box<dyn Fn(&[u8]) -> Result<T, BoxError> + Send + Sync>;

/// The contents of a file, which is read again when it changes. If the new contents are unusable or
/// empty, the last usable ones stay in use, and an error is logged.
///
/// It compares contents and not times: the file may be a link, or on the file system of another
/// machine.
pub(super) struct Watched<T> {
    path: PathBuf,
    parse: Parse<T>,
    current: RwLock<Arc<T>>,
    bytes: Mutex<FileWatch<Vec<u8>>>,
}

impl<T: Contents> Watched<T> {
    /// Reads the file.
    pub(super) fn open<E: Into<BoxError>>(
        path: &Path,
        parse: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, AuthError> {
        let parse = move |bytes: &[u8]| parse(bytes).map_err(Into::into);
        let bytes = fs::read(path).map_err(|error| AuthError::reading(path, error))?;
        let value = parse(&bytes).map_err(|error| AuthError::contents(path, error))?;
        if is_empty(&bytes) {
            tracing::warn!(target: "balafon::auth", file = %path.display(), "is empty");
        }
        log_remarks(&path.display(), &value.summary());
        Ok(Self {
            path: path.to_owned(),
            parse: Box::new(parse),
            current: RwLock::new(Arc::new(value)),
            bytes: Mutex::new(FileWatch::new(bytes)),
        })
    }

    pub(super) fn current(&self) -> Arc<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file, with the summary of its contents.
    pub(super) fn summary(&self) -> (&Path, Summary) {
        (&self.path, self.current().summary())
    }

    /// Reads the file, and returns whether new contents are in use.
    pub(super) fn refresh(&self) -> bool {
        let read = fs::read(&self.path).map_err(BoxError::from);
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.path.display();
        match bytes.observe(read, |bytes| self.replace(bytes)) {
            Change::Unchanged => false,
            Change::Replaced => {
                let summary = self.current().summary();
                let holds = summary.count();
                tracing::info!(target: "balafon::auth", %file, holds, "reloaded");
                log_remarks(&file, &summary);
                true
            }
            Change::Problem(error) => {
                tracing::error!(target: "balafon::auth", %file, %error, "cannot be used; what it held before stays in force");
                false
            }
        }
    }

    fn replace(&self, bytes: &[u8]) -> Result<(), BoxError> {
        if is_empty(bytes) {
            return Err(BecameEmpty.into());
        }
        let value = (self.parse)(bytes)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
        Ok(())
    }
}

/// A file has become empty. A write may have failed after it had emptied the file, on a full disk for
/// example.
#[derive(Debug)]
struct BecameEmpty;

impl fmt::Display for BecameEmpty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("has become empty: if it is to hold nothing, write a comment (#) into it")
    }
}

impl Error for BecameEmpty {}

/// Logs each skipped entry.
pub(super) fn log_remarks(file: &impl fmt::Display, summary: &Summary) {
    for why in summary.remarks() {
        tracing::warn!(target: "balafon::auth", %file, why, "passed over");
    }
}

fn is_empty(bytes: &[u8]) -> bool {
    without_mark(bytes).trim_ascii().is_empty()
}

/// Without the contents, which may be keys.
impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.path).finish()
    }
}
