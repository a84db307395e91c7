//! What waits for a session in the background is held, and goes out together: each time costs the
//! device a wake-up. Plain data; times are seconds of the monotonic clock.

/// Between two wake-ups by entries that call the user, so that nobody keeps a device awake
/// with them.
const CALL_PAUSE_S: u32 = 10;

/// Whether what waits may go out.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// In the background: for so many seconds things are held.
    lasting_s: Option<u32>,
    /// Everything that waits goes out with the next taking.
    is_open: bool,
    /// When what is held goes out.
    due_s: Option<u32>,
    /// When the last call has gone out, or will.
    called_s: Option<u32>,
    /// Entries that are held.
    entries: u32,
}

impl Hold {
    /// Goes to the background, or comes back from it. `false` if that is nothing new.
    pub(super) fn set(&mut self, lasting_s: Option<u32>, something_waits: bool) -> bool {
        let is_new = self.lasting_s.is_some() != lasting_s.is_some();
        if is_new {
            self.lasting_s = lasting_s;
            self.due_s = None;
            // What waits already is on its way.
            self.is_open = something_waits;
        }
        is_new
    }

    /// Whether the session is in the background.
    pub(super) fn is_background(&self) -> bool {
        self.lasting_s.is_some()
    }

    /// Whether nothing may be taken now.
    pub(super) fn is_shut(&self) -> bool {
        self.is_background() && !self.is_open
    }

    /// Something was put in that wakes the device anyway: all the rest goes with it.
    pub(super) fn open(&mut self) {
        self.is_open = true;
        self.due_s = None;
    }

    /// Something was put in that can wait, with so many entries; of one that `calls` the user less long.
    pub(super) fn keep(&mut self, now_s: u32, entries: u32, calls: bool) {
        let Some(lasting_s) = self.lasting_s.filter(|_| !self.is_open) else { return };
        self.entries = self.entries.saturating_add(entries);
        let mut due_s = now_s.saturating_add(lasting_s);
        if calls {
            let called_s = match self.called_s {
                // A call waits already.
                Some(called_s) if called_s > now_s => called_s,
                Some(called_s) => now_s.max(called_s.saturating_add(CALL_PAUSE_S)),
                None => now_s,
            };
            self.called_s = Some(called_s);
            due_s = due_s.min(called_s);
        }
        self.due_s = Some(self.due_s.map_or(due_s, |earlier| earlier.min(due_s)));
        self.open_if_due(now_s);
    }

    /// Opens if it is time. Says whether it did.
    pub(super) fn open_if_due(&mut self, now_s: u32) -> bool {
        let is_due = self.due_s.is_some_and(|due_s| due_s <= now_s);
        if is_due {
            self.open();
        }
        is_due
    }

    /// Everything was taken: how many entries of it were held.
    pub(super) fn taken(&mut self) -> u32 {
        self.is_open = false;
        self.due_s = None;
        std::mem::take(&mut self.entries)
    }

    /// Entries that are held.
    pub(super) fn entries(&self) -> u32 {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn background(lasting_s: u32) -> Hold {
        let mut hold = Hold::default();
        assert!(hold.set(Some(lasting_s), false));
        hold
    }

    #[test]
    fn in_the_foreground_nothing_is_held() {
        let mut hold = Hold::default();
        hold.keep(5, 1, false);
        assert!(!hold.is_shut() && !hold.open_if_due(u32::MAX));
        assert_eq!((hold.taken(), hold.entries()), (0, 0));
    }

    #[test]
    fn what_comes_is_held_from_the_first_on_and_goes_out_together() {
        let mut hold = background(60);
        hold.keep(100, 1, false);
        hold.keep(130, 3, false);
        assert!(hold.is_shut() && !hold.open_if_due(159));
        assert!(hold.open_if_due(160) && !hold.is_shut());
        // Between the opening and the taking more goes along.
        hold.keep(161, 1, false);
        assert_eq!(hold.taken(), 4);
        assert!(hold.is_shut() && !hold.open_if_due(1_000));
        hold.keep(1_000, 1, false);
        assert!(!hold.open_if_due(1_059) && hold.open_if_due(1_060));
    }

    #[test]
    fn what_wakes_the_device_anyway_takes_all_along() {
        let mut hold = background(60);
        hold.keep(100, 2, false);
        hold.open();
        assert_eq!((hold.is_shut(), hold.taken()), (false, 2));
        assert!(hold.is_shut() && !hold.open_if_due(160));
    }

    #[test]
    fn calls_do_not_wait_but_for_each_other() {
        let mut hold = background(600);
        hold.keep(100, 1, true);
        assert!(!hold.is_shut());
        hold.taken();
        for now_s in 101..110 {
            hold.keep(now_s, 1, true);
            assert!(hold.is_shut() && !hold.open_if_due(now_s), "{now_s}");
        }
        assert!(hold.open_if_due(110));
        assert_eq!(hold.taken(), 9);
        hold.keep(119, 1, true);
        assert!(!hold.open_if_due(119) && hold.open_if_due(120));
    }

    #[test]
    fn a_hold_of_no_time_holds_nothing() {
        let mut hold = background(0);
        hold.keep(7, 1, false);
        assert!(!hold.is_shut());
    }

    #[test]
    fn coming_back_opens_and_what_is_under_way_at_the_leaving_still_leaves() {
        let mut hold = background(60);
        hold.keep(100, 5, false);
        assert!(hold.set(None, true) && !hold.set(None, true));
        assert_eq!((hold.is_shut(), hold.taken()), (false, 5));
        assert!(hold.set(Some(60), true) && !hold.is_shut());
        assert!(!hold.set(Some(60), true));
        hold.taken();
        assert!(hold.is_shut());
    }
}
