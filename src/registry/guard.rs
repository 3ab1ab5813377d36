//! Keeps a registry from sending us to places only we can reach.
//!
//! A registry names further addresses: token realms, redirects, upload locations, foreign layer
//! URLs. A public registry has no business naming `127.0.0.1`, `10.0.0.1` or the metadata
//! service of a cloud, so an address that is not public is refused unless the registry itself
//! lives in the same kind of network (GHSA reports against go-containerregistry and others).
//!
//! Names are checked where they are resolved, by being the client's resolver: the addresses that
//! were checked are the ones that get connected to, which leaves no room for DNS rebinding.
//! Address literals never reach a resolver; [`Guard::check`] looks at those. What a proxy
//! resolves for us is the proxy's to guard.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// What kind of network an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The internet.
    Public,
    /// This machine.
    Loopback,
    /// RFC 1918, RFC 6598 and RFC 4193.
    Private,
    /// RFC 3927 and `fe80::/10`: where clouds keep their metadata service.
    LinkLocal,
    /// Unspecified, multicast, broadcast, reserved.
    Special,
}

/// Tells the network of an address. An IPv4 address inside an IPv6 one counts as itself.
pub(super) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => reach_v4(v4),
            None => reach_v6(v6),
        },
    }
}

/// IPv4-mapped, IPv4-compatible, NAT64 (RFC 6052) and 6to4 (RFC 3056) addresses.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    if let Some(v4) = v6.to_ipv4_mapped() {
        return Some(v4);
    }
    let s = v6.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(v4(high, low))
        }
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

fn reach_v4(v4: Ipv4Addr) -> Reach {
    let [a, b, ..] = v4.octets();
    if v4.is_loopback() {
        Reach::Loopback
    } else if v4.is_private() || (a == 100 && (64..128).contains(&b)) {
        Reach::Private
    } else if v4.is_link_local() {
        Reach::LinkLocal
    } else if a == 0 || a >= 224 || (a == 192 && b == 0 && v4.octets()[2] == 0) {
        Reach::Special
    } else {
        Reach::Public
    }
}

fn reach_v6(v6: Ipv6Addr) -> Reach {
    if v6.is_loopback() {
        Reach::Loopback
    } else if v6.is_unique_local() {
        Reach::Private
    } else if v6.is_unicast_link_local() {
        Reach::LinkLocal
    } else if v6.is_unspecified() || v6.is_multicast() || (v6.segments()[0] & 0xffc0) == 0xfec0 {
        Reach::Special
    } else {
        Reach::Public
    }
}

/// Why an address was refused. Travels inside a connection error of the HTTP client.
#[derive(Debug)]
pub(super) struct Blocked {
    /// The host that was named.
    pub(super) host: String,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no public address", self.host)
    }
}

impl std::error::Error for Blocked {}

/// Which places may be spoken to for the sake of one registry.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// The registry's own host name, without port, lower case.
    home: String,
    /// Hosts of the proxies that the user configured.
    proxies: Vec<String>,
    /// Networks that the registry was seen in.
    seen: Arc<Mutex<Vec<Reach>>>,
}

impl Guard {
    /// Guards for the registry (or web server) at `home`.
    pub(super) fn new(home: &Url, proxies: Vec<String>) -> Self {
        let seen = literal(home).map(reach).into_iter().collect();
        Self {
            home: home.host_str().unwrap_or_default().to_ascii_lowercase(),
            proxies,
            seen: Arc::new(Mutex::new(seen)),
        }
    }

    /// Returns whether `url` is at the registry's own host, whatever the port.
    pub(super) fn is_home(&self, url: &Url) -> bool {
        url.host_str()
            .is_some_and(|host| host.eq_ignore_ascii_case(&self.home))
    }

