//! YAML text -> a tree in which every key and value knows its place.
//!
//! The parser is serde-saphyr's own (`granit_parser`), read as events: deserializing into structs would stop at the first
//! fault and lose how a value was written. Here anchors, aliases and merge keys are resolved and repeated keys reported.
//! It knows YAML and refuses to know any key's meaning, and no message of it quotes the text, which may hold a secret.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::fault::{Fault, Level, Place};
use super::syntax;

/// Values in one file, those an alias repeats included. A file of 1,000 models has about 20,000.
const NODES_MAX: usize = 200_000;
/// How deep lists and mappings may nest. LiteLLM's file needs seven levels.
const DEPTH_MAX: usize = 64;

/// A value and where it was written. Behind an alias that is where the anchor is.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub place: Place,
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A scalar: its text, and whether it was written bare, so that YAML may read a number or a flag in it.
    Scalar {
        text: String,
        bare: bool,
    },
    List(Vec<Node>),
    Map(Vec<Member>),
}

/// One `key: value` of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub key: String,
    /// The key was written without quotation marks.
    pub key_bare: bool,
    pub key_place: Place,
    pub value: Node,
}

impl Node {
    /// The value that stands for nothing: `key:`, `~`, `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, bare: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// For messages: "a list", "a mapping", "a single value".
    pub fn shape(&self) -> &'static str {
        match self.kind {
            Kind::Scalar { .. } if self.is_null() => "empty",
            Kind::Scalar { .. } => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    fn size(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar { .. } => 0,
            Kind::List(items) => items.iter().map(Node::size).sum(),
            Kind::Map(members) => members.iter().map(|member| member.value.size()).sum(),
        }
    }
}

/// Reads `text`. Without a tree there is at least one error among the faults; an empty file is an empty mapping.
pub(super) fn read(text: &str) -> (Option<Node>, Vec<Fault>) {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { parser, anchors: HashMap::new(), faults: Vec::new(), nodes: 0 };
    let tree = match builder.document() {
        Ok(tree) => Some(tree),
        Err(Stop::Syntax(error)) => {
            builder.faults.push(syntax::explain(&error, text));
            None
        }
        Err(Stop::Told) => None,
    };
    (tree, builder.faults)
}

/// Why reading ended early.
enum Stop {
    Syntax(Box<ScanError>),
    Told,
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, (Node, usize)>,
    faults: Vec<Fault>,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return self
                        .stop(place(span), "a second document starts here; the file has to be one (remove `---`)");
                }
                Event::DocumentStart(..) => {}
                other => root = Some(self.node(other, span, 0)?),
            }
        }
        Ok(root.unwrap_or(Node { place: Place { line: 1, column: 1 }, kind: Kind::Map(Vec::new()) }))
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(error)) => Err(Stop::Syntax(Box::new(error))),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn stop<T>(&mut self, place: Place, message: &str) -> Result<T, Stop> {
        self.error(place, message.to_owned());
        Err(Stop::Told)
    }

    fn error(&mut self, place: Place, message: String) {
        self.faults.push(Fault { place, level: Level::Error, message });
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Stop> {
        let place = place(span);
        self.charge(1, place)?;
        if depth > DEPTH_MAX {
            return self.stop(place, "lists and mappings nest too deeply here (64 levels are the limit)");
        }
        let (anchor, kind) = match event {
            Event::Alias(anchor) => return self.alias(anchor, place),
            Event::Scalar(text, style, anchor, tag) => {
                let bare = self.bare(style, tag.as_deref(), place);
                (anchor, Kind::Scalar { text: text.into_owned(), bare })
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), "seq", place);
                (anchor, self.list(depth)?)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), "map", place);
                (anchor, self.map(depth)?)
            }
            _ => return self.stop(place, "this is not a value YAML knows"),
        };
        let node = Node { place, kind };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), node.size()));
        }
        Ok(node)
    }

    /// Counts values, an alias with all it repeats, so that a few lines cannot grow into gigabytes.
    fn charge(&mut self, nodes: usize, place: Place) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        self.stop(place, "the file grows past 200000 values here, aliases (`*name`) counted with all they repeat")
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<Node, Stop> {
        let Some((_, size)) = self.anchors.get(&anchor) else {
            return self.stop(place, "an alias cannot stand inside the value it repeats");
        };
        self.charge(*size, place)?;
        Ok(self.anchors[&anchor].0.clone())
    }

    fn list(&mut self, depth: usize) -> Result<Kind, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Kind, Stop> {
        let mut members: Vec<Member> = Vec::new();
        let mut merges = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => break,
                (event, span) => self.node(event, span, depth + 1)?,
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            match key.kind {
                Kind::Scalar { text, bare: true } if text == "<<" => merges.push(value),
                Kind::Scalar { text, bare } => {
                    self.member(&mut members, Member { key: text, key_bare: bare, key_place: key.place, value });
                }
                _ => self.error(key.place, "a key has to be a single word, not a list or a mapping".to_owned()),
            }
        }
        for merge in merges {
            self.merge(&mut members, merge);
        }
        Ok(Kind::Map(members))
    }

    /// A repeated key is an error, and the last one is kept, as Python's YAML does, so that reading can go on.
    fn member(&mut self, members: &mut Vec<Member>, member: Member) {
        if let Some(first) = members.iter_mut().find(|first| first.key == member.key) {
            let (key, line, place) = (syntax::quoted(&member.key), first.key_place.line, member.key_place);
            *first = member;
            self.error(place, format!("{key} is already set at line {line}; keep one of them"));
        } else {
            members.push(member);
        }
    }

    /// `<<: *base`: what the mapping itself says wins, then the earlier of several bases.
    fn merge(&mut self, members: &mut Vec<Member>, base: Node) {
        match base.kind {
            Kind::Map(inherited) => {
                for member in inherited {
                    if !members.iter().any(|own| own.key == member.key) {
                        members.push(member);
                    }
                }
            }
            Kind::List(bases) if bases.iter().all(|base| matches!(base.kind, Kind::Map(_))) => {
                bases.into_iter().for_each(|base| self.merge(members, base));
            }
            _ => self.error(base.place, "`<<` takes a mapping or a list of mappings, usually `*name`".to_owned()),
        }
    }

    /// Whether a scalar may be read as a number or a flag; a tag can force it either way.
    fn bare(&mut self, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> bool {
        match tag.map(|tag| tag.core_suffix()) {
            None => style == ScalarStyle::Plain,
            Some(Some("str")) => false,
            Some(Some("int" | "float" | "bool" | "null")) => true,
            Some(_) => {
                self.tag(tag, "str", place);
                false
            }
        }
    }

    fn tag(&mut self, tag: Option<&Tag>, expected: &str, place: Place) {
        if tag.is_some_and(|tag| tag.core_suffix() != Some(expected)) {
            self.error(place, "YAML tags such as `!name` are not understood here; remove it".to_owned());
        }
    }
}

