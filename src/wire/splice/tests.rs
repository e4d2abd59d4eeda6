//! Splices against the same edits made on an ordered list, and paths against the same removals made on a tree.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::wire::json::{DEPTH_MAX_DEFAULT, skim};

#[derive(Clone, Debug)]
enum Asked {
    Remove(prop::sample::Index),
    Replace(prop::sample::Index, String),
    Rename(prop::sample::Index, String),
    Append(String, String),
}

const VALUES: &[&str] = &["1.50", "\"x\\u0041\"", "[ 1 , 2 ]", "{ \"in\":{} }", "null", "\"\"", "-0", "true"];
const BLANKS: &[&str] = &["", "", " ", "\n  ", "\t\r\n"];

fn value() -> impl Strategy<Value = String> {
    proptest::sample::select(VALUES).prop_map(str::to_owned)
}

fn blanks() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(BLANKS)
}

/// An object as it is written, and its members as (key with quotes, value).
fn object() -> impl Strategy<Value = (String, Vec<(String, String)>)> {
    let member = (blanks(), "\"[a-d]{0,2}(\\\\u0061)?\"", blanks(), blanks(), value(), blanks());
    (blanks(), vec(member, 0..7), blanks(), blanks()).prop_map(|(before, members, inside, after)| {
        let pairs = members.iter().map(|(_, key, _, _, value, _)| (key.clone(), value.clone())).collect();
        let written: Vec<_> =
            members.into_iter().map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}")).collect();
        (format!("{before}{{{inside}{}}}{after}", written.join(",")), pairs)
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => index().prop_map(Asked::Remove),
        2 => (index(), value()).prop_map(|(index, value)| Asked::Replace(index, value)),
        2 => (index(), "[a-z\"\n]{0,3}").prop_map(|(index, key)| Asked::Rename(index, key)),
        1 => ("[a-z\\\\]{0,3}", value()).prop_map(|(key, value)| Asked::Append(key, value)),
    ]
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Makes the edits on a splice and, the naive way, on the list of members.
fn edit<'a>(splice: &mut Splice<'a>, asked: &'a [Asked], members: &[(String, String)]) -> Vec<(String, String)> {
    let mut list: Vec<Option<(String, String)>> = members.iter().cloned().map(Some).collect();
    for ask in asked {
        match ask {
            Asked::Append(key, value) => {
                splice.append(key, value.as_bytes());
                list.push(Some((quoted(key), value.clone())));
            }
            _ if members.is_empty() => {}
            Asked::Remove(index) => {
                splice.remove(index.index(members.len()));
                list[index.index(members.len())] = None;
            }
            Asked::Replace(index, value) => {
                splice.replace(index.index(members.len()), value.as_bytes());
                if let Some(member) = &mut list[index.index(members.len())] {
                    member.1 = value.clone();
                }
            }
            Asked::Rename(index, key) => {
                splice.rename(index.index(members.len()), key);
                if let Some(member) = &mut list[index.index(members.len())] {
                    member.0 = quoted(key);
                }
            }
        }
    }
    list.into_iter().flatten().collect()
}

/// The members as they are written in a document.
fn members_in(doc: &[u8]) -> Vec<(String, String)> {
    let skim = skim(doc, DEPTH_MAX_DEFAULT).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(doc)));
    let text = |span: std::ops::Range<usize>| String::from_utf8(doc[span].to_vec()).unwrap();
    skim.members().iter().map(|member| (text(member.key_span()), text(member.value_span()))).collect()
}

