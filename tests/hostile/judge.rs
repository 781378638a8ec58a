//! Runs a scenario and compares its measurements with the bounds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Report, SLOT};
use crate::bystander::{Bystander, Figures, Habit};
use crate::client::Client;
use crate::link::Target;
use crate::place::{Place, Setting};
use crate::process::{Server, cpu, machine};
use crate::scenario::{Rule, Scenario};

/// The memory above that of the idle server, at any time.
const MEMORY: u64 = 64 << 20;

/// The bystander's latency may be this many times that of the control ...
const P50: f64 = 1.5;
const P99: f64 = 2.0;

/// ... which counts as this at least: below it the scheduler dominates.
const P50_FLOOR: Duration = Duration::from_millis(1);
const P99_FLOOR: Duration = Duration::from_millis(4);

/// Beside batches, the p99 of creations may be this many times that of the idle control, without a
/// floor. All of them wait for the same disk and the same writer.
const P99_OF_CREATIONS: f64 = 10.0;

/// Attempts for latencies, because the machine does other work too: an excess that comes rarely is
/// not the server's. Memory, failures and floods have one attempt.
const TRIES: usize = 5;

/// Less CPU time than this counts as zero: its unit is 10 ms, and the bystander's share varies.
const NOISE: Duration = Duration::from_millis(50);

/// The duration of the control without an attacker, once for each setting.
const IDLE_CONTROL: Duration = Duration::from_secs(3);

pub(crate) struct Judge {
    place: Place,
    idle: HashMap<(Setting, Habit), Control>,
}

/// The bystander's results without the attack, and the server's work for it.
#[derive(Clone, Copy)]
struct Control {
    p50: Duration,
    p99: Duration,
    /// The server's CPU time for a second of the bystander's calls.
    cpu: f64,
}

struct Run {
    idle_memory: u64,
    peak_memory: u64,
    figures: Figures,
    server_cpu: Duration,
    attacker_cpu: Duration,
    /// The share of the machine that other processes used.
    others: f64,
    load: Vec<Duration>,
    report: Report,
    server_died: bool,
}

impl Judge {
    pub(crate) fn new() -> Self {
        Self { place: Place::new(), idle: HashMap::new() }
    }

    /// Prints a line and returns whether all bounds hold.
    pub(crate) fn holds(&mut self, scenario: &Scenario, setting: Setting) -> bool {
        let habit = scenario.habit;
        let idle = match self.idle.get(&(setting, habit)) {
            Some(idle) => *idle,
            None => {
                let idle = self.control(setting, habit, &[], IDLE_CONTROL);
                *self.idle.entry((setting, habit)).or_insert(idle)
            }
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let run = self.run(scenario, setting);
            let faults = faults(scenario, &run, idle);
            let mut control = idle;
            let mut slow = too_slow(habit, &run.figures, control);
            if slow.is_some() && faults.is_empty() {
                // The cause may be the CPU time of the attacker rather than the server's work.
                control = self.control(setting, habit, &run.load, scenario.time);
                slow = too_slow(habit, &run.figures, control);
                if slow.is_some() && tries < TRIES {
                    continue;
                }
            }
            let all: Vec<_> = faults.into_iter().chain(slow).collect();
            let verdict = if all.is_empty() { "ok  " } else { "FAIL" };
            println!("{verdict} {:<34} {setting}: {}", scenario.name, line(&run, control, idle));
            for fault in &all {
                println!("     {fault}");
            }
            return all.is_empty();
        }
    }

    fn control(
        &mut self,
        setting: Setting,
        habit: Habit,
        load: &[Duration],
        time: Duration,
    ) -> Control {
        let (server, target, user) = self.serve(setting, time);
        let bystander = Bystander::connect(&target, &user, habit);
        let mut stand_in = Attacker::stand_in(load);
        let before = server.cpu();
        bystander.start(time);
        stand_in.begin();
        std::thread::sleep(time);
        let cpu = (server.cpu() - before).as_secs_f64() / time.as_secs_f64();
        let Figures { p50, p99, failures, .. } = bystander.finish();
        assert!(failures.is_empty(), "calls fail without an attack: {failures:?}");
        Control { p50, p99, cpu }
    }

