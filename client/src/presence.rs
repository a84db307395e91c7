//! Whose presence the application wants to see, and what the server says of it.

use std::collections::HashSet;
use std::sync::Arc;

use petrel_proto::wire::{self, frame::What};
use petrel_transport::SendStream;

use crate::client::Client;
use crate::error::ClientError;
use crate::event::Event;
use crate::id::UserId;
use crate::incoming;
use crate::session::write_frame;
use crate::shared::Shared;

/// Users that are watched, at the most (the protocol's limit).
const WATCHED_MAX: usize = 500;

/// Who is watched; told to the server after each sign-in, and when it changes.
#[derive(Debug, Default)]
pub(crate) struct Watched(HashSet<UserId>);

/// Says whom the application watches.
pub(crate) async fn say_watched(
    shared: &Arc<Shared>,
    control: &mut SendStream,
) -> Result<(), ClientError> {
    let users = shared.state.lock().watched.0.iter().map(|user| user.to_bytes()).collect();
    write_frame(control, What::WatchPresence(wire::WatchPresence { users })).await
}

/// The server says whether somebody is there.
pub(crate) fn take(shared: &Arc<Shared>, said: &wire::Presence) {
    let Ok(user) = incoming::user_id(&said.user) else {
        tracing::warn!("a Presence with an id of another size");
        return;
    };
    let state = shared.state.lock();
    // What was on its way when the application changed its mind is not told.
    if state.watched.0.contains(&user) {
        let (online, seen_ms) = (said.online, said.seen_ms);
        shared.events.push_all([Event::Presence { user, online, seen_ms }]);
    }
    drop(state);
    shared.settle();
}

impl Shared {
    /// After a sign-in: the server knows nobody yet.
    pub(crate) fn watch_again(&self) {
        if !self.state.lock().watched.0.is_empty() {
            self.watch.notify_one();
        }
    }
}

impl Client {
    /// Watches the presence of these users, at most 500, instead of those named before; across
    /// reconnects. Each that shows it is told at once, then when it changes
    /// ([`Event::Presence`]); nothing is told of the others.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for too many.
    pub fn watch_presence(&self, users: &[UserId]) -> Result<(), ClientError> {
        let wanted: HashSet<UserId> = users.iter().copied().collect();
        if wanted.len() > WATCHED_MAX {
            let problem = format!("{} users to watch; at most {WATCHED_MAX}", wanted.len());
            return Err(ClientError::Invalid(problem));
        }
        let shared = self.shared();
        let mut state = shared.state.lock();
        if state.watched.0 != wanted {
            state.watched.0 = wanted;
            if state.connection.is_some() {
                shared.watch.notify_one();
            }
        }
        Ok(())
    }
}
