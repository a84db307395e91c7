//! The directory: user -> gateways on which he has sessions.
//!
//! Keys, for a service S (the audience of its tokens), ids in hexadecimal:
//!
//! | key | what | lives |
//! |---|---|---|
//! | `petrel:S:n:NODE` | the *marker* of one run of a gateway: its lowest valid generation | a lease, renewed by its owner with every write |
//! | `petrel:S:a:NODE` | what is to be known of that gateway, as its owner puts it: names, addresses | the same lease |
//! | `petrel:S:u:USER` | hash: NODE -> `GENERATION SESSIONS ATTENTIVE` | [`ENTRY_LIFE`] after the last write |
//!
//! An entry counts only while its node's marker is there and not above the entry's generation. So
//! all entries of a dead gateway are void when its lease ends, without a look at users; and what
//! an old backup or a lost removal left behind is void once its owner has written everything
//! again under the next generation and raised its marker. A node writes and removes its own
//! entries only. What is void is swept by [`Link::sweep`], which Redis judges itself, in one step.

use std::time::Duration;

use parking_lot::Mutex;
use petrel_core::id::{NodeId, UserId};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, Pipeline, RedisError};

/// Users that are written at once, at the most.
pub const BATCH_MAX: usize = 256;
/// How long a user's key outlives its last write: several rounds of writing everything again.
const ENTRY_LIFE: Duration = Duration::from_secs(20 * 60);
/// How long making a connection may take, sign-in included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Counts how often a node has begun to write everything again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// How many sessions a user has on one node, and how many of them are in the foreground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The user.
    pub user: UserId,
    /// 0: none, the entry is removed.
    pub sessions: usize,
    /// 0: the user is not there, as far as others are concerned.
    pub attentive: usize,
}

/// Where a user has sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The node.
    pub node: NodeId,
    /// Sessions there.
    pub sessions: usize,
    /// Those of them that are in the foreground.
    pub attentive: usize,
}

/// What became of the marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It was there and is good for a lease from now on.
    Held,
    /// It was gone: Redis was flushed or lost its data, or we were silent for too long. The node
    /// has to write everything again.
    Lost,
}

/// Why Redis did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The URL cannot be read.
    #[error("{0}")]
    Url(String),
    /// User or password are refused.
    #[error("{place}: Redis refuses the user or password: {problem}; see redis.url")]
    Refused {
        /// Host and port.
        place: String,
        /// In Redis' words.
        problem: String,
    },
    /// It did not answer in time, or the connection broke.
    #[error(
        "{place}: Redis does not answer: {problem}; see that it runs and that redis.url is right"
    )]
    Unreachable {
        /// Host and port.
        place: String,
        /// What happened.
        problem: String,
    },
    /// It answered with an error.
    #[error("{place}: Redis answers with an error: {problem}")]
    Answer {
        /// Host and port.
        place: String,
        /// In Redis' words.
        problem: String,
    },
}

impl DirectoryError {
    /// A label for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Url(_) => "url",
            Self::Refused { .. } => "refused",
            Self::Unreachable { .. } => "unreachable",
            Self::Answer { .. } => "answer",
        }
    }
}

/// What a server says of itself.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    /// `redis_version`.
    pub version: String,
    /// `maxmemory_policy`, if memory is bounded at all.
    pub evicts_by: Option<String>,
}

/// Whether the URL can be used.
///
/// # Errors
/// What is wrong with it; never the URL itself.
pub fn check_url(url: &str) -> Result<(), String> {
    let known = ["redis://", "rediss://", "unix://", "redis+unix://"];
    if !known.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(format!(
            "it has to begin with one of {}, and begins with {:?}",
            known.join(", "),
            url.split(':').next().unwrap_or_default().chars().take(20).collect::<String>()
        ));
    }
    Client::open(url).map(drop).map_err(|error| {
        format!("not redis://[USER:PASSWORD@]HOST:PORT/DATABASE: {}", plain(&error))
    })
}

/// One node's way to the directory.
#[derive(Debug)]
pub struct Directory {
    client: Client,
    place: String,
    service: String,
    node: NodeId,
    lease: Duration,
    /// Empty: nothing.
    description: Mutex<String>,
}

