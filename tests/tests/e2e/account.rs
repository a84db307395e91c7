//! Accounts: passwords, devices, what a user changes about himself.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use petrel_client::{DeviceId, Identity, Secret, UserId};
use petrel_proto::code::Code;
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, change_account, event, frame::What};
use petrel_tests::cluster::{Gateway, Stage};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw, RawOptions};

use crate::somebody::{Answered, Somebody, first, next_entry};

/// The least that a password may cost.
const CHEAP: [&str; 4] =
    ["password.memory=19MiB", "password.passes=2", "password.lanes=1", "password.name_burst=100"];

on_both_stores!(
    a_password_signs_a_new_device_in_and_a_wrong_one_tells_nothing,
    two_devices_of_one_user_receive_everything,
    a_revoked_device_is_closed_and_comes_back_with_nothing,
    a_new_password_signs_the_other_devices_out,
    a_new_password_that_is_sent_again_is_done,
    an_account_is_changed_and_its_log_tells_it,
    chat_goes_on_beside_a_flood_of_log_ins,
);

async fn ask_first(gateway: &Gateway, what: What) -> Result<Vec<What>> {
    let raw = Raw::dial(gateway, &RawOptions::default()).await?;
    Ok(raw.ask(what).await?.into_iter().map(|(_, what)| what).collect())
}

async fn register(gateway: &Gateway, name: &str, password: &str) -> Result<Answered> {
    let register = wire::Register {
        user_name: name.to_owned(),
        device_label: "laptop".to_owned(),
        password: password.to_owned(),
    };
    first(ask_first(gateway, What::Register(register)).await?)
}

async fn log_in(gateway: &Gateway, name: &str, password: &str) -> Result<Vec<What>> {
    let log_in = wire::LogInWithPassword {
        user_name: name.to_owned(),
        password: password.to_owned(),
        device_label: "phone".to_owned(),
    };
    ask_first(gateway, What::LogInWithPassword(log_in)).await
}

pub fn identity(name: &str, what: What) -> Result<Identity> {
    let What::Registered(registered) = what else { bail!("instead of Registered: {what:?}") };
    Ok(Identity {
        user: UserId::from_slice(&registered.user)?,
        user_name: name.to_owned(),
        device: DeviceId::from_slice(&registered.device)?,
        secret: Secret::new(<[u8; 32]>::try_from(registered.device_secret.as_ref())?),
    })
}

/// Registers with a password and signs in.
async fn with_password(gateway: &Gateway, name: &str, password: &str) -> Result<Somebody> {
    let registered = register(gateway, name, password).await?.unwrap();
    Somebody::signed_in(gateway, identity(name, registered)?).await
}

/// Signs one more device of the same user in, by its password.
async fn another(gateway: &Gateway, name: &str, password: &str) -> Result<Somebody> {
    let registered = first(log_in(gateway, name, password).await?)?.unwrap();
    Somebody::signed_in(gateway, identity(name, registered)?).await
}

async fn a_password_signs_a_new_device_in_and_a_wrong_one_tells_nothing(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&CHEAP).await?;
    assert_eq!(register(&gateway, "alice", "short").await?, Err(Code::Invalid));
    assert_eq!(register(&gateway, "alice", &"p".repeat(257)).await?, Err(Code::Invalid));
    let alice = with_password(&gateway, "alice", "correct horse").await?;
    let without = Somebody::new(&gateway, "bob").await?;
    let mut log = alice.own_log().await?;

    let answers = log_in(&gateway, "alice", "correct horse").await?;
    let [What::Registered(_), What::Token(token)] = &answers[..] else { bail!("{answers:?}") };
    let raw = Raw::dial(&gateway, &RawOptions::default()).await?;
    let mut control = raw.open().await?;
    control.write(bare(What::Hello(raw::hello(&token.token)))).await?;
    let welcome = control.next().await?.context("no Welcome")?;
    ensure!(matches!(welcome.1, What::Welcome(_)), "{welcome:?}");
    let new = identity("alice", answers[0].clone())?;
    assert_eq!(new.user, alice.user());
    match next_entry(&mut log).await? {
        (frame, Some(event::What::DeviceAdded(added))) => {
            assert_eq!((&added.device[..], added.label.as_str()), (&new.device.0[..], "phone"));
            assert_eq!(frame.entry_kind, 66);
        }
        other => bail!("{other:?}"),
    }

    let mut refused = Vec::new();
    for (name, password) in
        [("alice", "wrong horse"), ("nobody", "correct horse"), ("bob", "correct horse")]
    {
        refused.extend(log_in(&gateway, name, password).await?);
    }
    let [What::Refusal(a), What::Refusal(b), What::Refusal(c)] = &refused[..] else {
        bail!("{refused:?}")
    };
    assert_eq!(a.code, Code::WrongSecret.number());
    assert!(a == b && b == c, "{refused:?}");
    drop(without);
    assert!(gateway.metric("petrel_gateway_log_ins_total", "wrong_secret").await? >= 3.0);
    Ok(())
}

