//! `wasi:http` for handlers: what a call may send is counted and judged here, and sent by [`outbound`](crate::outbound).
//!
//! Where a request goes is read from the guest once, in [`Host::handle_request`]; all that follows works with
//! what was judged there.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http_body_util::BodyExt as _;
use hyper::{Request, Response, header::HeaderName};
use tokio::sync::Semaphore;
use tokio_rustls::rustls;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceTable},
};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView as _,
    p2::{
        HttpError, HttpResult,
        bindings::http::{
            outgoing_handler,
            types::{self, ErrorCode, Method, Scheme},
        },
        types::{HostFutureIncomingResponse, HostOutgoingRequest},
    },
};

use super::{determined::answer, host::Host, scope::Scope};
use crate::{
    escape::escape,
    manifest::HttpGrant,
    outbound::{Client, Denied, LOOKUPS_MAX, Places, SendError, Target, Timeouts},
};

/// Linked by hand, for the library's own way of it has no place where a call could be ended.
const OUTGOING_HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";
/// Requests of one delivery at once: the next one waits.
const REQUESTS_AT_ONCE_MAX: usize = 8;
/// One worker has at most this part of the host's requests, and of its look-ups of names, at once.
const WORKER_SHARE: usize = 4;
/// What the headers of one request may take in memory, roughly in bytes.
const REQUEST_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request's body that a guest hands over in one call.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// How much of what is no origin is logged, in bytes.
const SHOWN_BYTES_MAX: usize = 100;
/// Headers that are the host's to set, or that speak to the next hop; beside those of the library.
const FORBIDDEN: &[&str] = &["expect", "te", "trailer"];

/// What a worker's calls share of HTTP.
pub struct HttpGrants {
    grants: Vec<HttpGrant>,
    client: Arc<Client>,
    at_once: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    effects: Effects,
}

/// Whether requests take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effects {
    /// They do.
    Real,
    /// They are refused: the call is for trying a handler out.
    Denied,
    /// They are answered with what is given: the call is determined.
    Given,
}

impl HttpGrants {
    /// The worker's list, and the host's way to the outside.
    pub fn new(grants: Vec<HttpGrant>, client: Arc<Client>, effects: Effects) -> Self {
        let at_once = client.settings().running.div_ceil(WORKER_SHARE);
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX.div_ceil(WORKER_SHARE)));
        Self { grants, client, at_once: Arc::new(Semaphore::new(at_once)), lookups, effects }
    }
}

/// Links `wasi:http/types` and `wasi:http/outgoing-handler`.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, WasiHttp>(linker, &types::LinkOptions::default(), |host| host.http())?;
    linker.instance(OUTGOING_HANDLER)?.func_wrap(
        "handle",
        |mut store: StoreContextMut<'_, Host>, (request, options): (Resource<_>, Option<Resource<_>>)| match store
            .data_mut()
            .handle_request(request, options)
        {
            Ok(response) => Ok((Ok(response),)),
            Err(error) => Ok((Err(error.downcast()?),)),
        },
    )
}

/// The trap of a call that sends more requests than it may.
#[derive(Debug)]
pub(super) struct TooManyRequests(usize);

impl fmt::Display for TooManyRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more HTTP requests than the limit of {}", self.0)
    }
}

impl std::error::Error for TooManyRequests {}

/// What one call has of HTTP.
pub(super) struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    scope: Arc<Scope>,
    deadline: Instant,
    sent: usize,
    at_once: Arc<Semaphore>,
    /// What was judged, until it is sent.
    next: Option<(Arc<HttpGrants>, Target)>,
    log: Log,
}

impl Http {
    pub(super) fn new(scope: Arc<Scope>, deadline: Instant) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(REQUEST_HEAD_BYTES_MAX);
        let log = Log { scope: Arc::clone(&scope), told: Arc::default() };
        let at_once = Arc::new(Semaphore::new(REQUESTS_AT_ONCE_MAX));
        Self { ctx, hooks: Hooks { scope, deadline, sent: 0, at_once, next: None, log } }
    }

    pub(super) fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView { hooks: &mut self.hooks, table, ctx: &mut self.ctx }
    }
}

