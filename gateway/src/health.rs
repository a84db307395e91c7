//! What the gateway knows of its own state: the store's durability, asked at the
//! start and again and again; gauges, taken when somebody looks.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use parking_lot::Mutex;
use petrel_core::store::Durability;
use petrel_transport::Kind;
use serde::Serialize;

use crate::directory_mirror::MARKED_MAX;
use crate::gateway::Gateway;
use crate::{clock, metrics as our, presence};

/// Between two looks at the store.
const INTERVAL: Duration = Duration::from_secs(2);
/// Sessions whose connection is sampled at one look, at the most.
const SAMPLED_MAX: usize = 256;

/// What `/readyz` says of the store.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct StorageHealth {
    /// Whether it answered the last look.
    pub reachable: bool,
    /// Whether it says that its commits survive a power cut.
    pub durable: bool,
    /// Its settings, in its own words.
    pub settings: Vec<(String, String)>,
    /// What went wrong at the last look.
    pub error: Option<String>,
}

/// The state.
#[derive(Debug)]
pub(crate) struct Health {
    storage: Mutex<StorageHealth>,
    quic_port: u16,
}

impl Health {
    /// Nothing is known of the store yet.
    pub(crate) fn new(quic_port: u16) -> Self {
        Self { storage: Mutex::default(), quic_port }
    }

    /// What is known of the store.
    pub(crate) fn storage(&self) -> StorageHealth {
        self.storage.lock().clone()
    }

    /// Takes what the store said.
    pub(crate) fn set_storage(&self, said: Result<Durability, String>) {
        let mut storage = self.storage.lock();
        match said {
            Ok(Durability { durable, settings }) => {
                if !durable && (storage.durable || !storage.reachable) {
                    tracing::error!(
                        ?settings,
                        "the database does not make commits durable: acknowledged messages can be lost"
                    );
                }
                *storage = StorageHealth { reachable: true, durable, settings, error: None };
            }
            Err(error) => {
                storage.reachable = false;
                storage.error = Some(error);
            }
        }
    }

    /// Sets the gauges that are only worth taking when somebody looks.
    pub(crate) fn sample_gauges(&self, gateway: &Gateway) {
        let sessions = gateway.sessions.all();
        let queued: usize = sessions.iter().map(|s| s.queue().bytes()).sum();
        let background = sessions.iter().filter(|s| !s.is_attentive());
        let held: u32 = background.clone().map(|s| s.queue().held()).sum();
        let as_gauge = |n: usize| u32::try_from(n).map_or(f64::from(u32::MAX), f64::from);
        gauge!("petrel_gateway_sessions").set(as_gauge(sessions.len()));
        our::background::sample(as_gauge(background.count()), f64::from(held));
        let (doors, max) = (&gateway.doors, gateway.config.gateway.connections_max.to_usize());
        our::connections(doors.connections(), doors.connections_on_tcp(), max);
        gauge!("petrel_gateway_handshakes").set(as_gauge(doors.handshakes()));
        gauge!("petrel_gateway_handshakes_max")
            .set(as_gauge(gateway.config.gateway.handshakes_max.to_usize()));
        gauge!("petrel_gateway_conversations").set(as_gauge(gateway.conversations.len()));
        gauge!("petrel_gateway_passwords_waiting").set(as_gauge(gateway.passwords.waiting()));
        gauge!("petrel_gateway_fanout_waiting_entries_max")
            .set(as_gauge(crate::fanout::large::WAITING_ENTRIES_MAX));
        gauge!("petrel_gateway_receipts_waiting").set(as_gauge(gateway.receipts.waiting()));
        let (watches, waiting, changed) = gateway.presence.depths();
        for (depth, max, now, most) in [
            ("watches", "watches_max", watches, presence::WATCHES_MAX),
            ("waiting", "waiting_max", waiting, presence::WAITING_MAX),
            ("changed_users", "changed_users_max", changed, presence::CHANGED_MAX),
        ] {
            gauge!(format!("petrel_gateway_presence_{depth}")).set(as_gauge(now));
            gauge!(format!("petrel_gateway_presence_{max}")).set(as_gauge(most));
        }
        gauge!("petrel_gateway_typing_waiting").set(as_gauge(gateway.typing.waiting()));
        gauge!("petrel_gateway_typing_waiting_max").set(as_gauge(crate::typing::WAITING_MAX));
        gauge!("petrel_gateway_send_queue_bytes").set(as_gauge(queued));
        gauge!("petrel_gateway_send_queue_bytes_max")
            .set(gateway.config.gateway.send_queue.0 as f64);
        if let Some(marks) = gateway.sessions.marks() {
            let (dirty, lag) = marks.waiting();
            gauge!("petrel_gateway_mirror_dirty_users").set(as_gauge(dirty));
            gauge!("petrel_gateway_mirror_dirty_users_max").set(as_gauge(MARKED_MAX));
            gauge!("petrel_gateway_mirror_lag_seconds").set(lag.as_secs_f64());
        }
        let draining = gateway.is_going();
        gauge!("petrel_gateway_draining").set(f64::from(u8::from(draining)));
        self.sample_storage(gateway);
        crate::process::sample(self.quic_port);
        let (mut received, mut sent) = (0u64, 0u64);
        for (n, session) in sessions.iter().enumerate() {
            // TCP tells neither losses nor, here, round trips.
            if session.connection().kind() != Kind::Quic {
                continue;
            }
            let stats = session.connection().stats();
            received += stats.received_bytes;
            sent += stats.sent_bytes;
            if n < SAMPLED_MAX {
                our::get().rtt.record(stats.rtt);
                let packets = stats.sent_packets.max(1);
                our::get().loss.record(stats.lost_packets as f64 / packets as f64);
            }
        }
        our::get().udp_rx_bytes.set(received as f64);
        our::get().udp_tx_bytes.set(sent as f64);
    }

