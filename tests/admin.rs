//! The admin address of a real host: it answers programs and people, and no page of another site.

use crate::outcomes::stage;

const PATHS: [&str; 4] = ["/healthz", "/readyz", "/workers", "/metrics"];

#[tokio::test]
async fn a_page_of_another_site_learns_nothing() {
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@work\"\n";
    let stage = stage("cross-site", "", &[("probe", manifest)]).await;
    let own = stage.host.admin();
    let port = own.port();
    // What a browser says by itself when a page has it send a request here, by an address or by a name of its own that
    // leads here.
    for head in [
        format!("Host: {own}\r\nOrigin: https://evil.example"),
        format!("Host: {own}\r\nOrigin: null"),
        format!("Host: {own}\r\nOrigin: http://127.0.0.1:{}", port + 1),
        format!("Host: {own}\r\nSec-Fetch-Site: cross-site"),
        format!("Host: {own}\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors"),
        format!("Host: evil.example:{port}"),
        format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\nSec-Fetch-Site: same-origin"),
        format!("Host: localhost.evil.example:{port}"),
    ] {
        for path in PATHS {
            for method in ["GET", "HEAD", "POST", "OPTIONS"] {
                let (status, answer) = stage.host.ask(method, path, &head).await;
                assert_eq!(status, 403, "{method} {path} with {head}: {answer}");
                for told in ["probe", "sha256:", "wabbit_", "ready", "access-control-allow"] {
                    assert!(!answer.to_ascii_lowercase().contains(told), "{method} {path} with {head}: {answer}");
                }
            }
        }
    }
    for head in [
        format!("Host: {own}"),
        format!("Host: localhost:{port}"),
        format!("Host: [::1]:{port}"),
        format!("Host: {own}\r\nOrigin: http://{own}\r\nSec-Fetch-Site: same-origin"),
        format!("Host: {own}\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate"),
    ] {
        for path in PATHS {
            let (status, answer) = stage.host.ask("GET", path, &head).await;
            assert_eq!(status, 200, "{path} with {head}: {answer}");
            assert!(!answer.to_ascii_lowercase().contains("access-control-allow"), "{answer}");
        }
    }
    // Nothing there changes anything, whoever asks.
    for path in PATHS {
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(stage.host.ask(method, path, &format!("Host: {own}")).await.0, 405, "{method} {path}");
        }
    }
}
