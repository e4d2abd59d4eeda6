//! `gateway_settings`: our own options.

use std::path::PathBuf;

use crate::config::gateway::{AccessLog, GatewaySettings, ReasoningField, ResponseModel};
use crate::config::reader::{Desk, Fields, Zero};
use crate::config::support::Section;
use crate::config::tree::Node;

const RESPONSE_MODEL: &[(&str, ResponseModel)] =
    &[("client", ResponseModel::Client), ("upstream", ResponseModel::Upstream)];
const REASONING_FIELD: &[(&str, ReasoningField)] = &[
    ("reasoning_content", ReasoningField::ReasoningContent),
    ("both", ReasoningField::Both),
    ("upstream", ReasoningField::Upstream),
];
const ACCESS_LOG: &[(&str, AccessLog)] =
    &[("text", AccessLog::Text), ("json", AccessLog::Json), ("off", AccessLog::Off)];

/// Reads the section over the defaults.
pub(super) fn read(desk: &mut Desk, node: &Node) -> GatewaySettings {
    let mut to = GatewaySettings::default();
    let Some(mut fields) = Fields::open(desk, Section::Gateway, node, "`gateway_settings`") else { return to };
    put(&mut to.response_model, fields.choice("response_model", RESPONSE_MODEL));
    put(&mut to.reasoning_field, fields.choice("reasoning_field", REASONING_FIELD));
    put(&mut to.access_log, fields.choice("access_log", ACCESS_LOG));
    to.upstream_ca_file = fields.text("upstream_ca_file").map(PathBuf::from);
    put(&mut to.upstream_http2, fields.flag("upstream_http2"));
    to.admin_port = fields.whole("admin_port", 0..=65_535);
    to.admin_host = fields.text("admin_host");
    put(&mut to.h2c, fields.flag("h2c"));
    durations(&mut fields, &mut to);
    sizes(&mut fields, &mut to);
    limits(&mut fields, &mut to);
    fields.finish();
    to
}

fn durations(fields: &mut Fields<'_, '_>, to: &mut GatewaySettings) {
    put(&mut to.stream_keepalive_ms, fields.duration_ms("stream_keepalive", Zero::Allowed));
    put(&mut to.grace_period_ms, fields.duration_ms("grace_period", Zero::Allowed));
    put(&mut to.connect_timeout_ms, fields.duration_ms("connect_timeout", Zero::Refused));
    put(&mut to.stream_idle_timeout_ms, fields.duration_ms("stream_idle_timeout", Zero::Refused));
    put(&mut to.body_timeout_ms, fields.duration_ms("body_timeout", Zero::Refused));
    put(&mut to.header_timeout_ms, fields.duration_ms("header_timeout", Zero::Refused));
    put(&mut to.keepalive_timeout_ms, fields.duration_ms("keepalive_timeout", Zero::Refused));
    put(&mut to.dns_refresh_ms, fields.duration_ms("dns_refresh", Zero::Refused));
    put(&mut to.upstream_idle_timeout_ms, fields.duration_ms("upstream_idle_timeout", Zero::Refused));
    put(&mut to.queue_timeout_ms, fields.duration_ms("queue_timeout", Zero::Refused));
    to.ttft_timeout_ms = fields.duration_ms("ttft_timeout", Zero::Allowed).filter(|limit| *limit > 0);
    to.hedge_after_ms = fields.duration_ms("hedge_after", Zero::Allowed).filter(|limit| *limit > 0);
    put(&mut to.watch, fields.flag("watch"));
}

fn limits(fields: &mut Fields<'_, '_>, to: &mut GatewaySettings) {
    if let Some(place) = fields.place_of("retry_budget")
        && let Some(share) = fields.number("retry_budget")
    {
        match (0.0..=10.0).contains(&share) {
            true => to.retry_budget = share,
            false => fields.desk.error(place, "`retry_budget` must be from 0 to 10; 0.2 is a fifth of the requests"),
        }
    }
    to.max_parallel_requests = fields.whole("max_parallel_requests", 1..=1_000_000);
    to.requests_per_second = fields.whole("requests_per_second", 1..=100_000);
    to.rpm = fields.whole("rpm", 1..=1_000_000_000);
    to.tpm = fields.whole("tpm", 1..=1_000_000_000_000);
    to.queue = fields.whole("queue", 0..=1_000_000);
}

fn sizes(fields: &mut Fields<'_, '_>, to: &mut GatewaySettings) {
    put(&mut to.header_bytes_max, fields.size_bytes("header_bytes_max", 1 << 10..=1 << 20));
    put(&mut to.buffered_bytes_max, fields.size_bytes("buffered_bytes_max", 1 << 20..=1 << 40));
    put(&mut to.frame_bytes_max, fields.size_bytes("frame_bytes_max", 1 << 10..=1 << 30));
    put(&mut to.json_depth_max, fields.whole("json_depth_max", 1..=1_000));
}

fn put<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}
