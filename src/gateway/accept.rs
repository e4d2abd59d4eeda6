//! The first steps of a request: which route, which caller, and the routes that are answered here.

use super::Gateway;
use super::answer::{self, Reply};
use super::ctx::Ctx;
use super::names;
use crate::api::dialect::Dialect;
use crate::api::endpoint::{self, Kind, Lost};
use crate::api::error::{self, ApiError};
use crate::api::models;
use crate::auth::{Caller, Denied};
use crate::telemetry::metrics;
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use pingora_error::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::borrow::Cow;

/// Decides whether the request goes on to its body; true when it has been answered.
///
/// Answers are boxed, so that requests that go on do not carry room for them.
pub async fn run(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    note_head(session, ctx);
    if session.req_header().method == Method::OPTIONS && ctx.cross_origin {
        Box::pin(answer::preflight(session, ctx)).await?;
        return Ok(true);
    }
    let head = session.req_header();
    let path = path_of(head);
    let found = endpoint::find(head.method.as_str(), &path).and_then(|found| match head.method {
        Method::OPTIONS => Err(Lost::WrongMethod(found.endpoint.allow)),
        _ => Ok(found),
    });
    let found = match found {
        Ok(found) => found,
        Err(cause) => {
            let path = path.into_owned();
            return Box::pin(lost(session, ctx, &path, &cause)).await;
        }
    };
    ctx.endpoint = Some(found.endpoint);
    ctx.tail = found.tail.map(|tail| tail.into_owned());
    let caller = ctx.snapshot.keyring.authenticate(&session.req_header().headers);
    if !found.endpoint.open {
        match caller {
            Ok(caller) => ctx.caller = Some(caller),
            Err(denied) => return Box::pin(deny(gateway, session, ctx, denied)).await,
        }
    }
    if matches!(found.endpoint.kind, Kind::Proxy { .. } | Kind::Stored) {
        return Ok(false);
    }
    Box::pin(local(gateway, session, ctx, found.endpoint.kind, caller.is_ok())).await?;
    Ok(true)
}

/// The path of a request without its query. The absolute form, which every server has to take (RFC 9112, section
/// 3.2.2), names scheme and host before it.
pub fn path_of(head: &RequestHeader) -> Cow<'_, str> {
    let target = head.raw_path();
    let target = if target.starts_with(b"/") { target } else { head.uri.path().as_bytes() };
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    String::from_utf8_lossy(&target[..end])
}

/// What the head says about the whole exchange.
fn note_head(session: &Session, ctx: &mut Ctx) {
    let headers = &session.req_header().headers;
    ctx.cross_origin = headers.contains_key(header::ORIGIN);
    let own_id = headers.get(&names::CALL_ID).filter(|id| !id.is_empty() && id.len() <= 128);
    if let Some(id) = own_id {
        ctx.call_id = id.clone();
    }
}

async fn lost(session: &mut Session, ctx: &mut Ctx, path: &str, cause: &Lost) -> Result<bool> {
    let method = &session.req_header().method;
    let error = match cause {
        Lost::NotFound => ApiError::new(&error::NOT_FOUND, format!("no route {method} {}", clip(path))),
        Lost::WrongMethod(allow) => {
            let words = format!("{} does not take {method}; allowed: {allow}", clip(path));
            ApiError::new(&error::METHOD_NOT_ALLOWED, words)
        }
    };
    if let Lost::WrongMethod(allow) = cause {
        answer::error_with(session, ctx, &error, &[(header::ALLOW, HeaderValue::from_static(allow))]).await?;
    } else {
        answer::error(session, ctx, &error).await?;
    }
    Ok(true)
}

/// A path in an error message: enough to recognise it.
fn clip(path: &str) -> &str {
    path.char_indices().nth(200).map_or(path, |(end, _)| &path[..end])
}

async fn deny(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx, denied: Denied) -> Result<bool> {
    let (cause, words) = match denied {
        Denied::Missing => ("missing", "Authentication Error, No api key passed in."),
        Denied::Malformed => {
            ("malformed", "Authentication Error, Malformed API Key passed in. Ensure Key has `Bearer ` prefix.")
        }
        Denied::Wrong => ("wrong", "Authentication Error, Invalid api key passed in."),
    };
    gateway.live.metrics.denied.get_or_create(&metrics::Cause { cause }).inc();
    let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    answer::error_with(session, ctx, &ApiError::new(&error::UNAUTHORIZED, words), &challenge).await?;
    Ok(true)
}

async fn local(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx, kind: Kind, known: bool) -> Result<()> {
    let snapshot = std::sync::Arc::clone(&ctx.snapshot);
    let reply = match kind {
        Kind::Models => match ctx.tail.take() {
            Some(id) if snapshot.names.find(&id).is_some() => Reply::json(&models::entry(&id)),
            Some(id) => {
                let error = ApiError::new(&error::NOT_FOUND, format!("the model `{}` does not exist", clip(&id)));
                return answer::error(session, ctx, &error).await;
            }
            None => Reply::json_bytes(snapshot.models_list.clone()),
        },
        Kind::ModelInfo => Reply::json_bytes(snapshot.model_info.clone()),
        Kind::GroupInfo => Reply::json_bytes(snapshot.group_info.clone()),
        Kind::Alive => Reply::json_bytes(Bytes::from_static(b"\"I'm alive!\"")),
        Kind::Ready => {
            let (status, body) = gateway.live.readiness();
            Reply { status, ..Reply::json(&body) }
        }
        Kind::Health => Reply::json(&snapshot.health(known, gateway.live.now_ms())),
        Kind::Hello => Reply::empty(),
        Kind::Database | Kind::Proxy { .. } | Kind::Stored => {
            let words = "this route of LiteLLM needs its database, which nanogate does not have: keys, users, teams and \
                         spend are not kept; models are configured in the file, usage is at /metrics of the admin port";
            return answer::error(session, ctx, &ApiError::new(&error::NO_DATABASE, words)).await;
        }
    };
    answer::reply(session, ctx, reply).await
}

/// The dialect errors are written in before a route is known.
pub fn dialect(ctx: &Ctx) -> Dialect {
    ctx.endpoint.map_or(Dialect::Chat, |endpoint| endpoint.dialect)
}

/// Whether a caller is somebody, for the access line.
pub fn caller_name(ctx: &Ctx) -> &'static str {
    ctx.caller.map_or("", Caller::name)
}
