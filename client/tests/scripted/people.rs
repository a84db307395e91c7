//! Requests about accounts, devices, contacts and groups.

use bytes::Bytes;
use petrel_client::{
    AccountCommand, Client, ClientError, Code, ContactCommand, Event, GroupCommand, GroupProfile,
    JoinBy, LinkSecret, ListRequest, MemberSettings, OfflineReason, Password, Role, Setting,
};
use petrel_proto::wire::{self, Frame, frame::What};

use crate::server::{ALICE, BOB, Link, Stream, TestServer, online, push, token, within};

fn found(user: petrel_client::UserId) -> wire::UserFound {
    wire::UserFound {
        user: Bytes::copy_from_slice(&user.0),
        name: "somebody".to_owned(),
        ..wire::UserFound::default()
    }
}

fn group() -> wire::Group {
    wire::Group {
        conversation: Bytes::from_static(&[9; 16]),
        profile: Some(wire::GroupProfile { name: "walkers".to_owned(), ..Default::default() }),
        members: 3,
        role: 3,
        ..wire::Group::default()
    }
}

/// Answers the next request with these frames; gives what was asked.
async fn answer(link: &Link, frames: Vec<What>) -> Frame {
    let mut request = link.stream().await;
    let (mut frame, what) = request.next().await;
    frame.what = Some(what);
    for what in frames {
        request.say(what).await;
    }
    request.finish();
    frame
}

fn done() -> What {
    What::Done(wire::Done::default())
}

#[tokio::test]
async fn logging_in_with_a_password_makes_a_device_and_brings_a_token() {
    within(async {
        let server = TestServer::start();
        let registered = || {
            What::Registered(wire::Registered {
                user: Bytes::copy_from_slice(&ALICE.0),
                device: Bytes::from_static(&[4; 16]),
                device_secret: Bytes::from_static(&[6; 32]),
            })
        };
        let dialer = server.dialer();
        let password = Password::new("correct horse").unwrap();
        assert!(Password::new("short").is_err());
        assert!(!format!("{password:?}").contains("horse"));
        let asking = dialer.log_in_with_password("alice", &password, "laptop");
        let serving = async {
            let connection = server.accept().await;
            let mut request = Stream::accept(&connection).await;
            let What::LogInWithPassword(said) = request.next().await.1 else { panic!("other") };
            assert_eq!((said.user_name.as_str(), said.password.as_str()), ("alice", "correct horse"));
            request.say(registered()).await;
            request.say(token("first")).await;
            request.finish();
            connection
        };
        let (logged_in, _connection) = tokio::join!(asking, serving);
        let (identity, token) = logged_in.unwrap();
        assert_eq!((identity.user, identity.user_name.as_str()), (ALICE, "alice"));
        assert_eq!(token.text, "first");

        let asking = dialer.log_in_with_token("a.b.c", "laptop");
        let serving = async {
            let connection = server.accept().await;
            let mut request = Stream::accept(&connection).await;
            assert!(matches!(request.next().await.1, What::LogInWithToken(said) if said.token == "a.b.c"));
            request.refuse(0, 61, 0).await;
            request.finish();
            connection
        };
        let (refused, _connection) = tokio::join!(asking, serving);
        assert_eq!(refused.unwrap_err().code(), Some(Code::TokenInvalid));
    })
    .await;
}

