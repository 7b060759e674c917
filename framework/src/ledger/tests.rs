use std::fs;
use std::future::poll_fn;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};

use futures_util::{StreamExt, stream};

use super::*;
use crate::auth::{ClientCertificate, IdentityKind, IdentityLimits};
use crate::config::AuthConfig;
use crate::flow::{FlowCx, Outbox};
use crate::packet::{Batch, Packet};
use crate::request::Request;
use crate::wire::capsule::Capsule;

/// Counts what comes, and sends what it is told to.
#[derive(Default)]
struct Counting {
    taken: Arc<AtomicU64>,
    /// Packets that it sends whenever it is asked.
    source: usize,
}

impl Flow for Counting {
    fn on_datagrams(&mut self, inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        let bytes: usize = inbound.iter().map(|packet| packet.len()).sum();
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn on_capsule(&mut self, capsule: Capsule<'_>, cx: &mut FlowCx<'_>) -> Result<()> {
        cx.send_capsule(capsule.kind, capsule.value);
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        for _ in 0..self.source {
            cx.send(Packet::with_len(LEN));
        }
        Poll::Pending
    }
}

const LEN: usize = 1200;

/// Accounts whose time the test makes, in nanoseconds.
fn ledger() -> (Arc<Ledger>, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(0));
    let ledger = Ledger {
        clock: Clock::Manual(time.clone()),
        check_interval: Duration::from_millis(1),
        ..Ledger::default()
    };
    (Arc::new(ledger), time)
}

fn identity(name: &str, limits: IdentityLimits) -> Identity {
    Identity::new(name, IdentityKind::Bearer).with_limits(limits)
}

struct Open {
    flow: Box<dyn Flow>,
    taken: Arc<AtomicU64>,
    outbox: Outbox,
}

impl Open {
    fn new(ledger: &Arc<Ledger>, identity: &Identity) -> Result<Self> {
        let admission = ledger.admit(identity)?;
        let counting = Counting {
            source: 64,
            ..Counting::default()
        };
        Ok(Self {
            taken: counting.taken.clone(),
            flow: ledger.guard(Box::new(counting), identity.clone(), admission),
            outbox: Outbox::default(),
        })
    }

    fn put(&mut self, packets: usize) -> Result<()> {
        let mut batch = Batch::new();
        for _ in 0..packets {
            batch.push(Packet::with_len(LEN)).unwrap();
        }
        let mut cx = FlowCx::new(&mut self.outbox, Waker::noop(), 1024, 1500);
        self.flow.on_datagrams(&mut batch, &mut cx)
    }