    /// Checks what can be seen in a URL that the registry named, when the registry itself was
    /// spoken to over `scheme`. Returns the rule that forbids it.
    pub(super) fn check(&self, url: &Url, scheme: &str) -> Result<(), &'static str> {
        match url.scheme() {
            "https" => {}
            "http" if scheme == "http" => {}
            "http" => return Err("it would leave https for http"),
            _ => return Err("only http and https are spoken"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the address holds a user name");
        }
        match literal(url) {
            Some(address) if !self.is_home(url) && !self.allows(address) => Err(NOT_PUBLIC),
            _ => Ok(()),
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        let kind = reach(address);
        kind == Reach::Public || self.lock().contains(&kind)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Reach>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pick(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Blocked> {
        let host = host.to_ascii_lowercase();
        if host == self.home {
            *self.lock() = found.iter().map(|a| reach(a.ip())).collect();
            return Ok(found);
        }
        if self.proxies.contains(&host) {
            return Ok(found);
        }
        let open: Vec<SocketAddr> = found.into_iter().filter(|a| self.allows(a.ip())).collect();
        if open.is_empty() {
            return Err(Blocked { host });
        }
        Ok(open)
    }
}

/// The rule about addresses, as shown.
pub(super) const NOT_PUBLIC: &str = "it is in a private network and the registry is not";

fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let lookup = host.clone();
            let found = tokio::task::spawn_blocking(move || {
                (lookup.as_str(), 0).to_socket_addrs().map(Vec::from_iter)
            })
            .await??;
            let open = guard.pick(&host, found)?;
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(home: &str) -> Guard {
        Guard::new(&Url::parse(home).unwrap(), Vec::new())
    }

    fn checked(home: &str, url: &str) -> Result<(), &'static str> {
        let home = Url::parse(home).unwrap();
        Guard::new(&home, Vec::new()).check(&Url::parse(url).unwrap(), home.scheme())
    }

    #[test]
    fn addresses_are_sorted_into_networks() {
        for (text, want) in [
            ("93.184.216.34", Reach::Public),
            ("127.8.9.1", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("10.1.2.3", Reach::Private),
            ("172.31.0.1", Reach::Private),
            ("172.32.0.1", Reach::Public),
            ("192.168.0.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("fd00::1", Reach::Private),
            ("169.254.169.254", Reach::LinkLocal),
            ("::ffff:169.254.169.254", Reach::LinkLocal),
            ("64:ff9b::a9fe:a9fe", Reach::LinkLocal),
            ("2002:7f00:1::", Reach::Loopback),
            ("::127.0.0.1", Reach::Loopback),
            ("fe80::1", Reach::LinkLocal),
            ("0.0.0.0", Reach::Special),
            ("0.1.2.3", Reach::Special),
            ("::", Reach::Special),
            ("255.255.255.255", Reach::Special),
            ("ff02::1", Reach::Special),
            ("2606:4700::1", Reach::Public),
        ] {
            assert_eq!(reach(text.parse().unwrap()), want, "{text}");
        }
    }

    #[test]
    fn t_reg_2_literals_outside_the_registrys_network_are_refused() {
        for to in [
            "https://169.254.169.254/latest",
            "https://127.0.0.1/t",
            "https://2130706433/t",
            "https://0x7f.1/t",
            "https://0177.0.0.1/t",
            "https://[::1]/t",
            "https://[::ffff:10.0.0.1]/t",
            "https://10.0.0.1/t",
            "https://0.0.0.0/t",
        ] {
            assert_eq!(checked("https://r.example", to), Err(NOT_PUBLIC), "{to}");
        }
        assert_eq!(
            checked("https://127.0.0.1:5000", "https://127.0.0.1/t"),
            Ok(())
        );
        assert_eq!(
            checked("https://127.0.0.1:5000", "https://127.0.0.2/t"),
            Ok(())
        );
        assert_eq!(checked("https://10.0.0.1", "https://10.9.9.9/t"), Ok(()));
        assert_eq!(
            checked("https://10.0.0.1", "https://169.254.169.254/"),
            Err(NOT_PUBLIC)
        );
    }

    #[test]
    fn t_reg_2_https_is_not_left_and_user_names_are_refused() {
        assert!(checked("https://r.example", "http://r.example/t").is_err());
        assert!(checked("https://r.example", "file:///etc/passwd").is_err());
        assert!(checked("https://r.example", "https://r.example@evil.example/").is_err());
        assert_eq!(
            checked("http://127.0.0.1:5000", "https://cdn.example/x"),
            Ok(())
        );
    }

    #[test]
    fn t_reg_2_a_name_that_resolves_to_a_private_address_is_refused() {
        let at = |ip: &str| vec![SocketAddr::new(ip.parse().unwrap(), 0)];
        let public = guard("https://r.example");
        assert!(public.pick("rebind.example", at("10.0.0.7")).is_err());
        assert!(public.pick("cdn.example", at("93.184.216.34")).is_ok());
        public.pick("R.example", at("10.0.0.5")).unwrap();
        assert!(public.pick("cdn.example", at("10.0.0.7")).is_ok());
        assert!(public.pick("cdn.example", at("127.0.0.1")).is_err());
    }
}
