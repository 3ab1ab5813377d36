//! `-p` and `--expose`.

use crate::runner::Publish;

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

/// Parses `[[IP:][PORT]:]PORT[/PROTOCOL]`, ranges included.
pub(super) fn publish(text: &str) -> Result<Vec<Publish>, String> {
    let (rest, protocol) = protocol(text)?;
    let (rest, inner) = match rest.rsplit_once(':') {
        Some((rest, inner)) => (Some(rest), range(inner)?),
        None => (None, range(rest)?),
    };
    let outside = rest.map(|rest| rest.rsplit_once(':').unwrap_or(("", rest)));
    let (host_ip, outer) = outside.unwrap_or_default();
    let host_ip = host_ip.trim_start_matches('[').trim_end_matches(']');
    if !host_ip.is_empty() && host_ip.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("`{host_ip}` is no address"));
    }
    let outer: Vec<Option<u16>> = match outer {
        "" | "0" => vec![None; inner.len()],
        outer => range(outer)?.into_iter().map(Some).collect(),
    };
    if outer.len() != inner.len() {
        return Err("the two ranges have different lengths".to_owned());
    }
    let made = inner
        .into_iter()
        .zip(outer)
        .map(|(port, host_port)| Publish {
            host_ip: host_ip.to_owned(),
            host_port,
            port,
            protocol: protocol.to_owned(),
        });
    Ok(made.collect())
}

/// docker's text of a published port: `0.0.0.0:8080->80/tcp`.
pub(super) fn shown(port: &Publish) -> String {
    let ip = if port.host_ip.is_empty() {
        "0.0.0.0"
    } else {
        &port.host_ip
    };
    let outer = port
        .host_port
        .map_or_else(|| "0".to_owned(), |port| port.to_string());
    format!("{ip}:{outer}->{}/{}", port.port, port.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        let all =
            |text: &str| -> Vec<String> { publish(text).unwrap().iter().map(shown).collect() };
        assert_eq!(all("80"), ["0.0.0.0:0->80/tcp"]);
        assert_eq!(all("8080:80"), ["0.0.0.0:8080->80/tcp"]);
        assert_eq!(all("127.0.0.1:8080:80/udp"), ["127.0.0.1:8080->80/udp"]);
        assert_eq!(all("127.0.0.1::80"), ["127.0.0.1:0->80/tcp"]);
        assert_eq!(all("[::1]:8080:80"), ["::1:8080->80/tcp"]);
        assert_eq!(all("1-2:11-12"), ["0.0.0.0:1->11/tcp", "0.0.0.0:2->12/tcp"]);
        for bad in [
            "",
            "0",
            "x:80",
            "1-2:80",
            "2-1:2-1",
            "80/icmp",
            "nohost:1:2",
        ] {
            assert!(publish(bad).is_err(), "{bad}");
        }
        assert_eq!(expose("53-54/udp").unwrap(), ["53/udp", "54/udp"]);
    }
}
