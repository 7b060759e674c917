use pasque::connection::{ClientError, CloseReason};
use pasque_ip::device::DeviceKind;
use pasque_ip::mtu::PathFailure;

use super::*;

/// The spec that these options make, on the server `p.example`.
fn spec(change: impl FnOnce(&mut Options)) -> Result<TunnelSpec, String> {
    spec_at("https://p.example/ip/{target}/{ipproto}/", change)
}

fn spec_at(template: &str, change: impl FnOnce(&mut Options)) -> Result<TunnelSpec, String> {
    let mut options = Options {
        ip: true,
        ..Options::default()
    };
    change(&mut options);
    let template = UriTemplate::parse(template, &[]).unwrap();
    TunnelSpec::new(&options, template).map_err(|failure| {
        assert_eq!(failure.exit, Exit::Usage);
        failure.to_string()
    })
}

fn list(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn parsed(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn nothing_said_is_the_whole_scope_and_what_the_server_advertises() {
    let spec = spec(|_| {}).unwrap();
    assert_eq!(spec.options.interface, None);
    assert_eq!(spec.options.device, DeviceKind::Auto);
    assert_eq!(spec.options.families, Families { v4: true, v6: true });
    assert_eq!(spec.options.routes, RouteChoice::default());
    assert_eq!(spec.options.advertise, []);
    let request = spec.request(&HeaderMap::new()).unwrap();
    assert_eq!(request.path, "/ip/%2A/%2A/");
    assert_eq!(request.protocol.as_deref(), Some("connect-ip"));
}

#[test]
fn ip_01_options_become_the_request() {
    let spec = spec(|o| {
        o.target = Some("2001:db8::/32".into());
        o.ipproto = Some("17".into());
    })
    .unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Basic YTpi".parse().unwrap());
    let request = spec.request(&headers).unwrap();
    assert_eq!(request.path, "/ip/2001%3Adb8%3A%3A%2F32/17/");
    assert_eq!(request.authority, "p.example");
    assert_eq!(request.headers["authorization"], "Basic YTpi");
    // No IPv4 address is asked for that could not be used.
    let v6 = Families {
        v4: false,
        v6: true,
    };
    assert_eq!(spec.options.families, v6);
}

#[test]
fn ip_01_a_template_need_not_have_variables_unless_they_are_used() {
    let bare = "https://masque.example.org/?user=bob";
    let spec = spec_at(bare, |_| {}).unwrap();
    let request = spec.request(&HeaderMap::new()).unwrap();
    assert_eq!(request.path, "/?user=bob");
    let text = spec_at(bare, |o| o.target = Some("192.0.2.0/24".into())).unwrap_err();
    assert!(
        text.starts_with("--ip-template: ") && text.contains("`target`"),
        "{text}"
    );
}

#[test]
fn ip_02_a_variable_is_never_empty() {
    let text = spec(|o| o.target = Some(String::new())).unwrap_err();
    assert!(text.starts_with("--target: "), "{text}");
    let text = spec(|o| o.ipproto = Some(String::new())).unwrap_err();
    assert!(text.starts_with("--ipproto: "), "{text}");
}

#[test]
fn ip_61_what_is_left_without_ipv6_is_asked_for_if_it_is_a_part_of_what_was() {
    let narrower = |target: &str| {
        let spec = spec(|o| (o.target, o.ipproto) = (Some(target.into()), Some("17".into())));
        let narrower = spec.unwrap().with_ipv4();
        narrower.map(|spec| spec.request(&HeaderMap::new()).unwrap().path)
    };
    assert_eq!(narrower("*").as_deref(), Some("/ip/0.0.0.0%2F0/17/"));
    for target in ["::/0", "name.example", "192.0.2.0/24"] {
        assert_eq!(narrower(target), None, "{target}");
    }
    let bare = spec_at("https://masque.example.org/?user=bob", |_| {});
    assert!(bare.unwrap().with_ipv4().is_none());
}

#[test]
fn routes_are_named_or_chosen_from_what_is_advertised() {
    let routes = |change: fn(&mut Options)| spec(change).map(|spec| spec.options.routes);
    assert_eq!(
        routes(|o| o.route = list(&["10.0.0.0/8", "2001:db8::/32"])),
        Ok(RouteChoice::Exactly(parsed(&[
            "10.0.0.0/8",
            "2001:db8::/32"
        ])))
    );
    assert_eq!(
        routes(|o| {
            o.accept_routes = list(&["10.0.0.0/8"]);
            o.default_route = true;
        }),
        Ok(RouteChoice::Offered {
            accept: parsed(&["10.0.0.0/8"]),
            default_route: true
        })
    );
    let both = routes(|o| (o.route, o.default_route) = (list(&["10.0.0.0/8"]), true));
    assert!(both.unwrap_err().contains("leave out --default-route"));
    let both = routes(|o| (o.route, o.accept_routes) = (list(&["::/0"]), list(&["::/0"])));
    assert!(both.unwrap_err().contains("leave out --accept-routes"));
}

#[test]
fn an_option_of_the_tunnel_that_makes_no_sense_is_named() {
    for (option, change) in [
        (
            "route",
            (|o| o.route = list(&["10.0.0.0/33"])) as fn(&mut Options),
        ),
        ("route", |o| o.route = list(&["example.org"])),
        ("accept-routes", |o| o.accept_routes = list(&["10.0.0.1/8"])),
        ("advertise", |o| o.advertise = list(&["10.0.0.0/8", ""])),
        ("device", |o| o.device = Some("tap".into())),
        ("target", |o| o.target = Some("192.0.2.1/24".into())),
        ("ipproto", |o| o.ipproto = Some("44".into())),
    ] {
        let text = spec(change).unwrap_err();
        assert!(text.starts_with(&format!("--{option}: ")), "{text}");
    }
    let text = spec(|o| o.route = list(&["10.0.0.1/8"])).unwrap_err();
    assert!(text.contains("10.0.0.0/8 is meant"), "{text}");
}

#[test]
fn options_of_the_tunnel_need_one() {
    for (option, change) in [
        ("tun", (|o| o.tun = Some("psq0".into())) as fn(&mut Options)),
        ("route", |o| o.route = list(&["10.0.0.0/8"])),
        ("accept-routes", |o| o.accept_routes = list(&["10.0.0.0/8"])),
        ("default-route", |o| o.default_route = true),
        ("advertise", |o| o.advertise = list(&["10.0.0.0/8"])),
        ("device", |o| o.device = Some("plain".into())),
        ("target", |o| o.target = Some("*".into())),
        ("ipproto", |o| o.ipproto = Some("*".into())),
        ("ip-template", |o| {
            o.ip_template = Some("https://p.example/".into())
        }),
    ] {
        let mut options = Options::default();
        change(&mut options);
        let failure = require_none(&options).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let expected = format!("--{option}: is about an IP tunnel: add --ip to open one");
        assert_eq!(failure.to_string(), expected);
    }
    assert_eq!(require_none(&Options::default()), Ok(()));
}

#[test]
fn every_end_of_a_tunnel_has_its_exit_code() {
    let timed_out = || ClientError::Closed(CloseReason::TimedOut);
    let in_use = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    for (error, exit) in [
        (
            IpTunnelError::Device(DeviceError::NotPermitted),
            Exit::Failed,
        ),
        (IpTunnelError::Device(DeviceError::NoDriver), Exit::Failed),
        (
            IpTunnelError::Device(DeviceError::NameTaken {
                name: "eth0".into(),
            }),
            Exit::Failed,
        ),
        (
            IpTunnelError::Device(DeviceError::InvalidName {
                name: "a/b".into(),
                reason: "it has a slash",
            }),
            Exit::Usage,
        ),
        (IpTunnelError::Bypass(in_use()), Exit::Failed),
        (IpTunnelError::Gone("psq0".into()), Exit::Failed),
        (IpTunnelError::NoIpv6, Exit::Failed),
        (
            IpTunnelError::NotOpened(ClientError::NoExtendedConnect),
            Exit::Refused,
        ),
        (IpTunnelError::NotOpened(timed_out()), Exit::Lost),
        (
            IpTunnelError::NoAddress(std::time::Duration::from_secs(10)),
            Exit::Refused,
        ),
        (IpTunnelError::Failed(TunnelFailure::Refused), Exit::Refused),
        (
            IpTunnelError::Failed(TunnelFailure::Malformed("junk".into())),
            Exit::Refused,
        ),
        (
            IpTunnelError::Failed(TunnelFailure::Device("EBADFD".into())),
            Exit::Failed,
        ),
        (
            IpTunnelError::Failed(TunnelFailure::Path(PathFailure::Narrow { mtu: 1199 })),
            Exit::Lost,
        ),
        (IpTunnelError::Aborted, Exit::Lost),
        (IpTunnelError::Ended, Exit::Lost),
        (IpTunnelError::Lost(ClientError::Reset(0x102)), Exit::Lost),
        (IpTunnelError::Lost(timed_out()), Exit::Lost),
    ] {
        let text = error.to_string();
        let failure = failure("tunnel psq0", error);
        assert_eq!(failure.exit, exit, "{text}");
        let line = failure.to_string();
        assert!(line.starts_with(&format!("tunnel psq0: {text}")), "{line}");
    }
}

#[test]
fn a_missing_privilege_says_what_to_do() {
    let error = IpTunnelError::Device(DeviceError::NotPermitted);
    let line = failure("ip tunnel", error).to_string();
    assert!(
        line.contains("CAP_NET_ADMIN") && line.contains("setcap"),
        "{line}"
    );
}
