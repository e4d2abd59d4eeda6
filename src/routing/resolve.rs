//! A client's model name to the deployments that can serve it.
//!
//! An exact name beats one with a suffix, which beats a wildcard; of several wildcards the longest wins.

use std::collections::HashMap;
use std::sync::Arc;

/// What the tables are built from: one deployment's names.
pub struct Entry<'a> {
    /// The name clients use; may hold one `*`.
    pub group: &'a str,
    /// The identity of this one deployment.
    pub id: &'a str,
    /// The provider string as configured, `openai/…`.
    pub configured: &'a str,
}

/// The deployments of one name.
#[derive(Debug)]
pub struct Group {
    /// The configured name.
    pub name: String,
    /// Places in the configuration.
    pub members: Vec<usize>,
}

/// A name that was found.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The group that serves it.
    pub group: Arc<Group>,
    /// What a wildcard's `*` stood for.
    pub fill: Option<String>,
    /// NanoGPT's `:suffix` behind a known name, with its colon.
    pub suffix: Option<String>,
}

struct Wildcard {
    prefix: String,
    suffix: String,
    group: Arc<Group>,
}

/// The name tables of one configuration.
#[derive(Default)]
pub struct Names {
    exact: HashMap<String, Arc<Group>>,
    /// Longest pattern first.
    wildcards: Vec<Wildcard>,
    /// Names clients may be shown, in file order.
    listed: Vec<String>,
}

impl Names {
    /// Builds the tables. `aliases` are (alias, target, hidden).
    pub fn new<'a>(entries: impl Iterator<Item = Entry<'a>> + Clone, aliases: &[(String, String, bool)]) -> Self {
        let mut names = Names::default();
        let groups = collect(entries.clone().map(|entry| entry.group));
        for group in groups {
            if !names.listed.contains(&group.name) {
                names.listed.push(group.name.clone());
            }
            match group.name.split_once('*') {
                Some((prefix, suffix)) => {
                    let (prefix, suffix) = (prefix.to_owned(), suffix.to_owned());
                    names.wildcards.push(Wildcard { prefix, suffix, group });
                }
                None => {
                    names.exact.insert(group.name.clone(), group);
                }
            }
        }
        names.wildcards.sort_by_key(|wildcard| std::cmp::Reverse(wildcard.prefix.len() + wildcard.suffix.len()));
        names.add_aliases(aliases);
        // Less specific spellings of the same deployments never displace a configured name.
        for group in collect(entries.clone().map(|entry| entry.configured)) {
            if !group.name.contains('*') {
                names.exact.entry(group.name.clone()).or_insert(group);
            }
        }
        for group in collect(entries.map(|entry| entry.id)) {
            names.exact.entry(group.name.clone()).or_insert(group);
        }
        names
    }

    fn add_aliases(&mut self, aliases: &[(String, String, bool)]) {
        let mut shown = Vec::new();
        for (alias, _, hidden) in aliases {
            if let Some(group) = self.follow(alias, aliases) {
                if !hidden && !self.listed.contains(alias) {
                    shown.push(alias.clone());
                }
                self.exact.entry(alias.clone()).or_insert(group);
            }
        }
        // LiteLLM lists aliases first.
        shown.append(&mut self.listed);
        self.listed = shown;
    }

    /// The group an alias ends at; bounded by the number of aliases, so that a loop ends as unknown.
    fn follow(&self, alias: &str, aliases: &[(String, String, bool)]) -> Option<Arc<Group>> {
        let mut name = alias;
        for _ in 0..=aliases.len() {
            match aliases.iter().find(|(from, _, _)| from == name) {
                Some((_, target, _)) => name = target,
                None => return self.find(name).map(|resolved| resolved.group),
            }
        }
        None
    }

    /// The deployments of `name`; none when nobody serves it.
    pub fn find(&self, name: &str) -> Option<Resolved> {
        if let Some(group) = self.exact.get(name) {
            return Some(Resolved { group: Arc::clone(group), fill: None, suffix: None });
        }
        self.find_suffixed(name).or_else(|| self.find_wildcard(name))
    }

    /// The longest known name that a `:suffix` follows.
    fn find_suffixed(&self, name: &str) -> Option<Resolved> {
        name.rmatch_indices(':').filter(|(at, _)| *at + 1 < name.len()).find_map(|(at, _)| {
            let group = Arc::clone(self.exact.get(&name[..at])?);
            Some(Resolved { group, fill: None, suffix: Some(name[at..].to_owned()) })
        })
    }

    fn find_wildcard(&self, name: &str) -> Option<Resolved> {
        self.wildcards.iter().find_map(|wildcard| {
            let fill = name.strip_prefix(&*wildcard.prefix)?.strip_suffix(&*wildcard.suffix)?;
            (!fill.is_empty()).then(|| Resolved {
                group: Arc::clone(&wildcard.group),
                fill: Some(fill.to_owned()),
                suffix: None,
            })
        })
    }

    /// Names shown to clients: aliases first, then groups in file order.
    pub fn listed(&self) -> &[String] {
        &self.listed
    }
}

