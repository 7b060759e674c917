//! A server without sockets, for the tests of a plugin (feature `testing`).
//!
//! [`TestServer`] goes the whole way from JSON through the registry and the router to
//! [`Endpoint::handle`](crate::Endpoint::handle), and connects the flow that comes back to a
//! [`TestTunnel`] over a wire in memory, which can lose and reorder datagrams.

pub mod dns;
mod wire;

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use tokio::sync::oneshot;

pub use self::wire::Faults;
use crate::config::{EndpointConfig, ServerConfig};
use crate::connection::{ClientError, CloseReason, Connection, OpenTunnel, Transport};
use crate::endpoint::{StartContext, endpoint_types};
use crate::flow::Flow;
use crate::packet::Packet;
use crate::request::Request;
use crate::response::{Body, Response};
use crate::router::{Changes, Mount, Router};
use crate::site::Site;
use crate::tunnel::{self, Tunnel};

/// How long a test waits before it fails. In memory everything happens at once; a machine under
/// load may still take its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Endpoints served in memory. Clones share the server.
#[derive(Clone, Debug)]
pub struct TestServer {
    site: Arc<Site>,
    cx: StartContext,
    faults: Faults,
}

impl TestServer {
    /// Serves the example that the type `tag` was registered with.
    ///
    /// # Panics
    /// When no such type is linked, or its example does not start.
    pub async fn example(tag: &str) -> Self {
        let types = endpoint_types().expect("type tags are unique");
        let kind = types
            .iter()
            .find(|kind| kind.tag == tag)
            .expect("the type is linked");
        Self::from_json(kind.example).await
    }

    /// Serves one endpoint from the JSON object that a configuration would hold.
    ///
    /// # Panics
    /// With the configuration's error message, or the endpoint's.
    pub async fn from_json(json: &str) -> Self {
        Self::from_json_in(json, Path::new(".")).await
    }

    /// [`from_json`](Self::from_json) with relative paths starting in `base_dir`.
    pub async fn from_json_in(json: &str, base_dir: &Path) -> Self {
        let config = EndpointConfig::parse(json).unwrap_or_else(|error| panic!("{error}"));
        Self::with_mounts(vec![config.into_mount()], StartContext::new(base_dir)).await
    }

    /// Serves what a whole configuration says, with its `auth`. Relative paths start in `base_dir`.
    ///
    /// # Panics
    /// With the configuration's error message, or an endpoint's.
    pub async fn from_config(json: &str, base_dir: &Path) -> Self {
        let config = ServerConfig::parse(json, &base_dir.join("server.json"));
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let cx = config.start_context(Vec::new());
        let router = config.into_router();
        Self::serve(router.unwrap_or_else(|error| panic!("{error}")), &cx).await
    }

    /// Serves `mounts`, started with `cx`.
    ///
    /// # Panics
    /// When a mount cannot be reached or an endpoint does not start.
    pub async fn with_mounts(mounts: Vec<Mount>, cx: StartContext) -> Self {
        let router = Router::new(mounts, cx.proxy_name.clone()).expect("mounts are reachable");
        Self::serve(router, &cx).await
    }

    async fn serve(mut router: Router, cx: &StartContext) -> Self {
        router
            .start(cx)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let (site, mut retired) = Site::new(router);
        tokio::spawn(async move {
            while let Some(endpoint) = retired.next().await {
                endpoint.stop().await;
            }
        });
        Self {
            site,
            cx: cx.clone(),
            faults: Faults::default(),
        }
    }

    /// Serves `endpoints`, JSON objects, in place of what was served, as a reload does.
    ///
    /// # Errors
    /// An endpoint that does not start: then nothing has changed.
    ///
    /// # Panics
    /// With the configuration's error message.
    pub async fn reload(&self, endpoints: &[&str]) -> crate::Result<Changes> {
        let mounts = endpoints
            .iter()
            .map(|json| EndpointConfig::parse(json).unwrap_or_else(|error| panic!("{error}")))
            .map(EndpointConfig::into_mount)
            .collect();
        let mut router =
            Router::new(mounts, self.cx.proxy_name.clone()).expect("mounts are reachable");
        let changes = router.start_after(&self.site.router(), &self.cx).await?;
        self.site.replace(router);
        Ok(changes)
    }

    /// The same server behind a wire with `faults`.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Sends an ordinary request.
    pub async fn request(&self, request: Request) -> Response {
        let site = self.site.clone();
        // A task of its own, as in the engine, so that a panic is caught where it would be.
        tokio::spawn(async move { site.dispatch(request).await })
            .await
            .expect("dispatch")
    }

    /// Opens a tunnel.
    pub async fn connect(&self, protocol: &str, path: &str) -> Result<TestTunnel, ClientError> {
        Ok(TestTunnel(self.connection().connect(protocol, path).await?))
    }

    /// A client's handle on this server, for tests of a plugin's client side.
    pub fn connection(&self) -> Connection {
        Connection::new(self.clone())
    }

    /// What is served.
    pub fn site(&self) -> Arc<Site> {
        self.site.clone()
    }

    /// Stops the endpoints.
    pub async fn stop(&self) {
        self.site.router().stop().await;
    }
}

#[async_trait]
impl Transport for TestServer {
    async fn request(&self, request: Request) -> Result<Response, ClientError> {
        Ok(Self::request(self, request).await)
    }

    async fn open(&self, request: Request, flow: Box<dyn Flow>) -> Result<OpenTunnel, ClientError> {
        assert_eq!(
            request.method,
            Method::CONNECT,
            "a tunnel request is a CONNECT"
        );
        let response = Self::request(self, request).await;
        let Body::Flow(server) = response.body else {
            return Err(ClientError::refused(response.status, response.headers));
        };
        let (ended, receiver) = oneshot::channel();
        tokio::spawn(wire::run(server, flow, self.faults, ended));
        Ok(OpenTunnel::new(response.status, response.headers, receiver))
    }

    fn close(&self) {}

    async fn closed(&self) -> CloseReason {
        std::future::pending().await
    }
}

/// A [`Tunnel`] whose waits end in a panic instead of never.
#[derive(Debug)]
pub struct TestTunnel(pub Tunnel);

impl TestTunnel {
    /// Opens a tunnel on any connection, for example one of the engine's testing kit.
    pub async fn open(connection: &Connection, request: Request) -> Result<Self, ClientError> {
        let (tunnel, flow) = tunnel::pair();
        connection.open(request, flow).await?;
        Ok(Self(tunnel))
    }

    /// The next datagram.
    ///
    /// # Panics
    /// When the tunnel ends, or nothing comes for five seconds.
    pub async fn recv(&mut self) -> Packet {
        let packet = tokio::time::timeout(PATIENCE, self.0.recv()).await;
        packet.expect("a datagram in time").expect("an open tunnel")
    }

    /// Waits for the end of the tunnel, dropping datagrams.
    ///
    /// # Panics
    /// When it is still open after five seconds.
    pub async fn ended(&mut self) {
        let drain = async { while self.0.recv().await.is_some() {} };
        tokio::time::timeout(PATIENCE, drain)
            .await
            .expect("the tunnel ends in time");
    }

    /// Whether nothing comes for `time`.
    pub async fn is_silent_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.0.recv()).await.is_err()
    }
}

impl Deref for TestTunnel {
    type Target = Tunnel;

    fn deref(&self) -> &Tunnel {
        &self.0
    }
}

impl DerefMut for TestTunnel {
    fn deref_mut(&mut self) -> &mut Tunnel {
        &mut self.0
    }
}
