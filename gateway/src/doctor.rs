//! Looks whether a gateway with these settings would run well here, and says what to do. It
//! changes nothing, and may run beside a gateway that serves.

mod files;
mod network;
mod service;
mod system;
mod x509;

use serde::Serialize;

use crate::config::Config;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// It works, and something should be done.
    Warn,
    /// It does not work, or loses data.
    Fail,
}

impl Level {
    /// As it is printed.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Which check.
    pub check: &'static str,
    /// How it ended.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    /// A check that failed.
    pub fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

/// All checks. Every wait in them is bounded by a few seconds.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut found = vec![
        system::udp_buffers(),
        system::open_files(config),
        system::clock().await,
        files::data_dir(&config.data_dir),
        files::certificate(config),
        files::token_key(config),
        files::admin_token(config),
    ];
    found.extend(files::issuer(config));
    found.extend(service::database(config).await);
    found.push(service::redis(config).await);
    found.extend(network::ports(config).await);
    found
}
