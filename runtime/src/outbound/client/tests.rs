//! Requests to small servers on this machine, with names whose addresses the tests make up.

use std::{
    future,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http_body_util::{BodyExt as _, Empty, Full};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::manifest::HttpGrant;

/// A server that answers every connection with the same bytes, and keeps what it was asked.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// On this address; `answer` is written as it is, `then` says whether the connection is closed after it.
    async fn start(address: &str, answer: Vec<u8>, then: Then) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&server.asked);
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                asked.lock().unwrap().push(String::from_utf8(head).unwrap());
                let _ = stream.write_all(&answer).await;
                if then == Then::Wait {
                    open.push(stream);
                }
            }
        });
        server
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Wait,
}

fn settings() -> settings::Http {
    settings::Http {
        ca: None,
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        running: 10,
        body: 1000,
    }
}

/// A client for which every name has the addresses that `resolve` says, by the number of the look-up.
fn client(resolve: impl Fn(usize) -> Vec<IpAddr> + Send + Sync + 'static) -> (Client, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let mut client = Client::new(&settings()).unwrap();
    client.resolve = Arc::new(move |_, _| {
        let found = resolve(counted.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move { Ok(found) })
    });
    (client, count)
}

/// The only entry of a list, which lets through this network.
fn target(origin: &str, network: &str) -> Target {
    let networks = vec![crate::manifest::values::network(network).unwrap()];
    let grants = [HttpGrant::parse(origin).unwrap().with_networks(networks)];
    let (scheme, authority) = origin.split_once("://").unwrap();
    Target::judge(&grants, scheme, authority).unwrap()
}

fn timeouts() -> Timeouts {
    let time = Duration::from_secs(10);
    Timeouts { connect: time, first_byte: None, idle: time, deadline: Instant::now() + time }
}

/// Sends, and reads the response to its end.
async fn get(client: &Client, target: &Target, timeouts: Timeouts) -> Result<Bytes, SendError> {
    let request = Request::get("/path?query").body(Empty::new()).unwrap();
    let (response, driver) = client.send(target, request, &Places::default(), timeouts).await?;
    let driving = tokio::spawn(driver);
    let body = response.into_body().collect().await;
    driving.abort();
    Ok(body?.to_bytes())
}

fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

const ONE: [u8; 4] = [127, 0, 0, 1];
const TWO: [u8; 4] = [127, 0, 0, 2];

/// A name that changes its address between two look-ups gains nothing: there is one, and what it found is what is
/// connected to.
#[tokio::test]
async fn the_connection_is_made_to_the_address_that_was_checked() {
    let allowed = Server::start("127.0.0.1:0", answer("allowed"), Then::Close).await;
    let port = allowed.address.port();
    let secret = Server::start(&format!("127.0.0.2:{port}"), answer("secret"), Then::Close).await;
    let (client, lookups) = client(|number| vec![if number == 0 { ONE.into() } else { TWO.into() }]);
    let target = target(&format!("http://rebind.example:{port}"), "127.0.0.1/32");

    assert_eq!(get(&client, &target, timeouts()).await.unwrap(), "allowed");
    assert_eq!(lookups.load(Ordering::Relaxed), 1);
    // The next request looks up again, and what it finds is judged again.
    let refused = get(&client, &target, timeouts()).await.unwrap_err();
    assert_eq!(refused.to_string(), "127.0.0.2 is a loopback address");
    assert_eq!(lookups.load(Ordering::Relaxed), 2);
    assert_eq!((allowed.asked().len(), secret.asked().len()), (1, 0));
}

#[tokio::test]
async fn of_several_addresses_only_those_that_are_allowed_are_tried() {
    let allowed = Server::start("127.0.0.3:0", answer("allowed"), Then::Close).await;
    let port = allowed.address.port();
    let secret = Server::start(&format!("127.0.1.1:{port}"), answer("secret"), Then::Close).await;
    // Nobody listens at the second, which is allowed.
    let addresses = [[127, 0, 1, 1], TWO, [127, 0, 0, 3]].map(IpAddr::from);
    let (client, _) = client(move |_| addresses.into());
    let target = target(&format!("http://several.example:{port}"), "127.0.0.0/24");
    assert_eq!(get(&client, &target, timeouts()).await.unwrap(), "allowed");
    assert_eq!(secret.asked().len(), 0);
}

