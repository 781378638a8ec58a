//! A PgBouncer of a single test, from the installed program.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::folder::Folder;
use super::postgres;

/// A pooler in front of a database, on a port of the loopback address. It ends when it is dropped.
pub struct PgBouncer {
    child: Child,
    _folder: Folder,
    /// The URL of the database, by way of the pooler.
    pub url: String,
}

impl PgBouncer {
    /// A pooler for a database of the tests' PostgreSQL, with these lines in its configuration.
    /// `None` if it is not installed: then the test ends. With `CI` set that is a failure.
    #[allow(clippy::print_stderr)] // The reason why a test does not run belongs in its output.
    pub fn start(database: &str, settings: &str) -> Option<Self> {
        let version = Command::new("pgbouncer").arg("--version").stdout(Stdio::null()).status();
        if version.is_err() {
            assert!(std::env::var_os("CI").is_none(), "wanted pgbouncer");
            eprintln!("skipped: pgbouncer is not installed");
            return None;
        }
        let (place, name) = database.rsplit_once('/').unwrap();
        let (_, behind) = place.rsplit_once(':').unwrap();
        let (folder, port) = (Folder::new(), postgres::port());
        let file = folder.write(
            "pgbouncer.ini",
            format!(
                "[databases]
                * = host=127.0.0.1 port={behind} user=tests
                [pgbouncer]
                listen_addr = 127.0.0.1
                listen_port = {port}
                unix_socket_dir =
                auth_type = any
                {settings}"
            ),
        );
        let mut command = Command::new("pgbouncer");
        // It refuses to run as root, and can switch to another user.
        let user: &[&str] = if postgres::is_root() { &["-u", "nobody"] } else { &[] };
        let mut child = command.args(user).arg(&file).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (mut lines, mut said) = (log.lines().map_while(Result::ok), String::new());
        while !said.contains("process up") {
            said += &lines.next().unwrap_or_else(|| panic!("PgBouncer does not start: {said}"));
        }
        // Its later output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("postgres://tests@127.0.0.1:{port}/{name}");
        Some(Self { child, _folder: folder, url })
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
