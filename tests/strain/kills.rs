//! Kills at random: of commands, monitors, inits and programs, while commands run.

use std::fs;
use std::time::Duration;

use super::{Dice, Ground, Process, asked_for, end_of, kill, processes, reap, until};

const NAMES: [&str; 3] = ["one", "two", "three"];

/// A program that ends when it is asked to; what stands for its `$0` tells it from others.
const SLEEPER: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

/// Words after `cask`; `{}` stands for the container's name.
const COMMANDS: &[&[&str]] = &[
    &[
        "run",
        "-d",
        "--network=none",
        "--name",
        "{}",
        "busybox",
        "sh",
        "-c",
        SLEEPER,
        "mark-{}",
    ],
    &[
        "run",
        "-d",
        "--restart=always",
        "--name",
        "{}",
        "busybox",
        "sh",
        "-c",
        SLEEPER,
        "mark-{}",
    ],
    &[
        "run", "-d", "--rm", "--name", "{}", "-v", "/data", "busybox", "sh", "-c", SLEEPER,
        "mark-{}",
    ],
    &[
        "create",
        "--network=none",
        "--name",
        "{}",
        "busybox",
        "sh",
        "-c",
        SLEEPER,
        "mark-{}",
    ],
    &["start", "{}"],
    &["start", "{}"],
    &["stop", "-t", "0", "{}"],
    &["restart", "-t", "0", "{}"],
    &["kill", "{}"],
    &["pause", "{}"],
    &["unpause", "{}"],
    &["exec", "{}", "true"],
    &["update", "--restart=no", "{}"],
    &["logs", "{}"],
    &["rm", "-f", "-v", "{}"],
];

/// Who is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Command,
    Monitor,
    Init,
    Program,
}

/// The programs of the container `name`.
fn programs(name: &str) -> Vec<Process> {
    let mark = format!("mark-{name}");
    let mut all = processes();
    all.retain(|process| process.command.starts_with("sh -c ") && process.command.contains(&mark));
    all
}

/// Whether a program that never rests does nothing: stopped, or frozen, which no letter tells.
fn is_halted(process: &Process) -> bool {
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        Some(lines.map(str::to_owned).collect::<Vec<_>>())
    };
    let before = switches();
    std::thread::sleep(Duration::from_millis(300));
    process.state == "T" || (before.is_some() && before == switches())
}

/// Whether what is told of a container is so.
fn is_told_truthfully(ground: &Ground, name: &str) -> Result<(), String> {
    let states = ground.states();
    let state = states.get(name).map_or("none", String::as_str);
    let programs = programs(name);
    let runs = || ground.t.cask(&["exec", name, "true"]).any().stderr();
    let right = match state {
        "running" => !programs.is_empty() && runs().is_empty(),
        "paused" => !programs.is_empty() && programs.iter().all(is_halted),
        _ => programs.is_empty(),
    };
    match right {
        true => Ok(()),
        false => Err(format!("{name} is said to be {state}: {programs:?}")),
    }
}

/// Makes the container be up, whatever it is now.
fn bring_up(ground: &Ground, name: &str) {
    match ground.states().get(name).map(String::as_str) {
        None => {
            let run = ["run", "-d", "--network=none", "--name", name, "busybox"];
            let program = ["sh", "-c", SLEEPER, &format!("mark-{name}")];
            ground.t.cask(&[&run[..], &program].concat()).ok();
        }
        Some("created" | "exited") => drop(ground.t.cask(&["start", name]).ok()),
        Some("paused") => drop(ground.t.cask(&["unpause", name]).ok()),
        Some(_) => {}
    }
}

#[test]
fn whatever_is_killed_states_are_true_and_everything_can_be_removed() {
    let ground = Ground::new();
    let rounds = asked_for(30, 300);
    let mut dice = Dice::new(6);
    let mut killed = [0; 4];
    for round in 1..=rounds {
        // Most commands are for a container that is up.
        for name in NAMES.iter().filter(|_| dice.below(4) > 0) {
            bring_up(&ground, name);
        }
        let name = *dice.pick(&NAMES);
        let words: Vec<String> = dice
            .pick(COMMANDS)
            .iter()
            .map(|word| word.replace("{}", name))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let victim = *dice.pick(&[
            Victim::Command,
            Victim::Monitor,
            Victim::Init,
            Victim::Program,
        ]);
        let what = format!("round {round}: {words:?}, a kill of {victim:?}");
        println!("{what}");
        let mut command = ground.begin(&words);
        // Spread over all that a command does.
        std::thread::sleep(Duration::from_millis(dice.below(120)));
        let pid = match victim {
            Victim::Command => None,
            Victim::Monitor => ground.number(name, "monitor"),
            Victim::Init => ground.number(name, "pid"),
            Victim::Program => programs(name).first().map(|process| process.pid),
        };
        // A number that a state holds may be another process's by now.
        let mine = processes();
        let pid = pid.filter(|pid| mine.iter().any(|process| process.pid == *pid));
        let victim = match pid {
            Some(pid) => {
                kill(pid);
                victim
            }
            None => {
                command.kill().unwrap();
                Victim::Command
            }
        };
        killed[victim as usize] += 1;
        end_of(command, &format!("{what}: the command ends"));
        let mut told = Ok(());
        until(&format!("{what}: the truth is told: {told:?}"), || {
            told = is_told_truthfully(&ground, name);
            told.is_ok()
        });
        if round % 3 == 0 {
            ground.t.cask(&["rm", "-f", "-v", name]).ok();
            assert!(programs(name).is_empty(), "{what}");
            assert!(!ground.states().contains_key(name), "{what}");
            reap();
        }
        if round % 30 == 0 {
            ground.clear();
            assert_eq!(ground.t.cooper(&["fsck"]).ok().stdout(), "", "{what}");
        }
    }
    ground.clear();
    let [commands, monitors, inits, programs] = killed;
    println!(
        "{rounds} rounds: {commands} commands, {monitors} monitors, {inits} inits and {programs} programs killed"
    );
}
