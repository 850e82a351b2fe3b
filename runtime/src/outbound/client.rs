//! One request: find the addresses, judge them, connect to one that is allowed, send, and hand out the response.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{LengthLimitError, Limited};
use hyper::{
    Request, Response,
    body::{Body, Bytes},
    client::conn::http1,
    header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, USER_AGENT},
    http::uri::{PathAndQuery, Uri},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};
use tokio_rustls::rustls::{self, pki_types::ServerName};
use url::Host;

use super::{
    Origin, Prohibited, ResponseBody, Scheme, Special, Target,
    resolve::{self, Resolve},
    tls::Tls,
};
use crate::{app::settings, clock};

/// Bytes of a response's head.
const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of a response.
const RESPONSE_HEADERS_MAX: usize = 128;
/// Addresses of one origin that are tried.
const TRIED_ADDRESSES_MAX: usize = 4;
/// What the requests of a host are called where the handler says nothing.
const AGENT: &str = concat!("wabbit/", env!("CARGO_PKG_VERSION"));

/// The host's way to the outside: one for all workers.
pub struct Client {
    settings: settings::Http,
    resolve: Resolve,
    tls: Arc<Tls>,
    at_once: Arc<Semaphore>,
}

/// What a request takes a place of, beside the host's own.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// One of each, until the response's body is gone.
    pub at_once: Vec<Arc<Semaphore>>,
    /// One where a name is looked up, until that has ended, whether or not anybody still waits for it.
    pub lookups: Option<Arc<Semaphore>>,
}

/// How long the parts of a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Waiting for its turn, looking up, connecting and TLS together.
    pub connect: Duration,
    /// From there to the head of the response; by the deadline alone where absent.
    pub first_byte: Option<Duration>,
    /// Between two parts of the response's body.
    pub idle: Duration,
    /// When all of it is over.
    pub deadline: Instant,
}

/// Why there is no response, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// As many requests as may run at once were running for as long as connecting may take.
    #[error("too many requests at once")]
    TooManyAtOnce,
    /// The name has no address.
    #[error("cannot find the address: {0}")]
    LookUp(io::Error),
    /// Nobody said in time what address it has.
    #[error("looking up the address took too long")]
    LookUpTimeout,
    /// Its addresses are of networks that are not granted.
    #[error("{} is a {} address", .0.address, .0.special)]
    Prohibited(Prohibited),
    /// No connection in time.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// No address took the connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// TLS failed; mostly for the certificate.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// There is no TLS to be had.
    #[error("TLS: {0}")]
    NoTls(String),
    /// The request has no form that HTTP could send.
    #[error("the request cannot be sent")]
    Malformed,
    /// The handler writes a larger body than it may.
    #[error("the request's body is larger than {0} bytes")]
    RequestTooLarge(u64),
    /// The response's body is larger than it may be.
    #[error("the response's body is larger than {0} bytes")]
    ResponseTooLarge(u64),
    /// No head of a response in time.
    #[error("the response took too long")]
    ResponseTimeout,
    /// Nothing came for too long in the middle of a body.
    #[error("the response's body was silent for too long")]
    Silent,
    /// HTTP itself.
    #[error("{0}")]
    Http(hyper::Error),
}

