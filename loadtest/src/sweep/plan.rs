//! Which runs there are, and how each is called.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::SweepOptions;

/// How packets are lost.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Loss {
    /// Each by itself.
    Percent(f64),
    /// Nearly all in bursts of time, as in the profile `burst`.
    Burst,
}

impl FromStr for Loss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "burst" {
            return Ok(Self::Burst);
        }
        let percent = text.trim_end_matches('%').parse().ok();
        let percent = percent.filter(|percent| (0.0..=90.0).contains(percent));
        percent.map(Self::Percent).ok_or_else(|| format!("{text}: 0 to 90 percent, or burst"))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent} %"),
            Self::Burst => f.write_str("burst"),
        }
    }
}

impl Serialize for Loss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A way of carrying the chat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The gateway as it is: a stream per conversation, copies while packets are lost.
    Echo,
    /// The gateway without copies.
    NoEcho,
    /// The gateway over TLS on TCP, its way where UDP is blocked.
    Tcp,
    /// The bare relay, a stream per conversation.
    Streams,
    /// The bare relay, all conversations of a user on one stream.
    OneStream,
}

impl Way {
    /// In the order in which they are shown.
    pub const ALL: [Self; 5] =
        [Self::Echo, Self::NoEcho, Self::Tcp, Self::Streams, Self::OneStream];

    /// What it is called on the page.
    pub fn title(self) -> &'static str {
        match self {
            Self::Echo => "gateway",
            Self::NoEcho => "gateway, no echo",
            Self::Tcp => "gateway, TCP",
            Self::Streams => "bare relay, a stream each",
            Self::OneStream => "bare relay, one stream",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::NoEcho => "no-echo",
            Self::Tcp => "tcp",
            Self::Streams => "streams",
            Self::OneStream => "one-stream",
        }
    }
}

/// One link and one way.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Cell {
    /// How packets are lost.
    pub loss: Loss,
    /// One way, in milliseconds.
    pub delay_ms: u32,
    /// How the chat is carried.
    pub series: Way,
}

impl Cell {
    /// A name, and a file's.
    pub fn name(&self) -> String {
        let loss = match self.loss {
            Loss::Percent(percent) => format!("loss-{percent}"),
            Loss::Burst => "burst".to_owned(),
        };
        format!("{loss}-{}ms-{}", self.delay_ms, self.series.name())
    }
}

/// All runs, one way after the other for each link.
pub(super) fn cells(options: &SweepOptions) -> Vec<Cell> {
    let mut cells = Vec::new();
    for delay_ms in &options.delays {
        for loss in &options.losses {
            let of = |series: &Way| Cell { loss: *loss, delay_ms: *delay_ms, series: *series };
            cells.extend(options.series.iter().map(of));
        }
    }
    cells
}

/// How a run is called.
pub(super) fn arguments(options: &SweepOptions, cell: Cell) -> Vec<String> {
    let scenario = match cell.series {
        Way::Echo | Way::NoEcho | Way::Tcp => "one-to-one",
        Way::Streams | Way::OneStream => "relay",
    };
    let delay = cell.delay_ms;
    let link = match cell.loss {
        Loss::Percent(percent) if percent > 0.0 => format!("delay={delay}ms,loss={percent}%"),
        Loss::Percent(_) => format!("delay={delay}ms"),
        Loss::Burst => format!("delay={delay}ms,burst=150ms/3%/95%"),
    };
    let mut arguments: Vec<String> = vec![scenario.to_owned(), "--link".to_owned(), link];
    for (option, value) in [
        ("--users", options.users.to_string()),
        ("--conversations", options.conversations.to_string()),
        ("--rate", options.rate.to_string()),
        ("--seconds", options.seconds.to_string()),
        ("--seed", options.seed.to_string()),
    ] {
        arguments.extend([option.to_owned(), value]);
    }
    arguments.extend(options.more.iter().cloned());
    match cell.series {
        Way::NoEcho => arguments.push("--no-echo".to_owned()),
        Way::Tcp => arguments.extend(["--transport".to_owned(), "tcp".to_owned()]),
        Way::OneStream => arguments.push("--one-stream".to_owned()),
        Way::Echo | Way::Streams => {}
    }
    arguments
}