async fn two_devices_of_one_user_receive_everything(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let add = What::AddDevice(wire::AddDevice { label: "phone".to_owned() });
    let made = identity("bob", bob.ask(add).await?.unwrap())?;
    assert_eq!(made.user, bob.user());
    let phone = Somebody::signed_in(&gateway, made).await?;
    let long = What::AddDevice(wire::AddDevice { label: "l".repeat(65) });
    assert_eq!(bob.ask(long).await?, Err(Code::Invalid));

    let attach = |me: &Somebody, peer: &Somebody| raw::attach(me.user(), peer.user());
    let (mut sending, _) = alice.raw.attach(attach(&alice, &bob)).await?;
    let (mut on_laptop, _) = bob.raw.attach(attach(&bob, &alice)).await?;
    let (mut on_phone, _) = phone.raw.attach(attach(&phone, &alice)).await?;
    for number in 1..=3 {
        let id = raw::message_id(raw::now_ms());
        sending.write(raw::send(number, id, format!("m{number}").as_bytes())).await?;
        sending.ack().await?;
    }
    // What one device of his sends the other one gets as well.
    on_laptop.write(raw::send(1, raw::message_id(raw::now_ms()), b"m4")).await?;
    on_laptop.ack().await?;
    for seq in 1..=4 {
        let (frame, _) = next_entry(&mut on_phone).await?;
        assert_eq!((frame.seq, &frame.body[..]), (seq, format!("m{seq}").as_bytes()));
    }
    let devices = devices(&bob).await?;
    let labels: Vec<_> = devices.iter().map(|d| (d.label.as_str(), d.own)).collect();
    assert_eq!(labels, [("test", true), ("phone", false)]);
    Ok(())
}

async fn devices(of: &Somebody) -> Result<Vec<wire::DeviceFound>> {
    let mut found = Vec::new();
    for answer in of.ask_all(What::ListDevices(wire::ListDevices {})).await? {
        match answer {
            What::DeviceFound(device) => found.push(device),
            What::Done(_) => return Ok(found),
            other => bail!("{other:?}"),
        }
    }
    bail!("no end")
}

fn revoke(device: &[u8]) -> What {
    What::RevokeDevice(wire::RevokeDevice { device: Bytes::copy_from_slice(device) })
}

async fn a_revoked_device_is_closed_and_comes_back_with_nothing(stage: Stage) -> Result<()> {
    let mut gateway = stage.gateway(&CHEAP).await?;
    let alice = with_password(&gateway, "alice", "correct horse").await?;
    let phone = another(&gateway, "alice", "correct horse").await?;
    let stranger = Somebody::new(&gateway, "bob").await?;
    let mut log = alice.own_log().await?;
    next_entry(&mut log).await?;
    let token = phone.raw.log_in(&phone.identity).await?;
    let device = phone.identity.device.0;
    assert_eq!(stranger.ask(revoke(&device)).await?, Err(Code::NotFound));
    assert_eq!(alice.ask(revoke(&device[..15])).await?, Err(Code::Invalid));

    assert!(matches!(alice.ask(revoke(&device)).await?, Ok(What::Done(_))));
    assert_eq!(phone.raw.closed_with().await?, Code::Revoked);
    match next_entry(&mut log).await? {
        (_, Some(event::What::DevicesRevoked(revoked))) => assert_eq!(&revoked.device[..], device),
        other => bail!("{other:?}"),
    }
    // Again is no error, and changes nothing.
    assert!(matches!(alice.ask(revoke(&device)).await?, Ok(What::Done(_))));
    assert_eq!(devices(&alice).await?.len(), 1);

    for restarted in [false, true] {
        if restarted {
            gateway.terminate().await?;
            gateway.restart().await?;
        }
        let raw = Raw::dial(&gateway, &RawOptions::default()).await?;
        let login = wire::Login {
            device: Bytes::copy_from_slice(&device),
            device_secret: Bytes::copy_from_slice(phone.identity.secret.expose()),
        };
        let answers = raw.ask(What::Login(login)).await?.into_iter().map(|(_, what)| what);
        assert_eq!(first(answers.collect())?, Err(Code::Revoked));
        // Its token would be good for a while.
        let mut control = raw.open().await?;
        control.write(bare(What::Hello(raw::hello(&token)))).await?;
        assert_eq!(control.refusal().await?.code, Code::Revoked);
    }
    Ok(())
}