#[tokio::test]
async fn the_head_of_a_request_is_the_hosts_word_for_where_it_goes() {
    let server = Server::start("127.0.0.1:0", answer(""), Then::Close).await;
    let port = server.address.port();
    let (client, _) = client(|_| vec![ONE.into()]);
    let target = target(&format!("http://host.example:{port}"), "127.0.0.1/32");
    // Whatever the request itself says of it.
    let request = Request::post("http://evil.example/a?b#c").header("host", "evil.example").header("x-a", "1");
    let request = request.body(Full::new(Bytes::from("body"))).unwrap();
    client.send(&target, request, &Places::default(), timeouts()).await.map(drop).unwrap();
    let asked = server.asked().remove(0);
    assert!(asked.starts_with("POST /a?b HTTP/1.1\r\n"), "{asked}");
    assert!(!asked.contains("evil"), "{asked}");
    for line in [&format!("host: host.example:{port}"), "connection: close", "x-a: 1", &format!("user-agent: {AGENT}")]
    {
        assert!(asked.contains(&format!("\r\n{line}\r\n")), "{line}: {asked}");
    }
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let limit = settings().body;
    let largest = "x".repeat(limit);
    let (client, _) = client(|_| vec![ONE.into()]);
    let chunked = |sizes: &[usize]| {
        let chunks = sizes.iter().map(|size| format!("{size:x}\r\n{}\r\n", "x".repeat(*size)));
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunks.collect::<String>())
    };
    let to_the_end = |size: usize| format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(size));
    for (answer, fits) in [
        (String::from_utf8(answer(&largest)).unwrap(), true),
        (String::from_utf8(answer(&format!("{largest}x"))).unwrap(), false),
        (chunked(&[limit / 2, limit / 2]), true),
        (chunked(&[limit / 2, limit / 2, 1]), false),
        (to_the_end(limit), true),
        (to_the_end(limit + 1), false),
        // A body that is announced and never sent costs nothing.
        ("HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n".into(), false),
    ] {
        let server = Server::start("127.0.0.1:0", answer.clone().into_bytes(), Then::Close).await;
        let target = target(&format!("http://large.example:{}", server.address.port()), "127.0.0.1/32");
        match get(&client, &target, timeouts()).await {
            Ok(body) => assert!(fits && body.len() == limit, "{answer:.60}"),
            Err(SendError::ResponseTooLarge(told)) => assert!(!fits && told == limit as u64, "{answer:.60}"),
            Err(error) => panic!("{answer:.60}: {error}"),
        }
    }
    let server = Server::start("127.0.0.1:0", answer(""), Then::Wait).await;
    let target = target(&format!("http://large.example:{}", server.address.port()), "127.0.0.1/32");
    let body = Full::new(Bytes::from("x".repeat(limit + 1)));
    let told =
        client.send(&target, Request::post("/").body(body).unwrap(), &Places::default(), timeouts()).await.map(drop);
    assert!(matches!(told, Err(SendError::RequestTooLarge(1000))), "{told:?}");
    let announced = Request::post("/").header("content-length", "1001").body(Empty::new()).unwrap();
    let told = client.send(&target, announced, &Places::default(), timeouts()).await.map(drop);
    assert!(matches!(told, Err(SendError::RequestTooLarge(1000))), "{told:?}");
}

