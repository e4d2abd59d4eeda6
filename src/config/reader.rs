//! Typed reading of a tree that notes every fault and goes on.
//!
//! A `Fields` is one mapping being read: each key is taken once, by type, and `finish` speaks of all that was not taken,
//! by the table of supported keys. Values from the environment and values that look like keys are never shown. It knows
//! how to read and what to say, and refuses to know which keys there are: the walk asks for those.

use std::ops::RangeInclusive;

use super::env::Environment;
use super::fault::{Fault, Level, Place};
use super::reference::{Reference, reference};
use super::support::{self, Row, Section, Status};
use super::syntax::quoted;
use super::tree::{Kind, Member, Node};
use super::{Strictness, scalar};

/// What a reading of one file shares: the environment and the faults.
pub(super) struct Desk {
    pub env: Environment,
    pub strictness: Strictness,
    pub faults: Vec<Fault>,
}

/// A scalar with references resolved.
pub(super) struct Value {
    pub text: String,
    /// Written without quotation marks, or from the environment: numbers and flags may be read from it.
    pub bare: bool,
    pub place: Place,
    /// The variable it came from.
    pub variable: Option<String>,
}

/// Why a scalar has no value.
pub(super) enum Missing {
    /// There is none (`key:`).
    Empty,
    /// The variable it refers to is not set, or blank.
    Unset(String),
    /// A fault was noted.
    Told,
}

impl Desk {
    pub fn note(&mut self, place: Place, message: impl Into<String>) {
        self.fault(place, Level::Note, message.into());
    }

    pub fn warn(&mut self, place: Place, message: impl Into<String>) {
        self.fault(place, Level::Warning, message.into());
    }

    pub fn error(&mut self, place: Place, message: impl Into<String>) {
        self.fault(place, Level::Error, message.into());
    }

    pub fn fault(&mut self, place: Place, level: Level, message: String) {
        self.faults.push(Fault { place, level, message });
    }

    /// The scalar in `node`, or why there is none. `what` names it in messages.
    pub fn resolve(&mut self, node: &Node, what: &str, wanted: &str) -> Result<Value, Missing> {
        let Kind::Scalar { text, bare } = &node.kind else {
            self.error(node.place, format!("{what} must be {wanted}, not {}", node.shape()));
            return Err(Missing::Told);
        };
        if node.is_null() {
            return Err(Missing::Empty);
        }
        match reference(text) {
            Reference::No => Ok(Value { text: text.clone(), bare: *bare, place: node.place, variable: None }),
            Reference::Misspelt(advice) => {
                self.error(node.place, format!("{what}: {advice}"));
                Err(Missing::Told)
            }
            Reference::To(name) => match self.env.filled(name) {
                Some(text) => {
                    Ok(Value { text: text.to_owned(), bare: true, place: node.place, variable: Some(name.to_owned()) })
                }
                None => Err(Missing::Unset(name.to_owned())),
            },
        }
    }

    /// As `resolve`, for values that have to be there: what is missing is noted.
    pub fn value(&mut self, node: &Node, what: &str, wanted: &str) -> Option<Value> {
        match self.resolve(node, what, wanted) {
            Ok(value) => return Some(value),
            Err(Missing::Told) => {}
            Err(Missing::Empty) => self.note(node.place, format!("{what} has no value and counts as not set")),
            Err(Missing::Unset(name)) => {
                let message = self.unset(&name);
                self.error(node.place, format!("{what}: {message}"));
            }
        }
        None
    }

    /// What to say of a variable without a value: what it lacks, and a set one that may be meant.
    pub fn unset(&self, name: &str) -> String {
        let state = if self.env.get(name).is_some() { "set but blank" } else { "not set" };
        let set = self.env.names().filter(|other| self.env.filled(other).is_some());
        match super::nearest::nearest(name, set).filter(|near| *near != name) {
            Some(near) => format!("the environment variable {name} is {state} (did you mean {near}?)"),
            None => format!("the environment variable {name} is {state}"),
        }
    }

