//! The key `path`, and an endpoint object on its own.

use super::*;

fn templates(json: &str) -> Vec<String> {
    let config = EndpointConfig::parse(json).unwrap();
    config.templates.iter().map(ToString::to_string).collect()
}

fn refusal(json: &str) -> String {
    EndpointConfig::parse(json).unwrap_err().to_string()
}

#[test]
fn a_prefix_gets_the_variables_of_its_type() {
    for path in ["proxy", "/proxy", "/proxy/", "proxy/"] {
        let json = format!(r#"{{ "type": "TestProxy", "path": "{path}" }}"#);
        assert_eq!(
            templates(&json),
            ["/proxy/{target_host}/{target_port}/"],
            "{path}"
        );
    }
    assert_eq!(
        templates(r#"{ "type": "TestUnit", "path": "a/b" }"#),
        ["/a/b"]
    );
    let json = r#"{ "type": "TestFolder", "path": "files", "root": "." }"#;
    assert_eq!(templates(json), ["/files/"]);
}

#[test]
fn a_template_is_taken_as_it_is() {
    let paths = [
        "/m{?target_host,target_port}",
        "/x/{target_port}/{target_host}",
    ];
    let list = serde_json::json!({ "type": "TestProxy", "path": paths }).to_string();
    assert_eq!(templates(&list), paths);
    // A type without variables takes any.
    assert_eq!(
        templates(r#"{ "type": "TestUnit", "path": "/u/{a}" }"#),
        ["/u/{a}"]
    );
}

#[test]
fn a_template_has_exactly_the_variables_of_its_type() {
    let missing = refusal(r#"{ "type": "TestProxy", "path": "/udp/{target_host}" }"#);
    assert!(missing.contains("`target_port` is missing"), "{missing}");
    let surplus =
        refusal(r#"{ "type": "TestProxy", "path": "/{target_host}/{target_port}/{target_prt}" }"#);
    assert!(
        surplus.contains(r#"unknown variable "target_prt""#),
        "{surplus}"
    );
    assert!(
        surplus.contains(r#"did you mean "target_port"?"#),
        "{surplus}"
    );
    let folder = refusal(r#"{ "type": "TestFolder", "path": "/f/{name}", "root": "." }"#);
    assert!(folder.contains("TestFolder takes no template"), "{folder}");
}

#[test]
fn a_mount_that_is_never_reached_is_found() {
    let twice = refusal("{ \"type\": \"TestUnit\", \"path\": [\n\"a\",\n\"/a/\" ] }");
    let expected = "endpoint:3:1: path[1]: \"/a/\" is never reached: path[0] takes its requests";
    assert_eq!(twice, expected);

    let text = r#"{ "cert_file": "c", "key_file": "k", "endpoints": [
        { "type": "TestFolder", "root": "a", "path": "files" },
        { "type": "TestUnit", "path": "files/unit" }
    ] }"#;
    let error = parse(text).unwrap().into_router().unwrap_err();
    assert_eq!((error.line(), error.key()), (Some(3), "endpoints[1].path"));
    let expected = "\"/files/unit\" is never reached: endpoints[0] is mounted before it at";
    assert!(error.message().starts_with(expected), "{error}");
}

#[test]
fn a_unit_struct_takes_no_keys() {
    assert!(EndpointConfig::parse(r#"{ "type": "TestUnit", "path": "u" }"#).is_ok());
    let error = refusal(r#"{ "type": "TestUnit", "path": "u", "port": 1 }"#);
    assert!(error.contains("expected unit struct TestUnit"), "{error}");
}

#[test]
fn a_tag_that_typetag_does_not_know_is_explained() {
    let error = refusal(r#"{ "type": "TestMisnamed", "path": "m" }"#);
    assert!(
        error.contains("\"TestMisnamed\" is registered, but"),
        "{error}"
    );
    assert!(error.contains("#[typetag::deserialize]"), "{error}");
}
