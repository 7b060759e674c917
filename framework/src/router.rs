//! [`Router`]: from a request's path to the endpoint mounted there, and from an endpoint's error to
//! the response that says it.

mod access;
mod refusal;
mod service;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::Value;

pub use self::access::Access;
use self::access::Visitor;
pub(crate) use self::service::Service;
use crate::auth::{self, Authenticator, Identity};
use crate::config::Limits;
use crate::endpoint::{Endpoint, EndpointType, StartContext};
use crate::error::{Error, Result};
use crate::ledger::{Admission, Ledger};
use crate::proxy_status::{ProxyError, ProxyStatus};
use crate::request::{Request, is_known_method};
use crate::response::{Body, Response};
use crate::template::{MatchOutcome, PathTemplate, Vars};

/// The longest `:path` that is looked at, in bytes; beyond it the answer is 414.
const MAX_PATH_LEN: usize = 8 << 10;

/// `capsule-protocol` (RFC 9297 §3.4).
pub(crate) const CAPSULE_PROTOCOL: HeaderName = HeaderName::from_static("capsule-protocol");
/// `proxy-status` (RFC 9209).
pub(crate) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// An endpoint and where it is served.
#[derive(Debug)]
pub struct Mount {
    kind: &'static EndpointType,
    templates: Vec<PathTemplate>,
    service: Arc<Service>,
    access: Access,
    hidden: bool,
}

impl Mount {
    /// Mounts `endpoint` at each of `templates`, for everyone.
    pub fn new(
        kind: &'static EndpointType,
        templates: Vec<PathTemplate>,
        endpoint: Box<dyn Endpoint>,
    ) -> Self {
        Self {
            kind,
            templates,
            service: Arc::new(Service::new(kind, endpoint)),
            access: Access::Everyone,
            hidden: false,
        }
    }

    /// The same mount, whose endpoint was made from the JSON object `keys`: a reload that finds the
    /// same ones keeps the endpoint as it is.
    #[must_use]
    pub fn with_keys(mut self, keys: Value) -> Self {
        // Nobody shares a service before it is started.
        if let Some(service) = Arc::get_mut(&mut self.service) {
            service.set_keys(keys);
        }
        self
    }

    /// The same mount for those that have `access`. Others get 401, 407 or 403, and the endpoint
    /// hears nothing of it.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The same mount, which with `hidden` does not exist for those that may not use it: their
    /// requests are those of the mounts after it, and answered like any unknown path's where there
    /// is none.
    #[must_use]
    pub fn with_hidden(mut self, hidden: bool) -> Self {
        self.hidden = hidden;
        self
    }

    /// Who may use it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The type of the endpoint.
    pub fn kind(&self) -> &'static EndpointType {
        self.kind
    }

    /// Where it is served.
    pub fn templates(&self) -> &[PathTemplate] {
        &self.templates
    }

    /// Whether the endpoints of both were made from the same keys.
    fn is_alike(&self, other: &Self) -> bool {
        self.kind.tag == other.kind.tag && self.service.is_alike(&other.service)
    }

    fn shares_template(&self, other: &Self) -> bool {
        let mut ours = self.templates.iter().map(ToString::to_string);
        ours.any(|ours| other.templates.iter().any(|t| t.to_string() == ours))
    }

    /// Starts the endpoint, in the place of `former` if there is one.
    async fn start(
        &mut self,
        former: Option<&Self>,
        cx: &StartContext,
        is_isolated: bool,
    ) -> Result<()> {
        let service = Arc::get_mut(&mut self.service)
            .ok_or_else(|| Error::internal("the endpoint is started already"))?;
        let former = former.map(|mount| &mount.service);
        service.start(former, cx, is_isolated).await
    }
}

/// A set of mounts that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    /// A mount that no request can reach, because an earlier one takes them all.
    #[error(
        "endpoints[{mount}] at {path:?} is never reached: endpoints[{earlier}] is mounted before it at {earlier_path:?}"
    )]
    Unreachable {
        /// Index of the mount.
        mount: usize,
        /// Its template.
        path: String,
        /// Index of the mount that takes its requests.
        earlier: usize,
        /// The template that does.
        earlier_path: String,
    },
}