fn place(span: Span) -> Place {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Place { line: number(span.start.line()), column: number(span.start.col().saturating_add(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &Node) -> String {
        match &node.kind {
            Kind::Scalar { text, bare } => format!("{text}{}", if *bare { "" } else { "'" }),
            Kind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
            Kind::Map(members) => {
                let member = |m: &Member| format!("{}={}", m.key, show(&m.value));
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn tree(text: &str) -> String {
        let (tree, faults) = read(text);
        assert_eq!(faults, [], "{text}");
        show(&tree.unwrap())
    }

    #[test]
    fn keeps_how_a_value_was_written() {
        assert_eq!(
            tree("a: 4.7\nb: '4.7'\nc: !!str 4.7\nd: [yes, \"no\"]\ne:\n"),
            "{a=4.7 b=4.7' c=4.7' d=[yes no'] e=~}"
        );
        assert_eq!(tree(""), "{}");
        assert_eq!(tree("# only words\n"), "{}");
        assert_eq!(tree("\u{feff}a: 1\r\nb: 2\r\n"), "{a=1 b=2}");
    }

    #[test]
    fn anchors_aliases_and_merges() {
        assert_eq!(tree("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: *x\n"), "{x={a=1 b=2} y={b=3 a=1} z={a=1 b=2}}");
        assert_eq!(tree("x: &x {a: 1}\nw: &w {a: 2, c: 4}\ny: {<<: [*x, *w]}\n"), "{x={a=1} w={a=2 c=4} y={a=1 c=4}}");
    }

    #[test]
    fn places_count_from_one_in_characters() {
        let (tree, _) = read("ü: {b: 1,\n  c: x}\n");
        let Kind::Map(members) = tree.unwrap().kind else { panic!("a mapping") };
        let Kind::Map(inner) = &members[0].value.kind else { panic!("a mapping") };
        assert_eq!(inner[0].value.place, Place { line: 1, column: 8 });
        assert_eq!(inner[1].key_place, Place { line: 2, column: 3 });
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let before = level - 1;
            text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{before}"); 10].join(", "));
        }
        let (tree, faults) = read(&text);
        assert!(tree.is_none());
        assert!(faults[0].message.contains("200000 values"), "{faults:?}");
    }

    #[test]
    fn depth_and_self_reference_are_refused() {
        assert!(read(&"[".repeat(5_000)).0.is_none());
        assert!(read(&"- ".repeat(5_000)).0.is_none());
        assert!(read("a: &a [*a]\n").0.is_none());
        assert!(read("a: *nowhere\n").0.is_none());
    }
}
