//! Makes one namespace: loopback, an interface whose other end is a tun descriptor, addresses
//! and routes.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::sys;

use super::super::error::{Failure, Stage};
use super::addresses::{GATEWAY, GATEWAY6, GUEST, GUEST6, PREFIX, PREFIX6};

/// The name docker's programs expect.
const NAME: &str = "eth0";
/// The most an interface can have; the fewer packets, the faster.
pub(super) const MTU: usize = 65535;

/// A namespace and the stack's end of its interface.
#[derive(Debug)]
pub(super) struct Namespace {
    /// The namespace.
    pub(super) fd: OwnedFd,
    /// Packets, as [`sys::net::tun`] has them; reads and writes do not wait.
    pub(super) tun: OwnedFd,
}

/// Makes a namespace, on a thread that is given up for it: the way back would need rights over
/// the caller's namespace.
pub(super) fn make() -> Result<Namespace, Failure> {
    let maker = std::thread::Builder::new().spawn(make_here);
    let made = maker.and_then(|thread| thread.join().map_err(|_| io::ErrorKind::Other.into()));
    made.map_err(|error| Failure::setup(Stage::Fork, "the private network", error))?
}

fn make_here() -> Result<Namespace, Failure> {
    let at = |stage, what: &'static str| move |error: io::Error| Failure::setup(stage, what, error);
    sys::net::unshare_network().map_err(at(Stage::NetworkNamespace, "the private network"))?;
    sys::net::loopback_up().map_err(at(Stage::Loopback, "lo"))?;
    let tun = super::open_tun().map_err(at(Stage::Tun, super::TUN))?;
    sys::net::tun(&tun, NAME).map_err(at(Stage::Tun, super::TUN))?;
    address().map_err(at(Stage::Address, NAME))?;
    open_to_all();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())
        .map_err(|errno| Failure::setup(Stage::NetworkNamespace, "the private network", errno))?;
    Ok(Namespace { fd, tun })
}

/// What docker sets in each container: ports below 1024 and ping sockets for everyone. A program
/// that needs either and does not get it says so itself.
fn open_to_all() {
    use std::io::Write;
    for (file, value) in [
        ("ip_unprivileged_port_start", "0"),
        ("ping_group_range", "0 2147483647"),
    ] {
        let _ = File::options()
            .write(true)
            .open(format!("/proc/sys/net/ipv4/{file}"))
            .and_then(|mut file| file.write_all(value.as_bytes()));
    }
}

/// Gives the interface its addresses, brings it up and sends all traffic through it.
fn address() -> io::Result<()> {
    let kind = SocketType::RAW;
    let netlink =
        rustix::net::socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, None)?;
    let index = rustix::net::netdevice::name_to_index(&netlink, NAME)?;
    ask(&netlink, &link_up(index))?;
    ask(&netlink, &new_address(index, GUEST.into(), PREFIX))?;
    ask(&netlink, &default_route(index, GATEWAY.into()))?;
    // A kernel without IPv6, or with it switched off, makes an IPv4 network.
    let _ = ask(&netlink, &new_address(index, GUEST6.into(), PREFIX6))
        .and_then(|()| ask(&netlink, &default_route(index, GATEWAY6.into())));
    Ok(())
}

/// Sends one rtnetlink(7) request and waits for the kernel's answer to it.
fn ask(netlink: &OwnedFd, message: &[u8]) -> io::Result<()> {
    /// `struct nlmsghdr`; an `NLMSG_ERROR` has the errno, negated, behind it.
    const HEADER: usize = 16;
    rustix::net::send(netlink, message, SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (got, _) = rustix::net::recv(netlink, &mut answer, RecvFlags::empty())?;
    let errno = answer[..got].get(HEADER..HEADER + 4);
    let Some(Ok(errno)) = errno.map(<[u8; 4]>::try_from) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    match i32::from_ne_bytes(errno) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}

/// A request of this type: netlink header, `body`, attributes.
fn request(kind: u16, body: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    // NLM_F_CREATE and NLM_F_EXCL on a link that is named by its index would ask for a new one.
    let flags = match kind {
        libc::RTM_NEWLINK => libc::NLM_F_REQUEST | libc::NLM_F_ACK,
        _ => flags,
    };
    let mut message = vec![0; 4];
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    for (kind, value) in attributes {
        message.extend((value.len() as u16 + 4).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(*value);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    let length = (message.len() as u32).to_ne_bytes();
    message[..4].copy_from_slice(&length);
    message
}

/// `struct ifinfomsg`: up, with our MTU.
fn link_up(index: u32) -> Vec<u8> {
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    let mut body = vec![0; 4];
    for part in [index.to_ne_bytes(), up, up] {
        body.extend(part);
    }
    let mtu = (MTU as u32).to_ne_bytes();
    request(libc::RTM_NEWLINK, &body, &[(libc::IFLA_MTU, &mtu)])
}

/// `struct ifaddrmsg`.
fn new_address(index: u32, address: IpAddr, prefix: u8) -> Vec<u8> {
    let (family, bytes) = parts(address);
    let mut body = vec![family, prefix, 0, 0];
    body.extend(index.to_ne_bytes());
    let attributes = [
        (libc::IFA_LOCAL, bytes.as_slice()),
        (libc::IFA_ADDRESS, bytes.as_slice()),
    ];
    request(libc::RTM_NEWADDR, &body, &attributes)
}

/// `struct rtmsg`: everything through `gateway`.
fn default_route(index: u32, gateway: IpAddr) -> Vec<u8> {
    let (family, bytes) = parts(gateway);
    let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_BOOT);
    let (scope, kind) = (libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST);
    let body = [family, 0, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0];
    let attributes = [
        (libc::RTA_GATEWAY, bytes.as_slice()),
        (libc::RTA_OIF, &index.to_ne_bytes()),
    ];
    request(libc::RTM_NEWROUTE, &body, &attributes)
}

fn parts(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_framed_as_netlink_wants_them() {
        let message = request(libc::RTM_NEWADDR, &[9; 8], &[(1, &[7; 3]), (2, &[8; 4])]);
        assert_eq!(message.len(), 16 + 8 + 8 + 8);
        assert_eq!(message[..4], 40_u32.to_ne_bytes());
        assert_eq!(message[4..6], libc::RTM_NEWADDR.to_ne_bytes());
        // An attribute's length leaves out the padding that follows it.
        let mut attributes = Vec::new();
        attributes.extend([7_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat());
        attributes.extend([7, 7, 7, 0]);
        attributes.extend([8_u16.to_ne_bytes(), 2_u16.to_ne_bytes()].concat());
        attributes.extend([8; 4]);
        assert_eq!(message[24..], attributes);
    }
}
