//! The composition root: builds everything, starts it in order, stops it in
//! reverse. Every task that lives as long as the gateway is started here:
//!
//! | task | its end means |
//! |---|---|
//! | accepting connections, on UDP and TCP | the endpoint is closed: stop |
//! | writers (`petrel-storage`) | by themselves only through a panic: drain and exit with an error |
//! | receipts, when devices were seen | only at the stop, after a last flush |
//! | links to other gateways, heartbeats, the journal's reader (if set) | only at the stop, once nobody is signed in |
//! | draining, presence, typing that waits for the store | only at the stop |
//! | revoked devices | only at the stop |
//! | mirror to Redis (if set) | only at the stop, after taking its entries back |
//! | health, housekeeping, certificate watch, issuer's keys (if set) | only at the stop |
//! | admin HTTP, metrics HTTP | only at the stop |
//!
//! Tasks of connections are in the same tracked set and end with their connection.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use metrics_exporter_prometheus::PrometheusHandle;
use petrel_core::id::NodeId;
use petrel_proto::code::Code;
use petrel_storage::budget::Budget;
use petrel_storage::redis::Directory;
use petrel_storage::writer::{WriterOptions, Writers};
use quinn::VarInt;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{AdminToken, FewConnections};
use crate::auth::Tokens;
use crate::cluster::{self, Cluster};
use crate::config::{Config, TcpListen};
use crate::dictionaries::Dictionaries;
use crate::endpoint::{self, CurrentCertificate};
use crate::fanout::Fanout;
use crate::gateway::Gateway;
use crate::health::{self, Health};
use crate::issuer::{self, Issuer};
use crate::keys::{self, Certificate};
use crate::password::Passwords;
use crate::{
    admin, connection, directory_mirror, drain, metrics, presence, receipts, revoked, seen, tcp,
    translate, typing,
};

