//! People who talk all the time, whatever happens around them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use petrel_client::{ConversationRef, MessageId};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Gateway, Person, Stage};

/// Traffic: everybody sends at a steady pace, to each peer in turn.
#[derive(Debug)]
pub struct Load {
    talkers: Vec<Arc<Talker>>,
    tasks: JoinSet<Result<()>>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Talker {
    person: Arc<Person>,
    peers: Vec<ConversationRef>,
}

/// So many new people in a ring, each online and attached to the conversations with both
/// neighbours.
///
/// # Errors
/// One of them cannot register, sign in or speak.
pub async fn crowd(stage: &Stage, gateway: &Gateway, names: &[&str]) -> Result<Vec<Arc<Person>>> {
    let mut people = Vec::new();
    for name in names {
        people.push(Arc::new(stage.person(gateway, name).await?));
    }
    speak_once_each(&people).await?;
    Ok(people)
}

/// Everybody says one thing in each conversation and waits for its place: with what was
/// waiting before it answered too. Gives the time until the first and until the last place.
///
/// # Errors
/// A message is refused, or has no place in time.
pub async fn speak_once_each(people: &[Arc<Person>]) -> Result<(Duration, Duration)> {
    let started = Instant::now();
    let mut said = Vec::new();
    for talker in talkers(people) {
        for peer in &talker.peers {
            said.push((Arc::clone(&talker.person), talker.person.send(peer, "still there?")?));
        }
    }
    let mut placing: JoinSet<Result<Duration>> = JoinSet::new();
    for (person, id) in said {
        placing.spawn(async move {
            person.placed(id).await?;
            Ok(started.elapsed())
        });
    }
    let mut times = Vec::new();
    while let Some(time) = placing.join_next().await {
        times.push(time??);
    }
    let first = times.iter().min().copied().context("nobody spoke")?;
    Ok((first, times.iter().max().copied().unwrap_or(first)))
}

/// Waits until every message of these people has its answer, which is a place.
///
/// # Errors
/// There is none in time, or it is a refusal.
pub async fn all_answered(people: &[Arc<Person>]) -> Result<()> {
    for person in people {
        person
            .until("answers to all of its messages", |seen| {
                let waiting = person.client.stats().outbox_len > 0;
                (!waiting || !seen.refused.is_empty()).then_some(())
            })
            .await?;
        let refused: Vec<_> = person.seen(|seen| seen.refused.values().cloned().collect());
        ensure!(refused.is_empty(), "refused: {refused:?}");
    }
    Ok(())
}

fn talkers(people: &[Arc<Person>]) -> Vec<Arc<Talker>> {
    let all = people.len();
    let talker = |(n, person): (usize, &Arc<Person>)| {
        let (next, before) = ((n + 1) % all, (n + all - 1) % all);
        let mut neighbours = vec![next, before];
        neighbours.dedup();
        let peers = neighbours.into_iter().filter_map(|at| people.get(at));
        let peers = peers.map(|peer| person.with(peer)).collect();
        Arc::new(Talker { person: Arc::clone(person), peers })
    };
    people.iter().enumerate().map(talker).collect()
}

impl Load {
    /// Everybody sends `each_per_s` messages per second until [`Load::stop`].
    #[must_use]
    pub fn start(people: &[Arc<Person>], each_per_s: u32) -> Self {
        let talkers = talkers(people);
        let mut tasks = JoinSet::new();
        let stop = CancellationToken::new();
        for talker in &talkers {
            let (talker, stop) = (Arc::clone(talker), stop.clone());
            tasks.spawn(async move { talker.talk(each_per_s, stop).await });
        }
        Self { talkers, tasks, stop }
    }

    /// Everybody sends so many messages at once; gives their senders and ids.
    ///
    /// # Errors
    /// An outbox is full.
    pub fn burst(&self, each: usize) -> Result<Vec<(Arc<Person>, MessageId)>> {
        let mut sent = Vec::new();
        for n in 0..each {
            for talker in &self.talkers {
                let id = talker.say(n, "burst")?;
                sent.push((Arc::clone(&talker.person), id));
            }
        }
        Ok(sent)
    }

    /// Nothing new is sent.
    ///
    /// # Errors
    /// Somebody could not send.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

impl Talker {
    async fn talk(&self, each_per_s: u32, stop: CancellationToken) -> Result<()> {
        // The pace of the load; behind time it catches up.
        let mut pace = tokio::time::interval(Duration::from_secs(1) / each_per_s.max(1));
        for n in 0.. {
            if stop.run_until_cancelled(pace.tick()).await.is_none() {
                break;
            }
            self.say(n, "word")?;
        }
        Ok(())
    }

    fn say(&self, n: usize, what: &str) -> Result<MessageId> {
        let peer = self.peers.get(n % self.peers.len().max(1)).context("nobody to talk to")?;
        self.person.send(peer, format!("{what} {n}"))
    }
}