/// Every mount of a server.
#[derive(Debug)]
pub struct Router {
    mounts: Vec<Mount>,
    /// Well-known templates that no mount claims, each with the mount that serves it.
    well_known: Vec<(PathTemplate, usize)>,
    hosts: Vec<String>,
    proxy_name: String,
    authenticator: Option<Arc<Authenticator>>,
    ledger: Arc<Ledger>,
    limits: Limits,
    is_isolated: bool,
    /// What the endpoints were started with.
    started_with: Option<StartContext>,
}

/// What a reload made of the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// Endpoints that go on as they are.
    pub kept: usize,
    /// Endpoints that took the place of one of the same type.
    pub changed: usize,
    /// Endpoints that took nobody's place.
    pub added: usize,
    /// Endpoints whose place nobody took.
    pub removed: usize,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "endpoints: {} unchanged, {} changed, {} added, {} removed",
            self.kept, self.changed, self.added, self.removed
        )
    }
}

/// Where a tunnel has come in: what a reload has to find again for it to go on.
#[derive(Debug)]
pub(crate) struct Entrance {
    authority: String,
    path: String,
    identity: Identity,
}

impl Router {
    /// A router over `mounts`, which are tried in order. `proxy_name` is this deployment's name in
    /// `proxy-status` fields.
    ///
    /// # Errors
    /// A mount that could never be reached.
    pub fn new(mounts: Vec<Mount>, proxy_name: impl Into<String>) -> Result<Self, RouterError> {
        let mut seen: Vec<(usize, &PathTemplate)> = Vec::new();
        for (index, mount) in mounts.iter().enumerate() {
            for template in &mount.templates {
                if let Some((earlier, covering)) =
                    seen.iter().find(|(_, earlier)| earlier.covers(template))
                {
                    return Err(RouterError::Unreachable {
                        mount: index,
                        path: template.to_string(),
                        earlier: *earlier,
                        earlier_path: covering.to_string(),
                    });
                }
            }
            // What a hidden mount does not take is for those after it.
            if !mount.hidden {
                seen.extend(mount.templates.iter().map(|template| (index, template)));
            }
        }
        let is_hidden = |index: usize| mounts.get(index).is_some_and(|mount| mount.hidden);
        let mut well_known: Vec<(PathTemplate, usize)> = Vec::new();
        for (index, mount) in mounts.iter().enumerate() {
            let template = mount
                .kind
                .well_known
                .and_then(|text| PathTemplate::parse(text).ok());
            if let Some(template) = template
                && !well_known
                    .iter()
                    .any(|(claimed, by)| !is_hidden(*by) && claimed.covers(&template))
            {
                well_known.push((template, index));
            }
        }
        Ok(Self {
            mounts,
            well_known,
            hosts: Vec::new(),
            proxy_name: proxy_name.into(),
            authenticator: None,
            ledger: Arc::default(),
            limits: Limits::default(),
            is_isolated: false,
            started_with: None,
        })
    }

    /// Answers only requests whose authority names one of `hosts`, without regard to case and port;
    /// others get 421 (RFC 9110 §15.5.20). An empty list answers all.
    #[must_use]
    pub fn with_hosts(mut self, hosts: Vec<String>) -> Self {
        self.hosts = hosts;
        self
    }

    /// Asks `authenticator` who sends the requests of mounts that are not for everyone.
    #[must_use]
    pub fn with_authenticator(mut self, authenticator: Arc<Authenticator>) -> Self {
        self.ledger.set_authenticator(Some(authenticator.clone()));
        self.authenticator = Some(authenticator);
        self
    }

    /// What tells who sent a request; `None` where everybody is anonymous.
    pub fn authenticator(&self) -> Option<&Arc<Authenticator>> {
        self.authenticator.as_ref()
    }

    /// Goes on where `before` ends: with what its identities have used, and with its tunnels, which
    /// from now on end when this router's authenticator does not let their identities in. Endpoints
    /// that both have are from now on held to this router's limits.
    pub(crate) fn take_over(&mut self, before: &Self) {
        self.ledger = before.ledger.clone();
        self.ledger.set_authenticator(self.authenticator.clone());
        if let (Some(now), Some(before)) = (&self.authenticator, &before.authenticator) {
            now.take_over(before);
        }
        for service in self.services() {
            service.limit(&self.limits);
        }
    }

