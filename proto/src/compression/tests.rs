#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

use super::*;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const ROOM: usize = 64 << 10;

fn versions() -> impl Iterator<Item = Option<DictionaryVersion>> {
    let shipped = DICTIONARIES.iter().map(|dictionary| Some(dictionary.version));
    std::iter::once(None).chain(shipped)
}

fn number(dictionary: Option<DictionaryVersion>) -> u32 {
    dictionary.map_or(BodyEncoding::Zstd, BodyEncoding::ZstdDictionary).number()
}

/// A frame that really is compressed, of `len` plain bytes.
fn frame_of(plain: &[u8], dictionary: Option<DictionaryVersion>) -> Bytes {
    let encoded = encode(plain, dictionary);
    assert_eq!(encoded.encoding.number(), number(dictionary));
    encoded.bytes
}

fn header(last: bool, kind: u32, size: u32) -> [u8; 3] {
    let [low, middle, high, _] = (u32::from(last) | kind << 1 | size << 3).to_le_bytes();
    [low, middle, high]
}

proptest! {
    #[test]
    fn every_body_comes_back_and_never_travels_longer(
        plain in proptest::collection::vec(any::<u8>(), 0..2000),
        text in "[a-z ]{0,300}|[\u{4e00}-\u{9fa5}，。]{0,100}|[😀-🙏]{0,30}",
    ) {
        for plain in [&plain[..], text.as_bytes()] {
            for dictionary in versions() {
                let encoded = encode(plain, dictionary);
                prop_assert!(encoded.bytes.len() <= plain.len());
                let encoding = encoded.encoding.number();
                let decoded = decode(encoding, &encoded.bytes, plain.len());
                prop_assert_eq!(decoded.as_deref(), Ok(plain));
                let len = decoded_len(encoding, &encoded.bytes, plain.len());
                prop_assert_eq!(len, Ok(plain.len()));
            }
        }
    }

    #[test]
    fn garbage_is_refused_or_stays_within_the_limit(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        encoding in 0_u32..24,
    ) {
        // Random bytes seldom pass the header check, so try them behind one.
        let mut framed = vec![0, 0];
        framed.extend(header(true, 2, u32::try_from(bytes.len()).unwrap()));
        framed.extend(&bytes);
        for bytes in [&bytes, &framed] {
            if let Ok(plain) = decode(encoding, bytes, 500) {
                prop_assert!(plain.len() <= 500);
            }
        }
    }

    #[test]
    fn a_flipped_bit_never_widens_the_limit(at in 0_usize..4000, bit in 0_u8..8) {
        let plain = b"Are you coming to the meeting tomorrow? I will be there at ten.".repeat(3);
        for dictionary in versions() {
            let mut frame = frame_of(&plain, dictionary).to_vec();
            let at = at % frame.len();
            frame[at] ^= 1 << bit;
            if let Ok(plain) = decode(number(dictionary), &frame, 200) {
                prop_assert!(plain.len() <= 200);
            }
        }
    }
}

#[test]
fn the_limit_is_exact() {
    let plain = "See you tomorrow at the station, I will bring the tickets. ".repeat(4);
    let len = plain.len();
    for dictionary in versions() {
        let encoded = encode(plain.as_bytes(), dictionary);
        let encoding = encoded.encoding.number();
        let too_long = Err(DecodeError::TooLong { max_len: len - 1 });
        assert_eq!(decode(encoding, &encoded.bytes, len - 1), too_long);
        assert_eq!(decoded_len(encoding, &encoded.bytes, len), Ok(len));
        assert_eq!(decoded_len(encoding, &encoded.bytes, len + 1), Ok(len));
    }
    assert_eq!(decode(0, b"four", 3), Err(DecodeError::TooLong { max_len: 3 }));
    assert_eq!(decode(0, b"four", 4).as_deref(), Ok(&b"four"[..]));
}

#[test]
fn a_small_limit_holds_after_a_large_body() {
    let long = vec![b'a'; ROOM];
    let short = "again and again and again and again and again".to_owned();
    assert_eq!(decoded_len(1, &frame_of(&long, None), ROOM), Ok(ROOM));
    let frame = frame_of(short.as_bytes(), None);
    let limit = short.len() - 1;
    assert_eq!(decoded_len(1, &frame, limit), Err(DecodeError::TooLong { max_len: limit }));
}

