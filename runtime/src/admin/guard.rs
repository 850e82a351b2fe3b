//! Who may ask: programs and people who mean this address, and no page that a browser on this machine happens to show.
//!
//! A page of any site can have the browser send requests to an address here, and with a name of its own that leads here
//! it can read the answers, too. Browsers say where a request comes from; and an address of this machine alone has no
//! name but `localhost`.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

/// Why a request is refused.
const CROSS_SITE: &str = "a request of another site\n";
const OTHER_NAME: &str = "a request to a name that is not of this machine\n";

/// Whether a request with these headers is answered, where the host listens `on_loopback` alone or not.
pub(super) fn check(on_loopback: bool, headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name| headers.get(name).map(|value: &header::HeaderValue| value.to_str().unwrap_or_default());
    if text("sec-fetch-site").is_some_and(|site| !["same-origin", "none"].contains(&site)) {
        return Err(CROSS_SITE);
    }
    let host = text("host");
    if let Some(origin) = text("origin")
        && host.is_none_or(|host| origin.strip_prefix("http://") != Some(host))
    {
        return Err(CROSS_SITE);
    }
    // Elsewhere the host may have any name: its service's, say.
    if on_loopback && host.is_some_and(|host| !of_this_machine(host)) {
        return Err(OTHER_NAME);
    }
    Ok(())
}

/// Whether `HOST` or `HOST:PORT` is an address or `localhost`.
fn of_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn answered(on_loopback: bool, headers: &[(&'static str, &str)], expected: bool) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        assert_eq!(check(on_loopback, &headers).is_ok(), expected, "{on_loopback} {headers:?}");
    }

    #[test]
    fn programs_and_people_are_answered() {
        for host in ["127.0.0.1:9290", "127.0.0.1", "localhost:9290", "LOCALHOST", "[::1]:9290", "10.0.0.7:80"] {
            answered(true, &[("host", host)], true);
        }
        answered(true, &[], true);
        answered(true, &[("host", "localhost:1"), ("sec-fetch-site", "none")], true);
        let own = [("host", "localhost:1"), ("sec-fetch-site", "same-origin"), ("origin", "http://localhost:1")];
        answered(true, &own, true);
        answered(false, &[("host", "wabbit.shop.svc:9290")], true);
    }

    #[test]
    fn pages_of_other_sites_are_not() {
        for host in ["evil.example", "localhost.evil.example:9290", "127.0.0.1.evil.example", "", "[", "::1:x"] {
            answered(true, &[("host", host)], false);
        }
        for on_loopback in [true, false] {
            for site in ["cross-site", "same-site", ""] {
                answered(on_loopback, &[("host", "127.0.0.1:1"), ("sec-fetch-site", site)], false);
            }
            for origin in ["null", "http://evil.example", "http://127.0.0.1:2", "https://127.0.0.1:1"] {
                answered(on_loopback, &[("host", "127.0.0.1:1"), ("origin", origin)], false);
            }
            answered(on_loopback, &[("origin", "http://127.0.0.1:1")], false);
        }
    }
}
