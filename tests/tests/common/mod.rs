//! What the tests with real processes share with the hostile suite.

#![allow(
    unused_imports,
    unreachable_pub,
    reason = "each test program uses a part of this"
)]

pub use pasque_tests::kit::*;
