//! One device in one conversation: an outbox, a copy of the log, a cursor; it
//! resends what has no answer, in order, and goes where a gateway lives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use petrel_core::entry::{Cursor, Entry};
use petrel_core::error::Rejection;
use petrel_core::id::ClientMessageId;
use petrel_core::limits::OLDER_CURSORS_MAX;
use tokio::time::{Instant, sleep, sleep_until};

use crate::gateway::{ClientEnd, Gateway, Send, Told};
use crate::statement::cursor;
use crate::world::{Acked, Line, World};

static BODY: [u8; 2500] = [b'x'; 2500];

/// The gateways that live.
#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) gateways: Mutex<Vec<Option<Arc<Gateway>>>>,
}

impl Cluster {
    fn any(&self, world: &World) -> Option<Arc<Gateway>> {
        let gateways = self.gateways.lock();
        let start = world.index(gateways.len());
        let mut in_turn = gateways.iter().cycle().skip(start).take(gateways.len());
        in_turn.find_map(Clone::clone)
    }

    fn lives(&self, gateway: &Arc<Gateway>) -> bool {
        self.gateways.lock().iter().flatten().any(|other| Arc::ptr_eq(other, gateway))
    }
}

struct Outgoing {
    id: ClientMessageId,
    body: Bytes,
    tries: u64,
    number: u64,
}

pub(crate) struct Client {
    world: Arc<World>,
    line: Line,
    /// Messages that it will yet send.
    to_send: usize,
    send_at: Instant,
    /// Id and commit time of each entry.
    view: Vec<(ClientMessageId, u64)>,
    outbox: VecDeque<Outgoing>,
    /// When to resend, and from which number on.
    resend: Option<(Instant, u64)>,
    next_number: u64,
    progress_at: Instant,
    /// Where a stream was left that is not yet known to be dead, and until when: a gateway
    /// knows what it refused, and not what another one did.
    left: Option<(Arc<Gateway>, Instant)>,
}

impl Client {
    pub(crate) fn new(world: &Arc<World>, line: Line, to_send: usize) -> Self {
        Self {
            world: Arc::clone(world),
            line,
            to_send,
            send_at: Instant::now() + world.ms(0..200),
            view: Vec::new(),
            outbox: VecDeque::new(),
            resend: None,
            next_number: 0,
            progress_at: Instant::now(),
            left: None,
        }
    }

    pub(crate) async fn run(mut self, cluster: Arc<Cluster>) {
        while !self.world.is_finished() {
            match self.choose(&cluster) {
                Some(gateway) => self.visit(&gateway).await,
                None => sleep(Duration::from_millis(10)).await,
            }
            sleep(self.world.ms(1..40)).await;
        }
        let view = self.view.iter().map(|(id, _)| *id).collect();
        self.world.history.lock().views.insert(self.line, view);
    }

    fn choose(&self, cluster: &Cluster) -> Option<Arc<Gateway>> {
        match &self.left {
            Some((gateway, until)) if *until > Instant::now() && cluster.lives(gateway) => {
                Some(Arc::clone(gateway))
            }
            _ => cluster.any(&self.world),
        }
    }

    /// One stream, from attaching to its end.
    async fn visit(&mut self, gateway: &Arc<Gateway>) {
        let mut end = self.open(gateway);
        self.stay(&mut end).await;
        if self.world.fault(400) {
            let noticed_after = self.world.ms(50..2_000);
            let until = Instant::now() + noticed_after;
            let before = self.left.take().filter(|(other, _)| Arc::ptr_eq(other, gateway));
            let until = before.map_or(until, |(_, earlier)| earlier.max(until));
            self.left = Some((Arc::clone(gateway), until));
            end.vanish(&self.world, noticed_after);
        }
    }

    fn open(&mut self, gateway: &Arc<Gateway>) -> ClientEnd {
        let end = gateway.open(self.line.user, self.line.conversation, self.cursors());
        self.world.count(|counters| counters.resumes += 1);
        self.next_number = 0;
        self.resend = None;
        for out in &mut self.outbox {
            out.number = self.next_number;
            self.next_number += 1;
        }
        self.send_from(&end, 0);
        self.progress_at = Instant::now();
        end
    }

    async fn stay(&mut self, end: &mut ClientEnd) {
        let leave_at = Instant::now() + self.world.ms(200..4000);
        let patience = self.world.ms(400..1500);
        while !self.world.is_finished() {
            let now = Instant::now();
            let next_tick = now + Duration::from_millis(100);
            let resend_at = self.resend.map_or(next_tick, |(at, _)| at);
            let send_at = if self.to_send > 0 { self.send_at } else { next_tick };
            let wake_at = next_tick.min(resend_at).min(send_at);
            tokio::select! {
                biased;
                told = end.told.recv() => match told {
                    Some(told) => self.hear(told),
                    None => return,
                },
                () = sleep_until(wake_at) => self.act(end),
            }
            self.report();
            let now = Instant::now();
            let is_impatient = !self.outbox.is_empty() && now > self.progress_at + patience;
            if is_impatient || (now > leave_at && !self.world.is_healed()) {
                return;
            }
        }
    }

