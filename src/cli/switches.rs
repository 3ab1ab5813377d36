//! Switches as docker, podman and buildah take them: `--rm=true`, `-d=false`.
//!
//! The parser knows switches without a value only, which is what help shows. Arguments that it
//! does not take are written anew and tried once more.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

use crate::dockerfile::go_bool;

/// Writes switches that have a value without it: a true one alone, a false one not at all. The
/// rest stays as it is, and so does all that follows the first argument of a verb that runs a
/// program. `command` has been built.
pub(super) fn without_values(command: &Command, args: &[OsString]) -> Vec<OsString> {
    let mut command = command;
    let mut out: Vec<OsString> = Vec::new();
    let mut rest = args.iter();
    out.extend(rest.next().cloned());
    while let Some(arg) = rest.next() {
        let text = arg.to_str().unwrap_or_default();
        if !text.starts_with('-') || text == "-" {
            out.push(arg.clone());
            match command.find_subcommand(text) {
                Some(verb) => command = verb,
                None if runs_a_program(command) => break,
                None => {}
            }
            continue;
        }
        if text == "--" {
            out.push(arg.clone());
            break;
        }
        match Word::read(command, text) {
            Word::Other { takes_next } => {
                out.push(arg.clone());
                if takes_next {
                    out.extend(rest.next().cloned());
                }
            }
            Word::On(word) => out.push(word.into()),
            Word::Off { left, switch } => {
                // What is said last counts.
                out.retain(|word| *word != *switch);
                out.extend(left.map(OsString::from));
            }
        }
    }
    out.extend(rest.cloned());
    out
}

fn runs_a_program(command: &Command) -> bool {
    command.get_positionals().any(Arg::is_trailing_var_arg_set)
}

/// What an argument that begins with `-` is.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// Nothing to be written otherwise. `takes_next` says that the next argument is its value.
    Other { takes_next: bool },
    /// A switch, or several short ones, that are on.
    On(String),
    /// A switch that is off, and what is left of the short ones before it.
    Off {
        left: Option<String>,
        switch: String,
    },
}

impl Word {
    fn read(command: &Command, text: &str) -> Self {
        let (words, value) = match text.split_once('=') {
            Some((words, value)) => (words, Some(value)),
            None => (text, None),
        };
        match words.strip_prefix("--") {
            Some(name) => Self::read_long(long(command, name), words, value),
            None => Self::read_short(command, words, value),
        }
    }

    fn read_long(option: Option<&Arg>, words: &str, value: Option<&str>) -> Self {
        match (option, value.and_then(go_bool)) {
            (Some(option), Some(on)) if is_switch(option) => match on {
                true => Self::On(words.to_owned()),
                false => Self::Off {
                    left: None,
                    switch: words.to_owned(),
                },
            },
            (option, _) => Self::Other {
                takes_next: value.is_none() && option.is_some_and(takes_next),
            },
        }
    }

    fn read_short(command: &Command, words: &str, value: Option<&str>) -> Self {
        let letters: Vec<char> = words.chars().skip(1).collect();
        for (place, letter) in letters.iter().enumerate() {
            let option = short(command, *letter);
            if option.is_none_or(|option| !is_switch(option)) {
                // What follows in the word is its value.
                let is_last = place + 1 == letters.len() && value.is_none();
                let takes_next = is_last && option.is_some_and(takes_next);
                return Self::Other { takes_next };
            }
        }
        match (value.and_then(go_bool), letters.split_last()) {
            (Some(true), _) => Self::On(words.to_owned()),
            (Some(false), Some((last, before))) => Self::Off {
                left: (!before.is_empty())
                    .then(|| format!("-{}", before.iter().collect::<String>())),
                switch: format!("-{last}"),
            },
            _ => Self::Other { takes_next: false },
        }
    }
}

fn long<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(name) || aliases.contains(&name)
    })
}

fn short(command: &Command, letter: char) -> Option<&Arg> {
    command.get_arguments().find(|arg| {
        let aliases = arg.get_all_short_aliases().unwrap_or_default();
        arg.get_short() == Some(letter) || aliases.contains(&letter)
    })
}

fn is_switch(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue)
}

fn takes_next(option: &Arg) -> bool {
    let values = option.get_num_args().map_or(0, |range| range.min_values());
    values > 0 && !option.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let switch = |name: &'static str, letter: char| {
            let arg = Arg::new(name).long(name).short(letter);
            arg.action(ArgAction::SetTrue)
        };
        let run = Command::new("run")
            .arg(switch("detach", 'd'))
            .arg(switch("tty", 't').visible_alias("terminal"))
            .arg(Arg::new("name").long("name").short('n'))
            .arg(Arg::new("words").num_args(1..).trailing_var_arg(true));
        let rm = Command::new("rm")
            .arg(switch("force", 'f'))
            .arg(Arg::new("names").num_args(1..));
        let mut command = Command::new("x").subcommand(run).subcommand(rm);
        command.build();
        command
    }

    #[test]
    fn switches_have_truth_values() {
        let command = command();
        for (given, want) in [
            ("run --detach=true i", "run --detach i"),
            ("run --detach=false i", "run i"),
            ("run --terminal=1 --detach=F i", "run --terminal i"),
            ("run --detach --detach=0 i", "run i"),
            ("run -d=t i", "run -d i"),
            ("run -dt=false i", "run -d i"),
            ("run -d=false i", "run i"),
            ("rm a --force=true b -f=false", "rm a --force b"),
            // What is no truth value is for the parser to refuse.
            ("run --detach=maybe -d=x i", "run --detach=maybe -d=x i"),
            // Values, and what is the program's.
            ("run --name --detach=true i", "run --name --detach=true i"),
            ("run -dn --tty=true i", "run -dn --tty=true i"),
            ("run -n=true --name=false i", "run -n=true --name=false i"),
            ("run i --detach=true", "run i --detach=true"),
            ("run -- --detach=true", "run -- --detach=true"),
            ("rm -- --force=true", "rm -- --force=true"),
            ("nothing --force=true", "nothing --force=true"),
        ] {
            let words = |text: &str| -> Vec<OsString> {
                let words = text.split(' ').map(OsString::from);
                std::iter::once("x".into()).chain(words).collect()
            };
            assert_eq!(
                without_values(&command, &words(given)),
                words(want),
                "{given}"
            );
        }
    }
}