    /// The fault of a scalar that is not what is wanted.
    pub fn wrong(&mut self, value: &Value, what: &str, wanted: &str) {
        let shown = match &value.variable {
            Some(name) => format!("what the environment variable {name} holds"),
            None => quoted(&value.text),
        };
        self.error(value.place, format!("{what} must be {wanted}, not {shown}"));
    }

    pub fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        Some(self.value(node, what, "a text")?.text)
    }

    /// A name clients will send. Bare words that LiteLLM would not read as texts are taken as written, with a warning.
    pub fn name(&mut self, node: &Node, what: &str) -> Option<String> {
        if node.is_null() {
            self.error(node.place, format!("{what} has no value; a name has to stand here"));
            return None;
        }
        let value = self.value(node, what, "a text")?;
        if value.bare && value.variable.is_none() {
            self.named(&value.text, value.place, what);
        }
        let trimmed = value.text.trim();
        if trimmed.is_empty() || trimmed.chars().any(char::is_control) {
            self.error(node.place, format!("{what} must be a name of visible letters"));
            return None;
        }
        if trimmed != value.text {
            self.warn(node.place, format!("{what}: the blanks around the name are ignored"));
        }
        Some(trimmed.to_owned())
    }

    /// The same warning for a key that is a name.
    pub fn named_key(&mut self, member: &Member, what: &str) {
        if member.key_bare {
            self.named(&member.key, member.key_place, what);
        }
    }

    fn named(&mut self, text: &str, place: Place, what: &str) {
        if let Some(kind) = scalar::mistaken_for(text) {
            let shown = quoted(text);
            let message =
                format!("{what}: {shown} is taken as a name, LiteLLM reads it as {kind}; put it in quotation marks");
            self.warn(place, message);
        }
    }

    pub fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        const WANTED: &str = "true or false";
        let value = self.value(node, what, WANTED)?;
        let flag = scalar::flag(&value.text);
        if flag.is_none() {
            self.wrong(&value, what, WANTED);
        } else if !value.bare && flag == Some(false) {
            self.warn(
                value.place,
                format!("{what}: taken as false, LiteLLM takes any quoted text as true; write false"),
            );
        }
        flag
    }

    /// A list of texts; a single text is answered with how to write the list.
    pub fn texts(&mut self, node: &Node, what: &str) -> Vec<String> {
        match &node.kind {
            Kind::List(items) => items.iter().filter_map(|item| self.name(item, what)).collect(),
            Kind::Scalar { text, .. } if !node.is_null() && reference(text) == Reference::No => {
                let shown = quoted(text);
                self.error(node.place, format!("{what} must be a list; write [{}]", shown.trim_matches('`')));
                Vec::new()
            }
            Kind::Map(_) => {
                self.error(node.place, format!("{what} must be a list, not a mapping; start its lines with `- `"));
                Vec::new()
            }
            // A reference to a variable with a list in it, comma-separated, or nothing at all.
            Kind::Scalar { .. } => {
                let text = self.value(node, what, "a list").map(|value| value.text).unwrap_or_default();
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
            }
        }
    }

    /// A value as JSON, references in it resolved.
    pub fn json(&mut self, node: &Node, what: &str) -> Option<serde_json::Value> {
        match &node.kind {
            Kind::Scalar { .. } if node.is_null() => Some(serde_json::Value::Null),
            Kind::Scalar { .. } => {
                let value = self.value(node, what, "a value")?;
                Some(scalar::json(&value.text, value.bare))
            }
            Kind::List(items) => {
                Some(serde_json::Value::Array(items.iter().filter_map(|item| self.json(item, what)).collect()))
            }
            Kind::Map(members) => Some(serde_json::Value::Object(self.object(members, what))),
        }
    }

    pub fn object(&mut self, members: &[Member], what: &str) -> serde_json::Map<String, serde_json::Value> {
        let member = |member: &Member| Some((member.key.clone(), self.json(&member.value, what)?));
        members.iter().filter_map(member).collect()
    }
}

