//! Egress rules, and what the kernel's longest-prefix match needs them to look like.
//!
//! The kernel finds one prefix, the longest. So each prefix carries the ports of every rule of the
//! workload that covers it: what the longest match says is what any rule says. Order never matters.

use core::cmp::Ordering;
use std::collections::BTreeMap;

use governor_common::{
    names::PORT_RANGES,
    net::{IPPROTO_TCP, IPPROTO_UDP, PortRange},
};
use ipnet::IpNet;

/// What a rule speaks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// The number the kernel knows it by.
    pub const fn number(self) -> u32 {
        match self {
            Self::Tcp => IPPROTO_TCP,
            Self::Udp => IPPROTO_UDP,
        }
    }
}

/// One entry of `egress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub to: IpNet,
    /// Sorted, not overlapping, not adjacent.
    pub ports: Vec<PortRange>,
    pub protocol: Protocol,
}

/// Each prefix of one workload with the ports of all rules that cover it. A prefix with more than
/// `PORT_RANGES` ranges is not whole and must be refused.
pub(super) fn prefixes(rules: &[Rule]) -> BTreeMap<(Protocol, IpNet), Vec<PortRange>> {
    let mut merged: BTreeMap<(Protocol, IpNet), Vec<PortRange>> = BTreeMap::new();
    for rule in rules {
        merged
            .entry((rule.protocol, rule.to))
            .or_default()
            .extend(&rule.ports);
    }
    // In this order a prefix comes after every prefix that covers it, so those that cover it are
    // the ones left on the stack.
    let mut stack: Vec<(Protocol, IpNet, Vec<PortRange>)> = Vec::new();
    for ((protocol, net), ports) in &mut merged {
        while let Some((above, outer, _)) = stack.last() {
            if above == protocol && outer.contains(net) {
                break;
            }
            stack.pop();
        }
        if let Some((_, _, inherited)) = stack.last() {
            ports.extend(inherited);
        }
        union(ports);
        // One more than fits is enough to be refused, however many there are.
        ports.truncate(PORT_RANGES + 1);
        stack.push((*protocol, *net, ports.clone()));
    }
    merged
}

/// Sorts ranges and joins those that overlap or touch.
pub(super) fn union(ports: &mut Vec<PortRange>) {
    ports.sort_by(order);
    let mut joined: Vec<PortRange> = Vec::new();
    for range in ports.iter() {
        match joined.last_mut() {
            Some(last) if range.low <= last.high.saturating_add(1) => {
                last.high = last.high.max(range.high);
            }
            _ => joined.push(*range),
        }
    }
    *ports = joined;
}

/// An order for rules, so that the same rules are the same policy however they were written.
pub(super) fn rule_order(a: &Rule, b: &Rule) -> Ordering {
    (a.protocol, a.to).cmp(&(b.protocol, b.to)).then_with(|| {
        let pairs = |rule: &Rule| {
            rule.ports
                .iter()
                .map(|p| (p.low, p.high))
                .collect::<Vec<_>>()
        };
        pairs(a).cmp(&pairs(b))
    })
}

fn order(a: &PortRange, b: &PortRange) -> Ordering {
    (a.low, a.high).cmp(&(b.low, b.high))
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_join() {
        let range = |low, high| PortRange { low, high };
        let mut ports = vec![
            range(90, 95),
            range(80, 89),
            range(1, 1),
            range(3, 65535),
            range(80, 80),
        ];
        union(&mut ports);
        assert_eq!(ports, [range(1, 1), range(3, 65535)]);
    }

    /// Few distinct bits, so that prefixes nest and addresses hit.
    fn address() -> impl Strategy<Value = IpAddr> {
        let byte = prop::sample::select(vec![0u8, 1, 2, 128, 129, 255]);
        prop_oneof![
            prop::array::uniform4(byte.clone()).prop_map(|b| IpAddr::V4(Ipv4Addr::from(b))),
            prop::array::uniform16(byte).prop_map(|b| IpAddr::V6(Ipv6Addr::from(b))),
        ]
    }

    fn net() -> impl Strategy<Value = IpNet> {
        (address(), 0u8..=128).prop_map(|(address, length)| {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, length.min(longest))
                .expect("length fits")
                .trunc()
        })
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let range = (1u16..40, 0u16..5).prop_map(|(low, n)| PortRange { low, high: low + n });
        let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]);
        (net(), prop::collection::vec(range, 1..4), protocol).prop_map(|(to, ports, protocol)| {
            Rule {
                to,
                ports,
                protocol,
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_longest_match_says_what_any_rule_says(
            rules in prop::collection::vec(rule(), 0..24),
            addresses in prop::collection::vec(address(), 1..16),
            port in 1u16..45,
        ) {
            let table = prefixes(&rules);
            prop_assume!(table.values().all(|ports| ports.len() <= PORT_RANGES));
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for address in addresses.iter().copied().chain(rules.iter().map(|r| r.to.addr())) {
                    let listed = |p: &PortRange| p.low <= port && port <= p.high;
                    let any = rules.iter().any(|rule| {
                        rule.protocol == protocol
                            && rule.to.contains(&address)
                            && rule.ports.iter().any(listed)
                    });
                    let longest = table
                        .iter()
                        .filter(|((p, net), _)| *p == protocol && net.contains(&address))
                        .max_by_key(|((_, net), _)| net.prefix_len());
                    let matched = longest.is_some_and(|(_, ports)| ports.iter().any(listed));
                    prop_assert_eq!(matched, any);
                }
            }
        }
    }
}
