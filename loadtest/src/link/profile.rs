//! What a link does to packets, and how it is written on a command line.

use std::time::Duration;

use serde::Serialize;

/// Loss of packets, decided for each one.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Loss {
    /// Share of packets that is lost at any time, independent of each other.
    pub share: f64,
    /// Stretches of time in which most is lost.
    pub bursts: Option<Bursts>,
    /// Runs of packets that are lost together.
    pub runs: Option<Runs>,
}

/// Bursts in time: good and bad stretches with exponential lengths.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Bursts {
    /// Share of the time that is bad.
    pub time_share: f64,
    /// Mean length of a bad stretch.
    #[serde(serialize_with = "milliseconds")]
    pub mean: Duration,
    /// Share of packets that is lost in it.
    pub share: f64,
}

/// Bursts in packets (Gilbert, "Capacity of a burst-noise channel", 1960): while a run lasts, every
/// packet is lost.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Runs {
    /// Share of packets that is lost, over a long time.
    pub share: f64,
    /// Mean length of a run, in packets.
    pub mean: f64,
}

/// A bottleneck with a queue that drops what finds it full.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Rate {
    /// Bits a second, of UDP payload.
    pub bits_per_s: f64,
    /// Bytes that wait, at the most.
    pub queue_bytes: usize,
}

/// One direction of a link.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Direction {
    /// Every packet takes this long.
    #[serde(serialize_with = "milliseconds")]
    pub delay: Duration,
    /// And up to this much more, evenly distributed; the order stays.
    #[serde(serialize_with = "milliseconds")]
    pub jitter: Duration,
    /// What is lost.
    pub loss: Loss,
    /// Share of packets that is held back by [`REORDER_DELAY`], past later ones.
    pub reorder: f64,
    /// Share of packets that comes twice.
    pub duplicate: f64,
    /// Share of packets in which one byte is damaged.
    pub corrupt: f64,
    /// The bottleneck, if there is one.
    pub rate: Option<Rate>,
}

/// How long a packet that is reordered is held back.
pub const REORDER_DELAY: Duration = Duration::from_millis(5);

/// A recurring event: after each `every`, for `lasting`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Recurring {
    /// From one beginning to the next; the first comes after it.
    #[serde(serialize_with = "milliseconds")]
    pub every: Duration,
    /// How long it lasts.
    #[serde(serialize_with = "milliseconds")]
    pub lasting: Duration,
}

/// A kind of network.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Profile {
    /// As it was asked for.
    pub name: String,
    /// From client to server.
    pub up: Direction,
    /// From server to client.
    pub down: Direction,
    /// When nothing at all gets through, in both directions, on all links at once.
    pub blackout: Option<Recurring>,
    /// How often the server sees every client at a new port (a NAT forgets).
    #[serde(serialize_with = "optional_milliseconds")]
    pub rebind: Option<Duration>,
    /// How often the server sees every client at a new address (another network).
    #[serde(serialize_with = "optional_milliseconds")]
    pub switch: Option<Duration>,
}

fn milliseconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64() * 1e3)
}

fn optional_milliseconds<S: serde::Serializer>(
    time: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64() * 1e3).serialize(to)
}

/// The named profiles, from good to barely usable; docs/links.md argues their numbers.
pub const NAMED: [(&str, &str); 12] = [
    ("direct", ""),
    ("clean", "delay=25ms"),
    ("loss-1", "delay=25ms,loss=1%"),
    ("loss-5", "delay=25ms,loss=5%"),
    ("loss-10", "delay=25ms,loss=10%"),
    ("burst", "delay=25ms,burst=150ms/3%/95%"),
    ("wifi", "delay=4ms,jitter=2ms,loss=0.1%,rate=40mbit,queue=256k"),
    (
        "wifi-crowded",
        "delay=15ms,jitter=30ms,loss=2%,burst=60ms/1%/80%,reorder=0.2%,rate=4mbit,queue=128k",
    ),
    ("lte", "delay=25ms,jitter=10ms,loss=0.2%,up.rate=8mbit,down.rate=25mbit,queue=256k"),
    (
        "train",
        "delay=40ms,jitter=30ms,loss=2%,burst=400ms/4%/95%,blackout=45s/6s,switch=20s,rate=2mbit,queue=192k",
    ),
    ("lift", "delay=60ms,jitter=40ms,loss=5%,blackout=20s/10s,rate=1mbit,queue=96k"),
    (
        "edge",
        "delay=300ms,jitter=150ms,loss=4%,burst=500ms/5%/90%,reorder=1%,up.rate=60kbit,down.rate=120kbit,queue=48k",
    ),
];

