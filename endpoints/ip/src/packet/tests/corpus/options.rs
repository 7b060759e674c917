use super::*;

#[test]
fn ip_40_options_of_ipv4() {
    use Malformed::*;
    let options = |bytes: &str| v4(17, 0, &hex(bytes), &UDP_HI);
    let ok = Ok((17, 24, 34));
    check(&[
        ("router alert", options("94 04 00 00"), ok),
        ("no operation", options("01 01 01 01"), ok),
        ("end of options", options("00 00 00 00"), ok),
        ("anything behind the end", options("00 83 83 89"), ok),
        ("an unknown option", options("9e 04 12 34"), ok),
        ("the shortest option", options("9e 02 9e 02"), ok),
        ("record route", options("07 04 04 00"), ok),
        ("a time stamp", options("44 04 05 00"), ok),
        (
            "an option that ends with the header",
            options("01 9e 03 00"),
            ok,
        ),
        ("length 0", options("94 00 00 00"), Err(Options)),
        ("length 1", options("94 01 00 00"), Err(Options)),
        ("length 5 of 4", options("94 05 00 00"), Err(Options)),
        ("length 255", options("94 ff 00 00"), Err(Options)),
        ("no length", options("01 01 01 94"), Err(Options)),
        (
            "one byte beyond the header",
            options("01 9e 04 00"),
            Err(Options),
        ),
        (
            "loose source route",
            options("83 04 04 00"),
            Err(SourceRoute),
        ),
        (
            "strict source route",
            options("89 04 04 00"),
            Err(SourceRoute),
        ),
        (
            "a source route to the end",
            options("89 07 08 c0 00 02 01 00"),
            Err(SourceRoute),
        ),
        (
            "a source route behind others",
            options("01 94 04 00 00 83 03 04"),
            Err(SourceRoute),
        ),
        (
            "a source route of no length",
            options("01 01 01 83"),
            Err(SourceRoute),
        ),
        (
            "what looks like a source route in another option",
            options("9e 04 83 89"),
            ok,
        ),
        (
            "options in a later fragment",
            v4(17, 0x2001, &hex("83 04 04 00"), &[]),
            Err(SourceRoute),
        ),
    ]);
}
