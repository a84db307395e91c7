//! The dictionaries of this gateway: the shipped ones, and the operator's own, read at the start.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use petrel_proto::compression::{self, DictionaryVersion, OwnDictionary};

use crate::config::Message;

/// Earlier dictionaries, at the most: with the one in use and the shipped ones fewer than the 64
/// that a client takes notice of.
const KEPT_MAX: usize = 32;

/// What bodies may be compressed with here.
#[derive(Debug, Default)]
pub(crate) struct Dictionaries {
    /// With which bodies that come plain are compressed; `None`: a shipped one.
    used: Option<OwnDictionary>,
    own: Vec<OwnDictionary>,
}

impl Dictionaries {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// One cannot be read or is no dictionary, or two have the same version; the text names the
    /// setting and the file.
    pub(crate) fn load(message: &Message) -> Result<Self> {
        let kept = &message.dictionaries_kept;
        ensure!(
            kept.len() <= KEPT_MAX,
            "message.dictionaries_kept: {} files; at most {KEPT_MAX}",
            kept.len()
        );
        let used = message.dictionary.as_deref().map(|path| read("message.dictionary", path));
        let used = used.transpose()?;
        let mut own: Vec<OwnDictionary> = used.into_iter().collect();
        for path in kept {
            let dictionary = read("message.dictionaries_kept", path)?;
            if own.contains(&dictionary) {
                continue;
            }
            let version = dictionary.version();
            ensure!(
                own.iter().all(|known| known.version() != version),
                "message.dictionaries_kept: {} has version {version}, which another file has with other content; \
                 a dictionary is never changed",
                path.display()
            );
            own.push(dictionary);
        }
        Ok(Self { used, own })
    }

    /// Those that are not shipped.
    pub(crate) fn own(&self) -> &[OwnDictionary] {
        &self.own
    }

    /// The versions of all.
    pub(crate) fn versions(&self) -> Vec<u32> {
        let shipped = compression::DICTIONARIES.iter().map(|d| d.version.number());
        shipped.chain(self.own.iter().map(|own| own.version())).collect()
    }

    /// One of them, as it is in its file.
    pub(crate) fn bytes(&self, version: u32) -> Option<&'static [u8]> {
        let own = self.own.iter().find(|own| own.version() == version);
        own.map(|own| own.bytes())
            .or_else(|| Some(DictionaryVersion::new(version)?.dictionary().bytes))
    }

    /// A body that came plain, with the operator's own dictionary or the shipped one that suits it:
    /// the encoding, and at most as many bytes.
    pub(crate) fn encode(&self, plain: &[u8]) -> (u32, Bytes) {
        if let Some(own) = self.used {
            return own.encode(plain);
        }
        let encoded = compression::encode(plain, Some(DictionaryVersion::suited_to(plain)));
        (encoded.encoding.number(), encoded.bytes)
    }
}

fn read(setting: &str, path: &Path) -> Result<OwnDictionary> {
    let named = || format!("{setting}: {}", path.display());
    let len = std::fs::metadata(path).with_context(named)?.len();
    let most = compression::DICTIONARY_BYTES_MAX as u64;
    ensure!(len <= most, "{}: {len} bytes; at most {most}", named());
    let bytes = std::fs::read(path).with_context(named)?;
    OwnDictionary::new(&bytes).with_context(named)
}
