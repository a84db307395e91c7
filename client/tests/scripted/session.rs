//! Registering, signing in, staying signed in.

use bytes::Bytes;
use petrel_client::{
    Client, ClientError, Code, Dialer, DialerOptions, Event, OfflineReason, Server, Trust, UserId,
};
use petrel_proto::wire::{self, frame::What};

use crate::server::{ALICE, BOB, Stream, TestServer, next, now_ms, online, token, welcome, within};

#[tokio::test]
async fn registering_gives_an_identity_or_the_servers_reason() {
    within(async {
        let server = TestServer::start();
        let dialer = server.dialer();
        let serving = async {
            let connection = server.accept().await;
            let mut request = Stream::accept(&connection).await;
            let What::Register(register) = request.next().await.1 else {
                panic!("not a Register");
            };
            assert_eq!(register.user_name, "alice");
            request
                .say(What::Registered(wire::Registered {
                    user: Bytes::copy_from_slice(&ALICE.0),
                    device: Bytes::from_static(&[2; 16]),
                    device_secret: Bytes::from_static(&[3; 32]),
                }))
                .await;
            request.finish();
            connection.closed().await;
            let connection = server.accept().await;
            let mut request = Stream::accept(&connection).await;
            request.next().await;
            request.refuse(0, 20, 0).await;
            request.finish();
            connection.closed().await;
        };
        let asking = async {
            let identity = dialer.register("alice", "laptop").await.unwrap();
            assert_eq!((identity.user, *identity.secret.expose()), (ALICE, [3; 32]));
            let error = dialer.register("alice", "phone").await.unwrap_err();
            assert_eq!(error.code(), Some(Code::NameTaken));
        };
        tokio::join!(serving, asking);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_certificate_is_not_spoken_to() {
    within(async {
        let server = TestServer::start();
        let options = DialerOptions::new(
            Server::Name(server.address.to_string()),
            "localhost",
            Trust::Fingerprint([1; 32]),
        );
        let dialer = Dialer::new(options).unwrap();
        let asking = dialer.register("alice", "laptop");
        let (refused, ()) = tokio::join!(asking, server.try_accept());
        let refused = refused.unwrap_err();
        assert!(matches!(refused, ClientError::Connection(_)), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn a_client_comes_back_after_the_connection_is_lost_with_the_token_it_has() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        link.close(80);
        let Some(Event::Offline { why, retry_in }) = events.next().await else {
            panic!("not Offline");
        };
        assert_eq!(why, OfflineReason::Closed(Code::GoingAway));
        assert!(retry_in.is_some());
        client.network_changed();
        // No Login this time: the token is still good.
        let connection = server.accept().await;
        let mut control = Stream::accept(&connection).await;
        assert!(matches!(control.next().await.1, What::Hello(hello) if hello.token == "token-1"));
        control.say(welcome()).await;
        assert!(matches!(events.next().await, Some(Event::Online { user: ALICE, .. })));
        assert_eq!(client.stats().reconnects, 1);
        client.close().await;
        while events.next().await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_on_the_same_connection() {
    within(async {
        let server = TestServer::start();
        let mut options = server.options();
        options.token = Some(petrel_client::Token {
            text: "stale".to_owned(),
            expires_ms: now_ms() + 3_600_000,
        });
        let (client, _events) = Client::start(options).await.unwrap();
        let connection = server.accept().await;
        let mut control = Stream::accept(&connection).await;
        assert!(matches!(control.next().await.1, What::Hello(hello) if hello.token == "stale"));
        control.refuse(0, 61, 0).await;
        control.finish();
        let mut login = Stream::accept(&connection).await;
        assert!(matches!(login.next().await.1, What::Login(_)));
        login.say(token("fresh")).await;
        login.finish();
        let mut control = Stream::accept(&connection).await;
        assert!(matches!(control.next().await.1, What::Hello(hello) if hello.token == "fresh"));
        control.say(welcome()).await;
        client.online().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_wrong_secret_ends_the_client_with_the_reason() {
    within(async {
        let server = TestServer::start();
        let (client, mut events) = Client::start(server.options()).await.unwrap();
        let connection = server.accept().await;
        let mut login = Stream::accept(&connection).await;
        login.next().await;
        login.refuse(0, 21, 0).await;
        login.finish();
        let Some(Event::Offline { why, retry_in: None }) = events.next().await else {
            panic!("not the end");
        };
        assert!(matches!(why, OfflineReason::SignInRefused(Code::WrongSecret, _)));
        assert_eq!(events.next().await, None);
        assert_eq!(client.online().await.unwrap_err().code(), Some(Code::WrongSecret));
        let pair = client.pair(BOB);
        assert_eq!(client.send(&pair, 1, "x"), Err(petrel_client::SendError::Closed));
        connection.close(0u32.into(), b"");
    })
    .await;
}

#[tokio::test]
async fn a_newer_session_of_the_device_ends_this_one_for_good() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        link.close(83);
        assert_eq!(
            events.next().await,
            Some(Event::Offline { why: OfflineReason::Closed(Code::Superseded), retry_in: None })
        );
        assert!(client.online().await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_refresh_that_is_due_brings_a_new_token_to_the_session() {
    within(async {
        let server = TestServer::start();
        let (_client, _events, mut link) = online(&server, server.options()).await;
        link.control.say(What::RefreshDue(wire::RefreshDue {})).await;
        let mut login = link.stream().await;
        assert!(matches!(login.next().await.1, What::Login(_)));
        login.say(token("token-2")).await;
        login.finish();
        let (_, what) = link.control.next().await;
        assert!(matches!(what, What::Refresh(refresh) if refresh.token == "token-2"));
        link.control.say(token("")).await;
    })
    .await;
}

#[tokio::test]
async fn on_going_away_the_client_moves_before_it_leaves() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, mut link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let sending = client.send_and_wait(&pair, 1, "on the way");
        let serving = async {
            let (mut stream, _) = link.attached().await;
            let (frame, _) = stream.next_send().await;
            link.control
                .say(What::GoAway(wire::GoAway {
                    reconnect_after_ms_min: 1,
                    reconnect_after_ms_max: 5,
                    alternatives: Vec::new(),
                }))
                .await;
            let newer = server.sign_in().await;
            let (mut again, _) = newer.attached().await;
            let (resent, send) = again.next_send().await;
            assert_eq!((resent.id, send.again), (frame.id.clone(), true));
            // The old connection still answers.
            stream
                .write(wire::Frame {
                    number: frame.number,
                    id: frame.id,
                    seq: 1,
                    what: Some(What::Ack(wire::Ack {})),
                    ..wire::Frame::default()
                })
                .await;
            (newer, again)
        };
        let (acked, (_newer, _stream)) = tokio::join!(sending, serving);
        assert_eq!(acked.unwrap().seq, 1);
        assert!(matches!(events.next().await, Some(Event::Online { .. })));
        assert!(matches!(next(&mut events).await, Event::Acked(_)));
    })
    .await;
}

#[tokio::test]
async fn what_a_server_that_goes_names_instead_is_dialed_first() {
    within(async {
        let server = TestServer::start();
        let (_client, _events, mut link) = online(&server, server.options()).await;
        let elsewhere = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let nowhere = "no such host.invalid:1".to_owned();
        link.control
            .say(What::GoAway(wire::GoAway {
                reconnect_after_ms_min: 1,
                reconnect_after_ms_max: 5,
                alternatives: vec![nowhere, elsewhere.local_addr().unwrap().to_string()],
            }))
            .await;
        let mut first = [0; 2_048];
        let (bytes, _) = elsewhere.recv_from(&mut first).await.unwrap();
        assert!(bytes >= 1_200, "the first packet of a handshake has {bytes} bytes");
        // There is no answer, and the next dial goes where the server itself is.
        server.sign_in().await;
    })
    .await;
}

#[tokio::test]
async fn requests_are_answered_or_refused_and_tried_again_when_that_helps() {
    within(async {
        let server = TestServer::start();
        let (client, _events, link) = online(&server, server.options()).await;
        let asking = client.find_users(&["bob"], &[]);
        let serving = async {
            let mut request = link.stream().await;
            assert!(
                matches!(request.next().await.1, What::FindUsers(find) if find.names == ["bob"])
            );
            request.refuse(0, 40, 1).await;
            request.finish();
            // An answer that ends before it is complete.
            let mut request = link.stream().await;
            request.next().await;
            request.finish();
            let mut request = link.stream().await;
            request.next().await;
            request
                .say(What::UserFound(wire::UserFound {
                    user: Bytes::copy_from_slice(&BOB.0),
                    name: "bob".to_owned(),
                    ..wire::UserFound::default()
                }))
                .await;
            request.say(What::Done(wire::Done::default())).await;
            request.finish();
        };
        let (found, ()) = tokio::join!(asking, serving);
        let found = found.unwrap();
        assert_eq!((found.len(), found[0].user), (1, BOB));

        let asking = client.set_block(UserId([9; 16]), true);
        let serving = async {
            let mut request = link.stream().await;
            request.next().await;
            request.refuse(0, 14, 0).await;
            request.finish();
        };
        let (refused, ()) = tokio::join!(asking, serving);
        assert_eq!(refused.unwrap_err().code(), Some(Code::NotFound));
    })
    .await;
}
