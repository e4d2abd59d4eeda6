//! Frames must be the same however reads cut the stream, and together they must be the stream.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Frames of a stream that arrives in these reads, and what is left over.
fn framed(reads: &[&[u8]], frame_bytes_max: usize) -> (Vec<Frame>, Bytes) {
    let mut framer = Framer::new(frame_bytes_max);
    let mut frames = Vec::new();
    for read in reads {
        framer.push(Bytes::copy_from_slice(read));
        frames.extend(&mut framer);
        assert!(framer.pending() <= frame_bytes_max, "at most one unfinished frame is held");
    }
    let rest = framer.rest();
    assert_eq!(framer.pending(), 0);
    (frames, rest)
}

fn frames_of(stream: &str) -> Vec<String> {
    let (frames, rest) = framed(&[stream.as_bytes()], FRAME_BYTES_MAX_DEFAULT);
    let rest = std::iter::once(rest).filter(|rest| !rest.is_empty());
    frames
        .into_iter()
        .map(|frame| frame.bytes)
        .chain(rest)
        .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        .collect()
}

fn frame(text: &str) -> Frame {
    Frame::new(Bytes::copy_from_slice(text.as_bytes()))
}

fn data_of(text: &str) -> Option<String> {
    let frame = frame(text);
    frame.data().map(|data| String::from_utf8(data.bytes(&frame).to_vec()).unwrap())
}

/// A stream with lines of every sort and endings of one kind or mixed, often without a last blank line.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        3 => "data: ?[a-z{}:]{0,9}",
        1 => Just("data: [DONE]".to_owned()),
        1 => ": ?[a-z]{0,6}",
        1 => "event: [a-z]{1,4}",
        1 => "\\PC{0,4}",
        5 => Just(String::new()),
    ];
    let endings = prop_oneof![Just(vec!["\n"]), Just(vec!["\r\n"]), Just(vec!["\r"]), Just(vec!["\n", "\r", "\r\n"])];
    (endings, vec((line, any::<prop::sample::Index>()), 0..16), any::<bool>()).prop_map(|(endings, lines, cut)| {
        let mut stream: String = lines.iter().map(|(line, ending)| format!("{line}{}", ending.get(&endings))).collect();
        if cut {
            stream.pop();
        }
        stream.into_bytes()
    })
}

fn chunked<'s>(stream: &'s [u8], cuts: &[prop::sample::Index]) -> Vec<&'s [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

/// The events of a stream as the format defines them, found the slow way: (type, data).
fn events(stream: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8(stream.to_vec()).unwrap().replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    for block in text.split_inclusive('\n').collect::<Vec<_>>().split_inclusive(|line| *line == "\n") {
        let field = |name: &str| -> Vec<String> {
            let value = |line: &&str| {
                let line = line.trim_end_matches('\n');
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                (field == name).then(|| value.strip_prefix(' ').unwrap_or(value).to_owned())
            };
            block.iter().filter_map(value).collect()
        };
        let (types, data) = (field("event"), field("data"));
        if block.last() == Some(&"\n") && !data.is_empty() {
            events.push((types.last().cloned().unwrap_or_default(), data.join("\n")));
        }
    }
    events
}

