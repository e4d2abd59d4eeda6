//! `nanogate explain`: what would become of a request body, member by member and by which rule.

use super::serve::config_path;
use super::{ExplainArgs, FAILED, INVALID, OK};
use crate::api::endpoint::{self, Kind};
use crate::api::params::{self, Action};
use crate::config::{self, Environment, Strictness};
use crate::snapshot::{Edited, Snapshot};
use crate::upstream::address::Directory;
use crate::wire::json::{self, Skim};
use bytes::Bytes;
use std::fmt::Write;
use std::io::Read;

/// A value longer than this is shown by its beginning.
const SHOWN_CHARS_MAX: usize = 60;

pub fn run(args: &ExplainArgs) -> u8 {
    let environment = Environment::of_process();
    let Some(path) = config_path(args.file.config.as_deref(), &environment) else {
        eprintln!("no configuration file: use --config FILE");
        return INVALID;
    };
    let (config, report) = config::load(&path, &environment, Strictness::Serve);
    eprint!("{report}");
    let Some(config) = config else { return INVALID };
    let limit = config.settings.body_bytes_max;
    let snapshot = match Snapshot::build(config, &Directory::default(), None) {
        Ok(snapshot) => snapshot,
        Err(faults) => {
            eprintln!("{}", faults.join("\n"));
            return INVALID;
        }
    };
    let mut body = Vec::new();
    if let Err(cause) = std::io::stdin().take(limit).read_to_end(&mut body) {
        eprintln!("the body cannot be read: {cause}");
        return FAILED;
    }
    match explain(&snapshot, args, &body.into()) {
        Ok(text) => {
            print!("{text}");
            OK
        }
        Err(words) => {
            println!("{words}");
            FAILED
        }
    }
}

/// The whole explanation, or why the request would be answered without an upstream call.
fn explain(snapshot: &Snapshot, args: &ExplainArgs, doc: &Bytes) -> Result<String, String> {
    let found = endpoint::find("POST", &args.route).map_err(|_| format!("no route POST {}", args.route))?;
    let Kind::Proxy { shape, .. } = found.endpoint.kind else {
        return Err(format!("{} is answered by the gateway itself", args.route));
    };
    let depth_max = snapshot.config.gateway.json_depth_max;
    let skim = json::skim(doc, depth_max).map_err(|cause| format!("400: {cause}"))?;
    if let Some((name, why)) = params::refused_in(doc, &skim) {
        return Err(format!("400: `{name}` is not allowed in a request body. {why}"));
    }
    let in_body = skim.find(doc, "model").and_then(|index| json::string(skim.value(doc, index)));
    let model = args.model.clone().or_else(|| found.tail.map(|tail| tail.into_owned()));
    let model = model.or_else(|| in_body.map(|model| model.into_owned())).ok_or("400: no model is named")?;
    let resolved = snapshot.names.find(&model).ok_or_else(|| format!("400: nobody serves the model `{model}`"))?;
    let mut text = String::new();
    for place in &resolved.group.members {
        let deployment = &snapshot.deployments[*place];
        let base = snapshot.config.deployments[*place].base.url();
        let upstream_model = resolved.upstream_model(&deployment.upstream_model);
        let _ =
            writeln!(text, "{model} -> POST {base}{}  (deployment {})", found.endpoint.upstream_path, deployment.id);
        match deployment.edit(shape, doc, &skim, &upstream_model, &[]) {
            Ok(edited) => describe(&mut text, doc, &skim, &upstream_model, &edited),
            Err(refused) => {
                let _ = writeln!(text, "  400: {} is not supported by model {}", refused.param, refused.model);
            }
        }
    }
    Ok(text)
}

fn describe(text: &mut String, doc: &Bytes, skim: &Skim, model: &str, edited: &Edited) {
    for index in 0..skim.members().len() {
        let name = skim.key(doc, index);
        let change = edited.edit.changes.iter().find(|(at, _, _)| *at == index);
        let line = match change {
            Some((_, Action::Remove, reason)) => format!("dropped   {name}: {reason}"),
            Some((_, Action::Rename(to), reason)) => format!("renamed   {name} to {to}: {reason}"),
            Some((_, Action::Replace(value), reason)) => format!("changed   {name} to {}: {reason}", clip(value)),
            None if name == "model" => format!("changed   model to \"{model}\": its name upstream"),
            None => format!("kept      {name}"),
        };
        let _ = writeln!(text, "  {line}");
    }
    for (name, value, reason) in &edited.edit.additions {
        let _ = writeln!(text, "  added     {name} = {}: {reason}", clip(value));
    }
    if skim.find(doc, "model").is_none() {
        let _ = writeln!(text, "  added     model = \"{model}\": its name upstream");
    }
    let _ = writeln!(text, "{}", String::from_utf8_lossy(&edited.body));
}

fn clip(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}
