//! A store that answers nothing for a while.

use anyhow::{Context as _, Result};
use petrel_storage::testing::WriteLock;

use super::gateway::Gateway;
use super::stage::{Stage, Store};

/// A store that stands still; on SQLite until this is dropped.
#[derive(Debug)]
pub struct Stall(#[expect(dead_code, reason = "held until it is dropped")] Option<WriteLock>);

impl Stage {
    /// Lets the store stand still: PostgreSQL is stopped in its tracks; SQLite's write lock is
    /// taken, so that reading goes on.
    ///
    /// # Errors
    /// The server does not run, or the lock cannot be had.
    pub fn stall(&mut self, gateway: &Gateway) -> Result<Stall> {
        match &mut self.store {
            Store::Sqlite => {
                let path = gateway.data_dir().join("petrel.db");
                Ok(Stall(Some(WriteLock::take(&path).context("the write lock")?)))
            }
            Store::Postgres(server) => {
                server.pause()?;
                Ok(Stall(None))
            }
        }
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// The server does not run.
    pub fn go_on(&mut self, stall: Stall) -> Result<()> {
        drop(stall);
        match &mut self.store {
            Store::Sqlite => Ok(()),
            Store::Postgres(server) => Ok(server.unpause()?),
        }
    }
}
