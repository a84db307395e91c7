//! Who is no gateway of the cluster gets no hearing on a link, and versions that have nothing in common part.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use petrel_proto::wire;
use petrel_tests::cluster::Stage;

use crate::link::{address_of, dial, greet, nodes};

/// Why the gateway closes a connection.
async fn closed(connection: &quinn::Connection) -> Result<String> {
    let closing = tokio::time::timeout(Duration::from_secs(10), connection.closed());
    Ok(closing.await?.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_gateway_of_the_cluster_is_not_heard() -> Result<()> {
    let stage = Stage::postgres().await?;
    let cluster = stage.cluster(2, &[]).await?;
    let nodes = nodes(&cluster.gateways[0]).await?;
    let at = address_of(&nodes, "gw-1")?;
    let ours = cluster.certificates();
    petrel_gateway::authority::make(ours, &["gw-9".to_owned()])?;
    let theirs = tempfile::tempdir()?;
    petrel_gateway::authority::make(theirs.path(), &["gw-2".to_owned()])?;
    let hello = |name: &str| wire::NodeHello {
        version_min: 1,
        version_max: 1,
        node: Bytes::from_static(&[9; 16]),
        name: name.to_owned(),
        service: "petrel".to_owned(),
    };

    // TLS 1.3 tells a client of a refused certificate after its own handshake.
    for certificate in [None, Some((theirs.path(), "gw-2"))] {
        let refused = match dial(at, "gw-1", certificate, ours).await {
            Err(_) => true,
            Ok(connection) => greet(&connection, hello("gw-2")).await.is_err(),
        };
        ensure!(refused, "{certificate:?} is believed");
    }
    let connection = dial(at, "gw-1", Some((ours, "gw-9")), ours).await?;
    ensure!(greet(&connection, hello("gw-2")).await.is_err(), "another's name is believed");
    ensure!(closed(&connection).await?.contains("another node"));

    let connection = dial(at, "gw-1", Some((ours, "gw-9")), ours).await?;
    let other = wire::NodeHello { service: "another".to_owned(), ..hello("gw-9") };
    ensure!(greet(&connection, other).await.is_err(), "another service is spoken with");
    ensure!(closed(&connection).await?.contains("service"));

    // A newer gateway that speaks our version too is answered with it; one that does not is told so.
    let connection = dial(at, "gw-1", Some((ours, "gw-9")), ours).await?;
    let newer = wire::NodeHello { version_max: 9, ..hello("gw-9") };
    ensure!(greet(&connection, newer).await? == 1);
    ensure!(
        closed(&connection).await?.contains("list of nodes"),
        "a node that is on no list is heard"
    );
    let connection = dial(at, "gw-1", Some((ours, "gw-9")), ours).await?;
    let newest = wire::NodeHello { version_min: 8, version_max: 9, ..hello("gw-9") };
    ensure!(greet(&connection, newest).await? == 0);

    // A certificate of one gateway does not speak for another run.
    let second = nodes.iter().find(|node| node["name"] == "gw-2").context("no gw-2")?;
    let id = second["node"].as_str().context("no id")?.replace('-', "");
    let id: Vec<u8> =
        (0..16).map(|n| u8::from_str_radix(&id[2 * n..2 * n + 2], 16)).collect::<Result<_, _>>()?;
    let connection = dial(at, "gw-1", Some((ours, "gw-9")), ours).await?;
    let posing = wire::NodeHello { node: id.into(), ..hello("gw-9") };
    greet(&connection, posing).await.ok();
    ensure!(closed(&connection).await?.contains("another name"));

    // Nothing of that disturbed those who belong together.
    cluster.linked(1).await
}
