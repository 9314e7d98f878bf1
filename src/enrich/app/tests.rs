use super::*;

fn name(names: &Names, apps: &Apps, service: Service) -> Option<(String, String)> {
    let text = |number| names.texts.get(number).map_or(String::new(), |text| text.to_string());
    apps.app(service.app).map(|app| (text(app.name), text(app.category)))
}

#[rustfmt::skip]
const OLDER_NAMES: &[(u8, u16, &str)] = &[
    (6, 80, "HTTP"), (6, 443, "HTTPS"), (17, 53, "DNS"), (6, 53, "DNS"), (6, 22, "SSH"), (6, 25, "SMTP"), (6, 110, "POP3"),
    (6, 143, "IMAP"), (6, 3389, "RDP"), (6, 3306, "MySQL"), (6, 5432, "PostgreSQL"), (6, 6379, "Redis"),
    (6, 27017, "MongoDB"), (6, 21, "FTP"), (6, 23, "Telnet"), (17, 161, "SNMP"), (17, 162, "SNMP Trap"), (17, 67, "DHCP"),
    (17, 68, "DHCP"), (17, 123, "NTP"), (17, 514, "Syslog"), (17, 1194, "OpenVPN"), (6, 1723, "PPTP"), (17, 5060, "SIP"),
    (6, 5061, "SIPS"), (6, 8080, "HTTP-Proxy"), (6, 8443, "HTTPS-Alt"), (6, 993, "IMAPS"), (6, 995, "POP3S"),
    (6, 1433, "MSSQL"), (6, 1521, "Oracle"), (6, 389, "LDAP"), (6, 636, "LDAPS"), (6, 109, "POP2"),
];

#[test]
fn every_name_that_older_collectors_knew_is_there() {
    let names = Names::default();
    let apps = Apps::builtin(&names).unwrap();
    for &(protocol, port, want) in OLDER_NAMES {
        let service = apps.service(protocol, 50_001, port);
        assert_eq!(service.port, Some(port), "{want}");
        assert_eq!(name(&names, &apps, service).map(|n| n.0).as_deref(), Some(want));
    }
    for (protocol, want) in
        [(1, "ICMP"), (58, "ICMPv6"), (2, "IGMP"), (47, "GRE"), (50, "ESP"), (51, "AH"), (89, "OSPF")]
    {
        let service = apps.service(protocol, 0, 0x0800);
        assert_eq!(service.port, None);
        assert_eq!(name(&names, &apps, service).map(|n| n.0).as_deref(), Some(want));
    }
    assert_eq!((protocol::name(6), protocol::name(17), protocol::name(254)), (Some("TCP"), Some("UDP"), None));
}

#[test]
fn the_service_is_the_known_side_the_operators_before_the_lower() {
    let names = Names::default();
    let mut apps = Apps::builtin(&names).unwrap();
    let port = |apps: &Apps, src, dst| apps.service(6, src, dst).port;
    assert_eq!(port(&apps, 443, 50_000), Some(443));
    assert_eq!(port(&apps, 50_000, 443), Some(443));
    assert_eq!(port(&apps, 443, 80), Some(80));
    assert_eq!(port(&apps, 50_000, 50_001), Some(0));
    assert_eq!(apps.service(6, 50_000, 50_001).app, 0);
    apps.name_ports(&names, Transport::Tcp, 40_000..=40_009, ("Billing", "internal")).unwrap();
    assert_eq!(port(&apps, 40_005, 80), Some(40_005));
    assert_eq!(port(&apps, 80, 40_005), Some(40_005));
    assert_eq!(port(&apps, 40_007, 40_005), Some(40_005));
    assert_eq!(apps.service(17, 40_005, 40_006), Service { port: Some(0), app: 0 });
    let service = apps.service(6, 40_005, 80);
    assert_eq!(name(&names, &apps, service), Some(("Billing".into(), "internal".into())));
    assert_eq!(apps.service(136, 53, 9), apps.service(17, 53, 9));
    assert_eq!(apps.service(41, 1, 2).port, None);
}

#[test]
fn rows_of_the_built_in_table_are_sound() {
    for (transports, first, last, name, category) in builtin::PORTS {
        assert!(!transports.is_empty() && first <= last && *first > 0 && !name.is_empty() && !category.is_empty());
    }
}