    fn serve(&mut self, setting: Setting, time: Duration) -> (Server, Target, String) {
        let (server, tls) = self.place.start(setting);
        let token = setting.auth.then(|| self.place.token.clone());
        let target = Target { address: server.address, tls, token, time, until: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let user = runtime.block_on(async {
            let client = Client::connect(&target).await.unwrap();
            self.place.seed(setting, &client).await;
            client.create_user().await
        });
        (server, target, user)
    }

    fn run(&mut self, scenario: &Scenario, setting: Setting) -> Run {
        let time = scenario.time;
        let (mut server, target, user) = self.serve(setting, time);
        let bystander = Bystander::connect(&target, &user, scenario.habit);
        let mut attacker = Attacker::prepare(&scenario.name, &target, self.place.ca(setting));
        let idle_memory = server.memory("VmRSS");
        server.forget_peak();
        let (server_before, attacker_before) = (server.cpu(), attacker.cpu());
        let (own_before, machine_before) = (cpu(std::process::id()), machine());
        bystander.start(time);
        attacker.begin();

        let (mut load, mut on_cpu, mut most) = (Vec::new(), attacker.on_cpu(), 0);
        let start = Instant::now();
        for slot in 1.. {
            let end = start + SLOT * slot;
            if end > start + time {
                break;
            }
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
            let now = attacker.on_cpu();
            load.push(now.saturating_sub(on_cpu).min(SLOT));
            on_cpu = now;
            most = most.max(server.memory("VmRSS"));
        }
        let server_cpu = server.cpu() - server_before;
        let attacker_cpu = attacker.cpu() - attacker_before;
        let known = server_cpu + attacker_cpu + (cpu(std::process::id()) - own_before);
        let [busy, passed] = [0, 1].map(|at| machine()[at].saturating_sub(machine_before[at]));
        let others = busy.saturating_sub(known).as_secs_f64() / passed.as_secs_f64();
        let figures = bystander.finish();
        let report = attacker.finish();
        let peak_memory = most.max(server.memory("VmHWM"));
        let server_died = !server.runs();
        Run {
            idle_memory,
            peak_memory,
            figures,
            server_cpu,
            attacker_cpu,
            others,
            load,
            report,
            server_died,
        }
    }
}

impl Run {
    fn more_memory(&self) -> u64 {
        self.peak_memory.saturating_sub(self.idle_memory)
    }

    /// The server's CPU time for the attacker.
    fn attack_cost(&self, scenario: &Scenario, idle: Control) -> Duration {
        let bystander = Duration::from_secs_f64(idle.cpu * scenario.time.as_secs_f64());
        self.server_cpu.saturating_sub(bystander)
    }
}

/// All bounds except latencies.
fn faults(scenario: &Scenario, run: &Run, idle: Control) -> Vec<String> {
    let mut faults = run.report.broken.clone();
    if run.server_died {
        faults.push("the server has died".to_owned());
    }
    if run.more_memory() > MEMORY {
        faults.push(format!(
            "{} MiB over idle, {} are allowed",
            mib(run.more_memory()),
            mib(MEMORY)
        ));
    }
    if let Some(first) = run.figures.failures.first() {
        let count = run.figures.failures.len();
        faults.push(format!("{count} calls of the bystander failed, the first: {first}"));
    }
    let (cost, paid) = (run.attack_cost(scenario, idle), run.attacker_cpu);
    let cut_off = run.report.opened > 0 && run.report.cut == run.report.opened;
    if scenario.rule == Rule::Flood && !cut_off && cost > paid + NOISE {
        faults.push(format!(
            "the attacker is not cut off, and costs {} ms of CPU for {} of its own",
            cost.as_millis(),
            paid.as_millis(),
        ));
    }
    faults
}

fn too_slow(habit: Habit, figures: &Figures, control: Control) -> Option<String> {
    if habit == Habit::Creations {
        let p99 = control.p99.mul_f64(P99_OF_CREATIONS);
        let message = format!("creations are too slow: a p99 of {} ms is allowed", ms(p99));
        return (figures.p99 > p99).then_some(message);
    }
    let p50 = control.p50.max(P50_FLOOR).mul_f64(P50);
    let p99 = control.p99.max(P99_FLOOR).mul_f64(P99);
    (figures.p50 > p50 || figures.p99 > p99)
        .then(|| format!("the bystander is too slow: {} and {} ms are allowed", ms(p50), ms(p99)))
}

fn line(run: &Run, control: Control, idle: Control) -> String {
    let Run { figures, report, .. } = run;
    format!(
        "+{} MiB; p50 {} ms (control {}, idle {}), p99 {} ms ({}, {}), {} of {} failed; CPU {} ms \
         server, {} ms attacker, {:.0} % others; cut {}/{} {}",
        mib(run.more_memory()),
        ms(figures.p50),
        ms(control.p50),
        ms(idle.p50),
        ms(figures.p99),
        ms(control.p99),
        ms(idle.p99),
        figures.failures.len(),
        figures.calls,
        run.server_cpu.as_millis(),
        run.attacker_cpu.as_millis(),
        run.others * 100.0,
        report.cut,
        report.opened,
        report.note,
    )
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}
