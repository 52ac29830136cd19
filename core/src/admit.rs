//! Admission: may this client connect, and if not, by which rule.
//!
//! Owns CIDR sets, a policy's allow and deny lists and its limit per client.
//! Counting live connections, and acting on a refusal, is the agent's; how often a
//! client may connect is [`rate`](crate::rate)'s. Called
//! once per connection, first thing after the client's address is known.

use std::net::IpAddr;
use std::num::NonZeroU32;

use ipnet::IpNet;

use crate::addr::{ClientAddr, canonical_net};
use crate::rate::Rate;

/// A set of networks that answers "is this address in any of them" by binary
/// search. Immutable; 8 bytes per IPv4 network and 32 per IPv6, fewer when they
/// overlap or touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrSet {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl CidrSet {
    /// The union of `nets`, each in its [`canonical_net`] form. IPv4 and IPv6 are
    /// apart: `::/0` is every IPv6 client and no IPv4 one.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match canonical_net(net) {
                IpNet::V4(net) => v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => v6.push((net.network().into(), net.broadcast().into())),
            }
        }
        Self {
            v4: Ranges::new(v4, |last| last.saturating_add(1)),
            v6: Ranges::new(v6, |last| last.saturating_add(1)),
        }
    }

    /// Whether `ip` is in one of the networks; an IPv4-mapped address is taken as
    /// the IPv4 address it means.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(v4) => self.v4.contains(v4.into()),
            IpAddr::V6(v6) => self.v6.contains(v6.into()),
        }
    }

    /// Whether it holds no address at all.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }
}

/// First and last address of each range; sorted, and with a gap between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges<T>(Box<[(T, T)]>);

impl<T: Copy + Ord> Ranges<T> {
    fn new(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> T) -> Self {
        ranges.sort_unstable();
        ranges.dedup_by(|(first, last), (_, before)| {
            let joins = *first <= after(*before);
            if joins {
                *before = (*before).max(*last);
            }
            joins
        });
        Self(ranges.into_boxed_slice())
    }

    fn contains(&self, ip: T) -> bool {
        let at = self.0.partition_point(|&(_, last)| last < ip);
        self.0.get(at).is_some_and(|&(first, _)| first <= ip)
    }
}

/// What a policy says about clients.
#[derive(Clone, Debug)]
pub struct Admission {
    /// `None` lets in everyone who is not denied.
    allow: Option<CidrSet>,
    deny: CidrSet,
    /// As people wrote them, to name the one that matched.
    deny_rules: Box<[IpNet]>,
    connections_per_client: Option<NonZeroU32>,
}

impl Admission {
    /// `deny` wins over `allow`; a non-empty `allow` refuses everyone else.
    pub fn new(
        allow: &[IpNet],
        deny: &[IpNet],
        connections_per_client: Option<NonZeroU32>,
    ) -> Self {
        Self {
            allow: (!allow.is_empty()).then(|| CidrSet::new(allow.iter().copied())),
            deny: CidrSet::new(deny.iter().copied()),
            deny_rules: deny.into(),
            connections_per_client,
        }
    }

    /// Whether this client may connect at all.
    ///
    /// # Errors
    /// [`Refusal::Denied`] or [`Refusal::NotAllowed`].
    pub fn admit(&self, client: ClientAddr) -> Result<(), Refusal> {
        let ip = client.ip();
        if self.deny.contains(ip)
            && let Some(rule) = self.denying_rule(ip)
        {
            return Err(Refusal::Denied { rule });
        }
        match &self.allow {
            Some(allow) if !allow.contains(ip) => Err(Refusal::NotAllowed),
            _ => Ok(()),
        }
    }

    /// Whether this client may have `live` connections, the new one included.
    ///
    /// # Errors
    /// [`Refusal::TooManyConnections`].
    pub fn within_limit(&self, live: u32) -> Result<(), Refusal> {
        match self.connections_per_client {
            Some(limit) if live > limit.get() => Err(Refusal::TooManyConnections { limit }),
            _ => Ok(()),
        }
    }

