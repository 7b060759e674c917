//! Who asks, and what they may: [`Identity`], and the [`Authenticator`] that finds it.

mod authenticator;
mod identity;

pub use self::authenticator::Authenticator;
pub use self::identity::{ClientCertificate, Identity, IdentityKind, IdentityLimits};
