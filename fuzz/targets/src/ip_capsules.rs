//! Any value, as each of the three capsules: what decodes is written again as it was, or shorter
//! where a Request ID was longer than needed.

use pasque_ip::capsules;
use pasque_ip::routes::Routes;

/// Runs the target on one input.
pub fn run(value: &[u8]) {
    if let Ok(entries) = capsules::decode_assign(value) {
        let written = capsules::encode_assign(&entries);
        assert!(written.len() <= value.len());
        assert_eq!(capsules::decode_assign(&written), Ok(entries));
    }
    if let Ok(entries) = capsules::decode_request(value) {
        assert!(!entries.is_empty());
        let written = capsules::encode_request(&entries);
        assert!(written.len() <= value.len());
        assert_eq!(capsules::decode_request(&written), Ok(entries));
    }
    if let Ok(routes) = capsules::decode_routes(value) {
        assert_eq!(capsules::encode_routes(&routes), value);
        for range in routes.iter() {
            assert!(routes.admits(range.start(), range.protocol()));
            assert!(routes.admits(range.end(), range.protocol()));
        }
        // Put in order by us, the list is no longer and still legal.
        let own = Routes::new(routes.iter().copied());
        assert!(own.iter().len() <= routes.iter().len());
        let written = capsules::encode_routes(&own);
        assert_eq!(capsules::decode_routes(&written), Ok(own));
    }
}
