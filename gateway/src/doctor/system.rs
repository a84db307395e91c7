//! The machine: UDP buffers, open files, the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use petrel_storage::StoreOptions;
use socket2::{Domain, Socket, Type};

use super::Finding;
use crate::config::Config;
use crate::endpoint::SOCKET_BUFFER;

/// Descriptors besides connections to the database: sockets, files, standard streams, room.
const DESCRIPTORS: u64 = 128;
/// The clocks are watched for so long.
const CLOCK_WATCH: Duration = Duration::from_millis(200);
/// The wall clock may drift from the monotonic one by so much meanwhile.
const CLOCK_JUMP: Duration = Duration::from_millis(50);
/// 2025-01-01 and 2100-01-01: no right clock is before or after.
const SANE_S: std::ops::Range<u64> = 1_735_689_600..4_102_444_800;

/// What the kernel gives of what the endpoint asks for.
pub(super) fn udp_buffers() -> Finding {
    const CHECK: &str = "udp buffers";
    let granted = || -> std::io::Result<(usize, usize)> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
        // The kernel tells twice what it grants; the other half is for its own bookkeeping.
        Ok((socket.recv_buffer_size()? / 2, socket.send_buffer_size()? / 2))
    };
    match granted() {
        Ok((receive, send)) if receive >= SOCKET_BUFFER && send >= SOCKET_BUFFER => {
            Finding::ok(CHECK, format!("{receive} bytes to receive, {send} to send"))
        }
        Ok((receive, send)) => Finding::warn(
            CHECK,
            format!(
                "the kernel gives {receive} bytes to receive and {send} to send, not {SOCKET_BUFFER}; packets are lost in bursts"
            ),
            format!(
                "sysctl -w net.core.rmem_max={SOCKET_BUFFER} net.core.wmem_max={SOCKET_BUFFER}, and the same in /etc/sysctl.d"
            ),
        ),
        Err(error) => Finding::fail(
            CHECK,
            format!("no UDP socket can be made: {error}"),
            "see that the process may use the network",
        ),
    }
}

/// Clients share one UDP socket; those on TCP take a descriptor each, and so does the database.
pub(super) fn open_files(config: &Config) -> Finding {
    const CHECK: &str = "open files";
    let options = StoreOptions::default();
    let clients = config.gateway.connections_max.0;
    let needed = DESCRIPTORS + u64::from(options.pool_connections) + options.writers as u64;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    match limit.map(str::parse::<u64>) {
        Some(Ok(limit)) if limit < needed => Finding::fail(
            CHECK,
            format!(
                "{limit} allowed, {needed} needed (clients share one socket; the rest is the database's and our own)"
            ),
            format!("raise it: ulimit -n {needed}, or LimitNOFILE={needed} in the systemd unit"),
        ),
        Some(Ok(limit)) if config.listen_tcp().is_some() && limit < needed + clients => {
            Finding::warn(
                CHECK,
                format!(
                    "{limit} allowed, which is less than gateway.connections_max = {clients}: fewer clients fit \
                     where no UDP gets through"
                ),
                format!(
                    "raise it: ulimit -n {0}, or LimitNOFILE={0} in the systemd unit",
                    needed + clients
                ),
            )
        }
        _ => Finding::ok(
            CHECK,
            format!("{} allowed, {needed} needed", limit.unwrap_or("an unknown number")),
        ),
    }
}

/// Sanity of the wall clock; it makes the times of messages and judges tokens.
pub(super) async fn clock() -> Finding {
    const CHECK: &str = "clock";
    let wall = SystemTime::now();
    let monotonic = Instant::now();
    let seconds = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let advice =
        "run a time service (chrony, systemd-timesyncd) and let it settle before the start";
    if !SANE_S.contains(&seconds) {
        let found = format!("the clock says {seconds} s after 1970, which cannot be");
        return Finding::fail(CHECK, found, advice);
    }
    tokio::time::sleep(CLOCK_WATCH).await;
    let by_monotonic = monotonic.elapsed();
    let moved = match SystemTime::now().duration_since(wall) {
        Ok(by_wall) => by_wall.abs_diff(by_monotonic),
        Err(back) => by_monotonic + back.duration(),
    };
    if moved > CLOCK_JUMP {
        let found = format!("the clock jumped by {moved:?} while it was watched");
        return Finding::warn(CHECK, found, advice);
    }
    Finding::ok(CHECK, "plausible, and runs evenly")
}
