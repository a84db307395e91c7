//! The port for other gateways, as somebody sees it who speaks there by hand.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use petrel_proto::frame::{FrameReader, encode_message};
use petrel_proto::wire::{self, node_frame::What};
use petrel_tests::cluster::Gateway;
use prost::Message as _;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

/// What a gateway knows of all of them.
pub async fn nodes(gateway: &Gateway) -> Result<Vec<Value>> {
    let status = gateway.run(&["cluster", "status", "--json"]).await?;
    let status: Value = serde_json::from_slice(&status.stdout)?;
    Ok(status["nodes"].as_array().context("no nodes")?.clone())
}

/// Where one of them listens for others.
pub fn address_of(nodes: &[Value], name: &str) -> Result<SocketAddr> {
    let node = nodes.iter().find(|node| node["name"] == name).context("no such node")?;
    Ok(node["address"].as_str().context("no address")?.parse()?)
}

/// A connection to a gateway's port for others, with a certificate from this directory or none.
pub async fn dial(
    at: SocketAddr,
    to: &str,
    certificate: Option<(&Path, &str)>,
    ca: &Path,
) -> Result<quinn::Connection> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca.join("ca.pem"))?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut tls = match certificate {
        Some((dir, name)) => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(dir.join(format!("{name}.pem")))?],
            PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key")))?,
        )?,
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"petrel-node/1".to_vec()];
    let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(
        QuicClientConfig::try_from(tls)?,
    )));
    Ok(endpoint.connect(at, to)?.await?)
}

/// Greets, and gives the version that is answered, or why there is no answer.
pub async fn greet(connection: &quinn::Connection, hello: wire::NodeHello) -> Result<u32> {
    let talking = async {
        let (mut send, mut recv) = connection.open_bi().await?;
        let frame = wire::NodeFrame { what: Some(What::Hello(hello)) };
        send.write_chunk(encode_message(&frame)).await?;
        send.finish()?;
        let bytes = recv.read_to_end(4_096).await?;
        let mut bytes = Bytes::from(bytes);
        let payload = FrameReader::new(4_096).next(&mut bytes)?.context("no frame")?;
        match wire::NodeFrame::decode(payload)?.what {
            Some(What::Welcome(welcome)) => Ok(welcome.version),
            other => bail!("{other:?}"),
        }
    };
    tokio::time::timeout(Duration::from_secs(10), talking).await?
}
