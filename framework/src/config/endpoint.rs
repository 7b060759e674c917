//! [`EndpointConfig`]: from one object of `endpoints` to an endpoint and where it is mounted.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ConfigError;
use super::keys::{Paths, Permissions};
use super::locate::{End, JsonPath};
use super::source::Source;
use super::wording;
use crate::endpoint::{DuplicateTag, Endpoint, EndpointType, endpoint_types};
use crate::router::{Access, Mount};
use crate::template::{PathTemplate, TemplateError};

/// What stands for the file in errors about a lone endpoint object.
const NO_FILE: &str = "endpoint";

/// The keys of an endpoint object that are the framework's; all others are the endpoint's.
const OWN_KEYS: [&str; 5] = ["path", "type", "permission", "anonymous", "hidden"];

/// One endpoint of a configuration, not started yet.
#[derive(Debug)]
pub struct EndpointConfig {
    /// The registered type: the key `type`.
    pub kind: &'static EndpointType,
    /// Where it is mounted: the key `path`.
    pub templates: Vec<PathTemplate>,
    /// What an identity must hold, all of it: the key `permission`. Default empty: whoever
    /// authenticates may use a tunnel endpoint, and everybody one that is public.
    pub permissions: Vec<String>,
    /// Whether it does not exist for those who may not use it: the key `hidden`. Default false.
    pub hidden: bool,
    /// Whether it serves strangers on an address that others can reach: the key `anonymous`.
    /// Default false.
    pub anonymous: bool,
    /// The endpoint, made from all other keys.
    pub endpoint: Box<dyn Endpoint>,
    /// Those keys.
    keys: Value,
    has_auth: bool,
}

impl EndpointConfig {
    /// Reads the JSON object of one endpoint.
    ///
    /// # Errors
    /// The first mistake in it. The file is called `endpoint` there.
    pub fn parse(json: &str) -> Result<Self, ConfigError> {
        let (source, value) = Source::parse(json, Path::new(NO_FILE))?;
        Self::read(&source, &value, &JsonPath::default(), false)
    }

    /// The endpoint, mounted.
    pub fn into_mount(self) -> Mount {
        let access = self.access();
        Mount::new(self.kind, self.templates, self.endpoint)
            .with_keys(self.keys)
            .with_access(access)
            .with_hidden(self.hidden)
    }

    /// Who may use it, where clients can be told apart. Where they cannot, a server starts only if
    /// everybody may.
    fn access(&self) -> Access {
        if !self.permissions.is_empty() {
            Access::Permitted(self.permissions.clone())
        } else if self.has_auth && !self.anonymous && !self.kind.public {
            Access::Authenticated
        } else {
            Access::Everyone
        }
    }

    /// Reads `value`, which is at `at`.
    ///
    /// The type comes first, then its own keys, then `path`: an unknown key says more than the
    /// missing one that it was meant to be.
    pub(super) fn read(
        source: &Source,
        value: &Value,
        at: &JsonPath,
        has_auth: bool,
    ) -> Result<Self, ConfigError> {
        let mut theirs: Map<String, Value> = source.read(value, at)?;
        let ours = OWN_KEYS
            .iter()
            .filter_map(|key| theirs.remove_entry(*key))
            .collect();
        let ours = Value::Object(ours);

        let Some(tag) = ours.get("type") else {
            return Err(source.error(at, End::Value, wording::missing_key("type", Some(value))));
        };
        let kind = find_type(source, tag, &at.key("type"))?;
        let endpoint = make(source, kind, theirs.clone(), at)?;
        if ours.get("path").is_none() {
            return Err(source.error(at, End::Value, wording::missing_key("path", None)));
        }
        let ours: OwnKeys = source.read(&ours, at)?;
        if let Some((key, message)) = ours.contradiction(kind, has_auth) {
            return Err(source.error(&at.key(key), End::Key, message));
        }
        Ok(Self {
            kind,
            templates: templates(source, kind, ours.path, &at.key("path"))?,
            permissions: ours.permission.0,
            hidden: ours.hidden,
            anonymous: ours.anonymous,
            endpoint,
            keys: Value::Object(theirs),
            has_auth,
        })
    }
}

#[derive(Deserialize)]
struct OwnKeys {
    path: Paths,
    #[serde(default)]
    permission: Permissions,
    #[serde(default)]
    anonymous: bool,
    #[serde(default)]
    hidden: bool,
}

impl OwnKeys {
    /// A key that the others, or the rest of the file, leave without a meaning, and why.
    fn contradiction(
        &self,
        kind: &EndpointType,
        has_auth: bool,
    ) -> Option<(&'static str, &'static str)> {
        let is_restricted = !self.permission.0.is_empty();
        if is_restricted && !has_auth {
            let message = "needs the key \"auth\" beside \"endpoints\": nobody could hold it";
            return Some(("permission", message));
        }
        if is_restricted && self.anonymous {
            let message = "contradicts \"permission\": everyone may use the endpoint, or those who \
                           hold it";
            return Some(("anonymous", message));
        }
        let is_for_all = !has_auth || self.anonymous || (kind.public && !is_restricted);
        if self.hidden && is_for_all {
            let message = "needs \"auth\" and a \"permission\": there is nobody to hide it from";
            return Some(("hidden", message));
        }
        None
    }
}

