//! `petrel dictionary` as its operator meets it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

fn petrel(dir: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_petrel"))
        .arg("dictionary")
        .args(arguments.split_ascii_whitespace())
        .current_dir(dir)
        .env_clear()
        .output()
        .unwrap()
}

/// Messages of a made-up service, one a line, each different.
fn sample(count: usize) -> String {
    let things = ["shipment", "delivery", "parcel", "container", "pallet", "trolley"];
    let states =
        ["left the warehouse", "is delayed by customs", "arrived at the dock", "was signed for"];
    let asks =
        ["please confirm", "no action is needed", "call the driver", "see the attached note"];
    let mut text = String::new();
    for n in 0..count {
        let mixed = n.wrapping_mul(2_654_435_761);
        let (a, b, c) = (things[mixed % 6], states[mixed / 6 % 4], asks[mixed / 24 % 4]);
        writeln!(text, "{a} {} {b}, {c} ({n})", mixed % 99_991).unwrap();
    }
    text
}

#[test]
fn a_dictionary_is_trained_evaluated_and_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sample.txt"), sample(6_000)).unwrap();
    let train = "train --samples sample.txt --out own.dict --size 16384 --version 100";
    let made = petrel(dir.path(), train);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(said.contains("version 100") && said.contains("message.dictionary"), "{said}");
    assert!(said.contains("It saves"), "{said}");
    let first = std::fs::read(dir.path().join("own.dict")).unwrap();
    assert!(first.len() <= 16_384 && first[4..8] == [100, 0, 0, 0]);

    let again = petrel(dir.path(), train);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("own.dict: it exists"), "{again:?}");
    let other = petrel(dir.path(), &train.replace("own.dict", "same.dict"));
    assert_eq!(other.status.code(), Some(0));
    assert_eq!(std::fs::read(dir.path().join("same.dict")).unwrap(), first);

    for part in ["", " --held-out"] {
        let told = petrel(
            dir.path(),
            &format!("evaluate --dictionary own.dict --samples sample.txt{part}"),
        );
        assert_eq!(told.status.code(), Some(0), "{told:?}");
        let told = String::from_utf8(told.stdout).unwrap();
        let ratio = |name: &str| -> f64 {
            let line = told.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].split_ascii_whitespace().next().unwrap().parse().unwrap()
        };
        assert!(ratio("dictionary 100") > ratio("best suited shipped"), "{told}");
        assert!(ratio("shipped dictionary 1") >= ratio("no dictionary"), "{told}");
    }
}

#[test]
fn what_cannot_be_trained_on_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("few.txt", &sample(200));
    write("short.txt", &sample(2_000));
    write("same.txt", &"hello\n".repeat(50_000));
    write("broken.jsonl", "{\"text\": \"a\"}\n{\"text\": 5}\n");
    write("text.dict", "no dictionary");
    for (arguments, told) in [
        ("train --samples few.txt --out o", &["too few samples", "1000"][..]),
        ("train --samples short.txt --out o", &["too few samples", "655360", "--size"]),
        ("train --samples same.txt --out o", &["too few samples"]),
        ("train --samples missing.txt --out o", &["--samples missing.txt"]),
        ("train --samples broken.jsonl --json-field text --out o", &["line 2", "text"]),
        ("train --samples short.txt --out o --size 2048 --version 7", &["version 7", "100"]),
        ("train --samples short.txt --out o --size 12", &["12 bytes", "1024"]),
        ("evaluate --samples few.txt --dictionary text.dict", &["text.dict", "no zstd dictionary"]),
    ] {
        let ran = petrel(dir.path(), arguments);
        assert_eq!(ran.status.code(), Some(1), "{arguments}: {ran:?}");
        let said = String::from_utf8_lossy(&ran.stderr);
        for word in told {
            assert!(said.contains(word), "{arguments}: {said}");
        }
        assert!(!dir.path().join("o").exists(), "{arguments}");
    }
}