#[test]
fn a_bomb_of_one_kilobyte_is_refused() {
    let compressed = frame_of(&vec![0; 20 << 20], None);
    assert!(compressed.len() < 4096);
    assert_eq!(decode(1, &compressed, ROOM), Err(DecodeError::TooLong { max_len: ROOM }));

    // 250 blocks of 128 KiB each, four bytes a block: 32 MiB in a kilobyte.
    let mut runs = vec![0, 0x38];
    for at in 0..250 {
        runs.extend(header(at == 249, 1, 128 << 10));
        runs.push(b'x');
    }
    assert_eq!(decode(1, &runs, ROOM), Err(DecodeError::TooLong { max_len: ROOM }));
}

#[test]
fn empty_blocks_without_end_are_cheap_and_refused() {
    let mut frame = vec![0, 0];
    frame.extend(header(false, 0, 0).repeat(10_000));
    assert_eq!(decode(1, &frame, ROOM), Err(DecodeError::Truncated));
}

#[test]
fn a_window_above_the_limit_is_refused() {
    let block = header(true, 0, 0);
    let frame = |window: u8| [&[0, window][..], &block].concat();
    let largest = u8::try_from(WINDOW_LOG_MAX - 10).unwrap() << 3;
    assert_eq!(decode(1, &frame(largest), ROOM).as_deref(), Ok(&[][..]));
    for window in [largest + 1, largest + 8, 0xff] {
        let window_log = 10 + u32::from(window >> 3);
        let refused = Err(DecodeError::WindowTooLarge { window_log });
        assert_eq!(decode(1, &frame(window), ROOM), refused);
    }
}

#[test]
fn fields_that_lean_frames_leave_out_are_refused() {
    let frame = frame_of(&[b'a'; 100], None);
    for descriptor in 1..=255 {
        let mut other = frame.to_vec();
        other[0] = descriptor;
        assert_eq!(decode(1, &other, ROOM), Err(DecodeError::NotLean { descriptor }));
    }
    let standard = zstd::bulk::compress(&[b'a'; 100], LEVEL).unwrap();
    assert!(matches!(decode(1, &standard, ROOM), Err(DecodeError::NotLean { .. })));
}

#[test]
fn every_cut_of_a_frame_is_refused() {
    let plain = "The report is ready, please have a look at it before the meeting.".repeat(3);
    for dictionary in versions() {
        let frame = frame_of(plain.as_bytes(), dictionary);
        for len in 0..frame.len() {
            let cut = decode(number(dictionary), &frame[..len], ROOM);
            assert_eq!(cut, Err(DecodeError::Truncated));
        }
    }
}

