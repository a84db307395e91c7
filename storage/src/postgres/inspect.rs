//! A look at a PostgreSQL database.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::Row as _;

use super::connect::{self, Connector};
use crate::inspect::Inspection;
use crate::{OpenError, StoreOptions, migrate};

pub(crate) async fn inspect(url: &str, options: StoreOptions) -> Result<Inspection, OpenError> {
    let connector = Connector::new(url, options)?;
    let place = connector.place.clone();
    let mut connection = connector.look().await?;
    let looking = async {
        let durability = connect::durability(&mut connection).await?;
        let before = unix_ms();
        let row = sqlx::query(
            "SELECT current_setting('server_version'), current_setting('max_connections')::int8, \
                    (extract(epoch FROM clock_timestamp()) * 1000)::int8, \
                    to_regclass('_sqlx_migrations') IS NOT NULL",
        )
        .fetch_one(&mut connection)
        .await?;
        let middle = before + (unix_ms() - before) / 2;
        let is_there: bool = row.try_get(3)?;
        let applied: Vec<(i64, Vec<u8>)> = if is_there {
            sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
                .fetch_all(&mut connection)
                .await?
        } else {
            Vec::new()
        };
        Ok::<_, sqlx::Error>(Inspection {
            place: place.clone(),
            version: format!("PostgreSQL {}", row.try_get::<String, _>(0)?),
            durability,
            tables: migrate::judge(true, &applied),
            clock_ahead_ms: Some(row.try_get::<i64, _>(2)? - middle),
            connections_max: Some(row.try_get(1)?),
        })
    };
    let deadline = connector.options.deadline;
    let refused = |problem: String| OpenError::Connect { place: connector.place.clone(), problem };
    tokio::time::timeout(deadline, looking)
        .await
        .map_err(|_| refused(format!("no answer within {deadline:?}")))?
        .map_err(|error| refused(error.to_string()))
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
