//! The list of conversations: unread, last entries, pages.

use anyhow::Result;
use bytes::Bytes;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{PATIENCE, Stage, eventually};
use petrel_tests::on_both_stores;

on_both_stores!(the_list_has_unread_and_last_entries_in_pages_most_recent_first);

async fn the_list_has_unread_and_last_entries_in_pages_most_recent_first(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let bob = stage.person(&gateway, "bob").await?;
    let mut senders = Vec::new();
    for n in 1..=5 {
        let sender = stage.person(&gateway, &format!("sender{n}")).await?;
        let pair = sender.with(&bob);
        for m in 1..=n {
            sender.say(&pair, format!("{n}.{m}")).await?;
        }
        senders.push(sender);
    }
    // The second one's are read, but for the last; an answer is no unread of one's own.
    let pair = bob.with(&senders[1]);
    bob.has(pair.id, 2).await?;
    bob.client.read_up_to(pair.id, 1);
    senders[1]
        .until("the receipt", |s| {
            s.receipts.get(&(pair.id, bob.user())).filter(|r| r.1 == 1).map(drop)
        })
        .await?;
    assert_eq!(bob.say(&pair, "answer").await?, 3);
    // Receipts are passed on first and stored in the same round; the list is read from the store.
    let stored = || async {
        let list = bob.client.list(Bytes::new(), 1).await?;
        Ok((list.summaries[0].own.1 == 1).then_some(()))
    };
    eventually(PATIENCE, "the stored receipt", stored).await?;

    let mut lines = Vec::new();
    let mut page = Bytes::new();
    let mut pages = 0;
    loop {
        let found = bob.client.list(page, 2).await?;
        assert!(found.summaries.len() <= 2);
        lines.extend(found.summaries);
        pages += 1;
        page = found.next_page;
        if page.is_empty() {
            break;
        }
    }
    assert!(pages >= 3, "{pages}");
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let last = line.last.as_ref().unwrap();
            let text = String::from_utf8_lossy(last.body.as_ref().unwrap()).into_owned();
            (line.peer.as_ref().unwrap().name.clone(), line.unread, text)
        })
        .collect();
    let expected = [
        ("sender2", 1, "answer"),
        ("sender5", 5, "5.5"),
        ("sender4", 4, "4.4"),
        ("sender3", 3, "3.3"),
        ("sender1", 1, "1.1"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(a, b, c)| ((*a).to_owned(), *b, (*c).to_owned())).collect();
    assert_eq!(told, expected);
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}