#[test]
fn a_second_frame_is_refused() {
    let frame = frame_of(&[b'a'; 100], None);
    let twice = [&frame[..], &frame].concat();
    let extra = frame.len();
    assert_eq!(decode(1, &twice, ROOM), Err(DecodeError::Trailing { extra }));
    let longer = [&frame[..], &[0]].concat();
    assert_eq!(decode(1, &longer, ROOM), Err(DecodeError::Trailing { extra: 1 }));
    let skippable = [&frame[..], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat();
    assert_eq!(decode(1, &skippable, ROOM), Err(DecodeError::Trailing { extra: 8 }));
}

#[test]
fn unknown_encodings_and_dictionaries_are_named() {
    for encoding in 2..=16 {
        assert_eq!(decode(encoding, b"", ROOM), Err(DecodeError::UnknownEncoding { encoding }));
    }
    let next = u32::try_from(DICTIONARIES.len()).unwrap() + 1;
    for version in [next, 240, u32::MAX - 16] {
        let refused = Err(DecodeError::UnknownDictionary { version });
        assert_eq!(decoded_len(16 + version, b"", ROOM), refused);
    }
}

#[test]
fn another_dictionary_is_never_taken_for_the_right_one() {
    let plain = "I hope everything goes well for you tomorrow, see you there at ten.";
    let frame = frame_of(plain.as_bytes(), Some(DictionaryVersion::GENERAL));
    for other in versions().filter(|&other| other != Some(DictionaryVersion::GENERAL)) {
        let decoded = decode(number(other), &frame, ROOM);
        assert_ne!(decoded.as_deref(), Ok(plain.as_bytes()));
    }
    // What failed leaves no trace.
    let encoding = number(Some(DictionaryVersion::GENERAL));
    assert_eq!(decode(encoding, &frame, ROOM).as_deref(), Ok(plain.as_bytes()));
}

#[test]
fn a_length_does_not_depend_on_earlier_messages() {
    let bodies = [
        "Good morning, did you sleep well?".to_owned(),
        "你好，最近怎么样？工作忙不忙？".to_owned(),
        "{\"type\":\"text\",\"text\":\"hello there\"}".to_owned(),
        "secret secret secret secret secret".repeat(30),
    ];
    let alone: Vec<_> = bodies
        .iter()
        .flat_map(|body| {
            versions().map(|dictionary| {
                let body = body.clone();
                let fresh = std::thread::spawn(move || encode(body.as_bytes(), dictionary));
                fresh.join().unwrap()
            })
        })
        .collect();
    for _ in 0..50 {
        let together: Vec<_> = bodies
            .iter()
            .flat_map(|body| versions().map(|dictionary| encode(body.as_bytes(), dictionary)))
            .collect();
        assert_eq!(together, alone);
    }
}

#[test]
fn numbers_on_the_wire_are_fixed() {
    let mut wire = vec![(BodyEncoding::Identity, 0), (BodyEncoding::Zstd, 1)];
    for (dictionary, number) in DICTIONARIES.iter().zip(17..) {
        wire.push((BodyEncoding::ZstdDictionary(dictionary.version), number));
    }
    for (encoding, number) in wire {
        assert_eq!(encoding.number(), number);
        assert_eq!(BodyEncoding::try_from(number), Ok(encoding));
    }
}

#[test]
fn shipped_dictionaries_are_unchanged() {
    for (dictionary, version) in DICTIONARIES.iter().zip(1..) {
        assert_eq!(dictionary.version.number(), version);
        assert_eq!(dictionary.version.dictionary().file, dictionary.file);
        assert!(dictionary.bytes.len() <= 64 << 10, "{}", dictionary.file);
        let digest: String =
            Sha256::digest(dictionary.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, dictionary.sha256, "{}", dictionary.file);
    }
}

#[test]
fn a_dictionary_is_chosen_by_content_among_those_the_peer_has() {
    for (plain, suited) in [
        ("Shall we have lunch together tomorrow?", DictionaryVersion::ENGLISH),
        ("我们明天一起去吃饭吧，你有时间吗？", DictionaryVersion::CHINESE),
        ("我们 tomorrow 一起去 lunch，好吗 okay?", DictionaryVersion::GENERAL),
        ("{\"type\":\"image\",\"width\":640}", DictionaryVersion::JSON),
    ] {
        assert_eq!(DictionaryVersion::suited_to(plain.as_bytes()), suited);
    }
    let plain = "Thank you so much for your help, I really appreciate it.";
    for (known, number) in [(&[1, 2, 3, 4][..], 18), (&[1, 99], 17), (&[99], 1), (&[], 1)] {
        let encoded = encode_for(plain.as_bytes(), known);
        let as_expected = encoded.encoding.number() == number;
        assert!(as_expected || encoded.encoding == BodyEncoding::Identity);
    }
}

#[test]
fn a_fetched_dictionary_decodes_what_was_made_with_it_and_nothing_else() {
    let plain = b"the same words, said once more: shall we meet at the station at seven?";
    let general = DictionaryVersion::GENERAL;
    let encoded = encode(plain, Some(general));
    let fetched = FetchedDictionary::new(general.dictionary().bytes).unwrap();
    assert_eq!(fetched.decode(&encoded.bytes, plain.len()).unwrap(), plain);
    let short = fetched.decode(&encoded.bytes, plain.len() - 1);
    assert_eq!(short, Err(DecodeError::TooLong { max_len: plain.len() - 1 }));
    assert!(fetched.decode(b"no frame at all", 100).is_err());
    // The context that it was used in is as before.
    assert_eq!(decode(encoded.encoding.number(), &encoded.bytes, 100).unwrap(), plain);
    let other = FetchedDictionary::new(DictionaryVersion::JSON.dictionary().bytes).unwrap();
    assert_ne!(other.decode(&encoded.bytes, 100).ok().as_deref(), Some(&plain[..]));

    let mut broken = general.dictionary().bytes.to_vec();
    broken[8..64].fill(0xff);
    assert!(FetchedDictionary::new(&broken).is_none());
    assert!(FetchedDictionary::new(&[]).is_none());
    assert!(FetchedDictionary::new(&vec![0; DICTIONARY_BYTES_MAX + 1]).is_none());
    assert_eq!([0, 1, 16, 17, 20].map(dictionary_of), [None, None, None, Some(1), Some(4)]);
}

/// Messages of a made-up service, each different from every other.
fn sample_messages(count: u32) -> Vec<String> {
    let mut state = 7_u32;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(state >> 8).unwrap() % below
    };
    let parts = [
        ["shipment", "delivery", "parcel", "container", "pallet"],
        [
            "left the warehouse",
            "is delayed by customs",
            "arrived at the dock",
            "was signed for",
            "is on its way",
        ],
        [
            "please confirm",
            "no action is needed",
            "call the driver",
            "see the attached note",
            "thank you",
        ],
    ];
    (0..count)
        .map(|n| {
            let [a, b, c] = parts.map(|choices| choices[draw(5)]);
            format!("{a} {} {b}, {c} ({n})", draw(100_000))
        })
        .collect()
}

