//! [`Endpoint`], what a plugin implements, and the registry that turns a type tag into one.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::diagnosis::Finding;
use crate::error::Result;
use crate::file_use::FileUse;
use crate::request::Request;
use crate::response::Response;

/// A service mounted at a URI template. One JSON object of the configuration makes one endpoint.
///
/// Implement it with `#[async_trait]` above `#[typetag::deserialize]`, derive `Deserialize` with
/// `deny_unknown_fields`, and name the type in [`register!`](crate::register).
#[async_trait]
#[typetag::deserialize(tag = "type")]
pub trait Endpoint: Any + fmt::Debug + Send + Sync {
    /// Opens what the endpoint needs. Runs once, before the first request; an error stops the
    /// server with its message.
    async fn start(&mut self, cx: &StartContext) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// [`start`](Self::start) while the server runs, in the place of `former`: a reload has found an
    /// endpoint of this type there whose keys, or whose [`StartContext`], were others. What both
    /// need may be shared; `former.downcast_ref()` makes `former` what
    /// it was.
    ///
    /// `former` goes on serving meanwhile, and must notice nothing: the reload may still fail. Its
    /// tunnels are then asked by [`Flow::on_reload`](crate::Flow::on_reload) whether they go on under
    /// this endpoint, and once it has none left it is stopped.
    ///
    /// The default starts anew and shares nothing.
    async fn start_after(
        &mut self,
        former: &(dyn Endpoint + 'static),
        cx: &StartContext,
    ) -> Result<()> {
        let _ = former;
        self.start(cx).await
    }

    /// Answers one request. Runs on a task of its own, so it may wait, and unless its type is
    /// [`inline`](EndpointType::inline) on threads that only this endpoint has. It is dropped when
    /// the client resets the stream, and after the limit `handle_timeout_ms`, with 503 for the
    /// client. An error becomes a response with its status, a panic a 500.
    async fn handle(&self, request: Request) -> Result<Response>;

    /// Releases what [`start`](Self::start) opened. Runs once, after the last flow has ended.
    async fn stop(&self) {}

    /// The capabilities of the operating system that this endpoint takes. A server that becomes
    /// another user keeps those of the endpoints that it starts with, and no others.
    fn capabilities(&self) -> &'static [Capability] {
        &[]
    }

    /// The files and folders that this endpoint opens, now or later; relative paths start in
    /// [`StartContext::base_dir`]. A server that is confined to the files that it needs gives it these,
    /// before it is [started](Self::start), and refuses the reload that wants others.
    fn files(&self) -> Vec<FileUse> {
        Vec::new()
    }

    /// Looks whether the host has what this endpoint needs, for `psq-server doctor`. It may be
    /// called without [`start`](Self::start), and changes nothing.
    async fn diagnose(&self, cx: &StartContext) -> Vec<Finding> {
        let _ = cx;
        Vec::new()
    }
}

impl dyn Endpoint {
    /// The endpoint as the type that it is, if that is `T`.
    pub fn downcast_ref<T: Endpoint>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// A privilege of a process on Linux, as `capabilities(7)` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// `CAP_NET_ADMIN`: interfaces, their addresses and routes.
    NetAdmin,
    /// `CAP_NET_RAW`: raw sockets.
    NetRaw,
}

/// What an endpoint may know about the server that starts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartContext {
    /// The addresses that the server listens on; empty in an in-process test.
    pub listeners: Vec<SocketAddr>,
    /// The name of this deployment in `proxy-status` fields (RFC 9209 §2).
    pub proxy_name: String,
    /// The folder of the configuration file: relative paths in it start here.
    pub base_dir: PathBuf,
    /// The DNS server to ask instead of the system's, if configured.
    pub nameserver: Option<SocketAddr>,
}

impl StartContext {
    /// A path of the configuration, relative to the configuration file's folder.
    pub fn resolve_path(&self, path: &Path) -> PathBuf {
        self.base_dir.join(path)
    }
}

