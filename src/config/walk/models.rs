//! `model_list`: each entry becomes a deployment.

use crate::config::deployment::{Deployment, Key};
use crate::config::fault::Place;
use crate::config::reader::{Desk, Fields};
use crate::config::scalar;
use crate::config::stable;
use crate::config::support::{self, Section, Status};
use crate::config::syntax::quoted;
use crate::config::tree::{Kind, Node};

use super::{address, key, params};

/// Reads the list.
pub(super) fn read(desk: &mut Desk, node: Option<&Node>) -> Vec<Deployment> {
    let place = node.map_or(Place::WHOLE, |node| node.place);
    let entries = match node.map(|node| &node.kind) {
        Some(Kind::List(entries)) => entries.as_slice(),
        Some(Kind::Map(_)) => {
            desk.error(place, "`model_list` must be a list; start each entry with `- model_name: …`");
            return Vec::new();
        }
        Some(Kind::Scalar { .. }) if node.is_some_and(|node| !node.is_null()) => {
            desk.error(place, "`model_list` must be a list; start each entry with `- model_name: …`");
            return Vec::new();
        }
        _ => &[],
    };
    if entries.is_empty() {
        desk.error(place, "there is no model to serve: `model_list` is missing or empty");
    }
    let mut deployments: Vec<Deployment> = Vec::new();
    for node in entries {
        if let Some(mut deployment) = entry(desk, node) {
            identify(desk, &mut deployment, &deployments);
            deployments.push(deployment);
        }
    }
    deployments
}

fn entry(desk: &mut Desk, node: &Node) -> Option<Deployment> {
    let mut fields = Fields::open(desk, Section::Entry, node, "an entry of `model_list`")?;
    let group = fields.take("model_name");
    let group = match group {
        Some(node) => fields.desk.name(node, "`model_name`"),
        None => {
            fields.desk.error(node.place, "this entry has no `model_name`, the name clients ask for");
            None
        }
    };
    let written = fields.take("litellm_params").filter(|node| !node.is_null());
    let info = fields.take("model_info");
    let deployment = match written {
        Some(params) => deployment(fields.desk, group.clone().unwrap_or_default(), params, node.place),
        None => {
            let name = group.as_deref().map_or_else(|| "this entry".to_owned(), quoted);
            let message = format!("{name} has no `litellm_params`, the mapping with `model`, `api_base` and `api_key`");
            fields.desk.error(node.place, message);
            None
        }
    };
    let (id, info) = info.map(|node| model_info(fields.desk, node)).unwrap_or_default();
    fields.finish();
    group?;
    let deployment = Deployment { id: id.unwrap_or_default(), info, ..deployment? };
    wildcards(desk, &deployment);
    Some(deployment)
}

fn deployment(desk: &mut Desk, group: String, node: &Node, place: Place) -> Option<Deployment> {
    let mut fields = Fields::open(desk, Section::Params, node, "`litellm_params`")?;
    let address = address::read(&mut fields);
    let written = fields.take("api_key");
    let extra_headers = params::extra_headers(&mut fields);
    let timeout_ms = params::either(&mut fields, "timeout", "request_timeout");
    let (key, key_variable) = match &address {
        Some(address) => key::read(fields.desk, written, address.provider, &address.base, node.place),
        None => {
            written.into_iter().for_each(|node| key::judge(fields.desk, node));
            (Key::None, None)
        }
    };
    let rest = params::Rest::read(&mut fields);
    let defaults = params::defaults(&mut fields);
    fields.finish();
    let address = address?;
    Some(Deployment {
        group,
        id: String::new(),
        configured: address.configured,
        provider: address.provider,
        upstream_model: address.upstream_model,
        base: address.base,
        key,
        key_variable,
        organization: rest.organization,
        extra_headers,
        drop_params: rest.drop_params,
        additional_drop_params: rest.additional_drop_params,
        allowed_params: rest.allowed_params,
        timeout_ms,
        stream_timeout_ms: rest.stream_timeout_ms,
        max_retries: rest.max_retries,
        weight: rest.weight,
        order: rest.order,
        rpm: rest.rpm,
        tpm: rest.tpm,
        max_parallel_requests: rest.max_parallel_requests,
        defaults,
        info: serde_json::Map::new(),
        place,
    })
}

