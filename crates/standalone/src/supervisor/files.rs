//! The texts of the files that a workload finds under `/etc`. Pure.

use std::fmt::Write;
use std::net::IpAddr;

use heddle_proto::node::{DnsSettings, HostAlias};

/// The most search domains glibc reads.
const SEARCH_MAX: usize = 32;

/// `/etc/resolv.conf`: every question goes to the fabric's address, where the proxy takes it.
pub(crate) fn resolv_conf(nameservers: &[IpAddr], dns: &DnsSettings) -> String {
    let mut text = String::new();
    for nameserver in nameservers.iter().take(3) {
        let _ = writeln!(text, "nameserver {nameserver}");
    }
    let search: Vec<_> = dns.search.iter().map(|s| one_word(s)).take(SEARCH_MAX).collect();
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    let _ = writeln!(text, "options ndots:{}", dns.ndots.min(15));
    text
}

/// `/etc/hosts`.
pub(crate) fn hosts(hostname: &str, addresses: &[IpAddr], aliases: &[HostAlias]) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    for address in addresses {
        let _ = writeln!(text, "{address} {}", one_word(hostname));
    }
    for alias in aliases {
        if alias.address.parse::<IpAddr>().is_ok() && !alias.names.is_empty() {
            let names: Vec<_> = alias.names.iter().map(|name| one_word(name)).collect();
            let _ = writeln!(text, "{} {}", alias.address, names.join(" "));
        }
    }
    text
}

/// `/etc/nsswitch.conf`: the host's, but host names come from the two files above only. Others (systemd's
/// resolver, mDNS) ask a daemon of the host over a Unix socket, past the proxy.
pub(crate) fn nsswitch_conf(of_host: &str) -> String {
    let is_hosts = |line: &&str| line.trim_start().starts_with("hosts:");
    let kept = of_host.lines().filter(|line| !is_hosts(line)).chain(["hosts: files dns"]);
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// Text that cannot break out of its place in a line.
fn one_word(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_what_kubernetes_would() {
        let dns = DnsSettings {
            search: vec!["shop.svc.cluster.local".into(), "svc.cluster.local".into()],
            ndots: 5,
            host_aliases: Vec::new(),
        };
        let nameserver = "10.244.0.1".parse().unwrap();
        assert_eq!(
            resolv_conf(&[nameserver], &dns),
            "nameserver 10.244.0.1\nsearch shop.svc.cluster.local svc.cluster.local\noptions ndots:5\n"
        );
        let alias = |address: &str, name: &str| HostAlias {
            address: address.into(),
            names: vec![name.into()],
        };
        let text = hosts(
            "web-0",
            &["10.244.0.7".parse().unwrap()],
            &[alias("192.0.2.1", "db\n6.6.6.6 evil"), alias("no address", "x")],
        );
        assert!(text.ends_with("10.244.0.7 web-0\n192.0.2.1 db6.6.6.6evil\n"), "{text}");
    }

    #[test]
    fn no_daemon_of_the_host_is_asked_for_names() {
        let host = "passwd: files systemd\nhosts: files mymachines resolve [!UNAVAIL=return] dns\n";
        assert_eq!(nsswitch_conf(host), "passwd: files systemd\nhosts: files dns\n");
        assert_eq!(nsswitch_conf(""), "hosts: files dns\n");
    }
}
