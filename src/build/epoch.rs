//! The time that a Dockerfile itself asks to be built with.
//!
//! `ARG SOURCE_DATE_EPOCH=…` before the first FROM is the epoch of a build whose caller named
//! none. Its default may use build arguments, and is a number of seconds or empty.

use std::borrow::Cow;
use std::sync::Arc;

use crate::dockerfile::{Dockerfile, Source};

use super::error::{Error, StepError, ValueError};
use super::eval::expand;
use super::request::Request;

/// The argument of reproducible-builds.org.
const NAME: &str = "SOURCE_DATE_EPOCH";

/// Returns the request with the epoch that the Dockerfile names, if it is the one to say it.
pub(super) fn settle<'a>(
    request: &'a Request,
    parsed: &Dockerfile,
    file: &Arc<Source>,
) -> Result<Cow<'a, Request>, Error> {
    let given = |name: &str| {
        let given = request.build_args.iter().rfind(|(key, _)| key == name);
        given.map(|(_, value)| value.clone())
    };
    if !request.epoch_from_file || given(NAME).is_some() {
        return Ok(Cow::Borrowed(request));
    }
    let mut pairs = parsed.args.iter().flat_map(|global| &global.arg.pairs);
    let asked = pairs.rfind(|pair| pair.name.text == NAME);
    let Some(word) = asked.and_then(|pair| pair.default.as_ref()) else {
        return Ok(Cow::Borrowed(request));
    };
    let (text, _) = expand(parsed.directives.escape, &given, file, word).map_err(|error| {
        Error::Dockerfile {
            file: Arc::clone(file),
            error,
        }
    })?;
    let epoch = match text.trim() {
        "" => return Ok(Cow::Borrowed(request)),
        text => text.parse().map_err(|_| Error::Step {
            name: format!("ARG {NAME}"),
            file: Arc::clone(file),
            span: word.span,
            error: Box::new(StepError::Value(text.to_owned(), ValueError::Epoch)),
        })?,
    };
    Ok(Cow::Owned(Request {
        source_date_epoch: Some(epoch),
        ..request.clone()
    }))
}
