//! Who may ask: programs and people who mean this address, and no page that a browser on this machine happens to show.
//!
//! A page of any site can have the browser send requests to an address here, and with a name of its own that leads here
//! it can read the answers, too. Browsers say where a request comes from; and an address of this machine alone has no
//! name but `localhost`.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use crate::sandbox::Digest;

/// Why a request is refused.
const CROSS_SITE: &str = "a request of another site\n";
const NO_TOKEN: &str = "an address that others can reach takes changes only with a token: set `admin-token`\n";
const WRONG_TOKEN: &str = "changes need the token that `admin-token` names\n";
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

/// Whether what changes something is answered, where there is this token or none.
pub(super) fn check_change(on_loopback: bool, token: Option<&str>, headers: &HeaderMap) -> Result<(), &'static str> {
    let Some(token) = token else { return if on_loopback { Ok(()) } else { Err(NO_TOKEN) } };
    let said = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // By their digests, so that the time that it takes says nothing about the token.
    let is_it = said.is_some_and(|said| Digest::of(said.as_bytes()) == Digest::of(token.as_bytes()));
    if is_it { Ok(()) } else { Err(WRONG_TOKEN) }
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
    fn changes_need_the_token() {
        let check = |on_loopback, token, said: Option<&str>| {
            let header = |said: &str| (header::AUTHORIZATION, said.parse().unwrap());
            check_change(on_loopback, token, &said.map(header).into_iter().collect())
        };
        assert_eq!(check(true, None, None), Ok(()));
        assert_eq!(check(false, None, None), Err(NO_TOKEN));
        assert_eq!(check(false, None, Some("Bearer x")), Err(NO_TOKEN));
        for on_loopback in [true, false] {
            assert_eq!(check(on_loopback, Some("abcd"), Some("Bearer abcd")), Ok(()));
            for said in [None, Some("abcd"), Some("Bearer"), Some("Bearer "), Some("Bearer abcde"), Some("Basic abcd")]
            {
                assert_eq!(check(on_loopback, Some("abcd"), said), Err(WRONG_TOKEN), "{said:?}");
            }
        }
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
