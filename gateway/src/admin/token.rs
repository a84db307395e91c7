//! The token of the admin API: a file that only its owner may read, made at the first start, or a
//! setting. Whoever has it may do everything.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::keys::{hex, write_private};

/// Bytes of a token that is made here, before they are written as hexadecimal digits.
const MADE_BYTES: usize = 32;
/// Bytes of a token of the operator's own: it cannot be guessed.
const BYTES: std::ops::RangeInclusive<usize> = 32..=512;

/// What a caller's token is compared with.
pub(crate) struct AdminToken([u8; 32]);

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl AdminToken {
    /// The one that the settings name; made at the first start.
    ///
    /// # Errors
    /// If it can neither be read nor made, or is too short.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let file = file(&config.data_dir);
        if config.admin.token.is_none() && !file.exists() {
            let mut bytes = [0; MADE_BYTES];
            rand::rng().fill_bytes(&mut bytes);
            write_private(&file, (hex(&bytes) + "\n").as_bytes())?;
        }
        Ok(Self(Sha256::digest(read_token(config)?).into()))
    }

    /// Whether this is it. How long that takes tells nothing.
    pub(super) fn is(&self, given: &str) -> bool {
        verify_slices_are_equal(&Sha256::digest(given), &self.0).is_ok()
    }
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.token")
}

/// The token of the gateway with these settings, for whoever may read it.
///
/// # Errors
/// If it cannot be read, others may read it, or it is too short; the text says what to do.
pub fn read_token(config: &Config) -> Result<String> {
    let (key, token) = match &config.admin.token {
        Some(token) => ("admin.token".to_owned(), token.expose().to_owned()),
        None => {
            let path = file(&config.data_dir);
            let place = path.display().to_string();
            let metadata = std::fs::metadata(&path).with_context(|| {
                format!("{place}: the gateway makes it at its first start, and only its user may read it")
            })?;
            if metadata.permissions().mode() & 0o077 != 0 {
                bail!("{place}: others may read it, and could do everything: chmod 600 {place}");
            }
            let token = std::fs::read_to_string(&path)
                .with_context(|| format!("{place}: only the gateway's user may read it"))?;
            (place, token.trim_end().to_owned())
        }
    };
    let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    if !BYTES.contains(&token.len()) || !is_plain {
        bail!(
            "{key}: a token has {} to {} visible ASCII characters: openssl rand -hex 32",
            BYTES.start(),
            BYTES.end()
        );
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn the_token_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        assert!(read_token(&config).is_err());
        let made = AdminToken::open(&config).unwrap();
        let token = read_token(&config).unwrap();
        assert_eq!(token.len(), 2 * MADE_BYTES);
        assert!(made.is(&token) && AdminToken::open(&config).unwrap().is(&token));
        for wrong in ["", &token[1..], &format!("{token}0"), &"0".repeat(token.len())] {
            assert!(!made.is(wrong), "{wrong}");
        }
        let path = file(dir.path());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(format!("{:#}", AdminToken::open(&config).unwrap_err()).contains("chmod 600"));
    }

    #[test]
    fn a_short_token_is_refused_without_being_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(file(dir.path()), "hunter2").unwrap();
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(file(dir.path()), private).unwrap();
        let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        let error = format!("{:#}", AdminToken::open(&config).unwrap_err());
        assert!(error.contains("32 to 512") && !error.contains("hunter2"), "{error}");
    }
}
