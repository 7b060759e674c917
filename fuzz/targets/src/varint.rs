//! Any bytes: an integer takes the bytes that its first two bits say, and is written again as it was
//! or shorter.

use pasque::wire::varint;

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let announced = input.first().map(|first| 1 << (first >> 6));
    let Some((value, len)) = varint::decode(input) else {
        assert!(announced.is_none_or(|announced| input.len() < announced));
        return;
    };
    assert_eq!(Some(len), announced);
    assert!(value <= varint::MAX);
    assert_eq!(varint::decode(&input[..len]), Some((value, len)));
    assert_eq!(varint::decode(&input[..len - 1]), None);

    let shortest = varint::to_prefix(value);
    assert!(shortest.len() == varint::encoded_len(value) && shortest.len() <= len);
    assert_eq!(varint::decode(&shortest), Some((value, shortest.len())));
}
