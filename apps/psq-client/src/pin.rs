//! The digest of a certificate, as `--pin` takes it.

/// The length of a SHA-256 digest, in bytes.
const LEN: usize = 32;

/// Reads 64 hexadecimal digits, with or without colons between bytes.
pub(crate) fn parse(text: &str) -> Result<[u8; LEN], String> {
    let expected = || "expected the SHA-256 digest of a certificate: 64 hexadecimal digits";
    let has_colons = text.contains(':');
    let digits: Vec<u8> = match has_colons {
        true => text.split(':').flat_map(str::bytes).collect(),
        false => text.bytes().collect(),
    };
    if has_colons && text.split(':').any(|byte| byte.len() != 2) {
        return Err(expected().into());
    }
    let mut pin = [0; LEN];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != LEN || !rest.is_empty() {
        return Err(format!("{}, found {}", expected(), digits.len()));
    }
    for (byte, [high, low]) in pin.iter_mut().zip(pairs) {
        *byte = match (value(*high), value(*low)) {
            (Some(high), Some(low)) => high << 4 | low,
            _ => return Err(expected().into()),
        };
    }
    Ok(pin)
}

fn value(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_with_or_without_colons() {
        let plain = "00ff".repeat(16);
        let colons = ["00", "FF"].repeat(16).join(":");
        let pin = parse(&plain).unwrap();
        assert_eq!(pin[..4], [0, 255, 0, 255]);
        assert_eq!(parse(&colons).unwrap(), pin);
    }

    #[test]
    fn anything_else_is_refused() {
        let good = "ab".repeat(32);
        for wrong in [
            "",
            &good[1..],
            &format!("{good}0"),
            &good.replace('a', "g"),
            &good.replace("ab", "a:b"),
            &format!("{good}:"),
            &good.replacen("ab", "é", 1),
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
