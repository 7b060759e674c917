use std::num::NonZeroU32;

use super::*;
use crate::exit::Exit;

fn options() -> Options {
    Options {
        destination: Some("https://p.example:4443".into()),
        ..Options::default()
    }
}

fn get(paths: &[&str], output: Option<&str>) -> Option<Command> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Some(Command::Get(Get {
        paths,
        output: output.map(PathBuf::from),
    }))
}

fn failure(options: Options, command: Option<Command>) -> String {
    let failure = Settings::new(options, command).err().expect("an error");
    assert_eq!(failure.exit, Exit::Usage);
    failure.to_string()
}

fn path_for(template: &UriTemplate) -> (String, String) {
    let values = [
        ("target_host", Some("192.0.2.6")),
        ("target_port", Some("443")),
    ];
    let target = template.expand(&values);
    (target.authority, target.path_and_query)
}

#[test]
fn without_a_word_the_servers_port_9000_is_forwarded() {
    let settings = Settings::new(options(), None).unwrap();
    assert_eq!(settings.timeout, Duration::from_secs(10));
    let Task::Forward { forwards, .. } = settings.task else {
        panic!("no forward")
    };
    let [forward] = &forwards[..] else {
        panic!("{forwards:?}")
    };
    assert_eq!(forward.target.to_string(), "127.0.0.1:9000");
    assert_eq!(forward.local.to_string(), "127.0.0.1:0");
}

#[test]
fn udp_07_a_host_and_a_port_make_the_default_template() {
    let settings = Settings::new(options(), None).unwrap();
    let Task::Forward { template, .. } = settings.task else {
        panic!("no forward")
    };
    let expected = (
        "p.example:4443".into(),
        "/.well-known/masque/udp/192.0.2.6/443/".into(),
    );
    assert_eq!(path_for(&template), expected);
}

#[test]
fn udp_01_a_template_names_its_server() {
    let template = "https://Q.example/m{?target_host,target_port}";
    let alone = Options {
        template: Some(template.into()),
        ..Options::default()
    };
    let settings = Settings::new(alone, None).unwrap();
    assert_eq!(settings.destination.to_string(), "q.example:443");
    let Task::Forward {
        template: parsed, ..
    } = settings.task
    else {
        panic!("no forward")
    };
    assert_eq!(
        path_for(&parsed).1,
        "/m?target_host=192.0.2.6&target_port=443"
    );

    let both = Options {
        template: Some(template.into()),
        ..options()
    };
    assert!(failure(both, None).contains("--template is for q.example:443"));
}

#[test]
fn udp_01_a_template_that_breaks_a_rule_is_refused() {
    for wrong in [
        "http://p.example/{target_host}/{target_port}/",
        "/udp/{target_host}/{target_port}/",
        "https://p.example/{target_host}/",
        "https://p.example/{+target_host}/{target_port}/",
    ] {
        let text = failure(
            Options {
                template: Some(wrong.into()),
                ..Options::default()
            },
            None,
        );
        assert!(text.starts_with("--template: "), "{text}");
    }
}

#[test]
fn an_option_that_makes_no_sense_is_named() {
    let with = |change: fn(&mut Options)| {
        let mut options = options();
        change(&mut options);
        failure(options, None)
    };
    assert!(with(|o| o.destination = None).starts_with("name a server"));
    assert!(with(|o| o.destination = Some("p".into())).starts_with("--destination: "));
    assert!(with(|o| o.tun = Some("psq0".into())).starts_with("--tun: "));
    assert!(with(|o| (o.ip, o.device) = (true, Some("tap".into()))).starts_with("--device: "));
    let accept =
        |o: &mut Options| (o.ip, o.accept_routes) = (true, vec!["10.0.0.0".into(), "x".into()]);
    assert!(with(accept).starts_with("--accept-routes: "));
    assert!(with(|o| o.udp = vec!["a:1".into(), "b".into()]).starts_with("--udp: "));
    assert!(with(|o| o.pin = Some("00".into())).starts_with("--pin: "));
    assert!(with(|o| o.ca = Some("/nonexistent.pem".into())).starts_with("--ca: "));
    assert!(with(|o| o.header = vec!["host: x".into()]).starts_with("--header: "));
    let control = with(|o| o.congestion_control = Some("vegas".into()));
    assert!(control.starts_with("--congestion-control: expected cubic"));
    assert!(with(|o| o.token_file = Some("/nonexistent".into())).starts_with("--token-file: "));
    assert!(with(|o| o.cert = Some("/nonexistent".into())).contains("go together"));
    let two = |o: &mut Options| (o.pin, o.ignore_cert) = (Some("ab".repeat(32)), true);
    assert!(with(two).contains("exclude each other"));
}

#[test]
fn congestion_control_has_the_words_of_the_server() {
    for (name, expected) in [
        (None, CongestionControl::Cubic),
        (Some("cubic"), CongestionControl::Cubic),
        (Some("reno"), CongestionControl::Reno),
        (Some("bbr2"), CongestionControl::Bbr2),
    ] {
        let options = Options {
            congestion_control: name.map(Into::into),
            ..options()
        };
        assert_eq!(
            Settings::new(options, None).unwrap().congestion_control,
            expected
        );
    }
}

