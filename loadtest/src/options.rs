//! The command line. What is wrong is refused with the option's name, exit status 2.

mod name;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use serde::{Serialize, Serializer};

use crate::body::BODY_BYTES_MAX;
use crate::carrier::Carrier;
use crate::goal::Goal;
use crate::layout::Layout;
use crate::ledger::MESSAGES_MAX;
use crate::link::Profile;

pub use name::{Beside, Scenario};

/// Load and latency harness of Petrel.
#[derive(Clone, Debug, Parser, Serialize)]
#[command(name = "petrel-loadtest", version, about, max_term_width = 100)]
pub struct Options {
    /// one-to-one, group, connect, idle, resume, blackout, login, start, hostile, battery, relay, or
    /// compare-relay
    /// (one-to-one and relay interleaved three times).
    #[arg(value_parser = Scenario::parse)]
    pub scenario: Scenario,

    /// How many users (connections): 200, in group all members, in resume 5000 who lose their connections, in
    /// battery 100 of each kind.
    #[arg(long, value_name = "N")]
    pub users: Option<usize>,
    /// Conversations of each user, 4; both directions of a pair count for both. login: those of its one
    /// account, 200.
    #[arg(long, value_name = "K")]
    pub conversations: Option<usize>,
    /// group: members of each group; the groups share users if there are fewer than all of them need.
    #[arg(long, default_value_t = 100, value_name = "M")]
    pub members: usize,
    /// group: how many groups.
    #[arg(long, default_value_t = 1, value_name = "G")]
    pub groups: usize,
    /// login: conversations in which something was said since the last visit.
    #[arg(long, default_value_t = 20, value_name = "C")]
    pub changed: usize,
    /// login, resume: messages that were missed in each conversation.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub missed: usize,
    /// hostile: how many hostile connections.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub hostile: usize,
    /// Messages a second, all users together (idle, battery: 0 sends none; resume: of the chat beside it).
    #[arg(long, value_name = "MSGS_PER_S", allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// Seconds that are measured (of each step with --find-max; of settling in idle; battery: 200, and as
    /// many again with messages).
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Seconds of traffic before the measuring begins.
    #[arg(long, default_value_t = 3.0, value_name = "S", allow_negative_numbers = true)]
    pub warmup: f64,
    /// Seed of arrivals, lanes and texts.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Bytes of the shortest body.
    #[arg(long, default_value_t = 20, value_name = "B")]
    pub body_min: usize,
    /// Bytes of the longest body.
    #[arg(long, default_value_t = 300, value_name = "B")]
    pub body_max: usize,
    /// Takes bodies from a file, one a line, instead of making them.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["body_min", "body_max"])]
    pub bodies: Option<PathBuf>,

    /// Writes the report there.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes the report for browsers there: one file with curves and tables. Several runs side by
    /// side: petrel-loadtest report --html FILE A.json B.json
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// A condition on the report, as in 'delivery_ms.p99<=1.2'; may be given several times.
    #[arg(long = "goal", value_name = "EXPR", value_parser = str::parse::<Goal>)]
    #[serde(serialize_with = "as_text")]
    pub goals: Vec<Goal>,

    /// A gateway that runs already; otherwise one is started. Several of one service, with commas between them: users are
    /// spread among them.
    #[arg(long, value_name = "HOST:PORT,...")]
    pub server: Option<String>,
    /// The name in that gateway's certificate.
    #[arg(long, default_value = "localhost", value_name = "NAME")]
    pub server_name: String,
    /// The authority of that gateway's certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "server", conflicts_with = "fingerprint")]
    pub ca: Option<PathBuf>,
    /// SHA-256 of that gateway's certificate.
    #[arg(long, value_name = "HEX", requires = "server")]
    pub fingerprint: Option<String>,
    /// That gateway's process, to account for it.
    #[arg(long, value_name = "PID", requires = "server")]
    pub server_pid: Option<u32>,
    /// That gateway's admin port, for its metrics and its store's settings.
    #[arg(long, value_name = "HOST:PORT", requires = "server")]
    pub admin: Option<SocketAddr>,

    /// Store of the gateway that is started; by default SQLite in a directory made for the run.
    #[arg(long, value_name = "URL", conflicts_with = "server")]
    pub storage: Option<String>,
    /// After how long a commit the started gateway shows previews (0: always).
    #[arg(long, value_name = "MS", conflicts_with = "server")]
    pub preview_after: Option<u64>,
    /// Another setting of the started gateway, as in 'section.key=value' (TOML); may be given several times.
    #[arg(long = "set", value_name = "SETTING", conflicts_with = "server")]
    pub settings: Vec<String>,

