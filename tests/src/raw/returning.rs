//! A client that comes back by hand: what it says first leaves before the handshake is done.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use petrel_client::Identity;
use quinn::ZeroRttAccepted;

use super::{PATIENCE, Raw, RawOptions};

/// Keeps TLS sessions, each good for one return.
#[derive(Debug)]
pub struct Returning {
    config: quinn::ClientConfig,
    server: SocketAddr,
}

impl Returning {
    /// One that has been nowhere yet.
    ///
    /// # Errors
    /// TLS is not available.
    pub fn to(server: SocketAddr) -> Result<Self> {
        Ok(Self { config: super::config(&RawOptions::default())?, server })
    }

    /// Goes there over so many connections at once, leaves with a TLS session of each, and with a token.
    ///
    /// # Errors
    /// There is no handshake, or the log-in is refused.
    pub async fn visit(&self, identity: &Identity, connections: usize) -> Result<String> {
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
        // All begun before the first has a session that another one would use.
        let begin = |_| endpoint.connect_with(self.config.clone(), self.server, "localhost");
        let begun: Vec<_> = (0..connections).map(begin).collect::<Result<_, _>>()?;
        let mut token = String::new();
        for connecting in begun {
            let connection =
                tokio::time::timeout(PATIENCE, connecting).await.context("no handshake")??;
            let raw = Raw { connection, _endpoint: endpoint.clone() };
            // The answer comes after the session.
            token = raw.log_in(identity).await?;
            raw.connection.close(0u32.into(), b"");
        }
        Ok(token)
    }

    /// Comes back; what is said at once is early data.
    ///
    /// # Errors
    /// No TLS session is left.
    pub fn come_back(&self) -> Result<(Raw, ZeroRttAccepted)> {
        self.come_back_by(quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?)
    }

    /// The same without hearing anything: the handshake never ends.
    ///
    /// # Errors
    /// As [`Self::come_back`].
    pub fn come_back_deaf(&self) -> Result<(Raw, ZeroRttAccepted)> {
        self.come_back_by(super::deaf::endpoint()?)
    }

    fn come_back_by(&self, endpoint: quinn::Endpoint) -> Result<(Raw, ZeroRttAccepted)> {
        let connecting = endpoint.connect_with(self.config.clone(), self.server, "localhost")?;
        let (connection, accepted) =
            connecting.into_0rtt().ok().context("no TLS session allows early data")?;
        Ok((Raw { connection, _endpoint: endpoint }, accepted))
    }
}
