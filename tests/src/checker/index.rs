//! One pass over a history: what became of each message, who was whom, what the logs hold.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Counts;
use super::event::{Body, Conversation, Event, FaultKind, LogEntry, MessageId, User, Way, What};

/// A client instance: process and session number.
pub(super) type Device = (u32, u64);

/// A message's name: unique by conversation, sender and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) conversation: Conversation,
    pub(super) sender: User,
    pub(super) id: MessageId,
}

/// What became of one message.
#[derive(Debug, Default)]
pub(super) struct Send {
    /// The device of the first transmission, its time, and its rank among all events.
    pub(super) device: Device,
    pub(super) invoked_at: u64,
    pub(super) rank: usize,
    pub(super) bodies: Vec<Body>,
    pub(super) transmissions: u64,
    pub(super) refusals: u64,
    pub(super) resends_acked: u64,
    /// Places named by acknowledgements, in time order.
    pub(super) acks: Vec<u64>,
    /// The first outcome of any kind.
    pub(super) ended_at: Option<u64>,
    /// The first proof that it is stored: an acknowledgement or a delivery.
    pub(super) stored_at: Option<u64>,
}

impl Send {
    /// Every transmission was definitely refused.
    pub(super) fn is_refused(&self) -> bool {
        self.acks.is_empty() && self.refusals >= self.transmissions
    }

    /// The sender never learnt what became of it.
    pub(super) fn is_unknown(&self) -> bool {
        self.acks.is_empty() && !self.is_refused()
    }
}

/// One sighting of an entry by an application.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting {
    pub(super) at: u64,
    pub(super) device: Device,
    pub(super) conversation: Conversation,
    pub(super) entry: LogEntry,
}

/// The history, sorted out.
pub(super) struct Index<'a> {
    pub(super) events: &'a [Event],
    pub(super) sends: BTreeMap<Key, Send>,
    pub(super) sightings: Vec<Sighting>,
    /// Every final log as it was read.
    pub(super) logs: Vec<(u64, Conversation, &'a [LogEntry])>,
    /// The final logs by place; the first reading counts.
    pub(super) entries: HashMap<Conversation, BTreeMap<u64, LogEntry>>,
    /// All places of a message in the final log, rising.
    pub(super) places: HashMap<Key, Vec<u64>>,
    pub(super) users: HashMap<Device, User>,
    /// First and last visible place of each stay, sorted.
    stays: HashMap<(Conversation, User), Vec<(u64, u64)>>,
    /// Acknowledged places of a session's own messages.
    pub(super) own: HashMap<(Device, Conversation), HashSet<u64>>,
    /// Acknowledgements of messages that nobody sent.
    pub(super) stray_acks: Vec<(Conversation, MessageId, u64)>,
}

/// What a restored backup undid.
#[derive(Default)]
struct Void {
    restored_at: Option<u64>,
    floors: HashMap<Conversation, u64>,
}

impl Void {
    fn new(events: &[Event]) -> Self {
        let is_restore = |what: &What| matches!(what, What::Fault { kind: FaultKind::Restore, .. });
        let restored_at = events.iter().rev().find(|e| is_restore(&e.what)).map(|e| e.at_us);
        let mut floors = HashMap::new();
        for event in events.iter().filter(|e| restored_at.is_some_and(|at| e.at_us >= at)) {
            if let What::Reset { conversation, to, .. } = event.what {
                let floor = floors.entry(conversation).or_insert(to);
                *floor = to.min(*floor);
            }
        }
        Self { restored_at, floors }
    }

    fn holds(&self, at: u64, conversation: Conversation, seq: u64) -> bool {
        self.restored_at.is_some_and(|restored_at| at < restored_at)
            && self.floors.get(&conversation).is_some_and(|floor| seq > *floor)
    }
}

impl<'a> Index<'a> {
    pub(super) fn new(events: &'a [Event]) -> Self {
        let mut index = Self {
            events,
            sends: BTreeMap::new(),
            sightings: Vec::new(),
            logs: Vec::new(),
            entries: HashMap::new(),
            places: HashMap::new(),
            users: users(events),
            stays: stays(events),
            own: HashMap::new(),
            stray_acks: Vec::new(),
        };
        let void = Void::new(events);
        for (rank, event) in events.iter().enumerate() {
            index.add(rank, event, &void);
        }
        for sighting in &index.sightings {
            let key = key_of(sighting.conversation, &sighting.entry);
            if let Some(send) = key.and_then(|key| index.sends.get_mut(&key)) {
                let at = send.stored_at.unwrap_or(sighting.at);
                send.stored_at = Some(at.min(sighting.at));
            }
        }
        for (conversation, log) in &index.entries {
            for (seq, entry) in log {
                if let Some(key) = key_of(*conversation, entry) {
                    index.places.entry(key).or_default().push(*seq);
                }
            }
        }
        index
    }

