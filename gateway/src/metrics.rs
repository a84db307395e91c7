//! The gateway's metrics: names, help, bucket edges, one function or handle per
//! event. Names follow Prometheus' rules; labels come from enums only.

pub(crate) mod background;
pub(crate) mod cluster;
mod connection;
mod early;
mod echo;
mod excess;
pub(crate) mod path;
mod typing;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use petrel_core::error::Rejection;
use petrel_proto::code::Code;

pub(crate) use connection::{
    connection_accepted, connection_closed, connection_refused, connections,
};
pub(crate) use echo::{echo_delivered, echo_offered, echo_received, echo_sent};
pub(crate) use excess::{Excess, excess};
pub(crate) use typing::{Typing, typing};

pub(crate) use early::{Early, EarlyData, address_known, early, early_data};

/// Upper edges of buckets for spans of time, in seconds; among them the goals.
const SECONDS: &[f64] = &[
    0.0001, 0.0002, 0.0004, 0.0006, 0.0009, 0.0012, 0.0018, 0.0025, 0.004, 0.006, 0.01, 0.02,
    0.035, 0.05, 0.058, 0.065, 0.075, 0.09, 0.1, 0.15, 0.17, 0.2, 0.33, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Upper edges of buckets for numbers of messages.
const MESSAGES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Upper edges of buckets for shares.
const RATIOS: &[f64] = &[0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// Handles that are looked up once.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Addresses that were asked to prove themselves.
    pub retries: Counter,
    /// Connection attempts that waited for their turn beside chat.
    pub paced: Counter,
    /// Datagrams of handshakes that were held back from strangers.
    pub guarded: Counter,
    /// Streams accepted.
    pub streams: Counter,
    /// Entries put into sessions' queues.
    pub deliveries: Counter,
    /// Messages shown before they were stored.
    pub previews: Counter,
    /// Attaches that had entries to catch up with.
    pub resumes: Counter,
    /// Attaches whose cursor was of another history.
    pub resets: Counter,
    /// Streams whose session's queue had no room.
    pub fallen_behind: Counter,
    /// Entries that wait to be handed out to many handles.
    pub fanout_waiting: Gauge,
    /// Entries that found no room there.
    pub fanout_overflows: Counter,
    /// Slots that were filled from the store.
    pub catch_ups: Counter,
    /// Holes in the order of a conversation that were read from the store.
    pub repairs: Counter,
    /// Sends that joined the same message under way.
    pub joined: Counter,
    /// Requests that were judged again because somebody was quicker.
    pub changes_retried: Counter,
    /// Sessions that ended because their device was signed out for good.
    pub sessions_revoked: Counter,
    /// Hints for want of a stream.
    pub hints: Counter,
    /// Receipts that found no room to wait in.
    pub receipts_overflows: Counter,
    /// Receipts that the store did not take.
    pub receipts_lost: Counter,
    /// Words on somebody's presence that sessions were told.
    pub presence_told: Counter,
    /// Watches, sessions and changes of presence that found no room, and are seen to later.
    pub presence_overflows: Counter,
    /// Typing that found no room to wait for the store in.
    pub typing_overflows: Counter,
    /// Bytes of bodies, decoded.
    pub body_decoded_bytes: Counter,
    /// Bytes of bodies, as stored.
    pub body_encoded_bytes: Counter,
    /// From the first packet to the end of the handshake.
    pub handshake: Histogram,
    /// From a decoded Send to its permit.
    pub decode_to_permit: Histogram,
    /// From a commit to the writing of its entries to a stream.
    pub(crate) commit_to_write: Histogram,
    /// From a decoded Send to its Ack's being queued.
    pub(crate) send_to_ack: Histogram,
    /// Round-trip times, sampled.
    pub rtt: Histogram,
    /// Share of packets lost, sampled.
    pub loss: Histogram,
    /// UDP payload received by connections that were sampled.
    pub udp_rx_bytes: Gauge,
    /// UDP payload sent by connections that were sampled.
    pub udp_tx_bytes: Gauge,
}

/// The handles.
pub(crate) fn get() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
        retries: counter!("petrel_gateway_retries_total"),
        paced: counter!("petrel_gateway_connections_paced_total"),
        guarded: counter!("petrel_gateway_guarded_datagrams_total"),
        streams: counter!("petrel_gateway_streams_total"),
        deliveries: counter!("petrel_gateway_deliveries_total"),
        previews: counter!("petrel_gateway_previews_total"),
        resumes: counter!("petrel_gateway_resumes_total"),
        resets: counter!("petrel_gateway_resets_total"),
        fallen_behind: counter!("petrel_gateway_send_queue_overflows_total"),
        fanout_waiting: gauge!("petrel_gateway_fanout_waiting_entries"),
        fanout_overflows: counter!("petrel_gateway_fanout_overflows_total"),
        catch_ups: counter!("petrel_gateway_catch_ups_total"),
        repairs: counter!("petrel_gateway_repairs_total"),
        joined: counter!("petrel_gateway_sends_joined_total"),
        changes_retried: counter!("petrel_gateway_changes_retried_total"),
        sessions_revoked: counter!("petrel_gateway_sessions_revoked_total"),
        hints: counter!("petrel_gateway_hints_total"),
        receipts_overflows: counter!("petrel_gateway_receipts_overflows_total"),
        receipts_lost: counter!("petrel_gateway_receipts_lost_total"),
        presence_told: counter!("petrel_gateway_presence_told_total"),
        presence_overflows: counter!("petrel_gateway_presence_overflows_total"),
        typing_overflows: counter!("petrel_gateway_typing_overflows_total"),
        body_decoded_bytes: counter!("petrel_gateway_body_decoded_bytes_total"),
        body_encoded_bytes: counter!("petrel_gateway_body_encoded_bytes_total"),
        handshake: histogram!("petrel_gateway_handshake_seconds"),
        decode_to_permit: histogram!("petrel_gateway_decode_to_permit_seconds"),
        commit_to_write: histogram!("petrel_gateway_commit_to_write_seconds"),
        send_to_ack: histogram!("petrel_gateway_send_to_ack_seconds"),
        rtt: histogram!("petrel_quic_rtt_seconds"),
        loss: histogram!("petrel_quic_packets_lost_ratio"),
        udp_rx_bytes: gauge!("petrel_quic_udp_received_bytes"),
        udp_tx_bytes: gauge!("petrel_quic_udp_sent_bytes"),
    });
    &METRICS
}

