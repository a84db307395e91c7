//! Messages that were refused for good, for as long as an older copy of one may
//! still arrive: on a connection that is dead and not yet known to be, or on a
//! stream that waits for room. Such a copy gets the same refusal, whatever the
//! rights are by then, so that what a client was told stays true.
//!
//! Times are seconds of a clock that never goes back.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::error::Rejection;
use crate::id::{ClientMessageId, ContentDigest, UserId};
use crate::limits;

/// The refusals of one conversation that are kept.
#[derive(Debug, Default)]
pub struct Refused {
    by_id: FxHashMap<(UserId, ClientMessageId), Tombstone>,
    /// One for each tombstone, with the time at which to look at it again.
    ends: VecDeque<(u32, UserId, ClientMessageId)>,
}

#[derive(Debug)]
struct Tombstone {
    digest: ContentDigest,
    rejection: Rejection,
    until_s: u32,
}

impl Refused {
    /// Keeps a refusal until `until_s`. `false` if there is no room for it: then the message
    /// must not be refused for good now.
    #[must_use]
    pub fn keep(
        &mut self,
        (sender, id): (UserId, ClientMessageId),
        digest: ContentDigest,
        rejection: &Rejection,
        now_s: u32,
        until_s: u32,
    ) -> bool {
        self.forget(now_s);
        if let Some(kept) = self.by_id.get_mut(&(sender, id)) {
            kept.until_s = kept.until_s.max(until_s);
            return true;
        }
        if self.by_id.len() >= limits::REFUSED_KEPT_MAX {
            return false;
        }
        let tombstone = Tombstone { digest, rejection: rejection.clone(), until_s };
        self.by_id.insert((sender, id), tombstone);
        self.ends.push_back((until_s, sender, id));
        true
    }

    /// The refusal that this message got. The same id with other content is another message.
    pub fn of(
        &self,
        sender: UserId,
        id: ClientMessageId,
        digest: ContentDigest,
    ) -> Option<&Rejection> {
        let kept = self.by_id.get(&(sender, id))?;
        (kept.digest == digest).then_some(&kept.rejection)
    }

    /// Forgets what need not be known any more.
    pub fn forget(&mut self, now_s: u32) {
        while let Some((_, sender, id)) = self.ends.pop_front_if(|(end_s, ..)| *end_s <= now_s) {
            match self.by_id.get(&(sender, id)).map(|kept| kept.until_s) {
                // It was refused once more meanwhile.
                Some(until_s) if until_s > now_s => self.ends.push_back((until_s, sender, id)),
                _ => drop(self.by_id.remove(&(sender, id))),
            }
        }
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
