//! What an operator sees: /livez, /readyz, /metrics.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use petrel_tests::cluster::{PATIENCE, Stage, eventually};
use petrel_tests::on_both_stores;

on_both_stores!(
    metrics_pass_promtool_and_move_with_the_traffic,
    readyz_tells_the_durability_of_the_store,
    what_monitoring_needs_is_on_a_port_of_its_own,
);

/// Series of one name: labels are enums, so there are only so many.
const SERIES_MAX: usize = 400;

async fn metrics_pass_promtool_and_move_with_the_traffic(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&["message.preview_after=0ms"]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let pair = alice.with(&bob);
    for n in 0..50 {
        alice.say(&pair, format!("message {n}")).await?;
    }
    bob.has(pair.id, 50).await?;
    alice.client.find_users(&["bob"], &[]).await?;
    let names = ["alice".to_owned(), "bob".to_owned()];
    assert!(gateway.dialer()?.register("bob", "test").await.is_err());

    let scraped = || async {
        let scrape = gateway.scrape().await?;
        Ok((scrape.sum("petrel_storage_permit_to_commit_seconds_count", "") >= 50.0)
            .then_some(scrape))
    };
    let scrape = eventually(PATIENCE, "metrics of 50 messages", scraped).await?;
    promtool(&scrape.text)?;
    for (name, least) in [
        ("petrel_gateway_connections", 2.0),
        ("petrel_gateway_sessions", 2.0),
        ("petrel_gateway_conversations", 1.0),
        ("petrel_gateway_streams_total", 4.0),
        ("petrel_gateway_deliveries_total", 100.0),
        ("petrel_gateway_previews_total", 1.0),
        ("petrel_gateway_sign_ins_total", 2.0),
        ("petrel_gateway_refusals_total", 1.0),
        ("petrel_gateway_handshake_seconds_count", 2.0),
        ("petrel_gateway_decode_to_permit_seconds_count", 50.0),
        ("petrel_gateway_commit_to_write_seconds_count", 1.0),
        ("petrel_gateway_send_to_ack_seconds_count", 50.0),
        ("petrel_gateway_request_seconds_count", 3.0),
        ("petrel_gateway_body_decoded_bytes_total", 50.0),
        ("petrel_gateway_body_encoded_bytes_total", 50.0),
        ("petrel_storage_channel_units_max", 65_536.0),
        ("petrel_storage_batch_messages_count", 1.0),
        ("petrel_storage_commit_seconds_count", 1.0),
        ("petrel_quic_rtt_seconds_count", 1.0),
        ("petrel_quic_udp_sent_bytes", 1.0),
        ("petrel_gateway_send_queue_bytes_max", 1.0),
    ] {
        let value = scrape.sum(name, "");
        assert!(value >= least, "{name} is {value}, not {least} or more");
    }
    for name in [
        "petrel_storage_channel_units",
        "petrel_storage_channel_overflows_total",
        "petrel_gateway_send_queue_bytes",
        "petrel_gateway_resumes_total",
        "petrel_storage_duplicates_total",
    ] {
        assert!(scrape.has(name), "{name} is missing");
    }
    let mut by_name = std::collections::BTreeMap::<&str, usize>::new();
    for (name, labels, _) in scrape.series() {
        *by_name.entry(name).or_default() += 1;
        for id in names.iter().cloned().chain([alice.user().to_string(), pair.id.to_string()]) {
            assert!(!labels.contains(&format!("\"{id}\"")), "{name}{{{labels}}} names somebody");
        }
    }
    let most = by_name.iter().max_by_key(|(_, count)| **count).context("no series")?;
    assert!(*most.1 <= SERIES_MAX, "{most:?}");
    Ok(())
}

fn promtool(text: &str) -> Result<()> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool is missing; install it: apt-get install prometheus")?;
    child.stdin.take().context("no input")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool: {}", String::from_utf8_lossy(&said));
    Ok(())
}

async fn readyz_tells_the_durability_of_the_store(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    assert_eq!(gateway.get("/livez").await?.status, 200);
    assert_eq!(gateway.get("/nothing").await?.status, 404);
    let (status, told) = gateway.readyz().await?;
    assert_eq!(status, 200, "{told}");
    let storage = &told["storage"];
    assert_eq!(
        (&storage["reachable"], &storage["durable"]),
        (&true.into(), &true.into()),
        "{told}"
    );
    let settings = storage["settings"].to_string();
    for word in if gateway.storage_url.is_some() {
        ["fsync", "synchronous_commit"]
    } else {
        ["journal_mode", "synchronous"]
    } {
        assert!(settings.contains(word), "{word} is not in {told}");
    }
    Ok(())
}

async fn what_monitoring_needs_is_on_a_port_of_its_own(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&["admin.metrics_listen=0.0.0.0:0"]).await?;
    let output = gateway.output();
    let told = output.iter().find_map(|line| line.strip_prefix("listening metrics "));
    let told: SocketAddr = told.context("it does not say where")?.parse()?;
    let at = SocketAddr::from(([127, 0, 0, 1], told.port()));
    for (path, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/admin", 404),
        ("/admin/v1/openapi.json", 404),
    ] {
        assert_eq!(gateway.get_at(at, path).await?.status, status, "{path}");
    }
    let scrape = gateway.scrape().await?;
    for name in [
        "petrel_storage_reachable",
        "petrel_storage_durable",
        "petrel_process_resident_memory_bytes",
        "petrel_process_open_files",
        "petrel_process_open_files_max",
        "petrel_process_cpu_seconds",
    ] {
        assert!(scrape.sum(name, "") > 0.0, "{name}");
    }
    assert_eq!(scrape.sum("petrel_storage_commit_under_way_seconds", ""), 0.0);
    assert_eq!(scrape.sum("petrel_quic_udp_receive_drops_total", ""), 0.0);
    let until = scrape.sum("petrel_gateway_certificate_expiry_timestamp_seconds", "");
    assert!(until > 1.7e9, "{until}");
    Ok(())
}
