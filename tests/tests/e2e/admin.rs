//! The admin API and `petrel admin`: one table of commands, over HTTP and on the command line.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use petrel_client::{DeviceId, Identity, Secret, UserId};
use petrel_proto::code::Code;
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, change_account, event, frame::What};
use petrel_tests::cluster::{Gateway, PATIENCE, Stage, eventually};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw, RawOptions};
use serde_json::{Value, json};

use crate::operator::{Operator, http};
use crate::somebody::{Somebody, next_entry};

/// The least that a password may cost.
const CHEAP: [&str; 3] = ["password.memory=19MiB", "password.passes=2", "password.lanes=1"];

on_both_stores!(
    what_an_operator_makes_can_sign_in_and_what_he_revokes_cannot,
    an_operator_lists_all_accounts_page_by_page,
    an_operator_looks_after_groups_as_their_owner,
    a_message_of_the_service_reaches_a_user_and_a_group,
    nobody_gets_in_without_the_token,
    what_is_wrong_with_a_command_is_named,
    the_command_line_does_what_the_api_does,
);

fn bytes_of(hex: &Value) -> Result<Vec<u8>> {
    let hex = hex.as_str().context("no text")?;
    (0..hex.len() / 2).map(|n| Ok(u8::from_str_radix(&hex[2 * n..2 * n + 2], 16)?)).collect()
}

fn identity(made: &Value) -> Result<Identity> {
    let secret = bytes_of(&made["device_secret"])?;
    Ok(Identity {
        user: UserId::from_slice(&bytes_of(&made["id"])?)?,
        user_name: made["user"].as_str().context("no name")?.to_owned(),
        device: DeviceId::from_slice(&bytes_of(&made["device"])?)?,
        secret: Secret::new(secret.try_into().ok().context("the secret has another length")?),
    })
}

async fn log_in(gateway: &Gateway, name: &str, password: &str) -> Result<Option<Code>> {
    let raw = Raw::dial(gateway, &RawOptions::default()).await?;
    let log_in = wire::LogInWithPassword {
        user_name: name.to_owned(),
        password: password.to_owned(),
        device_label: "phone".to_owned(),
    };
    let answers = raw.ask(What::LogInWithPassword(log_in)).await?;
    let (_, first) = answers.into_iter().next().context("no answer")?;
    Ok(crate::somebody::first(vec![first])?.err())
}