#[tokio::test]
async fn a_revoked_device_ends_its_client_and_says_why() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        link.close(62);
        let Some(Event::Offline { why, retry_in: None }) = events.next().await else {
            panic!("it goes on");
        };
        assert_eq!(why, OfflineReason::Closed(Code::Revoked));
        assert_eq!(events.next().await, None);
        let error = client.devices().await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Revoked));
        assert!(error.to_string().contains("signed out for good"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_change_that_is_asked_again_after_a_loss_carries_the_same_id() {
    within(async {
        let server = TestServer::start();
        let (client, _events, link) = online(&server, server.options()).await;
        let asking = client.create_group(GroupProfile::new("walkers"), &[BOB]);
        let serving = async {
            let mut request = link.stream().await;
            let first = request.next().await.0.id;
            assert_eq!(first.len(), 16);
            link.close(99);
            let link = server.sign_in().await;
            let again = answer(&link, vec![What::Group(group())]).await;
            assert_eq!(again.id, first);
            link
        };
        let (made, link) = tokio::join!(asking, serving);
        let made = made.unwrap();
        assert_eq!((made.members, made.role), (3, Role::Owner));

        let (left, asked) = tokio::join!(
            client.change_group(made.conversation, GroupCommand::Leave),
            answer(&link, vec![What::Group(wire::Group { role: 0, ..group() })])
        );
        assert_eq!(left.unwrap().role, Role::Outside);
        assert!(!asked.id.is_empty());
        // What only reads has none.
        let (members, asked) = tokio::join!(
            client.members(made.conversation, Bytes::new(), 0),
            answer(
                &link,
                vec![
                    What::MemberFound(wire::MemberFound {
                        user: Some(found(BOB)),
                        role: 77,
                        muted_until_ms: 4
                    }),
                    What::Done(wire::Done { next_page: Bytes::from_static(b"more"), head: 0 }),
                ]
            )
        );
        let members = members.unwrap();
        assert_eq!(
            (members.members[0].role, members.next_page.as_ref()),
            (Role::Other(77), &b"more"[..])
        );
        assert!(asked.id.is_empty());
    })
    .await;
}

#[tokio::test]
async fn links_show_their_secret_once_and_bring_people_in() {
    within(async {
        let server = TestServer::start();
        let (client, _events, link) = online(&server, server.options()).await;
        let said = wire::Link {
            secret: Bytes::from_static(&[0xab; 32]),
            hash: Bytes::from_static(&[1; 32]),
            by: Bytes::copy_from_slice(&ALICE.0),
            ..wire::Link::default()
        };
        let conversation = petrel_client::ConversationId([9; 16]);
        let (made, _) = tokio::join!(
            client.make_link(conversation, std::time::Duration::from_secs(60), 5),
            answer(&link, vec![What::Link(said.clone())])
        );
        let secret = made.unwrap().secret.unwrap();
        assert_eq!(LinkSecret::from_text(&secret.to_text()), Some(secret));
        assert!(LinkSecret::from_text("ab").is_none());
        let (joined, asked) = tokio::join!(
            client.join_group(JoinBy::Link(secret)),
            answer(&link, vec![What::Group(wire::Group { role: 0, asked: true, ..group() })])
        );
        assert!(joined.unwrap().asked);
        assert!(matches!(asked.what, Some(What::JoinGroup(join)) if join.link == said.secret));
    })
    .await;
}

#[tokio::test]
async fn contacts_come_page_by_page_with_the_place_from_which_to_follow_the_log() {
    within(async {
        let server = TestServer::start();
        let (client, _events, link) = online(&server, server.options()).await;
        let contact = |user| {
            What::Contact(wire::Contact { user: Some(found(user)), friendship: 3, ..Default::default() })
        };
        let serving = async {
            let page = Bytes::from_static(b"2");
            let end = What::Done(wire::Done { next_page: page.clone(), head: 4 });
            answer(&link, vec![contact(BOB), end]).await;
            let end = What::Done(wire::Done { next_page: Bytes::new(), head: 9 });
            let asked = answer(&link, vec![contact(ALICE), end]).await;
            assert!(matches!(asked.what, Some(What::ListContacts(list)) if list.page == page));
            let mut request = link.stream().await;
            assert!(matches!(request.next().await.1, What::ReadHistory(read) if (read.from, read.to) == (4, 4)));
            request.push(4).await;
            request.say(done()).await;
            request.finish();
        };
        let asking = async {
            let all = client.all_contacts().await.unwrap();
            assert_eq!((all.contacts.len(), all.head), (2, 4));
            client.own_log_cursor(all.head).await.unwrap()
        };
        let (cursor, ()) = tokio::join!(asking, serving);
        assert_eq!(cursor.map(|cursor| cursor.seq), Some(4));
        let (changed, asked) = tokio::join!(
            client.change_contact(BOB, ContactCommand::Ask("it is me".to_owned())),
            answer(&link, vec![contact(BOB)])
        );
        assert!(changed.is_ok() && !asked.id.is_empty());
        let long = ContactCommand::Ask("x".repeat(257));
        assert!(matches!(client.change_contact(BOB, long).await, Err(ClientError::Invalid(_))));
    })
    .await;
}

#[tokio::test]
async fn the_account_and_what_is_set_for_conversations() {
    within(async {
        let server = TestServer::start();
        let (client, _events, link) = online(&server, server.options()).await;
        let account = wire::Account {
            user: Some(found(ALICE)),
            privacy: Some(wire::Privacy { messages: 2, groups: 1, presence: 9 }),
            has_password: true,
            settings: vec![wire::Setting { key: "k".to_owned(), value: Bytes::from_static(b"v") }],
        };
        let set = Setting { key: "k".to_owned(), value: Bytes::from_static(b"v") };
        let (changed, _) = tokio::join!(
            client.change_account(AccountCommand::Set(set.clone())),
            answer(&link, vec![What::Account(account.clone())])
        );
        let changed = changed.unwrap();
        assert_eq!((changed.settings, changed.privacy.presence.number()), (vec![set], 9));
        let settings =
            MemberSettings { silenced_until_ms: MemberSettings::FOR_GOOD_MS, ..Default::default() };
        let conversation = petrel_client::ConversationId([9; 16]);
        let (set, asked) = tokio::join!(
            client.set_conversation(conversation, settings),
            answer(&link, vec![done()])
        );
        set.unwrap();
        assert!(matches!(asked.what, Some(What::SetConversation(set))
            if set.settings.is_some_and(|s| s.silenced_until_ms == (1 << 62) - 1)));
        let (listed, asked) = tokio::join!(
            client.list_since(ListRequest { since_ms: 77, ..ListRequest::default() }),
            async {
                let mut request = link.stream().await;
                let asked = request.next().await.1;
                let summary = What::Summary(wire::Summary {
                    conversation: Bytes::from_static(&[9; 16]),
                    group: Some(group()),
                    mentions: 2,
                    ..wire::Summary::default()
                });
                request.write(Frame { what: Some(summary), ..push(3) }).await;
                request.say(done()).await;
                request.finish();
                asked
            }
        );
        assert!(matches!(asked, What::ListConversations(list) if list.since_ms == 77));
        let line = &listed.unwrap().summaries[0];
        assert_eq!((line.mentions, line.group.as_ref().map(|g| g.members)), (2, Some(3)));
        assert!(matches!(client.hide(conversation, &[1; 101]).await, Err(ClientError::Invalid(_))));
    })
    .await;
}

#[tokio::test]
async fn answers_that_are_too_much_or_too_little_are_refused_by_the_client() {
    within(async {
        let server = TestServer::start();
        let (client, _events, link) = online(&server, server.options()).await;
        let wrong = |answered: Result<(), ClientError>| {
            assert!(matches!(answered, Err(ClientError::Protocol(_))), "{answered:?}");
        };
        let named = wire::UserFound { nickname: "n".repeat(300), ..found(BOB) };
        let (got, _) = tokio::join!(
            client.find_users(&["x"], &[]),
            answer(&link, vec![What::UserFound(named)])
        );
        wrong(got.map(drop));
        let bare_group = wire::Group { profile: None, ..group() };
        let id = petrel_client::ConversationId([9; 16]);
        let (got, _) = tokio::join!(client.group(id), answer(&link, vec![What::Group(bare_group)]));
        wrong(got.map(drop));
        let (got, _) = tokio::join!(client.devices(), answer(&link, vec![What::Group(group())]));
        wrong(got.map(drop));
        let contact =
            || What::Contact(wire::Contact { user: Some(found(BOB)), ..Default::default() });
        let many = (0..201).map(|_| contact()).collect();
        let (got, _) = tokio::join!(client.contacts(Bytes::new(), 0), answer(&link, many));
        wrong(got.map(drop));
        assert!(is_online(&client));
    })
    .await;
}

fn is_online(client: &Client) -> bool {
    client.stats().online
}
