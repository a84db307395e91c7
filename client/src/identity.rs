//! Who the client is, and the private file it is kept in.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ClientError;
use crate::id::{DeviceId, UserId};

/// A device's secret. Never shown: its `Debug` is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for signing in.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// A token that came from elsewhere (seeded users). Its `Debug` is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token itself.
    pub text: String,
    /// When it ends, Unix milliseconds.
    pub expires_ms: u64,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("text", &"***").field("expires_ms", &self.expires_ms).finish()
    }
}

/// One device of one user, as registered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// The user's name.
    pub user_name: String,
    /// The device.
    pub device: DeviceId,
    /// What the device signs in with.
    #[serde(with = "hex_secret")]
    pub secret: Secret,
}

impl Identity {
    /// Reads an identity from its file.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] if the file cannot be read, is readable by
    /// others, or holds no identity.
    pub fn load(path: &Path) -> Result<Self, ClientError> {
        let invalid = |why: String| ClientError::Invalid(format!("{}: {why}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| invalid(error.to_string()))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(path)
                .map_err(|error| invalid(error.to_string()))?
                .permissions()
                .mode();
            if mode & 0o077 != 0 {
                return Err(invalid(format!(
                    "others may read it (mode {:o}); it holds a secret and has to have mode 600",
                    mode & 0o777
                )));
            }
        }
        serde_json::from_str(&text).map_err(|error| invalid(format!("no identity: {error}")))
    }

    /// Writes the identity to its file, with mode 0600, whole or not at all.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] with what the file system said.
    pub fn save(&self, path: &Path) -> Result<(), ClientError> {
        self.write(path)
            .map_err(|error| ClientError::Invalid(format!("{}: {error}", path.display())))
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    }
}

mod hex_secret {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, out: S) -> Result<S::Ok, S::Error> {
        let text: String = secret.0.iter().map(|byte| format!("{byte:02x}")).collect();
        out.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        let text = String::deserialize(from)?;
        crate::tls::hex_32(&text)
            .map(Secret)
            .ok_or_else(|| D::Error::custom("a device secret has 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn alice() -> Identity {
        Identity {
            user: UserId([1; 16]),
            user_name: "alice".into(),
            device: DeviceId([2; 16]),
            secret: Secret::new([0xc4; 32]),
        }
    }

    #[test]
    fn an_identity_survives_its_file_which_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alice.json");
        alice().save(&path).unwrap();
        alice().save(&path).unwrap();
        assert_eq!(Identity::load(&path).unwrap(), alice());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(matches!(Identity::load(&path), Err(ClientError::Invalid(_))));
        }
    }

    #[test]
    fn secrets_and_tokens_are_not_shown() {
        let shown = format!("{:?} {:?}", alice(), Token { text: "abcdef".into(), expires_ms: 1 });
        assert!(!shown.contains("c4") && !shown.contains("196") && !shown.contains("abcdef"));
    }
}
