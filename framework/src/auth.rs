//! Who asks, and what they may: [`Identity`], and the [`Authenticator`] that finds it.

mod attempts;
mod authenticator;
mod authorities;
mod credentials;
mod gate;
mod holding;
mod identity;
mod password;
mod refusal;
mod token;
mod users;
mod watched;

pub use self::authenticator::Authenticator;
pub use self::authorities::Authorities;
pub(crate) use self::credentials::{conceal, remove};
pub(crate) use self::holding::Permission;
pub use self::holding::{is_name, is_permission, parse_quantity};
pub use self::identity::{ClientCertificate, Identity, IdentityKind, IdentityLimits};
pub use self::password::hash_password;
pub(crate) use self::refusal::not_permitted;
pub use self::token::Grant;
pub(crate) use self::token::sign;
#[doc(hidden)]
pub use self::users::contents;