proptest! {
    #[test]
    fn splices_do_what_the_same_edits_do_to_a_list((doc, members) in object(), asked in vec(asked(), 0..8)) {
        let doc = Bytes::from(doc);
        let skimmed = skim(&doc, DEPTH_MAX_DEFAULT).unwrap();
        let mut splice = Splice::new(&doc, &skimmed);
        let expected = edit(&mut splice, &asked, &members);
        let untouched = splice.is_untouched();
        let edited = splice.finish();
        serde_json::from_slice::<Value>(&edited).unwrap();
        prop_assert_eq!(members_in(&edited), expected);
        if untouched {
            prop_assert_eq!(edited.as_ptr(), doc.as_ptr());
        }
    }

    #[test]
    fn patches_do_what_edits_from_the_back_do(
        doc in "[a-z]{0,30}",
        edits in vec((0usize..40, 0usize..6, "[A-Z]{0,4}"), 0..6),
    ) {
        let mut patches: Vec<_> = edits.into_iter()
            .map(|(start, length, new)| Patch { range: start..start + length, bytes: new.into() })
            .collect();
        patches.sort_by_key(|patch| patch.range.start);
        let mut end = 0;
        patches.retain(|patch| {
            let fits = patch.range.start >= end && patch.range.end <= doc.len();
            if fits { end = patch.range.end }
            fits
        });
        let mut expected = doc.clone().into_bytes();
        for patch in patches.iter().rev() {
            expected.splice(patch.range.clone(), patch.bytes.iter().copied());
        }
        prop_assert_eq!(apply(doc.as_bytes(), &mut patches), expected);
    }

    #[test]
    fn paths_remove_what_they_name(
        names in vec(vec(proptest::sample::select(&["a", "b", "\\u0061", "c"][..]), 0..5), 0..4),
        blank in blanks(),
    ) {
        let item = |names: &Vec<&str>| {
            let members: Vec<_> = names.iter().map(|name| format!("{blank}\"{name}\":{{\"a\" :[1]}}")).collect();
            format!("{{{}{blank}}}", members.join(&format!("{blank},")))
        };
        let doc = format!("[{}]", names.iter().map(item).collect::<Vec<_>>().join(" , "));
        let mut expected: Value = serde_json::from_str(&doc).unwrap();
        let mut removed = false;
        for item in expected.as_array_mut().unwrap() {
            removed |= item.as_object_mut().unwrap().remove("a").is_some();
        }
        let left = Path::parse("x[*].a").unwrap().remove_from(doc.as_bytes());
        prop_assert_eq!(left.is_some(), removed);
        let left = left.unwrap_or(doc.into_bytes());
        prop_assert_eq!(serde_json::from_slice::<Value>(&left).unwrap(), expected);
    }
}