    /// Searches the highest rate that the latency bound allows.
    #[arg(long)]
    pub find_max: bool,
    /// The bound of --find-max on delivery p99; the ack's is twice that.
    #[arg(long, default_value_t = 200.0, value_name = "X")]
    pub p99_limit_ms: f64,

    /// Sign-ins under way at once; connect: 32, resume: all.
    #[arg(long, value_name = "N")]
    pub concurrency: Option<usize>,
    /// Threads of the harness that do IO.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub client_threads: usize,
    /// one-to-one: what carries the clients' connections.
    #[arg(long, value_enum, default_value_t = Carrier::Quic, value_name = "quic|tcp")]
    pub transport: Carrier,
    /// one-to-one: the first conversation is busy with this, again and again, and only the others are measured.
    #[arg(long, value_name = "WHAT")]
    pub beside: Option<Beside>,
    /// relay: each user's conversations share one stream, as they would a TCP connection.
    #[arg(long)]
    pub one_stream: bool,
    /// The clients do without the echo, in both directions.
    #[arg(long)]
    pub no_echo: bool,
    /// The clients send no receipts.
    #[arg(long)]
    pub no_receipts: bool,
    /// CPUs of the started server (or of --server-pid), as in taskset -c.
    #[arg(long, value_name = "LIST")]
    pub server_cpus: Option<String>,
    /// CPUs of the harness, as in taskset -c.
    #[arg(long, value_name = "LIST")]
    pub client_cpus: Option<String>,
    /// blackout: how long the network is dark, or the gateway away, in seconds.
    #[arg(long, default_value_t = 2.0, value_name = "S")]
    pub dark: f64,
    /// blackout: the clients are told when the network is back, as a device tells an application.
    #[arg(long)]
    pub told: bool,
    /// blackout: the gateway is killed and started again on its port, instead of a dark network.
    #[arg(long, conflicts_with_all = ["told", "server"])]
    pub restart: bool,
    /// compare-relay: how many runs of each; blackout: how often it gets dark.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub rounds: usize,

    /// relay, relay-server, group: does something wrong on purpose, to show that it is noticed.
    #[arg(long, value_name = "FAULT", hide = true)]
    pub fault: Option<crate::relay::server::Fault>,

    /// An emulated network between users and gateway: a name (clean, loss-5, burst, train, ...;
    /// docs/links.md) and changes, as in 'loss-5,delay=100ms,rebind=5s'.
    #[arg(long, value_name = "PROFILE", value_parser = Profile::parse)]
    pub link: Option<Profile>,
}

/// Groups of one user, at the most: each is a stream of its own (the gateway's default allows 64).
const GROUPS_OF_USER_MAX: usize = 48;

fn as_text<S: Serializer>(goals: &[Goal], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(goals.iter().map(ToString::to_string))
}

impl Options {
    /// Users: as asked, or the scenario's own.
    pub fn users(&self) -> usize {
        self.users.unwrap_or(match self.scenario {
            Scenario::Group => self.members.saturating_mul(self.groups),
            Scenario::Resume => 5_000,
            Scenario::Battery => 100,
            _ => 200,
        })
    }

    /// Conversations of each user: as asked, or the scenario's own.
    pub fn conversations(&self) -> usize {
        self.conversations.unwrap_or(match self.scenario {
            Scenario::Login => 200,
            _ => 4,
        })
    }

    /// Sign-ins under way at once: as asked, or the scenario's own.
    pub fn concurrency(&self) -> usize {
        self.concurrency.unwrap_or(match self.scenario {
            Scenario::Resume => self.users(),
            _ => 32,
        })
    }

    /// Messages a second: as asked, or the scenario's own.
    pub fn rate(&self) -> f64 {
        self.rate.unwrap_or(match self.scenario {
            Scenario::Idle | Scenario::Battery => 0.0,
            Scenario::Group if self.find_max => 50.0,
            Scenario::Group => 5.0,
            _ if self.find_max => 1_000.0,
            _ => 500.0,
        })
    }