async fn a_new_password_signs_the_other_devices_out(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&CHEAP).await?;
    let alice = with_password(&gateway, "alice", "correct horse").await?;
    let phone = another(&gateway, "alice", "correct horse").await?;
    let change = |old: &str, new: &str, revoke_others| {
        What::ChangePassword(wire::ChangePassword {
            old: old.to_owned(),
            new: new.to_owned(),
            revoke_others,
        })
    };
    let wrong = alice.ask(change("wrong horse", "battery staple", true)).await?;
    assert_eq!(wrong, Err(Code::WrongSecret));
    assert_eq!(alice.ask(change("", "battery staple", true)).await?, Err(Code::WrongSecret));
    assert_eq!(alice.ask(change("correct horse", "short", true)).await?, Err(Code::Invalid));
    let done = alice.ask(change("correct horse", "battery staple", true)).await?;
    assert!(matches!(done, Ok(What::Done(_))), "{done:?}");
    assert_eq!(phone.raw.closed_with().await?, Code::Revoked);
    let old = first(log_in(&gateway, "alice", "correct horse").await?)?;
    assert_eq!(old, Err(Code::WrongSecret));
    another(&gateway, "alice", "battery staple").await?;

    // Who has no password yet sets a first one.
    let bob = Somebody::new(&gateway, "bob").await?;
    assert!(bob.ask(change("", "tr0ub4dor&3", false)).await?.is_ok());
    another(&gateway, "bob", "tr0ub4dor&3").await?;
    Ok(())
}

async fn a_new_password_that_is_sent_again_is_done(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&CHEAP).await?;
    let alice = with_password(&gateway, "alice", "correct horse").await?;
    let change = |old: &str, new: &str, revoke_others| {
        What::ChangePassword(wire::ChangePassword {
            old: old.to_owned(),
            new: new.to_owned(),
            revoke_others,
        })
    };
    let id = raw::message_id(raw::now_ms());
    for _ in 0..2 {
        let answers = alice.ask_named(id, change("correct horse", "battery staple", false)).await?;
        assert!(matches!(first(answers)?, Ok(What::Done(_))));
    }
    // As a client does that gives the request no name; whatever was asked for is done.
    let phone = another(&gateway, "alice", "battery staple").await?;
    let again = alice.ask(change("correct horse", "battery staple", true)).await?;
    assert!(matches!(again, Ok(What::Done(_))), "{again:?}");
    assert_eq!(phone.raw.closed_with().await?, Code::Revoked);
    // Neither the one in force nor the one before proves anything beside another new one.
    let wrong = alice.ask(change("correct horse", "tr0ub4dor&3", false)).await?;
    assert_eq!(wrong, Err(Code::WrongSecret));

    let bob = Somebody::new(&gateway, "bob").await?;
    for _ in 0..2 {
        assert!(bob.ask(change("", "first of all", false)).await?.is_ok());
    }
    Ok(())
}

