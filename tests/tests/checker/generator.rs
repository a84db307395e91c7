//! Good histories, from a seed: a model of a correct server and its clients under kills.

use petrel_tests::checker::event::{
    Body, Conversation, Event, FaultKind, GapReason, LogEntry, MessageId, User, Way, What,
};
use petrel_tests::checker::{Expectations, History};

pub(crate) const CONVERSATIONS: usize = 3;
/// Sessions 0 and 1 are devices of one user; then one user each. Session `LATE` belongs to
/// the user who joins late, `LEAVER` to the one who leaves.
pub(crate) const SESSIONS: usize = 6;
pub(crate) const LATE: usize = 4;
pub(crate) const LEAVER: usize = 5;
const KILLS: usize = 3;
const ROUNDS: usize = 4;

pub(crate) fn user(session: usize) -> User {
    User(if session == 0 { 1 } else { session as u128 })
}

pub(crate) fn conversation(number: usize) -> Conversation {
    Conversation(0xc0 + number as u128)
}

/// What every generated history fulfils.
pub(crate) fn expectations() -> Expectations {
    Expectations {
        liveness_ms: Some(1_000),
        acks_min: 50,
        delivers_min: 200,
        resends_min: 1,
        resumes_min: 10,
        previews_min: 1,
        faults_min: [(FaultKind::Kill, KILLS as u64)].into(),
        in_flight_at_kill_min: 2,
        ..Expectations::default()
    }
}

/// A message on its way: handed over, perhaps stored, not yet acknowledged.
#[derive(Clone, Copy)]
struct Sending {
    conversation: usize,
    id: MessageId,
    body: Body,
    stored: Option<u64>,
}

#[derive(Default)]
struct Client {
    outbox: Vec<Sending>,
    position: [u64; CONVERSATIONS],
    read: [u64; CONVERSATIONS],
    own: Vec<(usize, u64)>,
}

struct World {
    random: u64,
    now: u64,
    next_id: u128,
    events: Vec<Event>,
    logs: [Vec<LogEntry>; CONVERSATIONS],
    clients: [Client; SESSIONS],
    last_visible: [u64; CONVERSATIONS],
    late_joined: bool,
}

/// A history that keeps every promise.
pub(crate) fn good(seed: u64) -> Vec<Event> {
    let mut world = World {
        random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        now: 1_000_000,
        next_id: 1,
        events: Vec::new(),
        logs: Default::default(),
        clients: Default::default(),
        last_visible: [u64::MAX; CONVERSATIONS],
        late_joined: false,
    };
    world.run();
    world.events
}

impl World {
    fn run(&mut self) {
        for session in 0..SESSIONS {
            self.push(What::SignIn { session: session as u64, user: user(session) });
            for number in (0..CONVERSATIONS).filter(|_| session != LATE) {
                self.push(What::Join {
                    user: user(session),
                    conversation: conversation(number),
                    seq: 1,
                });
                self.push(What::Resume {
                    session: session as u64,
                    conversation: conversation(number),
                    from: 0,
                });
            }
        }
        for round in 0..ROUNDS {
            for _ in 0..300 {
                self.turn();
            }
            match round {
                0 => self.join_late(),
                1 => self.leave(),
                _ => {}
            }
            if round < KILLS {
                self.kill();
            }
        }
        self.settle();
        for number in 0..CONVERSATIONS {
            let entries = self.logs[number].clone();
            self.push(What::FinalLog { conversation: conversation(number), entries });
        }
    }

    fn turn(&mut self) {
        let session = self.pick(SESSIONS);
        match self.pick(8) {
            0 | 1 => self.send(session),
            2 | 3 => self.store(session),
            4 => self.acknowledge(session),
            _ => {
                let number = self.pick(CONVERSATIONS);
                self.deliver(session, number);
            }
        }
    }

    fn pick(&mut self, of: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as usize % of
    }

    fn push(&mut self, what: What) {
        self.now += 1 + self.pick(50) as u64;
        self.events.push(Event { at_us: self.now, process: 1, what });
    }

    fn is_member(&self, session: usize) -> bool {
        (session != LATE || self.late_joined)
            && (session != LEAVER || self.last_visible[0] == u64::MAX)
    }

    fn fresh_id(&mut self) -> MessageId {
        self.next_id += 1;
        MessageId(self.next_id)
    }

    fn send(&mut self, session: usize) {
        if !self.is_member(session) || self.clients[session].outbox.len() > 4 {
            return;
        }
        let (number, id) = (self.pick(CONVERSATIONS), self.fresh_id());
        let sending =
            Sending { conversation: number, id, body: Body::of(&id.0.to_le_bytes()), stored: None };
        self.transmit(session, &sending);
        if self.pick(12) == 0 {
            let code = "filtered".to_owned();
            let conversation = conversation(number);
            self.push(What::FailSend {
                session: session as u64,
                conversation,
                id,
                code,
                definite: true,
            });
            return;
        }
        self.clients[session].outbox.push(sending);
        if self.pick(6) == 0 {
            let (sender, body) = (user(session), sending.body);
            let conversation = conversation(number);
            self.push(What::Preview { session: 2, conversation, sender, id, body });
        }
    }

    fn transmit(&mut self, session: usize, sending: &Sending) {
        self.push(What::InvokeSend {
            session: session as u64,
            sender: user(session),
            conversation: conversation(sending.conversation),
            id: sending.id,
            body: sending.body,
        });
    }

