//! The options of an IPv4 header (RFC 791 §3.1).

use super::Malformed;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Checks that all options are within the header, and that none of them leads the packet elsewhere than
/// to its destination.
pub(super) fn check(mut options: &[u8]) -> Result<(), Malformed> {
    while let [kind, rest @ ..] = options {
        options = match *kind {
            END => return Ok(()),
            NO_OPERATION => rest,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Malformed::SourceRoute),
            _ => {
                // The length counts the option's first two bytes.
                let len = usize::from(*rest.first().ok_or(Malformed::Options)?);
                if len < 2 {
                    return Err(Malformed::Options);
                }
                options.get(len..).ok_or(Malformed::Options)?
            }
        };
    }
    Ok(())
}
