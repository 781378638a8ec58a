//! Metrics of the process itself.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Result};

/// The unit of processor times in `/proc` (USER_HZ): a hundredth of a second, whatever the tick rate of the
/// kernel is.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process metrics of Linux, under the standard names of Prometheus client libraries. Other systems have
/// only the start time.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    resident: Gauge,
    virtual_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    started: Gauge,
}

impl ProcessMetrics {
    /// The start time of the process is now.
    pub(super) fn new() -> Result<Self> {
        let started = Gauge::new(
            "process_start_time_seconds",
            "Start time of the process since the Unix epoch in seconds.",
        )?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        started.set(now.as_secs_f64());
        Ok(Self {
            cpu_seconds: Counter::new(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
            )?,
            resident: Gauge::new(
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
            )?,
            virtual_memory: Gauge::new(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
            )?,
            open_fds: Gauge::new("process_open_fds", "Number of open file descriptors.")?,
            max_fds: Gauge::new("process_max_fds", "Maximum number of open file descriptors.")?,
            threads: Gauge::new("process_threads", "Number of threads.")?,
            started,
        })
    }

    fn all(&self) -> [&dyn Collector; 7] {
        let Self { cpu_seconds, resident, virtual_memory, open_fds, max_fds, threads, started } =
            self;
        [cpu_seconds, resident, virtual_memory, open_fds, max_fds, threads, started]
    }

    /// Reads the current values from `/proc`. A missing value leaves its metric unchanged.
    fn read(&self) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kilobytes = |name| number_after(&status, name).map(|kilobytes| kilobytes * 1024.0);
        set(&self.resident, kilobytes("VmRSS:"));
        set(&self.virtual_memory, kilobytes("VmSize:"));
        set(&self.threads, number_after(&status, "Threads:"));
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        set(&self.max_fds, number_after(&limits, "Max open files"));
        // Reading the directory takes a file descriptor itself.
        let open = fs::read_dir("/proc/self/fd").map(|files| files.count().saturating_sub(1));
        set(&self.open_fds, open.ok().map(|count| count as f64));
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&stat) {
            self.cpu_seconds.inc_by((seconds - self.cpu_seconds.get()).max(0.0));
        }
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

fn set(gauge: &Gauge, value: Option<f64>) {
    if let Some(value) = value {
        gauge.set(value);
    }
}

/// The first number of the line that starts with `name`.
fn number_after(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time, from `/proc/self/stat` (proc_pid_stat(5)).
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name, in parentheses, may contain any character. The state after the name is field 3; utime and
    // stime are the fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(14 - 3);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_cpu_time_is_found_after_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 100 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn process_metrics_all_have_values() {
        let registry = prometheus::Registry::new();
        registry.register(Box::new(ProcessMetrics::new().unwrap())).unwrap();
        let families = registry.gather();
        assert_eq!(families.len(), 7);
        for family in families.iter().filter(|family| family.name() != "process_cpu_seconds_total")
        {
            let value = family.get_metric()[0].get_gauge().get_value();
            assert!(value > 0.0, "{} is {value}", family.name());
        }
    }
}
