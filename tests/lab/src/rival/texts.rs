//! What nft, conntrackd and keepalived read: a configuration as their own documentation recommends it, with
//! buffers large enough for half a million sessions.

use std::path::Path;

use super::{Cache, RivalOptions};
use crate::topology::{Host, Network, SyncLink};

/// What the LAN opens may pass, and what belongs to it: the same policy as our nodes have in the lab.
pub(super) const RULES: &str = r#"
table inet firewall {
    chain untracked {
        type filter hook prerouting priority raw
        iifname "sync0" notrack
        ip protocol vrrp notrack
    }
    chain own {
        type filter hook output priority raw
        oifname "sync0" notrack
        ip protocol vrrp notrack
    }
    chain forward {
        type filter hook forward priority filter; policy drop
        ct state established,related accept
        ct state invalid drop
        iifname "lan0" oifname "wan0" ct state new accept
    }
}
"#;

/// Sessions that stay until they are ended, and addresses that are there at once.
pub(super) const SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/lan0/accept_dad", "0"),
    ("net/ipv6/conf/wan0/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/ip_forward", "1"),
    ("net/netfilter/nf_conntrack_udp_timeout", "7200"),
    ("net/netfilter/nf_conntrack_udp_timeout_stream", "7200"),
    ("net/netfilter/nf_conntrack_tcp_loose", "0"),
];

/// Addresses of a node's interfaces, as lines for `ip -batch`.
pub(super) fn addresses(node: Host) -> String {
    let mut lines = String::new();
    for network in Network::BOTH {
        let interface = network.link().node_interface;
        let v4 = network.node_address(node);
        let [_, net, _, host] = v4.octets();
        lines += &format!("link set {interface} arp on\nlink set {interface} up\n");
        lines += &format!("addr replace {v4}/24 dev {interface}\n");
        lines += &format!("addr replace fd00:{net}::{host}/64 dev {interface} nodad\n");
    }
    let sync = SyncLink::FIRST;
    lines += &format!("link set {0} arp on\nlink set {0} up\n", sync.name());
    lines + &format!("addr replace {}/24 dev {}\n", sync.address(node), sync.name())
}

/// Takes the addresses away that keepalived gave a node's interface.
pub(super) fn forget_shared(network: Network) -> String {
    let (interface, [_, net, ..]) = (network.link().node_interface, network.node_address(Host::A).octets());
    format!(
        "addr flush dev {interface} to 10.{net}.0.1/32\naddr flush dev {interface} to fd00:{net}::1/128\n"
    )
}

pub(super) fn conntrackd(node: Host, dir: &Path, options: RivalOptions) -> String {
    let sync = SyncLink::FIRST;
    let direct = if options.cache == Cache::None { "yes" } else { "no" };
    let dir = dir.display();
    format!(
        "Sync {{
    Mode FTFW {{
        ResendQueueSize 131072
        ACKWindowSize 300
        DisableExternalCache {direct}
    }}
    UDP {{
        IPv4_address {own}
        IPv4_Destination_Address {partner}
        Port 3780
        Interface {interface}
        SndSocketBuffer 33554432
        RcvSocketBuffer 33554432
        Checksum on
    }}
}}
General {{
    HashSize 262144
    HashLimit 4194304
    LogFile {dir}/conntrackd.log
    Syslog off
    LockFile {dir}/conntrackd.lock
    UNIX {{
        Path {dir}/conntrackd.ctl
    }}
    NetlinkBufferSize 33554432
    NetlinkBufferSizeMaxGrowth 134217728
}}
",
        own = sync.address(node),
        partner = sync.address(node.partner()),
        interface = sync.name(),
    )
}

pub(super) fn keepalived(node: Host, dir: &Path, options: RivalOptions) -> String {
    let dir = dir.display();
    let priority = if node == Host::A { 150 } else { 100 };
    let advert_s = f64::from(options.advert_ms) / 1000.0;
    let mut text = format!(
        "global_defs {{
    router_id {name}
    script_user root
    enable_script_security
    vrrp_version 3
    vrrp_priority -20
}}
vrrp_sync_group node {{
    group {{
        lan
        wan
    }}
    notify_master \"{dir}/role.sh primary\"
    notify_backup \"{dir}/role.sh backup\"
    notify_fault \"{dir}/role.sh fault\"
}}
",
        name = node.name(),
    );
    for network in Network::BOTH {
        let own = network.node_address(node);
        let [_, net, ..] = own.octets();
        text += &format!(
            "vrrp_instance {name} {{
    state BACKUP
    interface {interface}
    virtual_router_id {net}
    priority {priority}
    nopreempt
    advert_int {advert_s}
    unicast_src_ip {own}
    unicast_peer {{
        {partner}
    }}
    virtual_ipaddress {{
        10.{net}.0.1/24 dev {interface}
    }}
    virtual_ipaddress_excluded {{
        fd00:{net}::1/64 dev {interface}
    }}
}}
",
            name = network.name(),
            interface = network.link().node_interface,
            partner = network.node_address(node.partner()),
        );
    }
    text
}

/// What keepalived calls: the steps of conntrackd's own example for a pair.
///
/// Without an external cache one of them must go: `-t` has the kernel's table flushed a minute after a node
/// became the backup, and there that table is the mirror. Whoever leaves it in loses all sessions at the next
/// death after a quiet minute.
pub(super) fn role_script(dir: &Path, options: RivalOptions) -> String {
    let dir = dir.display();
    let (commit, purge) = match options.cache {
        Cache::External => ("call -c\n        ", "call -t\n        "),
        Cache::None => ("", ""),
    };
    format!(
        "#!/bin/sh
call() {{ conntrackd -C {dir}/conntrackd.conf \"$1\" >>{dir}/role.log 2>&1; }}
echo \"$(date +%s.%N) $1\" >>{dir}/role.log
case \"$1\" in
    primary)
        {commit}call -f
        call -R
        call -B
        ;;
    backup)
        {purge}call -n
        ;;
    fault)
        {purge}:
        ;;
esac
echo \"$(date +%s.%N) $1 done\" >>{dir}/role.log
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_in_the_kernels_table_is_not_purged() {
        let script = |cache| role_script(Path::new("/x"), RivalOptions { cache, advert_ms: 100 });
        let (cached, direct) = (script(Cache::External), script(Cache::None));
        assert!(cached.contains("call -c") && cached.contains("call -t"), "{cached}");
        assert!(!direct.contains("call -c") && !direct.contains("call -t"), "{direct}");
        assert!(direct.contains("call -n") && direct.contains("call -B"), "{direct}");
    }
}