    /// The most specific; of equals the last written. Linear: refusals only.
    fn denying_rule(&self, ip: IpAddr) -> Option<IpNet> {
        let canonical = |rule: &IpNet| canonical_net(*rule);
        self.deny_rules
            .iter()
            .filter(|rule| canonical(rule).contains(&ip))
            .max_by_key(|rule| canonical(rule).prefix_len())
            .copied()
    }
}

/// Why a client was refused. Always the client's doing, or the policy's author's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The deny list names it.
    #[error("the policy denies {rule}, and the client's address is in it")]
    Denied {
        /// The most specific rule that matched, as written.
        rule: IpNet,
    },
    /// There is an allow list, and it does not name the client.
    #[error("the policy allows only the networks it lists, and the client's address is in none")]
    NotAllowed,
    /// It has as many connections as it may.
    #[error("the policy allows one client {limit} connections at a time, and it has them already")]
    TooManyConnections {
        /// The most it may have.
        limit: NonZeroU32,
    },
    /// Its connections come faster than they may; see [`rate`](crate::rate).
    #[error(
        "the policy allows one client {} new connections a second and {} at once, and more have come",
        rate.per_second, rate.burst
    )]
    TooFast {
        /// How fast they may come.
        rate: Rate,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    fn nets(written: &[&str]) -> Vec<IpNet> {
        written.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn client(ip: &str) -> ClientAddr {
        ClientAddr::new(SocketAddr::new(ip.parse().unwrap(), 50_000))
    }

    #[test]
    fn ranges_that_overlap_or_touch_are_one() {
        let set = CidrSet::new(nets(&[
            "10.0.0.0/25",
            "10.0.0.128/25",
            "10.0.0.7/32",
            "::/1",
        ]));
        assert_eq!((set.v4.0.len(), set.v6.0.len()), (1, 1));
        let all = CidrSet::new(nets(&[
            "0.0.0.0/0",
            "255.255.255.255/32",
            "::/0",
            "ffff::/16",
        ]));
        assert_eq!((all.v4.0.len(), all.v6.0.len()), (1, 1));
        assert!(CidrSet::new([]).is_empty());
        assert!(!set.is_empty());
    }

    #[test]
    fn the_edges_of_a_network_belong_to_it() {
        let set = CidrSet::new(nets(&[
            "192.0.2.0/24",
            "2001:db8::/32",
            "255.255.255.255/32",
        ]));
        for (ip, inside) in [
            ("192.0.1.255", false),
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("255.255.255.255", true),
            ("::ffff:192.0.2.9", true),
            ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("2001:db8::", true),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(set.contains(ip.parse().unwrap()), inside, "{ip}");
        }
    }

    #[test]
    fn deny_wins_and_names_the_most_specific_rule() {
        let allow = nets(&["10.0.0.0/8", "2001:db8::/32"]);
        let deny = nets(&[
            "10.1.0.0/16",
            "10.1.2.3/24",
            "::ffff:10.9.0.0/112",
            "2001:db8:bad::/48",
        ]);
        let admission = Admission::new(&allow, &deny, None);
        let denied = |rule: &str| {
            Err(Refusal::Denied {
                rule: rule.parse().unwrap(),
            })
        };
        for (ip, verdict) in [
            ("10.0.0.1", Ok(())),
            ("::ffff:10.0.0.1", Ok(())),
            ("10.1.0.1", denied("10.1.0.0/16")),
            ("10.1.2.9", denied("10.1.2.3/24")),
            ("10.9.0.5", denied("::ffff:10.9.0.0/112")),
            ("2001:db8:bad::1", denied("2001:db8:bad::/48")),
            ("2001:db8::1", Ok(())),
            ("192.0.2.1", Err(Refusal::NotAllowed)),
        ] {
            assert_eq!(admission.admit(client(ip)), verdict, "{ip}");
        }
    }

    #[test]
    fn the_limit_counts_the_new_connection() {
        let limit = NonZeroU32::new(2).unwrap();
        let admission = Admission::new(&[], &[], Some(limit));
        assert_eq!(admission.within_limit(2), Ok(()));
        assert_eq!(
            admission.within_limit(3),
            Err(Refusal::TooManyConnections { limit })
        );
        assert_eq!(
            Admission::new(&[], &[], None).within_limit(u32::MAX),
            Ok(())
        );
    }

    #[test]
    fn every_refusal_explains_itself() {
        let rule = "10.0.0.0/8".parse().unwrap();
        for (refusal, names) in [
            (Refusal::Denied { rule }, "10.0.0.0/8"),
            (Refusal::NotAllowed, "allows only"),
            (
                Refusal::TooManyConnections {
                    limit: NonZeroU32::new(64).unwrap(),
                },
                "64 connections",
            ),
            (
                Refusal::TooFast {
                    rate: Rate {
                        per_second: NonZeroU32::new(5).unwrap(),
                        burst: NonZeroU32::new(20).unwrap(),
                    },
                },
                "5 new connections a second and 20 at once",
            ),
        ] {
            assert!(refusal.to_string().contains(names), "{refusal}");
        }
    }

    /// Few bits vary, so that addresses fall into networks often.
    fn any_ip() -> impl Strategy<Value = IpAddr> {
        (0u8..3, any::<[u8; 2]>(), any::<u8>()).prop_map(|(family, [a, b], c)| {
            let v4 = Ipv4Addr::new(a & 3, b & 3, 0, c);
            match family {
                0 => IpAddr::V4(v4),
                1 => IpAddr::V6(v4.to_ipv6_mapped()),
                _ => IpAddr::V6(Ipv6Addr::from([
                    u16::from(a & 3),
                    0,
                    0,
                    0,
                    0,
                    0xffff,
                    0,
                    b.into(),
                ])),
            }
        })
    }

    fn any_net() -> impl Strategy<Value = IpNet> {
        (any_ip(), 0u8..=128).prop_map(|(ip, prefix)| {
            let longest = if ip.is_ipv4() { 32 } else { 128 };
            IpNet::new(ip, prefix.min(longest)).unwrap()
        })
    }

    fn some_nets() -> impl Strategy<Value = Vec<IpNet>> {
        proptest::collection::vec(any_net(), 0..12)
    }

    proptest! {
        #[test]
        fn a_set_is_a_scan(nets in some_nets(), ips in proptest::collection::vec(any_ip(), 1..40)) {
            let set = CidrSet::new(nets.iter().copied());
            prop_assert_eq!(set.is_empty(), nets.is_empty());
            for ip in ips {
                let scan = nets.iter().any(|&net| canonical_net(net).contains(&ip.to_canonical()));
                prop_assert_eq!(set.contains(ip), scan, "{}", ip);
            }
        }

        #[test]
        fn admission_is_a_scan(
            allow in some_nets(),
            deny in some_nets(),
            ips in proptest::collection::vec(any_ip(), 1..40),
        ) {
            let admission = Admission::new(&allow, &deny, None);
            for ip in ips {
                let holds = |net: &&IpNet| canonical_net(**net).contains(&ip.to_canonical());
                let verdict = admission.admit(ClientAddr::new(SocketAddr::new(ip, 1)));
                let longest = |net: &IpNet| canonical_net(*net).prefix_len();
                match deny.iter().filter(holds).map(longest).max() {
                    Some(prefix) => match verdict {
                        Err(Refusal::Denied { rule }) => {
                            prop_assert!(deny.contains(&rule) && holds(&&rule));
                            prop_assert_eq!(longest(&rule), prefix);
                        }
                        other => prop_assert!(false, "{ip}: {other:?}"),
                    },
                    None if allow.is_empty() || allow.iter().any(|net| holds(&net)) => {
                        prop_assert_eq!(verdict, Ok(()));
                    }
                    None => prop_assert_eq!(verdict, Err(Refusal::NotAllowed)),
                }
            }
        }
    }
}
