//! TLS sessions that clients resume: in memory, each good for one resumption, as early data wants it.
//! A recorded first flight finds its session used.

use std::sync::Arc;

use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

use crate::metrics;

/// The sessions of the whole gateway.
#[derive(Debug)]
pub(crate) struct TlsSessions {
    known: Arc<ServerSessionMemoryCache>,
    /// Whether they allow early data.
    early_data: bool,
}

impl TlsSessions {
    /// Keeps so many.
    pub(crate) fn new(sessions: usize, early_data: bool) -> Self {
        Self { known: ServerSessionMemoryCache::new(sessions), early_data }
    }
}

impl StoresServerSessions for TlsSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.known.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.known.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.known.take(key);
        if found.is_none() && self.early_data {
            metrics::early_data(metrics::EarlyData::Rejected);
        }
        found
    }

    fn can_cache(&self) -> bool {
        true
    }
}
