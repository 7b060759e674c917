//! `Echo`: returns every datagram. The smallest useful tunnel endpoint.
use pasque::prelude::*;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Echo {
    max_len: usize, // longer datagrams are dropped
}

pasque::register!(Echo, "returns every datagram",
    example: r#"{ "path": "echo", "type": "Echo", "max_len": 1200 }"#);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Echo {
    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_protocol("echo")?;
        Ok(Response::flow(self.clone()))
    }
}

impl Flow for Echo {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        for packet in inbound.drain().filter(|p| p.len() <= self.max_len) {
            cx.send(packet);
        }
        Ok(())
    }
}

#[cfg(test)]
#[tokio::test]
async fn returns_what_it_gets() {
    let server = pasque::testing::TestServer::example("Echo").await;
    let mut tunnel = server.connect("echo", "/echo").await.unwrap();
    tunnel.send(&[0; 1201]); // longer than max_len
    tunnel.send(b"hello");
    assert_eq!(&*tunnel.recv().await, b"hello");
}
