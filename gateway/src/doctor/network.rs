//! Ports: free, or in use by a gateway that answers; and whether UDP gets through.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::Finding;
use crate::config::Config;

/// How long an answer on this machine may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// An answer of `/readyz` is shorter.
const READYZ_BYTES_MAX: u64 = 64 * 1024;
/// The least that a QUIC server looks at (RFC 9000 §14.1).
const PROBE_BYTES: usize = 1_200;

/// The admin port, the QUIC port, and a packet to it.
pub(super) async fn ports(config: &Config) -> Vec<Finding> {
    let (admin, is_running) = admin_port(config.admin.listen).await;
    let (quic, is_free) = quic_port(config.gateway.listen, is_running).await;
    let mut found = vec![admin, quic];
    if let Some(listen) = config.listen_tcp() {
        found.push(tcp_port(listen, is_running).await);
    }
    if let Some(is_free) = is_free {
        found.push(loopback(config.gateway.listen, is_free).await);
    }
    found
}

/// Also: whether a gateway answers there.
async fn admin_port(listen: SocketAddr) -> (Finding, bool) {
    const CHECK: &str = "admin port";
    match TcpListener::bind(listen).await {
        Ok(_) => (Finding::ok(CHECK, format!("{listen} is free")), false),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match readyz(listen).await {
            Some((200, _)) => {
                (Finding::ok(CHECK, format!("a gateway serves at {listen} and is ready")), true)
            }
            Some((_, told)) => (
                Finding::warn(
                    CHECK,
                    format!("the gateway at {listen} is not ready: {told}"),
                    "see its log, and the storage in the answer",
                ),
                true,
            ),
            None => (
                Finding::fail(
                    CHECK,
                    format!("{listen} is in use by another program"),
                    "stop it, or set admin.listen to another port",
                ),
                false,
            ),
        },
        Err(error) => {
            (Finding::fail(CHECK, format!("{listen}: {error}"), "set admin.listen"), false)
        }
    }
}

/// Status and answer, if a gateway answers.
async fn readyz(address: SocketAddr) -> Option<(u16, serde_json::Value)> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = "GET /readyz HTTP/1.1\r\nHost: doctor\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(READYZ_BYTES_MAX).read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let told: serde_json::Value = serde_json::from_str(body).ok()?;
        told.get("ready").is_some().then_some((status, told))
    };
    tokio::time::timeout(ANSWER_WITHIN, asking).await.ok().flatten()
}

/// Also: whether it is free (`None`: it cannot be used, so nothing is sent to it).
async fn quic_port(listen: SocketAddr, is_running: bool) -> (Finding, Option<bool>) {
    const CHECK: &str = "quic port";
    match UdpSocket::bind(listen).await {
        Ok(_) => (Finding::ok(CHECK, format!("{listen} is free")), Some(true)),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_running => {
            (Finding::ok(CHECK, format!("{listen} is in use by the running gateway")), Some(false))
        }
        Err(error) => (
            Finding::fail(
                CHECK,
                format!("{listen} cannot be used: {error}"),
                "stop what uses it, or set gateway.listen",
            ),
            None,
        ),
    }
}

/// Where clients come whose network lets no UDP through.
async fn tcp_port(listen: SocketAddr, is_running: bool) -> Finding {
    const CHECK: &str = "tcp port";
    match TcpListener::bind(listen).await {
        Ok(_) => Finding::ok(CHECK, format!("{listen} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_running => {
            Finding::ok(CHECK, format!("{listen} is in use by the running gateway"))
        }
        Err(error) => Finding::fail(
            CHECK,
            format!("{listen} cannot be used: {error}"),
            "stop what uses it, or set gateway.listen_tcp (to \"off\" to do without)",
        ),
    }
}

/// Whether a packet to the port comes through on this machine: to ourselves if it is free, else
/// to the gateway, which answers an unknown version of QUIC (RFC 9000 §6.1).
async fn loopback(listen: SocketAddr, is_free: bool) -> Finding {
    const CHECK: &str = "udp loopback";
    let local = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let target = SocketAddr::new(local, listen.port());
    let asking = async {
        let from = UdpSocket::bind(SocketAddr::new(local, 0)).await?;
        let mut answer = [0; PROBE_BYTES];
        if is_free {
            let own = UdpSocket::bind(listen).await?;
            let target = SocketAddr::new(local, own.local_addr()?.port());
            from.send_to(&probe(), target).await?;
            return Ok(own.recv(&mut answer).await? == PROBE_BYTES);
        }
        from.connect(target).await?;
        from.send(&probe()).await?;
        let length = from.recv(&mut answer).await?;
        // A long header, version 0: version negotiation.
        Ok::<_, std::io::Error>(length > 5 && answer[0] & 0x80 != 0 && answer[1..5] == [0; 4])
    };
    let advice = "see the packet filter (nft list ruleset, iptables -S) for UDP to this port";
    match tokio::time::timeout(ANSWER_WITHIN, asking).await {
        Ok(Ok(true)) if is_free => Finding::ok(CHECK, format!("a packet to {target} arrives")),
        Ok(Ok(true)) => Finding::ok(CHECK, format!("the gateway at {target} answers QUIC")),
        Ok(Ok(false)) => {
            Finding::fail(CHECK, format!("what answers at {target} is not QUIC"), advice)
        }
        Ok(Err(error)) => Finding::fail(CHECK, format!("{target}: {error}"), advice),
        Err(_) => Finding::fail(
            CHECK,
            format!("a packet to {target} got no answer within {ANSWER_WITHIN:?}"),
            advice,
        ),
    }
}

/// The first packet of a connection in a version that is reserved for this (RFC 9000 §15).
fn probe() -> [u8; PROBE_BYTES] {
    let mut packet = [0; PROBE_BYTES];
    // Long header, version, two connection ids of 8 bytes.
    packet[..6].copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8]);
    packet[6..14].copy_from_slice(b"petrel-d");
    packet[14] = 8;
    packet[15..23].copy_from_slice(b"petrel-s");
    packet
}