/// What the registry knows about a type of endpoint. Made by [`register!`](crate::register).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct EndpointType {
    /// The type tag in the configuration.
    pub tag: &'static str,
    /// One line for `psq-server endpoints`.
    pub summary: &'static str,
    /// A complete JSON object that makes one. Tested: it parses.
    pub example: &'static str,
    /// Variables that a mount given as a bare prefix gets, as path segments, in this order.
    pub variables: &'static [&'static str],
    /// Whether a mount's template may leave variables out.
    pub optional: bool,
    /// The template at which the type is also served when nothing else is mounted there.
    pub well_known: Option<&'static str>,
    /// Whether a mount given as a bare prefix serves everything below it.
    pub rest: bool,
    /// Whether the type may serve strangers: it reaches nothing beyond what it was configured to
    /// publish. Any other type needs `"anonymous": true` on an address that others can reach.
    pub public: bool,
    /// Whether [`Endpoint::handle`] runs on the worker that owns the client's connection. There the
    /// sockets that it opens belong to the worker's own reactor, as the fast tier needs, and there it
    /// stops every tunnel of that worker when it blocks. Any other type gets threads of its own.
    pub inline: bool,
    /// Deserialises the type on its own, to find where in an object an error is.
    pub probe: fn(&serde_json::Value) -> Result<(), serde_path_to_error::Error<serde_json::Error>>,
}

impl EndpointType {
    /// The defaults under [`register!`](crate::register).
    #[doc(hidden)]
    pub const fn new(
        tag: &'static str,
        summary: &'static str,
        example: &'static str,
        probe: fn(&serde_json::Value) -> Result<(), serde_path_to_error::Error<serde_json::Error>>,
    ) -> Self {
        Self {
            tag,
            summary,
            example,
            variables: &[],
            optional: false,
            well_known: None,
            rest: false,
            public: false,
            inline: false,
            probe,
        }
    }
}

impl fmt::Debug for EndpointType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointType({})", self.tag)
    }
}

inventory::collect!(EndpointType);

/// Every linked type of endpoint, by tag.
///
/// A crate is linked when the binary names it: `use my_crate as _;` is needed and enough.
///
/// # Errors
/// The tag that two linked crates both claim.
pub fn endpoint_types() -> Result<Vec<&'static EndpointType>, DuplicateTag> {
    let mut types: Vec<_> = inventory::iter::<EndpointType>.into_iter().collect();
    types.sort_by_key(|kind| kind.tag);
    match types
        .array_windows()
        .find(|[one, next]| one.tag == next.tag)
    {
        Some([one, _]) => Err(DuplicateTag(one.tag)),
        None => Ok(types),
    }
}

/// Two linked crates register the same type tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two linked crates both register the endpoint type {0:?}: rename one of them")]
pub struct DuplicateTag(pub &'static str);

/// Makes a type of endpoint known to the configuration.
///
/// ```
/// # use pasque::prelude::*;
/// #[derive(Clone, Debug, Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Greeting {
///     text: String,
/// }
///
/// pasque::register!(Greeting, "says one thing",
///     example: r#"{ "path": "/hello", "type": "Greeting", "text": "hello" }"#);
///
/// #[async_trait]
/// #[typetag::deserialize]
/// impl Endpoint for Greeting {
///     async fn handle(&self, _request: Request) -> Result<Response> {
///         Ok(Response::ok(self.text.clone()))
///     }
/// }
///
/// let types = pasque::endpoint_types().unwrap();
/// assert!(types.iter().any(|kind| kind.tag == "Greeting"));
/// ```
///
/// The name of the type is its tag, as typetag has it. Optional, after the example, in any order:
///
/// - `variables: &["target_host", "target_port"]`: what a mount given as a bare prefix adds.
/// - `optional: true`: a template may leave variables out.
/// - `well_known: Some("/.well-known/…")`: a template that the type also serves.
/// - `rest: true`: a bare prefix serves everything below it.
/// - `public: true`: may serve strangers; see [`EndpointType::public`].
/// - `inline: true`: answers on the worker's own thread; see [`EndpointType::inline`].
#[macro_export]
macro_rules! register {
    ($endpoint:ident, $summary:expr, example: $example:expr $(, $key:ident : $value:expr)* $(,)?) => {
        $crate::__private::inventory::submit! {{
            #[allow(unused_mut)]
            let mut kind = $crate::EndpointType::new(
                stringify!($endpoint),
                $summary,
                $example,
                |value| $crate::__private::probe::<$endpoint>(value),
            );
            $( kind.$key = $value; )*
            kind
        }}
    };
}

/// For [`register!`](crate::register).
#[doc(hidden)]
pub fn probe<T: serde::de::DeserializeOwned>(
    value: &serde_json::Value,
) -> Result<(), serde_path_to_error::Error<serde_json::Error>> {
    serde_path_to_error::deserialize::<_, T>(value).map(drop)
}