impl Resolved {
    /// The model name to send upstream, given the deployment's own.
    pub fn upstream_model(&self, own: &Arc<str>) -> Arc<str> {
        let model = match (&self.fill, &self.suffix) {
            (None, None) => return Arc::clone(own),
            (Some(fill), _) => own.replacen('*', fill, 1),
            (None, Some(_)) => own.to_string(),
        };
        (model + self.suffix.as_deref().unwrap_or_default()).into()
    }
}

/// Groups equal names, first seen first.
fn collect<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Arc<Group>> {
    let mut order: Vec<Group> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (member, name) in names.enumerate() {
        let at = *places.entry(name).or_insert_with(|| {
            order.push(Group { name: name.to_owned(), members: Vec::new() });
            order.len() - 1
        });
        order[at].members.push(member);
    }
    order.into_iter().map(Arc::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entries: &[(&'static str, &'static str, &'static str)], aliases: &[(&str, &str, bool)]) -> Names {
        let aliases: Vec<_> = aliases.iter().map(|(a, b, hidden)| ((*a).into(), (*b).into(), *hidden)).collect();
        Names::new(entries.iter().map(|(group, id, configured)| Entry { group, id, configured }), &aliases)
    }

    fn found(names: &Names, name: &str) -> Option<(Vec<usize>, Option<String>, Option<String>)> {
        names.find(name).map(|resolved| (resolved.group.members.clone(), resolved.fill, resolved.suffix))
    }

    #[test]
    fn names_strings_and_ids_all_lead_there() {
        let names = names(&[("glm", "id-a", "openai/z/glm"), ("glm", "id-b", "openai/z/glm2")], &[]);
        assert_eq!(found(&names, "glm"), Some((vec![0, 1], None, None)));
        assert_eq!(found(&names, "openai/z/glm2"), Some((vec![1], None, None)));
        assert_eq!(found(&names, "id-a"), Some((vec![0], None, None)));
        assert_eq!(found(&names, "GLM"), None);
        assert_eq!(found(&names, "glm "), None);
        assert_eq!(found(&names, "z/glm"), None);
    }

    #[test]
    fn the_longest_known_name_before_a_colon_wins() {
        let names = names(&[("glm", "a", "openai/glm"), ("glm:thinking", "b", "openai/glm:thinking")], &[]);
        assert_eq!(found(&names, "glm:thinking"), Some((vec![1], None, None)));
        assert_eq!(found(&names, "glm:online"), Some((vec![0], None, Some(":online".into()))));
        assert_eq!(found(&names, "glm:thinking:online"), Some((vec![1], None, Some(":online".into()))));
        assert_eq!(
            found(&names, "glm:online/linkup:memory-90"),
            Some((vec![0], None, Some(":online/linkup:memory-90".into())))
        );
        assert_eq!(found(&names, "glm:"), None);
        assert_eq!(names.find("glm:online").unwrap().upstream_model(&"z/glm".into()), "z/glm:online".into());
    }

    #[test]
    fn exact_beats_wildcard_and_the_longest_wildcard_wins() {
        let names = names(
            &[
                ("*", "a", "openai/*"),
                ("openai/*", "b", "openai/*"),
                ("openai/gpt-*", "c", "openai/x-*"),
                ("glm", "d", "openai/glm"),
            ],
            &[],
        );
        assert_eq!(found(&names, "glm").unwrap().0, vec![3]);
        assert_eq!(found(&names, "openai/any/thing"), Some((vec![1], Some("any/thing".into()), None)));
        assert_eq!(found(&names, "openai/gpt-5"), Some((vec![2], Some("5".into()), None)));
        assert_eq!(found(&names, "other").unwrap().0, vec![0]);
        assert_eq!(names.find("openai/gpt-5").unwrap().upstream_model(&"x-*".into()), "x-5".into());
        assert_eq!(found(&names, "glm:online").unwrap().0, vec![3], "a suffix on a known name beats a wildcard");
    }

    #[test]
    fn aliases_are_followed_listed_first_and_never_loop() {
        let entries = [("glm", "a", "openai/glm")];
        let names =
            names(&entries, &[("gpt-4", "glm", false), ("deep", "gpt-4", true), ("x", "y", false), ("y", "x", false)]);
        assert_eq!(found(&names, "gpt-4").unwrap().0, vec![0]);
        assert_eq!(found(&names, "deep").unwrap().0, vec![0]);
        assert_eq!(found(&names, "x"), None);
        assert_eq!(names.listed(), ["gpt-4", "glm"]);
    }
}