    /// Holds every endpoint to `limits`. Without, it is held to their defaults.
    #[must_use]
    pub fn with_limits(mut self, limits: &Limits) -> Self {
        self.limits = limits.clone();
        for service in self.services() {
            service.limit(limits);
        }
        self
    }

    /// Gives every endpoint threads of its own when it is started, unless its type is
    /// [`inline`](EndpointType::inline): for servers. A test of a plugin stays on its one thread.
    #[must_use]
    pub fn with_isolation(mut self) -> Self {
        self.is_isolated = true;
        self
    }

    /// The mounts, in order.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// Starts every endpoint, in order.
    ///
    /// # Errors
    /// The first endpoint's that does not start; those started before it are stopped.
    pub async fn start(&mut self, cx: &StartContext) -> Result<()> {
        self.start_each(vec![None; self.mounts.len()], cx).await?;
        self.started_with = Some(cx.clone());
        Ok(())
    }

    /// Starts the endpoints where `former` runs. Those whose JSON is the same are taken over as they
    /// are; the others are started beside their predecessors, which go on: nothing changes for
    /// anybody before a [`Site`](crate::Site) is given this router.
    ///
    /// # Errors
    /// The first endpoint's that does not start; those started before it are stopped.
    pub async fn start_after(&mut self, former: &Self, cx: &StartContext) -> Result<Changes> {
        let mut left: Vec<&Mount> = former.mounts.iter().collect();
        let mut take = |wanted: &dyn Fn(&Mount) -> bool| {
            let at = left.iter().position(|mount| wanted(mount))?;
            Some(left.remove(at))
        };
        let mut changes = Changes::default();
        // What a server tells its endpoints is as good as one of their keys.
        let is_new = |mount: &Mount| !mount.service.is_started();
        if former.started_with.as_ref() == Some(cx) {
            for at_same_path in [true, false] {
                for mount in self.mounts.iter_mut().filter(|mount| is_new(mount)) {
                    let same = take(&|old| {
                        old.is_alike(mount) && (!at_same_path || old.shares_template(mount))
                    });
                    if let Some(same) = same {
                        mount.service = same.service.clone();
                        changes.kept += 1;
                    }
                }
            }
        }
        let mut formers: Vec<Option<&Mount>> = vec![None; self.mounts.len()];
        for at_same_path in [true, false] {
            for (mount, former) in self.mounts.iter().zip(&mut formers) {
                if former.is_none() && is_new(mount) {
                    *former = take(&|old| {
                        old.kind.tag == mount.kind.tag
                            && (!at_same_path || old.shares_template(mount))
                    });
                }
            }
        }
        changes.changed = formers.iter().flatten().count();
        changes.added = self.mounts.len() - changes.kept - changes.changed;
        changes.removed = left.len();
        self.start_each(formers, cx).await?;
        self.started_with = Some(cx.clone());
        Ok(changes)
    }

    /// Starts those endpoints that are not, each in the place of its former one.
    async fn start_each(&mut self, formers: Vec<Option<&Mount>>, cx: &StartContext) -> Result<()> {
        let is_isolated = self.is_isolated;
        let mut started: Vec<Arc<Service>> = Vec::new();
        for (index, (mount, former)) in self.mounts.iter_mut().zip(formers).enumerate() {
            if mount.service.is_started() {
                continue;
            }
            if let Err(cause) = mount.start(former, cx, is_isolated).await {
                for service in started.iter().rev() {
                    service.stop().await;
                }
                let tag = mount.kind.tag;
                return Err(
                    Error::internal(format!("endpoints[{index}] ({tag}) cannot start"))
                        .with_source(cause),
                );
            }
            started.push(mount.service.clone());
        }
        Ok(())
    }

    /// Stops every endpoint, in reverse order.
    pub async fn stop(&self) {
        for mount in self.mounts.iter().rev() {
            mount.service.stop().await;
        }
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.mounts.iter().map(|mount| &mount.service)
    }

    /// Answers one request. Never fails: an endpoint's error, or its panic, becomes the response
    /// that says so.
    pub async fn dispatch(&self, request: Request) -> Response {
        self.serve(request).await.0
    }

