//! Answers at a socket as an agent does.
//!
//! Of what can be asked two things are answered: which keys there are, and to sign. The rest, such
//! as to add keys or to lock the agent, fails, also where the caller's agent would do it: a step
//! has no business with that.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};

use super::SshSource;
use super::key::SshKey;
use super::wire::{self, FAILURE, Fields, KEYS, LIST_KEYS, SIGN, SIGNATURE, put_string};

/// A socket that is served until this is dropped.
#[derive(Debug)]
pub(in crate::build) struct Agent {
    /// Closed to say that it is over.
    stop: Option<UnixStream>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Agent {
    /// Begins to answer at `listener`.
    pub(in crate::build) fn serve(listener: UnixListener, source: SshSource) -> io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let thread = std::thread::Builder::new()
            .name("ssh agent".to_owned())
            .spawn(move || accept(&listener, &stopped, &source))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// Takes connections until `stopped` ends. One that fails is the client's loss alone.
fn accept(listener: &UnixListener, stopped: &UnixStream, source: &SshSource) {
    let mut ends = Vec::new();
    loop {
        let mut wait = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
        ];
        match poll(&mut wait, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
        if !wait[1].revents().is_empty() {
            break;
        }
        if wait[0].revents().is_empty() {
            continue;
        }
        let Ok((client, _)) = listener.accept() else {
            continue;
        };
        // A client of an agent that is gone sees its connection end.
        if let Ok(backend) = Backend::of(source) {
            ends.extend(client.try_clone());
            if let Backend::Agent(agent) = &backend {
                ends.extend(agent.try_clone());
            }
            std::thread::spawn(move || converse(client, backend));
        }
    }
    for end in ends {
        // Ended already, or ends now.
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// Who answers one client.
enum Backend {
    Agent(UnixStream),
    Keys(Arc<[SshKey]>),
}

impl Backend {
    fn of(source: &SshSource) -> io::Result<Self> {
        Ok(match source {
            SshSource::Socket(path) => Self::Agent(UnixStream::connect(path)?),
            SshSource::Keys(keys) => Self::Keys(keys.clone()),
        })
    }

    fn answer(&mut self, message: &[u8]) -> io::Result<Vec<u8>> {
        let known = matches!(message.first(), Some(&(LIST_KEYS | SIGN)));
        match self {
            _ if !known => Ok(vec![FAILURE]),
            Self::Agent(agent) => {
                wire::write(agent, message)?;
                wire::read(agent)
            }
            Self::Keys(keys) => Ok(answer(keys, message)),
        }
    }
}

/// Answers until one side ends.
fn converse(mut client: UnixStream, mut backend: Backend) {
    while let Ok(message) = wire::read(&mut client) {
        let Ok(answer) = backend.answer(&message) else {
            break;
        };
        if wire::write(&mut client, &answer).is_err() {
            break;
        }
    }
    // Copies are kept for the end of the step, so that dropping these would end nothing.
    let _ = client.shutdown(Shutdown::Both);
    if let Backend::Agent(agent) = &backend {
        let _ = agent.shutdown(Shutdown::Both);
    }
}

/// What an agent with `keys` says to a message. Pure but for the randomness of signatures.
fn answer(keys: &[SshKey], message: &[u8]) -> Vec<u8> {
    let mut fields = Fields(message);
    let answer = match fields.take(1) {
        Some(&[LIST_KEYS]) => Some(list(keys)),
        Some(&[SIGN]) => sign(keys, fields),
        _ => None,
    };
    answer.unwrap_or_else(|| vec![FAILURE])
}

fn list(keys: &[SshKey]) -> Vec<u8> {
    let mut out = vec![KEYS];
    wire::put_number(&mut out, keys.len());
    for key in keys {
        put_string(&mut out, key.public());
        put_string(&mut out, key.comment().as_bytes());
    }
    out
}

fn sign(keys: &[SshKey], mut fields: Fields<'_>) -> Option<Vec<u8>> {
    let (public, data, flags) = (fields.string()?, fields.string()?, fields.number()?);
    let key = keys.iter().find(|key| key.public() == public)?;
    let mut out = vec![SIGNATURE];
    put_string(&mut out, &key.sign(data, flags)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::PathBuf;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ring::rand::SystemRandom;
    use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

    use super::super::key::KeyError;
    use super::*;

    const REMOVE_ALL: u8 = 19;

    fn pem(label: &str, der: &[u8]) -> String {
        let text = STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    fn key() -> SshKey {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        SshKey::parse(pem("PRIVATE KEY", der.as_ref()).as_bytes()).unwrap()
    }

    fn request(public: &[u8], data: &[u8]) -> Vec<u8> {
        let mut message = vec![SIGN];
        put_string(&mut message, public);
        put_string(&mut message, data);
        wire::put_number(&mut message, 0);
        message
    }

    #[test]
    fn keys_are_listed_and_sign_and_nothing_else() {
        let keys = [key(), key()];
        let listed = answer(&keys, &[LIST_KEYS]);
        let mut fields = Fields(&listed);
        assert_eq!(fields.take(1), Some([KEYS].as_slice()));
        assert_eq!(fields.number(), Some(2));
        assert_eq!(fields.string(), Some(keys[0].public()));

        let signed = answer(&keys, &request(keys[1].public(), b"data"));
        let mut fields = Fields(&signed);
        assert_eq!(fields.take(1), Some([SIGNATURE].as_slice()));
        let mut fields = Fields(fields.string().unwrap());
        assert_eq!(fields.text(), Some("ssh-ed25519"));
        let signature = fields.string().unwrap();
        let public = &keys[1].public()[keys[1].public().len() - 32..];
        let public = UnparsedPublicKey::new(&ED25519, public);
        public.verify(b"data", signature).unwrap();

        let other = request(key().public(), b"data");
        for refused in [
            other.as_slice(),
            &[REMOVE_ALL],
            &[SIGN],
            &[SIGN, 0, 0, 0, 9],
        ] {
            assert_eq!(answer(&keys, refused), [FAILURE], "{refused:?}");
        }
    }

    #[test]
    fn files_that_hold_no_usable_key_say_why() {
        let sealed = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                      DEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        for (text, why) in [
            ("nonsense", KeyError::NoKey),
            (&pem("CERTIFICATE", b"x"), KeyError::NoKey),
            (sealed, KeyError::Protected),
            (&pem("ENCRYPTED PRIVATE KEY", b"x"), KeyError::Protected),
            (
                &pem("DSA PRIVATE KEY", b"x"),
                KeyError::Kind("dsa".to_owned()),
            ),
        ] {
            assert_eq!(SshKey::parse(text.as_bytes()).unwrap_err(), why, "{text}");
        }
        let broken = SshKey::parse(pem("PRIVATE KEY", b"x").as_bytes());
        assert!(matches!(broken, Err(KeyError::Broken(_))));
    }

    /// Answers each message with one byte more than its own.
    fn upstream(listener: UnixListener) {
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                while let Ok(message) = wire::read(&mut client) {
                    wire::write(&mut client, &[message[0] + 1]).unwrap();
                }
            }
        });
    }

    fn socket(dir: &std::path::Path, name: &str) -> (PathBuf, UnixListener) {
        let path = dir.join(name);
        let listener = UnixListener::bind(&path).unwrap();
        (path, listener)
    }

    fn ask(client: &mut UnixStream, message: &[u8]) -> Vec<u8> {
        wire::write(client, message).unwrap();
        wire::read(client).unwrap()
    }

    #[test]
    fn the_callers_agent_hears_only_what_a_step_may_ask() {
        let dir = std::env::temp_dir().join(format!("cooper-ssh-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let (to, listener) = socket(&dir, "upstream");
        upstream(listener);
        let (path, listener) = socket(&dir, "own");
        let agent = Agent::serve(listener, SshSource::Socket(to)).unwrap();
        // One after the other, since the upstream of this test serves one.
        for _ in 0..2 {
            let mut client = UnixStream::connect(&path).unwrap();
            assert_eq!(ask(&mut client, &[LIST_KEYS]), [KEYS]);
            assert_eq!(ask(&mut client, &[REMOVE_ALL]), [FAILURE]);
            assert_eq!(ask(&mut client, &[SIGN]), [SIGNATURE]);
        }
        let mut open = UnixStream::connect(&path).unwrap();
        ask(&mut open, &[LIST_KEYS]);
        drop(agent);
        // The end may be seen as a connection that was reset.
        assert!(matches!(open.read(&mut [0]), Ok(0) | Err(_)));
        assert!(UnixStream::connect(&path).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn several_clients_are_served_at_once() {
        let dir = std::env::temp_dir().join(format!("cooper-keys-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let (path, listener) = socket(&dir, "own");
        let keys: Arc<[SshKey]> = Arc::new([key()]);
        let _agent = Agent::serve(listener, SshSource::Keys(keys.clone())).unwrap();
        let mut clients = [(); 3].map(|()| UnixStream::connect(&path).unwrap());
        for client in &mut clients {
            assert_eq!(ask(client, &[LIST_KEYS]), list(&keys));
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
