//! Published ports on the machine's side: which are wanted, and the sockets that hold them.
//!
//! The sockets are opened by whoever starts a container, so that a port that can't be had is an
//! error of that command. The monitor keeps them until the container is started no more; the
//! stack of the container's network takes what arrives ([`crate::sandbox::network::Lease::publish`]).

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use serde::{Deserialize, Serialize};

use crate::image::ContainerConfig;
use crate::sandbox::network::{Protocol, Published};

use super::error::Error;
use super::spec::{Publish, Request};

/// Connections that wait until they are taken, as many as the kernel allows.
const BACKLOG: i32 = 4096;
/// Free ports that are tried before one is given up that only one address family has.
const TRIES: usize = 16;

/// A port of the machine that leads into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Where it is on the machine.
    pub outer: SocketAddr,
    /// Where it leads.
    pub inner: Published,
    /// Whether the machine's port was any free one.
    pub any: bool,
}

/// What `-p` asks for, and `-P` for every exposed port that `-p` does not name.
pub(super) fn wanted(request: &Request, image: &ContainerConfig) -> Vec<Publish> {
    let mut wanted = request.publish.clone();
    if !request.publish_all {
        return wanted;
    }
    let exposed: BTreeSet<&String> = image.exposed_ports.keys().chain(&request.expose).collect();
    for text in exposed {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let Ok(port) = port.parse() else { continue };
        // Nothing carries SCTP.
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => continue,
        };
        let named = |publish: &Publish| publish.inner() == Published { port, protocol };
        if !wanted.iter().any(named) {
            wanted.push(Publish {
                host_ip: None,
                host_port: None,
                spare: 0,
                port,
                protocol,
            });
        }
    }
    wanted
}

/// Opens the sockets of all that is wanted. A port that may be any is the one of `before` if that
/// is still free.
pub(super) fn open(wanted: &[Publish], before: &[Bound]) -> Result<Vec<(Bound, OwnedFd)>, Error> {
    let mut opened = Vec::new();
    for publish in wanted {
        let former = before.iter().find(|bound| {
            bound.any
                && bound.inner == publish.inner()
                && publish.host_ip.is_none_or(|ip| ip == bound.outer.ip())
        });
        let ports: Vec<u16> = match (publish.host_port, former) {
            (Some(first), _) => (first..=first.saturating_add(publish.spare)).collect(),
            (None, Some(former)) => {
                let former = std::iter::once(former.outer.port());
                former.chain(std::iter::repeat_n(0, TRIES)).collect()
            }
            (None, None) => vec![0; TRIES],
        };
        opened.extend(open_one(publish, &ports)?);
    }
    Ok(opened)
}

/// Opens the first of `ports` that is free at all addresses.
fn open_one(publish: &Publish, ports: &[u16]) -> Result<Vec<(Bound, OwnedFd)>, Error> {
    let mut refused = None;
    for port in ports {
        match open_at(publish, *port) {
            Ok(opened) => return Ok(opened),
            Err(taken @ (_, Errno::ADDRINUSE)) => refused = Some(taken),
            Err(other) => {
                refused = Some(other);
                break;
            }
        }
    }
    // There is one port to try at least.
    let (at, errno) =
        refused.unwrap_or((SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), Errno::INVAL));
    let protocol = publish.protocol;
    Err(match errno {
        Errno::ADDRINUSE => Error::PortTaken {
            at,
            protocol,
            by: holder(at.port(), protocol),
        },
        Errno::ACCESS | Errno::PERM => Error::PortPrivileged {
            port: at.port(),
            protocol,
        },
        errno => Error::Port {
            at,
            protocol,
            source: errno.into(),
        },
    })
}

/// Opens `port` at the address that is asked for, or at all of both families.
fn open_at(publish: &Publish, port: u16) -> Result<Vec<(Bound, OwnedFd)>, (SocketAddr, Errno)> {
    let bind = |ip: IpAddr, port| {
        let at = SocketAddr::new(ip, port);
        let (socket, outer) = socket(at, publish.protocol).map_err(|errno| (at, errno))?;
        let (inner, any) = (publish.inner(), publish.host_port.is_none());
        Ok((Bound { outer, inner, any }, socket))
    };
    if let Some(ip) = publish.host_ip {
        return Ok(vec![bind(ip, port)?]);
    }
    let first = bind(Ipv4Addr::UNSPECIFIED.into(), port)?;
    match bind(Ipv6Addr::UNSPECIFIED.into(), first.0.outer.port()) {
        Ok(second) => Ok(vec![first, second]),
        // A machine without IPv6.
        Err((_, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)) => Ok(vec![first]),
        Err(refused) => Err(refused),
    }
}

