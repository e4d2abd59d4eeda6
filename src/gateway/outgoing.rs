//! The bytes of an attempt: the body as one deployment should get it, and the head before it.

use super::ctx::Ask;
use super::form;
use crate::api::dialect::Dialect;
use crate::api::endpoint::{Endpoint, Kind};
use crate::api::error::{self, ApiError};
use crate::api::params::Shape;
use crate::snapshot::{Deployment, Live, Snapshot};
use crate::telemetry::metrics;
use crate::upstream::head::{Accepted, Request};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use pingora_error::Result;
use pingora_http::RequestHeader;
use std::borrow::Cow;
use std::sync::Arc;

/// What an attempt's bytes are made from; the same for every attempt of a request.
pub struct Source<'a> {
    /// Where drops are counted.
    pub live: &'a Live,
    /// The configuration the request began with.
    pub snapshot: &'a Snapshot,
    /// The route.
    pub endpoint: &'static Endpoint,
    /// What the body wants; none where there is no body.
    pub ask: Option<&'a Ask>,
    /// What follows the route's path.
    pub tail: Option<&'a str>,
    /// Fields an upstream did not take.
    pub unwanted: &'a [String],
    /// The gateway's name for the request.
    pub request_id: &'a HeaderValue,
}

impl Source<'_> {
    /// The body for a deployment, and the names of the parameters it does not get.
    ///
    /// # Errors
    /// When the deployment does not take a parameter and may not drop it.
    pub fn body(&self, deployment: &Deployment, model: &str) -> Result<(Bytes, Vec<String>), ApiError> {
        let Some(ask) = self.ask else { return Ok((Bytes::new(), Vec::new())) };
        if let Some(part) = &ask.form_model {
            return Ok((form::with_model(&ask.doc, part, model), Vec::new()));
        }
        let Kind::Proxy { shape, .. } = self.endpoint.kind else { return Ok((ask.doc.clone(), Vec::new())) };
        let Some(skim) = &ask.skim else { return Ok((ask.doc.clone(), Vec::new())) };
        let edited = deployment.edit(shape, &ask.doc, skim, model, self.unwanted).map_err(|refused| {
            let words = format!("{} is not supported by model {}", refused.param, refused.model);
            ApiError::new(&error::UNSUPPORTED_PARAMETER, words).param(refused.param)
        })?;
        let edit = edited.edit;
        for (index, _, reason) in &edit.changes {
            log::debug!("{}: {}: {reason}", deployment.group, skim.key(&ask.doc, *index));
        }
        if !edit.dropped.is_empty() {
            let group = metrics::Dropped { group: Arc::clone(&deployment.group) };
            self.live.metrics.dropped_params.get_or_create(&group).inc_by(edit.dropped.len() as u64);
        }
        Ok((edited.body, edit.dropped))
    }

    /// Writes the head of an attempt over `head`, of which only the version is kept.
    ///
    /// # Errors
    /// When the path cannot be a request target.
    pub fn head(
        &self,
        client: &RequestHeader,
        deployment: &Deployment,
        body_bytes: usize,
        head: &mut RequestHeader,
    ) -> Result<()> {
        self.with_request(client, body_bytes, |request| deployment.head.write(head, request))
    }

    /// The same head as text, with room behind it for so many bytes.
    ///
    /// # Errors
    /// As for [`Source::head`].
    pub fn head_text(
        &self,
        client: &RequestHeader,
        deployment: &Deployment,
        body_bytes: usize,
        room: usize,
    ) -> Result<Vec<u8>> {
        self.with_request(client, body_bytes, |request| deployment.head.text(request, room))
    }

    fn with_request<T>(
        &self,
        client: &RequestHeader,
        body_bytes: usize,
        write: impl FnOnce(&Request<'_>) -> Result<T>,
    ) -> Result<T> {
        let endpoint = self.endpoint;
        let path = match self.tail {
            Some(tail) if endpoint.kind == Kind::Stored => Cow::Owned(format!("{}/{tail}", endpoint.upstream_path)),
            _ => Cow::Borrowed(endpoint.upstream_path),
        };
        let json = HeaderValue::from_static("application/json");
        let request = Request {
            client: &client.headers,
            method: client.method.clone(),
            path: &path,
            query: client.uri.query().filter(|_| endpoint.keep_query),
            content_length: self.ask.map(|_| body_bytes),
            content_type: match self.ask {
                None => None,
                Some(ask) if ask.skim.is_none() => client.headers.get(header::CONTENT_TYPE),
                Some(_) => Some(&json),
            },
            accepted: accepted(endpoint.kind, self.wants_stream()),
            request_id: self.request_id,
            messages: endpoint.dialect == Dialect::Messages,
            forward: self.snapshot.config.settings.forward_client_headers,
            is_credential: crate::auth::is_credential_header,
        };
        write(&request)
    }

    fn wants_stream(&self) -> bool {
        self.ask.is_some_and(|ask| ask.wishes.stream)
    }
}

/// A head to write an attempt's over: the method and version of the client's, and nothing else of it.
pub fn empty_head(client: &RequestHeader) -> RequestHeader {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = client.method.clone();
    head.version = client.version;
    RequestHeader::from(head)
}

fn accepted(kind: Kind, stream: bool) -> Accepted {
    match kind {
        _ if stream => Accepted::Events,
        Kind::Proxy { shape: Shape::Audio | Shape::Images, .. } => Accepted::Anything,
        _ => Accepted::Json,
    }
}
