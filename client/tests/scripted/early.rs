//! Coming back with early data, as the server sees it.

use petrel_client::{Client, ConversationRef, Event, Events};
use petrel_proto::wire::frame::What;

use crate::server::{
    ALICE, BOB, Stream, TestServer, entries, next, online, token, welcome, within,
};

/// Alice after a first visit, in which she has heard one message, attached to Bob's conversation; her
/// two messages have no answer, and the connection has ended.
async fn away(server: &TestServer) -> (Client, Events, ConversationRef) {
    let (client, mut events, link) = online(server, server.options()).await;
    let pair = client.pair(BOB);
    client.attach(&pair, None).unwrap();
    let (mut stream, _) = link.attached().await;
    stream.first_entry(pair.id, &mut events).await;
    // Asked for, so that the entry counts as dealt with.
    assert!(events.try_next().is_none());
    for text in ["one", "two"] {
        client.send(&pair, 1, text).unwrap();
        stream.next_send().await;
    }
    link.close(80);
    (client, events, pair)
}

/// A Hello, answered.
async fn hello(stream: &mut Stream) {
    let (_, what) = stream.next().await;
    assert!(matches!(what, What::Hello(_)), "{what:?}");
}

/// What a conversation's stream brings of an Attach from entry 1 and both messages again.
async fn said_again(stream: &mut Stream) {
    let What::Attach(attach) = stream.next().await.1 else { panic!("not an Attach") };
    assert_eq!(attach.cursor.unwrap().seq, 1);
    for (number, text) in [(1, "one"), (2, "two")] {
        let (frame, send) = stream.next_send().await;
        assert_eq!((frame.number, &frame.body[..], send.again), (number, text.as_bytes(), true));
    }
}

#[tokio::test]
async fn what_is_open_and_what_has_no_answer_leaves_with_the_first_flight() {
    within(async {
        let server = TestServer::start_early();
        let (client, mut events, pair) = away(&server).await;
        let connection = server.accept_early().await;
        let mut control = Stream::accept(&connection).await;
        let mut stream = Stream::accept(&connection).await;
        hello(&mut control).await;
        said_again(&mut stream).await;
        assert!(!client.stats().online);
        // The answers need not wait for Welcome, nor for each other.
        stream.attach(pair.id, 1, 2).await;
        stream.push(2).await;
        assert_eq!(entries(&mut events, 1).await, [2]);
        control.say(welcome()).await;
        client.online().await.unwrap();
        // What is said now goes on where the first flight ended.
        client.send(&pair, 1, "three").unwrap();
        let (frame, send) = stream.next_send().await;
        assert_eq!((frame.number, send.again), (3, false));
        for number in 1..=3 {
            stream.ack(number, 2 + number).await;
        }
        client.flush().await.unwrap();
        let stats = client.stats();
        assert_eq!((stats.early_accepted, stats.early_rejected), (1, 0));
        assert_eq!((stats.reconnects, stats.resends), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn what_was_not_taken_is_said_again_on_the_same_connection() {
    within(async {
        let server = TestServer::start_early();
        let (client, mut events, pair) = away(&server).await;
        server.forget();
        let connection = server.accept_early().await;
        let mut control = Stream::accept(&connection).await;
        hello(&mut control).await;
        control.say(welcome()).await;
        client.online().await.unwrap();
        let mut stream = Stream::accept(&connection).await;
        said_again(&mut stream).await;
        stream.attach(pair.id, 1, 1).await;
        stream.ack(1, 2).await;
        stream.ack(2, 3).await;
        client.flush().await.unwrap();
        let stats = client.stats();
        assert_eq!((stats.early_accepted, stats.early_rejected, stats.reconnects), (0, 1, 1));
        loop {
            match events.next().await.unwrap() {
                Event::Acked(acked) if acked.seq == 3 => break,
                Event::AttachRefused { .. } | Event::Refused(_) => panic!("refused"),
                _ => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_not_taken_early_is_replaced_after_the_handshake() {
    within(async {
        let server = TestServer::start_early();
        let (client, mut events, pair) = away(&server).await;
        let connection = server.accept_early().await;
        let mut refused = Stream::accept(&connection).await;
        let mut stream = Stream::accept(&connection).await;
        hello(&mut refused).await;
        refused.refuse(0, 60, 0).await;
        let mut login = Stream::accept(&connection).await;
        assert!(matches!(login.next().await.1, What::Login(_)));
        login.say(token("token-2")).await;
        login.finish();
        let mut control = Stream::accept(&connection).await;
        hello(&mut control).await;
        control.say(welcome()).await;
        client.online().await.unwrap();
        // The stream of the first flight has waited for the session at the server.
        said_again(&mut stream).await;
        stream.attach(pair.id, 1, 1).await;
        stream.ack(1, 2).await;
        assert!(matches!(next(&mut events).await, Event::Acked(acked) if acked.seq == 2));
    })
    .await;
}

#[tokio::test]
async fn without_a_token_or_with_the_switch_off_nothing_is_said_early() {
    within(async {
        let server = TestServer::start_early();
        let mut options = server.options();
        options.dialer = server.dialer_with(|dialer| dialer.early_data = false);
        let (client, _events, link) = online(&server, options).await;
        link.close(80);
        let _link = server.sign_in().await;
        client.online().await.unwrap();
        assert_eq!(client.stats().early_accepted, 0);

        // Another client with the TLS sessions of one before it, but without a token.
        let dialer = server.dialer();
        let options = || {
            let mut options = server.options();
            options.dialer = dialer.clone();
            options
        };
        let (client, _events, link) = online(&server, options()).await;
        assert!(link.hello.token == "token-1" && client.user() == ALICE);
        client.close().await;
        let (client, _events) = Client::start(options()).await.unwrap();
        let link = server.sign_in().await;
        client.online().await.unwrap();
        assert_eq!((&*link.hello.token, client.stats().early_accepted), ("token-1", 0));
    })
    .await;
}

/// TLS sessions are the dialer's: whoever comes next over it with a token comes early.
#[tokio::test]
async fn clients_that_share_a_dialer_share_what_coming_back_takes() {
    within(async {
        let server = TestServer::start_early();
        let dialer = server.dialer();
        let options = || {
            let mut options = server.options();
            options.dialer = dialer.clone();
            options
        };
        let (client, _events, _link) = online(&server, options()).await;
        client.close().await;
        let mut options = options();
        options.token = Some(petrel_client::Token {
            text: "token-1".to_owned(),
            expires_ms: crate::server::now_ms() + 3_600_000,
        });
        let (client, _events) = Client::start(options).await.unwrap();
        let connection = server.accept_early().await;
        let mut control = Stream::accept(&connection).await;
        hello(&mut control).await;
        control.say(welcome()).await;
        client.online().await.unwrap();
        assert_eq!(client.stats().early_accepted, 1);
    })
    .await;
}