    /// Bytes that the flow sends when it is asked once.
    fn pull(&mut self) -> Poll<Result<u64>> {
        let mut cx = FlowCx::new(&mut self.outbox, Waker::noop(), 1024, 1500);
        match self.flow.poll_outbound(&mut cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => {
                let sent = self.outbox.packets.drain(..).map(|p| p.len() as u64).sum();
                Poll::Ready(Ok(sent))
            }
        }
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Passes the time, and checks what came through in proportion to what may.
fn assert_rate(bytes: u64, rate: u64, seconds: u64) {
    let share = bytes as f64 * 8.0 / (rate * seconds) as f64;
    assert!((0.95..=1.05).contains(&share), "{share} of {rate} bit/s");
}

#[tokio::test]
async fn ten_times_the_rate_is_cut_to_the_rate_and_others_are_not() {
    const SECONDS: u64 = 10;
    let cases = [
        (10_000_000, 1),
        (100_000_000, 1),
        (100_000_000, 7),
        (10_000_000, 64),
        (1_000_000_000, 64),
    ];
    for (rate, batch) in cases {
        let (ledger, time) = ledger();
        let limits = IdentityLimits {
            rate: Some(rate),
            ..IdentityLimits::default()
        };
        let mut limited = Open::new(&ledger, &identity("limited", limits)).unwrap();
        let mut other = Open::new(&ledger, &identity("other", limits)).unwrap();
        let unlimited = identity("unlimited", IdentityLimits::default());
        let mut unlimited = Open::new(&ledger, &unlimited).unwrap();
        let batch_bits = (batch * LEN * 8) as u64;
        // A batch now and then, such that they come to ten times the rate.
        let pause = batch_bits * 1_000_000_000 / (10 * rate);
        let batches = SECONDS * 1_000_000_000 / pause;
        for n in 0..batches {
            time.fetch_add(pause, Ordering::Relaxed);
            limited.put(batch).unwrap();
            unlimited.put(batch).unwrap();
            if n % 11 == 0 {
                other.put(batch).unwrap();
            }
        }
        assert_rate(limited.taken(), rate, SECONDS);
        let offered = batches * batch_bits / 8;
        assert_eq!(unlimited.taken(), offered);
        assert_eq!(other.taken(), batches.div_ceil(11) * batch_bits / 8);
        let dropped = limited.outbox.dropped_over_rate * LEN as u64;
        assert_eq!(
            limited.taken() + dropped,
            offered,
            "what is missing is counted"
        );
    }
}

#[tokio::test]
async fn all_tunnels_of_an_identity_share_its_rate_in_both_directions() {
    let (ledger, time) = ledger();
    let rate = 50_000_000;
    let limits = IdentityLimits {
        rate: Some(rate),
        ..IdentityLimits::default()
    };
    let alice = identity("alice", limits);
    let mut tunnels: Vec<_> = (0..3)
        .map(|_| Open::new(&ledger, &alice).unwrap())
        .collect();
    let mut sent = 0;
    for _ in 0..10_000 {
        time.fetch_add(1_000_000, Ordering::Relaxed);
        for tunnel in &mut tunnels {
            tunnel.put(10).unwrap();
            let Poll::Ready(pulled) = tunnel.pull() else {
                unreachable!()
            };
            sent += pulled.unwrap();
        }
    }
    let taken: u64 = tunnels.iter().map(Open::taken).sum();
    assert_rate(taken + sent, rate, 10);
}

#[tokio::test]
async fn a_volume_that_is_used_up_ends_the_tunnel_and_outlasts_it() {
    let (ledger, _time) = ledger();
    let limits = IdentityLimits {
        volume: Some(100 * LEN as u64),
        ..IdentityLimits::default()
    };
    let alice = identity("alice", limits);
    let mut first = Open::new(&ledger, &alice).unwrap();
    first.put(60).unwrap();
    drop(first);
    let mut second = Open::new(&ledger, &alice).unwrap();
    second.put(40).unwrap();
    let error = second.put(1).unwrap_err();
    assert_eq!(error.stream_error(), StreamError::ExcessiveLoad);
    let refused = ledger.admit(&alice).unwrap_err();
    assert_eq!(refused.status().as_u16(), 403);
    assert_eq!(refused.proxy_error(), Some(ProxyError::HttpRequestDenied));
    Open::new(&ledger, &identity("bob", limits)).unwrap();
}

#[tokio::test]
async fn capsules_count_as_well() {
    let (ledger, _time) = ledger();
    let limits = IdentityLimits {
        volume: Some(2500),
        rate: Some(1_000_000),
        ..IdentityLimits::default()
    };
    let mut open = Open::new(&ledger, &identity("alice", limits)).unwrap();
    let mut send = || {
        let mut cx = FlowCx::new(&mut open.outbox, Waker::noop(), 64, 1500);
        let value = &[0; 1000];
        open.flow.on_capsule(
            Capsule {
                kind: 0x1234,
                value,
            },
            &mut cx,
        )
    };
    send().unwrap();
    send().unwrap_err();
}

#[tokio::test]
async fn an_identity_has_so_many_tunnels_at_a_time() {
    let (ledger, _time) = ledger();
    let limits = IdentityLimits {
        tunnels: Some(2),
        ..IdentityLimits::default()
    };
    let alice = identity("alice", limits);
    let first = Open::new(&ledger, &alice).unwrap();
    let _second = Open::new(&ledger, &alice).unwrap();
    // However often it is asked for, there is not one more.
    for _ in 0..5 {
        let refused = ledger.admit(&alice).unwrap_err();
        assert_eq!(refused.status().as_u16(), 503);
    }
    drop(first);
    ledger.admit(&alice).unwrap();
    // A place that no tunnel came to is free as well.
    ledger.admit(&alice).unwrap();
}

#[tokio::test]
async fn a_tunnel_ends_when_its_identity_expires() {
    let (ledger, _time) = ledger();
    let expires = SystemTime::now() + Duration::from_millis(20);
    let alice = identity("alice", IdentityLimits::default()).with_expiry(Some(expires));
    let mut open = Open::new(&ledger, &alice).unwrap();
    let mut ended = poll_fn(|cx| {
        let mut outbox = Outbox::default();
        let mut cx = FlowCx::new(&mut outbox, cx.waker(), 64, 1500);
        open.flow.poll_outbound(&mut cx)
    });
    let ended = tokio::time::timeout(Duration::from_secs(5), &mut ended).await;
    let error = ended.unwrap().unwrap_err();
    assert_eq!(error.stream_error(), StreamError::RequestCancelled);
    assert!(SystemTime::now() >= expires);
    // Also one that only takes.
    let mut open = Open::new(&ledger, &alice).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while open.put(1).is_ok() {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn content_breaks_off_when_its_identity_expires() {
    let (ledger, _time) = ledger();
    let endless = || Box::pin(stream::pending());
    let alice = identity("alice", IdentityLimits::default());
    let expires = SystemTime::now() + Duration::from_millis(20);
    let passing = alice.clone().with_expiry(Some(expires));
    let mut content = ledger.guard_content(endless(), passing);
    let broken = tokio::time::timeout(Duration::from_secs(5), content.next()).await;
    let error = broken.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    for lasting in [alice, Identity::anonymous()] {
        let mut content = ledger.guard_content(endless(), lasting);
        let waited = tokio::time::timeout(Duration::from_millis(50), content.next()).await;
        assert!(waited.is_err());
    }
}

/// An authenticator that knows one certificate, called `laptop`.
fn authenticator(folder: &Path) -> Arc<Authenticator> {
    let roster = format!(r#"{{ "{}": {{ "name": "laptop" }} }}"#, "07".repeat(32));
    fs::write(folder.join("keys.json"), roster).unwrap();
    fs::write(folder.join("revoked.txt"), "").unwrap();
    let config = AuthConfig {
        jwt_secret_file: None,
        users_file: None,
        client_ca_file: None,
        client_ca_permissions: Vec::new(),
        client_keys_file: Some(folder.join("keys.json")),
        revoked_file: Some(folder.join("revoked.txt")),
    };
    let open = Authenticator::open(&config, |key, message| panic!("{key}: {message}"));
    Arc::new(open.unwrap())
}

/// A ledger, and the identity of the one who may get in.
async fn laptop(folder: &Path) -> (Arc<Ledger>, Identity) {
    let (ledger, _time) = ledger();
    let authenticator = authenticator(folder);
    ledger.set_authenticator(Some(authenticator.clone()));
    let mut request = Request::get("/");
    request.client_certificate = Some(ClientCertificate {
        spki_sha256: [7; 32],
        name: None,
        not_after: None,
        authority: None,
    });
    (ledger, authenticator.authenticate(&request).await.unwrap())
}

#[tokio::test]
async fn a_tunnel_ends_when_its_identity_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, laptop) = laptop(folder.path()).await;
    let mut open = Open::new(&ledger, &laptop).unwrap();
    let mut is_revoked = false;
    let ended = poll_fn(|task| {
        loop {
            let mut outbox = Outbox::default();
            let mut cx = FlowCx::new(&mut outbox, task.waker(), 64, 1500);
            let polled = open.flow.poll_outbound(&mut cx);
            if polled.is_ready() || std::mem::replace(&mut is_revoked, true) {
                return polled;
            }
            fs::write(folder.path().join("revoked.txt"), "laptop\n").unwrap();
        }
    });
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
    let error = ended.unwrap().unwrap_err();
    assert_eq!(error.stream_error(), StreamError::RequestCancelled);
    assert!(is_revoked);
}

#[tokio::test]
async fn what_was_revoked_before_its_first_use_is_of_no_use() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, laptop) = laptop(folder.path()).await;
    // Answered, and held back by a client that gives no credit for the answer.
    let mut tunnels: Vec<Open> = (0..3)
        .map(|_| Open::new(&ledger, &laptop).unwrap())
        .collect();
    let used = Open::new(&ledger, &laptop).map(|mut open| open.put(1).map(|()| open.taken()));
    assert_eq!(used.unwrap().unwrap(), LEN as u64);
    fs::write(folder.path().join("revoked.txt"), "laptop\n").unwrap();
    // Files are looked at every two seconds.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    for open in &mut tunnels {
        let error = open.put(1).unwrap_err();
        assert_eq!(error.stream_error(), StreamError::RequestCancelled);
        assert_eq!(open.taken(), 0);
    }
}

#[test]
fn accounts_without_use_are_forgotten() {
    let accounts = Accounts::default();
    let kept = accounts.of("kept");
    accounts.of("used").count(1);
    for n in 0..2000 {
        accounts.of(&format!("passing {n}"));
    }
    assert!(Arc::ptr_eq(&kept, &accounts.of("kept")));
    assert_eq!(accounts.of("used").used(), 1);
    assert!(accounts.len() < 1500);
}
