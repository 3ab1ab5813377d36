//! `-p`, `--expose`, and what ports look like.

use std::net::IpAddr;

use crate::runner::{Bound, Container, Publish};
use crate::sandbox::network::Protocol;

/// Ports and the protocol behind them; a range has all its ports.
fn range(text: &str) -> Result<Vec<u16>, String> {
    let bad = || format!("`{text}` is no port or range of ports");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (
        first.parse().map_err(|_| bad())?,
        last.parse().map_err(|_| bad())?,
    );
    match first == 0 || last < first {
        true => Err(bad()),
        false => Ok((first..=last).collect()),
    }
}

fn protocol(text: &str) -> Result<(&str, &str), String> {
    match text.rsplit_once('/') {
        None => Ok((text, "tcp")),
        Some((port, protocol @ ("tcp" | "udp" | "sctp"))) => Ok((port, protocol)),
        Some((_, other)) => Err(format!("`{other}` is no protocol: tcp, udp or sctp")),
    }
}

/// Parses `PORT[-PORT][/PROTOCOL]`.
pub(super) fn expose(text: &str) -> Result<Vec<String>, String> {
    let (ports, protocol) = protocol(text)?;
    let ports = range(ports)?.into_iter();
    Ok(ports.map(|port| format!("{port}/{protocol}")).collect())
}

/// Parses `[[IP:][PORT]:]PORT[/PROTOCOL]`, ranges included. One port of the container may have
/// any of a range of the machine's.
pub(super) fn publish(text: &str) -> Result<Vec<Publish>, String> {
    let (rest, protocol) = protocol(text)?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => return Err(format!("{other} can't be published, only tcp and udp")),
    };
    let (rest, inner) = match rest.rsplit_once(':') {
        Some((rest, inner)) => (Some(rest), range(inner)?),
        None => (None, range(rest)?),
    };
    let outside = rest.map(|rest| rest.rsplit_once(':').unwrap_or(("", rest)));
    let (host_ip, outer) = outside.unwrap_or_default();
    let host_ip = host_ip.trim_start_matches('[').trim_end_matches(']');
    let host_ip: Option<IpAddr> = match host_ip {
        "" => None,
        ip => Some(ip.parse().map_err(|_| format!("`{ip}` is no address"))?),
    };
    let outer = match outer {
        "" | "0" => None,
        outer => Some(range(outer)?),
    };
    let publish = |port, host_port, spare| Publish {
        host_ip,
        host_port,
        spare,
        port,
        protocol,
    };
    Ok(match (&inner[..], outer.as_deref()) {
        (inner, None) => inner.iter().map(|port| publish(*port, None, 0)).collect(),
        ([port], Some([first, .., last])) => vec![publish(*port, Some(*first), last - first)],
        (inner, Some(outer)) if inner.len() == outer.len() => {
            let pairs = inner.iter().zip(outer);
            pairs
                .map(|(inner, outer)| publish(*inner, Some(*outer), 0))
                .collect()
        }
        _ => return Err("the two ranges have different lengths".to_owned()),
    })
}

/// docker's text of the ports of a container: those that lead in, `0.0.0.0:8080->80/tcp`, and the
/// `closed` ones that do not, `90/tcp`. Neighbours are a range where the port is the same on both
/// sides, and stand before the others.
pub(super) fn listed(bound: &[Bound], closed: &[String]) -> String {
    let open = bound.iter().map(|bound| {
        let (ip, outer) = (Some(bound.outer.ip()), bound.outer.port());
        (bound.inner.port, ip, outer, bound.inner.protocol.word())
    });
    let closed = closed.iter().filter_map(|port| {
        let (number, protocol) = port.split_once('/')?;
        let number = number.parse().ok()?;
        Some((number, None, number, protocol))
    });
    let mut sorted: Vec<(u16, Option<IpAddr>, u16, &str)> = open.chain(closed).collect();
    sorted.sort_unstable();
    let mut runs: Vec<Run<'_>> = Vec::new();
    let (mut shown, mut mapped) = (Vec::new(), Vec::new());
    for (port, ip, outer, protocol) in sorted {
        let run = Run {
            ip,
            protocol,
            first: port,
            last: port,
        };
        if outer != port {
            mapped.push(run.text(&outer.to_string()));
            continue;
        }
        let known = runs.iter_mut();
        match known
            .into_iter()
            .find(|known| known.ip == ip && known.protocol == protocol)
        {
            Some(known) if known.last.checked_add(1) == Some(port) => known.last = port,
            Some(known) => {
                shown.push(known.text(&known.span()));
                *known = run;
            }
            None => runs.push(run),
        }
    }
    shown.extend(runs.iter().map(|run| run.text(&run.span())));
    shown.extend(mapped);
    shown.join(", ")
}

