//! A PostgreSQL server of the tests, from the installed programs.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::folder::{Folder, text};

/// A server on a free port of the loopback address. It ends when it is dropped.
pub struct Postgres {
    programs: PathBuf,
    folder: Folder,
    port: u16,
    running: Mutex<Option<Child>>,
}

/// The server that tests share, each with its own database. `None` without PostgreSQL on this
/// machine; with `CI` set that is a failure.
pub fn shared() -> Option<Arc<Postgres>> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let programs = programs()?;
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    Some(shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Postgres::start(programs));
        *shared = Arc::downgrade(&server);
        server
    }))
}

/// A server for a single test, which may stop it.
pub fn own() -> Option<Arc<Postgres>> {
    programs().map(|programs| Arc::new(Postgres::start(programs)))
}

/// The same with TLS only, with this certificate and this key.
pub fn own_with_tls(certificate: &str, key: &str) -> Option<Arc<Postgres>> {
    let server = Postgres::new(programs()?);
    server.configure("server.crt", certificate);
    server.configure("server.key", key);
    server.configure("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust");
    server.configure("postgresql.auto.conf", "ssl = on");
    server.resume();
    Some(Arc::new(server))
}

/// The folder of `initdb`, `postgres` and `psql`: on Debian they are not in `PATH`.
#[allow(clippy::print_stderr)] // The reason why a test does not run belongs in its output.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = debian.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let has_all = |folder: &PathBuf| {
        ["initdb", "postgres", "psql"].iter().all(|program| folder.join(program).exists())
    };
    let found = folders.into_iter().rev().chain(std::env::split_paths(&path)).find(has_all);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
        eprintln!("skipped: not installed: PostgreSQL");
    }
    found
}

impl Postgres {
    fn start(programs: PathBuf) -> Self {
        let server = Self::new(programs);
        server.resume();
        server
    }

    fn new(programs: PathBuf) -> Self {
        let folder = Folder::new();
        let server = Self { programs, folder, port: port(), running: Mutex::new(None) };
        let data = text(&server.data());
        std::fs::create_dir(&data).unwrap();
        give_away(&data);
        let initialized = server
            .command("initdb")
            .args(["--pgdata", &data, "--username", "tests", "--auth", "trust"])
            .args(["--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .output()
            .unwrap();
        assert!(initialized.status.success(), "{initialized:?}");
        server
    }

    /// Another server, which follows this one and is read-only until it is
    /// [promoted](Self::promote).
    pub fn standby(&self) -> Arc<Self> {
        let (programs, folder) = (self.programs.clone(), Folder::new());
        let standby = Self { programs, folder, port: port(), running: Mutex::new(None) };
        let data = text(&standby.data());
        std::fs::create_dir(&data).unwrap();
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
        give_away(&data);
        let copied = standby
            .command("pg_basebackup")
            .args(["--pgdata", &data, "--host", "127.0.0.1", "--port", &self.port.to_string()])
            .args([
                "--username",
                "tests",
                "--checkpoint=fast",
                "--write-recovery-conf",
                "--no-sync",
            ])
            .output()
            .unwrap();
        assert!(copied.status.success(), "{copied:?}");
        standby.resume();
        Arc::new(standby)
    }

    /// Makes a standby a writable server, and waits until it is one.
    pub fn promote(&self) {
        assert_eq!(self.run_sql("postgres", "SELECT pg_promote()").unwrap(), "t\n");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Writes a file of its data.
    fn configure(&self, file: &str, content: &str) {
        let path = self.data().join(file);
        std::fs::write(&path, content).unwrap();
        // It refuses a key that other users may read.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        give_away(&text(&path));
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

    /// Starts it, if it was stopped, and waits until it reports that it is ready.
    pub fn resume(&self) {
        let mut running = self.running.lock().unwrap();
        if running.is_some() {
            return;
        }
        let mut child = self
            .command("postgres")
            .args(["-D", &text(&self.data()), "-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            // Only the disk needs it, and no test here cuts the power.
            .args(["-c", "fsync=off", "-c", "max_connections=400"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        *running = Some(child);
        let (mut lines, mut said) = (log.lines().map_while(Result::ok), String::new());
        // A standby accepts "read-only connections".
        while !said.contains("ready to accept") {
            said += &lines.next().unwrap_or_else(|| panic!("PostgreSQL does not start: {said}"));
        }
        // Its later output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
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

    /// Stops all its processes, so that it answers nothing until it [wakes up](Self::wake).
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn wake(&self) {
        self.signal("CONT");
    }

    /// To all its processes: the first one starts the others, but not while it is stopped.
    fn signal(&self, name: &str) {
        let running = self.running.lock().unwrap();
        let first = running.as_ref().unwrap().id().to_string();
        // Some of the others may end meanwhile, which is no fault.
        let kill = |pids: &[&str]| Command::new("kill").args(["-s", name]).args(pids).output();
        assert!(kill(&[&first]).unwrap().status.success());
        let others = format!("/proc/{first}/task/{first}/children");
        let others = std::fs::read_to_string(others).unwrap();
        kill(&others.split_whitespace().collect::<Vec<_>>()).unwrap();
    }

    /// A new, empty database.
    pub fn database(&self) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("users_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.run_sql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
        format!("postgres://tests@127.0.0.1:{}/{name}", self.port)
    }

    /// The output of psql for a statement.
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

/// A free port that stays free while the server is stopped: below the ports that the system assigns
/// to clients and to the other servers of the tests.
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const PORTS: std::ops::Range<u16> = 20_000..30_000;
    let begin = std::process::id() as u16 % 100 * 100;
    let port = || {
        let count = begin + NEXT.fetch_add(1, Ordering::Relaxed);
        PORTS.start + count % PORTS.len() as u16
    };
    let mut ports = std::iter::repeat_with(port).take(PORTS.len());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Gives the folder to the user that the server runs as: it refuses to run as root.
fn give_away(path: &str) {
    if is_root() {
        assert!(Command::new("chown").args(["nobody", path]).status().unwrap().success());
    }
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