    /// Answers one request; where that opens a tunnel, says whose it is and where it came in.
    pub(crate) async fn serve(
        &self,
        mut request: Request,
    ) -> (Response, Option<(Arc<Service>, Entrance)>) {
        let is_tunnel = request.protocol.is_some();
        let path = request.path.clone();
        auth::conceal(&mut request.headers);
        let (tag, result) = match self.admit(&mut request).await {
            Err(refusal) => ("router", Err(refusal)),
            Ok(mount) => {
                let opened = is_tunnel.then(|| {
                    let entrance = Entrance {
                        authority: request.authority.clone(),
                        path: path.clone(),
                        identity: request.identity.clone(),
                    };
                    (mount.service.clone(), entrance)
                });
                let answer = self.answer(mount, request).await;
                (mount.kind.tag, answer.map(|answer| (answer, opened)))
            }
        };
        match result {
            Ok((response, opened)) => (finish(response), opened),
            Err(cause) => {
                refusal::tell(tag, &path, &cause);
                (self.refuse(&cause, is_tunnel), None)
            }
        }
    }

    /// Has the endpoint answer, within what the client's identity may use.
    async fn answer(&self, mount: &Mount, request: Request) -> Result<Response> {
        let is_tunnel = request.protocol.is_some();
        let identity = request.identity.clone();
        let admission = match is_tunnel {
            true => self.ledger.admit(&identity)?,
            false => Admission::default(),
        };
        let response = mount.service.handle(request).await?;
        let mut response = check_shape(response, is_tunnel)?;
        response.body = match response.body {
            Body::Flow(flow) => Body::Flow(self.ledger.guard(flow, identity, admission)),
            Body::Stream(content) => {
                let content = self.ledger.guard_content(content, identity);
                Body::Stream(mount.service.hold(content))
            }
            body => body,
        };
        Ok(response)
    }

    /// The service that the request of a running tunnel would reach now.
    ///
    /// # Errors
    /// It would be refused.
    pub(crate) fn readmit(&self, entrance: &Entrance) -> Result<&Arc<Service>> {
        self.check_place(&entrance.authority, &entrance.path)?;
        let authenticator = self.authenticator.as_deref();
        let mut visitor = Visitor::known(authenticator, &entrance.identity);
        let (mount, _) = self.locate(&entrance.path, &visitor)?;
        visitor.enter(&mount.access)?;
        Ok(&mount.service)
    }

    /// The mount that answers a request, with its variables and whoever sent it filled in. Nothing
    /// has been opened, and no endpoint asked, before its sender may use it.
    async fn admit(&self, request: &mut Request) -> Result<&Mount> {
        self.check_place(&request.authority, &request.path)?;
        let mut visitor = Visitor::new(self.authenticator.as_deref());
        // Every path takes as long as a hidden one.
        if self.mounts.iter().any(|mount| mount.hidden) {
            visitor.look(request).await;
        }
        let (mount, vars) = self.find(request, &visitor)?;
        if mount.access != Access::Everyone {
            visitor.look(request).await;
        }
        request.identity = visitor.enter(&mount.access)?;
        request.vars = vars;
        if self.authenticator.is_some() {
            auth::remove(&mut request.headers);
        }
        Ok(mount)
    }

    /// Whether a request may be for this server at all.
    fn check_place(&self, authority: &str, path: &str) -> Result<()> {
        if path.len() > MAX_PATH_LEN {
            return Err(Error::new(StatusCode::URI_TOO_LONG, "path above 8 KiB"));
        }
        if !self.hosts.is_empty() && !self.serves(authority) {
            return Err(Error::new(
                StatusCode::MISDIRECTED_REQUEST,
                "authority not served here",
            ));
        }
        Ok(())
    }

    /// The first mount that a request's path leads to and that is not hidden from its sender.
    fn find(&self, request: &Request, visitor: &Visitor<'_>) -> Result<(&Mount, Vars)> {
        self.locate(&request.path, visitor).or_else(|missing| {
            match missing {
                // The method is wrong whatever the rest of the path says.
                Missing::Malformed(_) if request.method != Method::CONNECT => {
                    request.require_method(&[], "CONNECT")?;
                }
                Missing::Nowhere if !is_known_method(&request.method) => {
                    return Err(Error::new(StatusCode::NOT_IMPLEMENTED, "unknown method"));
                }
                _ => {}
            }
            Err(missing.into())
        })
    }

