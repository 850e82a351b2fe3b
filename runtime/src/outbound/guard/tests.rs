//! The guard, held against tables of requests and addresses. Nothing is looked up and nothing is connected to.

use std::collections::BTreeSet;

use super::*;
use crate::{
    manifest::values::network,
    outbound::{Special, special},
};

fn grant(origin: &str, networks: &[&str]) -> HttpGrant {
    let networks = networks.iter().map(|text| network(text).unwrap()).collect();
    HttpGrant::parse(origin).unwrap().with_networks(networks)
}

fn grants() -> Vec<HttpGrant> {
    let mut grants: Vec<_> = [
        "https://api.example.com",
        "https://*.example.org",
        "http://plain.example:8080",
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "https://xn--bcher-kva.example",
        "https://93.184.216.34",
    ]
    .map(|origin| grant(origin, &[]))
    .into();
    grants.push(grant("https://intern.example", &["10.0.0.0/8", "fd00::/8"]));
    grants
}

/// The rows of a table: what stands there, and what is expected.
fn rows(table: &str) -> Vec<(&str, &str)> {
    let rows = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows: Vec<_> = rows.map(|line| line.split_once(' ').unwrap()).map(|(a, b)| (a, b.trim())).collect();
    let distinct: BTreeSet<_> = rows.iter().map(|(what, _)| what).collect();
    assert_eq!(distinct.len(), rows.len(), "a row stands there twice");
    rows
}

#[test]
fn requests_go_where_the_list_says() {
    let (grants, rows) = (grants(), rows(include_str!("requests.txt")));
    assert!(rows.len() >= 200, "{}", rows.len());
    let mut wrong = Vec::new();
    for (request, expected) in rows {
        let (scheme, authority) = request.split_once("://").unwrap();
        let told = match Target::judge(&grants, scheme, authority) {
            Ok(target) => format!("-> {}", target.origin),
            Err(Denied::NotGranted(_)) => "not granted".to_owned(),
            Err(Denied::NoOrigin) => "no origin".to_owned(),
        };
        if told != expected {
            wrong.push(format!("{request}: {told}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_cannot_be_written_in_a_table_is_no_origin() {
    let long = format!("{}.example.org", "a".repeat(300));
    for authority in [
        "",
        " api.example.com",
        "api.example.com ",
        "api.example.com\r\nHost: evil",
        "api.exa\tmple.com",
        "api.exa\nmple.com",
        "api.example.com\0",
        "api.example.com\u{7f}",
        "api.example.com\u{a0}",
        "127.0.0.1\u{2003}",
        &long,
    ] {
        assert_eq!(Target::judge(&grants(), "https", authority).unwrap_err(), Denied::NoOrigin, "{authority:?}");
    }
}

#[test]
fn addresses_are_what_they_are() {
    let rows = rows(include_str!("addresses.txt"));
    assert!(rows.len() >= 140, "{}", rows.len());
    let target = Target::judge(&grants(), "https", "api.example.com").unwrap();
    let mut wrong = Vec::new();
    for (text, expected) in rows {
        let address: IpAddr = text.parse().unwrap();
        let told = special(address).map_or("public".to_owned(), |special| special.to_string());
        if told != expected {
            wrong.push(format!("{text}: {told}, not {expected}"));
        }
        // To an origin without networks goes what is public, and nothing else.
        assert_eq!(target.admit(&[address]).is_ok(), expected == "public", "{text}");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The addresses of a request that may be connected to, or the first that may not and what it is.
#[track_caller]
fn check(grants: &[HttpGrant], origin: &str, addresses: &[&str], expected: Result<&[&str], (&str, Special)>) {
    let (scheme, authority) = origin.split_once("://").unwrap();
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let admitted = Target::judge(grants, scheme, authority).unwrap().admit(&addresses);
    let expected = expected.map(|list| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>());
    let expected = expected.map_err(|(text, special)| Prohibited { address: text.parse().unwrap(), special });
    assert_eq!(admitted, expected, "{origin}");
}

#[test]
fn networks_are_granted_by_entry() {
    let grants = grants();
    let api = "https://api.example.com";
    check(&grants, api, &["93.184.216.34"], Ok(&["93.184.216.34:443"]));
    check(&grants, api, &["10.0.0.1"], Err(("10.0.0.1", Special::Private)));
    check(&grants, api, &[], Ok(&[]));
    // Of several, those that are allowed are left.
    check(&grants, api, &["127.0.0.1", "1.1.1.1", "::1"], Ok(&["1.1.1.1:443"]));
    check(&grants, api, &["::1", "127.0.0.1"], Err(("::1", Special::Loopback)));
    let intern = "https://intern.example";
    check(&grants, intern, &["10.1.2.3", "fd00::5", "1.1.1.1"], Ok(&["10.1.2.3:443", "[fd00::5]:443", "1.1.1.1:443"]));
    check(&grants, intern, &["::ffff:10.1.2.3"], Ok(&["10.1.2.3:443"]));
    check(&grants, intern, &["192.168.0.1"], Err(("192.168.0.1", Special::Private)));
    check(&grants, intern, &["127.0.0.1"], Err(("127.0.0.1", Special::Loopback)));
    check(&grants, intern, &["169.254.169.254"], Err(("169.254.169.254", Special::Metadata)));
    // What stands for an address of a granted network may lead into another one of that number.
    check(&grants, intern, &["64:ff9b::10.0.0.1"], Err(("64:ff9b::a00:1", Special::Private)));
    check(&grants, intern, &["2002:a00:1::1"], Err(("2002:a00:1::1", Special::Tunnel)));
}

#[test]
fn an_entry_grants_what_it_names_itself() {
    let grants = grants();
    check(&grants, "http://127.0.0.1:8080", &["127.0.0.1"], Ok(&["127.0.0.1:8080"]));
    check(&grants, "http://[::1]:8080", &["::1"], Ok(&["[::1]:8080"]));
    check(&grants, "http://localhost:3000", &["::1", "127.0.0.1"], Ok(&["[::1]:3000", "127.0.0.1:3000"]));
    check(&grants, "http://localhost:3000", &["10.0.0.1"], Err(("10.0.0.1", Special::Private)));
    let mapped = [grant("http://[::ffff:a00:1]", &[])];
    check(&mapped, "http://[::ffff:10.0.0.1]", &["::ffff:10.0.0.1"], Ok(&["10.0.0.1:80"]));
}

#[test]
fn several_entries_grant_what_each_of_them_does() {
    let grants = [grant("https://*.example.org", &["10.0.0.0/8"]), grant("https://a.example.org", &["192.168.0.0/16"])];
    check(&grants, "https://a.example.org", &["10.0.0.1", "192.168.0.1"], Ok(&["10.0.0.1:443", "192.168.0.1:443"]));
    check(&grants, "https://b.example.org", &["192.168.0.1"], Err(("192.168.0.1", Special::Private)));
}

#[test]
fn no_network_grants_what_no_server_has() {
    let grants = [grant("https://a.example", &["0.0.0.0/8", "224.0.0.0/8", "240.0.0.0/8", "255.0.0.0/8", "ff00::/8"])];
    for (address, special) in [
        ("0.0.0.0", Special::Unspecified),
        ("224.0.0.1", Special::Multicast),
        ("255.255.255.255", Special::Broadcast),
        ("ff02::1", Special::Multicast),
    ] {
        check(&grants, "https://a.example", &[address], Err((address, special)));
    }
    check(&grants, "https://a.example", &["240.0.0.1"], Ok(&["240.0.0.1:443"]));
}
