//! Where something is: destinations, ports, cgroups.
//!
//! As in `values`, there is one spelling per meaning. A prefix has no bits beyond its length, no
//! number has a leading zero, and a v4 address hides in no v6 prefix.

use core::net::{IpAddr, Ipv4Addr};

use governor_common::{
    names::{CGROUP_LEVELS, ZONE_PATH_LEN},
    net::PortRange,
};
use ipnet::{IpNet, Ipv4Net};

use super::report::{Complaint, quoted};

/// An address, or a prefix without bits beyond its length.
pub(super) fn prefix(text: &str) -> Result<IpNet, Complaint> {
    let Some(net) = net(text) else {
        let complaint = Complaint::new(format!("{} is not an address or prefix", quoted(text)));
        return Err(complaint.hint("write it like `10.20.0.0/16` or `2001:db8::/32`"));
    };
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        let meant = v4_prefix(v4, v6.prefix_len() - 96);
        let complaint = Complaint::new(format!("{} is a v4-mapped prefix", quoted(text)));
        return Err(complaint.hint(format!(
            "write `{meant}`, which covers mapped addresses too"
        )));
    }
    if net.addr() != net.network() {
        let complaint = Complaint::new(format!("{} has bits beyond its length", quoted(text)));
        return Err(complaint.hint(format!("write `{}`", net.trunc())));
    }
    Ok(net)
}

/// Numbers with a leading zero are refused: some programs read them as octal.
fn net(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    if !length.bytes().all(|byte| byte.is_ascii_digit())
        || (length.starts_with('0') && length != "0")
    {
        return None;
    }
    IpNet::new(address.parse().ok()?, length.parse().ok()?).ok()
}

fn v4_prefix(address: Ipv4Addr, length: u8) -> String {
    Ipv4Net::new(address, length)
        .map_or_else(|_| address.to_string(), |net| net.trunc().to_string())
}

/// `443` or `8000-8100`.
pub(super) fn ports(text: &str) -> Result<PortRange, Complaint> {
    let complaint = || {
        let complaint = Complaint::new(format!("{} is not a port or range of ports", quoted(text)));
        complaint.hint("write it like \"443\" or \"8000-8100\", from 1 to 65535")
    };
    let one = |text: &str| -> Option<u16> {
        if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        text.parse().ok()
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = one(low).zip(one(high)).ok_or_else(complaint)?;
    if low > high {
        let complaint = Complaint::new(format!("{} ends before it begins", quoted(text)));
        return Err(complaint.hint(format!("write \"{high}-{low}\"")));
    }
    Ok(PortRange { low, high })
}

/// A clean relative path of at least two components with names as systemd gives them.
pub(super) fn cgroup(text: &str) -> Result<(), Complaint> {
    let bad = |why: &str| Complaint::new(format!("cgroup {} {why}", quoted(text)));
    if text.starts_with('/') {
        return Err(bad("begins with `/`").hint("write it without the leading slash"));
    }
    // With the slash before it and the zero after it, and one byte to tell a path that fits from one
    // that was cut.
    if text.len() + 2 >= ZONE_PATH_LEN {
        return Err(bad(&format!("is longer than {} bytes", ZONE_PATH_LEN - 3)));
    }
    let parts: Vec<&str> = text.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(bad("contains `.`, `..` or an empty component"));
    }
    let unit = |c: char| c.is_ascii_alphanumeric() || ":_.\\@-".contains(c);
    if let Some(part) = parts.iter().find(|part| !part.chars().all(unit)) {
        return Err(bad(&format!(
            "has the component {}, which no unit has",
            quoted(part)
        )));
    }
    if parts.len() < 2 {
        let complaint = bad("has only one component");
        return Err(complaint.hint("a zone lies below the governed slice: `governed.slice/…`"));
    }
    if i32::try_from(parts.len()).unwrap_or(i32::MAX) >= CGROUP_LEVELS {
        return Err(bad(&format!(
            "has more than {} components",
            CGROUP_LEVELS - 1
        )));
    }
    Ok(())
}

/// Whether systemd would put the slices of this path where the path says. Otherwise: where not.
pub(super) fn slices_nest(text: &str) -> Result<(), Complaint> {
    let mut above: Option<&str> = None;
    for part in text.split('/') {
        let Some(slice) = part.strip_suffix(".slice") else {
            break;
        };
        let below = match above {
            None => !slice.contains('-'),
            Some(parent) => slice
                .strip_prefix(parent)
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|rest| !rest.is_empty() && !rest.contains('-')),
        };
        if !below {
            let message = format!("systemd does not put {} at this place", quoted(part));
            let hint = "a slice below `a.slice` is named `a-b.slice`";
            return Err(Complaint::new(message).hint(hint));
        }
        above = Some(slice);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for good in [
            "0.0.0.0/0",
            "10.20.0.0/16",
            "192.0.2.1",
            "2001:db8::/32",
            "::/0",
            "::1",
        ] {
            assert!(prefix(good).is_ok(), "{good}");
        }
        let hint = |text: &str| prefix(text).expect_err("refused").hint.expect("a hint");
        assert_eq!(hint("10.20.3.4/16"), "write `10.20.0.0/16`");
        assert!(hint("::ffff:10.0.0.0/104").contains("`10.0.0.0/8`"));
        assert!(hint("::ffff:10.0.0.1").contains("`10.0.0.1/32`"));
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "example.org",
            "fe80::1%eth0",
            "10.0.0.0/",
            "01.0.0.0/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
        ] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!(
            ports("443"),
            Ok(PortRange {
                low: 443,
                high: 443
            })
        );
        assert_eq!(
            ports("8000-8100"),
            Ok(PortRange {
                low: 8000,
                high: 8100
            })
        );
        for bad in [
            "", "0", "0-1", "-", "1-", "-1", "+1", "65536", "1-2-3", "2-1", "01", " 1", "http",
        ] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cgroups() {
        assert_eq!(cgroup("governed.slice/governed-agents.slice"), Ok(()));
        assert_eq!(cgroup("governed.slice/a@b\\x2d.service"), Ok(()));
        for bad in [
            "", "/a/b", "a", "a/", "a//b", "a/../b", "./a/b", "a/b c", "a/\u{e9}",
        ] {
            assert!(cgroup(bad).is_err(), "{bad}");
        }
        assert!(cgroup(&format!("a/{}", "b".repeat(123))).is_ok());
        assert!(cgroup(&format!("a/{}", "b".repeat(124))).is_err());
        assert!(cgroup(&["a"; 15].join("/")).is_ok());
        assert!(cgroup(&["a"; 16].join("/")).is_err());
        assert_eq!(
            slices_nest("governed.slice/governed-agents.slice/x.service"),
            Ok(())
        );
        assert!(slices_nest("governed.slice/agents.slice").is_err());
        assert!(slices_nest("governed.slice/governed-a-b.slice").is_err());
    }
}
