//! Taking a history down: in memory for tests in one process, as JSON lines for several.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::event::{Event, What};

/// All events of a run, in time order.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<Event>,
}

impl History {
    /// Sorts by time; events of the same microsecond keep their order.
    #[must_use]
    pub fn new(mut events: Vec<Event>) -> Self {
        events.sort_by_key(|event| event.at_us);
        Self { events }
    }

    /// One history of what several recorders or files hold.
    #[must_use]
    pub fn merge(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::new(parts.into_iter().flat_map(|part| part.events).collect())
    }

    /// Reads JSON lines. A torn last line is what a killed process leaves, and is skipped.
    ///
    /// # Errors
    /// Reading failed, or a whole line is no event.
    pub fn read_jsonl(mut from: impl BufRead) -> io::Result<Self> {
        let (mut events, mut line) = (Vec::new(), Vec::new());
        while from.read_until(b'\n', &mut line)? > 0 {
            match serde_json::from_slice(&line) {
                Ok(event) => events.push(event),
                Err(_) if line.last() != Some(&b'\n') => {}
                Err(error) => return Err(error.into()),
            }
            line.clear();
        }
        Ok(Self::new(events))
    }

    /// Writes JSON lines.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write_jsonl(&self, mut to: impl Write) -> io::Result<()> {
        self.events.iter().try_for_each(|event| write_line(&mut to, event))
    }

    /// The events in time order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

fn write_line(to: &mut impl Write, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Takes events from any thread. Clones write into the same history.
///
/// It holds at most `events_max`; what comes after is counted, and the count goes into the
/// history as [`What::Truncated`], which no verdict survives.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    process: u32,
    started: Instant,
    started_us: u64,
    latest_us: u64,
    events: Vec<Event>,
    events_max: usize,
    recorded: usize,
    missing: u64,
    sink: Option<Box<dyn Write + Send>>,
}

impl Recorder {
    /// Keeps events in memory.
    #[must_use]
    pub fn new(process: u32, events_max: usize) -> Self {
        Self::build(process, events_max, None)
    }

    /// Writes each event to `sink` at once, in one write, and keeps none: for a process that
    /// may be killed. A failed write counts as a missing event.
    #[must_use]
    pub fn streaming(process: u32, events_max: usize, sink: Box<dyn Write + Send>) -> Self {
        Self::build(process, events_max, Some(sink))
    }

    fn build(process: u32, events_max: usize, sink: Option<Box<dyn Write + Send>>) -> Self {
        // Wall time anchors the process once; from there on the monotonic clock counts.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let shared = Shared {
            process,
            started: Instant::now(),
            started_us: u64::try_from(wall.as_micros()).unwrap_or(0),
            latest_us: 0,
            events: Vec::new(),
            events_max,
            recorded: 0,
            missing: 0,
            sink,
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Records at the present time.
    pub fn record(&self, what: What) {
        let mut shared = self.shared.lock();
        let elapsed = u64::try_from(shared.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let at_us = shared.started_us.saturating_add(elapsed);
        shared.push(at_us, what);
    }

    /// Records at a time of the caller's clock (a test with simulated time); a time that runs
    /// back is taken as the latest one.
    pub fn record_at(&self, at_us: u64, what: What) {
        self.shared.lock().push(at_us, what);
    }

    /// How many events did not fit or could not be written; anything but 0 spoils the run.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.shared.lock().missing
    }

    /// What was kept so far, with the mark of what was not.
    #[must_use]
    pub fn history(&self) -> History {
        let shared = self.shared.lock();
        let mut events = shared.events.clone();
        if shared.missing > 0 {
            events.push(shared.truncated());
        }
        History::new(events)
    }
}

impl Shared {
    fn push(&mut self, at_us: u64, what: What) {
        self.latest_us = self.latest_us.max(at_us);
        let event = Event { at_us: self.latest_us, process: self.process, what };
        if self.recorded >= self.events_max {
            self.missing += 1;
            // One mark in the file is enough to spoil the run.
            if self.missing == 1 {
                let mark = self.truncated();
                self.write(&mark);
            }
            return;
        }
        self.recorded += 1;
        if self.sink.is_some() {
            self.write(&event);
        } else {
            self.events.push(event);
        }
    }

    fn write(&mut self, event: &Event) {
        if let Some(sink) = &mut self.sink
            && write_line(sink, event).is_err()
        {
            self.missing += 1;
        }
    }

    fn truncated(&self) -> Event {
        let what = What::Truncated { missing: self.missing };
        Event { at_us: self.latest_us, process: self.process, what }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shared = self.shared.lock();
        f.debug_struct("Recorder")
            .field("process", &shared.process)
            .field("recorded", &shared.recorded)
            .field("missing", &shared.missing)
            .finish_non_exhaustive()
    }
}
