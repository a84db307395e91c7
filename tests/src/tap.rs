//! A server in between that ends a client's TLS: it passes streams on to a gateway, or takes down
//! what a client says with its first flight, as it comes out of TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use petrel_client::{DialerOptions, Server, Trust};
use petrel_proto::version::ALPN;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivateKeyDer;
use tokio::task::JoinSet;

use crate::cluster::{Gateway, PATIENCE};
use crate::raw::{Raw, RawOptions};

/// Bytes of a stream's beginning that are taken down, at the most.
const FLIGHT_BYTES_MAX: usize = 64 * 1024;

/// The server in between. It takes one connection at a time.
#[derive(Debug)]
pub struct Tap {
    endpoint: Endpoint,
    /// How to reach it: as the gateway is reached, but here.
    pub dialer_options: DialerOptions,
}

/// What a client said with its first packets.
#[derive(Debug)]
pub struct Flight {
    /// Its connection, which waits for an answer.
    pub client: Connection,
    /// The bytes of its streams, in the order in which it opened them.
    pub said: Vec<Vec<u8>>,
    /// Closing them would be an answer.
    _open: Vec<(SendStream, RecvStream)>,
}

/// A client's connection that is passed on.
#[derive(Debug)]
pub struct Passed {
    client: Connection,
    /// The gateway's side of it, which outlives the client's.
    pub upstream: Raw,
    _copying: JoinSet<()>,
}

impl Tap {
    /// Starts one with a certificate of its own.
    ///
    /// # Errors
    /// No certificate, or no port.
    pub fn start(gateway: &Gateway) -> Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
        let mut tls =
            rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::Pkcs8(key.serialize_der().into()),
                )?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.max_early_data_size = u32::MAX;
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into())?;
        let address: SocketAddr = endpoint.local_addr()?;
        let mut dialer_options = gateway.dialer_options()?;
        dialer_options.server = Server::Addresses(vec![address]);
        dialer_options.trust = Trust::CaPem(certificate.pem().into_bytes());
        Ok(Self { endpoint, dialer_options })
    }

    /// Takes the next connection and passes all its streams on, in both directions.
    ///
    /// # Errors
    /// Nobody comes, or the gateway is not reached.
    pub async fn pass(&self, gateway: &Gateway) -> Result<Passed> {
        let accepting =
            async { self.endpoint.accept().await.context("closed")?.await.context("no") };
        let client = tokio::time::timeout(PATIENCE, accepting).await.context("nobody came")??;
        let upstream = Raw::dial(gateway, &RawOptions::default()).await?;
        let mut copying = JoinSet::new();
        copying.spawn(pass_streams(client.clone(), upstream.connection.clone()));
        copying.spawn(pass_streams(upstream.connection.clone(), client.clone()));
        Ok(Passed { client, upstream, _copying: copying })
    }

    /// Takes the next connection, and what it says on its first streams while nobody answers: on
    /// each at least so many bytes as `is_whole` wants.
    ///
    /// # Errors
    /// Nobody comes, or it says less.
    pub async fn first_flight(
        &self,
        streams: usize,
        is_whole: impl Fn(usize, &[u8]) -> bool,
    ) -> Result<Flight> {
        let taking = async {
            let incoming = self.endpoint.accept().await.context("closed")?;
            let (client, _) = incoming.accept()?.into_0rtt().ok().context("no early streams")?;
            let mut flight = Flight { client, said: Vec::new(), _open: Vec::new() };
            while flight.said.len() < streams {
                let (send, mut recv) = flight.client.accept_bi().await?;
                let mut said = Vec::new();
                while !is_whole(flight.said.len(), &said) {
                    let chunk = recv.read_chunk(FLIGHT_BYTES_MAX, true).await?;
                    said.extend_from_slice(&chunk.context("the stream ended")?.bytes);
                }
                flight.said.push(said);
                flight._open.push((send, recv));
            }
            anyhow::Ok(flight)
        };
        tokio::time::timeout(PATIENCE, taking).await.context("no first flight")?
    }
}

impl Passed {
    /// Ends the client's connection with this code, and leaves the gateway's as it is.
    pub fn cut(&self, code: u32) {
        self.client.close(code.into(), b"");
    }
}

/// Passes the streams on that `from` opens. When one end is gone, the other is to notice nothing.
async fn pass_streams(from: Connection, to: Connection) {
    let mut streams = JoinSet::new();
    while let Ok((send_back, recv)) = from.accept_bi().await {
        let Ok((send, recv_back)) = to.open_bi().await else { break };
        streams.spawn(copy(recv, send));
        streams.spawn(copy(recv_back, send_back));
    }
    std::future::pending().await
}

async fn copy(mut recv: RecvStream, mut send: SendStream) {
    while let Ok(chunk) = recv.read_chunk(FLIGHT_BYTES_MAX, true).await {
        let Some(chunk) = chunk else { return drop(send.finish()) };
        if send.write_chunk(chunk.bytes).await.is_err() {
            break;
        }
    }
    // Dropping a half would say that it has ended.
    std::future::pending().await
}