/// Neighbouring ports of a container.
struct Run<'p> {
    /// Where they lead in, if they do.
    ip: Option<IpAddr>,
    protocol: &'p str,
    first: u16,
    last: u16,
}

impl Run<'_> {
    fn span(&self) -> String {
        match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        }
    }

    /// The text, `outer` being the ports of the machine.
    fn text(&self, outer: &str) -> String {
        let inner = format!("{}/{}", self.span(), self.protocol);
        match self.ip {
            None => inner,
            Some(IpAddr::V4(ip)) => format!("{ip}:{outer}->{inner}"),
            Some(IpAddr::V6(ip)) => format!("[{ip}]:{outer}->{inner}"),
        }
    }
}

/// The port in the container, as `80/tcp`.
pub(super) fn inner(bound: &Bound) -> String {
    format!("{}/{}", bound.inner.port, bound.inner.protocol.word())
}

/// The port in the container that is to be published, as `80/tcp`.
pub(super) fn target(publish: &Publish) -> String {
    format!("{}/{}", publish.port, publish.protocol.word())
}

/// The port of the machine, as `8080/tcp`.
pub(super) fn outer(bound: &Bound) -> String {
    format!("{}/{}", bound.outer.port(), bound.inner.protocol.word())
}

/// Ports of a container that lead nowhere outside, though its program is said to listen there.
pub(super) fn unpublished(container: &Container, bound: &[Bound]) -> Vec<String> {
    let config = &container.config;
    let exposed = config.image_config.exposed_ports.keys();
    let mut ports: Vec<&String> = exposed.chain(&config.request.expose).collect();
    ports.sort();
    ports.dedup();
    let leads = |port: &str| bound.iter().any(|bound| inner(bound) == port);
    let ports = ports.into_iter().filter(|port| !leads(port));
    ports.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::network::Published;

    #[test]
    fn ports_are_listed_as_docker_lists_them() {
        let bound = |outer: &str, port, protocol| Bound {
            outer: outer.parse().unwrap(),
            inner: Published { port, protocol },
            any: false,
        };
        let mapped = [
            bound("0.0.0.0:8001", 81, Protocol::Tcp),
            bound("[::]:8000", 80, Protocol::Tcp),
            bound("0.0.0.0:8000", 80, Protocol::Tcp),
            bound("0.0.0.0:8002", 82, Protocol::Udp),
        ];
        let mapped_text = "0.0.0.0:8000->80/tcp, [::]:8000->80/tcp, 0.0.0.0:8001->81/tcp, \
            0.0.0.0:8002->82/udp";
        assert_eq!(listed(&mapped, &[]), mapped_text);
        let same = [
            bound("0.0.0.0:81", 81, Protocol::Tcp),
            bound("0.0.0.0:80", 80, Protocol::Tcp),
            bound("0.0.0.0:9000", 82, Protocol::Tcp),
        ];
        let closed = ["90/tcp", "443/tcp", "91/tcp", "91/udp"].map(str::to_owned);
        assert_eq!(
            listed(&same, &closed),
            "90-91/tcp, 0.0.0.0:80-81->80-81/tcp, 443/tcp, 91/udp, 0.0.0.0:9000->82/tcp"
        );
        assert_eq!(listed(&[], &[]), "");
    }

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        let one = |publish: &Publish| {
            let ip = publish
                .host_ip
                .map_or_else(String::new, |ip| ip.to_string());
            let (outer, inner) = (publish.host_port.unwrap_or(0), publish.port);
            format!(
                "{ip} {outer}+{} {inner}/{}",
                publish.spare,
                publish.protocol.word()
            )
        };
        let all = |text: &str| -> Vec<String> { publish(text).unwrap().iter().map(one).collect() };
        assert_eq!(all("80"), [" 0+0 80/tcp"]);
        assert_eq!(all("8080:80"), [" 8080+0 80/tcp"]);
        assert_eq!(all("127.0.0.1:8080:80/udp"), ["127.0.0.1 8080+0 80/udp"]);
        assert_eq!(all("127.0.0.1::80"), ["127.0.0.1 0+0 80/tcp"]);
        assert_eq!(all("[::1]:8080:80"), ["::1 8080+0 80/tcp"]);
        assert_eq!(all("1-2:11-12"), [" 1+0 11/tcp", " 2+0 12/tcp"]);
        assert_eq!(all("11-12"), [" 0+0 11/tcp", " 0+0 12/tcp"]);
        assert_eq!(all("8000-8009:80"), [" 8000+9 80/tcp"]);
        for bad in [
            "",
            "0",
            "x:80",
            "1-2:80-82",
            "1:80-81",
            "2-1:2-1",
            "80/icmp",
            "80/sctp",
            "nohost:1:2",
        ] {
            assert!(publish(bad).is_err(), "{bad}");
        }
        assert_eq!(expose("53-54/udp").unwrap(), ["53/udp", "54/udp"]);
    }
}