    /// The server stores the device's oldest message that it has not stored yet.
    fn store(&mut self, session: usize) {
        let outbox = &mut self.clients[session].outbox;
        if let Some(sending) = outbox.iter_mut().find(|sending| sending.stored.is_none()) {
            let log = &mut self.logs[sending.conversation];
            let seq = log.len() as u64 + 1;
            sending.stored = Some(seq);
            let (id, body) = (sending.id, sending.body);
            log.push(LogEntry { seq, sender: Some(user(session)), id, body });
        }
    }

    fn acknowledge(&mut self, session: usize) {
        let client = &mut self.clients[session];
        let Some(Sending { conversation: number, id, stored: Some(seq), .. }) =
            client.outbox.first().copied()
        else {
            return;
        };
        client.outbox.remove(0);
        client.own.push((number, seq));
        self.push(What::AckSend {
            session: session as u64,
            conversation: conversation(number),
            id,
            seq,
        });
    }

    fn deliver(&mut self, session: usize, number: usize) {
        let client = &self.clients[session];
        let seq = client.position[number] + 1;
        let visible = session != LEAVER || seq <= self.last_visible[number];
        let Some(entry) = self.logs[number].get(seq as usize - 1).copied().filter(|_| visible)
        else {
            return;
        };
        if session == LATE && !self.late_joined
            || client.outbox.iter().any(|sending| sending.id == entry.id)
        {
            return;
        }
        self.clients[session].position[number] = seq;
        if self.clients[session].own.contains(&(number, seq)) {
            return;
        }
        self.push(delivery(session, number, entry, Way::Live));
        match self.pick(10) {
            0 => self.push(delivery(session, number, entry, Way::Repeat)),
            1 if session != LATE => {
                let at = self.pick(seq as usize);
                let earlier = self.logs[number][at];
                self.push(delivery(session, number, earlier, Way::Page));
            }
            2 | 3 => {
                let gap = seq - self.clients[session].read[number];
                self.clients[session].read[number] += self.pick(gap as usize + 1) as u64;
                let (user, read) = (user(session), self.clients[session].read[number]);
                // The second device of the same user would hear of it as well; only one reports.
                if session != 0 {
                    let conversation = conversation(number);
                    self.push(What::Receipt {
                        session: session as u64,
                        user,
                        conversation,
                        delivered: seq,
                        read,
                    });
                }
            }
            4 => {
                let (conversation, head) = (conversation(number), self.logs[number].len() as u64);
                if session != LEAVER {
                    self.push(What::Sync {
                        session: session as u64,
                        conversation,
                        head,
                        unread: 0,
                    });
                }
            }
            _ => {}
        }
    }

    /// An entry of the server's own.
    fn notice(&mut self, number: usize) -> u64 {
        let (id, log) = (self.fresh_id(), &mut self.logs[number]);
        let seq = log.len() as u64 + 1;
        log.push(LogEntry { seq, sender: None, id, body: Body::of(b"membership") });
        seq
    }

    fn join_late(&mut self) {
        for number in 0..CONVERSATIONS {
            let seq = self.notice(number);
            let (session, conversation) = (LATE as u64, conversation(number));
            self.push(What::Join { user: user(LATE), conversation, seq });
            self.push(What::Resume { session, conversation, from: 0 });
            if seq > 1 {
                let reason = GapReason::NotMember;
                self.push(What::Gap { session, conversation, from: 1, to: seq - 1, reason });
            }
            self.clients[LATE].position[number] = seq - 1;
        }
        self.late_joined = true;
    }

    fn leave(&mut self) {
        while !self.clients[LEAVER].outbox.is_empty() {
            self.store(LEAVER);
            self.acknowledge(LEAVER);
        }
        for number in 0..CONVERSATIONS {
            let seq = self.notice(number);
            self.last_visible[number] = seq;
            self.push(What::Leave { user: user(LEAVER), conversation: conversation(number), seq });
        }
    }

    /// The gateway dies with sends in flight. Afterwards clients resume, and send again what
    /// was not acknowledged, or give it up; some of that had been stored.
    fn kill(&mut self) {
        for session in 0..3 {
            while self.clients[session].outbox.len() < 2 {
                self.send(session);
            }
            if self.pick(2) == 0 {
                self.store(session);
            }
        }
        self.push(What::Fault { kind: FaultKind::Kill, detail: "gateway 1".to_owned() });
        self.push(What::Heal);
        for session in 0..SESSIONS {
            let attached = session != LATE || self.late_joined;
            for number in (0..CONVERSATIONS).filter(|_| attached) {
                let from = self.clients[session].position[number];
                self.push(What::Resume {
                    session: session as u64,
                    conversation: conversation(number),
                    from,
                });
            }
            for sending in std::mem::take(&mut self.clients[session].outbox) {
                if self.pick(3) > 0 {
                    self.transmit(session, &sending);
                    self.clients[session].outbox.push(sending);
                }
            }
        }
    }

    fn settle(&mut self) {
        for session in 0..SESSIONS {
            for _ in 0..8 {
                self.store(session);
                self.acknowledge(session);
            }
        }
        for session in 0..SESSIONS {
            for number in 0..CONVERSATIONS {
                for _ in 0..self.logs[number].len() {
                    self.deliver(session, number);
                }
            }
        }
    }
}

fn delivery(session: usize, number: usize, entry: LogEntry, way: Way) -> What {
    let LogEntry { seq, sender, id, body } = entry;
    let conversation = conversation(number);
    What::Deliver { session: session as u64, conversation, seq, sender, id, body, way }
}

/// The history of some events.
pub(crate) fn history(events: Vec<Event>) -> History {
    History::new(events)
}
