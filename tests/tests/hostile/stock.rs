//! A server with quinn's default settings: it takes every connection and every stream, and reads streams
//! in order.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use petrel_proto::version::ALPN;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio_util::task::TaskTracker;

/// The server. It ends when this is dropped.
pub struct Stock {
    endpoint: Endpoint,
}

impl Stock {
    /// Starts it, in this process.
    pub fn start() -> Result<Self> {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(
                vec![certified.cert.der().clone()],
                key.map_err(anyhow::Error::msg)?,
            )?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into())?;
        let tasks = TaskTracker::new();
        tasks.spawn(serve(endpoint.clone(), tasks.clone()));
        Ok(Self { endpoint })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.endpoint.local_addr().context("no address")
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.endpoint.close(0u32.into(), b"");
    }
}

async fn serve(endpoint: Endpoint, tasks: TaskTracker) {
    while let Some(incoming) = endpoint.accept().await {
        let streams = tasks.clone();
        tasks.spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((_send, mut receive)) = connection.accept_bi().await {
                streams.spawn(async move {
                    while let Ok(Some(_)) = receive.read_chunk(usize::MAX, true).await {}
                });
            }
        });
    }
}
