//! Places inside a member, as LiteLLM's `additional_drop_params` names them, and their removal.
//!
//! The grammar is LiteLLM's: names and bracket expressions in a row, dots between them without meaning of their own.
//! Only members of objects can be removed; LiteLLM ignores a path that ends in an array item, and here it is no path.

use std::ops::Range;

use crate::wire::json::{items_of, members_of, spells};

/// Steps a path may have. Each step reads what lies below it once more, so this bounds the work a path can ask for.
pub const STEPS_MAX: usize = 20;

/// A parsed path such as `user`, `a.b`, `messages[0].name` or `tools[*].function.strict`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    root: String,
    /// The steps below the root; the last is a field.
    below: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Field(String),
    EveryItem,
    Item(usize),
}

impl Path {
    /// Reads a path. `None` when it names no member: empty, more than [`STEPS_MAX`] steps, an item at its start or end,
    /// brackets that stay open or hold neither `*` nor an index.
    pub fn parse(text: &str) -> Option<Self> {
        let mut steps = Vec::new();
        let mut rest = text.trim_start_matches('.');
        while !rest.is_empty() {
            if steps.len() == STEPS_MAX {
                return None;
            }
            let (step, after) = Step::parse(rest)?;
            steps.push(step);
            rest = after.trim_start_matches('.');
        }
        let mut steps = steps.into_iter();
        let Some(Step::Field(root)) = steps.next() else { return None };
        let below: Vec<Step> = steps.collect();
        match below.last() {
            None | Some(Step::Field(_)) => Some(Self { root, below }),
            Some(Step::EveryItem | Step::Item(_)) => None,
        }
    }

    /// The top-level member the path starts at.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Whether the path leads into its root, rather than being just a name.
    pub fn is_nested(&self) -> bool {
        !self.below.is_empty()
    }

    /// Removes what the path names from the value of its root member, every duplicate included; all other bytes stay.
    ///
    /// `None` when nothing was there to remove, and always for a path that is not nested. `value` must be from a
    /// checked document.
    pub fn remove_from(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut cuts = Vec::new();
        find_cuts(value, 0, &self.below, &mut cuts);
        if cuts.is_empty() {
            return None;
        }
        let mut left = Vec::with_capacity(value.len());
        let mut copied = 0;
        for cut in cuts {
            left.extend_from_slice(&value[copied..cut.start]);
            copied = cut.end;
        }
        left.extend_from_slice(&value[copied..]);
        Some(left)
    }
}

impl Step {
    /// The step at the start of `text`, and what follows it.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let Some(bracketed) = text.strip_prefix('[') else {
            let (name, after) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
            return Some((Self::Field(name.to_owned()), after));
        };
        let (inside, after) = bracketed.split_once(']')?;
        let step = if inside == "*" { Self::EveryItem } else { Self::Item(inside.parse().ok()?) };
        Some((step, after))
    }
}

/// Adds what `steps` names inside `value` to the cuts, in order and without overlap. `base` is where `value` starts in
/// the bytes the cuts are for. The recursion is as deep as the path, at most [`STEPS_MAX`].
fn find_cuts(value: &[u8], base: usize, steps: &[Step], cuts: &mut Vec<Range<usize>>) {
    let Some((step, below)) = steps.split_first() else { return };
    match step {
        Step::Field(name) if below.is_empty() => cut_members(value, base, name, cuts),
        Step::Field(name) => {
            for (_, inner, _) in members_of(value).filter(|(key, ..)| spells(&value[key.clone()], name)) {
                find_cuts(&value[inner.clone()], base + inner.start, below, cuts);
            }
        }
        Step::EveryItem => {
            for (item, _) in items_of(value) {
                find_cuts(&value[item.clone()], base + item.start, below, cuts);
            }
        }
        Step::Item(index) => {
            if let Some((item, _)) = items_of(value).nth(*index) {
                find_cuts(&value[item.clone()], base + item.start, below, cuts);
            }
        }
    }
}

/// Cuts the members called `name` out of an object, each with one comma: the one before it, or the one behind when no
/// member before it is left.
fn cut_members(object: &[u8], base: usize, name: &str, cuts: &mut Vec<Range<usize>>) {
    let mut kept_end = None;
    let mut leading: Option<Range<usize>> = None;
    let mut previous_end = 0;
    for (key, value, _) in members_of(object) {
        let named = spells(&object[key.clone()], name);
        match (named, kept_end) {
            (true, None) => leading = Some(leading.map_or(key.start, |cut| cut.start)..value.end),
            (true, Some(_)) => cuts.push(base + previous_end..base + value.end),
            (false, _) => {
                if let Some(cut) = leading.take() {
                    cuts.push(base + cut.start..base + key.start);
                }
                kept_end = Some(value.end);
            }
        }
        previous_end = value.end;
    }
    cuts.extend(leading.map(|cut| base + cut.start..base + cut.end));
}
