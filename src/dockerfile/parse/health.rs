//! `HEALTHCHECK NONE` and `HEALTHCHECK [flags] CMD …`.

use super::super::duration::{self, Nanos};
use super::super::error::{Error, ErrorKind};
use super::super::flags::{Flags, Holds};
use super::super::instruction::{Check, Command, Healthcheck};
use super::Request;
use std::time::Duration;

pub(super) fn parse(request: &Request<'_, '_>) -> Result<Healthcheck, Error> {
    let line = request.line;
    let rest = request.split.rest.clone();
    let text = &line.text[rest.clone()];
    if text.is_empty() {
        return Err(request.error(ErrorKind::AtLeastOne {
            instruction: "HEALTHCHECK",
        }));
    }
    let end = rest.start + text.find(char::is_whitespace).unwrap_or(text.len());
    let word = line.word(rest.start..end);
    let command = line.trim(end..rest.end);
    match word.text.to_uppercase().as_str() {
        "NONE" if command.is_empty() => Ok(Healthcheck::None),
        "NONE" => Err(line.error(ErrorKind::HealthNone, command)),
        "CMD" => {
            let flags = flags(request)?;
            let command = request.command(command)?;
            let empty = match &command {
                Command::Shell(text) => text.text.is_empty(),
                Command::Exec(args) => args.is_empty(),
            };
            if empty {
                return Err(request.error(ErrorKind::HealthCommand));
            }
            check(request, &flags, command).map(Healthcheck::Check)
        }
        other => {
            flags(request)?;
            let kind = ErrorKind::HealthType {
                word: other.to_owned(),
            };
            Err(request.error_at(kind, word.span))
        }
    }
}

fn flags(request: &Request<'_, '_>) -> Result<Flags, Error> {
    request.flags(&[
        ("interval", Holds::Text),
        ("timeout", Holds::Text),
        ("start-period", Holds::Text),
        ("start-interval", Holds::Text),
        ("retries", Holds::Text),
    ])
}

fn check(request: &Request<'_, '_>, flags: &Flags, command: Command) -> Result<Check, Error> {
    Ok(Check {
        command,
        interval: time(request, flags, "interval")?,
        timeout: time(request, flags, "timeout")?,
        start_period: time(request, flags, "start-period")?,
        start_interval: time(request, flags, "start-interval")?,
        retries: retries(request, flags)?,
    })
}

/// Reads a time; an empty one and zero are the default.
fn time(
    request: &Request<'_, '_>,
    flags: &Flags,
    flag: &'static str,
) -> Result<Option<Duration>, Error> {
    let Some(value) = flags.filled(flag) else {
        return Ok(None);
    };
    let error = |kind| request.error_at(kind, value.span);
    match duration::parse(&value.text) {
        None => Err(error(ErrorKind::Duration {
            flag,
            value: value.text.clone(),
        })),
        Some(Nanos(0)) => Ok(None),
        Some(Nanos(nanos)) => match u64::try_from(nanos) {
            Ok(nanos) if nanos >= 1_000_000 => Ok(Some(Duration::from_nanos(nanos))),
            _ => Err(error(ErrorKind::ShortInterval { flag })),
        },
    }
}

fn retries(request: &Request<'_, '_>, flags: &Flags) -> Result<Option<u32>, Error> {
    let Some(value) = flags.filled("retries") else {
        return Ok(None);
    };
    let error = |kind| request.error_at(kind, value.span);
    let Ok(number) = value.text.parse::<i32>() else {
        return Err(error(ErrorKind::Retries {
            value: value.text.clone(),
        }));
    };
    match u32::try_from(number) {
        Ok(0) => Ok(None),
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(error(ErrorKind::NegativeRetries {
            value: i64::from(number),
        })),
    }
}
