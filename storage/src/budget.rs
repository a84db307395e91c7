//! The bounded channel's room. Whoever wants to hand a message to a writer takes
//! a [`Permit`] first; a permit is room in the channel, so that handing over
//! never waits and never fails for want of space.
//!
//! One unit stands for 1 KiB begun of a message's body, at least one a message:
//! 65,536 units therefore bound both 65,536 messages and 64 MiB. Three bounds
//! are taken in this order: the session's share, the conversation's share, the
//! whole channel. Each is fair (first come, first served), and waiting for one
//! of them holds up that caller alone.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use petrel_core::error::Rejection;
use petrel_core::limits::{CONVERSATION_SHARE, SESSION_SHARE};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::writer::metrics::overflow_counter;

/// Bytes of a body that one unit stands for.
pub const UNIT_BYTES: usize = 1024;
/// What [`Rejection::Overloaded`] names when the session's share stayed full.
pub const SESSION: &str = "the session's share of the channel";
/// What [`Rejection::Overloaded`] names when the conversation's share stayed full.
pub const CONVERSATION: &str = "the conversation's share of the channel";
/// What [`Rejection::Overloaded`] names when the whole channel stayed full.
pub const CHANNEL: &str = "the channel";

/// The room of one gateway's channel. A handle: clones share the room.
#[derive(Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

struct Inner {
    channel: Semaphore,
    capacity: usize,
    deadline: Duration,
    session_overflows: Counter,
    conversation_overflows: Counter,
    channel_overflows: Counter,
}

/// One session's or one conversation's part of the channel. A handle: clones share it.
#[derive(Clone)]
pub struct Share {
    room: Arc<Semaphore>,
    capacity: usize,
}

/// Room for one message, given back on drop.
#[must_use = "dropping a permit gives its room back"]
pub struct Permit {
    budget: Arc<Inner>,
    session: Arc<Semaphore>,
    conversation: Arc<Semaphore>,
    units: Units,
}

#[derive(Clone, Copy)]
struct Units {
    session: u32,
    conversation: u32,
    channel: u32,
}

/// How many units a body of so many bytes takes.
pub fn units_of(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES).max(1)
}

