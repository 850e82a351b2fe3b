//! A small HTTP server on this machine, which does what the path says:
//!
//! - `/echo` answers with the head and the body that it got;
//! - `/answer` with 201, the header `x-answer` as it got it in `x-test`, and method and body in the body;
//! - `/bytes/N` and `/chunked/N` with so many bytes;
//! - `/to?URL` with a redirect to that URL;
//! - `/kept/N` with 503 to the first N requests and 202 to the others, of which it keeps head and body;
//! - `/wait/MS` after that time;
//! - `/never` never, and `/slow` a byte every 50 ms, without an end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::certificates::Certificates;

/// The server. It is gone when this is dropped.
pub struct Server {
    /// `HOST:PORT`.
    pub address: SocketAddr,
    seen: Arc<Seen>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    heads: Mutex<Vec<String>>,
    kept: Mutex<Vec<(String, String)>>,
    asked_to_keep: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Server {
    /// In the clear, on 127.0.0.1.
    pub async fn start() -> Server {
        Server::bind("127.0.0.1", None).await
    }

    /// With TLS.
    pub async fn start_tls(address: &str, certificates: &Certificates) -> Server {
        let read = |path: &Path| CertificateDer::from_pem_file(path).unwrap();
        let key = PrivateKeyDer::from_pem_file(&certificates.key).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![read(&certificates.certificate)], key).unwrap();
        Server::bind(address, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn bind(address: &str, tls: Option<TlsAcceptor>) -> Server {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let counted = Arc::clone(&seen);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, tls) = (Arc::clone(&counted), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &seen).await,
                        // Who does not trust the certificate goes away in the middle.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &seen).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Server { address, seen, _serving: serving }
    }

    /// `http://HOST:PORT` and this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().unwrap().clone()
    }

    /// Heads and bodies of the requests to `/kept/N` that were answered with 202.
    pub fn kept(&self) -> Vec<(String, String)> {
        self.seen.kept.lock().unwrap().clone()
    }

    /// How many requests were being answered at once, at most.
    pub fn most_at_once(&self) -> usize {
        self.seen.most.load(Ordering::SeqCst)
    }

    /// How many are being answered.
    pub fn now(&self) -> usize {
        self.seen.now.load(Ordering::SeqCst)
    }
}

/// Counts a request for as long as it is there.
struct Counted<'a>(&'a Seen);

impl<'a> Counted<'a> {
    fn new(seen: &'a Seen) -> Self {
        let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        Self(seen)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body that comes in chunks.
async fn chunks(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.ok()?);
        }
        let length = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim_end(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        stream.read_exact(&mut chunk).await.ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend(&chunk[..length]);
    }
}

/// The body that follows that head.
async fn body_after(head: &str, stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    if head.contains("transfer-encoding: chunked") {
        return chunks(stream).await;
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// One request of one connection. None where the other side goes away.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    seen.heads.lock().unwrap().push(head.clone());
    let _counted = Counted::new(seen);
    let path = head.split(' ').nth(1).unwrap();
    let (path, query) = path[1..].split_once('?').unwrap_or((&path[1..], ""));
    let (what, number) = path.split_once('/').map_or((path, 0), |(what, number)| (what, number.parse().unwrap()));
    let fixed =
        |body: &str| format!("HTTP/1.1 200 OK\r\nx-server: wabbit\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    match what {
        "echo" => {
            let body = body_after(&head, &mut stream).await?;
            stream.write_all(fixed(&(head + &String::from_utf8_lossy(&body))).as_bytes()).await.ok()?;
        }
        "answer" => {
            let header = head.lines().find_map(|line| line.strip_prefix("x-test: ")).unwrap_or("none");
            let body = body_after(&head, &mut stream).await?;
            let body = [head.split(' ').next().unwrap().as_bytes(), b" ", &body].concat();
            let head = format!("HTTP/1.1 201 Created\r\nx-answer: {header}\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).await.ok()?;
        }
        "bytes" => stream.write_all(fixed(&"x".repeat(number)).as_bytes()).await.ok()?,
        "chunked" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            for _ in 0..number.div_ceil(1000) {
                stream.write_all(format!("3e8\r\n{}\r\n", "x".repeat(1000)).as_bytes()).await.ok()?;
            }
            stream.write_all(b"0\r\n\r\n").await.ok()?;
        }
        "to" => {
            let head = format!("HTTP/1.1 302 Found\r\nlocation: {query}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok()?;
        }
        "kept" => {
            let body = String::from_utf8(body_after(&head, &mut stream).await?).unwrap();
            let refused = seen.asked_to_keep.fetch_add(1, Ordering::SeqCst) < number;
            let status = if refused { "503 Service Unavailable" } else { "202 Accepted" };
            if !refused {
                seen.kept.lock().unwrap().push((head, body));
            }
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.ok()?;
        }
        "wait" => {
            tokio::time::sleep(Duration::from_millis(number as u64)).await;
            stream.write_all(fixed("waited").as_bytes()).await.ok()?;
        }
        "slow" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                stream.write_all(b"x").await.ok()?;
            }
        }
        // Until the other side goes away.
        "never" => while stream.read_u8().await.is_ok() {},
        _ => stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.ok()?,
    }
    let _ = stream.shutdown().await;
    Some(())
}
