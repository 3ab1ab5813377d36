//! Questions over TCP by a member of a network: what is about names of ours is answered here, the
//! rest goes to the name servers outside, on a connection of its own.
//!
//! ```text
//! guest ─ tcp::Flow ─ socket pair ─ Desk ─ names of the network
//!                                     └─── name server, once there is something for it
//! ```
//!
//! Messages have their length in front (RFC 1035, 4.2.2). Answers come in the order in which they
//! are there, which resolvers expect (RFC 7766); a name server that is lost is followed by the next
//! one, which is asked all that is open.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::SendFlags;
use smoltcp::time::{Duration, Instant};

use super::tcp::connect;

/// How long a connection may stay without a word.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes that may wait in one direction, a few of the longest messages.
const MOST: usize = 256 << 10;

/// A connection on which a member asks.
#[derive(Debug)]
pub(super) struct Desk {
    near: Pipe,
    far: Option<Pipe>,
    /// Name servers that were not tried yet.
    servers: VecDeque<SocketAddr>,
    /// Questions that a name server has yet to answer.
    open: Vec<Vec<u8>>,
    last: Instant,
}

/// One of its sides.
#[derive(Debug)]
struct Pipe {
    fd: OwnedFd,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Whether the other side says no more.
    ended: bool,
}

/// Watches a descriptor, until it is closed, for whatever happens to it.
pub(super) type Watch<'w> = dyn Fn(BorrowedFd<'_>) -> Result<(), Errno> + 'w;

impl Desk {
    /// Serves whoever has the other end of `near`.
    pub(super) fn new(near: OwnedFd, servers: Vec<SocketAddr>, now: Instant) -> Self {
        Self {
            near: Pipe::new(near),
            far: None,
            servers: servers.into(),
            open: Vec::new(),
            last: now,
        }
    }

    /// The end to watch.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.near.fd.as_fd()
    }

    /// When it is over if nothing happens.
    pub(super) fn patience(&self) -> Instant {
        self.last + PATIENCE
    }

    /// Moves all that can be moved. `ours` answers questions about names of ours. Returns whether
    /// there is more to come.
    pub(super) fn serve(
        &mut self,
        ours: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
        watch: &Watch<'_>,
        now: Instant,
    ) -> bool {
        self.last = now;
        let moved = self.hear(ours, watch).and_then(|()| self.relay(watch));
        let sent = moved.and_then(|()| self.near.flush());
        let over = self.near.ended && self.open.is_empty() && self.near.output.is_empty();
        sent.is_ok() && !over
    }

    /// Takes the member's questions.
    fn hear(
        &mut self,
        ours: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
        watch: &Watch<'_>,
    ) -> Result<(), Errno> {
        self.near.fill()?;
        while let Some(question) = self.near.message() {
            match (ours(&question), &mut self.far) {
                (Some(answer), _) => self.near.say(&answer),
                (None, Some(far)) => {
                    far.say(&question);
                    self.open.push(question);
                }
                (None, None) => {
                    self.open.push(question);
                    self.call(watch)?;
                }
            }
        }
        Ok(())
    }

    /// Connects to the next name server, for all that is open.
    fn call(&mut self, watch: &Watch<'_>) -> Result<(), Errno> {
        while let Some(server) = self.servers.pop_front() {
            let Ok(fd) = connect(server) else { continue };
            watch(fd.as_fd())?;
            let mut far = Pipe::new(fd);
            self.open.iter().for_each(|question| far.say(question));
            self.far = Some(far);
            return Ok(());
        }
        Err(Errno::HOSTUNREACH)
    }

    /// Asks the name server, and hands its answers on.
    fn relay(&mut self, watch: &Watch<'_>) -> Result<(), Errno> {
        let Some(far) = &mut self.far else {
            return Ok(());
        };
        let heard = far.flush().and_then(|()| far.fill());
        while let Some(answer) = far.message() {
            let same = |question: &Vec<u8>| question.get(..2) == answer.get(..2);
            if let Some(at) = self.open.iter().position(same) {
                self.open.remove(at);
            }
            self.near.say(&answer);
        }
        if heard.is_ok() && !far.ended {
            return Ok(());
        }
        self.far = None;
        match self.open.is_empty() {
            true => Ok(()),
            false => self.call(watch),
        }
    }
}

