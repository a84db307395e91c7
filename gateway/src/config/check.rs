//! What single values cannot tell: settings that do not go together.

use petrel_core::account;

use super::{Config, Issuer};

/// Bytes of an issuer's name and of an audience, at the most.
const ISSUER_TEXT_BYTES_MAX: usize = 512;

impl Config {
    /// Checks what single values cannot tell: the key that is to blame, and what is wrong.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            let (set, missing) = match self.tls.key {
                None => ("tls.certificate", "tls.key"),
                Some(_) => ("tls.key", "tls.certificate"),
            };
            let what = "set both (PEM files), or neither for a self-signed development certificate";
            return Err((set, format!("{missing} is missing; {what}")));
        }
        let listens = [
            ("gateway.listen", Some(self.gateway.listen)),
            ("gateway.listen_tcp", self.listen_tcp()),
        ];
        for (key, listen) in listens {
            if let Some(listen) = listen
                && !listen.ip().is_loopback()
                && self.tls.certificate.is_none()
            {
                return Err((
                    key,
                    format!(
                        "{listen} is reachable from outside, and the development certificate is not for \
                         that; set tls.certificate and tls.key, or listen on 127.0.0.1"
                    ),
                ));
            }
        }
        if !self.admin.listen.ip().is_loopback() {
            return Err((
                "admin.listen",
                format!(
                    "{} is not a loopback address, and the admin port is for this machine alone; \
                     for a monitoring system elsewhere set admin.metrics_listen",
                    self.admin.listen
                ),
            ));
        }
        if let Err(refused) = account::check_user_name(&self.admin.system_name) {
            return Err(("admin.system_name", refused.to_string()));
        }
        self.auth_issuer.check()?;
        if let Some(url) = &self.redis.url
            && let Err(problem) = petrel_storage::redis::check_url(url.expose())
        {
            return Err(("redis.url", problem));
        }
        self.check_cluster()?;
        let cap = self.connection_bytes_max();
        let needed = cap.saturating_mul(self.gateway.connections_max.0);
        if needed > self.gateway.memory_budget.0 {
            return Err((
                "gateway.connections_max",
                format!(
                    "{} connections of up to {cap} bytes need {needed} bytes, more than gateway.memory_budget = {}; \
                     at most {} connections fit",
                    self.gateway.connections_max.0,
                    self.gateway.memory_budget.0,
                    self.gateway.memory_budget.0 / cap
                ),
            ));
        }
        Ok(())
    }

    fn check_cluster(&self) -> Result<(), (&'static str, String)> {
        let cluster = &self.cluster;
        for (key, address) in [
            ("cluster.advertise", &cluster.advertise),
            ("gateway.advertise", &self.gateway.advertise),
        ] {
            let Some(address) = address else { continue };
            let is_sound = address.len() <= 255
                && address.rsplit_once(':').is_some_and(|(host, port)| {
                    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
                });
            if !is_sound {
                return Err((key, format!("{address:?} is not HOST:PORT")));
            }
        }
        let Some(listen) = cluster.listen else { return Ok(()) };
        let url = self.storage_url();
        if url.starts_with("sqlite:") {
            let problem = "several gateways need PostgreSQL (storage.url)".to_owned();
            return Err(("cluster.listen", problem));
        }
        let set = [
            ("cluster.name", cluster.name.is_some()),
            ("cluster.ca", cluster.ca.is_some()),
            ("cluster.certificate", cluster.certificate.is_some()),
            ("cluster.key", cluster.key.is_some()),
        ];
        if let Some((missing, _)) = set.iter().find(|(_, is_set)| !is_set) {
            let problem = format!("{missing} is missing, which cluster.listen needs");
            return Err(("cluster.listen", problem));
        }
        if let Some(name) = &cluster.name
            && rustls_pki_types::DnsName::try_from(name.as_str()).is_err()
        {
            return Err(("cluster.name", format!("{name:?} cannot be a DNS name")));
        }
        if cluster.advertise.is_none() && listen.ip().is_unspecified() {
            let problem =
                format!("{listen} is no address that others can use; set cluster.advertise");
            return Err(("cluster.listen", problem));
        }
        Ok(())
    }
}

impl Issuer {
    /// All of it or nothing.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let set = [
            ("auth.issuer.name", self.name.is_some()),
            ("auth.issuer.audience", self.audience.is_some()),
            ("auth.issuer.jwks", self.jwks.is_some()),
        ];
        let present = set.iter().find(|(_, is_set)| *is_set);
        let missing = set.iter().find(|(_, is_set)| !is_set);
        if let (Some((key, _)), Some((missing, _))) = (present, missing) {
            return Err((key, format!("{missing} is missing; set all three, or none")));
        }
        for (key, text) in [(set[0].0, &self.name), (set[1].0, &self.audience)] {
            let Some(text) = text else { continue };
            if text.is_empty()
                || text.len() > ISSUER_TEXT_BYTES_MAX
                || text.contains(char::is_control)
            {
                let problem =
                    format!("it has 1 to {ISSUER_TEXT_BYTES_MAX} bytes and no control characters");
                return Err((key, problem));
            }
        }
        if self.algorithms.is_empty() {
            let problem = "no token could be believed; name one algorithm at least".to_owned();
            return Err(("auth.issuer.algorithms", problem));
        }
        Ok(())
    }
}
