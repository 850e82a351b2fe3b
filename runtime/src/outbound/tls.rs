//! Whom HTTPS trusts: the system's certificates, and those of the setting `ca`.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::Context as _;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, pem::PemObject as _},
    },
};

/// The only protocol that is spoken.
const ALPN: &[u8] = b"http/1.1";

/// The configuration of all TLS connections, made with the first of them: reading the system's certificates takes tens of
/// milliseconds, which most hosts never need. They are
/// read off the executor.
pub(super) struct Tls {
    more: Vec<CertificateDer<'static>>,
    connector: OnceLock<Result<TlsConnector, String>>,
}

impl Tls {
    /// Reads the file of further certificates. Errors: it cannot be read, or has none.
    pub(super) fn new(ca: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = ca else { return Ok(Self { more: Vec::new(), connector: OnceLock::new() }) };
        let bad = || format!("`ca` in `[http]`: cannot read certificates from `{}`", path.display());
        let read = CertificateDer::pem_file_iter(path).with_context(bad)?;
        let more = read.collect::<Result<Vec<_>, _>>().with_context(bad)?;
        anyhow::ensure!(!more.is_empty(), "`ca` in `[http]`: `{}` has no certificate in PEM", path.display());
        Ok(Self { more, connector: OnceLock::new() })
    }

    /// Errors: the system's certificates cannot be read and there are no others, or the library refuses one of `ca`.
    pub(super) async fn connector(self: &Arc<Self>) -> Result<TlsConnector, String> {
        if let Some(made) = self.connector.get() {
            return made.clone();
        }
        let tls = Arc::clone(self);
        let making = tokio::task::spawn_blocking(move || tls.connector.get_or_init(|| tls.make()).clone());
        making.await.map_err(|error| error.to_string())?
    }

    fn make(&self) -> Result<TlsConnector, String> {
        let system = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // A store with one certificate that cannot be used is still one with the others.
        roots.add_parsable_certificates(system.certs);
        for certificate in &self.more {
            roots.add(certificate.clone()).map_err(|error| format!("a certificate of `ca` in `[http]`: {error}"))?;
        }
        if roots.is_empty() {
            let errors: Vec<_> = system.errors.iter().map(ToString::to_string).collect();
            return Err(format!("the system has no certificates to trust: {}", errors.join("; ")));
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}