/// What reads and writes the connection, to be run for as long as the response's body is read.
pub type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    /// Errors: the file of the setting `ca` cannot be used.
    pub fn new(settings: &settings::Http) -> anyhow::Result<Self> {
        Ok(Self {
            tls: Arc::new(Tls::new(settings.ca.as_deref())?),
            at_once: Arc::new(Semaphore::new(settings.running)),
            resolve: resolve::system(),
            settings: settings.clone(),
        })
    }

    /// The settings that it was made with.
    pub fn settings(&self) -> &settings::Http {
        &self.settings
    }

    /// Sends a request, of which the method, the path, the headers and the body count; where it goes says `target`. It
    /// takes its `places`, and one of the host's, too.
    pub async fn send<B>(
        &self,
        target: &Target,
        request: Request<B>,
        places: &Places,
        timeouts: Timeouts,
    ) -> Result<(Response<ResponseBody>, Driver), SendError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limit = self.settings.body as u64;
        let request = prepare(request, &target.origin, self.settings.body)?;
        let until = (clock::now() + timeouts.connect).min(timeouts.deadline);
        let taken = self.take_places(&places.at_once);
        let taken = timeout_at(until.into(), taken).await.map_err(|_| SendError::TooManyAtOnce)??;
        let stream = self.connect(target, places, until).await?;

        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(RESPONSE_HEAD_BYTES_MAX)
            .max_headers(RESPONSE_HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(SendError::Http)?;
        let mut driver: Driver = Box::pin(async move {
            // What is wrong with it is told to whoever reads the response.
            let _ = connection.await;
        });
        let until = timeouts.first_byte.map_or(timeouts.deadline, |time| timeouts.deadline.min(clock::now() + time));
        let mut sending = pin!(timeout_at(until.into(), sender.send_request(request)));
        let sent = tokio::select! {
            sent = &mut sending => sent,
            () = &mut driver => {
                driver = Box::pin(std::future::ready(()));
                sending.await
            }
        };
        let response = sent.map_err(|_| SendError::ResponseTimeout)?.map_err(|error| explain(error, limit))?;
        if response.body().size_hint().exact().is_some_and(|length| length > limit) {
            return Err(SendError::ResponseTooLarge(limit));
        }
        Ok((response.map(|body| ResponseBody::new(body, limit, timeouts.idle, taken)), driver))
    }

    /// The caller's own places first: whoever waits there takes none of the others'.
    async fn take_places(&self, places: &[Arc<Semaphore>]) -> Result<Vec<OwnedSemaphorePermit>, SendError> {
        let mut taken = Vec::with_capacity(places.len() + 1);
        for place in places.iter().chain([&self.at_once]) {
            let place = Arc::clone(place).acquire_owned().await;
            taken.push(place.map_err(|_| SendError::TooManyAtOnce)?);
        }
        Ok(taken)
    }

    /// A connection to the first of the origin's addresses that is allowed and takes it.
    async fn connect(&self, target: &Target, places: &Places, until: Instant) -> Result<Box<dyn Stream>, SendError> {
        let found = match target.origin.address() {
            Some(address) => vec![address],
            None => self.look_up(&target.origin, places, until).await?,
        };
        // From here on the name counts for TLS alone: what is connected to is what was judged.
        let admitted = target.admit(&found).map_err(SendError::Prohibited)?;
        let stream = connect_to_any(&admitted, until).await?;
        let _ = stream.set_nodelay(true);
        match target.origin.scheme {
            Scheme::Http => Ok(Box::new(stream)),
            Scheme::Https => {
                let name = match &target.origin.host {
                    Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| SendError::Malformed)?,
                    Host::Ipv4(address) => ServerName::from(*address),
                    Host::Ipv6(address) => ServerName::from(*address),
                };
                let connecting = async {
                    let connector = self.tls.connector().await.map_err(SendError::NoTls)?;
                    connector.connect(name, stream).await.map_err(SendError::Tls)
                };
                let stream = timeout_at(until.into(), connecting).await.map_err(|_| SendError::ConnectTimeout)??;
                Ok(Box::new(stream))
            }
        }
    }

    async fn look_up(&self, origin: &Origin, places: &Places, until: Instant) -> Result<Vec<IpAddr>, SendError> {
        let looking = async {
            let place = match &places.lookups {
                Some(lookups) => Some(Arc::clone(lookups).acquire_owned().await.map_err(io::Error::other)?),
                None => None,
            };
            (self.resolve)(origin.host.to_string(), place).await
        };
        let found = timeout_at(until.into(), looking).await;
        let found = found.map_err(|_| SendError::LookUpTimeout)?.map_err(SendError::LookUp)?;
        if found.is_empty() {
            return Err(SendError::LookUp(io::Error::new(io::ErrorKind::NotFound, "the name has none")));
        }
        Ok(found)
    }
}

impl SendError {
    /// The library's own word for what is wrong with TLS.
    pub fn tls(&self) -> Option<&rustls::Error> {
        match self {
            Self::Tls(error) => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }

    /// Of an address that is not granted: what it is.
    pub fn special(&self) -> Option<Special> {
        match self {
            Self::Prohibited(prohibited) => Some(prohibited.special),
            _ => None,
        }
    }
}

/// Each address gets its share of the time that is left.
async fn connect_to_any(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, SendError> {
    let mut last = SendError::ConnectTimeout;
    let count = addresses.len().min(TRIED_ADDRESSES_MAX);
    for (done, address) in addresses.iter().take(count).enumerate() {
        let now = clock::now();
        let left = until.saturating_duration_since(now) / u32::try_from(count - done).unwrap_or(1);
        match timeout_at((now + left).into(), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = SendError::Connect(error),
            Err(_) => last = SendError::ConnectTimeout,
        }
    }
    Err(last)
}

/// The request as it goes over the wire: its head says nothing of where it goes but the host's own word.
fn prepare<B: Body>(request: Request<B>, origin: &Origin, limit: usize) -> Result<Request<Limited<B>>, SendError> {
    let (mut head, body) = request.into_parts();
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > limit as u64) {
        return Err(SendError::RequestTooLarge(limit as u64));
    }
    let path = head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    head.uri = Uri::builder().path_and_query(path).build().map_err(|_| SendError::Malformed)?;
    let host = HeaderValue::from_str(&origin.authority()).map_err(|_| SendError::Malformed)?;
    head.headers.insert(HOST, host);
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    head.headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    Ok(Request::from_parts(head, Limited::new(body, limit)))
}

fn explain(error: hyper::Error, limit: u64) -> SendError {
    let source = std::error::Error::source(&error);
    match source.is_some_and(|source| source.is::<LengthLimitError>()) {
        true => SendError::RequestTooLarge(limit),
        false => SendError::Http(error),
    }
}

#[cfg(test)]
mod tests;
