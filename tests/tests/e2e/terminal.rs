//! The full-screen chat, as people use it: real processes on pseudo-terminals.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use petrel_tests::cluster::{Gateway, PATIENCE, Storage, binary, eventually};
use pty_process::Size;
use pty_process::blocking::{Command, Pty};

const ROWS: u16 = 24;
const COLUMNS: u16 = 90;

/// A terminal with a chat in it.
struct Desk {
    pty: Arc<Pty>,
    screen: Arc<Mutex<vt100::Parser>>,
    child: std::process::Child,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Desk {
    fn open(gateway: &Gateway, name: &str) -> Result<Self> {
        let (pty, pts) = pty_process::blocking::open()?;
        pty.resize(Size::new(ROWS, COLUMNS))?;
        let child = Command::new(binary()?)
            .args(["chat", name, "--server", &gateway.quic.to_string()])
            .args(["--fingerprint", &gateway.fingerprint, "--set"])
            .arg(format!("data_dir={}", gateway.data_dir().display()))
            .env("TERM", "xterm-256color")
            .spawn(pts)?;
        let pty = Arc::new(pty);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let (from, to) = (Arc::clone(&pty), Arc::clone(&screen));
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            // Reading fails once the chat's end is closed.
            while let Ok(read) = (&*from).read(&mut bytes) {
                if read == 0 {
                    break;
                }
                to.lock().process(&bytes[..read]);
            }
        });
        Ok(Self { pty, screen, child, reader: Some(reader) })
    }

    fn types(&self, keys: &str) -> Result<()> {
        Ok((&*self.pty).write_all(keys.as_bytes())?)
    }

    fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        self.screen.lock().screen_mut().set_size(rows, columns);
        Ok(self.pty.resize(Size::new(rows, columns))?)
    }

    /// What is on the screen.
    fn text(&self) -> String {
        self.screen.lock().screen().contents()
    }

    async fn shows(&self, text: &str) -> Result<()> {
        let seen =
            eventually(PATIENCE, text, || async { Ok(self.text().contains(text).then_some(())) });
        seen.await.with_context(|| format!("the screen:\n{}", self.text()))
    }

    /// Waits until the process has ended and all that it wrote was read.
    async fn ends(&mut self) -> Result<std::process::ExitStatus> {
        let child = &mut self.child;
        let mut look = || child.try_wait();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = look()? {
                break status;
            }
            ensure!(tokio::time::Instant::now() < deadline, "the chat does not end");
            tokio::time::sleep(petrel_tests::cluster::LOOK_AGAIN).await;
        };
        if let Some(reader) = self.reader.take() {
            tokio::task::spawn_blocking(move || reader.join().ok()).await?;
        }
        Ok(status)
    }

    /// The terminal is as it was before.
    fn is_restored(&self) -> bool {
        let parser = self.screen.lock();
        let screen = parser.screen();
        !screen.alternate_screen()
            && !screen.hide_cursor()
            && !screen.bracketed_paste()
            && screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_chat_on_their_terminals() -> Result<()> {
    let gateway = Gateway::start(Storage::Sqlite, &[]).await?;
    let mut alice = Desk::open(&gateway, "alice")?;
    alice.shows("online QUIC").await?;
    let mut bob = Desk::open(&gateway, "bob")?;
    bob.shows("online QUIC").await?;

    alice.types("/dm bob hello from alice\r")?;
    bob.shows("alice: hello from alice").await?;
    alice.shows("hello from alice ✓✓ read").await?;
    bob.types("你好 🌊\r")?;
    alice.shows("bob: 你好 🌊").await?;

    // What is pasted carries no sequences to the other one's terminal.
    alice.types("\u{1b}[200~one\ntwo\u{1b}[201~\r")?;
    bob.shows("two").await?;

    bob.resize(10, 40)?;
    // Drawn anew: keys that come together with the signal are read with the next ones.
    bob.shows("F1 help").await?;
    bob.types("narrow\r")?;
    bob.shows("narrow").await?;
    alice.shows("bob: narrow").await?;
    bob.types("\u{1b}OP")?;
    bob.shows("Commands").await?;
    bob.types("\u{1b}OP")?;
    bob.shows("bob: narrow").await?;

    alice.types("/quit\r")?;
    ensure!(alice.ends().await?.success(), "alice's chat failed");
    ensure!(alice.is_restored(), "alice's terminal is not as it was");

    let id = i32::try_from(bob.child.id())?;
    let told = std::process::Command::new("kill").arg(id.to_string()).status()?;
    ensure!(told.success(), "no signal to bob's chat");
    ensure!(bob.ends().await?.success(), "bob's chat failed");
    ensure!(bob.is_restored(), "bob's terminal is not as it was");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_on_two_terminals_sees_what_becomes_of_its_messages() -> Result<()> {
    let gateway = Gateway::start(Storage::Sqlite, &[]).await?;
    let alice = Desk::open(&gateway, "alice")?;
    alice.shows("online QUIC").await?;
    let bob = Desk::open(&gateway, "bob")?;
    bob.shows("online QUIC").await?;

    alice.types("/group walkers bob\r")?;
    for desk in [&alice, &bob] {
        desk.shows("walkers (2 members)").await?;
        desk.shows("* alice made the group \"walkers\" with bob").await?;
    }
    bob.types("wher do we meet, @alice?\r")?;
    alice.shows("bob: wher do we meet, @alice?").await?;
    bob.shows("✓✓ read by 1").await?;
    // Who writes is told as long as the gateway carries it.
    alice.types("at the")?;
    bob.shows("alice is writing").await?;
    alice.types("\u{15}")?;
    bob.types("/edit where do we meet, @alice?\r")?;
    alice.shows("where do we meet, @alice? (edited)").await?;
    alice.types("/reply at the bridge\r")?;
    bob.shows("«bob: where do we meet, @alice?»").await?;
    bob.shows("at the bridge").await?;
    bob.types("/react +1\r")?;
    alice.shows("[👍 1]").await?;
    bob.shows("[👍 1*]").await?;

    // By keys: the newest message is selected, and recalled after Enter.
    alice.types("\u{1b}")?;
    alice.shows("Enter: menu>").await?;
    alice.types("x")?;
    alice.shows("> /recall").await?;
    alice.types("\r")?;
    bob.shows("alice: (recalled)").await?;
    ensure!(
        !bob.text().contains("at the bridge"),
        "a recalled text is still there:\n{}",
        bob.text()
    );

    alice.types("/rename hill walkers\r")?;
    bob.shows("* alice renamed the group to \"hill walkers\"").await?;
    bob.types("/leave\r")?;
    alice.shows("* bob left").await?;
    bob.shows("you are no member").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_passwords_on_terminals() -> Result<()> {
    let gateway = Gateway::start(Storage::Sqlite, &[]).await?;
    let alice = Desk::open(&gateway, "alice")?;
    alice.shows("online QUIC").await?;
    let bob = Desk::open(&gateway, "bob")?;
    bob.shows("online QUIC").await?;

    bob.types("/ask alice it is me\r")?;
    alice.shows("bob asks to be friends: it is me; /accept bob").await?;
    alice.shows("! 1 ask: /contacts").await?;
    alice.types("/accept bob\r")?;
    bob.shows("alice and you are friends now").await?;
    alice.types("/remark bob Bobby\r")?;
    alice.shows("Bobby (@bob): friends").await?;
    bob.types("/dm alice hello\r")?;
    alice.shows("Bobby: hello").await?;

    alice.types("/password\r")?;
    alice.shows("password now (empty: none yet):").await?;
    alice.types("\r")?;
    alice.shows("new password:").await?;
    alice.types("battery staple\r")?;
    alice.shows("the new one again:").await?;
    alice.types("battery staple")?;
    alice.shows("again: ••••••••••••••").await?;
    ensure!(!alice.text().contains("battery"), "a password is shown:\n{}", alice.text());
    alice.types("\r")?;
    alice.shows("the password is another one now").await?;
    alice.types("/devices\r")?;
    alice.shows("1. terminal (this one)").await?;
    Ok(())
}
