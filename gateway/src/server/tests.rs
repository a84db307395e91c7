//! A panic in a task of a connection takes that connection down, and nothing else. The part that
//! panics is a metric: the recorder of this process is poisoned on purpose.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use ::metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use parking_lot::Mutex;
use petrel_client::{Client, ClientOptions, Cursor, Dialer, DialerOptions, Event, Events, Trust};

use super::*;

/// The metric at which the next task panics.
static POISONED: Mutex<Option<&'static str>> = Mutex::new(None);

struct Poisoned(String);

impl Poisoned {
    fn pass(&self) {
        let hit = POISONED.lock().take_if(|name| *name == self.0).is_some();
        assert!(!hit, "{} is poisoned", self.0);
    }
}

impl CounterFn for Poisoned {
    fn increment(&self, _value: u64) {
        self.pass();
    }

    fn absolute(&self, _value: u64) {}
}

impl HistogramFn for Poisoned {
    fn record(&self, _value: f64) {
        self.pass();
    }
}

struct PoisonedRecorder;

impl Recorder for PoisonedRecorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Poisoned(key.name().to_owned())))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Poisoned(key.name().to_owned())))
    }
}

async fn person(server: &Server, name: &str) -> (Client, Events) {
    let trust = Trust::from_fingerprint_hex(&server.fingerprint).unwrap();
    let at = petrel_client::Server::Addresses(vec![server.quic]);
    let mut options = DialerOptions::new(at, "localhost", trust);
    options.transports = petrel_client::Transports::Quic;
    let dialer = Dialer::new(options).unwrap();
    let identity = dialer.register(name, "test").await.unwrap();
    let (client, events) = Client::start(ClientOptions::new(dialer, identity)).await.unwrap();
    client.online().await.unwrap();
    (client, events)
}

async fn until(events: &mut Events, what: impl Fn(&Event) -> bool) {
    let found = async { while !what(&events.next().await.unwrap()) {} };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("an event in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_connections_task_ends_that_connection_and_no_other() {
    ::metrics::set_global_recorder(PoisonedRecorder).expect("this process runs this test alone");
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
    config.gateway.listen = ([127, 0, 0, 1], 0).into();
    config.admin.listen = ([127, 0, 0, 1], 0).into();
    let handle = PrometheusBuilder::new().build_recorder().handle();
    let server = Server::start_measured(config, handle).await.unwrap();
    let (alice, mut hers) = person(&server, "alice").await;
    let (bob, mut his) = person(&server, "bob").await;
    let pair = alice.pair(bob.user());
    let mut said = 0;
    for task in [
        "petrel_gateway_streams_total",
        "petrel_gateway_request_seconds",
        "petrel_gateway_decode_to_permit_seconds",
        "petrel_gateway_commit_to_write_seconds",
        "petrel_gateway_catch_ups_total",
    ] {
        *POISONED.lock() = Some(task);
        match task {
            // The connection's own task, and that of a request.
            "petrel_gateway_streams_total" | "petrel_gateway_request_seconds" => {
                alice.find_users(&["bob"], &[]).await.unwrap();
            }
            // The one that reads a conversation's stream.
            "petrel_gateway_decode_to_permit_seconds" => {
                alice.send(&pair, 1, "a message on its way").unwrap();
                said += 1;
            }
            // The session's writer; the one that reads the store for a stream.
            _ => alice.attach(&pair, Some(Cursor { seq: 0, tail: [0; 8] })).unwrap(),
        }
        until(&mut hers, |event| matches!(event, Event::Offline { .. })).await;
        assert_eq!(*POISONED.lock(), None, "{task}: another connection's end");
        alice.online().await.unwrap();
        alice.send(&pair, 1, format!("after {task}")).unwrap();
        said += 1;
        until(&mut his, |event| matches!(event, Event::Entry(entry) if entry.seq == said)).await;
    }
    assert_eq!((alice.stats().reconnects, bob.stats().reconnects), (5, 0));
    // Nothing is left behind.
    for client in [alice, bob] {
        client.close().await;
    }
    server.stop().await.unwrap();
    assert_eq!(server.gateway.doors.connections(), 0);
}