    /// Seconds to measure: as asked, or the scenario's own.
    pub fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(match self.scenario {
            Scenario::Idle => 60.0,
            Scenario::Battery => 200.0,
            Scenario::Connect | Scenario::Resume | Scenario::Login | Scenario::Start => 10.0,
            _ if self.find_max => 5.0,
            _ => 20.0,
        })
    }

    /// Checks what one option alone cannot tell.
    ///
    /// # Errors
    /// What is wrong, beginning with the option's name.
    pub fn validate(&self) -> Result<(), String> {
        range("--members", self.members as f64, 2.0, 10_000.0)?;
        range("--users", self.users() as f64, 2.0, 100_000.0)?;
        range("--seconds", self.seconds(), 0.1, 86_400.0)?;
        range("--warmup", self.warmup, 0.0, 3_600.0)?;
        range("--p99-limit-ms", self.p99_limit_ms, 0.1, 60_000.0)?;
        range("--concurrency", self.concurrency() as f64, 1.0, 10_000.0)?;
        range("--client-threads", self.client_threads as f64, 1.0, 64.0)?;
        range("--rounds", self.rounds as f64, 1.0, 99.0)?;
        range("--dark", self.dark, 0.0, 600.0)?;
        if self.scenario == Scenario::Blackout && self.link.is_none() && !self.restart {
            return Err("--link: blackout needs one that can be dark, as 'clean'".to_owned());
        }
        let is_quiet = matches!(self.scenario, Scenario::Idle | Scenario::Battery);
        let lowest_rate = if is_quiet { 0.0 } else { 0.01 };
        range("--rate", self.rate(), lowest_rate, 2_000_000.0)?;
        range("--body-min", self.body_min as f64, 1.0, BODY_BYTES_MAX as f64)?;
        range("--body-max", self.body_max as f64, self.body_min as f64, BODY_BYTES_MAX as f64)?;
        if self.chats() {
            Layout::ring(self.users(), self.conversations())?;
        }
        range("--hostile", self.hostile as f64, 1.0, 10_000.0)?;
        self.validate_groups()?;
        self.validate_absence()?;
        if self.sends() {
            let messages = self.rate() * (self.seconds() + self.warmup);
            if messages > MESSAGES_MAX as f64 {
                return Err(format!(
                    "--seconds {}: that are {messages:.0} messages; at most {MESSAGES_MAX} in one run",
                    self.seconds()
                ));
            }
        }
        if self.transport == Carrier::Tcp && self.scenario != Scenario::OneToOne {
            return Err("--transport tcp: only with one-to-one".to_owned());
        }
        if self.transport == Carrier::Tcp
            && let Some(link) = &self.link
            && (self.server.is_some() || link.rebind.is_some() || link.switch.is_some())
        {
            return Err(
                "--transport tcp with --link: not with --server, rebind or switch".to_owned()
            );
        }
        if self.beside.is_some() && (self.scenario != Scenario::OneToOne || self.find_max) {
            return Err("--beside: only with one-to-one at one rate".to_owned());
        }
        if self.one_stream && self.scenario != Scenario::Relay {
            return Err("--one-stream: only with relay".to_owned());
        }
        let searches =
            matches!(self.scenario, Scenario::OneToOne | Scenario::Group | Scenario::Relay);
        if self.find_max && !searches {
            return Err("--find-max: only with one-to-one, group and relay".to_owned());
        }
        if self.server.is_some() && self.ca.is_none() && self.fingerprint.is_none() {
            return Err("--server: needs --fingerprint or --ca, to know it by".to_owned());
        }
        if let Some(fingerprint) = &self.fingerprint
            && crate::dial::parse_fingerprint(fingerprint).is_none()
        {
            return Err("--fingerprint: 64 hexadecimal digits are needed".to_owned());
        }
        for (option, list) in
            [("--server-cpus", &self.server_cpus), ("--client-cpus", &self.client_cpus)]
        {
            if let Some(list) = list
                && !is_cpu_list(list)
            {
                return Err(format!("{option} {list}: a list like 0 or 0,2-3 is needed"));
            }
        }
        if self.server.is_some() && self.server_cpus.is_some() && self.server_pid.is_none() {
            return Err("--server-cpus: with --server it needs --server-pid".to_owned());
        }
        Ok(())
    }

    fn validate_groups(&self) -> Result<(), String> {
        range("--groups", self.groups as f64, 1.0, 10_000.0)?;
        if self.scenario != Scenario::Group {
            return Ok(());
        }
        let (users, seats) = (self.users(), self.members * self.groups);
        if users < self.members {
            return Err(format!("--users {users}: fewer than --members {}", self.members));
        }
        if seats > users * GROUPS_OF_USER_MAX {
            return Err(format!(
                "--groups {}: that are {} groups for each user; at most {GROUPS_OF_USER_MAX}",
                self.groups,
                seats.div_ceil(users)
            ));
        }
        Ok(())
    }

    fn validate_absence(&self) -> Result<(), String> {
        range("--missed", self.missed as f64, 1.0, 200.0)?;
        if self.scenario == Scenario::Login {
            range("--conversations", self.conversations() as f64, 1.0, 10_000.0)?;
            range("--changed", self.changed as f64, 1.0, self.conversations().min(100) as f64)?;
        }
        Ok(())
    }

    /// Whether pairs chat on a ring of `--users` with `--conversations`.
    fn chats(&self) -> bool {
        matches!(
            self.scenario,
            Scenario::OneToOne
                | Scenario::Blackout
                | Scenario::Hostile
                | Scenario::Relay
                | Scenario::CompareRelay
        )
    }

    /// Whether messages are sent at `--rate`.
    fn sends(&self) -> bool {
        !matches!(
            self.scenario,
            Scenario::Connect
                | Scenario::Idle
                | Scenario::Login
                | Scenario::Start
                | Scenario::RelayServer
        )
    }
}

