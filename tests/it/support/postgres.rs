//! A PostgreSQL server of the tests' own, from the programs that are installed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::folder::{Folder, text};
use crate::tls::Identity;

/// A server on a free port of the loopback address. It ends when it is dropped.
pub struct Postgres {
    programs: PathBuf,
    folder: Folder,
    port: u16,
    running: Mutex<Option<Child>>,
}

/// The server that tests share, each with a database of its own; `None` if there is no PostgreSQL
/// here, which CI does not let pass.
#[allow(clippy::print_stderr)] // A test that does not run should say so.
pub fn shared() -> Option<Arc<Postgres>> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let Some(programs) = programs() else {
        assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
        eprintln!("skipped: not installed: PostgreSQL");
        return None;
    };
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    Some(shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Postgres::start(programs));
        *shared = Arc::downgrade(&server);
        server
    }))
}

/// A server for one test alone, which may stop it.
pub fn own() -> Option<Arc<Postgres>> {
    shared()?;
    programs().map(|programs| Arc::new(Postgres::start(programs)))
}

/// Where `initdb`, `postgres` and `psql` are: Debian keeps them out of the path.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = debian.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let has_all = |folder: &PathBuf| {
        ["initdb", "postgres", "psql"].iter().all(|program| folder.join(program).exists())
    };
    folders.into_iter().rev().chain(std::env::split_paths(&path)).find(has_all)
}

impl Postgres {
    fn start(programs: PathBuf) -> Self {
        let folder = Folder::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { programs, folder, port, running: Mutex::new(None) };
        let data = text(&server.data());
        std::fs::create_dir(&data).unwrap();
        // It refuses to run as root.
        if is_root() {
            assert!(Command::new("chown").args(["nobody", &data]).status().unwrap().success());
        }
        let initialized = server
            .command("initdb")
            .args(["--pgdata", &data, "--username", "tests", "--auth", "trust"])
            .args(["--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .output()
            .unwrap();
        assert!(initialized.status.success(), "{initialized:?}");
        server.resume();
        server
    }

    fn data(&self) -> PathBuf {
        self.folder.path("data")
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = Command::new(if is_root() { Path::new("setpriv") } else { &program });
        if is_root() {
            command.args(["--reuid=nobody", "--clear-groups", "--"]).arg(&program);
        }
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Starts it, if it was stopped, and waits until it answers.
    pub fn resume(&self) {
        let mut running = self.running.lock().unwrap();
        if running.is_some() {
            return;
        }
        let child = self
            .command("postgres")
            .args(["-D", &text(&self.data()), "-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            // That is about the disk, which no test here takes away.
            .args(["-c", "fsync=off", "-c", "max_connections=400"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *running = Some(child);
        drop(running);
        let deadline = std::time::Instant::now() + super::PATIENCE;
        while self.run_sql("postgres", "SELECT 1").is_err() {
            assert!(std::time::Instant::now() < deadline, "PostgreSQL does not start");
        }
    }

    /// Starts it anew, and now it speaks TLS to those who ask for it.
    pub fn speak_tls(&self, identity: &Identity) {
        self.stop();
        let data = self.data();
        for (name, text) in [("server.crt", &identity.chain), ("server.key", &identity.key)] {
            std::fs::write(data.join(name), text).unwrap();
        }
        let key = text(&data.join("server.key"));
        assert!(Command::new("chmod").args(["600", &key]).status().unwrap().success());
        if is_root() {
            assert!(Command::new("chown").args(["nobody", &key]).status().unwrap().success());
        }
        std::fs::write(data.join("postgresql.auto.conf"), "ssl = on\n").unwrap();
        self.resume();
    }

    /// Stops it as a crash would.
    pub fn stop(&self) {
        if let Some(mut child) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            let pid = child.id().to_string();
            // SIGQUIT is its immediate shutdown: the processes that it has started end with it.
            let _ = Command::new("kill").args(["-s", "QUIT", &pid]).status();
            let _ = child.wait();
        }
    }

    /// A new, empty database.
    pub fn database(&self) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("users_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.run_sql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
        format!("postgres://tests@127.0.0.1:{}/{name}", self.port)
    }

    /// What psql prints for a statement.
    pub fn run_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--host", "127.0.0.1"])
            .args(["--port", &self.port.to_string(), "--username", "tests", "--dbname", database])
            .args(["--command", sql])
            .output()
            .unwrap();
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        let [stdout, stderr] = texts;
        if output.status.success() { Ok(stdout) } else { Err(stderr) }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