async fn what_an_operator_makes_can_sign_in_and_what_he_revokes_cannot(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&CHEAP).await?;
    let operator = Operator::new(&gateway).await?;
    let arguments = json!({ "user": "alice", "password": "correct horse", "nickname": "Alice" });
    let made = operator.done("users/create", arguments).await?;
    let alice = Somebody::signed_in(&gateway, identity(&made)?).await?;
    assert_eq!(log_in(&gateway, "alice", "correct horse").await?, None);
    let taken = operator.refused("users/create", json!({ "user": "alice" })).await?;
    assert_eq!((taken.0, taken.1.as_str()), (409, "name_taken"));

    // A token is good at once, for a new device.
    let issued =
        operator.done("tokens/issue", json!({ "user": "alice", "label": "kiosk" })).await?;
    let raw = Raw::dial(&gateway, &RawOptions::default()).await?;
    let mut control = raw.open().await?;
    let token = issued["token"].as_str().context("no token")?;
    control.write(bare(What::Hello(raw::hello(token)))).await?;
    let (_, What::Welcome(welcome)) = control.next().await?.context("no Welcome")? else {
        bail!("no Welcome")
    };
    assert_eq!(welcome.user[..], alice.user().0);
    let shown = operator.done("users/show", json!({ "user": "alice" })).await?;
    assert_eq!((&shown["devices"], &shown["sessions"]), (&json!(3), &json!(2)));
    assert_eq!((&shown["nickname"], &shown["has_password"]), (&json!("Alice"), &json!(true)));
    let count = operator.done("sessions/count", json!({})).await?;
    assert_eq!((&count["sessions"], &count["users"]), (&json!(2), &json!(1)));
    let listed = operator.done("devices/list", json!({ "user": "alice" })).await?;
    let labels: Vec<_> =
        listed["devices"].as_array().into_iter().flatten().map(|d| d["label"].clone()).collect();
    assert_eq!(labels, ["admin", "phone", "kiosk"]);

    let one = json!({ "user": "alice", "device": issued["device"] });
    assert_eq!(operator.done("devices/revoke", one.clone()).await?["devices"], 2);
    assert_eq!(raw.closed_with().await?, Code::Revoked);
    assert_eq!(operator.done("devices/revoke", one).await?["devices"], 2, "again, the same");
    let bob = Somebody::new(&gateway, "bob").await?;
    let foreign = json!({ "user": "alice", "device": uuid(&bob.identity.device.0) });
    assert_eq!(operator.refused("devices/revoke", foreign).await?.0, 404);

    let password = json!({ "user": "alice", "password": "battery staple", "revoke": true });
    operator.done("users/set-password", password).await?;
    assert_eq!(alice.raw.closed_with().await?, Code::Revoked);
    assert_eq!(log_in(&gateway, "alice", "correct horse").await?, Some(Code::WrongSecret));
    assert_eq!(log_in(&gateway, "alice", "battery staple").await?, None);
    let all = json!({ "user": "alice", "all": true });
    assert_eq!(operator.done("devices/revoke", all).await?["devices"], 0);

    // The log says what was done, a moment after the answer, and tells no secret.
    let logged = || async {
        let audit = gateway.output().into_iter().filter(|line| line.contains("petrel::audit"));
        let audit: Vec<String> = audit.collect();
        let of = |command: &str| audit.iter().filter(|line| line.contains(command)).count();
        let commands = ["users create", "users set-password", "users show", "devices revoke"];
        Ok((commands.map(of) == [2, 1, 0, 4]).then_some(()))
    };
    eventually(PATIENCE, "an audit log of all that was done", logged).await?;
    for secret in ["correct horse", "battery staple", token, &operator.token] {
        assert!(!gateway.output().iter().any(|line| line.contains(secret)), "a secret in the log");
    }
    let calls = |labels| gateway.metric("petrel_gateway_admin_calls_total", labels);
    assert!(calls(r#"command="users create",result="ok""#).await? >= 1.0);
    assert!(calls(r#"command="users create",result="name_taken""#).await? >= 1.0);
    Ok(())
}

fn uuid(bytes: &[u8; 16]) -> String {
    uuid::Uuid::from_bytes(*bytes).simple().to_string()
}

async fn an_operator_lists_all_accounts_page_by_page(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let operator = Operator::new(&gateway).await?;
    let mut names = vec!["carol", "a-b", "ab", "a.b", "a_b", "bob", "0x"];
    for name in &names {
        operator.done("users/create", json!({ "user": name })).await?;
    }
    names.sort_unstable();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let mut page = json!({ "limit": 2 });
        if !after.is_empty() {
            page["after"] = json!(after);
        }
        let answer = operator.done("users/list", page).await?;
        let users = answer["users"].as_array().context("no list")?;
        seen.extend(users.iter().filter_map(|user| user["user"].as_str()).map(str::to_owned));
        if answer["more"] == false {
            break;
        }
        after = seen.last().context("an empty page that is not the last")?.clone();
    }
    assert_eq!(seen, names);
    Ok(())
}

async fn an_operator_looks_after_groups_as_their_owner(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let operator = Operator::new(&gateway).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let shy = Somebody::new(&gateway, "shy").await?;
    let privacy = wire::Privacy { messages: 1, groups: 3, presence: 1 };
    let change = wire::ChangeAccount { what: Some(change_account::What::Privacy(privacy)) };
    shy.ask(What::ChangeAccount(change)).await?.unwrap();

    let arguments = json!({ "owner": "alice", "title": "climbers", "users": ["shy"] });
    let made = operator.done("groups/create", arguments).await?;
    assert_eq!((&made["members"], &made["refused"]), (&json!(1), &json!(["shy"])));
    let group = made["group"].clone();
    let added = json!({ "group": group, "users": ["bob", "shy"] });
    let answer = operator.done("groups/add", added.clone()).await?;
    assert_eq!((&answer["members"], &answer["refused"]), (&json!(2), &json!(["shy"])));
    let nobody =
        operator.refused("groups/add", json!({ "group": group, "users": ["shy"] })).await?;
    assert_eq!((nobody.0, nobody.1.as_str()), (409, "not_accepted"));

    // The members see what happened, as done by the owner.
    let id = Bytes::from(bytes_of(&group)?);
    let mut stream = alice.open(&id).await?;
    next_entry(&mut stream).await?;
    match next_entry(&mut stream).await? {
        (frame, Some(event::What::MembersAdded(said))) => {
            assert_eq!((&frame.sender, said.users), (&alice.id(), vec![bob.id()]));
        }
        other => bail!("{other:?}"),
    }
    let page = operator.done("groups/show", json!({ "group": group, "limit": 1 })).await?;
    assert_eq!((&page["title"], &page["members"]), (&json!("climbers"), &json!(2)));
    assert_eq!(page["more"], true);
    let first = &page["page"][0];
    let rest = json!({ "group": group, "limit": 2, "after": first["id"] });
    let rest = operator.done("groups/show", rest).await?;
    let mut roles = [first, &rest["page"][0]].map(|line| {
        (line["user"].as_str().unwrap_or_default(), line["role"].as_str().unwrap_or_default())
    });
    roles.sort_unstable();
    assert_eq!(roles, [("alice", "owner"), ("bob", "member")]);

    let removed = json!({ "group": group, "users": ["bob"] });
    assert_eq!(operator.done("groups/remove", removed).await?["members"], 1);
    match next_entry(&mut stream).await? {
        (_, Some(event::What::MembersLeft(said))) => assert_eq!(said.users, [bob.id()]),
        other => bail!("{other:?}"),
    }
    let owner = json!({ "group": group, "users": ["alice"] });
    let owner = operator.refused("groups/remove", owner).await?;
    assert_eq!(owner, (400, "invalid".to_owned(), "users".to_owned()));
    let unknown =
        operator.refused("groups/add", json!({ "group": group, "users": ["zoe"] })).await?;
    assert_eq!(unknown, (404, "not_found".to_owned(), "users".to_owned()));
    let none = operator.refused("groups/show", json!({ "group": "0".repeat(32) })).await?;
    assert_eq!(none, (404, "not_found".to_owned(), "group".to_owned()));
    Ok(())
}

async fn a_message_of_the_service_reaches_a_user_and_a_group(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&["admin.system_name=herald"]).await?;
    let operator = Operator::new(&gateway).await?;
    // Nobody speaks in its name.
    let register = gateway.dialer()?.register("herald", "test").await;
    assert_eq!(register.map(drop).map_err(|e| e.code()), Err(Some(Code::NameTaken)));
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let system = petrel_core::id::UserId::of_system();
    let id = Bytes::copy_from_slice(system.as_bytes());

    let to_alice = json!({ "user": "alice", "text": "back at ten\nsharp" });
    let sent = operator.done("messages/send", to_alice.clone()).await?;
    assert_eq!(sent["seq"], 1);
    let pair = Bytes::from(bytes_of(&sent["conversation"])?);
    let history = alice.history(&pair, 1).await?;
    let [(frame, What::Push(_)), (_, What::Done(_))] = &history[..] else { bail!("{history:?}") };
    assert_eq!((frame.entry_kind, frame.count, &frame.sender), (8, 1, &id));
    assert_eq!(&frame.body[..], b"back at ten\nsharp");
    let list = alice.ask(What::ListConversations(wire::ListConversations::default())).await?;
    let Ok(What::Summary(line)) = list else { bail!("{list:?}") };
    let peer = line.peer.clone().unwrap_or_default();
    assert_eq!((line.unread, peer.name.as_str(), peer.user), (1, "herald", id.clone()));

    // Live, behind what was there; and in a group.
    let mut stream = alice.open(&pair).await?;
    next_entry(&mut stream).await?;
    assert_eq!(operator.done("messages/send", to_alice.clone()).await?["seq"], 2);
    assert_eq!(next_entry(&mut stream).await?.0.seq, 2);
    let group = alice.create(crate::somebody::named("climbers"), &[&bob]).await?;
    let mut live = bob.open(&group).await?;
    next_entry(&mut live).await?;
    let hex: String = group.iter().map(|byte| format!("{byte:02x}")).collect();
    operator.done("messages/send", json!({ "group": hex, "text": "welcome" })).await?;
    let (frame, _) = next_entry(&mut live).await?;
    assert_eq!((frame.seq, frame.entry_kind, &frame.sender), (2, 8, &id));
    assert_eq!(&frame.body[..], b"welcome");

    // People can neither send such a message nor change one; who wants no more gets none.
    stream.write(crate::somebody::change(1, 8, 0, b"fake")).await?;
    assert_eq!(stream.refusal().await?.code, Code::Invalid);
    assert!(alice.ask(raw::block(id, true)).await?.is_ok());
    assert_eq!(operator.refused("messages/send", to_alice).await?.1, "blocked");
    for (arguments, field) in [
        (json!({ "text": "x" }), "user"),
        (json!({ "text": "x", "user": "alice", "group": hex }), "user"),
        (json!({ "text": "", "user": "alice" }), "text"),
        (json!({ "text": "x".repeat(4097), "user": "alice" }), "text"),
        (json!({ "text": "x", "user": "herald" }), "user"),
        (json!({ "text": "x", "group": "0".repeat(32) }), "group"),
        // A pair is no group.
        (json!({ "text": "x", "user": "zoe" }), "user"),
    ] {
        assert_eq!(
            operator.refused("messages/send", arguments.clone()).await?.2,
            field,
            "{arguments}"
        );
    }
    Ok(())
}

async fn nobody_gets_in_without_the_token(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let operator = Operator::new(&gateway).await?;
    let json_head = "Content-Type: application/json\r\n";
    let with = |token: &str| format!("Authorization: Bearer {token}\r\n{json_head}");
    let mut statuses = Vec::new();
    for head in [
        json_head.to_owned(),
        with(""),
        with("wrong"),
        with(&operator.token[1..]),
        format!("Authorization: Basic {}\r\n{json_head}", operator.token),
    ] {
        for (method, path) in [("POST", "/admin/v1/users/list"), ("GET", "/admin/v1/openapi.json")]
        {
            statuses.push(http(&gateway, method, path, &head, "{}").await?.0);
        }
    }
    assert_eq!(statuses, [401; 10]);
    // From now on they come too often; who has the token is not kept out.
    let mut limited = 0;
    for path in ["/admin", "/admin/", "/admin/v1/users/list", "/admin/v2/x", "/admin/v1/../v1/x"] {
        let (status, _) = http(&gateway, "POST", path, json_head, "{}").await?;
        assert!(matches!(status, 401 | 429), "{path}: {status}");
        limited += u32::from(status == 429);
    }
    assert!(limited > 0);
    operator.done("users/list", json!({})).await?;
    let refused = |labels| gateway.metric("petrel_gateway_admin_refused_total", labels);
    assert!(refused("unauthenticated").await? >= 10.0 && refused("rate_limited").await? >= 1.0);

    // Not what a page in a browser can send, and nothing but what there is.
    let bearer = format!("Authorization: Bearer {}\r\n", operator.token);
    let long = format!("{{\"after\": \"{}\"}}", "x".repeat(70_000));
    for (method, path, head, body, expected) in [
        ("POST", "/admin/v1/users/list", "Content-Type: text/plain\r\n", "{}", 415),
        ("POST", "/admin/v1/users/list", "", "{}", 415),
        ("GET", "/admin/v1/users/list", json_head, "", 405),
        ("PUT", "/admin/v1/users/list", json_head, "{}", 405),
        ("POST", "/admin/v1/users/delete", json_head, "{}", 404),
        ("POST", "/admin/v1/users", json_head, "{}", 404),
        ("POST", "/admin/v1/users/list/more", json_head, "{}", 404),
        ("GET", "/admin", json_head, "", 404),
        ("POST", "/admin/v1/users/list", json_head, long.as_str(), 413),
        ("POST", "/admin/v1/users/list", json_head, "{", 400),
        (
            "POST",
            "/admin/v1/users/list",
            "Content-Type: application/json; charset=utf-8\r\n",
            "{}",
            200,
        ),
    ] {
        let (status, said) = http(&gateway, method, path, &format!("{bearer}{head}"), body).await?;
        assert_eq!(status, expected, "{method} {path}: {said}");
    }
    // /livez and its like still need nothing.
    assert_eq!(gateway.get("/livez").await?.status, 200);
    Ok(())
}

async fn what_is_wrong_with_a_command_is_named(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let operator = Operator::new(&gateway).await?;
    for (command, arguments, status, field) in [
        ("users/create", json!({}), 400, "user"),
        ("users/create", json!({ "user": "A" }), 400, "user"),
        ("users/create", json!({ "user": "a".repeat(33) }), 400, "user"),
        ("users/create", json!({ "user": ["alice"] }), 400, "user"),
        ("users/create", json!({ "user": "alice", "password": "short" }), 400, "password"),
        ("users/create", json!({ "user": "alice", "label": "l".repeat(65) }), 400, "label"),
        ("users/create", json!({ "user": "alice", "nick": "A" }), 400, "nick"),
        ("users/list", json!({ "limit": 0 }), 400, "limit"),
        ("users/list", json!({ "limit": 201 }), 400, "limit"),
        ("users/show", json!({ "user": "nobody" }), 404, "user"),
        ("users/show", json!({ "user": "' OR 1=1 --" }), 404, "user"),
        ("devices/revoke", json!({ "user": "nobody" }), 400, "device"),
        ("devices/revoke", json!({ "user": "nobody", "device": "x" }), 400, "device"),
        ("groups/create", json!({ "owner": "nobody", "title": "t" }), 404, "owner"),
        ("groups/show", json!({ "group": "climbers" }), 400, "group"),
        ("messages/send", json!({ "text": "a\u{7}", "user": "alice" }), 400, "text"),
    ] {
        let refused = operator.refused(command, arguments.clone()).await?;
        assert_eq!((refused.0, refused.2.as_str()), (status, field), "{command} {arguments}");
    }
    let users = operator.done("users/list", json!({})).await?;
    assert_eq!(users["users"], json!([]));
    Ok(())
}

/// Runs `petrel admin`: its exit status, what it printed, and what it complained of.
async fn petrel(
    gateway: &Gateway,
    settings: &[String],
    arguments: &[&str],
    input: &str,
) -> Result<(Option<i32>, String, String)> {
    let arguments = [&["admin"], arguments].concat();
    let ran = gateway.run_with(settings, &arguments, input).await?;
    Ok((ran.status.code(), String::from_utf8(ran.stdout)?, String::from_utf8(ran.stderr)?))
}

async fn the_command_line_does_what_the_api_does(stage: Stage) -> Result<()> {
    let token = "0123456789abcdef0123456789abcdef";
    let gateway = stage.gateway(&CHEAP).await?;
    let data = format!("data_dir={}", gateway.data_dir().display());
    let settings = [data, format!("admin.listen={}", gateway.admin)];
    let run = |arguments: &'static [&'static str], input: &'static str| {
        petrel(&gateway, &settings, arguments, input)
    };
    let create = &["users", "create", "alice", "--password-file", "-", "--nickname", "Alice"];
    let (code, out, error) = run(create, "correct horse\n").await?;
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("device_secret") && !out.contains("correct horse"), "{out}");
    assert_eq!(log_in(&gateway, "alice", "correct horse").await?, None);
    let (code, out, _) = run(&["users", "create", "bob", "--json"], "").await?;
    let made: Value = serde_json::from_str(&out)?;
    assert_eq!((code, &made["user"]), (Some(0), &json!("bob")));
    Somebody::signed_in(&gateway, identity(&made)?).await?;

    let (_, out, _) = run(&["users", "list", "--limit", "1"], "").await?;
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("id ") && lines[1].ends_with("alice  Alice"), "{out}");
    assert!(out.contains("more   yes"), "{out}");
    let (code, out, error) =
        run(&["groups", "create", "alice", "climbers", "--users", "bob"], "").await?;
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("members  2"), "{out}");
    let (code, ..) = run(&["messages", "send", "back at ten", "--user", "alice"], "").await?;
    assert_eq!(code, Some(0));

    for (arguments, said) in [
        (&["users", "show", "nobody"][..], "user: there is no user"),
        (&["users", "create", "alice"], "name_taken"),
        (&["users", "set-password", "alice", "--password-file", "missing"], "cannot read missing"),
        (&["devices", "revoke", "alice"], "device: either a device or `all`"),
    ] {
        let (code, out, error) = petrel(&gateway, &settings, arguments, "").await?;
        assert!(
            code == Some(1) && out.is_empty() && error.contains(said),
            "{arguments:?}: {error}"
        );
    }
    // A wrong command line is told as such: nothing is asked.
    for arguments in [&["users"][..], &["users", "drop"], &["users", "list", "--limit", "0"]] {
        let (code, ..) = petrel(&gateway, &settings, arguments, "").await?;
        assert_eq!(code, Some(2), "{arguments:?}");
    }
    // Elsewhere there is no token, or another one.
    let elsewhere = ["data_dir=elsewhere".to_owned(), settings[1].clone()];
    let (code, _, error) = petrel(&gateway, &elsewhere, &["users", "list"], "").await?;
    assert!(code == Some(1) && error.contains("elsewhere/admin.token"), "{error}");
    let wrong = [settings[1].clone(), format!("admin.token={token}")];
    let (code, _, error) = petrel(&gateway, &wrong, &["users", "list"], "").await?;
    assert!(code == Some(1) && error.contains("unauthenticated"), "{error}");

    // A token of one's own, on a gateway of its own.
    let own = format!("admin.token={token}");
    let other = stage.gateway(&[&own]).await?;
    let settings = [format!("admin.listen={}", other.admin), own];
    let (code, _, error) = petrel(&other, &settings, &["sessions", "count"], "").await?;
    assert_eq!(code, Some(0), "{error}");
    assert!(!other.data_dir().join("admin.token").exists());
    Ok(())
}
