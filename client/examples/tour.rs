//! A short tour of the client library (docs/sdk.md). Run a gateway, then:
//! `cargo run -p petrel-client --example tour -- 127.0.0.1:7443 SHA256-OF-THE-CERTIFICATE`
#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use petrel_client::{
    Client, ClientOptions, ContactCommand, Dialer, DialerOptions, Draft, Event, GroupProfile,
    Password, Server, Timeline, Trust,
};

/// Entries that are kept for the screen.
const SHOWN_MAX: usize = 2_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(fingerprint)) = (arguments.next(), arguments.next()) else {
        return Err("usage: tour ADDRESS FINGERPRINT".into());
    };
    let server = Server::Addresses(vec![server.parse()?]);
    let trust = Trust::from_fingerprint_hex(&fingerprint)?;
    let dialer = Dialer::new(DialerOptions::new(server, "localhost", trust))?;

    // Two accounts. An application keeps the identity: `identity.save(path)`.
    let number = std::process::id();
    let (alice, bob) = (format!("alice{number}"), format!("bob{number}"));
    let password = Password::new("correct horse battery")?;
    let alice = dialer.register_with(&alice, "tour", Some(&password)).await?;
    let bob = dialer.register(&bob, "tour").await?;
    let (alice, mut events) = Client::start(ClientOptions::new(dialer.clone(), alice)).await?;
    let (bob, bobs_events) = Client::start(ClientOptions::new(dialer, bob)).await?;
    drop(bobs_events);

    // Contacts: load them once, then follow the own log from there.
    let contacts = alice.all_contacts().await?;
    let from = alice.own_log_cursor(contacts.head).await?;
    alice.follow_own_log(from)?;
    bob.change_contact(alice.user(), ContactCommand::Ask("it is me".to_owned())).await?;

    // A group, a message, a reaction, an edit.
    let group = alice.create_group(GroupProfile::new("walkers"), &[bob.user()]).await?;
    let here = group.conversation.into();
    alice.attach(&here, None)?;
    let first = bob.send_draft_and_wait(&here, Draft::text("wher to?")).await?;
    alice.send_draft_and_wait(&here, Draft::react(first.seq, "👍")).await?;
    bob.send_draft_and_wait(&here, Draft::edit(first.seq, 0, "where to?")).await?;
    let reply = Draft::text("up there").reply_to(first.seq).mention(bob.user());
    let last = alice.send_draft_and_wait(&here, reply).await?;

    // What is on the screen.
    let mut timeline = Timeline::new(alice.user(), group.conversation, SHOWN_MAX);
    let mut asked = false;
    while !asked || timeline.get(last.seq).is_none() {
        let Some(event) = events.next().await else { break };
        timeline.take(&event);
        if let Event::Own(own) = event {
            println!("own log: {:?}", own.change);
            asked = true;
        }
    }
    for entry in timeline.iter() {
        match entry.group_event() {
            Some(event) => println!("{}: {event:?}", entry.seq),
            None => println!(
                "{}: {} {:?} {:?}",
                entry.seq,
                entry.text().unwrap_or("?"),
                entry.state.reactions,
                timeline.quoted(entry)
            ),
        }
    }
    alice.close().await;
    bob.close().await;
    Ok(())
}