impl Profile {
    /// Reads a profile: a name, or a name and changes, or changes alone, as in
    /// `loss-5,delay=100ms,down.loss=1%,rebind=5s`.
    ///
    /// # Errors
    /// What is wrong with which part.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut profile = Self {
            name: text.to_owned(),
            up: Direction::default(),
            down: Direction::default(),
            blackout: None,
            rebind: None,
            switch: None,
        };
        for (place, part) in text.split(',').map(str::trim).enumerate() {
            if let Some((_, changes)) = NAMED.iter().find(|(name, _)| *name == part && place == 0) {
                changes.split(',').filter(|c| !c.is_empty()).try_for_each(|c| profile.change(c))?;
            } else {
                profile.change(part)?;
            }
        }
        Ok(profile)
    }

    /// Whether it leaves every packet as it is.
    pub fn is_direct(&self) -> bool {
        let nothing = Direction::default();
        self.up == nothing
            && self.down == nothing
            && self.blackout.is_none()
            && self.rebind.is_none()
            && self.switch.is_none()
    }

    fn change(&mut self, part: &str) -> Result<(), String> {
        let Some((key, value)) = part.split_once('=') else {
            let names: Vec<_> = NAMED.iter().map(|(name, _)| *name).collect();
            return Err(format!("'{part}': no profile; there are {}", names.join(", ")));
        };
        let wrong = |problem: String| format!("{key}={value}: {problem}");
        match key {
            "blackout" => {
                let (every, lasting) = value.split_once('/').unwrap_or((value, ""));
                let every = time(every).map_err(wrong)?;
                let lasting = time(lasting).map_err(wrong)?;
                if lasting.is_zero() || lasting >= every {
                    return Err(wrong("it has to be shorter than its period".to_owned()));
                }
                self.blackout = Some(Recurring { every, lasting });
                return Ok(());
            }
            "rebind" | "switch" => {
                let every = time(value).map_err(wrong)?;
                if every < Duration::from_millis(100) {
                    return Err(wrong("at least 100ms".to_owned()));
                }
                *(if key == "rebind" { &mut self.rebind } else { &mut self.switch }) = Some(every);
                return Ok(());
            }
            _ => {}
        }
        let (directions, key) = match key.split_once('.') {
            Some(("up", key)) => (vec![&mut self.up], key),
            Some(("down", key)) => (vec![&mut self.down], key),
            _ => (vec![&mut self.up, &mut self.down], key),
        };
        for direction in directions {
            direction.change(key, value).map_err(wrong)?;
        }
        Ok(())
    }
}

impl Direction {
    fn change(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "delay" => self.delay = time(value)?,
            "jitter" => self.jitter = time(value)?,
            "loss" => self.loss.share = share(value)?,
            "reorder" => self.reorder = share(value)?,
            "duplicate" => self.duplicate = share(value)?,
            "corrupt" => self.corrupt = share(value)?,
            "burst" => {
                let [mean, time_share, lost] = parts(value)?;
                let bursts = Bursts {
                    mean: time(mean)?,
                    time_share: share(time_share)?,
                    share: share(lost)?,
                };
                if bursts.mean.is_zero() || !(1e-6..=0.9).contains(&bursts.time_share) {
                    return Err("a mean above 0 and 0.0001% to 90% of the time".to_owned());
                }
                self.loss.bursts = Some(bursts);
            }
            "runs" => {
                let [lost, mean] = parts(value)?;
                let mean: f64 = mean.parse().map_err(|_| format!("'{mean}' is no number"))?;
                let runs = Runs { share: share(lost)?, mean };
                if !(1.0..=10_000.0).contains(&mean) || !(1e-6..=0.9).contains(&runs.share) {
                    return Err("0.0001% to 90%, in runs of 1 to 10000 packets".to_owned());
                }
                self.loss.runs = Some(runs);
            }
            "rate" => {
                let bits_per_s = bits(value)?;
                let queue_bytes = self.rate.map_or(QUEUE_BYTES, |rate| rate.queue_bytes);
                self.rate = Some(Rate { bits_per_s, queue_bytes });
            }
            "queue" => {
                let rate = self.rate.as_mut().ok_or("only after a rate")?;
                rate.queue_bytes = bytes(value)?;
            }
            _ => {
                return Err("unknown; there are delay, jitter, loss, burst, runs, reorder, duplicate, \
                            corrupt, rate, queue (each also as up.* and down.*), blackout, rebind, switch"
                    .to_owned());
            }
        }
        Ok(())
    }
}