/// Between two looks at the certificate's files.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
/// Connections to the admin port at once; more wait in the kernel's queue.
const ADMIN_CONNECTIONS_MAX: usize = 256;
/// The same for the port of the metrics alone.
const METRICS_CONNECTIONS_MAX: usize = 32;
/// Clients reconnect after a time between these, in milliseconds.
const RECONNECT_AFTER_MS: (u32, u32) = (100, 2_000);
/// Ports that are tried where the kernel chooses.
const PORT_TRIES: u32 = 16;
/// For the last frames and the CLOSE to leave.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A gateway that serves.
#[derive(Debug)]
pub struct Server {
    gateway: Arc<Gateway>,
    endpoint: quinn::Endpoint,
    /// Cancelled when connections on TCP are to be closed.
    closing: CancellationToken,
    /// Where QUIC listens.
    pub quic: SocketAddr,
    /// Where TCP listens, if it does.
    pub tcp: Option<SocketAddr>,
    /// Where admin HTTP listens.
    pub admin: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` are for others, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// SHA-256 of the certificate, for pinning.
    pub fingerprint: String,
    /// Whether the certificate is the self-signed one for development.
    pub is_development: bool,
}

/// Opens the store that the settings name.
///
/// # Errors
/// If it cannot be opened; the text says which and what to do.
pub async fn open_store(config: &Config) -> Result<Arc<dyn petrel_core::store::Store>> {
    open_store_as(config, None).await
}

/// The same under the name of a node, so that what it commits is written to the journal.
async fn open_store_as(
    config: &Config,
    node: Option<NodeId>,
) -> Result<Arc<dyn petrel_core::store::Store>> {
    keys::make_data_dir(&config.data_dir)?;
    let options = petrel_storage::StoreOptions {
        node,
        writers: config.storage.writers.to_usize(),
        ..petrel_storage::StoreOptions::default()
    };
    petrel_storage::open(&config.storage_url(), options).await.context("storage.url")
}

impl Server {
    /// Starts a gateway. Once this returns, it serves.
    ///
    /// # Errors
    /// If anything it needs is missing; nothing listens then.
    pub async fn start(config: Config) -> Result<Self> {
        Self::start_measured(config, metrics::install()?).await
    }

    async fn start_measured(config: Config, metrics: PrometheusHandle) -> Result<Self> {
        let dictionaries = Dictionaries::load(&config.message)?;
        let node = Cluster::new_node();
        let store = open_store_as(&config, config.cluster.listen.map(|_| node)).await?;
        let durability = store.durability().await.map_err(|error| error.to_string());
        let is_development = config.tls.certificate.is_none();
        let certificate = read_certificate(&config)?;
        metrics::certificate(certificate.valid_until_s);
        let current = Arc::new(CurrentCertificate::new(&certificate));
        let pem = keys::token_key_pem(config.auth.key.as_deref(), &config.data_dir)?;
        let tokens = Tokens::new(&pem, &config.auth.audience, config.auth.token_life.0)?;
        let issuer = Issuer::open(&config.auth_issuer)?;
        let admin_token = AdminToken::open(&config)?;

        let directory = directory(&config, node)?;
        let units = config.storage.channel_messages.to_usize();
        let budget = Budget::new(units, config.storage.channel_wait.duration());
        let passwords = Passwords::start(&config.password)?;
        let gateway = Arc::new(Gateway::new(
            config,
            store,
            dictionaries,
            budget,
            (tokens, issuer),
            passwords,
            node,
        ));
        // Before anybody can sign in with a token of a device that was signed out for good.
        gateway.learn_revoked().await.context("the revoked devices cannot be read")?;
        gateway.set_writers(start_writers(&gateway));
        cluster::join(&gateway).await?;

        let listen = gateway.config.admin.listen;
        let admin_port = TcpListener::bind(listen)
            .await
            .with_context(|| format!("admin.listen: cannot use TCP address {listen}"))?;
        let metrics_port =
            match gateway.config.admin.metrics_listen {
                Some(at) => Some(TcpListener::bind(at).await.with_context(|| {
                    format!("admin.metrics_listen: cannot use TCP address {at}")
                })?),
                None => None,
            };
        let metrics_at = metrics_port.as_ref().map(TcpListener::local_addr).transpose();
        let (endpoint, listener) = open_ports(&gateway.config, &current)?;
        let quic = endpoint.local_addr().context("the QUIC socket has no address")?;
        let tcp = listener.as_ref().map(tcp::Listener::address).transpose();
        let health = Arc::new(Health::new(quic.port()));
        health.set_storage(durability);
        let server = Self {
            quic,
            tcp: tcp.context("the TCP socket has no address")?,
            closing: CancellationToken::new(),
            metrics: metrics_at.context("the socket for metrics has no address")?,
            admin: admin_port.local_addr().context("the admin socket has no address")?,
            fingerprint: keys::hex(&certificate.fingerprint),
            is_development,
            endpoint,
            gateway,
        };
        if let Some(directory) = directory {
            let mirror = directory_mirror::run(Arc::clone(&server.gateway), directory);
            server.gateway.tasks.spawn(mirror);
        }
        if let Some(listener) = listener {
            let accepting = Arc::clone(&server.gateway);
            let closing = server.closing.clone();
            server.gateway.tasks.spawn(tcp::accept(accepting, listener, closing));
        }
        server.spawn_tasks((admin_port, metrics_port), metrics, health, current, admin_token);
        Ok(server)
    }

    fn spawn_tasks(
        &self,
        (admin_port, metrics_port): (TcpListener, Option<TcpListener>),
        metrics: PrometheusHandle,
        health: Arc<Health>,
        certificate: Arc<CurrentCertificate>,
        admin_token: AdminToken,
    ) {
        let (gateway, tasks) = (&self.gateway, &self.gateway.tasks);
        tasks.spawn(accept(Arc::clone(gateway), self.endpoint.clone()));
        tasks.spawn(receipts::run(Arc::clone(gateway)));
        tasks.spawn(seen::run(Arc::clone(gateway)));
        tasks.spawn(presence::run(Arc::clone(gateway)));
        tasks.spawn(typing::run(Arc::clone(gateway)));
        tasks.spawn(drain::run(Arc::clone(gateway)));
        tasks.spawn(revoked::run(Arc::clone(gateway)));
        tasks.spawn(health::watch(Arc::clone(gateway), Arc::clone(&health)));
        tasks.spawn(health::keep_house(Arc::clone(gateway), metrics.clone()));
        tasks.spawn(issuer::watch(Arc::clone(gateway)));
        tasks.spawn(watch_certificate(Arc::clone(gateway), certificate));
        if let Some(port) = metrics_port {
            let (gateway, health) = (Arc::clone(gateway), Arc::clone(&health));
            let routes = admin::monitoring_routes(gateway, metrics.clone(), health);
            let few = FewConnections::new(port, METRICS_CONNECTIONS_MAX);
            let serving = axum::serve(few, routes).into_future();
            let stopping = self.gateway.stopping.clone();
            #[allow(clippy::disallowed_methods, reason = "it outlives the tracked set, as below")]
            tokio::task::spawn(log_end("metrics HTTP", serving, stopping));
        }
        let routes = admin::routes(Arc::clone(gateway), metrics, health, admin_token);
        let stopping = gateway.stopping.clone();
        // The admin port answers /readyz with "draining" until the very end, so
        // it is not in the set that a stop waits for.
        let few = FewConnections::new(admin_port, ADMIN_CONNECTIONS_MAX);
        let serving = axum::serve(few, routes).into_future();
        #[allow(clippy::disallowed_methods, reason = "it outlives the tracked set, see above")]
        tokio::task::spawn(log_end("admin HTTP", serving, stopping));
    }

    /// Waits until a writer has ended by itself, which it only does by a panic.
    pub async fn failed(&self) {
        self.gateway.writers().failed().await;
    }

    /// Stops gracefully: not ready any more, no new connections, clients are told to go
    /// elsewhere, what was accepted is stored and answered, connections are closed.
    ///
    /// # Errors
    /// If messages had to be left unanswered at the deadline (they are not acknowledged, so
    /// their senders send them again).
    pub async fn stop(&self) -> Result<()> {
        let gateway = &self.gateway;
        let patience = gateway.config.gateway.drain_timeout.duration();
        drain::before_stop(gateway, patience / 2).await;
        let deadline = Instant::now() + patience;
        gateway.stopping.cancel();
        let go_away = translate::go_away(RECONNECT_AFTER_MS, gateway.cluster.alternatives());
        for session in gateway.sessions.all() {
            session.queue().put_control(go_away.clone());
        }
        let report = gateway.writers().drain(deadline).await;
        for session in gateway.sessions.all() {
            session.queue().end(Code::GoingAway);
        }
        tokio::time::timeout(LAST_WORDS, async {
            while !gateway.sessions.all().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .ok();
        cluster::leave(gateway).await;
        self.endpoint
            .close(VarInt::from_u32(Code::GoingAway.number()), Code::GoingAway.label().as_bytes());
        self.closing.cancel();
        tokio::time::timeout(LAST_WORDS, self.endpoint.wait_idle()).await.ok();
        gateway.tasks.close();
        tokio::time::timeout_at(deadline + LAST_WORDS, gateway.tasks.wait()).await.ok();
        if report.unanswered > 0 || report.failed > 0 {
            bail!(
                "{} messages were left unanswered at the deadline; {} writers had failed",
                report.unanswered,
                report.failed
            );
        }
        Ok(())
    }
}

async fn log_end(
    what: &'static str,
    serving: impl Future<Output = std::io::Result<()>> + Send,
    stopping: CancellationToken,
) {
    if let Err(error) = serving.await
        && !stopping.is_cancelled()
    {
        tracing::error!(%error, "{what} has ended");
    }
}

/// The directory that the settings name, for this run of the gateway; `None`: none.
fn directory(config: &Config, node: NodeId) -> Result<Option<Directory>> {
    let Some(url) = &config.redis.url else { return Ok(None) };
    let lease = config.redis.lease.duration();
    Directory::new(url.expose(), &config.auth.audience, node, lease).map(Some).context("redis.url")
}

fn start_writers(gateway: &Arc<Gateway>) -> Writers<crate::fanout::Tag> {
    let options = WriterOptions {
        writers: gateway.store.writers(),
        preview_after: gateway.config.message.preview_after.duration(),
        ..WriterOptions::default()
    };
    let back: Weak<Gateway> = Arc::downgrade(gateway);
    let fanout = Arc::new(Fanout::new(back));
    Writers::start(|| gateway.store.appender(), &fanout, &gateway.budget, &options, &gateway.tasks)
}

/// Opens the ports of clients. Where the kernel is asked to choose a port, it may choose one for UDP that
/// is taken for TCP.
fn open_ports(
    config: &Config,
    certificate: &Arc<CurrentCertificate>,
) -> Result<(quinn::Endpoint, Option<tcp::Listener>)> {
    let mut tries = 1..PORT_TRIES;
    loop {
        let endpoint = endpoint::open(config, Arc::clone(certificate))?;
        let at = match config.gateway.listen_tcp {
            TcpListen::Same => {
                Some(endpoint.local_addr().context("the QUIC socket has no address")?)
            }
            _ => config.listen_tcp(),
        };
        let Some(at) = at else { return Ok((endpoint, None)) };
        match tcp::Listener::open(at, Arc::clone(certificate)) {
            Ok(listener) => return Ok((endpoint, Some(listener))),
            Err(_) if config.gateway.listen.port() == 0 && tries.next().is_some() => {}
            Err(error) => return Err(error),
        }
    }
}

async fn accept(gateway: Arc<Gateway>, endpoint: quinn::Endpoint) {
    let accepting = async {
        while let Some(incoming) = endpoint.accept().await {
            connection::admit(&gateway, incoming).await;
            // Whoever is in the middle of a chat has his turn between two handshakes.
            tokio::task::yield_now().await;
        }
    };
    gateway.stopping.run_until_cancelled(accepting).await;
    endpoint.set_server_config(None);
}

fn read_certificate(config: &Config) -> Result<Certificate> {
    match (&config.tls.certificate, &config.tls.key) {
        (Some(chain), Some(key)) => keys::read_certificate(chain, key),
        _ => keys::development_certificate(&config.data_dir),
    }
}

/// Uses a changed certificate for new connections; a bad one is logged, and the old one stays.
async fn watch_certificate(gateway: Arc<Gateway>, current: Arc<CurrentCertificate>) {
    let files = match (&gateway.config.tls.certificate, &gateway.config.tls.key) {
        (Some(chain), Some(key)) => (chain.clone(), key.clone()),
        _ => keys::development_files(&gateway.config.data_dir),
    };
    let mut known = changed_at(&files);
    let watching = async {
        loop {
            tokio::time::sleep(CERTIFICATE_INTERVAL).await;
            let now = changed_at(&files);
            if now == known {
                continue;
            }
            match keys::read_certificate(&files.0, &files.1) {
                Ok(certificate) => {
                    current.set(&certificate);
                    metrics::certificate(certificate.valid_until_s);
                    let fingerprint = keys::hex(&certificate.fingerprint);
                    tracing::info!(fingerprint, "new connections get the new certificate");
                    known = now;
                }
                Err(error) => tracing::error!(
                    error = format!("{error:#}"),
                    "the certificate has changed and cannot be used; the old one stays"
                ),
            }
        }
    };
    gateway.stopping.run_until_cancelled(watching).await;
}

fn changed_at(files: &(PathBuf, PathBuf)) -> [Option<SystemTime>; 2] {
    let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    [changed(&files.0), changed(&files.1)]
}

#[cfg(test)]
#[path = "server/tests.rs"]
mod tests;
