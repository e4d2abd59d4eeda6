//! What only shows when every name is known: fallbacks and aliases that lead nowhere or in a circle.

use crate::config::deployment::Deployment;
use crate::config::nearest::nearest;
use crate::config::reader::Desk;
use crate::config::settings::{Alias, Settings};
use crate::config::syntax::quoted;

use super::{Mention, Role};

/// Looks up every mentioned name and follows every alias.
pub(super) fn names(desk: &mut Desk, deployments: &[Deployment], settings: &Settings, mentions: &[Mention]) {
    let known = Known { deployments, aliases: &settings.aliases };
    for mention in mentions.iter().filter(|mention| !known.answers(&mention.name)) {
        let shown = quoted(&mention.name);
        let near = known.nearest(&mention.name).map(|near| format!("; did you mean {}?", quoted(near)));
        let near = near.unwrap_or_default();
        match mention.role {
            Role::FallbackFrom => {
                desk.warn(mention.place, format!("no model is named {shown}, so its fallbacks are never used{near}"));
            }
            Role::FallbackTo => {
                desk.error(mention.place, format!("fallback to {shown}, but no model is named so{near}"))
            }
            Role::AliasTo => desk.error(mention.place, format!("alias for {shown}, but no model is named so{near}")),
        }
    }
    for (at, alias) in settings.aliases.iter().enumerate() {
        circle(desk, &settings.aliases, at, mentions);
        if deployments.iter().any(|deployment| deployment.group == alias.name) && alias.target != alias.name {
            let place = place_of(alias, mentions);
            desk.warn(place, format!("alias {0} hides the models named {0}", quoted(&alias.name)));
        }
    }
}

struct Known<'a> {
    deployments: &'a [Deployment],
    aliases: &'a [Alias],
}

impl<'a> Known<'a> {
    /// Whether a request for `name` would find a deployment: by group, alias, configured string, id, or wildcard, or by
    /// any of these before NanoGPT's `:suffix`.
    fn answers(&self, name: &str) -> bool {
        let plain = name.split_once(':').map(|(plain, _)| plain);
        self.exact(name) || plain.is_some_and(|plain| self.exact(plain)) || self.wildcard(name)
    }

    fn exact(&self, name: &str) -> bool {
        let named = |deployment: &Deployment| {
            deployment.group == name || deployment.configured == name || deployment.id == name
        };
        self.deployments.iter().any(named) || self.aliases.iter().any(|alias| alias.name == name)
    }

    fn wildcard(&self, name: &str) -> bool {
        let fits = |deployment: &Deployment| {
            deployment.group.split_once('*').is_some_and(|(before, after)| {
                name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
            })
        };
        self.deployments.iter().any(fits)
    }

    fn nearest(&self, name: &str) -> Option<&'a str> {
        let groups = self.deployments.iter().map(|deployment| deployment.group.as_str());
        nearest(name, groups.chain(self.aliases.iter().map(|alias| alias.name.as_str())))
    }
}

/// Follows the alias at `at`; a circle is told once, at its first alias in the file.
fn circle(desk: &mut Desk, aliases: &[Alias], at: usize, mentions: &[Mention]) {
    let mut seen = vec![at];
    let mut here = at;
    while let Some(next) = aliases.iter().position(|alias| alias.name == aliases[here].target) {
        if next == at {
            let names: Vec<String> = seen.iter().chain([&at]).map(|at| quoted(&aliases[*at].name)).collect();
            let message = format!("these aliases run in a circle: {}; one has to name a model", names.join(" -> "));
            desk.error(place_of(&aliases[at], mentions), message);
            return;
        }
        if next < at || seen.contains(&next) {
            return;
        }
        seen.push(next);
        here = next;
    }
}

fn place_of(alias: &Alias, mentions: &[Mention]) -> crate::config::fault::Place {
    let mut targets = mentions.iter().filter(|mention| mention.role == Role::AliasTo);
    targets.find(|mention| mention.by == alias.name).map(|mention| mention.place).unwrap_or_default()
}
