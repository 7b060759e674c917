use std::io::Write;
use std::task::{Context, Poll, Waker};

use super::*;

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[tokio::test]
async fn fs_29_chunks_are_bounded_and_read_only_when_asked_for() {
    let bytes: Vec<u8> = (0..200_000u32).map(|index| index as u8).collect();
    let file = file_of(&bytes);
    let changed = file.try_clone().unwrap();
    let mut body = stream(file, [Piece::Span(1..199_999)], Disk::new());
    let first = body.next().await.unwrap().unwrap();
    assert_eq!(first.len() as u64, MAX_CHUNK_LEN);
    // Had the next chunk been read ahead, this would come too late for it.
    changed.write_all_at(&[7; 200_000], 0).unwrap();
    assert_eq!(first, &bytes[1..=first.len()]);
    let rest = body.collect(1 << 20).await.unwrap();
    assert_eq!(first.len() + rest.len(), 199_998);
    assert!(rest.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn fs_13_bytes_that_are_gone_are_an_error() {
    let file = file_of(&[1; 10]);
    let mut body = stream(file, [Piece::Span(5..11)], Disk::new());
    let error = body.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn pieces_come_in_order() {
    let file = file_of(b"0123456789");
    let text = |text: &'static [u8]| Piece::Text(Bytes::from_static(text));
    let pieces = [
        text(b"<"),
        Piece::Span(8..10),
        text(b"|"),
        Piece::Span(0..2),
        text(b">"),
    ];
    let body = stream(file, pieces, Disk::new());
    assert_eq!(body.collect(100).await.unwrap(), "<89|01>");
    assert!(matches!(stream(file_of(b""), [], Disk::new()), Body::Empty));
}

#[tokio::test]
async fn a_body_that_is_dropped_while_it_reads_leaves_nothing_behind() {
    let file = file_of(&[1; 10]);
    let disk = Disk::new();
    for _ in 0..100 {
        let span = Piece::Span(0..10);
        let mut body = stream(file.try_clone().unwrap(), [span], disk.clone());
        let _started: Poll<_> = body.poll_next(&mut Context::from_waker(Waker::noop()));
    }
    let body = stream(file, [Piece::Span(0..10)], disk);
    assert_eq!(body.collect(100).await.unwrap().len(), 10);
}