async fn an_account_is_changed_and_its_log_tells_it(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let mut log = alice.own_log().await?;
    let change = |what| What::ChangeAccount(wire::ChangeAccount { what: Some(what) });
    let person = wire::Person { nickname: "Alice".to_owned(), avatar: "a/1".to_owned() };
    alice.ask(change(change_account::What::Person(person))).await?.unwrap();
    let privacy = wire::Privacy { messages: 2, groups: 1, presence: 3 };
    alice.ask(change(change_account::What::Privacy(privacy))).await?.unwrap();
    let theme = wire::Setting { key: "theme".to_owned(), value: Bytes::from_static(b"dark") };
    let answer = alice.ask(change(change_account::What::Set(theme.clone()))).await?;
    let Ok(What::Account(account)) = answer else { bail!("{answer:?}") };
    assert_eq!(account.user.clone().unwrap_or_default().nickname, "Alice");
    assert_eq!((account.privacy, account.has_password), (Some(privacy), false));
    assert_eq!(account.settings, [theme]);
    let again = alice.ask(What::GetAccount(wire::GetAccount {})).await?;
    assert_eq!(again, Ok(What::Account(account)));
    alice.ask(change(change_account::What::Unset("theme".to_owned()))).await?.unwrap();

    let bad = wire::Privacy { messages: 4, groups: 1, presence: 1 };
    let bad = alice.ask(change(change_account::What::Privacy(bad))).await?;
    assert_eq!(bad, Err(Code::Invalid));
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(match next_entry(&mut log).await?.1 {
            Some(event::What::AccountChanged(c)) => {
                (c.nickname, c.privacy.unwrap_or_default().messages)
            }
            Some(event::What::SettingChanged(c)) => (c.key, u32::from(c.removed)),
            other => bail!("{other:?}"),
        });
    }
    let expected = [("Alice", 1), ("Alice", 2), ("theme", 0), ("theme", 1)];
    assert_eq!(told, expected.map(|(text, n)| (text.to_owned(), n)));
    Ok(())
}

async fn chat_goes_on_beside_a_flood_of_log_ins(stage: Stage) -> Result<()> {
    let mut settings = CHEAP.to_vec();
    settings.extend([
        "password.queue=2",
        "password.threads=1",
        "password.tries_burst=10000",
        "password.name_burst=10000",
    ]);
    let gateway = stage.gateway(&settings).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let (mut sending, _) = alice.raw.attach(raw::attach(alice.user(), bob.user())).await?;
    let raw = Raw::dial(&gateway, &RawOptions::default()).await?;
    let flood = async {
        let mut codes = Vec::new();
        for _ in 0..5 {
            let asking = (0..12).map(|_| {
                raw.ask(What::LogInWithPassword(wire::LogInWithPassword {
                    user_name: "alice".to_owned(),
                    password: "wrong horse".to_owned(),
                    device_label: String::new(),
                }))
            });
            for answers in futures_util::future::try_join_all(asking).await? {
                let answers = answers.into_iter().map(|(_, what)| what).collect();
                codes.push(first(answers)?.unwrap_err());
            }
        }
        anyhow::Ok(codes)
    };
    let chat = async {
        for number in 1..=50 {
            sending.write(raw::send(number, raw::message_id(raw::now_ms()), b"hello")).await?;
            assert_eq!(sending.ack().await?, number);
        }
        anyhow::Ok(())
    };
    let (codes, chatted) = tokio::join!(flood, chat);
    chatted?;
    let codes = codes?;
    assert!(codes.iter().all(|code| matches!(code, Code::WrongSecret | Code::Overloaded)));
    assert!(codes.contains(&Code::Overloaded) && codes.contains(&Code::WrongSecret), "{codes:?}");
    assert!(gateway.metric("petrel_gateway_passwords_overflows_total", "").await? >= 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_one_gateway_revokes_is_closed_by_the_other_one() -> Result<()> {
    let stage = Stage::postgres().await?;
    let one = stage.gateway(&[]).await?;
    let two = one.beside(&[]).await?;
    let alice = Somebody::new(&one, "alice").await?;
    let add = What::AddDevice(wire::AddDevice { label: "phone".to_owned() });
    let made = identity("alice", alice.ask(add).await?.unwrap())?;
    let phone = Somebody::signed_in(&two, made).await?;
    assert!(alice.ask(revoke(&[])).await?.is_ok());
    assert_eq!(phone.raw.closed_with().await?, Code::Revoked);
    Ok(())
}