proptest! {
    #[test]
    fn frames_do_not_depend_on_how_reads_cut_the_stream(
        stream in stream(),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
        frame_bytes_max in prop_oneof![Just(FRAME_BYTES_MAX_DEFAULT), 1usize..24],
    ) {
        let whole = framed(&[&stream], frame_bytes_max);
        let (frames, rest) = framed(&chunked(&stream, &cuts), frame_bytes_max);
        let bytewise = framed(&stream.chunks(1).collect::<Vec<_>>(), frame_bytes_max);
        let joined = frames.iter().map(|frame| &frame.bytes[..]).chain([&rest[..]]).collect::<Vec<_>>().concat();
        prop_assert_eq!(joined, stream);
        prop_assert!(frames.iter().all(|frame| !frame.bytes.is_empty() && frame.bytes.len() <= frame_bytes_max));
        prop_assert_eq!(&(frames, rest), &whole);
        prop_assert_eq!(&bytewise, &whole);
    }

    #[test]
    fn frames_carry_the_events_of_the_stream(mut stream in stream()) {
        // A CR as the very last byte would be waited for; what follows settles it.
        stream.extend_from_slice(b": end");
        let (frames, _) = framed(&[&stream], FRAME_BYTES_MAX_DEFAULT);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let found: Vec<_> = frames.iter()
            .filter_map(|frame| Some((text(frame.event().unwrap_or_default()), text(frame.data()?.bytes(frame)))))
            .collect();
        prop_assert_eq!(found, events(&stream));
    }

    #[test]
    fn new_data_is_read_back_and_the_rest_stays(stream in stream(), new in "[a-z\\[\\]]{1,5}([\r\n][a-z]{1,3}){0,2}") {
        for frame in framed(&[&stream], FRAME_BYTES_MAX_DEFAULT).0 {
            let edited = Frame::new(frame.with_data(new.as_bytes()));
            let data = edited.data().map(|data| data.bytes(&edited).to_vec());
            prop_assert_eq!(data, frame.data().map(|_| new.replace('\r', "\n").into_bytes()));
            let kept = |frame: &Frame| -> Vec<Vec<u8>> {
                let lines = frame.bytes.split_inclusive(|&byte| byte == b'\n' || byte == b'\r');
                lines.filter(|line| !line.starts_with(b"data")).map(<[u8]>::to_vec).collect()
            };
            if matches!(frame.data(), Some(Data::Line(_))) && !new.contains(['\n', '\r']) {
                prop_assert_eq!(kept(&edited), kept(&frame));
            }
        }
    }
}

#[test]
fn frames_end_with_their_blank_line() {
    assert_eq!(frames_of("data: 1\n\ndata: 2\n\n"), ["data: 1\n\n", "data: 2\n\n"]);
    assert_eq!(frames_of("data: 1\r\n\r\n: c\r\n\r\n"), ["data: 1\r\n\r\n", ": c\r\n\r\n"]);
    assert_eq!(frames_of("data: 1\r\rdata: 2\r\r"), ["data: 1\r\r", "data: 2\r\r"]);
    assert_eq!(frames_of("data: 1\n\ndata: 2"), ["data: 1\n\n", "data: 2"]);
    assert_eq!(frames_of("data: 1\n\r\ndata: 2\r\n\n"), ["data: 1\n\r\n", "data: 2\r\n\n"]);
    assert_eq!(frames_of("\n\r\n\n"), ["\n", "\r\n", "\n"]);
    assert_eq!(frames_of("data: 1\r\r\ndata: 2\n\n"), ["data: 1\r\r", "\n", "data: 2\n\n"]);
    assert_eq!(frames_of(""), [""; 0]);
}

#[test]
fn a_read_that_ends_on_a_border_is_not_copied() {
    let read = Bytes::from_static(b"data: 1\n\n: ping\n\ndata: 2\n\n");
    let mut framer = Framer::default();
    for _ in 0..2 {
        framer.push(read.clone());
        let mut at = read.as_ptr() as usize;
        for frame in &mut framer {
            assert_eq!(frame.bytes.as_ptr() as usize, at);
            at += frame.bytes.len();
        }
        assert_eq!((at, framer.pending()), (read.as_ptr() as usize + read.len(), 0));
    }
}

#[test]
fn only_the_unfinished_frame_is_held_back() {
    let mut framer = Framer::default();
    framer.push(Bytes::from_static(b"data: 1\n\ndata: "));
    assert_eq!(framer.next().unwrap().bytes, "data: 1\n\n");
    assert_eq!((framer.next(), framer.pending()), (None, 6));
    framer.push(Bytes::from_static(b"2\n\ndata: 3\n"));
    assert_eq!(framer.next().unwrap().bytes, "data: 2\n\n");
    assert_eq!((framer.next(), framer.pending()), (None, 8));
    assert_eq!((framer.rest(), framer.pending()), (Bytes::from_static(b"data: 3\n"), 0));
}

#[test]
fn a_cr_at_the_end_of_a_read_waits_only_where_crlf_may_be_meant() {
    let mut framer = Framer::default();
    framer.push(Bytes::from_static(b"data: 1\r\n\r"));
    assert_eq!(framer.next(), None, "half of a CRLF");
    framer.push(Bytes::from_static(b"\ndata: 2\r\n\r"));
    assert_eq!(framer.next().unwrap().bytes, "data: 1\r\n\r\n");
    assert_eq!(framer.rest(), "data: 2\r\n\r");

    framer.push(Bytes::from_static(b"data: 1\r\r"));
    assert_eq!(framer.next().unwrap().bytes, "data: 1\r\r", "a stream of lone CRs is never a read late");
    assert_eq!(framer.pending(), 0);
    framer.push(Bytes::from_static(b"data: 2\r"));
    assert_eq!(framer.next(), None);
    framer.push(Bytes::from_static(b"\rdata: 3"));
    assert_eq!(framer.next().unwrap().bytes, "data: 2\r\r");
    assert_eq!((framer.next(), framer.pending()), (None, 7));
}