/// A refusal was sent.
pub(crate) fn refused(code: Code) {
    counter!("petrel_gateway_refusals_total", "code" => code.label()).increment(1);
}

/// Somebody signed in, or was refused.
pub(crate) fn sign_in(refusal: Option<Code>) {
    let result = refusal.map_or("ok", Code::label);
    counter!("petrel_gateway_sign_ins_total", "result" => result).increment(1);
}

/// Somebody asked for a token.
pub(crate) fn log_in(method: &'static str, refusal: Option<&Rejection>) {
    let result = refusal.map_or("ok", |refusal| crate::translate::code(refusal).label());
    counter!("petrel_gateway_log_ins_total", "method" => method, "result" => result).increment(1);
}

/// A command of the admin API was carried out, or refused.
pub(crate) fn admin_call(command: &'static crate::admin::Command, result: &'static str) {
    let command = format!("{command:?}");
    counter!("petrel_gateway_admin_calls_total", "command" => command, "result" => result)
        .increment(1);
}

/// A caller of the admin API did not have its token.
pub(crate) fn admin_refused(reason: &'static str) {
    counter!("petrel_gateway_admin_refused_total", "reason" => reason).increment(1);
}

/// Passwords that may wait, at the most.
pub(crate) fn password_queue_max(passwords: usize) {
    gauge!("petrel_gateway_passwords_waiting_max").set(passwords as f64);
}

/// A password found no room to wait in.
pub(crate) fn password_overflow() {
    counter!("petrel_gateway_passwords_overflows_total").increment(1);
}

/// A request was served.
pub(crate) fn request(name: &'static str, took: Duration) {
    histogram!("petrel_gateway_request_seconds", "request" => name).record(took);
}

/// Whether the mirror is connected to Redis.
pub(crate) fn mirror_up(up: bool) {
    gauge!("petrel_gateway_mirror_up").set(f64::from(u8::from(up)));
}

/// Users' entries were written to the mirror.
pub(crate) fn mirror_wrote(entries: usize) {
    counter!("petrel_gateway_mirror_writes_total").increment(entries as u64);
}

/// So many users had a mark that marks were dropped for writing everything again.
pub(crate) fn mirror_overflowed() {
    counter!("petrel_gateway_mirror_overflows_total").increment(1);
}

/// Everything is written to the mirror again.
pub(crate) fn mirror_rebuilds(reason: &'static str) {
    counter!("petrel_gateway_mirror_rebuilds_total", "reason" => reason).increment(1);
}

/// Redis did not do what it was asked.
pub(crate) fn mirror_failed(kind: &'static str) {
    counter!("petrel_gateway_mirror_errors_total", "kind" => kind).increment(1);
}

/// A panic was caught by the hook.
pub(crate) fn panicked() {
    counter!("petrel_process_panics_total").increment(1);
}

