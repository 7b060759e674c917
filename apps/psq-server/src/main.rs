//! `psq-server`: serves a configuration over HTTP/3.
//!
//! A server with endpoints of your own is a copy of this file with one more `use`: linking a crate
//! is all it takes to make its types of endpoint known to the configuration.

use std::process::ExitCode;

use pasque_files as _;
use pasque_ip as _;
use pasque_udp as _;
// Your endpoints here: use my_endpoint as _;

#[global_allocator]
static ALLOCATOR: psq_server::CountingAllocator = psq_server::CountingAllocator;

fn main() -> ExitCode {
    psq_server::main()
}
