//! How often the server allocates for a call: `cargo bench --bench allocations`.

mod workloads;

use allocation_counter::measure;

use self::workloads::{WORKLOADS, run};

#[allow(clippy::print_stdout)] // It is what this program is for.
fn main() {
    for workload in &WORKLOADS {
        let [few, many] = [64, 192].map(|calls| measure(|| run(workload, calls, None)));
        let per_call = |few: u64, many: u64| (many - few) as f64 / 128.0;
        println!(
            "{:<18} {:>8.1} allocations, {:>9.0} bytes a call",
            workload.name,
            per_call(few.count_total, many.count_total),
            per_call(few.bytes_total, many.bytes_total),
        );
    }
}
