use etherparse::UdpHeader;

use super::*;

#[test]
fn a_tcp_super_packet_becomes_the_segments_of_its_host() {
    for sender in [Sender::default(), Sender::v6()] {
        let sender = Sender {
            // No-operation twice, then a timestamp (RFC 7323 §3.2).
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            ..sender
        };
        let all = payload(3, 2 * 1000 + 17);
        let whole = sender.tcp(0xffff_ff00, &all, |tcp| {
            (tcp.fin, tcp.psh, tcp.cwr, tcp.ece) = (true, true, true, true);
        });
        let (kind, transport) = if sender.is_v6 {
            (Segmentation::TcpV6, 40)
        } else {
            (Segmentation::TcpV4, 20)
        };
        let segments = split(&super_packet(&whole, kind, transport, 1000));
        let seen: Vec<Seen> = segments.iter().map(|segment| see(segment)).collect();
        assert_eq!(seen.len(), 3);
        for (n, (seen, payload)) in seen.iter().zip(all.chunks(1000)).enumerate() {
            assert_eq!(seen.id, (!sender.is_v6).then_some(7 + n as u16));
            let tcp = seen.tcp.as_ref().unwrap();
            let sequence = 0xffff_ff00_u32.wrapping_add(n as u32 * 1000);
            assert_eq!(tcp.sequence_number, sequence);
            // RFC 3168 §6.1.2: CWR once. What ends the stream comes with its end.
            assert_eq!((tcp.cwr, tcp.ece, tcp.ack), (n == 0, true, true));
            assert_eq!((tcp.fin, tcp.psh), (n == 2, n == 2));
            assert_eq!(tcp.options.as_slice(), sender.options);
            assert_eq!(tcp.acknowledgment_number, 99);
            assert_eq!(seen.payload, payload);
        }
    }
}

#[test]
fn a_udp_super_packet_becomes_the_datagrams_of_its_host() {
    for sender in [Sender::default(), Sender::v6()] {
        let all = payload(1, 3 * 1200);
        let transport = if sender.is_v6 { 40 } else { 20 };
        let read = super_packet(&sender.udp(&all), Segmentation::Udp, transport, 1200);
        let seen: Vec<Seen> = split(&read).iter().map(|packet| see(packet)).collect();
        assert_eq!(seen.len(), 3);
        for (n, (seen, payload)) in seen.iter().zip(all.chunks(1200)).enumerate() {
            assert_eq!(seen.id, (!sender.is_v6).then_some(7 + n as u16));
            assert_eq!(seen.payload, payload);
        }
    }
}

#[test]
fn options_and_extension_headers_are_in_every_segment() {
    let tcp = Sender::default().tcp(1, &payload(0, 900), |_| {});
    // Four bytes of IPv4 options: end of list (RFC 791 §3.1).
    let mut with_options = tcp.to_vec();
    with_options[0] = 0x46;
    with_options.splice(20..20, [0; 4]);
    let read = super_packet(&Packet::from(with_options), Segmentation::TcpV4, 24, 300);
    let segments = split(&read);
    assert_eq!(segments.len(), 3);
    for segment in &segments {
        assert_eq!(segment.len(), 24 + 20 + 300);
        see(segment);
    }
    // A hop-by-hop header of padding (RFC 8200 §4.3).
    let tcp = Sender::v6().tcp(1, &payload(0, 900), |_| {});
    let mut with_extension = tcp.to_vec();
    with_extension[6] = 0;
    with_extension.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
    let read = super_packet(&Packet::from(with_extension), Segmentation::TcpV6, 48, 300);
    let segments = split(&read);
    assert_eq!(segments.len(), 3);
    segments.iter().for_each(|segment| drop(see(segment)));
}

#[test]
fn a_checksum_that_the_host_left_open_is_finished() {
    for sender in [Sender::default(), Sender::v6()] {
        let whole = sender.udp(b"alone");
        let transport = if sender.is_v6 { 40 } else { 20 };
        let read = super_packet(&whole, Segmentation::None, transport, 0);
        assert_eq!(split(&read), bytes(&[whole]));
    }
    // Without that flag nothing is touched, whatever it is.
    let read = [&VirtioHeader::default().encode()[..], b"anything"].concat();
    assert_eq!(split(&read), [b"anything"]);
}

#[test]
fn what_cannot_be_a_packet_is_an_error() {
    let tcp = Sender::default().tcp(1, &payload(0, 900), |_| {});
    let good = super_packet(&tcp, Segmentation::TcpV4, 20, 300);
    let error = |change: &dyn Fn(&mut VirtioHeader)| {
        let mut read = good.clone();
        let mut header = VirtioHeader::decode(read.first_chunk().unwrap()).unwrap();
        change(&mut header);
        read[..10].copy_from_slice(&header.encode());
        Split::new(&read).err()
    };
    let at = |start, offset| Some(Checksum { start, offset });
    assert_eq!(error(&|_| {}), None);
    assert_eq!(error(&|h| h.segment_len = 0), Some(Malformed::SegmentLen));
    assert_eq!(error(&|h| h.checksum = None), Some(Malformed::Checksum));
    assert_eq!(error(&|h| h.checksum = at(24, 16)), Some(Malformed::Layout));
    assert_eq!(error(&|h| h.checksum = at(0, 16)), Some(Malformed::Layout));
    assert_eq!(
        error(&|h| h.checksum = at(930, 16)),
        Some(Malformed::Layout)
    );
    let v6 = |h: &mut VirtioHeader| h.segmentation = Segmentation::TcpV6;
    assert_eq!(error(&v6), Some(Malformed::Layout));
    let whole = |h: &mut VirtioHeader| {
        (h.segmentation, h.checksum) = (Segmentation::None, at(930, 16));
    };
    assert_eq!(error(&whole), Some(Malformed::Checksum));
    assert_eq!(Split::new(&good[..9]).err(), Some(Malformed::Header));
    assert_eq!(Split::new(&good[..30]).err(), Some(Malformed::Layout));
    assert_eq!(Split::new(&[]).err(), Some(Malformed::Header));
}

/// etherparse's idea of a UDP checksum of zero is ours.
#[test]
fn a_checksum_of_zero_is_written_as_its_other_form() {
    // The payload makes the sum come out so.
    let sender = Sender::default();
    let packet = sender.udp(&[0, 0]);
    let sum = packet[26..28].to_vec();
    let packet = sender.udp(&sum);
    assert_eq!(packet[26..28], [0xff, 0xff]);
    let read = super_packet(&packet, Segmentation::None, 20, 0);
    assert_eq!(split(&read), bytes(&[packet]));
    let read = super_packet(
        &sender.udp(&[sum.clone(), sum].concat()),
        Segmentation::Udp,
        20,
        2,
    );
    for packet in split(&read) {
        assert_eq!(
            UdpHeader::from_slice(&packet[20..]).unwrap().0.checksum,
            0xffff
        );
    }
}
