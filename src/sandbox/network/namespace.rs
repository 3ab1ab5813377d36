//! Makes namespaces and what is in them: loopback, interfaces whose other end is a tun descriptor,
//! addresses and routes.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::sys;

use super::super::error::{Failure, Stage};
use super::addresses::{GATEWAY, GATEWAY6, GUEST, GUEST6, PREFIX, PREFIX6};
use super::interface::Wiring;

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

/// Makes the namespace of a private network.
pub(super) fn make() -> Result<Namespace, Failure> {
    on_a_thread(|| {
        let fd = bare()?;
        let tun = interface(&private())?;
        Ok(Namespace { fd, tun })
    })
}

/// Does `work` on a thread that is given up for it because it changes its namespace: the way
/// back would need rights over the caller's.
pub(super) fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let worker = std::thread::Builder::new().spawn(work);
    let done = worker.and_then(|thread| thread.join().map_err(|_| io::ErrorKind::Other.into()));
    done.map_err(|error| Failure::setup(Stage::Fork, "the network", error))?
}

/// Makes a namespace with nothing but loopback, and puts this thread into it.
pub(super) fn bare() -> Result<OwnedFd, Failure> {
    let at = |stage, what: &'static str| move |error: io::Error| Failure::setup(stage, what, error);
    let failed = at(Stage::NetworkNamespace, "the private network");
    sys::net::unshare_network().map_err(failed)?;
    sys::net::loopback_up().map_err(at(Stage::Loopback, "lo"))?;
    open_to_all();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())
        .map_err(|errno| failed(errno.into()))
}

/// Makes an interface in this thread's namespace; the other end comes back.
pub(super) fn interface(wiring: &Wiring) -> Result<OwnedFd, Failure> {
    let failed = |error| Failure::setup(Stage::Tun, super::TUN, error);
    let tun = super::open_tun().map_err(failed)?;
    sys::net::tun(&tun, &wiring.name).map_err(failed)?;
    address(wiring).map_err(|error| Failure::setup(Stage::Address, &wiring.name, error))?;
    lead_out(wiring)?;
    Ok(tun)
}

/// What the interface of a private network has.
fn private() -> Wiring {
    Wiring {
        name: NAME.to_owned(),
        addresses: vec![(GUEST.into(), PREFIX), (GUEST6.into(), PREFIX6)],
        gateways: vec![GATEWAY.into(), GATEWAY6.into()],
        beyond: Vec::new(),
    }
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

/// Gives the interface its addresses and brings it up.
fn address(wiring: &Wiring) -> io::Result<()> {
    let (netlink, index) = find(&wiring.name)?;
    ask(&netlink, &link_up(index))?;
    for (address, bits) in &wiring.addresses {
        unless_ipv6(
            *address,
            ask(&netlink, &new_address(index, *address, *bits)),
        )?;
    }
    Ok(())
}

/// Sends what lies beyond the interface, and everything else if it has gateways, through it.
pub(super) fn lead_out(wiring: &Wiring) -> Result<(), Failure> {
    let lead = || -> io::Result<()> {
        let (netlink, index) = find(&wiring.name)?;
        for address in &wiring.beyond {
            unless_there(ask(&netlink, &route_to(index, *address)))?;
        }
        for gateway in &wiring.gateways {
            let led = unless_there(ask(&netlink, &default_route(index, *gateway)));
            unless_ipv6(*gateway, led)?;
        }
        Ok(())
    };
    lead().map_err(|error| Failure::setup(Stage::Address, &wiring.name, error))
}

/// A kernel without IPv6, or with it switched off, makes an IPv4 network.
fn unless_ipv6(address: IpAddr, done: io::Result<()>) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => done,
        IpAddr::V6(_) => Ok(()),
    }
}

/// What is there already need not be made.
fn unless_there(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// A socket to ask by, and the number of an interface.
fn find(name: &str) -> io::Result<(OwnedFd, u32)> {
    let kind = SocketType::RAW;
    let netlink =
        rustix::net::socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, None)?;
    let index = rustix::net::netdevice::name_to_index(&netlink, name)?;
    Ok((netlink, index))
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

/// `struct rtmsg`: this one address.
fn route_to(index: u32, address: IpAddr) -> Vec<u8> {
    let (family, bytes) = parts(address);
    let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_BOOT);
    let (scope, kind) = (libc::RT_SCOPE_LINK, libc::RTN_UNICAST);
    let width = bytes.len() as u8 * 8;
    let body = [
        family, width, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0,
    ];
    let attributes = [
        (libc::RTA_DST, bytes.as_slice()),
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
