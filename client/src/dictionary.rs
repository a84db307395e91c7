//! Dictionaries that this client does not ship: fetched from the server when a body needs one, one at a
//! time, and remembered. A body whose dictionary cannot be had is handed out as it came.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_proto::compression::{DICTIONARY_BYTES_MAX, FetchedDictionary};
use petrel_proto::wire::{self, frame::What};

use crate::body::{self, BODY_BYTES_MAX, Undecodable};
use crate::error::ClientError;
use crate::incoming::Incoming;
use crate::shared::Shared;

/// Dictionaries that are remembered, at the most; bodies that need one more are handed out as they came.
const FETCHED_MAX: usize = 16;
/// What is behind a body waits for its dictionary so long, at the most.
const PATIENCE: Duration = Duration::from_secs(5);
/// A dictionary that could not be had is not asked for again so long.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// What was fetched, by version. Whoever holds the lock fetches.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    versions: tokio::sync::Mutex<HashMap<u32, Known>>,
}

#[derive(Clone, Debug)]
enum Known {
    Here(Arc<FetchedDictionary>),
    Failed(Instant),
}

impl Shared {
    /// Decodes the bodies that lack a dictionary, as far as the server has it.
    pub(crate) async fn complete<'a>(
        &self,
        bodies: impl Iterator<Item = &'a mut Result<Bytes, Undecodable>>,
    ) {
        for body in bodies {
            let Err(undecodable) = body else { continue };
            let Some(version) = body::missing_dictionary(undecodable) else { continue };
            let Some(dictionary) = self.dictionary(version).await else { continue };
            if let Ok(plain) = dictionary.decode(&undecodable.raw, BODY_BYTES_MAX) {
                *body = Ok(plain.into());
            }
        }
    }

    async fn dictionary(&self, version: u32) -> Option<Arc<FetchedDictionary>> {
        let mut versions = self.fetched.versions.lock().await;
        match versions.get(&version) {
            Some(Known::Here(dictionary)) => return Some(Arc::clone(dictionary)),
            Some(Known::Failed(at)) if at.elapsed() < ASK_AGAIN => return None,
            None if versions.len() >= FETCHED_MAX => return None,
            Some(Known::Failed(_)) | None => {}
        }
        let fetching = tokio::time::timeout(PATIENCE, self.fetch_dictionary(version));
        let fetched = fetching.await.unwrap_or(Err(ClientError::TimedOut));
        let bytes = match fetched {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(version, %error, "a dictionary cannot be fetched");
                versions.insert(version, Known::Failed(Instant::now()));
                return None;
            }
        };
        let Some(dictionary) = FetchedDictionary::new(&bytes) else {
            tracing::warn!(version, bytes = bytes.len(), "what the server has is no dictionary");
            versions.insert(version, Known::Failed(Instant::now()));
            return None;
        };
        let dictionary = Arc::new(dictionary);
        versions.insert(version, Known::Here(Arc::clone(&dictionary)));
        Some(dictionary)
    }

    async fn fetch_dictionary(&self, version: u32) -> Result<Vec<u8>, ClientError> {
        let request = What::FetchDictionary(wire::FetchDictionary { version });
        self.request(request, |bytes: &mut Vec<u8>, frame, what| match what {
            What::Dictionary(_) if bytes.len() + frame.body.len() <= DICTIONARY_BYTES_MAX => {
                bytes.extend_from_slice(&frame.body);
                Ok(false)
            }
            What::Dictionary(_) => {
                Err(ClientError::Protocol("a dictionary that is too long".to_owned()))
            }
            What::Done(_) => Ok(true),
            _ => Err(ClientError::Protocol("an answer that is no dictionary".to_owned())),
        })
        .await
    }
}

/// The bodies of what came on a stream.
pub(crate) fn bodies(
    batch: &mut [Incoming],
) -> impl Iterator<Item = &mut Result<Bytes, Undecodable>> {
    batch.iter_mut().filter_map(|incoming| match incoming {
        Incoming::Push(push) => Some(&mut push.body),
        Incoming::Preview(preview) => Some(&mut preview.body),
        _ => None,
    })
}
