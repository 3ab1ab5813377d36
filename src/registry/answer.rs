//! The answer of a server: head, and a body that is read with a limit and a clock.
//!
//! Nothing is ever read "to the end" without a cap, and what a server says in an error is
//! shortened and cleaned before anybody sees it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde_json::Value;

use super::challenge::{self, Challenge};
use super::error::{Error, ServerError};
use super::retry::retry_after;

/// As much of an error body as is looked at, in bytes.
const MAX_ERROR_BODY: usize = 64 << 10;
const MAX_ERRORS: usize = 4;
const MAX_MESSAGE: usize = 300;

/// Head and coming body of one answer.
#[derive(Debug)]
pub(super) struct Answer {
    response: reqwest::Response,
    /// Who answered, as shown.
    pub(super) host: String,
    /// Whether the registry itself answered, not a place it points to.
    pub(super) home: bool,
    idle: Duration,
}

impl Answer {
    pub(super) fn new(
        response: reqwest::Response,
        host: String,
        home: bool,
        idle: Duration,
    ) -> Self {
        Self {
            response,
            host,
            home,
            idle,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn url(&self) -> &Url {
        self.response.url()
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.header(reqwest::header::CONTENT_LENGTH)?.parse().ok()
    }

    /// Returns a header that is text.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Returns how long the server asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        retry_after(self.header(RETRY_AFTER)?, SystemTime::now())
    }

    /// Returns how the server wants to be told who is asking.
    pub(super) fn challenge(&self) -> Option<Challenge> {
        let all = self.response.headers().get_all(WWW_AUTHENTICATE);
        challenge::parse(all.iter().filter_map(|value| value.to_str().ok()))
    }

    /// Returns the next piece of the body, `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(source)) => Err(Error::Connection {
                doing: "read from",
                host: self.host.clone(),
                source: source.without_url(),
            }),
            Err(_) => Err(self.timeout(self.idle)),
        }
    }

    fn timeout(&self, after: Duration) -> Error {
        Error::Timeout {
            host: self.host.clone(),
            after,
        }
    }

    /// Reads the whole body, which is a `what` of at most `limit` bytes.
    pub(super) async fn read(&mut self, what: &'static str, limit: u64) -> Result<Vec<u8>, Error> {
        let too_large = Error::TooLarge {
            host: self.host.clone(),
            what,
            limit,
        };
        if self.length().is_some_and(|length| length > limit) {
            return Err(too_large);
        }
        // A server that drips single bytes never is idle, so the whole has a limit too.
        let whole = self.idle * 2;
        let mut body = Vec::new();
        let reading = async {
            while let Some(chunk) = self.chunk().await? {
                if (body.len() + chunk.len()) as u64 > limit {
                    return Ok(false);
                }
                body.extend_from_slice(&chunk);
            }
            Ok::<_, Error>(true)
        };
        match tokio::time::timeout(whole, reading).await {
            Ok(Ok(true)) => Ok(body),
            Ok(Ok(false)) => Err(too_large),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(self.timeout(whole)),
        }
    }

    /// Reads the body to its end and forgets it, so that the connection can be used again.
    pub(super) async fn drain(mut self) {
        // Whatever goes wrong here only costs a new connection.
        let _ = self.read("body", MAX_ERROR_BODY as u64).await;
    }

    /// Reads what the server says about its refusal.
    pub(super) async fn server_errors(&mut self) -> Vec<ServerError> {
        let text = self
            .header(CONTENT_TYPE)
            .is_none_or(|kind| kind.starts_with("text/plain"));
        let mut body = Vec::new();
        // A body that breaks off still may have said enough.
        while let Ok(Some(chunk)) = self.chunk().await {
            let room = MAX_ERROR_BODY - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() >= MAX_ERROR_BODY {
                break;
            }
        }
        server_errors(&body, text)
    }

    /// Turns an answer that was not wanted into an error.
    pub(super) async fn into_error(mut self, doing: &'static str, what: &str) -> Error {
        let retry_after = self.retry_after();
        let server = self.server_errors().await;
        let host = self.host;
        match self.response.status() {
            StatusCode::FORBIDDEN => Error::Denied {
                host,
                what: what.to_owned(),
                server,
            },
            StatusCode::TOO_MANY_REQUESTS => Error::Busy {
                host,
                retry_after,
                server,
            },
            status => Error::Status {
                host,
                doing,
                status: status.as_u16(),
                server,
            },
        }
    }
}

/// Reads the several forms in which registries and token servers word an error.
fn server_errors(body: &[u8], text: bool) -> Vec<ServerError> {
    let Ok(reply) = serde_json::from_slice::<Value>(body) else {
        let body = String::from_utf8_lossy(body);
        if let (Some(code), Some(message)) = (element(&body, "Code"), element(&body, "Message")) {
            return vec![ServerError { code, message }];
        }
        let message = clean(&body);
        if !text || message.is_empty() {
            return Vec::new();
        }
        let code = String::new();
        return vec![ServerError { code, message }];
    };
    let one = |value: &Value, code: &str, messages: &[&str]| {
        let code = match &value[code] {
            Value::String(text) => clean(text),
            Value::Number(n) => n.to_string(),
            _ => String::new(),
        };
        let message = messages.iter().find_map(|key| value[*key].as_str());
        let message = clean(message.unwrap_or_default());
        Some(ServerError { code, message }).filter(|e| !e.code.is_empty() || !e.message.is_empty())
    };
    match &reply["errors"] {
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .filter_map(|value| one(value, "code", &["message"]))
            .take(MAX_ERRORS)
            .collect(),
        _ => one(
            &reply,
            "error",
            &["error_description", "message", "details", "msg"],
        )
        .into_iter()
        .collect(),
    }
}

/// The text of an XML element: in this form object stores word their errors.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(clean(inner))
}

/// One line without control characters, cut to a readable length.
fn clean(text: &str) -> String {
    let flat: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_MESSAGE)
        .collect();
    flat.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(body: &str, text: bool) -> Vec<String> {
        let errors = server_errors(body.as_bytes(), text);
        errors.iter().map(ServerError::to_string).collect()
    }

    #[test]
    fn errors_are_read_in_the_forms_that_servers_use() {
        assert_eq!(
            shown(
                r#"{"errors":[{"code":"DENIED","message":"no","detail":{"x":1}}]}"#,
                false
            ),
            ["DENIED: no"]
        );
        assert_eq!(
            shown(r#"{"details":"incorrect username"}"#, false),
            ["incorrect username"]
        );
        assert_eq!(
            shown(
                r#"{"error":"invalid_grant","error_description":"gone"}"#,
                false
            ),
            ["invalid_grant: gone"]
        );
        assert_eq!(shown("<html>teapot</html>", false), Vec::<String>::new());
        assert_eq!(
            shown(
                "<Error><Code>Gone</Code><Message>no\nmore</Message></Error>",
                false
            ),
            ["Gone: no more"]
        );
        assert_eq!(
            shown("pull limit\r\nreached\n", true),
            ["pull limit  reached"]
        );
    }

    #[test]
    fn a_servers_words_are_capped_and_cleaned() {
        let long = "\u{1b}[31m".repeat(1000);
        let body = serde_json::json!({ "errors": vec![serde_json::json!({"code":"X","message":long}); 50] });
        let errors = server_errors(body.to_string().as_bytes(), false);
        assert_eq!(errors.len(), MAX_ERRORS);
        assert!(errors[0].message.len() <= MAX_MESSAGE);
        assert!(!errors[0].message.contains('\u{1b}'));
    }
}
