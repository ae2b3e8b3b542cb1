//! Messages between server and loader: a decoder accepts only what an encoder has written.
#![no_main]

use eunomia_agent::loader::protocol::{Reply, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(request) = Request::decode(data) {
        assert_eq!(request.encode(), data);
    }
    if let Some(reply) = Reply::decode(data) {
        assert_eq!(reply.encode(), data);
    }
});
