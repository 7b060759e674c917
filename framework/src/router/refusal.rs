//! What the log says of requests that were refused, or that an endpoint failed at.

use std::time::Instant;

use http::StatusCode;
use tracing::{debug, warn};

use crate::error::Error;
use crate::log::{Quota, excerpt};

/// Of a text of the peer's, what the log shows, in bytes.
const SHOWN_LEN: usize = 256;

/// Endpoints that fail are told in the log by default: nobody else knows why. A client can ask for that again
/// and again.
static FAILURES: Quota = Quota::new(10);

/// Tells the log why a request has got no answer from the endpoint `tag`.
pub(super) fn tell(tag: &str, path: &str, cause: &Error) {
    let status = cause.status();
    let path = excerpt(path, SHOWN_LEN);
    let text = excerpt(&cause.to_string(), SHOWN_LEN);
    if status == StatusCode::INTERNAL_SERVER_ERROR
        && let Some(left_out) = FAILURES.take(Instant::now())
    {
        warn!(
            endpoint = tag,
            path,
            cause = text,
            left_out,
            "an endpoint has failed"
        );
    } else {
        debug!(
            endpoint = tag,
            path,
            status = status.as_u16(),
            cause = text,
            "request refused"
        );
    }
}
