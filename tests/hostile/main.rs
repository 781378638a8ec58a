//! See README.md.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // It is a test, and prints its results.

mod attacker;
mod attacks;
mod bystander;
mod client;
#[path = "../it/support/folder.rs"]
#[allow(dead_code, unreachable_pub)] // It is shared with the other tests.
mod folder;
mod judge;
mod link;
mod place;
mod process;
mod scenario;
mod tls;
mod wire;

use std::time::Instant;

use self::judge::Judge;
use self::place::Setting;
use self::scenario::{Scenario, Store};

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let scenarios = attacks::all();
    match &arguments[..] {
        [command, name, rest @ ..] if command == "attack" => {
            let scenario = scenarios.iter().find(|it| it.name == *name).expect("a scenario");
            attacker::attack(scenario, rest);
        }
        [command] if command == "stand-in" => attacker::stand_in(),
        [command] if command == "list" => {
            for scenario in scenarios {
                println!("{}", scenario.name);
            }
        }
        _ => run(&scenarios, &Options::of(&arguments)),
    }
}

/// The attacks to run: all of them without arguments.
#[derive(Default)]
struct Options {
    names: Vec<String>,
    store: Option<Store>,
    tls: Option<bool>,
    all: bool,
}

impl Options {
    fn of(arguments: &[String]) -> Self {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--all" => options.all = true,
                "--tls" => options.tls = Some(true),
                "--no-tls" => options.tls = Some(false),
                "--store" => {
                    options.store = match arguments.next().map(String::as_str) {
                        Some("sqlite") => Some(Store::Sqlite),
                        Some("memory") => Some(Store::Memory),
                        other => panic!("--store is {other:?}: wanted sqlite or memory"),
                    };
                }
                name if name.starts_with('-') => panic!("{name}: see tests/hostile/run"),
                name => options.names.push(name.to_owned()),
            }
        }
        options
    }

    fn has(&self, scenario: &Scenario) -> bool {
        match &self.names[..] {
            [] => self.all || !scenario.on_request,
            names => names.iter().any(|wanted| scenario.name.starts_with(&**wanted)),
        }
    }

    /// The settings of a scenario: its own, unless the arguments name others.
    fn settings(&self, scenario: &Scenario) -> Vec<Setting> {
        let stores = self.store.map_or(scenario.stores.to_vec(), |store| vec![store]);
        let mut settings = Vec::new();
        for (index, store) in stores.into_iter().enumerate() {
            let Scenario { seeded, auth, .. } = *scenario;
            for tls in [false, true] {
                let wanted = match self.tls {
                    Some(wanted) => tls == wanted && (tls || scenario.tls.contains(&false)),
                    // One store is enough to see the effect of TLS.
                    None => scenario.tls.contains(&tls) && (index == 0 || !tls),
                };
                if wanted {
                    settings.push(Setting { store, tls, seeded, auth });
                }
            }
        }
        settings
    }
}

fn run(scenarios: &[Scenario], options: &Options) {
    let started = Instant::now();
    let (mut count, mut failed, mut judge) = (0, Vec::new(), Judge::new());
    for scenario in scenarios.iter().filter(|it| options.has(it)) {
        for setting in options.settings(scenario) {
            count += 1;
            if !judge.holds(scenario, setting) {
                failed.push(format!("{} ({setting})", scenario.name));
            }
        }
    }
    drop(judge);
    assert!(count > 0, "there is no such scenario: tests/hostile/run list");
    println!("{count} attacks in {:.0?}, {} failed", started.elapsed(), failed.len());
    for name in &failed {
        println!("  {name}");
    }
    std::process::exit(i32::from(!failed.is_empty()));
}