/// One mapping of the file being read.
pub(super) struct Fields<'d, 'n> {
    pub desk: &'d mut Desk,
    pub place: Place,
    section: Section,
    members: Vec<&'n Member>,
}

impl<'d, 'n> Fields<'d, 'n> {
    /// Opens `node` as a mapping of `section`. An empty one is fine: people comment everything out.
    pub fn open(desk: &'d mut Desk, section: Section, node: &'n Node, what: &str) -> Option<Self> {
        let members = match &node.kind {
            Kind::Map(members) => members.iter().collect(),
            _ if node.is_null() => Vec::new(),
            _ => {
                desk.error(node.place, format!("{what} must be a mapping (`key: value` lines), not {}", node.shape()));
                return None;
            }
        };
        Some(Fields { desk, place: node.place, section, members })
    }

    /// Takes a key's value. Every key asked for has to be in the table as honoured.
    pub fn take(&mut self, key: &str) -> Option<&'n Node> {
        Some(&self.member(key)?.value)
    }

    /// A key's value without taking it.
    pub fn peek(&self, key: &str) -> Option<&'n Node> {
        self.members.iter().find(|member| member.key == key).map(|member| &member.value)
    }

    /// Where a key's value stands.
    pub fn place_of(&self, key: &str) -> Option<Place> {
        self.peek(key).map(|node| node.place)
    }

    /// Speaks of a key that cannot be switched off, and takes it.
    pub fn always_on(&mut self, key: &str) {
        if let Some(at) = self.members.iter().position(|member| member.key == key) {
            let member = self.members.remove(at);
            self.desk.leftover(self.section, member);
        }
    }

    fn member(&mut self, key: &str) -> Option<&'n Member> {
        debug_assert!(
            support::find(self.section, key).is_some_and(|row| matches!(row.status, Status::Honoured(_))),
            "{key} is read but not in the table"
        );
        let at = self.members.iter().position(|member| member.key == key)?;
        Some(self.members.remove(at))
    }

    /// The members nobody took, taken.
    pub fn rest(&mut self) -> Vec<&'n Member> {
        std::mem::take(&mut self.members)
    }

    pub fn flag(&mut self, key: &str) -> Option<bool> {
        let node = self.take(key)?;
        self.desk.flag(node, &label(key))
    }

    pub fn text(&mut self, key: &str) -> Option<String> {
        let node = self.take(key)?;
        self.desk.text(node, &label(key))
    }

    pub fn texts(&mut self, key: &str) -> Vec<String> {
        self.take(key).map(|node| self.desk.texts(node, &label(key))).unwrap_or_default()
    }

    /// A whole number within bounds.
    pub fn whole<T: TryFrom<i128>>(&mut self, key: &str, bounds: RangeInclusive<i128>) -> Option<T> {
        let wanted = match *bounds.end() {
            end if end >= i128::from(u32::MAX) => format!("a whole number, {} or more", bounds.start()),
            end => format!("a whole number from {} to {end}", bounds.start()),
        };
        let read = |text: &str| scalar::whole(text).filter(|n| bounds.contains(n)).and_then(|n| T::try_from(n).ok());
        self.parsed(key, &wanted, read)
    }

    /// A number, not negative.
    pub fn number(&mut self, key: &str) -> Option<f64> {
        self.parsed(key, "a number, 0 or more", |text| scalar::number(text).filter(|number| *number >= 0.0))
    }

    /// A duration in milliseconds; up to 30 days.
    pub fn duration_ms(&mut self, key: &str, zero: Zero) -> Option<u64> {
        const LONGEST_MS: u64 = 30 * 86_400_000;
        let wanted = match zero {
            Zero::Allowed => "a number of seconds, or a text such as 500ms, 15s, 10m",
            Zero::Refused => "a number of seconds above 0, or a text such as 500ms, 15s, 10m",
        };
        let read = |text: &str| scalar::duration_ms(text).filter(|ms| *ms <= LONGEST_MS);
        self.parsed(key, wanted, |text| read(text).filter(|ms| *ms > 0 || zero == Zero::Allowed))
    }

    /// A size in bytes.
    pub fn size_bytes(&mut self, key: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let wanted =
            format!("a number of bytes from {} to {}, or a text such as 64KiB, 16MiB", bounds.start(), bounds.end());
        self.parsed(key, &wanted, |text| scalar::size_bytes(text).filter(|bytes| bounds.contains(bytes)))
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let wanted = format!("one of {}", words.join(", "));
        self.parsed(key, &wanted, |text| choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice))
    }

    fn parsed<T>(&mut self, key: &str, wanted: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let node = self.take(key)?;
        let value = self.desk.value(node, &label(key), wanted)?;
        let parsed = read(value.text.trim());
        if parsed.is_none() {
            self.desk.wrong(&value, &label(key), wanted);
        }
        parsed
    }

    /// Speaks of every key that was not taken.
    pub fn finish(mut self) {
        for member in self.rest() {
            let section = self.section;
            self.desk.leftover(section, member);
        }
    }
}