/// A socket that is bound to `at`, and the address it got.
fn socket(at: SocketAddr, protocol: Protocol) -> Result<(OwnedFd, SocketAddr), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let (kind, ip) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
    };
    let socket = rustix::net::socket_with(family, kind, flags, Some(ip))?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections that ended a moment ago are in nobody's way.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &at)?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    let outer = rustix::net::getsockname(&socket)?;
    let outer = SocketAddr::try_from(outer).map_err(|_| Errno::AFNOSUPPORT)?;
    Ok((socket, outer))
}

/// Name and number of a process that holds `port`, as far as `/proc` tells: other users'
/// descriptors are not shown.
fn holder(port: u16, protocol: Protocol) -> Option<String> {
    let word = protocol.word();
    let tables = [format!("/proc/net/{word}"), format!("/proc/net/{word}6")];
    let inodes: BTreeSet<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| sockets_at(&table, port, protocol))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut processes = processes.filter_map(|entry| entry.file_name().into_string().ok());
    processes.find_map(|pid| {
        let _: u32 = pid.parse().ok()?;
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let mut links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        links.find(|link| link.to_str().is_some_and(|link| inodes.contains(link)))?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!("`{}` (process {pid})", name.trim_end()))
    })
}

/// Inodes of the sockets in `table`, one of `/proc/net`, that hold `port`.
fn sockets_at(table: &str, port: u16, protocol: Protocol) -> Vec<String> {
    /// `TCP_LISTEN`.
    const LISTENS: &str = "0A";
    let port = format!("{port:04X}");
    let inode = |line: &str| {
        let mut words = line.split_whitespace();
        let (_, at) = words.nth(1)?.rsplit_once(':')?;
        let state = words.nth(1)?;
        let holds = at == port && (protocol == Protocol::Udp || state == LISTENS);
        let inode = words.nth(5)?;
        holds.then(|| inode.to_owned())
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
            1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
        assert_eq!(sockets_at(table, 8080, Protocol::Tcp), ["4711"]);
        assert_eq!(sockets_at(table, 8080, Protocol::Udp), ["4711", "4712"]);
        assert!(sockets_at(table, 80, Protocol::Tcp).is_empty());
    }

    #[test]
    fn all_exposed_ports_are_published_that_are_not_named() {
        let mut image = ContainerConfig::default();
        for port in ["80/tcp", "53/udp", "9/sctp", "443/tcp"] {
            image
                .exposed_ports
                .insert(port.to_owned(), Default::default());
        }
        let mut request = Request::new("x");
        request.expose = vec!["8000/tcp".to_owned()];
        request.publish = vec![Publish {
            host_ip: None,
            host_port: Some(8443),
            spare: 0,
            port: 443,
            protocol: Protocol::Tcp,
        }];
        let shown = |request: &Request| -> Vec<String> {
            let all = wanted(request, &image).into_iter();
            all.map(|p| format!("{:?} {} {}", p.host_port, p.port, p.protocol.word()))
                .collect()
        };
        assert_eq!(shown(&request), ["Some(8443) 443 tcp"]);
        request.publish_all = true;
        let all = [
            "Some(8443) 443 tcp",
            "None 53 udp",
            "None 80 tcp",
            "None 8000 tcp",
        ];
        assert_eq!(shown(&request), all);
    }

    #[test]
    fn a_free_port_is_free_in_both_families_and_comes_back() {
        let any = Publish {
            host_ip: None,
            host_port: None,
            spare: 0,
            port: 80,
            protocol: Protocol::Tcp,
        };
        let first = open(std::slice::from_ref(&any), &[]).unwrap();
        let bound: Vec<Bound> = first.iter().map(|(bound, _)| bound.clone()).collect();
        assert!(
            bound
                .iter()
                .all(|b| b.outer.port() == bound[0].outer.port())
        );
        assert_ne!(bound[0].outer.port(), 0);
        drop(first);
        let again = open(std::slice::from_ref(&any), &bound).unwrap();
        assert_eq!(again[0].0, bound[0]);
        let named = Publish {
            host_port: Some(bound[0].outer.port()),
            ..any
        };
        let refused = open(&[named], &[]).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(refused.contains(&format!("(process {pid})")), "{refused}");
    }
}
