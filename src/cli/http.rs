//! The command line's HTTP client: one request on one connection over hyper, with rustls and the machine's certificates for
//! `https`. Connect, answer and body are bounded in time and size; redirects are not followed. It is no part of the gateway's
//! own way to upstream servers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use url::Url;

use super::failure::Failure;

/// Longest wait for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// Largest answer that is read whole, in bytes.
pub const MAX_BODY: usize = 64 << 20;

/// The client. Certificates are read when the first `https` request is made.
#[derive(Default)]
pub struct Http {
    tls: OnceLock<Arc<rustls::ClientConfig>>,
}

/// One request.
#[derive(Debug)]
pub struct Request<'a> {
    /// Method.
    pub method: Method,
    /// Absolute `http` or `https` URL.
    pub url: &'a Url,
    /// Headers beside `host` and `content-length`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body; empty for none.
    pub body: Bytes,
    /// Longest wait for the head of the answer, and again for its whole body.
    pub wait: Duration,
}

/// An answer read whole.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, at most [`MAX_BODY`] bytes.
    pub body: Bytes,
}

/// An answer whose body is still to come. Dropping it closes the connection.
#[derive(Debug)]
pub struct Opened {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
    /// Drives the connection; ends with this value.
    _driver: JoinSet<()>,
}

impl Opened {
    /// The next piece of the body; `None` at its end.
    pub async fn piece(&mut self) -> anyhow::Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.context("the answer broke off")?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The rest of the body, at most [`MAX_BODY`] bytes, within `wait`.
    pub async fn read(self, wait: Duration) -> anyhow::Result<Answer> {
        let body = Limited::new(self.body, MAX_BODY);
        let body = tokio::time::timeout(wait, body.collect())
            .await
            .map_err(|_| Failure::new(format!("the answer was not whole within {} s", wait.as_secs())))?
            .map_err(|error| Failure::new(format!("the answer could not be read: {error}")))?
            .to_bytes();
        Ok(Answer { status: self.status, headers: self.headers, body })
    }
}

impl Http {
    /// Sends `request` and reads the whole answer.
    pub async fn send(&self, request: Request<'_>) -> anyhow::Result<Answer> {
        let wait = request.wait;
        self.open(request).await?.read(wait).await
    }

    /// Sends `request` and returns when the head of the answer is there.
    pub async fn open(&self, request: Request<'_>) -> anyhow::Result<Opened> {
        let url = request.url;
        let host = url.host_str().ok_or_else(|| Failure::usage(format!("`{url}` names no host")))?;
        let port = url.port_or_known_default().unwrap_or(80);
        let connect = self.connect(url, host, port);
        let (mut sender, driver) = tokio::time::timeout(CONNECT, connect).await.map_err(|_| {
            Failure::new(format!("no connection to {host}:{port} within {} s", CONNECT.as_secs()))
                .advise("check the URL, and that the network lets it through")
        })??;
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut message = http::Request::builder()
            .method(request.method)
            .uri(target)
            .header(http::header::HOST, authority(url, host))
            .header(http::header::USER_AGENT, concat!("mcp-gateway/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(request.body))
            .context("the request could not be written")?;
        message.headers_mut().extend(request.headers.into_iter().map(|(name, value)| (Some(name), value)));
        let answer = tokio::time::timeout(request.wait, sender.send_request(message))
            .await
            .map_err(|_| Failure::new(format!("{host}:{port} did not answer within {} s", request.wait.as_secs())))?
            .map_err(|error| {
                Failure::new(format!("{host}:{port} did not answer with HTTP: {error}"))
                    .advise("check that the URL is that of the gateway, with the right scheme (http or https)")
            })?;
        let (head, body) = answer.into_parts();
        Ok(Opened { status: head.status, headers: head.headers, body, _driver: driver })
    }

    async fn connect(&self, url: &Url, host: &str, port: u16) -> anyhow::Result<Connection> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port)).await.map_err(|error| {
            Failure::new(format!("cannot connect to {host}:{port}: {error}"))
                .advise("start the gateway with `mcp-gateway serve`, or name another one with --gateway URL")
        })?;
        stream.set_nodelay(true).ok();
        if url.scheme() == "https" {
            let name = ServerName::try_from(bare.to_owned())
                .map_err(|_| Failure::usage(format!("`{host}` is no name that a certificate can hold")))?;
            let tls = tokio_rustls::TlsConnector::from(self.tls()?).connect(name, stream).await.map_err(|error| {
                Failure::new(format!("no TLS connection to {host}:{port}: {error}"))
                    .advise("for a private certificate authority set SSL_CERT_FILE to its certificate")
            })?;
            handshake(tls).await
        } else {
            handshake(stream).await
        }
    }

    fn tls(&self) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Failure::new("this machine has no certificate authorities to check https with")
                .advise("install the package `ca-certificates`, or set SSL_CERT_FILE")
                .into());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(self.tls.get_or_init(|| Arc::new(config)).clone())
    }
}

type Connection = (http1::SendRequest<Full<Bytes>>, JoinSet<()>);

async fn handshake(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> anyhow::Result<Connection> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("no HTTP connection")?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Whoever waits for the answer is told by the sender; there is nobody to tell here.
        let _ = connection.await;
    });
    Ok((sender, driver))
}

fn authority(url: &Url, host: &str) -> String {
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