#[test]
fn tunnels_are_made_again_and_downloads_are_not() {
    let reconnects = |no_reconnect, command| {
        let options = Options {
            no_reconnect,
            ..options()
        };
        Settings::new(options, command).unwrap().reconnects
    };
    assert!(reconnects(false, None));
    assert!(!reconnects(true, None));
    assert!(!reconnects(false, get(&["/a"], None)));
}

#[test]
fn a_timeout_is_in_seconds() {
    let options = Options {
        timeout: NonZeroU32::new(3),
        ip: true,
        ..options()
    };
    let settings = Settings::new(options, None).unwrap();
    let three = Duration::from_secs(3);
    assert_eq!(settings.timeout, three);
    assert_eq!(settings.tunnel.unwrap().options.address_timeout, three);
}

#[test]
fn an_ip_tunnel_goes_together_with_everything_else() {
    let ip = || Options {
        ip: true,
        ..options()
    };
    let alone = Settings::new(ip(), None).unwrap();
    assert!(alone.tunnel.is_some() && matches!(alone.task, Task::Nothing));

    let udp = Options {
        udp: vec!["a:1".into()],
        ..ip()
    };
    let with_forward = Settings::new(udp, None).unwrap();
    assert!(with_forward.tunnel.is_some());
    let Task::Forward { forwards, .. } = with_forward.task else {
        panic!("no forward")
    };
    assert_eq!(forwards.len(), 1);

    let with_get = Settings::new(ip(), get(&["/a"], None)).unwrap();
    assert!(with_get.tunnel.is_some() && matches!(with_get.task, Task::Download(_)));
    assert!(Settings::new(options(), None).unwrap().tunnel.is_none());
}

#[test]
fn ip_01_an_ip_proxy_has_a_default_template_or_names_its_server() {
    let path = |options| {
        let settings = Settings::new(options, None).unwrap();
        let target = settings
            .tunnel
            .unwrap()
            .template
            .expand(&[("target", Some("*")), ("ipproto", Some("*"))]);
        (settings.destination.to_string(), target.path_and_query)
    };
    let ip = || Options {
        ip: true,
        ..options()
    };
    assert_eq!(
        path(ip()),
        (
            "p.example:4443".into(),
            "/.well-known/masque/ip/%2A/%2A/".into()
        )
    );
    let named = |template: &str| Options {
        ip_template: Some(template.into()),
        ..ip()
    };
    let query = "https://P.example:4443/masque/ip{?target,ipproto}";
    let expected = "/masque/ip?target=%2A&ipproto=%2A";
    let alone = Options {
        destination: None,
        ..named(query)
    };
    for options in [alone, named(query)] {
        assert_eq!(path(options), ("p.example:4443".into(), expected.into()));
    }
    let elsewhere = named("https://q.example/");
    assert!(failure(elsewhere, None).contains("--ip-template is for q.example:443"));
    let two = Options {
        destination: None,
        template: Some("https://q.example/{target_host}/{target_port}/".into()),
        ..named(query)
    };
    assert!(failure(two, None).contains("--template is q.example:443: leave one"));
    for wrong in ["/ip/", "http://p.example/", "https://p.example/{+target}/"] {
        assert!(
            failure(named(wrong), None).starts_with("--ip-template: "),
            "{wrong}"
        );
    }
}

#[test]
fn ip_15_a_proxy_without_tls_is_not_spoken_to() {
    for change in [
        (|o| o.destination = Some("http://p.example".into())) as fn(&mut Options),
        |o| o.destination = Some("p.example".into()),
        |o| o.ip_template = Some("http://p.example:4443/ip/{target}/{ipproto}/".into()),
    ] {
        let mut options = Options {
            ip: true,
            ..options()
        };
        change(&mut options);
        let text = failure(options, None);
        assert!(text.contains("https"), "{text}");
    }
}

#[test]
fn every_file_has_a_place_of_its_own() {
    let places = |paths: &[&str], output| {
        let settings = Settings::new(options(), get(paths, output)).unwrap();
        let Task::Download(downloads) = settings.task else {
            panic!("no download")
        };
        downloads
            .into_iter()
            .map(|download| download.place)
            .collect::<Vec<_>>()
    };
    let file = |name: &str| Place::File(name.into());
    assert_eq!(places(&["/a/x", "b/y"], None), [file("x"), file("y")]);
    assert_eq!(places(&["/"], Some("index.html")), [file("index.html")]);
    assert_eq!(places(&["/a"], Some("-")), [Place::StandardOutput]);

    assert!(failure(options(), get(&["/a/x", "/b/x"], None)).contains("\"x\""));
    assert!(failure(options(), get(&["/a", "/b"], Some("c"))).contains("one PATH only"));
    assert!(failure(options(), get(&["/"], None)).contains("--output"));
    let udp = Options {
        udp: vec!["a:1".into()],
        ..options()
    };
    assert!(failure(udp, get(&["/a"], None)).contains("do not go together"));
}