/// `model_info` as JSON, and its `id`. Any key may stand there; only the few that would have an effect are spoken of.
fn model_info(desk: &mut Desk, node: &Node) -> (Option<String>, serde_json::Map<String, serde_json::Value>) {
    let Some(mut fields) = Fields::open(desk, Section::Info, node, "`model_info`") else { return Default::default() };
    let mut info = serde_json::Map::new();
    let id = fields.take("id").filter(|node| !node.is_null());
    let id = id.and_then(|node| fields.desk.value(node, "`id`", "a text")).map(|value| {
        info.insert("id".to_owned(), scalar::json(&value.text, value.bare));
        value.text
    });
    for member in fields.rest() {
        let row = support::find(Section::Info, &member.key);
        if row.is_some_and(|row| matches!(row.status, Status::Refused(_) | Status::Unsupported(_))) {
            fields.desk.leftover(Section::Info, member);
        }
        if let Some(value) = fields.desk.json(&member.value, &format!("`{}`", member.key)) {
            info.insert(member.key.clone(), value);
        }
    }
    (id, info)
}

/// One star at most, and one upstream only where the name has one to put there.
fn wildcards(desk: &mut Desk, deployment: &Deployment) {
    let Deployment { group, upstream_model, place, .. } = deployment;
    let (asked, sent) = (group.matches('*').count(), upstream_model.matches('*').count());
    if asked > 1 || sent > 1 {
        desk.error(*place, format!("{} has more than one `*`; one is the limit, on either side", quoted(group)));
    } else if sent == 1 && asked == 0 {
        let message = format!("`model` has a `*` and `model_name` {} has none to put there", quoted(group));
        desk.error(*place, message);
    } else if asked == 1 && sent == 0 {
        let message = format!("every name that fits {} is sent upstream as {}", quoted(group), quoted(upstream_model));
        desk.note(*place, message);
    }
}

/// Gives the deployment its id, and speaks of ids and entries that stand twice.
fn identify(desk: &mut Desk, deployment: &mut Deployment, earlier: &[Deployment]) {
    if let Some(first) = earlier.iter().find(|first| same(first, deployment)) {
        let line = first.place.line;
        desk.note(deployment.place, format!("the same entry as at line {line}; requests are spread over both"));
    }
    if deployment.id.is_empty() {
        let alike = |other: &&Deployment| parts(other) == parts(deployment);
        let position = earlier.iter().filter(alike).count().to_string();
        let [group, configured, url, organization] = parts(deployment);
        deployment.id = stable::name(&[&group, &configured, &url, &organization, &position]);
    } else if let Some(first) = earlier.iter().find(|first| first.id == deployment.id) {
        let (id, line) = (quoted(&deployment.id), first.place.line);
        desk.error(deployment.place, format!("`model_info.id` {id} is already used at line {line}; ids are unique"));
    }
}

/// What a generated id stands for: who is asked for what, and no secret.
fn parts(deployment: &Deployment) -> [String; 4] {
    let Deployment { group, configured, base, organization, .. } = deployment;
    [group.clone(), configured.clone(), base.url(), organization.clone().unwrap_or_default()]
}

fn same(a: &Deployment, b: &Deployment) -> bool {
    let key = |deployment: &Deployment| match &deployment.key {
        Key::Known(secret) => Some(secret.expose().to_owned()),
        Key::Unset { .. } | Key::None => None,
    };
    parts(a) == parts(b) && a.defaults == b.defaults && key(a) == key(b) && a.weight == b.weight && a.order == b.order
}
