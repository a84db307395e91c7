//! The scenarios, and what may go on beside one, by name.

use serde::Serialize;

/// What is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Chat between pairs.
    OneToOne,
    /// Full handshakes with sign-in by token.
    Connect,
    /// Memory of idle signed-in connections.
    Idle,
    /// Groups whose members are all online.
    Group,
    /// Many sessions lose their connections at once and come back, beside chat.
    Resume,
    /// A network that is dark for a while, or a gateway that is killed and started again, in mid-chat.
    Blackout,
    /// One person's visits: sign-in, the list, what was missed.
    Login,
    /// How much later chat starts where no UDP gets through.
    Start,
    /// Chat between pairs, first alone and then beside hostile connections.
    Hostile,
    /// Packets and bytes of idle sessions in the background, beside some in the foreground.
    Battery,
    /// The harness's own bare QUIC relay, as a yardstick.
    Relay,
    /// `one-to-one` and `relay`, interleaved; their ratio.
    CompareRelay,
    /// The relay's server process.
    RelayServer,
}

impl Scenario {
    const ALL: [(&'static str, Self); 13] = [
        ("one-to-one", Self::OneToOne),
        ("connect", Self::Connect),
        ("idle", Self::Idle),
        ("group", Self::Group),
        ("resume", Self::Resume),
        ("blackout", Self::Blackout),
        ("login", Self::Login),
        ("start", Self::Start),
        ("hostile", Self::Hostile),
        ("battery", Self::Battery),
        ("relay", Self::Relay),
        ("compare-relay", Self::CompareRelay),
        ("relay-server", Self::RelayServer),
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, scenario)| *scenario == self).map_or("?", |(name, _)| name)
    }

    pub(super) fn parse(name: &str) -> Result<Self, String> {
        if let Some((_, scenario)) = Self::ALL.iter().find(|(known, _)| *known == name) {
            return Ok(*scenario);
        }
        Err("unknown scenario; there are one-to-one, group, connect, idle, resume, blackout, login, start, \
             hostile, battery, relay and compare-relay"
            .to_owned())
    }
}

/// What one conversation does beside the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beside {
    /// Nothing: the same measurement undisturbed.
    Nothing,
    /// Both members read 5 MB of its history, page by page.
    History,
    /// One member writes 1,000 messages at once.
    Burst,
}
