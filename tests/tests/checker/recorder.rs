//! Histories in files.

use petrel_tests::checker::event::What;
use petrel_tests::checker::{History, Recorder};

use crate::generator::{good, history};

#[test]
fn json_lines_carry_a_history_and_several_files_merge_by_time() {
    let whole = history(good(3));
    let mut files = [Vec::new(), Vec::new()];
    for (at, event) in whole.events().iter().enumerate() {
        History::new(vec![event.clone()]).write_jsonl(&mut files[at % 2]).unwrap();
    }
    files[1].extend_from_slice(b"{\"at_us\":12,\"proc");
    let parts = files.iter().map(|file| History::read_jsonl(file.as_slice()).unwrap());
    assert_eq!(History::merge(parts).events(), whole.events());
    assert!(History::read_jsonl(&b"no event\n"[..]).is_err());
}

#[test]
fn a_streaming_recorder_writes_each_event_at_once_and_marks_what_it_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let file = std::fs::File::create(&path).unwrap();
    let recorder = Recorder::streaming(4, 2, Box::new(file));
    (0..4).for_each(|_| recorder.record(What::Heal));
    let read =
        History::read_jsonl(std::io::BufReader::new(std::fs::File::open(&path).unwrap())).unwrap();
    assert_eq!(read.events().len(), 3);
    assert!(matches!(read.events()[2].what, What::Truncated { .. }));
    assert!(read.events().iter().all(|event| event.process == 4));
}
