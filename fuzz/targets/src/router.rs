//! Any request to fixed mounts: the first mount that matches answers, with its variables decoded
//! once; and a request that no mount takes is refused as one of a few things.
//!
//! The first line is the method, the second the `:protocol`, the third the `:authority`, the rest the
//! `:path`.

use std::sync::LazyLock;

use http::{HeaderValue, Method};
use pasque::config::EndpointConfig;
use pasque::prelude::*;
use pasque::template::MatchOutcome;
use pasque::{Router, endpoint_types};

/// Answers every request with its own place in the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    index: u16,
}

pasque::register!(Place, "says which mount it is",
    example: r#"{ "path": "place", "type": "Place", "index": 0 }"#, inline: true);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Place {
    async fn handle(&self, request: Request) -> Result<Response> {
        let index = HeaderValue::from(self.index);
        let response = match request.protocol {
            Some(_) => Response::flow(self.clone()),
            None => Response::ok("here"),
        };
        Ok(response.with_header(INDEX, index))
    }
}

impl Flow for Place {
    fn on_datagrams(&mut self, _inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        Ok(())
    }
}

const INDEX: http::HeaderName = http::HeaderName::from_static("index");

const PATHS: [&str; 7] = [
    "/exact",
    "/udp/{target_host}/{target_port}/",
    "/udp/{target_host}/",
    "/ip/{target}/{ipproto}/",
    "/query{?host,port}",
    "/a/{b}/c?d={d}",
    "/{anything}",
];

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    assert!(endpoint_types().is_ok());
    let mounts = PATHS.iter().enumerate().map(|(index, path)| {
        let json = format!(r#"{{ "path": "{path}", "type": "Place", "index": {index} }}"#);
        EndpointConfig::parse(&json).expect("a mount").into_mount()
    });
    let router = Router::new(mounts.collect(), "fuzz").expect("mounts that can be reached");
    router.with_hosts(vec!["psq.example".into()])
});

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let mut lines = text.splitn(4, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, protocol, authority, path) = (line(), line(), line(), line());
    let Ok(method) = Method::from_bytes(method.as_bytes()) else {
        return;
    };
    // The engine gives a protocol to a CONNECT only.
    let mut request = match protocol {
        "" => Request::new(method, path),
        protocol => Request::tunnel(protocol, path),
    };
    if !authority.is_empty() {
        request.authority = authority.into();
    }
    let is_tunnel = request.protocol.is_some();
    let serves = request.authority.eq_ignore_ascii_case("psq.example");

    let first = ROUTER.mounts().iter().position(|mount| {
        let is_match = |outcome| matches!(outcome, MatchOutcome::Match(_));
        let mut templates = mount.templates().iter();
        templates.any(|template| is_match(template.match_path(path)))
    });
    let response = crate::block_on(ROUTER.dispatch(request));
    let answered = response.headers.get(INDEX);
    match response.status.as_u16() {
        200 => {
            assert_eq!(answered, first.map(HeaderValue::from).as_ref());
            assert_eq!(matches!(response.body, Body::Flow(_)), is_tunnel);
        }
        status => {
            assert!(
                matches!(status, 400 | 404 | 405 | 414 | 421 | 501),
                "{status}"
            );
            assert!(answered.is_none());
            assert!(
                first.is_none() || !serves || path.len() > 8 << 10,
                "{status}"
            );
        }
    }
}
