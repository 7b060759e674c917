//! The classes of datagrams that a client may not send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pasque_tests::netns::Network;
use rand::Rng;
use rand::rngs::StdRng;

use crate::craft::{Header, ICMPV6, TCP, UDP, echo_request, icmp, tcp_syn, udp};
use crate::lab::OWN_V6;

/// Who is there.
#[derive(Clone, Copy)]
pub(super) struct Scene {
    /// The addresses of the client that sends.
    pub(super) here: [IpAddr; 2],
    /// Those of the other one.
    pub(super) other: [IpAddr; 2],
}

/// A kind of datagram that is not let through.
pub(super) struct Class {
    pub(super) name: &'static str,
    /// What it may be counted as.
    pub(super) reasons: &'static [&'static str],
    pub(super) make: fn(&mut StdRng, Scene) -> Vec<u8>,
}

pub(super) const TARGETS: [IpAddr; 2] =
    [IpAddr::V4(Network::TARGET), IpAddr::V6(Network::TARGET_V6)];

fn one<T: Copy>(rng: &mut StdRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

pub(super) fn addresses<const N: usize>(texts: [&str; N]) -> [IpAddr; N] {
    texts.map(|text| text.parse().unwrap())
}

/// In context 0.
fn datagram(packet: Vec<u8>) -> Vec<u8> {
    [&[0], &packet[..]].concat()
}

/// A packet of a random protocol and length from `from` to `to`.
fn any(rng: &mut StdRng, from: IpAddr, to: IpAddr) -> Vec<u8> {
    let header = Header {
        hop_limit: rng.random_range(2..=255),
        ..Header::new(from, to, UDP)
    };
    let payload = vec![rng.random(); rng.random_range(0..1000)];
    datagram(match rng.random_range(0..4) {
        0 => udp(header, (rng.random(), rng.random()), &payload),
        1 => tcp_syn(header, (rng.random(), rng.random())),
        2 => echo_request(header, rng.random(), 1, &payload),
        _ => Header {
            protocol: one(rng, &[4, 41, 47, 89, 132, 253]),
            ..header
        }
        .packet(&payload),
    })
}

/// A packet with a wrong source.
fn from(rng: &mut StdRng, sources: &[IpAddr]) -> Vec<u8> {
    let source = one(rng, sources);
    any(rng, source, Network::target_like(source))
}

/// A packet to where it may not go.
fn to(rng: &mut StdRng, scene: Scene, destinations: &[IpAddr]) -> Vec<u8> {
    let destination = one(rng, destinations);
    any(
        rng,
        scene.here[usize::from(destination.is_ipv6())],
        destination,
    )
}

/// A right packet of IPv4 to the target, before something is done to it.
fn right_v4(rng: &mut StdRng, scene: Scene) -> Vec<u8> {
    let payload = vec![rng.random(); rng.random_range(0..200)];
    udp(
        Header::new(scene.here[0], TARGETS[0], UDP),
        (1, 2),
        &payload,
    )
}

fn right_v6(rng: &mut StdRng, scene: Scene) -> Vec<u8> {
    let payload = vec![rng.random(); rng.random_range(8..200)];
    udp(
        Header::new(scene.here[1], TARGETS[1], UDP),
        (1, 2),
        &payload,
    )
}

/// A packet of IPv6 to the target with these extension headers in front of `rest`.
fn extended(scene: Scene, first: u8, chain: &[u8], rest: &[u8]) -> Vec<u8> {
    let header = Header::new(scene.here[1], TARGETS[1], first);
    datagram(header.packet(&[chain, rest].concat()))
}

/// Options for the destination, of which there are none: eight bytes that lead to `next`.
const fn padding(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

const DESTINATION_OPTIONS: u8 = 60;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;

pub(super) const CLASSES: &[Class] = &[
    Class {
        name: "a source that nobody has",
        reasons: &["SourceNotAssigned"],
        make: |rng, _| {
            let v4 = Ipv4Addr::new(10, 76, 0, rng.random_range(100..200));
            let mut v6 = OWN_V6.octets();
            rng.fill(&mut v6[12..]);
            v6[12] |= 0x80;
            from(rng, &[v4.into(), Ipv6Addr::from(v6).into()])
        },
    },
    Class {
        name: "the source of another client",
        reasons: &["SourceNotAssigned"],
        make: |rng, scene| from(rng, &scene.other),
    },
    Class {
        name: "the source of the server",
        reasons: &["SourceNotAssigned"],
        make: |rng, _| {
            let own = addresses(["10.76.0.1", "fd76:212:dead::1", "10.9.0.2", "fd09::2"]);
            from(rng, &own)
        },
    },
    Class {
        name: "a source from elsewhere",
        reasons: &["SourceNotAssigned"],
        make: |rng, _| {
            let elsewhere =
                addresses(["198.51.100.2", "9.9.9.9", "2001:db8:100::2", "2620:fe::fe"]);
            from(rng, &elsewhere)
        },
    },
    Class {
        name: "a source that no host has",
        reasons: &["SourceNotAssigned"],
        make: |rng, _| {
            let nobody = [
                "0.0.0.0",
                "127.0.0.1",
                "224.0.1.1",
                "255.255.255.255",
                "::",
                "::1",
            ];
            from(rng, &addresses(nobody))
        },
    },
    Class {
        name: "fragments from a wrong source",
        reasons: &["SourceNotAssigned"],
        make: |rng, scene| {
            let offset = rng.random_range(1..1000);
            let header = Header::new(scene.other[0], TARGETS[0], UDP);
            match rng.random() {
                true => datagram(
                    Header {
                        fragment: 0x2000 | offset,
                        ..header
                    }
                    .packet(&[7; 64]),
                ),
                false => {
                    let header = Header::new(scene.other[1], TARGETS[1], FRAGMENT);
                    let [high, low] = (offset << 3).to_be_bytes();
                    let chain = [UDP, 0, high, low | 1, 0, 0, 0, 7];
                    datagram(header.packet(&[&chain[..], &[7; 64]].concat()))
                }
            }
        },
    },
    Class {
        name: "link-local source",
        reasons: &["LinkLocal"],
        make: |rng, _| from(rng, &addresses(["169.254.7.7", "fe80::7"])),
    },
    Class {
        name: "link-local destination",
        reasons: &["LinkLocal"],
        make: |rng, scene| {
            let local = [
                "169.254.7.7",
                "169.254.169.254",
                "224.0.0.5",
                "fe80::7",
                "ff02::5",
                "ff01::7",
            ];
            to(rng, scene, &addresses(local))
        },
    },
    Class {
        name: "neighbour discovery",
        reasons: &["NeighbourDiscovery"],
        make: |rng, scene| {
            let to = one(
                rng,
                &addresses(["2001:db8:100::2", "fd76:212:dead::1", "ff02::2"]),
            );
            let header = Header {
                hop_limit: 255,
                ..Header::new(scene.here[1], to, ICMPV6)
            };
            datagram(icmp(header, rng.random_range(133..=137), 0, &[0; 20]))
        },
    },
    Class {
        name: "a group",
        reasons: &["Multicast"],
        make: |rng, scene| {
            to(
                rng,
                scene,
                &addresses(["224.0.1.1", "239.1.1.1", "ff05::1", "ff0e::7", "ff08::5"]),
            )
        },
    },
    Class {
        name: "everybody of a link",
        reasons: &["Policy", "NoRoute", "OtherClient", "Multicast"],
        make: |rng, scene| {
            to(
                rng,
                scene,
                &addresses([
                    "255.255.255.255",
                    "198.51.100.255",
                    "10.76.0.255",
                    "10.76.0.0",
                ]),
            )
        },
    },
    Class {
        name: "loopback",
        reasons: &["Policy", "NoRoute"],
        make: |rng, scene| {
            let v4 = Ipv4Addr::new(127, rng.random(), rng.random(), rng.random());
            to(rng, scene, &[v4.into(), Ipv6Addr::LOCALHOST.into()])
        },
    },
    Class {
        name: "the server's other addresses",
        reasons: &["Policy", "NoRoute"],
        make: |rng, scene| {
            let own = ["10.9.0.2", "198.51.100.1", "fd09::2", "2001:db8:100::1"];
            to(rng, scene, &addresses(own))
        },
    },
    Class {
        name: "what is closed unless it is opened",
        reasons: &["Policy", "NoRoute"],
        make: |rng, scene| {
            let closed = [
                "0.1.2.3",
                "10.1.2.3",
                "100.64.0.1",
                "172.16.0.1",
                "192.168.1.1",
                "198.18.0.1",
                "240.0.0.1",
                "fc00::1",
                "fec0::1",
                "100::1",
                "2001:db8:ffff::1",
            ];
            to(rng, scene, &addresses(closed))
        },
    },
    Class {
        name: "IPv4 in the clothes of IPv6",
        reasons: &["Policy", "NoRoute"],
        make: |rng, scene| {
            let mapped = [
                "::ffff:127.0.0.1",
                "::ffff:10.9.0.2",
                "::127.0.0.1",
                "64:ff9b::7f00:1",
                "64:ff9b::a09:2",
                "2002:7f00:1::1",
                "::ffff:0:10.9.0.2",
            ];
            to(rng, scene, &addresses(mapped))
        },
    },
    Class {
        name: "another client",
        reasons: &["OtherClient"],
        make: |rng, scene| to(rng, scene, &scene.other),
    },
    Class {
        name: "an address of the pool that nobody has",
        reasons: &["OtherClient", "NoRoute"],
        make: |rng, scene| {
            to(
                rng,
                scene,
                &addresses(["10.76.0.222", "fd76:212:dead::ffff:1"]),
            )
        },
    },
    Class {
        name: "the sender itself",
        reasons: &["OwnTunnel"],
        make: |rng, scene| to(rng, scene, &scene.here),
    },
    Class {
        name: "another version",
        reasons: &["Malformed(Version)"],
        make: |rng, scene| {
            let mut packet = right_v4(rng, scene);
            packet[0] = one(rng, &[0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15]) << 4 | 5;
            datagram(packet)
        },
    },
    Class {
        name: "the version of the other header",
        reasons: &[
            "Malformed(Truncated)",
            "Malformed(TotalLen)",
            "Malformed(HeaderLen)",
            "SourceNotAssigned",
            "Malformed(Chain)",
            "Malformed(Options)",
        ],
        make: |rng, scene| match rng.random() {
            true => {
                let mut packet = right_v4(rng, scene);
                packet[0] = 0x60;
                packet.truncate(200);
                datagram(packet)
            }
            false => {
                let mut packet = right_v6(rng, scene);
                packet[0] = 0x45;
                datagram(packet)
            }
        },
    },
    Class {
        name: "a header length that cannot be",
        reasons: &[
            "Malformed(HeaderLen)",
            "Malformed(Truncated)",
            "Malformed(TotalLen)",
        ],
        make: |rng, scene| {
            let mut packet = right_v4(rng, scene);
            match rng.random() {
                true => packet[0] = 0x40 | rng.random_range(0..5),
                false => {
                    packet.truncate(28);
                    packet[0] = 0x40 | rng.random_range(8..16);
                }
            }
            datagram(packet)
        },
    },
    Class {
        name: "a total length that cannot be",
        reasons: &["Malformed(TotalLen)", "Malformed(Truncated)"],
        make: |rng, scene| {
            let mut packet = right_v4(rng, scene);
            let len = match rng.random() {
                true => rng.random_range(0..20),
                false => packet.len() as u16 + rng.random_range(1..1000),
            };
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            datagram(packet)
        },
    },
    Class {
        name: "a payload length that cannot be",
        reasons: &["Malformed(Truncated)"],
        make: |rng, scene| {
            let mut packet = right_v6(rng, scene);
            let len = packet.len() as u16 - 40 + rng.random_range(1..1000);
            packet[4..6].copy_from_slice(&len.to_be_bytes());
            datagram(packet)
        },
    },
    Class {
        name: "less than a header",
        reasons: &["Malformed(Empty)", "Malformed(Truncated)"],
        make: |rng, scene| {
            let (mut packet, header_len) = match rng.random() {
                true => (right_v4(rng, scene), 20),
                false => (right_v6(rng, scene), 40),
            };
            packet.truncate(rng.random_range(0..header_len));
            datagram(packet)
        },
    },
    Class {
        name: "a chain of headers that leaves the packet",
        reasons: &["Malformed(Chain)"],
        make: |rng, scene| {
            let first = one(rng, &[0, DESTINATION_OPTIONS, ROUTING, 51, 135, 139, 140]);
            let len = if first == 51 {
                20
            } else {
                rng.random_range(2..=255)
            };
            extended(scene, first, &[UDP, len, 4, 0, 0, 0, 0, 0], &[0; 8])
        },
    },
    Class {
        name: "a chain of headers without end",
        reasons: &["Malformed(ChainLen)"],
        make: |rng, scene| {
            let count = rng.random_range(9..40);
            let mut chain = padding(DESTINATION_OPTIONS).repeat(count);
            chain.extend(padding(UDP));
            extended(
                scene,
                DESTINATION_OPTIONS,
                &chain,
                &[0, 1, 0, 2, 0, 8, 0, 0],
            )
        },
    },
    Class {
        name: "routing header of type 0",
        reasons: &["Malformed(RoutingType0)"],
        make: |rng, scene| {
            let [left, hop] = [rng.random_range(0..=1), rng.random()];
            let mut chain = vec![UDP, 2, 0, left, 0, 0, 0, 0];
            chain.extend([0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, hop]);
            match rng.random() {
                true => extended(scene, ROUTING, &chain, &[0, 1, 0, 2, 0, 8, 0, 0]),
                false => {
                    let before = [&padding(ROUTING), &chain[..]].concat();
                    extended(
                        scene,
                        DESTINATION_OPTIONS,
                        &before,
                        &[0, 1, 0, 2, 0, 8, 0, 0],
                    )
                }
            }
        },
    },
    Class {
        name: "a route of the sender's choice",
        reasons: &["Malformed(SourceRoute)"],
        make: |rng, scene| {
            // Loose or strict, by way of the server.
            let option = [one(rng, &[131, 137]), 7, 4, 10, 9, 0, 2, 0];
            let mut packet = right_v4(rng, scene);
            packet.splice(20..20, option);
            packet[0] = 0x47;
            let len = packet.len() as u16;
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet[10..12].copy_from_slice(&[0, 0]);
            let sum = crate::craft::checksum(&[&packet[..28]]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            datagram(packet)
        },
    },
    Class {
        name: "another context",
        reasons: &["UnknownContext", "NoContext"],
        make: |rng, scene| {
            let packet = right_v4(rng, scene);
            match rng.random_range(0..4) {
                0 => [&[rng.random_range(1..64)], &packet[..]].concat(),
                1 => [&[0x40, rng.random_range(64..=255)], &packet[..]].concat(),
                2 => [&[0xc0, 0, 0, 1, 0, 0, 0, 0], &packet[..]].concat(),
                // The first bytes of a context ID, and no datagram at all.
                _ => one(rng, &[&[][..], &[0x40], &[0x80, 0, 0]]).to_vec(),
            }
        },
    },
];

/// In a tunnel to the target's IPv6 address and UDP only.
pub(super) const SCOPED: &[Class] = &[
    Class {
        name: "another protocol",
        reasons: &["Scope", "NoRoute"],
        make: |_, scene| datagram(tcp_syn(Header::new(scene.here[1], TARGETS[1], TCP), (1, 2))),
    },
    Class {
        name: "another protocol behind extension headers",
        reasons: &["Scope", "NoRoute"],
        make: |rng, scene| {
            let syn = tcp_syn(Header::new(scene.here[1], TARGETS[1], TCP), (1, 2));
            let chain = match rng.random_range(0..3) {
                0 => padding(TCP).to_vec(),
                1 => [
                    padding(ROUTING),
                    [DESTINATION_OPTIONS, 0, 4, 0, 0, 0, 0, 0],
                    padding(TCP),
                ]
                .concat(),
                // The first fragment names the protocol, whatever its fragment header claims.
                _ => [
                    padding(FRAGMENT),
                    [DESTINATION_OPTIONS, 0, 0, 1, 0, 0, 0, 7],
                    padding(TCP),
                ]
                .concat(),
            };
            extended(scene, DESTINATION_OPTIONS, &chain, &syn[40..])
        },
    },
    Class {
        name: "later fragments of another protocol",
        reasons: &["Scope", "NoRoute"],
        make: |rng, scene| {
            let [high, low] = (rng.random_range(1..1000_u16) << 3).to_be_bytes();
            let next = one(rng, &[TCP, DESTINATION_OPTIONS, ROUTING]);
            extended(scene, FRAGMENT, &[next, 0, high, low, 0, 0, 0, 7], &[7; 64])
        },
    },
    Class {
        name: "another host",
        reasons: &["Scope", "NoRoute"],
        make: |rng, scene| {
            let others = ["2001:db8:100::3", "2620:fe::fe", "fd76:212:dead::1"];
            to(rng, scene, &addresses(others))
        },
    },
];
