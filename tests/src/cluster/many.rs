//! Several gateways of one service.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use petrel_client::{ClientOptions, Dialer, Server};
use tempfile::TempDir;

use super::gateway::{Gateway, GatewayOptions, Storage};
use super::{PATIENCE, Person, Stage, eventually};

/// Gateways on one database that are linked to each other. Each is named `gw-` and its place from 1 on.
#[derive(Debug)]
pub struct Cluster {
    /// The gateways; each may be stopped and started again.
    pub gateways: Vec<Gateway>,
    certificates: TempDir,
}

impl Stage {
    /// Starts gateways on a new database of the run's PostgreSQL, and waits until all are linked.
    ///
    /// # Errors
    /// As [`Gateway::start`]; they do not link in time.
    pub async fn cluster(&self, count: usize, settings: &[&str]) -> Result<Cluster> {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        self.cluster_of(&vec![settings; count]).await
    }

    /// The same with settings of its own for each.
    ///
    /// # Errors
    /// As [`Self::cluster`].
    pub async fn cluster_of<S: AsRef<[String]>>(&self, each: &[S]) -> Result<Cluster> {
        self.cluster_on(self.storage(), each).await
    }

    /// The same on a store that is reached in another way.
    ///
    /// # Errors
    /// As [`Self::cluster`].
    pub async fn cluster_on<S: AsRef<[String]>>(
        &self,
        storage: Storage<'_>,
        each: &[S],
    ) -> Result<Cluster> {
        let mut cluster = Cluster {
            gateways: Vec::new(),
            certificates: tempfile::Builder::new().prefix("petrel-ca-").tempdir()?,
        };
        for (n, settings) in each.iter().enumerate() {
            let settings = cluster.settings(n + 1, settings.as_ref())?;
            let gateway = match cluster.gateways.first() {
                None => {
                    let options = GatewayOptions { settings, data: None };
                    Gateway::start_with(storage, options).await?
                }
                Some(first) => first.with_its_own(settings).await?,
            };
            cluster.gateways.push(gateway);
        }
        cluster.linked(each.len().saturating_sub(1)).await?;
        Ok(cluster)
    }

    /// Registers somebody by this way and starts a client of his, which is online when this returns.
    ///
    /// # Errors
    /// Either is refused.
    pub async fn person_by(&self, dialer: Dialer, name: &str) -> Result<Person> {
        let identity = dialer.register(name, "test").await?;
        self.device_with(ClientOptions::new(dialer, identity)).await
    }
}

impl Cluster {
    fn settings(&self, n: usize, more: &[String]) -> Result<Vec<String>> {
        let dir = self.certificates.path();
        let name = format!("gw-{n}");
        petrel_gateway::authority::make(dir, std::slice::from_ref(&name))?;
        let mut settings = vec![
            "cluster.listen=127.0.0.1:0".to_owned(),
            format!("cluster.ca={}", dir.join("ca.pem").display()),
            format!("cluster.certificate={}", dir.join(format!("{name}.pem")).display()),
            format!("cluster.key={}", dir.join(format!("{name}.key")).display()),
            format!("cluster.name={name}"),
        ];
        settings.extend(more.iter().cloned());
        Ok(settings)
    }

    /// Where the certificates of the gateways and their authority are.
    #[must_use]
    pub fn certificates(&self) -> &std::path::Path {
        self.certificates.path()
    }

    /// Waits until each gateway that runs has this number of links.
    ///
    /// # Errors
    /// It has not in time.
    pub async fn linked(&self, links: usize) -> Result<()> {
        for gateway in &self.gateways {
            let look = || async {
                let found = gateway.metric("petrel_cluster_links", "").await;
                #[allow(clippy::cast_precision_loss, reason = "a few")]
                Ok(found.is_ok_and(|found| found >= links as f64).then_some(()))
            };
            eventually(PATIENCE, "links between gateways", look).await?;
        }
        Ok(())
    }

    /// Reaches them by all their addresses, this one first.
    ///
    /// # Errors
    /// There is no such gateway, or no certificate of it.
    pub fn dialer_from(&self, first: usize) -> Result<Dialer> {
        let gateway = self.gateways.get(first).context("no such gateway")?;
        let mut options = gateway.dialer_options()?;
        let mut addresses: Vec<_> = self.gateways.iter().map(|gateway| gateway.quic).collect();
        addresses.rotate_left(first);
        options.server = Server::Addresses(addresses);
        Ok(Dialer::new(options)?)
    }

    /// The sum of a metric over all gateways that answer.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let mut sum = 0.0;
        for gateway in &self.gateways {
            sum += gateway.metric(name, labels).await.unwrap_or_default();
        }
        sum
    }

    /// People, one after the other at the next gateway, each of whom knows them all.
    ///
    /// # Errors
    /// As [`Stage::person_by`].
    pub async fn people(&self, stage: &Stage, names: &[&str]) -> Result<Vec<Arc<Person>>> {
        let mut people = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let dialer = self.dialer_from(n % self.gateways.len())?;
            people.push(Arc::new(stage.person_by(dialer, name).await?));
        }
        Ok(people)
    }
}