/// Whether a duration of 0 makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Allowed,
    Refused,
}

/// A key as messages name it.
pub(super) fn label(key: &str) -> String {
    format!("`{key}`")
}

impl Desk {
    /// A key that is in the table but does nothing here, or is in no table.
    pub fn leftover(&mut self, section: Section, member: &Member) {
        match support::find(section, &member.key) {
            Some(row) => self.known(row, member),
            None => self.unknown(section, member),
        }
    }

    /// Off switches and empty values of what is not supported lose nothing and are passed over.
    fn known(&mut self, row: &Row, member: &Member) {
        let key = row.key;
        let place = member.key_place;
        let off = is_off(&member.value);
        match row.status {
            Status::Unused(why) => self.note(place, format!("`{key}` has no effect: {why}")),
            Status::Unsupported(instead) if !off => self.warn(place, format!("`{key}` is not supported: {instead}")),
            Status::Refused(instead) if !off => self.error(place, format!("`{key}` is not supported: {instead}")),
            Status::AlwaysOn(instead) if !is_on(&member.value) => {
                self.error(place, format!("`{key}` cannot be switched off: {instead}"));
            }
            _ => {}
        }
    }

    fn unknown(&mut self, section: Section, member: &Member) {
        let key = quoted(&member.key);
        let message = match (support::elsewhere(section, &member.key), support::nearest_key(section, &member.key)) {
            (Some(home), _) => format!("{key} has no effect here; it belongs under {}", home.name()),
            (None, Some(row)) => format!("unknown key {key}, ignored; did you mean `{}`?", row.key),
            (None, None) => format!("unknown key {key}, ignored"),
        };
        // A lock in the wrong place is a warning: LiteLLM ignores it there too, so nothing changes. An address or a key
        // that is not seen sends requests, or another key, somewhere else.
        let meant = support::nearest_key(section, &member.key).map_or(member.key.as_str(), |row| row.key);
        let guides = matches!(section, Section::Entry | Section::Params) && DIRECTIONS.contains(&meant);
        self.fault(member.key_place, if guides { Level::Error } else { Level::Warning }, message);
    }
}

/// Keys that decide where a model's requests and its key go.
const DIRECTIONS: &[&str] = &["model", "api_base", "base_url", "api_key", "custom_llm_provider"];

fn is_off(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar { text, .. } => node.is_null() || scalar::flag(text) == Some(false) || text.is_empty(),
        Kind::List(items) => items.is_empty(),
        Kind::Map(members) => members.is_empty(),
    }
}

fn is_on(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { text, .. } if node.is_null() || scalar::flag(text) == Some(true))
}
