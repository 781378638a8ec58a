//! The attacker is its own process, so that its CPU time is separate from the server's.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::link::{Seen, Target};
use crate::process::cpu;
use crate::scenario::Scenario;
use crate::tls;

/// The time slot in which the load of an attacker is recorded and imitated.
pub(crate) const SLOT: Duration = Duration::from_millis(50);

/// The report of an attacker.
#[derive(Default, Debug)]
pub(crate) struct Report {
    /// Its connections, and how many of them the server has closed.
    pub(crate) opened: usize,
    pub(crate) cut: usize,
    /// Failures of calls that must succeed.
    pub(crate) broken: Vec<String>,
    /// Figures for readers.
    pub(crate) note: String,
}

impl Report {
    /// The connections of the attack.
    pub(crate) fn of<'a>(seen: impl IntoIterator<Item = &'a Arc<Seen>>) -> Self {
        let mut report = Self::default();
        for seen in seen {
            report.opened += 1;
            report.cut += usize::from(seen.is_cut());
            if let Some(goaway) = seen.goaway() {
                report.note = format!("GOAWAY {goaway}");
            }
        }
        report
    }

    pub(crate) fn noting(mut self, note: impl Into<String>) -> Self {
        let note = note.into();
        self.note = if self.note.is_empty() { note } else { format!("{}, {note}", self.note) };
        self
    }
}

/// The process, as its parent sees it.
pub(crate) struct Attacker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

fn this_program(arguments: &[String]) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    (child, input, BufReader::new(output))
}

impl Attacker {
    /// Returns when the attacker has prepared the bytes that it will send.
    pub(crate) fn prepare(scenario: &str, target: &Target, ca: Option<&str>) -> Self {
        let seconds = target.time.as_secs_f64().to_string();
        let mut arguments =
            vec!["attack".to_owned(), scenario.to_owned(), target.address.to_string(), seconds];
        arguments.extend(ca.map(str::to_owned));
        let (child, input, output) = this_program(&arguments);
        let mut attacker = Self { child, input: Some(input), output };
        assert_eq!(attacker.line().as_deref(), Some("ready"), "the attacker is prepared");
        attacker
    }

    /// A stand-in that only uses the CPU, for this time in each slot.
    pub(crate) fn stand_in(load: &[Duration]) -> Self {
        let (child, mut input, output) = this_program(&["stand-in".to_owned()]);
        for busy in load {
            writeln!(input, "{}", busy.as_micros()).unwrap();
        }
        writeln!(input, "end").unwrap();
        let mut attacker = Self { child, input: Some(input), output };
        assert_eq!(attacker.line().as_deref(), Some("ready"), "the stand-in is prepared");
        attacker
    }

    pub(crate) fn begin(&mut self) {
        writeln!(self.input.as_mut().unwrap(), "go").unwrap();
    }

    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.child.id())
    }

    /// The exact CPU time of its only thread (the kernel's
    /// Documentation/scheduler/sched-stats.rst).
    pub(crate) fn on_cpu(&self) -> Duration {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = fs::read_to_string(path).unwrap_or_default();
        let nanos = text.split_whitespace().next().and_then(|it| it.parse().ok());
        nanos.map_or_else(|| self.cpu(), Duration::from_nanos)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| line.trim_end().to_owned())
    }

    /// Waits for its report.
    pub(crate) fn finish(mut self) -> Report {
        drop(self.input.take());
        let mut report = Report::default();
        while let Some(line) = self.line() {
            let (name, value) = line.split_once(' ').unwrap_or((&line, ""));
            match name {
                "opened" => report.opened = value.parse().unwrap(),
                "cut" => report.cut = value.parse().unwrap(),
                "broken" => report.broken.push(value.to_owned()),
                "note" => report.note = value.to_owned(),
                _ => {}
            }
        }
        if !self.child.wait().unwrap().success() {
            report.broken.push("the attacker failed".to_owned());
        }
        report
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for_go() {
    println!("ready");
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

/// The work of the attacking process.
pub(crate) fn attack(scenario: &Scenario, arguments: &[String]) {
    let [address, seconds, ca @ ..] = arguments else { panic!("an address and a time") };
    let time = Duration::from_secs_f64(seconds.parse().unwrap());
    let tls = ca.first().map(|ca| tls::connector(ca));
    let address = address.parse().unwrap();
    let mut target = Target { address, tls, token: None, time, until: None };
    // One thread may use one core, which is half of the smallest server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begin = scenario.prepare();
    wait_for_go();
    let report = runtime.block_on(async {
        target.until = Some(tokio::time::Instant::now() + time);
        let patience = time + Duration::from_secs(3);
        tokio::time::timeout(patience, begin(target)).await.unwrap_or_else(|_| Report {
            broken: vec!["the attack did not end".to_owned()],
            ..Report::default()
        })
    });
    println!("opened {}\ncut {}\nnote {}", report.opened, report.cut, report.note);
    for broken in report.broken.iter().take(3) {
        println!("broken {broken}");
    }
    // Without the runtime, which would wait for blocked tasks.
    std::process::exit(0);
}

/// The work of the stand-in: it uses the CPU for this time in each slot, evenly.
pub(crate) fn stand_in() {
    let lines = std::io::stdin().lines().map_while(Result::ok);
    let slots = lines.map_while(|line| line.parse().ok()).map(Duration::from_micros);
    let slots: Vec<_> = slots.collect();
    wait_for_go();
    const PARTS: u32 = 10;
    let mut part_end = Instant::now();
    for busy in slots {
        for _ in 0..PARTS {
            let busy_end = Instant::now() + busy / PARTS;
            while Instant::now() < busy_end {
                std::hint::spin_loop();
            }
            part_end += SLOT / PARTS;
            std::thread::sleep(part_end.saturating_duration_since(Instant::now()));
        }
    }
}