impl Budget {
    /// A channel with room for `units` (at least one), whose callers wait for
    /// `deadline` at the most. Install the metrics recorder first.
    pub fn new(units: usize, deadline: Duration) -> Self {
        let capacity = units.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            inner: Arc::new(Inner {
                channel: Semaphore::new(capacity),
                capacity,
                deadline,
                session_overflows: overflow_counter("session"),
                conversation_overflows: overflow_counter("conversation"),
                channel_overflows: overflow_counter("channel"),
            }),
        }
    }

    /// A new session's share: one part in [`SESSION_SHARE`] of the channel, at least one unit.
    pub fn session_share(&self) -> Share {
        Share::new(self.inner.capacity / SESSION_SHARE)
    }

    /// A new conversation's share: one part in [`CONVERSATION_SHARE`] of the channel, at least one unit.
    /// Keep it while anything of it is in use: a second share of the same conversation counts apart.
    pub fn conversation_share(&self) -> Share {
        Share::new(self.inner.capacity / CONVERSATION_SHARE)
    }

    /// Room for a body of `bytes`, at once or not at all. A message larger than
    /// a share takes the whole share.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] names the bound that is full;
    /// [`Rejection::GoingAway`] after [`Budget::close`].
    pub fn try_permit(
        &self,
        session: &Share,
        conversation: &Share,
        bytes: usize,
    ) -> Result<Permit, Rejection> {
        self.try_take(session, conversation, bytes).map_err(|full| self.refuse(full))
    }

    /// Room for a body of `bytes`; waits in line for it, until the deadline.
    /// With room there is neither a timer nor an allocation. Dropping the
    /// future gives back what it had taken so far.
    ///
    /// # Errors
    /// As [`Budget::try_permit`], once the deadline has passed.
    pub async fn permit(
        &self,
        session: &Share,
        conversation: &Share,
        bytes: usize,
    ) -> Result<Permit, Rejection> {
        if let Ok(permit) = self.try_take(session, conversation, bytes) {
            return Ok(permit);
        }
        self.wait(session, conversation, bytes).await.map_err(|full| self.refuse(full))
    }

    /// Nobody is given room any more, and who waits for the channel is answered at once.
    pub fn close(&self) {
        self.inner.channel.close();
    }

    /// Units that are taken.
    pub fn in_use(&self) -> usize {
        self.inner.capacity - self.inner.channel.available_permits()
    }

    /// Units that there are.
    pub fn capacity(&self) -> usize {
        self.inner.capacity
    }

    fn units(&self, session: &Share, conversation: &Share, bytes: usize) -> Units {
        let wanted = units_of(bytes);
        let at_most = |capacity: usize| u32::try_from(wanted.min(capacity)).unwrap_or(u32::MAX);
        Units {
            session: at_most(session.capacity),
            conversation: at_most(conversation.capacity),
            channel: at_most(self.inner.capacity),
        }
    }

    fn try_take(
        &self,
        session: &Share,
        conversation: &Share,
        bytes: usize,
    ) -> Result<Permit, Full> {
        let units = self.units(session, conversation, bytes);
        let in_session = session.room.try_acquire_many(units.session).map_err(|_| Full::Session)?;
        let in_conversation = conversation
            .room
            .try_acquire_many(units.conversation)
            .map_err(|_| Full::Conversation)?;
        let in_channel = match self.inner.channel.try_acquire_many(units.channel) {
            Ok(taken) => taken,
            Err(tokio::sync::TryAcquireError::Closed) => return Err(Full::Closed),
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(Full::Channel),
        };
        in_session.forget();
        in_conversation.forget();
        in_channel.forget();
        Ok(self.permit_of(session, conversation, units))
    }

    async fn wait(
        &self,
        session: &Share,
        conversation: &Share,
        bytes: usize,
    ) -> Result<Permit, Full> {
        let units = self.units(session, conversation, bytes);
        let until = Instant::now() + self.inner.deadline;
        let in_session = timeout_at(until, session.room.acquire_many(units.session))
            .await
            .map_err(|_| Full::Session)?
            .map_err(|_| Full::Closed)?;
        let in_conversation = timeout_at(until, conversation.room.acquire_many(units.conversation))
            .await
            .map_err(|_| Full::Conversation)?
            .map_err(|_| Full::Closed)?;
        let in_channel = timeout_at(until, self.inner.channel.acquire_many(units.channel))
            .await
            .map_err(|_| Full::Channel)?
            .map_err(|_| Full::Closed)?;
        in_session.forget();
        in_conversation.forget();
        in_channel.forget();
        Ok(self.permit_of(session, conversation, units))
    }

    fn permit_of(&self, session: &Share, conversation: &Share, units: Units) -> Permit {
        Permit {
            budget: Arc::clone(&self.inner),
            session: Arc::clone(&session.room),
            conversation: Arc::clone(&conversation.room),
            units,
        }
    }

    fn refuse(&self, full: Full) -> Rejection {
        let (counter, what) = match full {
            Full::Session => (&self.inner.session_overflows, SESSION),
            Full::Conversation => (&self.inner.conversation_overflows, CONVERSATION),
            Full::Channel => (&self.inner.channel_overflows, CHANNEL),
            Full::Closed => return Rejection::GoingAway,
        };
        counter.increment(1);
        Rejection::Overloaded { what }
    }
}

/// Which of the bounds has no room.
#[derive(Clone, Copy)]
enum Full {
    Session,
    Conversation,
    Channel,
    Closed,
}

impl Share {
    fn new(units: usize) -> Self {
        let capacity = units.max(1);
        Self { room: Arc::new(Semaphore::new(capacity)), capacity }
    }

    /// Units that are taken.
    pub fn in_use(&self) -> usize {
        self.capacity - self.room.available_permits()
    }

