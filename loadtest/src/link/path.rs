//! What becomes of one packet after the other, in one direction of one link. Plain data in, plain
//! data out: times are nanoseconds of the caller's clock.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::profile::{Bursts, Direction, REORDER_DELAY, Runs};

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Fate {
    /// It is lost.
    Lost(Cause),
    /// It comes.
    Comes(Arrival),
}

/// Why a packet is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// By chance: evenly, in a burst, in a run.
    Chance,
    /// The bottleneck's queue is full.
    Queue,
}

/// How a packet comes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Arrival {
    /// When.
    pub at_ns: u64,
    /// When its copy comes, if there is one.
    pub copy_at_ns: Option<u64>,
    /// Which byte is damaged, and by which bits, if one is.
    pub damage: Option<(usize, u8)>,
    /// Whether it was held back past later ones.
    pub reordered: bool,
}

/// One direction of one link.
#[derive(Debug)]
pub(super) struct Path {
    direction: Direction,
    random: SmallRng,
    /// When the bottleneck has sent what it has.
    free_at_ns: u64,
    /// When the last packet that keeps its place comes.
    last_at_ns: u64,
    burst: Option<Burst>,
    in_run: bool,
}

/// Where the stretches of time are.
#[derive(Debug)]
struct Burst {
    bad: bool,
    until_ns: u64,
}

impl Path {
    pub(super) fn new(direction: Direction, seed: u64, now_ns: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let burst = direction.loss.bursts.map(|bursts| {
            // The first stretch is as likely a bad one as any moment is.
            let bad = random.random_bool(bursts.time_share);
            let until_ns = now_ns.saturating_add(stretch(&mut random, bursts, bad));
            Burst { bad, until_ns }
        });
        Self { direction, random, free_at_ns: 0, last_at_ns: 0, burst, in_run: false }
    }

    /// Decides about a packet of so many bytes that comes in at `now_ns`, which never goes back.
    pub(super) fn offer(&mut self, now_ns: u64, bytes: usize) -> Fate {
        // What the radio loses has been through the queue before; the order matters little here, and
        // this one lets a lost packet cost its share of the rate.
        let Some(sent_ns) = self.through_bottleneck(now_ns, bytes) else {
            return Fate::Lost(Cause::Queue);
        };
        if self.is_lost(now_ns) {
            return Fate::Lost(Cause::Chance);
        }
        let Direction { delay, jitter, reorder, duplicate, corrupt, .. } = self.direction;
        let jitter_ns = nanos(jitter);
        let more_ns = if jitter_ns == 0 { 0 } else { self.random.random_range(0..=jitter_ns) };
        let mut at_ns = sent_ns + nanos(delay) + more_ns;
        let reordered = self.chance(reorder);
        if reordered {
            at_ns = at_ns.max(self.last_at_ns) + nanos(REORDER_DELAY);
        } else {
            at_ns = at_ns.max(self.last_at_ns);
            self.last_at_ns = at_ns;
        }
        let copy_at_ns = self.chance(duplicate).then_some(at_ns);
        let damage = (bytes > 0 && self.chance(corrupt))
            .then(|| (self.random.random_range(0..bytes), self.random.random_range(1..=u8::MAX)));
        Fate::Comes(Arrival { at_ns, copy_at_ns, damage, reordered })
    }

    /// When the packet has left the bottleneck; `None` if its queue is full.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes / rate is a positive time"
    )]
    fn through_bottleneck(&mut self, now_ns: u64, bytes: usize) -> Option<u64> {
        let Some(rate) = self.direction.rate else { return Some(now_ns) };
        let per_byte_ns = 8e9 / rate.bits_per_s;
        let waiting_bytes = self.free_at_ns.saturating_sub(now_ns) as f64 / per_byte_ns;
        if waiting_bytes + bytes as f64 > rate.queue_bytes as f64 {
            return None;
        }
        self.free_at_ns = self.free_at_ns.max(now_ns) + (bytes as f64 * per_byte_ns) as u64;
        Some(self.free_at_ns)
    }

    fn is_lost(&mut self, now_ns: u64) -> bool {
        let loss = self.direction.loss;
        let in_run = loss.runs.is_some_and(|runs| self.run_goes_on(runs));
        let in_burst = loss.bursts.is_some_and(|bursts| {
            let is_bad = self.burst_at(now_ns, bursts);
            is_bad && self.chance(bursts.share)
        });
        in_run || in_burst || self.chance(loss.share)
    }

    /// A Markov chain of two states, one step a packet.
    fn run_goes_on(&mut self, runs: Runs) -> bool {
        let ends = 1.0 / runs.mean;
        let begins = ends * runs.share / (1.0 - runs.share);
        let changes = self.chance(if self.in_run { ends } else { begins.min(1.0) });
        self.in_run ^= changes;
        self.in_run
    }

    fn burst_at(&mut self, now_ns: u64, bursts: Bursts) -> bool {
        let Some(burst) = &mut self.burst else { return false };
        while burst.until_ns <= now_ns {
            burst.bad = !burst.bad;
            burst.until_ns += stretch(&mut self.random, bursts, burst.bad);
        }
        burst.bad
    }

    fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.random_bool(share.min(1.0))
    }
}