impl Directory {
    /// For one run of a gateway. Does not connect.
    ///
    /// # Errors
    /// [`DirectoryError::Url`].
    pub fn new(
        url: &str,
        service: &str,
        node: NodeId,
        lease: Duration,
    ) -> Result<Self, DirectoryError> {
        check_url(url).map_err(DirectoryError::Url)?;
        let client = Client::open(url).map_err(|error| DirectoryError::Url(plain(&error)))?;
        let place = client.get_connection_info().addr().to_string();
        let description = Mutex::default();
        Ok(Self { client, place, service: service.to_owned(), node, lease, description })
    }

    /// What is to be known of the node, from its next write on.
    pub fn describe(&self, description: String) {
        *self.description.lock() = description;
    }

    /// Which node it writes for.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Connects and signs in.
    ///
    /// # Errors
    /// Redis refuses or does not answer in time.
    pub async fn connect(&self) -> Result<Link<'_>, DirectoryError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        // The crate's own timeout does not cover every step of a sign-in.
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => Ok(Link { directory: self, connection }),
            Ok(Err(error)) => Err(self.explain(&error)),
            Err(_) => Err(DirectoryError::Unreachable {
                place: self.place.clone(),
                problem: format!("no connection within {CONNECT_TIMEOUT:?}"),
            }),
        }
    }

    fn explain(&self, error: &RedisError) -> DirectoryError {
        let (place, problem) = (self.place.clone(), plain(error));
        // The error of a pipeline has the code of its command in its text only.
        let refused = error.kind() == ErrorKind::AuthenticationFailed
            || ["WRONGPASS", "NOAUTH", "NOPERM"].iter().any(|code| problem.contains(code));
        if refused {
            DirectoryError::Refused { place, problem }
        } else if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
            DirectoryError::Unreachable { place, problem }
        } else {
            DirectoryError::Answer { place, problem }
        }
    }

    fn marker(&self, node: NodeId) -> String {
        format!("petrel:{}:n:{node}", self.service)
    }

    fn about(&self) -> String {
        format!("petrel:{}:a:{}", self.service, self.node)
    }

    /// Writes what is to be known of the node; good for a lease.
    fn put_description(&self, pipe: &mut Pipeline) {
        let description = self.description.lock();
        if !description.is_empty() {
            pipe.cmd("SET").arg(self.about()).arg(&**description);
            pipe.arg("PX").arg(millis(self.lease)).ignore();
        }
    }

    fn entry(&self, user: UserId) -> String {
        format!("petrel:{}:u:{user}", self.service)
    }
}

/// An error in one line.
fn plain(error: &RedisError) -> String {
    error.to_string().replace('\n', " ")
}

/// A connection. After an error it is dropped: what was asked may or may not have been done.
#[derive(Debug)]
pub struct Link<'a> {
    directory: &'a Directory,
    connection: MultiplexedConnection,
}

