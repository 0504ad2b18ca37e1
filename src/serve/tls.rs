//! HTTPS on the listener itself, for installs without a proxy in front. The files are read once, at the start.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::Listen;

/// What ends TLS, when a certificate is set.
pub(super) async fn acceptor(listen: &Listen) -> anyhow::Result<Option<TlsAcceptor>> {
    let (Some(cert), Some(key)) = (&listen.tls_cert, &listen.tls_key) else { return Ok(None) };
    let read = async |path| {
        tokio::fs::read(path).await.with_context(|| format!("cannot read {}", std::path::Path::display(path)))
    };
    let chain = read(cert).await?;
    let chain = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{} is no PEM file", cert.display()))?;
    anyhow::ensure!(!chain.is_empty(), "{} holds no certificate", cert.display());
    let key_text = zeroize::Zeroizing::new(read(key).await?);
    let key_der = PrivateKeyDer::from_pem_slice(&key_text)
        .with_context(|| format!("{} holds no private key in PEM", key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .with_context(|| format!("the key {} does not fit the certificate {}", key.display(), cert.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
