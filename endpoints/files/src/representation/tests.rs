use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

fn tag(len: u64, modified: SystemTime, inode: u64) -> EntityTag {
    Validators::new(len, modified, inode, modified + HOUR).etag
}

#[test]
fn fs_12_text_is_utf_8_and_the_unknown_is_bytes() {
    for (name, expected) in [
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.html", "text/html; charset=utf-8"),
        ("a.HTM", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.md", "text/markdown; charset=utf-8"),
        ("a.csv", "text/csv; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.wasm", "application/wasm"),
        ("a.pdf", "application/pdf"),
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.jpeg", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("a.mp4", "video/mp4"),
        ("a.woff2", "font/woff2"),
        ("a.html.unheardof", "application/octet-stream"),
        ("html", "application/octet-stream"),
        ("a.", "application/octet-stream"),
    ] {
        assert_eq!(content_type(Path::new(name)), expected, "{name}");
    }
}

#[test]
fn fs_14_the_tag_changes_with_size_time_and_inode() {
    let base = tag(10, time(1_000_000), 1);
    assert!(!base.is_weak);
    assert_eq!(base, tag(10, time(1_000_000), 1));
    let nanosecond = time(1_000_000) + Duration::from_nanos(1);
    for other in [
        tag(11, time(1_000_000), 1),
        tag(10, nanosecond, 1),
        tag(10, time(1_000_000), 2),
    ] {
        assert_ne!(base.opaque, other.opaque);
    }
}

#[test]
fn fs_14_two_writes_in_one_second_never_share_a_strong_tag() {
    // The file system's clock may stand still between the writes; ours need not.
    let written = time(1_000_000);
    let first = Validators::new(10, written, 1, written + Duration::from_millis(10)).etag;
    let second = Validators::new(10, written, 1, written + HOUR).etag;
    assert_eq!(first.opaque, second.opaque);
    assert!(first.is_weak && !second.is_weak);

    let is_weak_at = |age| Validators::new(10, written, 1, written + age).etag.is_weak;
    assert!(is_weak_at(Duration::from_millis(1999)));
    assert!(!is_weak_at(Duration::from_secs(2)));
}

#[test]
fn fs_15_last_modified_is_an_imf_fixdate_no_later_than_now() {
    let now = time(784_111_777_999);
    let modified = |at| {
        Validators::new(1, at, 1, now)
            .last_modified
            .map(|date| date.to_string())
    };
    let date = Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned());
    assert_eq!(modified(now), date);
    assert_eq!(modified(now + HOUR), date);
    assert!(Validators::new(1, now + HOUR, 1, now).etag.is_weak);
    assert_eq!(
        modified(now - HOUR),
        Some("Sun, 06 Nov 1994 07:49:37 GMT".to_owned())
    );
}

#[test]
fn times_that_no_http_date_can_say_are_left_out() {
    let end = UNIX_EPOCH + Duration::from_secs(END_OF_DATES);
    assert_eq!(http_date(end), None);
    assert_eq!(http_date(UNIX_EPOCH - Duration::from_nanos(1)), None);
    let last = http_date(end - Duration::from_nanos(1)).unwrap();
    assert_eq!(last.to_string(), "Fri, 31 Dec 9999 23:59:59 GMT");
    assert_eq!(
        http_date(UNIX_EPOCH).unwrap().to_string(),
        "Thu, 01 Jan 1970 00:00:00 GMT"
    );
}