    /// Units that there are.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

impl Permit {
    /// Units of the channel that this permit stands for.
    pub fn units(&self) -> usize {
        self.units.channel as usize
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.channel.add_permits(self.units.channel as usize);
        self.conversation.add_permits(self.units.conversation as usize);
        self.session.add_permits(self.units.session as usize);
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({} of {} units)", self.in_use(), self.capacity())
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} of {} units)", self.in_use(), self.capacity)
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({} units)", self.units.channel)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    fn full<T: fmt::Debug>(result: Result<T, Rejection>) -> &'static str {
        match result {
            Err(Rejection::Overloaded { what }) => what,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_unit_is_a_kibibyte_begun_and_at_least_one_a_message() {
        let units = [0, 1, 1024, 1025, 65_536].map(units_of);
        assert_eq!(units, [1, 1, 1, 2, 64]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_bound_answers_once_with_its_name_and_nobody_is_stuck() {
        for capacity in 1..=4 {
            let budget = Budget::new(capacity, Duration::from_secs(2));
            let (ann, bob) = (budget.session_share(), budget.session_share());
            let (here, there) = (budget.conversation_share(), budget.conversation_share());
            let begun = Instant::now();
            let first = budget.permit(&ann, &here, 10).await.unwrap();
            assert_eq!(begun.elapsed(), Duration::ZERO, "with room nobody waits");
            assert_eq!(full(budget.permit(&ann, &there, 10).await), SESSION);
            assert_eq!(begun.elapsed(), Duration::from_secs(2));
            assert_eq!(full(budget.permit(&bob, &here, 10).await), CONVERSATION);
            let others: Vec<_> = (1..capacity)
                .map(|_| {
                    let (session, conversation) =
                        (budget.session_share(), budget.conversation_share());
                    budget.try_permit(&session, &conversation, 10).unwrap()
                })
                .collect();
            assert_eq!(full(budget.permit(&bob, &there, 10).await), CHANNEL);
            assert_eq!(budget.in_use(), budget.capacity());
            drop((first, others));
            assert_eq!(budget.in_use() + ann.in_use() + here.in_use(), 0);
            let all_at_once = budget.permit(&ann, &here, 1 << 20).await.unwrap();
            assert_eq!(all_at_once.units(), capacity, "a message larger than all takes it all");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_in_turn_as_soon_as_there_is_room() {
        let budget = Budget::new(64, Duration::from_secs(2));
        let share = budget.conversation_share();
        let sessions = [0; 4].map(|_| budget.session_share());
        let held = budget.permit(&sessions[0], &share, 8 * 1024).await.unwrap();
        assert_eq!((share.capacity(), share.in_use()), (8, 8));
        let large = budget.permit(&sessions[1], &share, 8 * 1024);
        let small = budget.permit(&sessions[2], &share, 1);
        let begun = Instant::now();
        let free = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(held);
        };
        let served = parking_lot::Mutex::new(Vec::new());
        let large = async {
            let _permit = large.await.unwrap();
            served.lock().push("large");
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let small = async {
            let _permit = small.await.unwrap();
            served.lock().push("small");
        };
        tokio::join!(large, small, free);
        assert_eq!(*served.lock(), ["large", "small"]);
        assert!(begun.elapsed() < Duration::from_millis(110));
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_goes_away_leaves_nothing_taken() {
        let budget = Budget::new(1, Duration::from_secs(2));
        let held =
            budget.try_permit(&budget.session_share(), &budget.conversation_share(), 1).unwrap();
        let (session, conversation) = (budget.session_share(), budget.conversation_share());
        let wait = budget.permit(&session, &conversation, 1);
        let gone = tokio::time::timeout(Duration::from_millis(10), wait).await;
        assert!(gone.is_err());
        assert_eq!((session.in_use(), conversation.in_use()), (0, 0));
        drop(held);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn once_closed_everybody_is_sent_away() {
        let budget = Budget::new(1, Duration::from_secs(2));
        let (session, conversation) = (budget.session_share(), budget.conversation_share());
        let held = budget.try_permit(&session, &conversation, 1).unwrap();
        let (other, elsewhere) = (budget.session_share(), budget.conversation_share());
        let wait = budget.permit(&other, &elsewhere, 1);
        let close = async { budget.close() };
        let (waited, ()) = tokio::join!(wait, close);
        assert_eq!(waited.err(), Some(Rejection::GoingAway));
        drop(held);
        let late = budget.permit(&session, &conversation, 1).await;
        assert_eq!(late.err(), Some(Rejection::GoingAway));
    }
}