impl Link<'_> {
    /// Writes entries of one generation and renews the lease with `lowest` as the lowest valid
    /// generation, in one round trip. At the most [`BATCH_MAX`] entries.
    ///
    /// # Errors
    /// Redis does not do it in time; what was written is unknown then.
    pub async fn write(
        &mut self,
        lowest: Generation,
        generation: Generation,
        entries: &[Presence],
    ) -> Result<Lease, DirectoryError> {
        let directory = self.directory;
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(directory.marker(directory.node)).arg(lowest.0);
        pipe.arg("PX").arg(millis(directory.lease)).arg("XX");
        directory.put_description(&mut pipe);
        let node = directory.node.to_string();
        for Presence { user, sessions, attentive } in entries {
            let key = directory.entry(*user);
            if *sessions == 0 {
                pipe.cmd("HDEL").arg(&key).arg(&node).ignore();
            } else {
                let value = format!("{} {sessions} {attentive}", generation.0);
                pipe.cmd("HSET").arg(&key).arg(&node).arg(value).ignore();
                pipe.cmd("PEXPIRE").arg(&key).arg(millis(ENTRY_LIFE)).ignore();
            }
        }
        let (set,): (Option<String>,) = self.run(&pipe).await?;
        Ok(if set.is_some() { Lease::Held } else { Lease::Lost })
    }

    /// Makes the marker, whether it is there or not.
    ///
    /// # Errors
    /// Redis does not do it in time.
    pub async fn claim(&mut self, lowest: Generation) -> Result<(), DirectoryError> {
        let directory = self.directory;
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(directory.marker(directory.node)).arg(lowest.0);
        pipe.arg("PX").arg(millis(directory.lease)).ignore();
        directory.put_description(&mut pipe);
        self.run(&pipe).await
    }

    /// Removes our marker: all our entries are void at once. What is known of the node goes with it.
    ///
    /// # Errors
    /// Redis does not do it in time.
    pub async fn leave(&mut self) -> Result<(), DirectoryError> {
        let directory = self.directory;
        let mut pipe = redis::pipe();
        pipe.cmd("DEL").arg(directory.marker(directory.node)).arg(directory.about()).ignore();
        self.run(&pipe).await
    }

    /// Where a user has sessions, in one command: nodes with a lease.
    ///
    /// # Errors
    /// Redis does not answer in time.
    pub async fn look_up(&mut self, user: UserId) -> Result<Vec<Place>, DirectoryError> {
        const SCRIPT: &str = "\
            local found = {} \
            local all = redis.call('HGETALL', KEYS[1]) \
            for i = 1, #all, 2 do \
                local generation, sessions, attentive = \
                    string.match(all[i + 1], '^(%d+) (%d+) (%d+)$') \
                local lowest = redis.call('GET', ARGV[1] .. all[i]) \
                if generation and lowest and tonumber(generation) >= tonumber(lowest) then \
                    found[#found + 1] = all[i] \
                    found[#found + 1] = sessions \
                    found[#found + 1] = attentive \
                end \
            end \
            return found";
        let directory = self.directory;
        let mut pipe = redis::pipe();
        pipe.cmd("EVAL").arg(SCRIPT).arg(1).arg(directory.entry(user));
        pipe.arg(format!("petrel:{}:n:", directory.service));
        let (flat,): (Vec<String>,) = self.run(&pipe).await?;
        let mut found = Vec::with_capacity(flat.len() / 3);
        for place in flat.chunks_exact(3) {
            if let [node, sessions, attentive] = place
                && let Ok(node) = uuid::Uuid::parse_str(node)
                && let (Ok(sessions), Ok(attentive)) = (sessions.parse(), attentive.parse())
            {
                found.push(Place { node: NodeId::from(node), sessions, attentive });
            }
        }
        Ok(found)
    }

    /// Removes void entries of these users, of whatever node. That a marker is gone is judged
    /// inside of Redis and in one step with the removal; a node that comes back makes its marker
    /// first and then writes everything again.
    ///
    /// # Errors
    /// Redis does not do it in time.
    pub async fn sweep(&mut self, users: &[UserId]) -> Result<u64, DirectoryError> {
        const SCRIPT: &str = "\
            local swept = 0 \
            for _, key in ipairs(KEYS) do \
                local all = redis.call('HGETALL', key) \
                for i = 1, #all, 2 do \
                    local generation = tonumber(string.match(all[i + 1], '^(%d+) ')) \
                    local lowest = tonumber(redis.call('GET', ARGV[1] .. all[i])) \
                    if not lowest or not generation or generation < lowest then \
                        swept = swept + redis.call('HDEL', key, all[i]) \
                    end \
                end \
            end \
            return swept";
        if users.is_empty() {
            return Ok(0);
        }
        let directory = self.directory;
        let mut pipe = redis::pipe();
        pipe.cmd("EVAL").arg(SCRIPT).arg(users.len());
        for user in users {
            pipe.arg(directory.entry(*user));
        }
        pipe.arg(format!("petrel:{}:n:", directory.service));
        let (swept,): (u64,) = self.run(&pipe).await?;
        Ok(swept)
    }

    /// What the server says of itself.
    ///
    /// # Errors
    /// Redis does not answer in time, or the user may not ask.
    pub async fn facts(&mut self) -> Result<ServerFacts, DirectoryError> {
        let mut pipe = redis::pipe();
        pipe.cmd("INFO").arg("server").cmd("INFO").arg("memory");
        let (server, memory): (String, String) = self.run(&pipe).await?;
        let value = |text: &str, name: &str| {
            text.lines()
                .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .to_owned()
        };
        let bounded = value(&memory, "maxmemory") != "0";
        let policy = value(&memory, "maxmemory_policy");
        Ok(ServerFacts {
            version: value(&server, "redis_version"),
            evicts_by: (bounded && policy != "noeviction").then_some(policy),
        })
    }

    async fn run<T: redis::FromRedisValue>(
        &mut self,
        pipe: &Pipeline,
    ) -> Result<T, DirectoryError> {
        pipe.query_async(&mut self.connection).await.map_err(|error| self.directory.explain(&error))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