    fn locate(&self, path: &str, visitor: &Visitor<'_>) -> Result<(&Mount, Vars), Missing> {
        let mounted = self.mounts.iter().flat_map(|mount| {
            mount
                .templates
                .iter()
                .map(move |template| (template, mount))
        });
        let well_known = self
            .well_known
            .iter()
            .filter_map(|(template, index)| Some((template, self.mounts.get(*index)?)));
        let there = mounted
            .chain(well_known)
            .filter(|(_, mount)| !mount.hidden || visitor.may_enter(&mount.access));
        // A path that one template finds malformed may still be another one's.
        let mut malformed = None;
        for (template, mount) in there {
            match template.match_path(path) {
                MatchOutcome::NoMatch => {}
                MatchOutcome::Match(vars) => return Ok((mount, vars)),
                MatchOutcome::Malformed(reason) => {
                    malformed.get_or_insert(reason);
                }
            }
        }
        Err(malformed.map_or(Missing::Nowhere, |reason| {
            Missing::Malformed(reason.to_string())
        }))
    }

    fn serves(&self, authority: &str) -> bool {
        let authority: Result<http::uri::Authority, _> = authority.parse();
        authority.is_ok_and(|a| {
            self.hosts
                .iter()
                .any(|host| host.eq_ignore_ascii_case(a.host()))
        })
    }

    /// The response that tells a client of `cause`, for engines that refuse a request themselves.
    pub fn refuse(&self, cause: &Error, is_tunnel: bool) -> Response {
        let mut response = Response::new(cause.status());
        response.headers.extend(cause.headers().clone());
        // RFC 9209 is about intermediaries: a file's 404 is an origin's answer and carries none.
        if is_tunnel && let Some(error) = cause.proxy_error() {
            let mut status = ProxyStatus::new(&self.proxy_name).with_error(error);
            if let Some(rcode) = cause.rcode() {
                status = status.with_rcode(rcode);
            }
            if let Ok(value) = HeaderValue::try_from(status.to_string()) {
                response.headers.insert(PROXY_STATUS, value);
            }
        }
        if cause.status() == StatusCode::SERVICE_UNAVAILABLE
            && !response.headers.contains_key(header::RETRY_AFTER)
        {
            response
                .headers
                .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        response
    }
}

/// Why a path leads to no mount.
enum Missing {
    /// A template would have it, but for the value of a variable.
    Malformed(String),
    /// Nothing is mounted there.
    Nowhere,
}

impl From<Missing> for Error {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Malformed(reason) => {
                Self::bad_request(reason).with_proxy_error(ProxyError::HttpRequestError)
            }
            Missing::Nowhere => Self::new(StatusCode::NOT_FOUND, "no endpoint is mounted there"),
        }
    }
}

/// A tunnel request is answered by a flow or by a status outside 2xx, and nothing else by a flow.
fn check_shape(response: Response, is_tunnel: bool) -> Result<Response> {
    let has_flow = matches!(response.body, Body::Flow(_));
    // 204, 205 and 206 never answer a tunnel request (RFC 9297 §3.2).
    let accepts = response.status.is_success() && !(204..=206).contains(&response.status.as_u16());
    match (is_tunnel, has_flow) {
        (true, true) if accepts => Ok(response),
        (true, false) if !response.status.is_success() => Ok(response),
        (false, false) => Ok(response),
        _ => Err(Error::internal(
            "endpoint answered in a shape that the request does not allow",
        )),
    }
}

/// Fields that every answer of a kind carries.
fn finish(mut response: Response) -> Response {
    if matches!(response.body, Body::Flow(_)) {
        response
            .headers
            .insert(CAPSULE_PROTOCOL, HeaderValue::from_static("?1"));
        // A tunnel has no content, so nothing may describe it (RFC 9297 §3.2).
        response.headers.remove(header::CONTENT_LENGTH);
        response.headers.remove(header::CONTENT_TYPE);
    } else {
        response.headers.remove(CAPSULE_PROTOCOL);
    }
    response
}

impl StartContext {
    /// A context for tests and custom servers: relative paths start in `base_dir`.
    pub fn new(base_dir: impl Into<PathBuf>) -> Self {
        Self {
            base_dir: base_dir.into(),
            proxy_name: "pasque".into(),
            ..Self::default()
        }
    }
}