    fn sample_storage(&self, gateway: &Gateway) {
        let storage = self.storage.lock();
        gauge!("petrel_storage_reachable").set(f64::from(u8::from(storage.reachable)));
        gauge!("petrel_storage_durable").set(f64::from(u8::from(storage.durable)));
        drop(storage);
        let stalled = gateway.writers().stalled();
        gauge!("petrel_storage_commit_under_way_seconds").set(stalled.as_secs_f64());
    }
}

/// Looks at the store until the gateway stops.
pub(crate) async fn watch(gateway: Arc<Gateway>, health: Arc<Health>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let looking = async {
        loop {
            interval.tick().await;
            let said = gateway.store.durability().await;
            health.set_storage(said.map_err(|error| error.to_string()));
        }
    };
    gateway.stopping.run_until_cancelled(looking).await;
}

/// How often sessions and conversations are looked through.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Each connection's conduct is looked at once in so many rounds.
const CONDUCT_ROUNDS: u8 = 4;
/// So long after the end of its token a session is ended.
const EXPIRED_GRACE_MS: u64 = 60_000;

/// Sees to what is idle and what expires, until the gateway stops.
pub(crate) async fn keep_house(
    gateway: Arc<Gateway>,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut rounds = 0u8;
    let keeping = async {
        loop {
            interval.tick().await;
            round(&gateway, rounds);
            rounds = rounds.wrapping_add(1);
            metrics.run_upkeep();
        }
    };
    gateway.stopping.run_until_cancelled(keeping).await;
}

fn round(gateway: &Gateway, number: u8) {
    use petrel_proto::code::Code;
    use petrel_proto::wire::{RefreshDue, frame::What};
    let (now_ms, now_s) = (clock::unix_ms(), clock::coarse_s());
    let seconds = |ms: u64| u32::try_from(ms / 1000).unwrap_or(u32::MAX);
    let presence_interval = seconds(gateway.config.gateway.presence_interval.0);
    let stream_idle = seconds(gateway.config.gateway.stream_idle.0);
    for session in gateway.sessions.all() {
        let expires_ms = session.token_expires_ms();
        gateway.follow_attention(&session);
        if session.refresh_is_due(now_ms) {
            let frame = petrel_proto::frame::bare(What::RefreshDue(RefreshDue {}));
            let frame = petrel_proto::frame::encode(&frame);
            // In the background it goes with what else goes out, if that is long before the end.
            if expires_ms.saturating_sub(now_ms) > 2 * gateway.config.gateway.background_hold.0 {
                session.queue().put_control_later(frame, now_s);
            } else {
                session.queue().put_control(frame);
            }
        }
        if now_ms >= expires_ms {
            session.queue().suspend(true);
        }
        if now_ms >= expires_ms + EXPIRED_GRACE_MS {
            session.queue().end(Code::Reauthenticate);
        }
        gateway.presence.refresh(&session, now_s, presence_interval);
        session.queue().finish_idle(now_s.saturating_sub(stream_idle), now_s);
        session.queue().release_due(now_s);
        let turn = session.id().as_bytes()[15] % CONDUCT_ROUNDS;
        if turn == number % CONDUCT_ROUNDS
            && let Some(excess) = session.look_at_conduct(now_s)
        {
            our::excess(excess);
            session.queue().end(Code::RateLimited);
        }
    }
    let message = &gateway.config.message;
    let idle = if gateway.conversations.len() > message.conversations_cached_max.to_usize() {
        1
    } else {
        seconds(message.conversation_idle.0)
    };
    gateway.conversations.forget_idle(now_s.saturating_sub(idle));
}