    /// The newest cursor, and older ones at doubling distances.
    fn cursors(&self) -> Vec<Cursor> {
        let mut cursors = Vec::new();
        let (mut seq, mut distance) = (self.view.len(), 1);
        while seq > 0 && cursors.len() <= OLDER_CURSORS_MAX {
            let (id, time_ms) = self.view[seq - 1];
            cursors.push(cursor(seq as u64, id, time_ms));
            seq = seq.saturating_sub(distance);
            distance *= 2;
        }
        cursors
    }

    fn act(&mut self, end: &ClientEnd) {
        let now = Instant::now();
        if let Some((at, from)) = self.resend
            && now >= at
        {
            self.resend = None;
            self.send_from(end, from);
        }
        if self.to_send > 0 && now >= self.send_at {
            self.to_send -= 1;
            self.send_at = now + self.world.ms(0..300);
            self.compose(end);
        }
    }

    fn compose(&mut self, end: &ClientEnd) {
        let id = ClientMessageId(self.world.bytes());
        let sent = (id, Instant::now());
        let mut history = self.world.history.lock();
        history.invoked.entry(self.line).or_default().push(sent);
        drop(history);
        if self.outbox.is_empty() {
            self.progress_at = Instant::now();
        }
        self.outbox.push_back(Outgoing {
            id,
            body: Bytes::from_static(&BODY[..1 + self.world.index(BODY.len() - 1)]),
            tries: 0,
            number: self.next_number,
        });
        self.next_number += 1;
        self.send_from(end, self.next_number - 1);
    }

    fn send_from(&mut self, end: &ClientEnd, from: u64) {
        for out in &mut self.outbox {
            if out.number < from {
                continue;
            }
            let resend = out.tries > 0;
            out.tries += 1;
            self.world.count(|counters| counters.resends += u64::from(resend));
            let send = Send { number: out.number, id: out.id, body: out.body.clone(), resend };
            end.send.try_send(send).ok();
        }
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Reset { to } => self.reset(to),
            Told::Entry(entry) => self.see(&entry),
            Told::Ack { id, seq } => {
                let is_seen = usize::try_from(seq).is_ok_and(|seq| {
                    seq > 0 && self.view.get(seq - 1).is_some_and(|(seen, _)| *seen == id)
                });
                if !is_seen {
                    self.world.violation(format!("{id} acked at {seq}, which was not handed out"));
                }
                self.acked(id, seq);
            }
            Told::Refused { number, id, rejection } => self.refused(number, id, &rejection),
        }
    }

    fn reset(&mut self, to: u64) {
        self.world.count(|counters| counters.resets += 1);
        self.view.truncate(usize::try_from(to).unwrap_or(usize::MAX));
        let mut history = self.world.history.lock();
        let history = &mut *history;
        for (id, _) in history.invoked.get(&self.line).into_iter().flatten() {
            if let Some(acked) = history.acked.get_mut(id)
                && acked.seq > to
            {
                acked.announced_lost = true;
            }
        }
    }

    fn see(&mut self, entry: &Entry) {
        let (seq, seen) = (entry.placed.seq.0, self.view.len() as u64);
        if seq == seen + 1 {
            self.view.push((entry.id, entry.placed.time_ms));
        } else {
            self.world.violation(format!(
                "{:?} was handed {seq} after {seen}: a hole, or twice",
                self.line
            ));
        }
        self.acked(entry.id, seq);
    }

    fn acked(&mut self, id: ClientMessageId, seq: u64) {
        let before = self.outbox.len();
        self.outbox.retain(|out| out.id != id);
        if self.outbox.len() == before {
            return;
        }
        self.progress_at = Instant::now();
        self.world.count(|counters| counters.acked += 1);
        let acked = Acked { seq, at: Instant::now(), announced_lost: false };
        self.world.history.lock().acked.insert(id, acked);
    }

    fn refused(&mut self, number: u64, id: ClientMessageId, rejection: &Rejection) {
        let Some(place) = self.outbox.iter().position(|out| (out.id, out.number) == (id, number))
        else {
            return;
        };
        if !rejection.is_retryable() {
            self.outbox.remove(place);
            self.world.history.lock().refused.insert(id);
            self.world.count(|counters| counters.refused_for_good += 1);
            self.progress_at = Instant::now();
            return;
        }
        self.world.count(|counters| counters.refused_for_now += 1);
        let from = match rejection {
            Rejection::Predecessor { expected } => *expected,
            _ => number,
        };
        let (at, from) = match self.resend {
            Some((at, earlier)) => (at, earlier.min(from)),
            None => (Instant::now() + self.world.ms(5..40), from),
        };
        self.resend = Some((at, from));
    }

    fn report(&self) {
        let left = self.outbox.len() + self.to_send;
        let progress = (self.view.len() as u64, left);
        self.world.history.lock().progress.insert(self.line, progress);
    }
}
