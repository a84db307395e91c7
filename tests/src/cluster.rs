//! Gateways as real processes on free ports, stores for them, and clients
//! whose every event is recorded for the [checker](crate::checker).
//!
//! A [`Stage`] is one run: a store, the record, the people. A test is an
//! `async fn(Stage) -> anyhow::Result<()>`; [`on_both_stores!`](crate::on_both_stores) makes
//! of it one test on SQLite and one on a private PostgreSQL.

mod admin;
mod gateway;
mod many;
mod person;
mod seen;
mod stage;
mod stall;

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};

pub use admin::{Answer, Scrape};
pub use gateway::{Gateway, GatewayOptions, Signal, Storage, binary};
pub use many::Cluster;
pub use person::Person;
pub use seen::Seen;
pub use stage::{Stage, Store};
pub use stall::Stall;

/// How long a condition is waited for, unless a test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition that has no event.
pub const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Looks at a condition until it holds.
///
/// # Errors
/// It does not within `patience`, or looking fails. `what` says what was waited for.
pub async fn eventually<F, T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("waited {patience:?} in vain for: {what}");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Makes of each `async fn name(stage: Stage) -> Result<()>` the tests `sqlite::name` and
/// `postgres::name`.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> anyhow::Result<()> {
                    super::$name($crate::cluster::Stage::sqlite()?).await
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> anyhow::Result<()> {
                    super::$name($crate::cluster::Stage::postgres().await?).await
                }
            )+
        }
    };
}
