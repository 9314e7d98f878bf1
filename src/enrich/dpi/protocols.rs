//! Suricata's names of application protocols as names and categories of ours.

/// Suricata's name, our name, category.
#[rustfmt::skip]
pub(super) const PROTOCOLS: &[(&str, &str, &str)] = &[
    ("http", "HTTP", "web"), ("http1", "HTTP", "web"), ("http2", "HTTP", "web"), ("tls", "TLS", "web"),
    ("quic", "QUIC", "web"), ("websocket", "WebSocket", "web"), ("dns", "DNS", "dns"), ("doh2", "DNS over HTTPS", "dns"),
    ("mdns", "mDNS", "dns"), ("llmnr", "LLMNR", "dns"), ("ssh", "SSH", "remote"), ("rdp", "RDP", "remote"),
    ("rfb", "VNC", "remote"), ("telnet", "Telnet", "remote"), ("smtp", "SMTP", "mail"), ("imap", "IMAP", "mail"),
    ("pop3", "POP3", "mail"), ("ftp", "FTP", "file"), ("ftp-data", "FTP", "file"), ("ftp_data", "FTP", "file"),
    ("tftp", "TFTP", "file"), ("smb", "SMB", "file"), ("nfs", "NFS", "file"), ("sip", "SIP", "voip"),
    ("rtp", "RTP", "voip"), ("bittorrent-dht", "BitTorrent", "torrent"), ("bittorrent_dht", "BitTorrent", "torrent"),
    ("bittorrent", "BitTorrent", "torrent"), ("ike", "IKE", "vpn"), ("ikev2", "IKE", "vpn"), ("openvpn", "OpenVPN", "vpn"),
    ("wireguard", "WireGuard", "vpn"), ("krb5", "Kerberos", "auth"), ("ldap", "LDAP", "directory"),
    ("snmp", "SNMP", "management"), ("dhcp", "DHCP", "system"), ("ntp", "NTP", "system"), ("dcerpc", "MS-RPC", "system"),
    ("mqtt", "MQTT", "iot"), ("modbus", "Modbus", "industrial"), ("dnp3", "DNP3", "industrial"),
    ("enip", "EtherNet/IP", "industrial"), ("pgsql", "PostgreSQL", "database"), ("mysql", "MySQL", "database"),
    ("irc", "IRC", "chat"), ("jabber", "XMPP", "chat"),
];

/// Longest name of a protocol that is not in the list; a made-up longer one is no name.
const NAME_BYTES_MAX: usize = 24;

/// Suricata's words for "not known".
const UNKNOWN: &[&str] = &["failed", "unknown", ""];

/// Our name and category of a protocol; a protocol that is not in the list goes by its own name.
pub(super) fn app(protocol: &str) -> Option<(String, &'static str)> {
    if UNKNOWN.contains(&protocol) {
        return None;
    }
    if let Some((_, name, category)) = PROTOCOLS.iter().find(|(known, _, _)| *known == protocol) {
        return Some(((*name).to_owned(), category));
    }
    let plain =
        protocol.len() <= NAME_BYTES_MAX && protocol.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    plain.then(|| (protocol.to_ascii_uppercase(), ""))
}

/// Whether events of this type are about a transaction of the protocol of the same name.
pub(super) fn is_protocol(event_type: &str) -> bool {
    PROTOCOLS.iter().any(|(known, _, _)| *known == event_type)
}
