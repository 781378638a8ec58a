//! Whole calls of the user service over a pipe in memory: what the server itself does for a call,
//! from the bytes that arrive to those that leave.
//!
//! `calls WORKLOAD COUNT` serves that many calls. `benches/instructions` runs it under cachegrind
//! with two counts and takes the difference, which is nearly the same in every run.
//!
//! `calls WORKLOAD COUNT HOST:PORT` makes them to a server that listens there: `benches/pgo` trains
//! one so.

mod workloads;

use mimalloc::MiMalloc;

use self::workloads::{WORKLOADS, run};

/// That of `user-server`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    match &args[..] {
        [name, count, address @ ..] if address.len() <= 1 => {
            let workload = WORKLOADS.iter().find(|workload| workload.name == name);
            let workload = workload.unwrap_or_else(|| panic!("no workload {name}"));
            let count = count.parse().expect("a number of calls");
            run(workload, count, address.first().map(|address| &**address));
        }
        // As a test: every workload can be served.
        [] => WORKLOADS.iter().for_each(|workload| run(workload, 32, None)),
        _ => panic!("usage: calls [WORKLOAD COUNT [HOST:PORT]]"),
    }
}