#[test]
fn reads_pushed_without_draining_are_joined() {
    let mut framer = Framer::default();
    framer.push(Bytes::from_static(b"data: 1\n\nda"));
    framer.push(Bytes::from_static(b"ta: 2\n\n"));
    assert_eq!(framer.pending(), 18);
    assert_eq!(framer.map(|frame| frame.bytes).collect::<Vec<_>>(), ["data: 1\n\n", "data: 2\n\n"]);
}

#[test]
fn a_frame_too_long_comes_in_fragments() {
    let (frames, rest) = framed(&[b"data: 123", b"4567890\n\ndata: 1\n\n"], 9);
    let seen: Vec<_> = frames.iter().map(|frame| (&frame.bytes[..], frame.is_fragment())).collect();
    assert_eq!(seen, [(&b"data: 123"[..], true), (b"4567890\n\n", true), (b"data: 1\n\n", false)]);
    assert!(rest.is_empty());
    let piece = &frames[0];
    assert_eq!((piece.data(), piece.event(), piece.is_comment_only(), piece.is_done()), (None, None, false, false));
    assert_eq!(piece.with_data(b"x"), piece.bytes);
}

#[test]
fn data_is_read_by_the_format() {
    assert_eq!(frame("data: {}\n\n").data(), Some(Data::Line(6..8)));
    assert_eq!(frame("event: x\r\ndata:  {}\r\n\r\n").data(), Some(Data::Line(16..19)));
    assert_eq!(frame("data: a\ndata:b\ndata\n\n").data(), Some(Data::Joined(b"a\nb\n".to_vec())));
    assert_eq!(data_of("data"), Some(String::new()));
    assert_eq!(data_of("data: x"), Some("x".to_owned()), "unfinished at the end of a stream");
    assert_eq!(data_of("\u{feff}data: x\n\n"), Some("x".to_owned()));
    assert_eq!(data_of(": data: x\nDATA: x\n data: x\ndatax: x\n\n"), None);
}

#[test]
fn event_comment_and_done_are_told() {
    assert_eq!(frame("event: a\nevent:b\ndata: x\n\n").event(), Some(&b"b"[..]));
    assert_eq!(frame("data: x\n\n").event(), None);
    assert!(frame(": keep-alive\r\n\r\n").is_comment_only() && frame(":\n\n").is_comment_only());
    assert!(frame("\r\n").is_comment_only());
    assert!(!frame(": c\ndata: x\n\n").is_comment_only() && !frame("id: 1\n\n").is_comment_only());
    assert!(frame("data: [DONE]\n\n").is_done() && frame("data:[DONE] \r\n\r\n").is_done());
    assert!(!frame("data: [DONE]]\n\n").is_done() && !frame(": [DONE]\n\n").is_done());
}

#[test]
fn new_data_keeps_the_manner_of_the_frame() {
    for (before, after) in [
        ("data: old\n\n", "data: {}\n\n"),
        ("data:old\r\r", "data:{}\r\r"),
        ("id: 7\r\nevent: e\r\ndata: old\r\n: c\r\n\r\n", "id: 7\r\nevent: e\r\ndata: {}\r\n: c\r\n\r\n"),
        ("data: a\nid: 1\ndata: b\n\n", "data: {}\nid: 1\n\n"),
        ("data: old", "data: {}"),
        (": only\n\n", ": only\n\n"),
        ("\u{feff}data: old\n\n", "\u{feff}data: {}\n\n"),
    ] {
        assert_eq!(frame(before).with_data(b"{}"), after);
    }
    assert_eq!(frame("data: old\r\n\r\n").with_data(b"{\n}"), "data: {\r\ndata: }\r\n\r\n");
    assert_eq!(frame("data: old").with_data(b"1\r\n2"), "data: 1\ndata: 2");
}