/// Every linked type of endpoint, with its summary and an example, for people to read.
///
/// # Errors
/// The tag that two linked crates both claim.
pub fn describe_types() -> Result<String, DuplicateTag> {
    let describe = |kind: &EndpointType| {
        let example = kind.example.trim().replace('\n', "\n    ");
        format!("{}: {}\n\n    {example}\n", kind.tag, kind.summary)
    };
    let types: Vec<_> = endpoint_types()?.into_iter().map(describe).collect();
    Ok(types.join("\n"))
}

fn find_type(
    source: &Source,
    tag: &Value,
    at: &JsonPath,
) -> Result<&'static EndpointType, ConfigError> {
    let tag: String = source.read(tag, at)?;
    let refuse = |message: String| source.error(at, End::Value, message);
    let types = endpoint_types().map_err(|duplicate| refuse(duplicate.to_string()))?;
    if let Some(kind) = types.iter().find(|kind| kind.tag == tag) {
        return Ok(kind);
    }
    let tags: Vec<_> = types.iter().map(|kind| kind.tag).collect();
    let expected = match tags.is_empty() {
        true => "no type is linked into this program".into(),
        false => format!("expected {}", wording::one_of(&tags)),
    };
    let hint = match wording::nearest(&tag, &tags) {
        Some(near) => format!("; did you mean {near:?}?"),
        None => String::new(),
    };
    let tag = wording::quote(&tag);
    Err(refuse(format!(
        "unknown endpoint type {tag}, {expected}{hint}"
    )))
}

/// Makes an endpoint from the keys that are its own.
fn make(
    source: &Source,
    kind: &EndpointType,
    mut keys: Map<String, Value>,
    at: &JsonPath,
) -> Result<Box<dyn Endpoint>, ConfigError> {
    if !keys.is_empty() {
        // typetag loses the way to an error, the type itself does not. An object without keys has
        // nothing inside to point at, and a unit struct is made from no object at all.
        let value = Value::Object(keys.clone());
        (kind.probe)(&value).map_err(|error| source.explain(&value, at, &error, &OWN_KEYS))?;
    }
    keys.insert("type".into(), kind.tag.into());
    serde_json::from_value(Value::Object(keys)).map_err(|error| {
        let message = error.to_string();
        let message = if message.starts_with("unknown variant") {
            format!(
                "the type {:?} is registered, but `#[typetag::deserialize]` is missing on its \
                 `impl Endpoint`, or gives it another name",
                kind.tag
            )
        } else {
            wording::reword(&message, &JsonPath::default(), None, &[]).0
        };
        source.error(at, End::Value, message)
    })
}

fn templates(
    source: &Source,
    kind: &EndpointType,
    paths: Paths,
    at: &JsonPath,
) -> Result<Vec<PathTemplate>, ConfigError> {
    let read = |text: &str, at: &JsonPath| {
        template(kind, text).map_err(|message| source.error(at, End::Value, message))
    };
    let paths = match paths {
        Paths::One(path) => return Ok(vec![read(&path, at)?]),
        Paths::Many(paths) => paths,
    };
    let mut templates: Vec<PathTemplate> = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        let template = read(path, &at.index(index))?;
        if let Some(earlier) = templates
            .iter()
            .position(|earlier| earlier.covers(&template))
        {
            let shown = wording::quote(path);
            let message = format!("{shown} is never reached: {at}[{earlier}] takes its requests");
            return Err(source.error(&at.index(index), End::Value, message));
        }
        templates.push(template);
    }
    Ok(templates)
}

/// Reads one path of a mount on an endpoint of type `kind`.
fn template(kind: &EndpointType, text: &str) -> Result<PathTemplate, String> {
    let shown = wording::quote(text);
    let refuse = |error: TemplateError| format!("found {shown}: {error}");
    let is_template = text.contains(['{', '}']);
    if kind.rest {
        return match is_template {
            true => Err(format!(
                "found {shown}, expected a path: {} takes no template",
                kind.tag
            )),
            false => PathTemplate::prefix(text).map_err(refuse),
        };
    }
    if !is_template {
        return PathTemplate::from_prefix(text, kind.variables).map_err(refuse);
    }
    let template = PathTemplate::parse(text).map_err(refuse)?;
    if !kind.optional {
        template.require(kind.variables).map_err(refuse)?;
    }
    // A type that names no variables may look up whatever its mount has.
    let is_known = |name: &str| kind.variables.is_empty() || kind.variables.contains(&name);
    if let Some(other) = template.variables().find(|name| !is_known(name)) {
        let unknown = wording::unknown("variable", other, kind.variables);
        return Err(format!("found {shown}: {unknown}"));
    }
    Ok(template)
}
