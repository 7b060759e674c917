mod identities;

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use serde::Deserialize;

use super::*;
use crate::config::EndpointConfig;
use crate::endpoint::{Endpoint, StartContext};
use crate::testing::{TestServer, TestTunnel};

/// Answers each datagram with its `word`. Its tunnels go on after a reload as long as they are
/// `lasting`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestParrot {
    word: String,
    #[serde(default)]
    lasting: bool,
    #[serde(default)]
    refuses_to_start: bool,
    /// Shared with those before: starts, stops.
    #[serde(skip)]
    ledger: Arc<[AtomicUsize; 2]>,
}

crate::register!(TestParrot, "says one word",
    example: r#"{ "path": "parrot", "type": "TestParrot", "word": "hello" }"#);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for TestParrot {
    async fn start(&mut self, _: &StartContext) -> Result<()> {
        self.ledger[0].fetch_add(1, Ordering::Relaxed);
        match self.refuses_to_start {
            true => Err(Error::internal("no")),
            false => Ok(()),
        }
    }

    async fn start_after(
        &mut self,
        former: &(dyn Endpoint + 'static),
        cx: &StartContext,
    ) -> Result<()> {
        if let Some(former) = former.downcast_ref::<Self>() {
            self.ledger = former.ledger.clone();
        }
        self.start(cx).await
    }

    async fn handle(&self, request: Request) -> Result<Response> {
        if request.protocol.is_none() {
            let mut response = Response::ok("");
            response.body = Body::stream(futures_util::stream::pending());
            return Ok(response);
        }
        Ok(Response::flow(Talk(self.word.clone())))
    }

    async fn stop(&self) {
        self.ledger[1].fetch_add(1, Ordering::Relaxed);
    }
}

struct Talk(String);

impl Flow for Talk {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        for _ in inbound.drain() {
            cx.send(self.0.as_bytes().into());
        }
        Ok(())
    }

    fn on_reload(&mut self, endpoint: &(dyn Endpoint + 'static), _: &mut FlowCx<'_>) -> Result<()> {
        match endpoint.downcast_ref::<TestParrot>() {
            Some(parrot) if parrot.lasting => {
                self.0.clone_from(&parrot.word);
                Ok(())
            }
            _ => Err(Error::internal("not lasting")),
        }
    }
}

fn parrot(path: &str, rest: &str) -> String {
    format!(r#"{{ "path": "{path}", "type": "TestParrot", {rest} }}"#)
}

async fn open(server: &TestServer, path: &str) -> TestTunnel {
    server.connect("parrot", path).await.unwrap()
}

async fn ask(tunnel: &mut TestTunnel) -> String {
    tunnel.send(b"?");
    String::from_utf8(tunnel.recv().await.to_vec()).unwrap()
}

/// How often endpoints were started and stopped, of the lineage at `path`.
fn ledger(server: &TestServer, index: usize) -> Arc<[AtomicUsize; 2]> {
    let router = server.site().router();
    let service = router.services().nth(index).unwrap();
    let parrot = service
        .endpoint()
        .unwrap()
        .downcast_ref::<TestParrot>()
        .unwrap();
    parrot.ledger.clone()
}

fn counts(ledger: &[AtomicUsize; 2]) -> [usize; 2] {
    [0, 1].map(|which| ledger[which].load(Ordering::Relaxed))
}

#[tokio::test]
async fn what_is_the_same_goes_on_as_it_is() {
    let one = parrot("one", r#""word": "a""#);
    let server = TestServer::from_json(&one).await;
    let mut tunnel = open(&server, "/one").await;
    let two = parrot("two", r#""word": "b""#);
    let changes = server.reload(&[&two, &one]).await.unwrap();
    assert_eq!((changes.kept, changes.changed, changes.added), (1, 0, 1));
    assert_eq!(ask(&mut tunnel).await, "a");
    assert_eq!(ask(&mut open(&server, "/two").await).await, "b");
    assert_eq!(counts(&ledger(&server, 1)), [1, 0]);
}

#[tokio::test]
async fn what_is_started_in_other_circumstances_is_not_the_same() {
    let text = parrot("p", r#""word": "a""#);
    let server = TestServer::from_json(&text).await;
    let mount = EndpointConfig::parse(&text).unwrap().into_mount();
    let mut router = Router::new(vec![mount], "pasque").unwrap();
    let elsewhere = StartContext::new("elsewhere");
    let former = server.site().router();
    let changes = router.start_after(&former, &elsewhere).await.unwrap();
    assert_eq!((changes.kept, changes.changed), (0, 1));
}

#[tokio::test]
async fn what_has_changed_takes_its_tunnels_over_if_they_may_go_on() {
    let server = TestServer::from_json(&parrot("p", r#""word": "a""#)).await;
    let (mut first, mut idle) = (open(&server, "/p").await, open(&server, "/p").await);
    let ledger = ledger(&server, 0);
    // Twice before the tunnels are asked, so that the one between is gone already.
    for word in ["b", "c"] {
        let next = parrot("p", &format!(r#""word": "{word}", "lasting": true"#));
        let changes = server.reload(&[&next]).await.unwrap();
        assert_eq!((changes.kept, changes.changed), (0, 1));
    }
    assert_eq!(ask(&mut first).await, "c");
    assert_eq!(ask(&mut idle).await, "c");
    // Its first two endpoints have no tunnel left.
    tokio::time::timeout(crate::testing::PATIENCE, async {
        while counts(&ledger) != [3, 2] {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let last = parrot("p", r#""word": "d""#);
    server.reload(&[&last]).await.unwrap();
    // Without a datagram: a reload wakes it.
    idle.ended().await;
    first.ended().await;
}

#[tokio::test]
async fn an_endpoint_is_not_stopped_while_its_content_is_sent() {
    let server = TestServer::from_json(&parrot("p", r#""word": "a""#)).await;
    let ledger = ledger(&server, 0);
    let response = server.site().dispatch(Request::get("/p")).await;
    assert!(matches!(response.body, Body::Stream(_)));
    let next = parrot("p", r#""word": "b""#);
    server.reload(&[&next]).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counts(&ledger), [2, 0]);
    drop(response);
    tokio::time::timeout(crate::testing::PATIENCE, async {
        while counts(&ledger) != [2, 1] {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_tunnel_ends_where_its_request_would_reach_something_else() {
    let parrots = [
        parrot("gone", r#""word": "a""#),
        parrot("moved", r#""word": "b""#),
        parrot("covered", r#""word": "c""#),
        parrot("stays", r#""word": "d""#),
    ];
    let server = TestServer::from_json(&parrots[0]).await;
    let all: Vec<&str> = parrots.iter().map(String::as_str).collect();
    server.reload(&all).await.unwrap();
    let mut tunnels = Vec::new();
    for path in ["/gone", "/moved", "/covered", "/stays"] {
        tunnels.push(open(&server, path).await);
    }
    let next = [
        // Another endpoint, where one was.
        r#"{ "path": "/{covered}", "type": "TestParrot", "word": "x" }"#.to_owned(),
        parrot("elsewhere/moved", r#""word": "b""#),
        parrot("elsewhere/covered", r#""word": "c""#),
        parrot("elsewhere/stays", r#""word": "d""#).replace(
            r#""elsewhere/stays""#,
            r#"["elsewhere/stays", "stays/too"]"#,
        ),
    ];
    let all: Vec<&str> = next.iter().map(String::as_str).collect();
    server.reload(&all).await.unwrap();
    for tunnel in &mut tunnels {
        tunnel.ended().await;
    }
}

#[tokio::test]
async fn what_stands_in_the_place_of_one_takes_over_no_tunnels_of_another() {
    let (first, second) = (parrot("a", r#""word": "a""#), parrot("b", r#""word": "b""#));
    let server = TestServer::from_json(&first).await;
    server.reload(&[&first, &second]).await.unwrap();
    let mut own = open(&server, "/a").await;
    let mut others = open(&server, "/b").await;
    // Where both were is now what stands in the place of the first.
    let next = parrot("/{any}", r#""word": "x", "lasting": true"#);
    let elsewhere = second.replace(r#""path": "b""#, r#""path": "elsewhere/b""#);
    let changes = server.reload(&[&next, &elsewhere]).await.unwrap();
    assert_eq!((changes.kept, changes.changed, changes.removed), (1, 1, 0));
    others.ended().await;
    assert_eq!(ask(&mut own).await, "x");
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let good = parrot("p", r#""word": "a""#);
    let server = TestServer::from_json(&good).await;
    let mut tunnel = open(&server, "/p").await;
    let ledger = ledger(&server, 0);
    let changed = parrot("p", r#""word": "b", "lasting": true"#);
    let bad = parrot("q", r#""word": "c", "refuses_to_start": true"#);
    for _ in 0..3 {
        let error = server.reload(&[&changed, &bad]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "endpoints[1] (TestParrot) cannot start: no"
        );
    }
    assert_eq!(ask(&mut tunnel).await, "a");
    assert_eq!(ask(&mut open(&server, "/p").await).await, "a");
    // What had started beside it was stopped.
    assert_eq!(counts(&ledger), [4, 3]);
}

#[tokio::test]
async fn a_tunnel_that_was_being_opened_belongs_to_the_new_router() {
    let server = TestServer::from_json(&parrot("p", r#""word": "a""#)).await;
    let site = server.site();
    let response = site.dispatch(Request::tunnel("parrot", "/p")).await;
    let Body::Flow(mut flow) = response.body else {
        panic!("a tunnel");
    };
    server
        .reload(&[&parrot("q", r#""word": "b""#)])
        .await
        .unwrap();
    let mut outbox = crate::flow::Outbox::default();
    let mut cx = FlowCx::new(&mut outbox, Waker::noop(), 1, 1200);
    assert!(flow.on_datagrams(&mut Batch::new(), &mut cx).is_err());
    assert!(matches!(flow.poll_outbound(&mut cx), Poll::Ready(Err(_))));
    drop(flow);
    assert!(site.tunnels().is_empty());
}
