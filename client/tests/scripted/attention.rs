//! Foreground and background, as a server sees them.

use std::time::Duration;

use petrel_client::{Attention, Client, Event};
use petrel_proto::frame;
use petrel_proto::wire::frame::What;

use crate::server::{BOB, Link, Stream, TestServer, next, welcome_offering, within};

async fn told(link: &mut Link) -> bool {
    match link.control.next().await.1 {
        What::Attention(attention) => attention.background,
        other => panic!("not an Attention: {other:?}"),
    }
}

#[tokio::test]
async fn a_server_is_told_whether_anybody_looks_also_after_a_reconnect() {
    within(async {
        let server = TestServer::start();
        let mut options = server.options();
        options.attention = Attention::Background;
        let (client, _events) = Client::start(options).await.unwrap();
        let mut link = server.sign_in_with(welcome_offering(&["background"])).await;
        assert!(link.hello.background);
        for (attention, background) in
            [(Attention::Foreground, false), (Attention::Background, true)]
        {
            client.set_attention(attention);
            assert_eq!(told(&mut link).await, background);
        }
        link.close(0);
        let mut link = server.sign_in_with(welcome_offering(&["background"])).await;
        assert!(link.hello.background);
        client.set_attention(Attention::Foreground);
        assert!(!told(&mut link).await);

        // One that does not know of it hears nothing.
        link.close(0);
        let mut link = server.sign_in_with(welcome_offering(&[])).await;
        assert!(!link.hello.background);
        client.online().await.unwrap();
        client.set_attention(Attention::Background);
        client.watch_presence(&[BOB]).unwrap();
        assert!(matches!(link.control.next().await.1, What::WatchPresence(_)));
    })
    .await;
}

#[tokio::test]
async fn in_the_background_receipts_are_gathered_and_end_their_stream() {
    within(async {
        let server = TestServer::start();
        let mut options = server.options();
        options.attention = Attention::Background;
        options.background_receipts_delay = Duration::from_millis(50);
        let (client, mut events) = Client::start(options).await.unwrap();
        let link = server.sign_in_with(welcome_offering(&["background"])).await;
        client.online().await.unwrap();
        let pair = client.pair(BOB);
        let mut stream = Stream::open(&link.connection).await;
        stream.attach(pair.id, 0, 2).await;
        stream.push(1).await;
        stream.push(2).await;
        for _ in 0..2 {
            assert!(matches!(next(&mut events).await, Event::Entry(_)));
        }
        // Taking the next one says that the last was dealt with.
        let said = async {
            match stream.next().await.1 {
                What::Receipts(said) => assert_eq!(said.members[0].delivered, 2),
                other => panic!("not Receipts: {other:?}"),
            }
            assert!(stream.try_next().await.is_none(), "nothing else keeps it open");
        };
        tokio::select! {
            () = said => {}
            other = events.next() => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn who_comes_back_says_at_once_what_was_gathered() {
    within(async {
        let server = TestServer::start();
        let mut options = server.options();
        options.attention = Attention::Background;
        options.background_receipts_delay = Duration::from_secs(3_600);
        let (client, mut events) = Client::start(options).await.unwrap();
        let mut link = server.sign_in_with(welcome_offering(&["background"])).await;
        client.online().await.unwrap();
        let mut stream = Stream::open(&link.connection).await;
        stream.attach(client.pair(BOB).id, 0, 1).await;
        stream.push(1).await;
        assert!(matches!(next(&mut events).await, Event::Entry(_)));
        assert_eq!(events.try_next(), None);
        client.set_attention(Attention::Foreground);
        assert!(!told(&mut link).await);
        assert!(matches!(stream.next().await.1, What::Receipts(_)));
    })
    .await;
}

#[tokio::test]
async fn a_silent_path_is_kept_open_as_often_as_the_state_asks_for() {
    within(async {
        let server = TestServer::start();
        let mut options = server.options();
        options.dialer = server.dialer_with(|dialer| {
            dialer.transport.keep_alive = None;
            dialer.transport.background_keep_alive = Some(Duration::from_millis(100));
        });
        let (client, _events) = Client::start(options).await.unwrap();
        let link = server.sign_in_with(welcome_offering(&["background"])).await;
        client.online().await.unwrap();
        client.set_attention(Attention::Background);
        for _ in 0..3 {
            let datagram = link.connection.read_datagram().await.unwrap();
            let (_, What::Probe(probe)) = frame::decode(datagram).unwrap() else {
                panic!("not a Probe");
            };
            assert!(probe.answer, "it wants no answer but QUIC's");
        }
    })
    .await;
}
