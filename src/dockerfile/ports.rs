//! The words of EXPOSE once they are expanded: `80`, `80-90/udp`, `ip:host:container`.

use std::fmt;

/// A transport protocol of EXPOSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    /// `tcp`, the default.
    Tcp,
    /// `udp`.
    Udp,
    /// `sctp`.
    Sctp,
}

impl Proto {
    /// Returns the word image configs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One exposed port; shown as `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The number.
    pub number: u16,
    /// The protocol.
    pub proto: Proto,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.proto.name())
    }
}

/// Why a word names no ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// A protocol that is none of the three.
    #[error("invalid proto: {proto}")]
    Proto {
        /// The protocol as written.
        proto: String,
    },
    /// Neither a port nor a range of ports.
    #[error("invalid containerPort: {port}")]
    Port {
        /// The port as written.
        port: String,
    },
}

/// Reads one expanded word; a range becomes one port each.
///
/// Of `ip:host:container` only the container's part counts.
pub fn port_specs(word: &str) -> Result<Vec<Port>, PortError> {
    let (ports, proto) = match word.rsplit_once('/') {
        Some((ports, proto)) => (ports, proto),
        None => (word, "tcp"),
    };
    let proto = match proto.to_lowercase().as_str() {
        "tcp" | "" => Proto::Tcp,
        "udp" => Proto::Udp,
        "sctp" => Proto::Sctp,
        _ => {
            return Err(PortError::Proto {
                proto: proto.to_owned(),
            });
        }
    };
    let container = ports.rsplit(':').next().unwrap_or(ports);
    let wrong = || PortError::Port {
        port: container.to_owned(),
    };
    let (first, last) = container.split_once('-').unwrap_or((container, container));
    let number = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|_| digits)
            .ok_or_else(wrong)
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last)
        .map(|number| Port { number, proto })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(word: &str) -> Result<String, String> {
        let ports = port_specs(word).map_err(|e| e.to_string())?;
        Ok(ports
            .iter()
            .map(Port::to_string)
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn ports_and_ranges_are_read() {
        assert_eq!(shown("80"), Ok("80/tcp".into()));
        assert_eq!(shown("80/UDP"), Ok("80/udp".into()));
        assert_eq!(shown("80-82/sctp"), Ok("80/sctp 81/sctp 82/sctp".into()));
        assert_eq!(shown("127.0.0.1:8080:80"), Ok("80/tcp".into()));
        assert_eq!(shown("80/"), Ok("80/tcp".into()));
    }

    #[test]
    fn what_is_no_port_is_refused_in_buildkits_words() {
        assert_eq!(shown("80/tpc"), Err("invalid proto: tpc".into()));
        assert_eq!(shown("http"), Err("invalid containerPort: http".into()));
        assert_eq!(shown("70000"), Err("invalid containerPort: 70000".into()));
        assert_eq!(shown("9-8"), Err("invalid containerPort: 9-8".into()));
        assert_eq!(shown("+80"), Err("invalid containerPort: +80".into()));
        assert_eq!(shown("8080:"), Err("invalid containerPort: ".into()));
    }
}
