//! The scanner against serde_json: both must take the same documents and read the same members.
//!
//! Allowed differences, all named in [`agree`]: number ranges and the recursion limit of serde_json's `Value`.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const CHAT: &str = r#"{
  "model": "openai/gpt-4o-mini", "stream" : true,"temperature":-0.25e+1,
  "messages": [{"role": "system", "content": "Sei höflich. \"Ja\"\n\u00fc \ud83d\ude00"},
    {"role":"user","content":[{"type":"text","text":"What is in this picture, and why is it the 冰 that matters most here?"},
      {"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"}}]}],
  "tools": [ ], "metadata": { }, "seed": 0, "user": null, "logit_bias": {"50256": -100}, "n": 1E400, "stop": ["\\", "\/"],
  "parallel_tool_calls": false
}
"#;

/// Blanks of all four kinds.
fn blanks() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(String::new()), 3 => "[ \t\r\n]{1,3}", 1 => "\n {4,40}"]
}

fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,12})(\\.[0-9]{1,6})?([eE][+-]?[0-9]{1,2})?"
}

/// A string literal with its quotes: runs of every length, all escapes, surrogate pairs, characters of every width.
fn literal() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ !#-\\[\\]-~]{0,12}",
        1 => "[a-z]{50,150}",
        2 => "\\PC{0,4}".prop_map(|text| text.replace(['"', '\\'], "")),
        2 => "\\\\[\"\\\\/bfnrt]",
        1 => "\\\\u[0-9a-cA-C][0-9a-fA-F]{3}",
        1 => "\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}",
    ];
    vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// Keys that collide now and then, some of them only once decoded.
fn key() -> impl Strategy<Value = String> {
    const FIXED: &[&str] = &["", "a", "model", "\\u006dodel", "mode\\u006c", "\\u0061", "stream", "x\\ny"];
    prop_oneof![3 => proptest::sample::select(FIXED).prop_map(|text| format!("\"{text}\"")), 1 => literal()]
}

fn joined(parts: Vec<String>, open: char, close: char) -> String {
    format!("{open}{}{close}", parts.join(","))
}

fn object_of(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let member = (blanks(), key(), blanks(), blanks(), value, blanks())
        .prop_map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"));
    (vec(member, 0..6), blanks()).prop_map(|(members, blank)| match members.is_empty() {
        true => format!("{{{blank}}}"),
        false => joined(members, '{', '}'),
    })
}