/// The length of a stretch, at least a nanosecond.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive time far below 500 years"
)]
fn stretch(random: &mut SmallRng, bursts: Bursts, bad: bool) -> u64 {
    let bad_s = bursts.mean.as_secs_f64();
    let mean_s = if bad { bad_s } else { bad_s * (1.0 - bursts.time_share) / bursts.time_share };
    let uniform: f64 = random.random_range(f64::MIN_POSITIVE..1.0);
    ((-uniform.ln() * mean_s * 1e9) as u64).max(1)
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
    use super::super::Profile;
    use super::*;

    const MS: u64 = 1_000_000;

    fn path(text: &str, seed: u64) -> Path {
        Path::new(Profile::parse(text).unwrap().up, seed, 0)
    }

    /// The fates of `count` packets of 100 bytes, one each `gap_ns`.
    fn fates(path: &mut Path, count: u64, gap_ns: u64) -> Vec<Fate> {
        (0..count).map(|n| path.offer(n * gap_ns, 100)).collect()
    }

    fn lost_share(fates: &[Fate]) -> f64 {
        let lost = fates.iter().filter(|fate| matches!(fate, Fate::Lost(_))).count();
        lost as f64 / fates.len() as f64
    }

    #[test]
    fn a_delay_moves_every_packet_by_itself() {
        let fates = fates(&mut path("delay=25ms", 1), 1_000, MS);
        for (n, fate) in fates.iter().enumerate() {
            let Fate::Comes(arrival) = fate else { panic!("packet {n} is lost") };
            assert_eq!(arrival.at_ns, (n as u64 + 25) * MS);
        }
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let times = |text| -> Vec<u64> {
            fates(&mut path(text, 3), 10_000, MS)
                .iter()
                .filter_map(|fate| match fate {
                    Fate::Comes(arrival) => Some(arrival.at_ns),
                    Fate::Lost(_) => None,
                })
                .collect()
        };
        assert!(times("delay=10ms,jitter=20ms").is_sorted());
        let moved = times("reorder=5%").windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((300..700).contains(&moved), "{moved}");
    }

    #[test]
    fn losses_are_as_many_as_said_and_seeds_differ() {
        for (text, expected) in [
            ("loss=5%", 0.05),
            ("runs=4%/8", 0.04),
            ("burst=150ms/3%/95%", 0.0285),
            ("loss=100%", 1.0),
        ] {
            let share = lost_share(&fates(&mut path(text, 7), 2_000_000, 20 * MS));
            assert!((share / expected - 1.0).abs() < 0.1, "{text}: {share}");
        }
        let of = |seed| fates(&mut path("loss=50%", seed), 100, MS);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn runs_are_as_long_as_said() {
        let fates = fates(&mut path("runs=4%/8", 11), 1_000_000, MS);
        let lost: Vec<bool> = fates.iter().map(|fate| matches!(fate, Fate::Lost(_))).collect();
        let begun = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        let mean = lost.iter().filter(|lost| **lost).count() as f64 / begun as f64;
        assert!((7.0..9.0).contains(&mean), "{mean}");
    }

    #[test]
    fn a_bottleneck_spaces_packets_and_drops_what_finds_its_queue_full() {
        // 100 bytes take 0.8 ms; 20 packets fit into the queue.
        let mut path = path("rate=1mbit,queue=2000", 1);
        let fates: Vec<_> = (0..40).map(|_| path.offer(0, 100)).collect();
        for (n, fate) in fates.iter().enumerate() {
            match fate {
                Fate::Comes(arrival) => assert_eq!(arrival.at_ns, (n as u64 + 1) * 800_000),
                Fate::Lost(cause) => assert_eq!((*cause, n >= 20), (Cause::Queue, true)),
            }
        }
        assert!(matches!(path.offer(16 * MS, 100), Fate::Comes(_)), "it has emptied");
    }

    #[test]
    fn copies_and_damage_are_as_many_as_said() {
        let fates = fates(&mut path("duplicate=10%,corrupt=5%", 5), 100_000, MS);
        let count = |of: &dyn Fn(&Arrival) -> bool| {
            fates.iter().filter(|fate| matches!(fate, Fate::Comes(a) if of(a))).count()
        };
        assert!((9_000..11_000).contains(&count(&|a| a.copy_at_ns.is_some())));
        assert!((4_500..5_500).contains(&count(&|a| a.damage.is_some())));
        assert!(count(&|a| a.damage.is_some_and(|(at, bits)| at >= 100 || bits == 0)) == 0);
    }
}
