//! The walk through the file: each section by its own file, then what only shows when all are known.
//!
//! Here LiteLLM's words end: what comes out is deployments and settings. A part that cannot be read is left out and its
//! fault noted; whoever called looks at the faults before using what is left.

mod address;
mod check;
mod gateway;
mod general;
mod key;
mod models;
mod params;
mod routing;
mod surroundings;

use super::Door;
use super::deployment::Deployment;
use super::fault::Place;
use super::gateway::GatewaySettings;
use super::reader::{Desk, Fields};
use super::settings::Settings;
use super::support::Section;
use super::tree::Node;

/// What the walk brings back. Without a door there was an error.
pub(super) struct Harvest {
    pub deployments: Vec<Deployment>,
    pub settings: Settings,
    pub gateway: GatewaySettings,
    pub door: Option<Door>,
}

/// A name the file refers to, to be looked up when all names are known.
pub(super) struct Mention {
    name: String,
    place: Place,
    role: Role,
    /// The alias or the model whose list it stands in.
    by: String,
}

/// What is said when nothing answers to a mentioned name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    FallbackFrom,
    FallbackTo,
    AliasTo,
}

/// Walks the whole file.
pub(super) fn file(desk: &mut Desk, tree: &Node) -> Harvest {
    let mut settings = Settings::default();
    let mut gateway = GatewaySettings::default();
    let mut door = None;
    let mut deployments = Vec::new();
    let mut mentions = Vec::new();
    if let Some(mut top) = Fields::open(desk, Section::Top, tree, "the file") {
        if let Some(node) = top.take("environment_variables") {
            surroundings::variables(top.desk, node);
        }
        let general = top.take("general_settings");
        door = general::read(top.desk, general, &mut settings);
        if let Some(node) = top.take("litellm_settings") {
            routing::litellm(top.desk, node, &mut settings, &mut mentions);
        }
        if let Some(node) = top.take("router_settings") {
            routing::router(top.desk, node, &mut settings, &mut mentions);
        }
        if let Some(node) = top.take("gateway_settings") {
            gateway = gateway::read(top.desk, node);
        }
        let list = top.take("model_list");
        deployments = models::read(top.desk, list);
        top.finish();
    }
    check::names(desk, &deployments, &settings, &mentions);
    surroundings::speak(desk);
    Harvest { deployments, settings, gateway, door }
}
