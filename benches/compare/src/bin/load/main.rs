//! The load: one thread, requests encoded in advance, answers counted rather than decoded, so that it costs less than
//! any server. It stops at the first call that does not end as it should.
//!
//! The ids of the users are the first line of the standard input. What was measured goes to the standard output, as
//! JSON.

mod answers;
mod connection;
mod hpack;
mod io;
mod options;
mod process;
mod script;

use std::error::Error;
use std::io::Read;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::connection::Connection;
use crate::options::Options;
use crate::script::Script;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let options = Options::parse()?;
    let mut ids = String::new();
    std::io::stdin().read_line(&mut ids)?;
    let script = Script::new(&options, &ids)?;
    let mut run = Run::new(&options, &script)?;
    run.until_done()?;
    println!("{}", run.report());
    // The connections are still open.
    if options.hold {
        std::io::stdin().read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// Which calls there are still to be, and what has become of the others.
pub struct Ledger<'a> {
    pub script: &'a Script,
    /// When the events were seen that are being handled: one look at the clock for all of them.
    pub now: Instant,
    begun: u64,
    completed: u64,
    /// The number of calls after which no more are begun.
    limit: u64,
    /// Nanoseconds, of the calls that ended while it is measured.
    latencies: Vec<u32>,
    measuring: bool,
    closed_loop: bool,
}

impl Ledger<'_> {
    /// The number of the next call, if there is to be one.
    pub fn begin(&mut self) -> Option<u64> {
        let number = self.begun;
        (number < self.limit).then(|| {
            self.begun += 1;
            number
        })
    }

    /// Whether a call begins when another has ended.
    pub fn closed_loop(&self) -> bool {
        self.closed_loop
    }

    pub fn complete(&mut self, since: Instant) {
        self.completed += 1;
        if self.measuring {
            let nanos = self.now.saturating_duration_since(since).as_nanos();
            self.latencies.push(nanos.try_into().unwrap_or(u32::MAX));
        }
    }
}

struct Run<'a> {
    options: &'a Options,
    poll: Poll,
    connections: Vec<Connection>,
    ledger: Ledger<'a>,
    began: Instant,
    /// What the processes had used when the measurement began, and when it ended.
    from: Option<Reading>,
    to: Option<Reading>,
}

/// CPU times, in nanoseconds.
struct Reading {
    at: Instant,
    server: u64,
    load: u64,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, script: &'a Script) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for index in 0..options.connections {
            let mut connection = Connection::open(options, script)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(connection.socket(), Token(index), interest)?;
            // Ten thousand take a while to open, and servers close those that say nothing.
            connection.write(script)?;
            connections.push(connection);
        }
        let now = Instant::now();
        let ledger = Ledger {
            script,
            now,
            begun: 0,
            completed: 0,
            limit: options.calls.unwrap_or(u64::MAX),
            latencies: Vec::new(),
            measuring: false,
            closed_loop: options.rate.is_none(),
        };
        Ok(Self { options, poll, connections, ledger, began: now, from: None, to: None })
    }

    fn until_done(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(1024);
        if self.options.rate.is_none() {
            for connection in &mut self.connections {
                for _ in 0..self.options.streams {
                    connection.begin(&mut self.ledger);
                }
                connection.write(self.ledger.script)?;
            }
        }
        while !self.done()? {
            if let Some(rate) = self.options.rate {
                self.begin_what_is_due(rate)?;
            }
            // At a fixed rate it never sleeps: a wake-up takes longer than the calls.
            let wait = if self.options.rate.is_some() { 0 } else { 5 };
            self.poll.poll(&mut events, Some(Duration::from_millis(wait)))?;
            self.ledger.now = Instant::now();
            for event in &events {
                let connection = &mut self.connections[event.token().0];
                connection.read(&mut self.ledger)?;
                connection.write(self.ledger.script)?;
            }
        }
        Ok(())
    }

    /// Begins the calls whose time has come. Their latency counts from that time, however late it is by now.
    fn begin_what_is_due(&mut self, rate: f64) -> Result<(), Failure> {
        self.ledger.now = Instant::now();
        let due = ((self.ledger.now - self.began).as_secs_f64() * rate) as u64;
        while self.ledger.begun < due {
            let number = self.ledger.begun;
            let index = number as usize % self.connections.len();
            let connection = &mut self.connections[index];
            if connection.open_calls() >= self.options.streams {
                break;
            }
            let since = self.began + Duration::from_secs_f64(number as f64 / rate);
            connection.begin_at(&mut self.ledger, since);
            connection.write(self.ledger.script)?;
        }
        Ok(())
    }

    /// Begins and ends the measurement when it is time, and says whether it has ended.
    fn done(&mut self) -> Result<bool, Failure> {
        let (options, ledger) = (self.options, &mut self.ledger);
        let elapsed = self.began.elapsed().as_secs_f64();
        if self.from.is_none() && elapsed >= options.warmup {
            self.from = Some(Reading::now(options)?);
            ledger.measuring = true;
        }
        let end = match options.calls {
            Some(_) => ledger.completed == ledger.limit,
            None => elapsed >= options.warmup + options.seconds,
        };
        if end {
            self.to = Some(Reading::now(options)?);
        }
        Ok(end)
    }

    fn report(&mut self) -> String {
        let (Some(from), Some(to)) = (&self.from, &self.to) else {
            return "{\"calls\":0}".to_owned();
        };
        let latencies = &mut self.ledger.latencies;
        latencies.sort_unstable();
        let calls = latencies.len();
        let micros = |nanos: u32| f64::from(nanos) / 1000.0;
        let rank = |part: f64| {
            latencies.get(((calls as f64 * part) as usize).min(calls.max(1) - 1)).copied()
        };
        let percentile = |part| micros(rank(part).unwrap_or(0));
        let sum: u64 = latencies.iter().map(|nanos| u64::from(*nanos)).sum();
        let mean = sum as f64 / 1000.0 / calls.max(1) as f64;
        format!(
            "{{\"calls\":{calls},\"seconds\":{:.6},\"server_cpu\":{:.6},\"load_cpu\":{:.6},\
             \"mean_us\":{mean:.1},\"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1}}}",
            (to.at - from.at).as_secs_f64(),
            (to.server - from.server) as f64 / 1e9,
            (to.load - from.load) as f64 / 1e9,
            percentile(0.5),
            percentile(0.99),
            percentile(0.999),
        )
    }
}

impl Reading {
    fn now(options: &Options) -> Result<Self, Failure> {
        let server = match options.server_pid {
            Some(pid) => process::cpu_time(pid)?,
            None => 0,
        };
        Ok(Self { at: Instant::now(), server, load: process::cpu_time(std::process::id())? })
    }
}