/// The queue of a bottleneck for which none is said.
const QUEUE_BYTES: usize = 128 * 1024;
/// The longest delay, jitter, period.
const TIME_MAX: Duration = Duration::from_secs(3_600);

fn parts<const N: usize>(value: &str) -> Result<[&str; N], String> {
    let parts: Vec<_> = value.split('/').collect();
    <[&str; N]>::try_from(parts).map_err(|_| format!("{N} parts, separated by /"))
}

fn time(value: &str) -> Result<Duration, String> {
    let (number, unit) = split(value);
    let seconds = match unit {
        "us" => number.map(|n| n / 1e6),
        "ms" => number.map(|n| n / 1e3),
        "s" => number,
        _ => None,
    };
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|time| *time <= TIME_MAX)
        .ok_or_else(|| format!("'{value}': a time like 25ms or 5s is needed, at most 3600s"))
}

fn share(value: &str) -> Result<f64, String> {
    let share = match split(value) {
        (Some(number), "%") => number / 100.0,
        (Some(number), "") => number,
        _ => f64::NAN,
    };
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(format!("'{value}': a share like 5% is needed"))
    }
}

fn bits(value: &str) -> Result<f64, String> {
    let (number, unit) = split(value);
    let factor = match unit {
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        _ => f64::NAN,
    };
    number
        .map(|number| number * factor)
        .filter(|bits| (1e3..=1e11).contains(bits))
        .ok_or_else(|| format!("'{value}': a rate like 500kbit or 2mbit is needed"))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "its range is checked")]
fn bytes(value: &str) -> Result<usize, String> {
    let (number, unit) = split(value);
    let factor = match unit {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1024.0 * 1024.0,
        _ => f64::NAN,
    };
    number
        .map(|number| number * factor)
        .filter(|bytes| (1500.0..=1e9).contains(bytes))
        .map(|bytes| bytes as usize)
        .ok_or_else(|| format!("'{value}': a size like 64k is needed, at least 1500"))
}

fn split(value: &str) -> (Option<f64>, &str) {
    let end = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let (number, unit) = value.split_at(end);
    (number.parse().ok(), unit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn every_named_profile_is_understood() {
        for (name, _) in NAMED {
            let profile = Profile::parse(name).unwrap();
            assert_eq!((profile.name.as_str(), profile.is_direct()), (name, name == "direct"));
        }
    }

    #[test]
    fn a_profile_can_be_changed() {
        let profile = Profile::parse("loss-5,delay=100ms,down.loss=1%,rebind=5s").unwrap();
        assert_eq!(profile.up.delay, Duration::from_millis(100));
        assert_eq!((profile.up.loss.share, profile.down.loss.share), (0.05, 0.01));
        assert_eq!(profile.rebind, Some(Duration::from_secs(5)));
        let alone = Profile::parse("rate=1mbit,queue=64k,runs=2%/5").unwrap();
        assert_eq!(alone.up.rate, Some(Rate { bits_per_s: 1e6, queue_bytes: 65_536 }));
        assert_eq!(alone.down.loss.runs, Some(Runs { share: 0.02, mean: 5.0 }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("", "there are direct, clean"),
            ("moon", "there are direct"),
            ("delay=25ms,loss-5", "'loss-5': no profile"),
            ("delay=25", "delay=25: '25': a time like"),
            ("delay=-5ms", "a time like"),
            ("delay=9999s", "at most 3600s"),
            ("loss=101%", "a share like"),
            ("loss=x", "a share like"),
            ("burst=150ms/3%", "3 parts"),
            ("burst=0ms/3%/95%", "a mean above 0"),
            ("runs=1%/0.5", "runs of 1 to"),
            ("queue=64k", "only after a rate"),
            ("rate=1", "a rate like"),
            ("rate=1mbit,queue=5", "at least 1500"),
            ("blackout=5s", "a time like"),
            ("blackout=5s/6s", "shorter than its period"),
            ("rebind=1ms", "at least 100ms"),
            ("up.colour=red", "unknown; there are"),
        ] {
            let error = Profile::parse(text).unwrap_err();
            assert!(error.contains(named), "'{text}': {error}");
        }
    }
}
