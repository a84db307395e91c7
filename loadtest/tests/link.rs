//! The link emulator between real sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use petrel_loadtest::link::{Link, Profile};

const WAIT: Duration = Duration::from_secs(20);

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(WAIT)).unwrap();
    socket
}

/// A server, a link in front of it, a client.
fn ends(profile: &str) -> (UdpSocket, Link, UdpSocket) {
    let server = socket();
    let profile = Profile::parse(profile).unwrap();
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let link = Link::start(&profile, listen, server.local_addr().unwrap(), 1).unwrap();
    let client = socket();
    client.connect(link.address()).unwrap();
    (server, link, client)
}

fn read(socket: &UdpSocket) -> (u64, SocketAddr) {
    let mut bytes = [0; 100];
    let (length, from) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(length, 8);
    (u64::from_be_bytes(bytes[..8].try_into().unwrap()), from)
}

#[test]
fn packets_cross_in_both_directions_in_their_order() {
    let (server, link, client) = ends("delay=1ms,jitter=1ms");
    // A hundred at a time, so that no socket overflows.
    for hundred in 0..10u64 {
        let numbers = hundred * 100..(hundred + 1) * 100;
        for n in numbers.clone() {
            client.send(&n.to_be_bytes()).unwrap();
        }
        for n in numbers.clone() {
            let (number, from) = read(&server);
            assert_eq!(number, n);
            server.send_to(&(n + 7).to_be_bytes(), from).unwrap();
        }
        for n in numbers {
            assert_eq!(read(&client).0, n + 7);
        }
    }
    // A packet is counted after it is sent.
    let counts = loop {
        let counts = link.counts();
        if (counts.up.forwarded, counts.down.forwarded) == (1_000, 1_000) {
            break counts;
        }
    };
    assert_eq!(counts.links, 1);
    assert_eq!((counts.up.bytes, counts.up.failed, counts.down.failed), (8_000, 0, 0));
}

#[test]
fn what_is_lost_doubled_and_damaged_is_counted() {
    let (server, link, client) = ends("loss=20%,duplicate=20%,corrupt=20%");
    let mut came = 0;
    for n in 0..1_000u64 {
        client.send(&n.to_be_bytes()).unwrap();
        // A few at a time, so that no socket overflows.
        while link.counts().up.packets <= n {
            std::thread::yield_now();
        }
        while came < link.counts().up.forwarded {
            read(&server);
            came += 1;
        }
    }
    let up = loop {
        let up = link.counts().up;
        if up.lost + up.forwarded == 1_000 + up.duplicated {
            break up;
        }
    };
    for part in [up.lost, up.duplicated, up.corrupted] {
        assert!((100..300).contains(&part), "{up:?}");
    }
}

#[test]
fn the_server_sees_a_new_port_or_a_new_address() {
    let (server, link, client) = ends("direct");
    let mut seen = BTreeSet::new();
    let mut hosts = BTreeSet::new();
    let cross = || {
        client.send(&1u64.to_be_bytes()).unwrap();
        let (_, from) = read(&server);
        server.send_to(&2u64.to_be_bytes(), from).unwrap();
        assert_eq!(read(&client).0, 2, "answers reach the new address");
        from
    };
    let first = cross();
    seen.insert(first);
    hosts.insert(first.ip());
    let mut last = first;
    for round in 1..=3 {
        link.rebind().unwrap();
        while link.counts().rebinds < round {
            std::thread::yield_now();
        }
        let from = cross();
        assert!(seen.insert(from) && from.ip() == last.ip(), "{from}");
        link.switch().unwrap();
        while link.counts().switches < round {
            std::thread::yield_now();
        }
        let from = cross();
        assert!(seen.insert(from) && hosts.insert(from.ip()), "{from}");
        last = from;
    }
}

#[test]
fn nothing_crosses_a_blackout() {
    let (server, link, client) = ends("direct");
    link.black_out(WAIT * 100);
    for n in 0..10u64 {
        client.send(&n.to_be_bytes()).unwrap();
    }
    while link.counts().up.blacked_out < 10 {
        std::thread::yield_now();
    }
    link.black_out(Duration::ZERO);
    client.send(&77u64.to_be_bytes()).unwrap();
    assert_eq!(read(&server).0, 77);
}