impl Host {
    /// What `wasi:http/outgoing-handler` does: judge, then send.
    fn handle_request(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> HttpResult<Resource<HostFutureIncomingResponse>> {
        let view = self.http();
        let asked = view.table.get(&request)?;
        let is_tunnel = matches!(asked.method, Method::Connect)
            || matches!(&asked.method, Method::Other(name) if name.eq_ignore_ascii_case("connect"));
        let scheme = match &asked.scheme {
            None | Some(Scheme::Https) => "https",
            Some(Scheme::Http) => "http",
            Some(Scheme::Other(other)) => other,
        };
        let (scheme, authority) = (scheme.to_owned(), asked.authority.clone().unwrap_or_default());
        let hooks = &mut self.http_state().hooks;
        hooks.count().map_err(HttpError::trap)?;
        if is_tunnel {
            return Err(ErrorCode::HttpRequestMethodInvalid.into());
        }
        hooks.next = Some(hooks.judge(&scheme, &authority)?);
        outgoing_handler::Host::handle(&mut self.http(), request, options)
    }
}

impl Hooks {
    fn count(&mut self) -> Result<(), TooManyRequests> {
        let limit = self.scope.limits.requests;
        self.sent += 1;
        if self.sent > limit { Err(TooManyRequests(limit)) } else { Ok(()) }
    }

    fn judge(&self, scheme: &str, authority: &str) -> Result<(Arc<HttpGrants>, Target), ErrorCode> {
        // Without a grant no plugin is loaded that comes here.
        let Some(http) = &self.scope.grants.http else { return Err(ErrorCode::HttpRequestDenied) };
        match Target::judge(&http.grants, scheme, authority) {
            Ok(target) if http.effects != Effects::Denied => return Ok((Arc::clone(http), target)),
            Ok(target) => self.log.once(&target.origin, "no HTTP request is sent here; hint: add `--effects`"),
            Err(Denied::NotGranted(origin)) => {
                let hint = format!("hint: add `\"{origin}\"` to `http` in `[grant]`");
                self.log.once(&origin, format_args!("an HTTP request is not granted; {hint}"));
            }
            Err(Denied::NoOrigin) => {
                let shown = format!("{scheme}://{authority}");
                let shown = escape(shown.as_bytes().get(..SHOWN_BYTES_MAX).unwrap_or(shown.as_bytes()));
                self.log.once(&shown, "an HTTP request goes to what is no origin");
            }
        }
        Err(ErrorCode::HttpRequestDenied)
    }

    fn timeouts(&self, http: &HttpGrants, options: Option<RequestOptions>) -> Timeouts {
        let settings = http.client.settings();
        let options = options.unwrap_or_default();
        Timeouts {
            connect: options
                .connect_timeout
                .map_or(settings.connect_timeout, |time| time.min(settings.connect_timeout)),
            first_byte: options.first_byte_timeout,
            idle: options.between_bytes_timeout.map_or(settings.idle_timeout, |time| time.min(settings.idle_timeout)),
            deadline: self.deadline,
        }
    }
}

type Ending = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> wasmtime_wasi_http::ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    /// It is the host's own, made of what was judged.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        if error.is_parse_too_large() {
            ErrorCode::HttpResponseHeaderSectionSize(None)
        } else if error.is_incomplete_message() {
            ErrorCode::HttpResponseIncomplete
        } else {
            ErrorCode::HttpProtocolError
        }
    }

    fn p2_error_from_connect(&mut self, error: &std::io::Error) -> ErrorCode {
        match error.kind() {
            std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
                ErrorCode::DestinationUnavailable
            }
            _ => ErrorCode::ConnectionRefused,
        }
    }

    fn p2_error_from_tls(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Ending,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Ending), Error>> + Send> {
        let Some((http, target)) = self.next.take() else {
            return Box::new(std::future::ready(Err(Error::HttpRequestDenied)));
        };
        if http.effects == Effects::Given {
            let (scope, body_max) = (Arc::clone(&self.scope), http.client.settings().body);
            return Box::new(async move {
                let Some(world) = &scope.determined else { return Err(Error::HttpRequestDenied) };
                let response = answer(world, &target.origin.to_string(), request, body_max).await?;
                let ending: Ending = Box::new(std::future::ready(Ok(())));
                Ok((response, ending))
            });
        }
        let timeouts = self.timeouts(&http, options);
        let places = Places {
            at_once: vec![Arc::clone(&self.at_once), Arc::clone(&http.at_once)],
            lookups: Some(Arc::clone(&http.lookups)),
        };
        let log = self.log.clone();
        Box::new(async move {
            match http.client.send(&target, request, &places, timeouts).await {
                Ok((response, driver)) => {
                    let ending: Ending = Box::new(async {
                        driver.await;
                        Ok(())
                    });
                    Ok((response.map(|body| body.map_err(error_of).boxed_unsync()), ending))
                }
                Err(error) => {
                    log.failure(&target, &error);
                    Err(error_of(error))
                }
            }
        })
    }
}

fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name) || FORBIDDEN.contains(&name.as_str())
}

/// In the words of `wasi:http`.
fn error_of(error: SendError) -> Error {
    let certificate = matches!(error.tls(), Some(rustls::Error::InvalidCertificate(_)));
    match error {
        SendError::TooManyAtOnce => Error::ConnectionLimitReached,
        SendError::LookUp(error) => Error::DnsError { rcode: Some(error.to_string()), info_code: None },
        SendError::LookUpTimeout => Error::DnsTimeout,
        SendError::Prohibited(_) => Error::DestinationIpProhibited,
        SendError::ConnectTimeout => Error::ConnectionTimeout,
        SendError::Connect(error) => Error::Connect(error),
        SendError::Tls(_) if certificate => Error::TlsCertificateError,
        SendError::Tls(error) => Error::Tls(error),
        SendError::NoTls(_) => Error::ConfigurationError,
        SendError::Malformed => Error::HttpRequestUriInvalid,
        SendError::RequestTooLarge(limit) => Error::HttpRequestBodySize(Some(limit)),
        SendError::ResponseTooLarge(limit) => Error::HttpResponseBodySize(Some(limit)),
        SendError::ResponseTimeout => Error::ConnectionReadTimeout,
        SendError::Silent => Error::ConnectionReadTimeout,
        SendError::Http(error) => Error::Hyper(error),
    }
}

/// What is said of a call's requests, at most once: it is for whoever wrote the manifest, not for the handler.
#[derive(Clone)]
struct Log {
    scope: Arc<Scope>,
    told: Arc<AtomicBool>,
}

impl Log {
    fn once(&self, origin: &impl fmt::Display, text: impl fmt::Display) {
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        // A handler may have put a secret into the name of a host.
        let [origin, text] = [origin.to_string(), text.to_string()].map(|told| self.scope.grants.redactor.text(told));
        let sink = &self.scope.log;
        if sink.admit(origin.len() + text.len()) {
            tracing::warn!(worker = %sink.worker(), origin, "{text}");
        }
    }

    /// Of what fails, that which a setting would mend.
    fn failure(&self, target: &Target, error: &SendError) {
        let hint = match error {
            SendError::Prohibited(prohibited) if prohibited.special.is_grantable() => {
                "; hint: add its network to `networks` of the entry in `[grant] http`"
            }
            SendError::Tls(_) if matches!(error.tls(), Some(rustls::Error::InvalidCertificate(_))) => {
                "; hint: give the CA that signed the server's certificate as `ca` in `[http]`"
            }
            SendError::Prohibited(_) | SendError::NoTls(_) | SendError::TooManyAtOnce => "",
            _ => return,
        };
        // What a server says of itself, in its certificate, may be anything.
        let error = escape(error.to_string().as_bytes());
        self.once(&target.origin, format_args!("an HTTP request is not sent: {error}{hint}"));
    }
}
