//! Whom a request comes from: the peer, or what a trusted proxy says of the one before it.

use axum::http::HeaderMap;
use ipnet::IpNet;
use std::net::IpAddr;
use std::net::SocketAddr;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of the client: the first from the right, beginning with the peer, that is not of a trusted proxy.
///
/// Each proxy appends the address it was asked from, so whatever a client has put there itself stands further left and is
/// never reached.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut address = peer;
    if !is_trusted(&address) {
        return address;
    }
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    for hop in lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',')) {
        let Some(before) = parse(hop.trim()) else { break };
        address = before;
        if !is_trusted(&address) {
            break;
        }
    }
    address
}

/// An address as proxies write it, with or without a port.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok();
    let address = address.or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    address.map(|address| address.to_canonical())
}

/// Who counts as one client: an IPv4 address, or the 64 bits that name a network of IPv6, within which a client may choose
/// addresses as it likes.
pub(super) fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::client_address;
    use super::client_of;
    use axum::http::HeaderMap;
    use ipnet::IpNet;

    fn client(peer: &str, lines: &[&str]) -> String {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "fd00::/8"].iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("X-Forwarded-For", line.parse().unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(client("192.0.2.1", &[]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &["198.51.100.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.9"]), "198.51.100.9");
        assert_eq!(client("fd00::1", &["[2001:db8::7]:443"]), "2001:db8::7");
    }

    #[test]
    fn addresses_are_read_from_the_right() {
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 198.51.100.9"]), "198.51.100.9");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 198.51.100.9:443,10.2.3.4"]), "198.51.100.9");
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "198.51.100.9", "10.2.3.4"]), "198.51.100.9");
        assert_eq!(client("10.0.0.1", &["::ffff:198.51.100.9"]), "198.51.100.9");
        assert_eq!(client("10.0.0.1", &["10.2.3.4"]), "10.2.3.4");
    }

    #[test]
    fn what_cannot_be_read_ends_the_way() {
        assert_eq!(client("10.0.0.1", &["198.51.100.9, unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["unknown, 10.2.3.4"]), "10.2.3.4");
        assert_eq!(client("10.0.0.1", &[""]), "10.0.0.1");
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let of = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_ne!(of("192.0.2.1"), of("::c000:201:0:0:0:0"));
    }
}
