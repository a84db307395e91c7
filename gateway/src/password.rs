//! Passwords: hashed with Argon2id (RFC 9106) on a few threads of their own, so that log-ins take
//! no turn from chat. What finds no room in their queue is refused at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use anyhow::{Context, Result};
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use parking_lot::Mutex;
use petrel_core::error::Rejection;
use rand::RngCore;
use tokio::sync::oneshot;

use crate::config::Password as Settings;
use crate::metrics;

/// Bytes of a salt.
const SALT_BYTES: usize = 16;
/// The queue's name in refusals.
const QUEUE: Rejection = Rejection::Overloaded { what: "the queue of passwords" };

/// Work for one of the threads.
enum Job {
    Hash(String, oneshot::Sender<Result<String, Rejection>>),
    Verify { password: String, phc: String, answer: oneshot::Sender<bool> },
}

/// Hashes and verifies. Its threads end when it is dropped.
#[derive(Debug)]
pub(crate) struct Passwords {
    jobs: SyncSender<Job>,
    waiting: Arc<AtomicUsize>,
    /// What an unknown user's password is compared with.
    nobodys: String,
}

impl Passwords {
    /// Starts the threads.
    ///
    /// # Errors
    /// If they cannot be started.
    pub(crate) fn start(settings: &Settings) -> Result<Self> {
        let argon2 = hasher(settings).context("password: these costs are not possible")?;
        let (jobs, queue) = sync_channel(settings.queue.to_usize());
        let queue = Arc::new(Mutex::new(queue));
        let waiting = Arc::new(AtomicUsize::new(0));
        for n in 0..threads(settings) {
            let (argon2, queue, waiting) =
                (argon2.clone(), Arc::clone(&queue), Arc::clone(&waiting));
            std::thread::Builder::new()
                .name(format!("password-{n}"))
                .spawn(move || work(&argon2, &queue, &waiting))
                .context("cannot start a thread for passwords")?;
        }
        metrics::password_queue_max(settings.queue.to_usize());
        Ok(Self { jobs, waiting, nobodys: nobodys(settings) })
    }

    /// The PHC string of a new password.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] if the queue is full.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Rejection> {
        let (answer, hashed) = oneshot::channel();
        self.put(Job::Hash(password, answer))?;
        hashed.await.unwrap_or(Err(Rejection::Internal))
    }

    /// Whether this is the password; with no PHC string it is not, after the same work.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] if the queue is full.
    pub(crate) async fn verify(
        &self,
        password: String,
        phc: Option<String>,
    ) -> Result<bool, Rejection> {
        let (answer, verified) = oneshot::channel();
        let is_known = phc.is_some();
        let phc = phc.unwrap_or_else(|| self.nobodys.clone());
        self.put(Job::Verify { password, phc, answer })?;
        let is_right = verified.await.map_err(|_| Rejection::Internal)?;
        Ok(is_right && is_known)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn put(&self, job: Job) -> Result<(), Rejection> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.try_send(job).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => {
                    metrics::password_overflow();
                    QUEUE
                }
                TrySendError::Disconnected(_) => Rejection::Internal,
            }
        })
    }
}

/// 0: half of the cores.
fn threads(settings: &Settings) -> usize {
    match settings.threads.to_usize() {
        0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
        threads => threads,
    }
}

fn hasher(settings: &Settings) -> Result<Argon2<'static>> {
    let memory_kib = u32::try_from(settings.memory.0 >> 10)?;
    let params = Params::new(memory_kib, settings.passes.to_u32(), settings.lanes.to_u32(), None)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// A PHC string of today's costs that no password has.
fn nobodys(settings: &Settings) -> String {
    let (memory_kib, passes, lanes) =
        (settings.memory.0 >> 10, settings.passes.0, settings.lanes.0);
    // Base 64 of a salt of 16 bytes and a hash of 32.
    let (salt, hash) = ("QUFB".repeat(5) + "QQ", "QUFB".repeat(10) + "QUE");
    format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
}

fn work(argon2: &Argon2<'_>, queue: &Mutex<Receiver<Job>>, waiting: &AtomicUsize) {
    loop {
        // The lock is held while waiting: whoever has it takes the next job.
        let Ok(job) = queue.lock().recv() else { return };
        waiting.fetch_sub(1, Ordering::Relaxed);
        match job {
            // Whoever has gone meanwhile is not worked for.
            Job::Hash(password, answer) if !answer.is_closed() => {
                answer.send(hash(argon2, &password)).ok();
            }
            Job::Verify { password, phc, answer } if !answer.is_closed() => {
                answer.send(is_right(&password, &phc)).ok();
            }
            Job::Hash(..) | Job::Verify { .. } => {}
        }
    }
}

fn hash(argon2: &Argon2<'_>, password: &str) -> Result<String, Rejection> {
    let internal = |error: argon2::password_hash::Error| {
        tracing::error!(%error, "a password cannot be hashed");
        Rejection::Internal
    };
    let mut salt = [0; SALT_BYTES];
    rand::rng().fill_bytes(&mut salt);
    let salt = SaltString::encode_b64(&salt).map_err(internal)?;
    let hashed = argon2.hash_password(password.as_bytes(), &salt).map_err(internal)?;
    Ok(hashed.to_string())
}

/// The costs are those of the PHC string, which may be older than the settings.
fn is_right(password: &str, phc: &str) -> bool {
    PasswordHash::new(phc)
        .is_ok_and(|phc| Argon2::default().verify_password(password.as_bytes(), &phc).is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::config::{Bounded, ByteSize};

    fn settings() -> Settings {
        Settings {
            memory: ByteSize(19 << 20),
            passes: Bounded(2),
            lanes: Bounded(1),
            threads: Bounded(1),
            queue: Bounded(1),
            ..Settings::default()
        }
    }

    #[tokio::test]
    async fn a_password_is_verified_by_a_phc_string_of_its_own_salt() {
        let passwords = Passwords::start(&settings()).unwrap();
        let phc = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert_ne!(phc, passwords.hash("correct horse".to_owned()).await.unwrap());
        assert!(passwords.verify("correct horse".to_owned(), Some(phc.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".to_owned(), Some(phc)).await.unwrap());
        assert!(!passwords.verify("correct horse".to_owned(), None).await.unwrap());
    }

    #[test]
    fn nobody_s_password_costs_what_a_real_one_does() {
        let phc = nobodys(&settings());
        let phc = PasswordHash::new(&phc).unwrap();
        let real = hash(&hasher(&settings()).unwrap(), "correct horse").unwrap();
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(phc.params, real.params);
        assert_eq!(phc.hash.unwrap().len(), real.hash.unwrap().len());
        assert_eq!(phc.algorithm, real.algorithm);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_refused_at_once() {
        let passwords = Arc::new(Passwords::start(&settings()).unwrap());
        let asking: Vec<_> = (0..8).map(|_| passwords.verify("x".to_owned(), None)).collect();
        let answers = futures_util::future::join_all(asking).await;
        let refused = answers.iter().filter(|a| **a == Err(QUEUE)).count();
        // One is under way, at the most, and one waits.
        assert!(refused >= 6, "{answers:?}");
        assert_eq!(answers.iter().filter(|a| **a == Ok(false)).count(), 8 - refused);
        assert_eq!(passwords.waiting(), 0);
    }
}