fn own(version: u32) -> OwnDictionary {
    let made = training::train(&sample_messages(4_000), 16 << 10, 1 << 10, version).unwrap();
    OwnDictionary::new(&made).unwrap()
}

#[test]
fn an_own_dictionary_serves_who_has_it_and_is_named_to_who_has_not() {
    let dictionary = own(100);
    let plain = b"parcel 4711 left the warehouse, please confirm (x)";
    let (encoding, body) = dictionary.encode(plain);
    assert_eq!((encoding, dictionary.version()), (116, 100));
    assert!(body.len() < encode(plain, Some(DictionaryVersion::ENGLISH)).bytes.len());
    assert_eq!(decode_with(encoding, &body, ROOM, &[dictionary]).unwrap(), plain);
    assert_eq!(decoded_len_with(encoding, &body, ROOM, &[dictionary]), Ok(plain.len()));
    let lacking = Err(DecodeError::UnknownDictionary { version: 100 });
    assert_eq!(decode(encoding, &body, ROOM), lacking);
    assert_eq!(decode_with(encoding, &body, ROOM, &[own(101)]), lacking);
    // Shipped dictionaries go on working on the same thread, before and after.
    let shipped = encode(plain, Some(DictionaryVersion::ENGLISH));
    assert_eq!(decode(shipped.encoding.number(), &shipped.bytes, ROOM).unwrap(), plain);
    let hash = b"b5d4045c3f466fa91fe2cc6abe79232a1a57cdf1";
    assert_eq!(dictionary.encode(&hash[..12]), (0, Bytes::copy_from_slice(&hash[..12])));
    assert_eq!(own(100), dictionary);
    assert_ne!(own(101), dictionary);
}

#[test]
fn what_is_no_dictionary_of_ones_own_is_refused_by_name() {
    let good = own(100).bytes().to_vec();
    let with_version = |version: u32| {
        let mut bytes = good.clone();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        bytes
    };
    use OwnDictionaryError as E;
    for (bytes, wanted) in [
        (Vec::new(), E::NoDictionary),
        (b"hello, I am text".to_vec(), E::NoDictionary),
        (good[..6].to_vec(), E::Damaged),
        (good[..40].to_vec(), E::Damaged),
        (with_version(99), E::Version { version: 99 }),
        (with_version(u32::MAX), E::Version { version: u32::MAX }),
        (vec![0; DICTIONARY_BYTES_MAX + 1], E::TooLarge { len: DICTIONARY_BYTES_MAX + 1 }),
    ] {
        assert_eq!(OwnDictionary::new(&bytes), Err(wanted), "{}", bytes.len());
    }
}

#[test]
fn training_is_repeatable_and_says_what_it_lacks() {
    use training::{TrainingError, train};
    let samples = sample_messages(4_000);
    let made = |literals| train(&samples, 16 << 10, literals, 200).unwrap();
    for literals in training::LITERAL_BYTES {
        assert_eq!(made(literals), made(literals));
        assert_eq!(OwnDictionary::new(&made(literals)).unwrap().version(), 200);
    }
    assert!(matches!(train(&samples, 100, 0, 200), Err(TrainingError::Size { bytes: 100 })));
    assert!(matches!(train(&samples, 4096, 0, 4), Err(TrainingError::Version { version: 4 })));
    let few: Vec<String> = sample_messages(3);
    assert!(matches!(train(&few, 16 << 10, 0, 200), Err(TrainingError::Samples(_))));
}
