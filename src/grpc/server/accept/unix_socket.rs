use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The file of a Unix socket. Dropping this removes the file, unless another socket has replaced
/// it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl SocketFile {
    /// Listens on `path`. Replaces a socket file on which no process listens.
    pub(crate) async fn bind(path: &Path, mode: u32) -> io::Result<(Self, UnixListener)> {
        remove_if_stale(path).await?;
        let listener = UnixListener::bind(path)?;
        let id = id(&fs::symlink_metadata(path)?);
        let file = Self { path: path.to_owned(), id };
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok((file, listener))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|now| id(&now) == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket file that a crashed process has left. Only a connection attempt shows whether
/// a process still listens on it.
async fn remove_if_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => {
            let what = "the file exists and is not a socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full accept queue is an error too.
        Ok(_) | Err(_) => {
            let what = "the socket is in use by another process, or cannot be checked";
            Err(io::Error::new(io::ErrorKind::AddrInUse, what))
        }
    }
}

fn id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
