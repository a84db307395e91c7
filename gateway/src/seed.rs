//! Makes many accounts at once, straight in the store: for load tests.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use petrel_core::account::check_user_name;
use serde::Serialize;

use crate::account::new_account;
use crate::config::Config;
use crate::keys::hex;
use crate::server::open_store;

/// Accounts that one statement makes.
const AT_ONCE: usize = 1_000;

#[derive(Serialize)]
struct Identity<'a> {
    user: String,
    user_name: &'a str,
    device: String,
    secret: String,
}

/// Makes `users` accounts named `PREFIX0`, `PREFIX1`, ... and writes their identities, one JSON
/// object a line, to `out` (mode 0600). With SQLite the gateway must not run meanwhile.
///
/// # Errors
/// If a name is not allowed, the store cannot be opened, or the file cannot be written.
pub async fn seed(config: &Config, users: usize, prefix: &str, out: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let last = format!("{prefix}{}", users.saturating_sub(1));
    check_user_name(&last).with_context(|| format!("--prefix {prefix}"))?;
    let store = open_store(config).await?;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(out)
        .with_context(|| format!("--out: cannot write {}", out.display()))?;
    let mut file = std::io::BufWriter::new(file);
    for from in (0..users).step_by(AT_ONCE) {
        let batch: Vec<_> = (from..users.min(from + AT_ONCE))
            .map(|n| new_account(format!("{prefix}{n}"), "seed".to_owned()))
            .collect();
        let accounts: Vec<_> = batch.iter().map(|(account, _)| account.clone()).collect();
        store.register_many(&accounts).await.context("cannot make the accounts")?;
        for (account, secret) in &batch {
            let identity = Identity {
                user: hex(account.user.id.as_bytes()),
                user_name: &account.user.name,
                device: hex(account.device.as_bytes()),
                secret: hex(secret),
            };
            serde_json::to_writer(&mut file, &identity)?;
            file.write_all(b"\n")?;
        }
    }
    file.flush()?;
    Ok(())
}
