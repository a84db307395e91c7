//! Connections: how they are made, which ones are refused, and what an error
//! of theirs means.

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use petrel_core::store::{Durability, StoreError};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgExecutor, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgPool};

use crate::{OpenError, StoreOptions, migrate};

/// Bringing tables to a new version may take this long, waiting for another
/// gateway that does it included.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(300);
/// A connection of the pool is made anew after this, so that connections
/// spread over servers that were added behind one address.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Makes connections to one database.
#[derive(Clone)]
pub(super) struct Connector {
    server: PgConnectOptions,
    pub(super) options: StoreOptions,
    /// Host, port and database, for messages.
    pub(super) place: String,
}

/// Without the settings of the server, which hold the password.
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("place", &self.place)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn new(url: &str, options: StoreOptions) -> Result<Self, OpenError> {
        let server = PgConnectOptions::from_str(url)
            .map_err(|error| OpenError::UrlInvalid { problem: error.to_string() })?;
        let place = format!(
            "PostgreSQL at {}:{}, database {}",
            server.get_socket().map_or_else(
                || server.get_host().to_owned(),
                |socket| socket.display().to_string()
            ),
            server.get_port(),
            server.get_database().unwrap_or(server.get_username()),
        );
        let server = server.application_name("petrel").disable_statement_logging();
        Ok(Self { server, options, place })
    }

    /// With the settings that bound every wait at the server.
    fn bounded(&self) -> PgConnectOptions {
        self.server.clone().options([
            ("lock_timeout", self.options.lock_timeout.as_millis()),
            ("statement_timeout", self.options.statement_timeout.as_millis()),
            ("idle_in_transaction_session_timeout", self.options.statement_timeout.as_millis()),
        ])
    }

    /// A connection for a look: nothing is refused, nothing is changed.
    pub(super) async fn look(&self) -> Result<PgConnection, OpenError> {
        let refused = |problem: String| OpenError::Connect { place: self.place.clone(), problem };
        let server = self.bounded();
        let connecting = PgConnection::connect_with(&server);
        tokio::time::timeout(self.options.connect_timeout, connecting)
            .await
            .map_err(|_| refused(format!("no answer within {:?}", self.options.connect_timeout)))?
            .map_err(|error| refused(error.to_string()))
    }

    pub(super) async fn migrate(&self) -> Result<(), OpenError> {
        let refused = |problem: String| OpenError::Connect { place: self.place.clone(), problem };
        let connecting = PgConnection::connect_with(&self.server);
        let mut connection = tokio::time::timeout(self.options.connect_timeout, connecting)
            .await
            .map_err(|_| refused(format!("no answer within {:?}", self.options.connect_timeout)))?
            .map_err(|error| refused(error.to_string()))?;
        check(&mut connection).await.map_err(|error| refused(error.to_string()))?;
        tokio::time::timeout(MIGRATE_TIMEOUT, migrate::postgres(&mut connection))
            .await
            .unwrap_or_else(|_| {
                Err(format!("its tables were not ready within {MIGRATE_TIMEOUT:?}"))
            })
            .map_err(|problem| OpenError::Migrate { place: self.place.clone(), problem })
    }

    /// The pool. Every connection is asked whether it may write before it is
    /// used: after a failover, the old server goes on answering pings.
    pub(super) fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(self.options.pool_connections.max(1))
            .acquire_timeout(self.options.acquire_timeout)
            .max_lifetime(CONNECTION_LIFETIME)
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async move { Ok(!is_read_only(connection).await?) })
            })
            .after_connect(|connection, _| Box::pin(check(connection)))
            .connect_lazy_with(self.bounded().options([("enable_seqscan", "off"), ("jit", "off")]))
    }

    /// A connection for one writer, which may write.
    pub(super) async fn writer(&self) -> Result<PgConnection, StoreError> {
        let connecting = async {
            let mut connection = PgConnection::connect_with(&self.bounded()).await?;
            check(&mut connection).await?;
            Ok::<_, sqlx::Error>(connection)
        };
        match tokio::time::timeout(self.options.connect_timeout, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            // Whatever it is: no message of the batch is at fault.
            Ok(Err(error)) => Err(StoreError::Transient(format!("{}: {error}", self.place))),
            Err(_) => Err(StoreError::Transient(format!(
                "{}: no connection within {:?}",
                self.place, self.options.connect_timeout
            ))),
        }
    }
}

async fn is_read_only(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // On a standby this reads "on" as well.
    sqlx::query_scalar("SELECT current_setting('transaction_read_only') = 'on'")
        .fetch_one(connection)
        .await
}

/// Refuses a new connection that may not write; says so if its commits are not durable.
async fn check(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let (read_only, fsync, synchronous_commit): (String, String, String) = sqlx::query_as(
        "SELECT current_setting('transaction_read_only'), current_setting('fsync'), \
                current_setting('synchronous_commit')",
    )
    .fetch_one(connection)
    .await?;
    if read_only == "on" {
        return Err(sqlx::Error::Configuration(
            "the server is read-only (a standby, or default_transaction_read_only is on)".into(),
        ));
    }
    if fsync == "off" || synchronous_commit == "off" {
        tracing::warn!(%fsync, %synchronous_commit, "the database does not make commits durable");
    }
    Ok(())
}

pub(super) async fn durability(executor: impl PgExecutor<'_>) -> Result<Durability, sqlx::Error> {
    let settings: Vec<(String, String)> = sqlx::query_as(
        "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', \
         'synchronous_commit', 'synchronous_standby_names', 'transaction_read_only') ORDER BY name",
    )
    .fetch_all(executor)
    .await?;
    let durable = !settings.iter().any(|(name, value)| {
        matches!(name.as_str(), "fsync" | "synchronous_commit") && value == "off"
    });
    Ok(Durability { durable, settings })
}

/// Permanent is what the data is to blame for: SQLSTATE classes 22 and 23.
/// Our own two keys of `entry` and the journal's are not: a clash there means that a lock was not
/// held, and the same batch again finds what is stored. All else may pass.
pub(super) fn classify(error: &sqlx::Error) -> StoreError {
    let text = error.to_string();
    match error {
        sqlx::Error::Database(database) => {
            let ours =
                matches!(database.constraint(), Some("entry_place" | "entry_id" | "journal_pkey"));
            match database.code().as_deref() {
                Some(code) if (code.starts_with("22") || code.starts_with("23")) && !ours => {
                    StoreError::Permanent(format!("{text} (SQLSTATE {code})"))
                }
                Some(code) => StoreError::Transient(format!("{text} (SQLSTATE {code})")),
                None => StoreError::Transient(text),
            }
        }
        sqlx::Error::Encode(_) => StoreError::Permanent(text),
        _ => StoreError::Transient(text),
    }
}