#[tokio::test]
async fn a_head_has_a_limit() {
    let (client, _) = client(|_| vec![ONE.into()]);
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(2 * RESPONSE_HEAD_BYTES_MAX));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(RESPONSE_HEADERS_MAX + 1));
    for answer in [large, many] {
        let server = Server::start("127.0.0.1:0", answer.into_bytes(), Then::Wait).await;
        let target = target(&format!("http://large.example:{}", server.address.port()), "127.0.0.1/32");
        match get(&client, &target, timeouts()).await.unwrap_err() {
            SendError::Http(error) => assert!(error.is_parse_too_large(), "{error}"),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn every_wait_has_an_end() {
    let short = Duration::from_millis(100);
    let (client, _) = client(|_| vec![ONE.into()]);
    let expect = async |answer: &str, timeouts: Timeouts, expected: &str| {
        let server = Server::start("127.0.0.1:0", answer.into(), Then::Wait).await;
        let target = target(&format!("http://slow.example:{}", server.address.port()), "127.0.0.1/32");
        let told = get(&client, &target, timeouts).await.unwrap_err();
        assert!(told.to_string().contains(expected), "{told}");
    };
    let deadline = || Timeouts { deadline: Instant::now() + short, ..timeouts() };
    expect("", Timeouts { first_byte: Some(short), ..timeouts() }, "the response took too long").await;
    expect("", deadline(), "the response took too long").await;
    expect("HTTP/1.1 200 OK\r\nx:", deadline(), "the response took too long").await;
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    expect(half, Timeouts { idle: short, ..timeouts() }, "silent for too long").await;

    // A name that nobody answers for, an address that takes no connection, and no place among those at once.
    let connect = || Timeouts { connect: short, ..timeouts() };
    let mut unanswered = Client::new(&settings()).unwrap();
    unanswered.resolve = Arc::new(|_, _| Box::pin(future::pending()));
    let target = target("http://slow.example:9", "127.0.0.1/32");
    assert!(matches!(get(&unanswered, &target, connect()).await, Err(SendError::LookUpTimeout)));
    assert!(matches!(get(&client, &target, timeouts()).await, Err(SendError::Connect(_))));
    let none = Places { at_once: vec![Arc::new(Semaphore::new(0))], lookups: None };
    let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    let told = client.send(&target, request, &none, connect()).await.map(drop);
    assert!(matches!(told, Err(SendError::TooManyAtOnce)), "{told:?}");
}

#[tokio::test]
async fn a_place_is_taken_until_the_body_is_gone() {
    let server = Server::start("127.0.0.1:0", answer("body"), Then::Wait).await;
    let (client, _) = client(|_| vec![ONE.into()]);
    let target = target(&format!("http://one.example:{}", server.address.port()), "127.0.0.1/32");
    let places = Places { at_once: vec![Arc::new(Semaphore::new(1))], lookups: None };
    let send = async |timeouts| {
        let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
        client.send(&target, request, &places, timeouts).await
    };
    let (first, _driver) = send(timeouts()).await.unwrap();
    let short = Timeouts { connect: Duration::from_millis(100), ..timeouts() };
    assert!(matches!(send(short).await, Err(SendError::TooManyAtOnce)));
    drop(first);
    assert!(send(timeouts()).await.is_ok());
}

#[tokio::test]
async fn the_system_finds_this_machine() {
    let place = Arc::new(Semaphore::new(1));
    let taken = Arc::clone(&place).try_acquire_owned().unwrap();
    let found = resolve::system()("localhost".into(), Some(taken)).await.unwrap();
    assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    assert_eq!(place.available_permits(), 1);
    assert!(resolve::system()("name.invalid".into(), None).await.is_err());
}

/// Names whose servers never answer keep only those from looking up who asked for them.
#[tokio::test]
async fn a_look_up_that_hangs_takes_a_place_of_its_owner() {
    let (mut client, _) = client(|_| vec![ONE.into()]);
    let begun = Arc::new(Mutex::new(Vec::new()));
    let hanging = Arc::clone(&begun);
    client.resolve = Arc::new(move |_, place| {
        hanging.lock().unwrap().push(place);
        Box::pin(future::pending())
    });
    let target = target("http://slow.example:9", "127.0.0.1/32");
    let ask = async |places: &Places| {
        let short = Timeouts { connect: Duration::from_millis(100), ..timeouts() };
        let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
        let told = client.send(&target, request, places, short).await.map(drop);
        assert!(matches!(told, Err(SendError::LookUpTimeout)), "{told:?}");
        begun.lock().unwrap().len()
    };
    let [one, other] =
        [1, 1].map(|count| Places { lookups: Some(Arc::new(Semaphore::new(count))), ..Places::default() });
    assert_eq!(ask(&one).await, 1);
    // It still hangs, though nobody waits for it.
    assert_eq!(ask(&one).await, 1);
    assert_eq!(ask(&other).await, 2);
}

#[test]
fn a_file_of_certificates_that_is_none_is_refused() {
    let with = |ca: &Path| Client::new(&settings::Http { ca: Some(ca.into()), ..settings() }).map(drop);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let told = with(&file).unwrap_err().to_string();
    assert!(told.contains("cannot read certificates from"), "{told}");
    std::fs::write(&file, "no certificate").unwrap();
    let told = with(&file).unwrap_err().to_string();
    assert!(told.contains("has no certificate in PEM"), "{told}");
}