fn value() -> impl Strategy<Value = String> {
    let scalar =
        prop_oneof![Just("true".to_owned()), Just("false".to_owned()), Just("null".to_owned()), number(), literal(),];
    scalar.prop_recursive(4, 40, 6, |inner| {
        let item = (blanks(), inner.clone(), blanks()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        prop_oneof![vec(item, 0..6).prop_map(|items| joined(items, '[', ']')), object_of(inner)]
    })
}

fn document() -> impl Strategy<Value = String> {
    let top = prop_oneof![4 => object_of(value()), 1 => value()];
    (blanks(), top, blanks()).prop_map(|(a, top, b)| format!("{a}{top}{b}"))
}

/// A document, mostly sound, with one to three bytes flipped, deleted or inserted.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let source = prop_oneof![3 => document(), 1 => Just(CHAT.to_owned())];
    let byte = prop_oneof![3 => proptest::sample::select(&b"{}[]\",:\\u0-.eE+tn d8\x00\x1f\n\xC3\xEF\xFF"[..]), 1 => any::<u8>()];
    (source, vec((any::<prop::sample::Index>(), 0..3, byte), 1..4)).prop_map(|(source, damages)| {
        let mut bytes = source.into_bytes();
        for (index, how, byte) in damages {
            let at = index.index(bytes.len() + 1);
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

fn kind_of_parsed(value: &Value) -> Kind {
    match value {
        Value::Object(_) => Kind::Object,
        Value::Array(_) => Kind::Array,
        Value::String(_) => Kind::String,
        Value::Number(_) => Kind::Number,
        Value::Bool(true) => Kind::True,
        Value::Bool(false) => Kind::False,
        Value::Null => Kind::Null,
    }
}

/// Both parsers' verdicts and findings on a document must be the same.
fn agree(doc: &[u8]) {
    let shown = String::from_utf8_lossy(doc);
    let (skimmed, validated) = (skim(doc, DEPTH_MAX_DEFAULT), validate(doc, DEPTH_MAX_DEFAULT));
    let parsed = match serde_json::from_slice::<Value>(doc) {
        Ok(parsed) => parsed,
        Err(error) => {
            let words = error.to_string();
            let ours_may_pass = words.contains("number out of range") || words.contains("recursion limit");
            assert!(ours_may_pass || validated.is_err(), "took what serde_json refused ({words}): {shown}");
            assert_eq!(
                matches!(skimmed, Err(SkimError::Malformed(_) | SkimError::Empty)),
                validated.is_err(),
                "{shown}"
            );
            return;
        }
    };
    assert_eq!(validated, Ok(kind_of_parsed(&parsed)), "{shown}");
    let Value::Object(map) = parsed else {
        assert_eq!(skimmed.err(), Some(SkimError::NotAnObject(kind_of_parsed(&parsed))), "{shown}");
        return;
    };
    let skim = skimmed.unwrap_or_else(|error| panic!("{error}: {shown}"));
    let shadowed = skim.shadowed(doc);
    assert_eq!(skim.members().len() - shadowed.len(), map.len(), "{shown}");
    for (name, value) in &map {
        let index = skim.find(doc, name).unwrap_or_else(|| panic!("{name:?} not found: {shown}"));
        assert!(!shadowed.contains(&index), "{shown}");
        assert_eq!(&serde_json::from_slice::<Value>(skim.value(doc, index)).unwrap(), value, "{shown}");
        assert_eq!(skim.members()[index].kind, kind_of_parsed(value), "{shown}");
        assert_eq!(skim.key(doc, index), name.as_str(), "{shown}");
    }
    for index in shadowed {
        assert!(skim.find(doc, &skim.key(doc, index)).unwrap() > index, "{shown}");
    }
    assert_eq!((doc[skim.braces().start], doc[skim.braces().end - 1]), (b'{', b'}'));
}

/// A tree built with the trusting iterators.
fn walked(value: &[u8]) -> Value {
    match kind_of(value).unwrap() {
        Kind::Object => {
            let member = |(key, value_at, kind): (std::ops::Range<usize>, std::ops::Range<usize>, Kind)| {
                assert_eq!(kind_of(&value[value_at.clone()]), Some(kind));
                (string(&value[key]).unwrap().into_owned(), walked(&value[value_at]))
            };
            Value::Object(members_of(value).map(member).collect())
        }
        Kind::Array => Value::Array(items_of(value).map(|(item, _)| walked(&value[item])).collect()),
        _ => serde_json::from_slice(value).unwrap(),
    }
}

proptest! {
    #[test]
    fn agrees_with_serde_json_on_sound_documents(doc in document()) {
        agree(doc.as_bytes());
        prop_assert!(validate(doc.as_bytes(), DEPTH_MAX_DEFAULT).is_ok());
    }

    #[test]
    fn agrees_with_serde_json_on_damaged_documents(doc in damaged()) {
        agree(&doc);
    }

    #[test]
    fn agrees_with_serde_json_on_soup(doc in "[\\[\\]{},:\"\\\\untrfalse0-9.eE+ -]{0,24}") {
        agree(doc.as_bytes());
    }

    #[test]
    fn walks_the_tree_that_serde_json_builds(doc in document()) {
        prop_assert_eq!(walked(doc.as_bytes()), serde_json::from_str::<Value>(&doc).unwrap());
    }

    #[test]
    fn walking_garbage_ends(doc in damaged(), junk in vec(any::<u8>(), 0..64)) {
        for bytes in [&doc[..], &junk[..]] {
            prop_assert!(members_of(bytes).count() <= bytes.len());
            prop_assert!(items_of(bytes).all(|(item, _)| item.start < item.end && item.end <= bytes.len()));
            let _ = (kind_of(bytes), string(bytes), spells(bytes, "model"));
        }
    }

    #[test]
    fn strings_decode_as_in_serde_json(quoted in literal()) {
        let expected: String = serde_json::from_str(&quoted).unwrap();
        let text = string(quoted.as_bytes()).unwrap();
        prop_assert_eq!(&text, &expected);
        prop_assert_eq!(matches!(text, std::borrow::Cow::Borrowed(_)), !quoted.contains('\\'));
        prop_assert!(spells(quoted.as_bytes(), &expected));
        let changed = format!("{expected}x");
        prop_assert!(!spells(quoted.as_bytes(), &changed));
    }

    #[test]
    fn quoted_text_comes_back(text in prop_oneof!["\\PC{0,80}", any::<String>(), "[\\x00-\\x7f]{0,40}"]) {
        let mut quoted = b"before".to_vec();
        quote_into(&mut quoted, &text);
        let quoted = quoted.strip_prefix(b"before").unwrap();
        prop_assert_eq!(&serde_json::from_slice::<String>(quoted).unwrap(), &text);
        prop_assert_eq!(string(quoted).unwrap(), text);
    }

    #[test]
    fn plain_runs_end_at_the_first_special_byte(
        mut bytes in vec(prop_oneof![0x20u8..=0x21, 0x23u8..=0x5b, 0x5du8..=0xff], 0..300),
        special in prop_oneof![Just(b'"'), Just(b'\\'), 0u8..0x20],
        at in any::<prop::sample::Index>(),
    ) {
        prop_assert_eq!(text::plain_run(&bytes), bytes.len());
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = special;
            prop_assert_eq!(text::plain_run(&bytes), at);
        }
    }
}

#[test]
fn takes_what_the_grammar_allows() {
    let docs = [
        "0",
        "-0",
        "-0.0e-0",
        "1E400",
        "-1e+99999",
        "123456789012345678901234567890",
        "0.1",
        " \t\r\n null \t\r\n ",
        "\"\"",
        "\"\\u0000\\uD83D\\uDE00\\/\"",
        "\"\u{7f}\u{2028}\u{10ffff}\"",
        "[]",
        "[ ]",
        "{}",
        "{ }",
        "[[],{}]",
        "{\"\":{\"\":[]}}",
        "{\"a\":1,\"a\":2,\"\\u0061\":3}",
        "true",
        "false",
    ];
    for doc in docs {
        assert!(validate(doc.as_bytes(), DEPTH_MAX_DEFAULT).is_ok(), "{doc}");
        agree(doc.as_bytes());
    }
}

#[test]
fn refuses_what_the_grammar_forbids() {
    let docs: &[&[u8]] = &[
        b"",
        b" ",
        b"\n",
        b"[1,]",
        b"{\"a\":1,}",
        b"[,1]",
        b"[1,,2]",
        b"{,}",
        b"[1 2]",
        b"{\"a\" 1}",
        b"{\"a\":}",
        b"{\"a\"}",
        b"{a:1}",
        b"{'a':1}",
        b"{1:1}",
        b"{\"a\":1 \"b\":2}",
        b"{\"a\"::1}",
        b"[}",
        b"{]",
        b"[1}",
        b"{\"a\":1]",
        b"[",
        b"{",
        b"]",
        b"}",
        b"[[]",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"None",
        b"True",
        b"nul",
        b"nulll",
        b"tru",
        b"undefined",
        b"01",
        b"-01",
        b"-",
        b"+1",
        b"1.",
        b".5",
        b"1e",
        b"1e+",
        b"1.e1",
        b"1.5.5",
        b"0x10",
        b"1_000",
        b"--1",
        b"1 1",
        b"{} {}",
        b"{}x",
        b"{}\0",
        b"\0",
        b"// c\n1",
        b"1 /* c */",
        b"\"a",
        b"\"",
        b"\"\n\"",
        b"\"\t\"",
        b"\"\x00\"",
        b"\"\x1f\"",
        b"\"\\x41\"",
        b"\"\\",
        b"\"\\\"",
        b"\"\\u\"",
        b"\"\\u12\"",
        b"\"\\u12",
        b"\"\\u123g\"",
        b"\"\\u+123\"",
        b"\"\\ud800\"",
        b"\"\\udc00\"",
        b"\"\\ud800x\"",
        b"\"\\ud800\\n\"",
        b"\"\\ud800\\u0041\"",
        b"\"\\ud800\\ud800\"",
        b"\"\\udc00\\ud800\"",
        b"\"\\ud800\\u\"",
        b"\"\\ud83d\\ude0",
        b"{\"\\ud800\":1}",
        b"\xEF\xBB\xBF{}",
        b"{}\xEF\xBB\xBF",
        b"\xC3\xA9",
        b"\xFF",
        b"\"\xFF\"",
        b"\"\xC0\xAF\"",
        b"\"\xED\xA0\x80\"",
        b"\"\xF4\x90\x80\x80\"",
        b"\"\xC3\"",
        b"{\"a\":1}\xFF",
        b"\xFF\xFE{\0}\0",
        b"\xFE\xFF\0{\0}",
        b"{\0}\0",
        b"\0{\0}",
        b"\x0C{}",
        b"\xC2\xA0{}",
        b"[1\x0B]",
    ];
    for doc in docs {
        assert!(validate(doc, DEPTH_MAX_DEFAULT).is_err(), "{}", String::from_utf8_lossy(doc));
        agree(doc);
    }
}

#[test]
fn refuses_every_truncation_of_a_chat() {
    let sound = CHAT.trim_end();
    assert!(skim(CHAT.as_bytes(), DEPTH_MAX_DEFAULT).is_ok());
    for end in 0..sound.len() {
        let doc = &sound.as_bytes()[..end];
        assert!(validate(doc, DEPTH_MAX_DEFAULT).is_err(), "{end}");
        assert_eq!(matches!(skim(doc, DEPTH_MAX_DEFAULT), Err(SkimError::Malformed(_))), end > 0, "{end}");
    }
}

#[test]
fn says_where_and_what() {
    let places: &[(&[u8], usize, u32, u32, &str)] = &[
        (b"{\"a\":1,}", 7, 1, 8, "trailing comma before a closing brace"),
        (b"{\n  \"a\": 1\n  \"b\": 2}", 13, 3, 3, "expected a comma or a closing brace"),
        (b"[1\r\n,\r2 3]", 8, 3, 3, "expected a comma or a closing bracket"),
        ("{\"ä冰😀\" 1}".as_bytes(), 13, 1, 8, "expected a colon after a key"),
        (b"{a:1}", 1, 1, 2, "expected a key in double quotes"),
        (b"{\"a\":", 5, 1, 6, "unexpected end of the document"),
        (b"{\"a\":NaN}", 5, 1, 6, "expected a value"),
        (b"{\"a\":\"x\ny\"}", 7, 1, 8, "control character in a string"),
        (b"{\"a\":\"\\q\"}", 6, 1, 7, "invalid escape in a string"),
        (b"{\"a\":\"\\ud800\"}", 6, 1, 7, "lone surrogate escape in a string"),
        (b"{\"a\":\"\\u12", 6, 1, 7, "expected four hexadecimal digits after \\u"),
        (b"{\"a\":012}", 6, 1, 7, "leading zero in a number"),
        (b"{\"a\":1.}", 7, 1, 8, "expected a digit in a number"),
        (b"{} x", 3, 1, 4, "unexpected text after the document"),
        (b"\xEF\xBB\xBF{}", 0, 1, 1, "byte order mark before the document"),
        (b"{\n\"a\":\"\xFF\"}", 7, 2, 6, "invalid UTF-8"),
        (b"[[[[1]]]]", 3, 1, 4, "nested too deeply"),
    ];
    for &(doc, offset, line, column, what) in places {
        let fault = Fault { offset, line, column, what };
        assert_eq!(validate(doc, 3), Err(fault), "{}", String::from_utf8_lossy(doc));
        assert_eq!(skim(doc, 3).err(), Some(SkimError::Malformed(fault)));
        assert_eq!(fault.to_string(), format!("{what} at line {line} column {column}"));
    }
}

#[test]
fn tells_empty_and_other_values_apart_from_faults() {
    assert_eq!(skim(b"", 8).err(), Some(SkimError::Empty));
    assert_eq!(skim(b" \t\r\n", 8).err(), Some(SkimError::Empty));
    assert_eq!(skim(b" [1] ", 8).err(), Some(SkimError::NotAnObject(Kind::Array)));
    assert_eq!(skim(b"\"x\"", 8).err(), Some(SkimError::NotAnObject(Kind::String)));
    assert!(matches!(skim(b"[1", 8), Err(SkimError::Malformed(_))), "a broken array is broken first");
    assert!(skim(b"{}", 8).unwrap().is_empty());
}

#[test]
fn holds_the_depth_limit() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for (depth, passes) in [(127, true), (128, true), (129, false), (100_000, false)] {
        assert_eq!(validate(nested(depth).as_bytes(), 128).is_ok(), passes, "{depth}");
        assert_eq!(validate(objects(depth).as_bytes(), 128).is_ok(), passes, "{depth}");
        assert_eq!(skim(objects(depth).as_bytes(), 128).is_ok(), passes, "{depth}");
    }
    assert!(validate(b"1", 0).is_ok());
    assert!(validate(b"[]", 0).is_err());
    assert!(validate(nested(100_000).as_bytes(), u32::MAX).is_ok());
    assert!(validate("[".repeat(100_000).as_bytes(), u32::MAX).is_err());
    assert_eq!(items_of(nested(100_000).as_bytes()).count(), 1);
}

#[test]
fn remembers_which_bracket_closes_at_any_depth() {
    // A pattern without a period that divides 64, so that a mix-up where words meet would show.
    let is_object = |depth: usize| depth % 3 == 1 || depth % 7 == 2;
    let mut doc = String::new();
    let mut closing = Vec::new();
    for depth in 0..200 {
        doc.push_str(if is_object(depth) { "{\"k\":" } else { "[" });
        closing.push(if is_object(depth) { b'}' } else { b']' });
    }
    let mut doc = doc.into_bytes();
    doc.extend_from_slice(b"0");
    let tail_start = doc.len();
    doc.extend(closing.iter().rev());
    assert_eq!(validate(&doc, 200), Ok(Kind::Array));
    for at in tail_start..doc.len() {
        let mut wrong = doc.clone();
        wrong[at] = if doc[at] == b'}' { b']' } else { b'}' };
        assert_eq!(validate(&wrong, 200).map_err(|fault| fault.offset), Err(at));
    }
}

#[test]
fn the_last_duplicate_wins_and_the_others_are_named() {
    let doc = br#"{"model":"a","\u006dodel":"b","x":1,"mode\u006C":"c","":0,"":1}"#;
    let skim = skim(doc, 8).unwrap();
    assert_eq!(skim.find(doc, "model"), Some(3));
    assert_eq!(skim.value(doc, 3), b"\"c\"");
    assert_eq!(skim.shadowed(doc), [0, 1, 4]);
    assert_eq!((skim.find(doc, ""), skim.find(doc, "mod"), skim.find(doc, "\\u006dodel")), (Some(5), None, None));
    assert_eq!(skim.key(doc, 1), "model");
    assert_eq!((skim.members()[0].key_escaped, skim.members()[1].key_escaped), (false, true));
}

#[test]
fn many_and_repeated_keys_stay_cheap() {
    for (name, shadowed) in [("same", 99_999), ("\\u0073ame", 99_999), ("", 0)] {
        let key = |index: usize| if shadowed == 0 { format!("\"k{index}\":1") } else { format!("\"{name}\":1") };
        let doc = joined((0..100_000).map(key).collect(), '{', '}').into_bytes();
        let skim = skim(&doc, 8).unwrap();
        assert_eq!(skim.shadowed(&doc).len(), shadowed);
        assert_eq!(skim.find(&doc, "same").is_some(), shadowed > 0);
    }
}

#[test]
fn refuses_more_members_than_it_would_list() {
    let doc = |members: usize| joined(vec!["\"\":1".to_owned(); members], '{', '}').into_bytes();
    assert!(skim(&doc(MEMBERS_MAX), 8).is_ok());
    assert!(matches!(skim(&doc(MEMBERS_MAX + 1), 8), Err(SkimError::Malformed(_))));
    assert!(validate(&doc(MEMBERS_MAX + 1), 8).is_ok());
}

#[test]
fn values_are_their_exact_bytes() {
    let doc = b" {\"a\" : 1.0E+2 , \"b\":[ 1 ]\t,\"c\":\"\\u0041\"} ";
    let skim = skim(doc, 8).unwrap();
    let values: Vec<_> = (0..3).map(|index| skim.value(doc, index)).collect();
    assert_eq!(values, [&b"1.0E+2"[..], b"[ 1 ]", b"\"\\u0041\""]);
    assert_eq!((skim.value(doc, 3), skim.key(doc, 3).as_ref()), (&b""[..], ""));
}

#[test]
fn what_is_no_string_has_no_text() {
    for value in ["", "\"", "a", "\"a", "a\"", "\"a\"b\"", "\"\\\"", "\"\\q\"", "1", "\"\\n\"\""] {
        assert_eq!(string(value.as_bytes()), None, "{value}");
    }
    assert_eq!(string(b"\"\xFF\""), None);
    assert!(!spells(b"", "") && !spells(b"\"", "") && spells(b"\"\"", ""));
    assert!(!spells(b"\"a\\n\"", "a\\n"), "the escape, not its spelling");
}

#[test]
fn halves_of_surrogate_pairs_are_no_fault_of_an_answer() {
    for value in ["\"\\ud83d\"", "\"\\ude00x\"", "\"\\ud83d\\ud83d\"", "\"\\ud83d\\n\""] {
        let doc = format!("{{\"a\":{value}}}");
        assert!(skim(doc.as_bytes(), 8).is_err(), "{doc}");
        let found = skim_answer(doc.as_bytes(), 8).expect("an answer may hold half a pair");
        assert_eq!(found.value(doc.as_bytes(), 0), value.as_bytes());
        assert!(string(value.as_bytes()).is_some_and(|text| text.contains(char::REPLACEMENT_CHARACTER)), "{value}");
    }
    assert!(skim_answer(b"{\"a\":\"\\ud8\"}", 8).is_err(), "half an escape is still a fault");
}