fn spliced(doc: &str, change: impl FnOnce(&mut Splice<'_>)) -> String {
    let doc = Bytes::copy_from_slice(doc.as_bytes());
    let skimmed = skim(&doc, DEPTH_MAX_DEFAULT).unwrap();
    let mut splice = Splice::new(&doc, &skimmed);
    change(&mut splice);
    String::from_utf8(splice.finish().to_vec()).unwrap()
}

#[test]
fn a_removed_member_takes_one_comma_along() {
    let doc = "{ \"a\" : 1 ,\n  \"b\":2 , \"c\": 3 }";
    assert_eq!(spliced(doc, |splice| splice.remove(0)), "{ \"b\":2 , \"c\": 3 }");
    assert_eq!(spliced(doc, |splice| splice.remove(1)), "{ \"a\" : 1 , \"c\": 3 }");
    assert_eq!(spliced(doc, |splice| splice.remove(2)), "{ \"a\" : 1 ,\n  \"b\":2 }");
    assert_eq!(spliced(doc, |splice| (0..3).rev().for_each(|index| splice.remove(index))), "{  }");
}

#[test]
fn members_are_appended_behind_the_last() {
    assert_eq!(spliced("{}", |splice| splice.append("a\"", b"1")), "{\"a\\\"\":1}");
    assert_eq!(spliced(" {\n} ", |splice| splice.append("a", b"1")), " {\"a\":1\n} ");
    assert_eq!(spliced("{\n  \"a\": 1\n}\n", |splice| splice.append("b", b"2")), "{\n  \"a\": 1,\"b\":2\n}\n");
    let swapped = spliced("{\"a\":1}", |splice| {
        splice.append("b", b"2");
        splice.remove(0);
        splice.append("c", b"3");
    });
    assert_eq!(swapped, "{\"b\":2,\"c\":3}");
}

#[test]
fn the_last_change_counts_and_a_removal_stays() {
    let twice = spliced("{\"a\":1}", |splice| {
        splice.replace(0, &b"2"[..]);
        splice.rename(0, "b");
        splice.replace(0, b"3".to_vec());
        splice.rename(0, "c");
    });
    assert_eq!(twice, "{\"c\":3}");
    let gone = spliced("{\"a\":1}", |splice| {
        splice.remove(0);
        splice.replace(0, &b"2"[..]);
    });
    assert_eq!(gone, "{}");
}

#[test]
fn an_edited_document_takes_one_exact_allocation() {
    let doc = Bytes::from_static(b"{\"a\":1,\"b\":2}");
    let skimmed = skim(&doc, DEPTH_MAX_DEFAULT).unwrap();
    let mut splice = Splice::new(&doc, &skimmed);
    splice.remove(0);
    splice.append("c", b"3");
    let edited = splice.finish();
    assert_eq!(edited, "{\"b\":2,\"c\":3}");
    assert_eq!(Vec::from(edited.clone()).capacity(), edited.len());
}

#[test]
#[should_panic(expected = "member 1 of 1")]
fn a_member_that_is_not_there_cannot_be_edited() {
    spliced("{\"a\":1}", |splice| splice.remove(1));
}

#[test]
fn patches_insert_delete_and_keep_out_of_each_other() {
    let patch = |range, bytes: &'static str| Patch { range, bytes: Bytes::from(bytes) };
    let mut patches = [patch(6..6, "!"), patch(0..1, "H"), patch(2..4, ""), patch(3..5, "lost"), patch(5..9, "lost")];
    assert_eq!(apply(b"hello.", &mut patches), b"Heo.!");
    let mut doubled = [patch(1..1, "x"), patch(1..1, "y")];
    assert_eq!(apply(b"ab", &mut doubled), b"axyb");
}

#[test]
fn paths_are_read_as_litellm_writes_them() {
    for (text, root, nested) in [
        ("user", "user", false),
        ("a.b", "a", true),
        ("tools[*].strict", "tools", true),
        ("messages[0].name", "messages", true),
        ("tools[*].function.parameters.x", "tools", true),
        ("a[0][1].b", "a", true),
        ("a-b.c d", "a-b", true),
    ] {
        let path = Path::parse(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!((path.root(), path.is_nested()), (root, nested), "{text}");
    }
    let too_long = vec!["a"; STEPS_MAX + 1].join(".");
    for text in ["", ".", "[0]", "[*].a", "a[0]", "a[*]", "a[", "a[0", "a[x].b", "a[-1].b", "a[].b", &too_long] {
        assert_eq!(Path::parse(text), None, "{text}");
    }
}

#[test]
fn nested_members_are_removed_with_their_comma() {
    for (path, before, after) in [
        ("a.b", r#"{"b":1}"#, Some("{}")),
        ("a.b", r#"{ "b": 1, "c":2 }"#, Some(r#"{ "c":2 }"#)),
        ("a.b", r#"{"c":2 , "b":1}"#, Some(r#"{"c":2}"#)),
        ("a.b", r#"{"b":1,"b":2,"c":3,"\u0062":4,"d":5,"b":6}"#, Some(r#"{"c":3,"d":5}"#)),
        ("a.b.c", r#"{"b":{"c":[1,{}],"d":"}"}}"#, Some(r#"{"b":{"d":"}"}}"#)),
        ("a[*].b", r#"[{"b":1},2,{"c":1},[{"b":2}],{"b":3,"c":4}]"#, Some(r#"[{},2,{"c":1},[{"b":2}],{"c":4}]"#)),
        ("a[1].b", r#"[{"b":1},{"b":2}]"#, Some(r#"[{"b":1},{}]"#)),
        ("a[0][1].b", r#"[[0,{"b":1}]]"#, Some(r#"[[0,{}]]"#)),
        ("a.b", r#"{"c":{"b":1}}"#, None),
        ("a.b", r#"[{"b":1}]"#, None),
        ("a[0].b", r#"{"b":1}"#, None),
        ("a[7].b", r#"[{"b":1}]"#, None),
        ("a.b", "null", None),
        ("a", r#"{"a":1}"#, None),
    ] {
        let left = Path::parse(path).unwrap().remove_from(before.as_bytes());
        assert_eq!(left.map(|left| String::from_utf8(left).unwrap()).as_deref(), after, "{path} in {before}");
    }
}
