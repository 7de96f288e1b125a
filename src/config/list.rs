//! Settings that are lists: items with commas between, the same in a flag, a variable and a file.

use ipnet::IpNet;
use serde::Deserialize;
use std::net::IpAddr;
use std::str::FromStr;

/// Networks, each as `10.0.0.0/8` or as one address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Networks(pub Vec<IpNet>);

/// Limits that only count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
#[expect(clippy::struct_excessive_bools, reason = "a set of limits, each of which is in it or not")]
pub struct ShadowLimits {
    /// That of the replica.
    pub replica: bool,
    /// That of a client's address.
    pub client_address: bool,
    /// That of a server's token.
    pub server_token: bool,
    /// That of an administrator's token.
    pub admin_token: bool,
    /// Those of triggers.
    pub trigger: bool,
    /// Those of streams, but for how many a replica may have.
    pub streams: bool,
    /// That of the bodies of evaluations and of administrators' changes.
    pub body: bool,
    /// That of headers.
    pub headers: bool,
    /// Those of a context.
    pub context: bool,
}

impl ShadowLimits {
    const fn all() -> Self {
        Self {
            replica: true,
            client_address: true,
            server_token: true,
            admin_token: true,
            trigger: true,
            streams: true,
            body: true,
            headers: true,
            context: true,
        }
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = |item: &str| {
            let address = item.parse().ok().map(|address: IpAddr| IpNet::from(address));
            address.or_else(|| item.parse().ok()).ok_or_else(|| {
                format!("`{item}` is neither an address nor a network like 10.0.0.0/8")
            })
        };
        items(text).map(network).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for ShadowLimits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = Self::default();
        for item in items(text) {
            match item {
                "replica" => limits.replica = true,
                "client-address" => limits.client_address = true,
                "server-token" => limits.server_token = true,
                "admin-token" => limits.admin_token = true,
                "trigger" => limits.trigger = true,
                "streams" => limits.streams = true,
                "body" => limits.body = true,
                "headers" => limits.headers = true,
                "context" => limits.context = true,
                "all" => limits = Self::all(),
                _ => {
                    return Err(format!(
                        "`{item}` is no limit; there are replica, client-address, server-token, admin-token, trigger, streams, body, headers, context and all"
                    ));
                }
            }
        }
        Ok(limits)
    }
}

impl TryFrom<String> for Networks {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for ShadowLimits {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::Networks;
    use super::ShadowLimits;

    #[test]
    fn networks_are_read() {
        let networks: Networks = " 10.0.0.0/8, 192.0.2.1,fd00::/8 ,".parse().unwrap();
        let texts: Vec<String> = networks.0.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"]);
        assert_eq!("".parse(), Ok(Networks::default()));
        assert!("10.0.0.0/33".parse::<Networks>().is_err());
        assert!("proxy.internal".parse::<Networks>().is_err());
    }

    #[test]
    fn limits_are_read() {
        let limits: ShadowLimits = "replica, server-token".parse().unwrap();
        assert!(limits.replica && limits.server_token && !limits.client_address);
        assert_eq!("".parse(), Ok(ShadowLimits::default()));
        let each =
            "replica,client-address,server-token,admin-token,trigger,streams,body,headers,context";
        assert_eq!(each.parse::<ShadowLimits>(), "all".parse());
        assert!("replicas".parse::<ShadowLimits>().is_err());
    }
}