fn range(option: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!("{option} {value}: {low} to {high} is allowed"))
    }
}

fn is_cpu_list(list: &str) -> bool {
    list.split(',').all(|part| {
        let mut ends = part.splitn(2, '-');
        ends.all(|end| end.parse::<u16>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn parse(arguments: &str) -> Result<Options, String> {
        let words = std::iter::once("petrel-loadtest").chain(arguments.split_ascii_whitespace());
        let options = Options::try_parse_from(words).map_err(|error| {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        })?;
        options.validate().map(|()| options)
    }

    #[test]
    fn the_interface_of_the_goals_is_understood() {
        let options = parse(
            "one-to-one --users 200 --conversations 4 --rate 500 --seconds 10 --warmup 2 --seed 9 \
             --body-min 20 --body-max 300 --json out.json --html out.html --server 127.0.0.1:1 --server-name petrel \
             --ca ca.pem --server-pid 1 --server-cpus 0 --client-cpus 1,2-3 --goal delivery_ms.p99<=1.2 \
             --goal lost==0",
        )
        .unwrap();
        assert_eq!(options.goals.len(), 2);
        assert!(parse("one-to-one --storage postgres://x/y --preview-after 0").is_ok());
        assert!(parse("one-to-one --find-max --p99-limit-ms 200").is_ok());
        assert!(parse("one-to-one --bodies texts.txt").is_ok());
        assert!(parse("one-to-one --link loss-5,delay=100ms").is_ok());
        assert!(parse("blackout --link clean --dark 10 --told").is_ok());
        assert!(parse("blackout --restart").is_ok());
        for scenario in [
            "connect",
            "idle",
            "relay",
            "compare-relay",
            "group",
            "resume",
            "login",
            "hostile",
            "battery",
        ] {
            assert!(parse(scenario).is_ok(), "{scenario}");
        }
    }

    #[test]
    fn bad_arguments_are_refused_by_the_name_of_the_option() {
        for (arguments, named) in [
            ("", "<SCENARIO>"),
            ("chat", "unknown scenario"),
            ("group --members 1", "--members"),
            ("group --members 100 --users 50", "--users"),
            ("group --members 10 --users 10 --groups 49", "--groups"),
            ("login --conversations 10 --changed 11", "--changed"),
            ("resume --missed 0", "--missed"),
            ("hostile --hostile 0", "--hostile"),
            ("resume --find-max", "--find-max"),
            ("blackout", "--link"),
            ("blackout --link clean --dark 1000", "--dark"),
            ("blackout --restart --told", "--told"),
            ("one-to-one --link moon", "--link"),
            ("one-to-one --users 1", "--users"),
            ("one-to-one --users many", "--users"),
            ("one-to-one --conversations 200", "--conversations"),
            ("one-to-one --conversations 0", "--conversations"),
            ("one-to-one --rate 0", "--rate"),
            ("one-to-one --rate -5", "--rate"),
            ("one-to-one --rate NaN", "--rate"),
            ("one-to-one --seconds 0", "--seconds"),
            ("one-to-one --rate 1000000 --seconds 1000", "--seconds"),
            ("one-to-one --warmup -1", "--warmup"),
            ("one-to-one --body-min 0", "--body-min"),
            ("one-to-one --body-min 50 --body-max 40", "--body-max"),
            ("one-to-one --body-max 65537", "--body-max"),
            ("one-to-one --bodies f --body-min 3", "--bodies"),
            ("one-to-one --goal p99", "--goal"),
            ("one-to-one --server 127.0.0.1:1", "--server"),
            ("one-to-one --fingerprint 00", "--server"),
            ("one-to-one --server a:1 --fingerprint 00", "--fingerprint"),
            ("one-to-one --server a:1 --ca f --storage sqlite:x", "--storage"),
            ("one-to-one --server a:1 --ca f --server-cpus 0", "--server-cpus"),
            ("one-to-one --client-cpus a", "--client-cpus"),
            ("one-to-one --client-cpus 1-2-3", "--client-cpus"),
            ("connect --find-max", "--find-max"),
            ("one-to-one --find-max --p99-limit-ms 0", "--p99-limit-ms"),
            ("connect --concurrency 0", "--concurrency"),
            ("one-to-one --unknown", "--unknown"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(named), "'{arguments}': {error}");
        }
    }
}