impl Pipe {
    fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            input: Vec::new(),
            output: Vec::new(),
            ended: false,
        }
    }

    /// Reads all there is.
    fn fill(&mut self) -> Result<(), Errno> {
        let mut room = [0; 4096];
        while !self.ended {
            match rustix::io::read(&self.fd, &mut room) {
                Ok(0) => self.ended = true,
                Ok(length) => self.input.extend(&room[..length]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno),
            }
            if self.input.len() > MOST {
                return Err(Errno::NOBUFS);
            }
        }
        Ok(())
    }

    /// Writes what the other side takes.
    fn flush(&mut self) -> Result<(), Errno> {
        while !self.output.is_empty() {
            match rustix::net::send(&self.fd, &self.output, SendFlags::NOSIGNAL) {
                Ok(length) => drop(self.output.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.output.len() <= MOST => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// The next message that is there as a whole.
    fn message(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes(*self.input.first_chunk()?));
        let message = self.input.get(2..2 + length)?.to_vec();
        self.input.drain(..2 + length);
        Some(message)
    }

    fn say(&mut self, message: &[u8]) {
        // What is longer than a length can say was never a message.
        if let Ok(length) = u16::try_from(message.len()) {
            self.output.extend(length.to_be_bytes());
            self.output.extend(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u16::try_from(message.len()).unwrap();
        [&length.to_be_bytes(), message].concat()
    }

    /// A desk that knows what `?` begins, and the other end of its connection.
    struct Served {
        desk: Desk,
        guest: std::os::unix::net::UnixStream,
    }

    impl Served {
        fn new(servers: Vec<SocketAddr>) -> Self {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
            let (near, guest) = pair.unwrap();
            Self {
                desk: Desk::new(near, servers, Instant::ZERO),
                guest: guest.into(),
            }
        }

        fn serve(&mut self) -> bool {
            let ours = |question: &[u8]| {
                let known = question.ends_with(b"?");
                known.then(|| [question, b" yes"].concat())
            };
            self.desk.serve(&ours, &|_| Ok(()), Instant::ZERO)
        }

        /// Serves until `length` bytes have come, or it is over.
        fn take(&mut self, length: usize) -> Vec<u8> {
            let mut taken = Vec::new();
            let mut room = vec![0; length];
            while taken.len() < length {
                let goes = self.serve();
                if let Ok(count) = self.guest.read(&mut room) {
                    taken.extend(&room[..count]);
                }
                if !goes {
                    break;
                }
                std::thread::yield_now();
            }
            taken
        }
    }

    fn server(answer: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || answer(listener.accept().unwrap().0));
        address
    }

    #[test]
    fn names_of_ours_need_no_server_and_come_in_pieces() {
        let mut served = Served::new(Vec::new());
        let both = [framed(b"01a?"), framed(b"02b?")].concat();
        for byte in &both {
            served.guest.write_all(&[*byte]).unwrap();
            assert!(served.serve());
        }
        let want = [framed(b"01a? yes"), framed(b"02b? yes")].concat();
        assert_eq!(served.take(want.len()), want);
        served.guest.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!served.serve(), "over when nothing more is asked");
    }

    #[test]
    fn other_names_are_the_servers_whatever_their_answers_length() {
        let long = [b"01".to_vec(), vec![b'x'; 40_000]].concat();
        let sent = long.clone();
        let address = server(move |mut stream| {
            let mut question = [0; 6];
            stream.read_exact(&mut question).unwrap();
            assert_eq!(question.as_slice(), framed(b"01no"));
            stream.write_all(&framed(&sent)).unwrap();
        });
        // The first of them takes no connections.
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let mut served = Served::new(vec![nobody, address]);
        served.guest.write_all(&framed(b"01no")).unwrap();
        served.guest.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(served.take(long.len() + 2), framed(&long));
    }

    #[test]
    fn a_server_that_goes_without_an_answer_is_followed_by_the_next() {
        let gone = server(drop);
        let next = server(|mut stream| {
            let mut question = [0; 6];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(&framed(b"01it")).unwrap();
        });
        let mut served = Served::new(vec![gone, next]);
        served.guest.write_all(&framed(b"01no")).unwrap();
        assert_eq!(served.take(6), framed(b"01it"));
        // There is no third.
        served.guest.write_all(&framed(b"02no")).unwrap();
        assert_eq!(served.take(1), b"");
    }
}