/// A certificate came into use.
pub(crate) fn certificate(valid_until_s: Option<u64>) {
    if let Some(seconds) = valid_until_s {
        gauge!("petrel_gateway_certificate_expiry_timestamp_seconds").set(seconds as f64);
    }
}

/// Installs the recorder for the whole process.
///
/// # Errors
/// If one is installed already.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_messages".to_owned()), MESSAGES)?
        .set_buckets_for_metric(Matcher::Suffix("_ratio".to_owned()), RATIOS)?
        .install_recorder()?;
    describe();
    echo::describe();
    background::describe();
    early::describe();
    crate::process::describe();
    petrel_storage::writer::describe();
    gauge!("petrel_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    get();
    begin_at_zero();
    Ok(handle)
}

/// Shows labelled counters from the start: one that appears with its first event has no rise that
/// Prometheus could see, and an alert on it would sleep through the first time.
fn begin_at_zero() {
    for code in Code::ALL {
        counter!("petrel_gateway_refusals_total", "code" => code.label()).absolute(0);
        counter!("petrel_gateway_sign_ins_total", "result" => code.label()).absolute(0);
    }
    typing::begin_at_zero();
    excess::begin_at_zero();
    connection::begin_at_zero();
    for reason in ["unauthenticated", "rate_limited"] {
        counter!("petrel_gateway_admin_refused_total", "reason" => reason).absolute(0);
    }
    early::begin_at_zero();
    counter!("petrel_process_panics_total").absolute(0);
    path::begin_at_zero();
    cluster::begin_at_zero();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!("petrel_process_start_timestamp_seconds").set(started.as_secs_f64());
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    connection::describe();
    path::describe();
    cluster::describe();
    for (name, help) in [
        (
            "petrel_gateway_retries_total",
            "Connection attempts that were asked to prove their address, as many handshakes were under way.",
        ),
        (
            "petrel_gateway_connections_paced_total",
            "Connection attempts that waited for their turn, as messages were being sent.",
        ),
        (
            "petrel_gateway_guarded_datagrams_total",
            "Datagrams of handshakes held back, as three times what came from their address had been sent.",
        ),
        ("petrel_gateway_streams_total", "Streams that clients opened."),
        (
            "petrel_gateway_deliveries_total",
            "Entries put into sessions' queues after their commit.",
        ),
        ("petrel_gateway_previews_total", "Messages shown before they were stored."),
        ("petrel_gateway_resumes_total", "Attaches that had entries to catch up with."),
        ("petrel_gateway_resets_total", "Attaches whose cursor was of another history."),
        (
            "petrel_gateway_catch_ups_total",
            "Streams that were fed from the store until they were live again.",
        ),
        (
            "petrel_gateway_repairs_total",
            "Times that a conversation's missing entries or members were read from the store.",
        ),
        ("petrel_gateway_sends_joined_total", "Sends that joined the same message on its way."),
        (
            "petrel_gateway_changes_retried_total",
            "Requests that were judged again because what they rest on had moved.",
        ),
        ("petrel_gateway_hints_total", "Hints given for want of stream credit."),
        (
            "petrel_gateway_send_queue_overflows_total",
            "Times that a stream fell behind because its session's queue was full.",
        ),
        (
            "petrel_gateway_fanout_overflows_total",
            "Entries that found their large conversation's queue full; its streams read the store.",
        ),
        ("petrel_gateway_receipts_overflows_total", "Receipts that found the waiting table full."),
        ("petrel_gateway_receipts_lost_total", "Receipts that the store did not take."),
        ("petrel_gateway_presence_told_total", "Words on somebody's presence that were told."),
        (
            "petrel_gateway_presence_overflows_total",
            "Watches, sessions and changes of presence that found no room and are seen to later.",
        ),
        ("petrel_gateway_typing_total", "Typing of clients, by what became of it."),
        ("petrel_gateway_typing_overflows_total", "Typing dropped as too much of it waited."),
        ("petrel_gateway_refusals_total", "Refusals sent, by code."),
        ("petrel_gateway_sign_ins_total", "Sign-ins, by result."),
        ("petrel_gateway_log_ins_total", "Log-ins, by method and result."),
        ("petrel_gateway_admin_calls_total", "Commands of the admin API, by command and result."),
        ("petrel_gateway_admin_refused_total", "Calls of the admin API without its token."),
        ("petrel_gateway_passwords_overflows_total", "Passwords refused as the queue was full."),
        (
            "petrel_gateway_sessions_revoked_total",
            "Sessions ended because their device was signed out for good.",
        ),
        ("petrel_process_panics_total", "Panics caught by the hook."),
        ("petrel_gateway_mirror_writes_total", "Users' entries written to the mirror in Redis."),
        (
            "petrel_gateway_mirror_overflows_total",
            "Times that too many users had changed, so that everything was written again.",
        ),
        (
            "petrel_gateway_mirror_rebuilds_total",
            "Times that everything was written to the mirror again, by reason.",
        ),
        ("petrel_gateway_mirror_errors_total", "Failed talks with Redis, by kind."),
    ] {
        describe_counter!(name, help);
    }
    for (name, help) in [
        ("petrel_gateway_body_decoded_bytes_total", "Bytes of accepted bodies before compression."),
        (
            "petrel_gateway_body_encoded_bytes_total",
            "Bytes of accepted bodies as they are stored and pushed.",
        ),
    ] {
        describe_counter!(name, Unit::Bytes, help);
    }
    excess::describe();
    for (name, help) in [
        ("petrel_gateway_handshakes", "Handshakes under way."),
        ("petrel_gateway_handshakes_max", "Handshakes under way at once, at the most."),
        ("petrel_gateway_sessions", "Sessions signed in."),
        ("petrel_gateway_conversations", "Conversations in memory."),
        ("petrel_gateway_passwords_waiting", "Passwords waiting for a thread or being hashed."),
        ("petrel_gateway_passwords_waiting_max", "Passwords that may wait for a thread."),
        (
            "petrel_gateway_fanout_waiting_entries",
            "Entries waiting in the queues of large conversations.",
        ),
        (
            "petrel_gateway_fanout_waiting_entries_max",
            "Entries that one large conversation's queue takes, at the most.",
        ),
        ("petrel_gateway_receipts_waiting", "Receipts waiting to be passed on."),
        ("petrel_gateway_presence_watches", "Users watched, counted for each who watches."),
        ("petrel_gateway_presence_watches_max", "Watches at once, at the most."),
        (
            "petrel_gateway_presence_waiting",
            "Sessions waiting for the store to say whom they may see.",
        ),
        ("petrel_gateway_presence_waiting_max", "Sessions that may wait so, at the most."),
        (
            "petrel_gateway_presence_changed_users",
            "Users watched that came or went and whose watchers are not told yet.",
        ),
        (
            "petrel_gateway_presence_changed_users_max",
            "Users that may wait so; with more, everybody who is watched is looked at.",
        ),
        ("petrel_gateway_typing_waiting", "Typing waiting for a look at the store."),
        ("petrel_gateway_typing_waiting_max", "Typing that may wait so, at the most."),
        ("petrel_gateway_send_queue_bytes", "Bytes waiting in all sessions' queues."),
        (
            "petrel_gateway_send_queue_bytes_max",
            "Bytes that one session's queue takes, at the most.",
        ),
        ("petrel_storage_reachable", "1 if the store answered the last look at it."),
        ("petrel_storage_durable", "1 if the store says that its commits survive a power cut."),
        (
            "petrel_storage_commit_under_way_seconds",
            "For how long the oldest commit under way has not succeeded.",
        ),
        ("petrel_process_start_timestamp_seconds", "When this process started."),
        ("petrel_gateway_draining", "1 while the gateway is stopping."),
        ("petrel_gateway_mirror_up", "1 while the mirror is connected to Redis."),
        (
            "petrel_gateway_mirror_lag_seconds",
            "For how long the oldest change waits to be written to the mirror.",
        ),
        (
            "petrel_gateway_mirror_dirty_users",
            "Users whose change waits to be written to the mirror.",
        ),
        ("petrel_gateway_mirror_dirty_users_max", "Users that may wait so, at the most."),
        ("petrel_build_info", "Always 1; the version is its label."),
        (
            "petrel_quic_udp_received_bytes",
            "UDP payload received by the connections that live now.",
        ),
        ("petrel_quic_udp_sent_bytes", "UDP payload sent by the connections that live now."),
        (
            "petrel_gateway_certificate_expiry_timestamp_seconds",
            "When the certificate in use ends.",
        ),
    ] {
        describe_gauge!(name, help);
    }
    for (name, help) in [
        ("petrel_gateway_handshake_seconds", "From the first packet to the end of the handshake."),
        (
            "petrel_gateway_decode_to_permit_seconds",
            "From a decoded Send to its room in the channel.",
        ),
        (
            "petrel_gateway_commit_to_write_seconds",
            "From a commit to the entry's being written to a stream.",
        ),
        ("petrel_gateway_send_to_ack_seconds", "From a decoded Send to its Ack's being queued."),
        ("petrel_gateway_request_seconds", "Requests, by name."),
        ("petrel_quic_rtt_seconds", "Round-trip time of connections, sampled."),
        ("petrel_quic_packets_lost_ratio", "Share of packets lost per connection, sampled."),
    ] {
        describe_histogram!(name, help);
    }
}