    fn add(&mut self, rank: usize, event: &'a Event, void: &Void) {
        let at = event.at_us;
        match event.what {
            What::InvokeSend { session, sender, conversation, id, body } => {
                let key = Key { conversation, sender, id };
                let send = self.sends.entry(key).or_insert_with(|| Send {
                    device: (event.process, session),
                    invoked_at: at,
                    rank,
                    ..Send::default()
                });
                send.transmissions += 1;
                if !send.bodies.contains(&body) {
                    send.bodies.push(body);
                }
            }
            What::AckSend { session, conversation, id, seq } => {
                let device = (event.process, session);
                self.own.entry((device, conversation)).or_default().insert(seq);
                if void.holds(at, conversation, seq) {
                    return;
                }
                let Some(send) = self.send_of_device(device, conversation, id) else {
                    self.stray_acks.push((conversation, id, seq));
                    return;
                };
                send.acks.push(seq);
                send.resends_acked = send.transmissions - 1;
                send.ended_at.get_or_insert(at);
                send.stored_at.get_or_insert(at);
            }
            What::FailSend { session, conversation, id, definite, .. } => {
                let device = (event.process, session);
                if let Some(send) = self.send_of_device(device, conversation, id) {
                    send.ended_at.get_or_insert(at);
                    send.refusals += u64::from(definite);
                }
            }
            What::Deliver { session, conversation, seq, sender, id, body, .. }
                if !void.holds(at, conversation, seq) =>
            {
                self.sightings.push(Sighting {
                    at,
                    device: (event.process, session),
                    conversation,
                    entry: LogEntry { seq, sender, id, body },
                })
            }
            What::FinalLog { conversation, ref entries } => {
                self.logs.push((at, conversation, entries));
                let log = self.entries.entry(conversation).or_default();
                for entry in entries {
                    log.entry(entry.seq).or_insert(*entry);
                }
            }
            _ => {}
        }
    }

    fn send_of_device(
        &mut self,
        device: Device,
        conversation: Conversation,
        id: MessageId,
    ) -> Option<&mut Send> {
        let sender = *self.users.get(&device)?;
        self.sends.get_mut(&Key { conversation, sender, id })
    }

    /// Where a message is: in the final log, else where it was acknowledged.
    pub(super) fn place(&self, key: &Key, send: &Send) -> Option<u64> {
        let stored = self.places.get(key).and_then(|places| places.first());
        stored.or(send.acks.first()).copied()
    }

    /// The user may see, or write, the entry at this place.
    pub(super) fn may_see(&self, conversation: Conversation, user: User, seq: u64) -> bool {
        let mut stays = self.stays(conversation, user).iter();
        stays.any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// First and last visible place of each of the user's stays, sorted.
    pub(super) fn stays(&self, conversation: Conversation, user: User) -> &[(u64, u64)] {
        let stays = self.stays.get(&(conversation, user));
        stays.map_or(&[], Vec::as_slice)
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts {
            sends: count(self.sends.len()),
            entries: self.entries.values().map(|log| count(log.len())).sum(),
            ..Counts::default()
        };
        for send in self.sends.values() {
            counts.acks += u64::from(!send.acks.is_empty());
            counts.refused += u64::from(send.is_refused());
            counts.unknown += u64::from(send.is_unknown());
            counts.resends += send.resends_acked;
        }
        for event in self.events {
            match &event.what {
                What::Deliver { way: Way::Repeat, .. } => counts.repeats += 1,
                What::Deliver { .. } => counts.delivers += 1,
                What::Preview { .. } => counts.previews += 1,
                What::Resume { from, .. } => counts.resumes += u64::from(*from > 0),
                What::Gap { .. } => counts.gaps += 1,
                What::Reset { .. } => counts.resets += 1,
                What::Fault { kind, .. } => *counts.faults.entry(*kind).or_default() += 1,
                _ => {}
            }
        }
        counts
    }
}

/// A message's name; None for the server's own entries.
pub(super) fn key_of(conversation: Conversation, entry: &LogEntry) -> Option<Key> {
    let sender = entry.sender?;
    Some(Key { conversation, sender, id: entry.id })
}

/// A length as a count.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn users(events: &[Event]) -> HashMap<Device, User> {
    let mut users = HashMap::new();
    for event in events {
        if let What::SignIn { session, user } | What::InvokeSend { session, sender: user, .. } =
            event.what
        {
            users.entry((event.process, session)).or_insert(user);
        }
    }
    users
}

fn stays(events: &[Event]) -> HashMap<(Conversation, User), Vec<(u64, u64)>> {
    let mut steps: HashMap<_, Vec<(u64, bool)>> = HashMap::new();
    for event in events {
        let (user, conversation, step) = match event.what {
            What::Join { user, conversation, seq } => (user, conversation, (seq, false)),
            What::Leave { user, conversation, seq } => (user, conversation, (seq, true)),
            _ => continue,
        };
        steps.entry((conversation, user)).or_default().push(step);
    }
    let paired = steps.into_iter().map(|(who, mut steps)| {
        steps.sort_unstable();
        let mut stays: Vec<(u64, u64)> = Vec::new();
        let mut inside = false;
        // The same step may have been recorded by several observers.
        for (seq, leaves) in steps {
            match (inside, leaves) {
                (false, false) => stays.push((seq, u64::MAX)),
                (true, true) => stays.last_mut().into_iter().for_each(|stay| stay.1 = seq),
                _ => {}
            }
            inside = !leaves;
        }
        (who, stays)
    });
    paired.collect()
}
