//! URI templates: where an endpoint is served, and how a client asks for it.
//!
//! Both ends use the part of RFC 6570 that RFC 9298 §2 and RFC 9484 §3 allow: `{a}` and `{a,b}`
//! anywhere in the path or query, `{?a,b}` and `{&a,b}` for the query, no modifiers. A client
//! [expands](UriTemplate::expand) a [`UriTemplate`] into the target of its request; a server
//! [matches](PathTemplate::match_path) that target against a [`PathTemplate`].
//!
//! ```
//! use pasque::template::{MatchOutcome, PathTemplate, UriTemplate};
//!
//! let names = ["target_host", "target_port"];
//! let template =
//!     UriTemplate::parse("https://p.example/udp/{target_host}/{target_port}/", &names)?;
//! let target = template.expand(&[
//!     ("target_host", Some("2001:db8::42")),
//!     ("target_port", Some("443")),
//! ]);
//! assert_eq!(target.path_and_query, "/udp/2001%3Adb8%3A%3A42/443/");
//!
//! let MatchOutcome::Match(vars) =
//!     PathTemplate::from_prefix("udp", &names)?.match_path(&target.path_and_query)
//! else {
//!     panic!("the server does not know what the client asks for");
//! };
//! assert_eq!(vars.get("target_host"), Some("2001:db8::42"));
//! # Ok::<(), pasque::template::TemplateError>(())
//! ```

mod compile;
mod path;
mod pattern;
mod shape;
mod syntax;
#[cfg(test)]
mod tests;
mod uri;
mod vars;

use thiserror::Error;

pub use self::path::{MatchOutcome, PathError, PathTemplate};
pub use self::uri::{DEFAULT_IP_PATH, DEFAULT_UDP_PATH, RequestTarget, UriTemplate};
pub use self::vars::Vars;

/// Why a template cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is not absolute, or of a scheme that HTTP/3 does not serve.
    #[error("the template does not start with `https://`")]
    NotHttps,
    /// Nothing stands between `https://` and the path.
    #[error("the template names no host")]
    EmptyAuthority,
    /// The authority is more, or less, than a host and a port.
    #[error("`{0}` is not a host with an optional port (an IPv6 address stands in brackets)")]
    Authority(String),
    /// There is no path, or it is relative.
    #[error("the path does not start with `/`")]
    EmptyPath,
    /// A variable stands in the authority or in the fragment.
    #[error("a variable stands outside the path and the query")]
    VariableOutsidePathAndQuery,
    /// There is a fragment, which no request can carry.
    #[error("the template has a fragment: write `%23` for a `#`")]
    Fragment,
    /// A variable that the protocol needs is not in the template.
    #[error("the variable `{0}` is missing")]
    MissingVariable(String),
    /// An operator of RFC 6570 that is reserved there or forbidden by RFC 9298 §2.
    #[error("the operator `{0}` is not allowed: only `?` and `&` are")]
    Operator(char),
    /// A prefix length or an explode mark, RFC 6570 level 4.
    #[error("`{0}` has a modifier: `:` and `*` are not allowed")]
    Modifier(String),
    /// Something else than names and commas stands between the braces.
    #[error("`{0}` is not a variable name")]
    Name(String),
    /// A `{` or `}` without its partner.
    #[error("the brace at byte {at} has no partner")]
    Brace {
        /// Its position in the template, in bytes.
        at: usize,
    },
    /// A character that no URI has.
    #[error("the character {found:?} at byte {at} must be percent-encoded")]
    Character {
        /// The character.
        found: char,
        /// Its position in the template, in bytes.
        at: usize,
    },
    /// A `%` that two hexadecimal digits do not follow.
    #[error("the `%` at byte {at} is not followed by two hexadecimal digits")]
    Percent {
        /// Its position in the template, in bytes.
        at: usize,
    },
    /// A server's prefix that is not a plain path.
    #[error("`{0}` is not a plain path such as `udp` or `a/b`")]
    Prefix(String),
    /// A server's template names a variable, or a field of the query, twice.
    #[error("`{0}` stands in the template twice")]
    Duplicate(String),
    /// A server's template that RFC 6570 allows, but that more than one set of values could match.
    #[error("requests cannot be matched: {0}")]
    Unmatchable(&'static str),
}
