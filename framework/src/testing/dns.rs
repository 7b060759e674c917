//! A name server for tests: a UDP socket on loopback that answers what the test says.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use pasque::testing::dns::{Answer, DnsServer};
//!
//! // Rebinding: a public address at first, loopback from then on.
//! let server = DnsServer::start(|question| match question.number {
//!     0 => Answer::addresses(["198.51.100.1"]),
//!     _ => Answer::addresses(["127.0.0.1", "::1"]),
//! })
//! .await?;
//! assert_eq!(server.queries(), 0);
//! # Ok(())
//! # }
//! ```

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// What a resolver asks, one record type at a time.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name in lower case, without the final dot.
    pub name: String,
    /// The record type: [`A`], [`AAAA`] or another number (RFC 1035 §3.2.2).
    pub kind: u16,
    /// How often this name and type was asked before.
    pub number: u64,
}

/// The type of a record with an IPv4 address (RFC 1035 §3.2.2).
pub const A: u16 = 1;
/// The type of a record with an IPv6 address (RFC 3596 §2.1).
pub const AAAA: u16 = 28;
const CNAME: u16 = 5;

/// What the server does about a question. Every record lives for zero seconds, so none is cached.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Response code 0: a chain of aliases, then those addresses whose family was asked for.
    /// Answers above 1232 bytes do not arrive; that is some 70 IPv4 or 40 IPv6 addresses.
    Records {
        /// The names that the asked one leads to, one after the other.
        aliases: Vec<String>,
        /// The addresses of the last name, of both families.
        addresses: Vec<IpAddr>,
    },
    /// This response code and no record (RFC 1035 §4.1.1).
    Code(u8),
    /// No answer at all.
    Silence,
    /// The answer inside, after a while.
    Delayed(Duration, Box<Answer>),
}

impl Answer {
    /// `SERVFAIL`: the server could not find out.
    pub const SERVFAIL: Self = Self::Code(2);
    /// `NXDOMAIN`: there is no such name.
    pub const NXDOMAIN: Self = Self::Code(3);

    /// Addresses, as text; a malformed one is left out.
    pub fn addresses<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Records {
            aliases: Vec::new(),
            addresses: addresses
                .into_iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
        }
    }

    /// The same after `delay`.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self::Delayed(delay, Box::new(self))
    }
}

/// A running name server; it stops when dropped.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    queries: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl DnsServer {
    /// Starts a server on a free port of 127.0.0.1 that answers every question with `answer`.
    pub async fn start(
        mut answer: impl FnMut(&Question) -> Answer + Send + 'static,
    ) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let address = socket.local_addr()?;
        let queries = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&queries);
        let task = tokio::spawn(async move {
            let mut asked = HashMap::new();
            let mut query = [0; 512];
            while let Ok((len, client)) = socket.recv_from(&mut query).await {
                let Some(mut message) = Message::parse(&query[..len]) else {
                    continue;
                };
                counter.fetch_add(1, Ordering::Relaxed);
                let question = &mut message.question;
                let times = asked
                    .entry((question.name.clone(), question.kind))
                    .or_insert(0);
                question.number = *times;
                *times += 1;
                let answer = answer(question);
                tokio::spawn(respond(Arc::clone(&socket), client, message, answer));
            }
        });
        Ok(Self {
            address,
            queries,
            task,
        })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many questions arrived, retransmissions included.
    pub fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(socket: Arc<UdpSocket>, client: SocketAddr, message: Message, mut answer: Answer) {
    while let Answer::Delayed(delay, inner) = answer {
        tokio::time::sleep(delay).await;
        answer = *inner;
    }
    if let Some(response) = message.response(&answer) {
        // A resolver that has gone away is no concern of the server.
        let _ = socket.send_to(&response, client).await;
    }
}

/// A query of one question, as far as an answer needs it (RFC 1035 §4.1).
struct Message {
    id: [u8; 2],
    /// The question section as it came, to be echoed.
    echo: Vec<u8>,
    question: Question,
}

impl Message {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, body) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let mut labels = Vec::new();
        let mut rest = body;
        loop {
            let (&len, tail) = rest.split_first()?;
            let (label, tail) = tail.split_at_checked(len.into())?;
            rest = tail;
            if label.is_empty() {
                break;
            }
            labels.push(String::from_utf8_lossy(label).to_lowercase());
        }
        let kind = u16::from_be_bytes(*rest.first_chunk()?);
        let echo_len = body.len() - rest.len() + KIND_AND_CLASS_LEN;
        Some(Self {
            id: [header[0], header[1]],
            echo: body.get(..echo_len)?.to_vec(),
            question: Question {
                name: labels.join("."),
                kind,
                number: 0,
            },
        })
    }

    /// The bytes of the response; none for silence.
    fn response(&self, answer: &Answer) -> Option<Vec<u8>> {
        let mut records = Vec::new();
        let mut count: u16 = 0;
        let mut code = 0;
        match answer {
            Answer::Silence | Answer::Delayed(..) => return None,
            Answer::Code(other) => code = *other,
            Answer::Records { aliases, addresses } => {
                // A pointer to the name in the question (RFC 1035 §4.1.4), so that much fits.
                let mut owner = vec![0xc0, HEADER_LEN as u8];
                for alias in aliases {
                    let target = encode_name(alias);
                    push_record(&mut records, &owner, CNAME, &target);
                    count += 1;
                    owner = target;
                }
                for address in addresses {
                    let (kind, data) = match address {
                        IpAddr::V4(v4) => (A, v4.octets().to_vec()),
                        IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
                    };
                    if kind == self.question.kind {
                        push_record(&mut records, &owner, kind, &data);
                        count += 1;
                    }
                }
            }
        }
        let mut response = self.id.to_vec();
        // A response to a query that desired recursion, from a server that offers it.
        response.extend([0x81, 0x80 | (code & 0x0f)]);
        for section_len in [1, count, 0, 0] {
            response.extend(section_len.to_be_bytes());
        }
        response.extend(&self.echo);
        response.extend(records);
        Some(response)
    }
}

const HEADER_LEN: usize = 12;
const KIND_AND_CLASS_LEN: usize = 4;

/// A name as labels, each after its length (RFC 1035 §3.1).
fn encode_name(name: &str) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        encoded.extend(u8::try_from(label.len()));
        encoded.extend(label.bytes());
    }
    encoded.push(0);
    encoded
}

/// One resource record of class IN that lives for zero seconds (RFC 1035 §4.1.3).
fn push_record(records: &mut Vec<u8>, owner: &[u8], kind: u16, data: &[u8]) {
    records.extend(owner);
    records.extend(kind.to_be_bytes());
    records.extend([0, 1, 0, 0, 0, 0]);
    records.extend((data.len() as u16).to_be_bytes());
    records.extend(data);
}
