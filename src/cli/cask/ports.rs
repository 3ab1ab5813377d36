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

/// docker's text of ports that lead into a container: `0.0.0.0:8080->80/tcp`. Neighbours become
/// a range: `0.0.0.0:8000-8001->80-81/tcp`.
pub(super) fn shown(bound: &[Bound]) -> Vec<String> {
    let mut sorted: Vec<&Bound> = bound.iter().collect();
    sorted.sort_by_key(|bound| {
        (
            bound.inner.protocol.word(),
            bound.outer.ip(),
            bound.inner.port,
        )
    });
    let follows = |a: &&Bound, b: &&Bound| {
        let same = a.outer.ip() == b.outer.ip() && a.inner.protocol == b.inner.protocol;
        let next = |a: u16, b: u16| a.checked_add(1) == Some(b);
        same && next(a.outer.port(), b.outer.port()) && next(a.inner.port, b.inner.port)
    };
    let runs = sorted.chunk_by(follows).filter_map(|run| {
        let (first, last) = (run.first()?, run.last()?);
        let outer = span(first.outer.port(), last.outer.port());
        let inner = span(first.inner.port, last.inner.port);
        let ip = match first.outer.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let protocol = first.inner.protocol.word();
        Some(format!("{ip}:{outer}->{inner}/{protocol}"))
    });
    runs.collect()
}

/// A port, or a range of ports.
fn span(first: u16, last: u16) -> String {
    match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    }
}

/// Ports such as `80/tcp`, neighbours as a range.
pub(super) fn joined(ports: &[String]) -> Vec<String> {
    let parsed = ports.iter().filter_map(|port| {
        let (number, protocol) = port.split_once('/')?;
        Some((protocol, number.parse::<u16>().ok()?))
    });
    let mut sorted: Vec<(&str, u16)> = parsed.collect();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|a, b| a.0 == b.0 && a.1.checked_add(1) == Some(b.1));
    let runs = runs.filter_map(|run| {
        let ((protocol, first), (_, last)) = (run.first()?, run.last()?);
        Some(format!("{}/{protocol}", span(*first, *last)))
    });
    runs.collect()
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
    fn neighbours_are_shown_as_ranges() {
        let bound = |outer: &str, port, protocol| Bound {
            outer: outer.parse().unwrap(),
            inner: Published { port, protocol },
            any: false,
        };
        let all = [
            bound("0.0.0.0:8001", 81, Protocol::Tcp),
            bound("[::]:8000", 80, Protocol::Tcp),
            bound("0.0.0.0:8000", 80, Protocol::Tcp),
            bound("0.0.0.0:9000", 82, Protocol::Tcp),
            bound("0.0.0.0:8002", 82, Protocol::Udp),
        ];
        assert_eq!(
            shown(&all),
            [
                "0.0.0.0:8000-8001->80-81/tcp",
                "0.0.0.0:9000->82/tcp",
                "[::]:8000->80/tcp",
                "0.0.0.0:8002->82/udp"
            ]
        );
        let exposed = ["80/tcp", "443/tcp", "81/tcp", "81/udp"].map(str::to_owned);
        assert_eq!(joined(&exposed), ["80-81/tcp", "443/tcp", "81/udp"]);
        assert!(shown(&[]).is_empty() && joined(&[]).is_empty());
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
