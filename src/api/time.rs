//! Times as the API writes and reads them: RFC 3339.

use jiff::Timestamp;

/// Strictly RFC 3339; the parser by itself takes more of ISO 8601, which others would read otherwise.
pub(super) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (seconds, rest) = text.as_bytes().split_at_checked(19)?;
    let seconds_fit = seconds.iter().zip(b"0000-00-00T00:00:00").all(|(byte, like)| match like {
        b'0' => byte.is_ascii_digit(),
        b'T' => byte.eq_ignore_ascii_case(&b'T'),
        _ => byte == like,
    });
    let zone = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            &fraction[digits..]
        }
        None => rest,
    };
    let zone_fits = match zone {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    if seconds_fit && zone_fits { text.parse().ok() } else { None }
}

/// The time without its fraction, as it is shown: not every client reads one.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rfc_3339_is_a_time() {
        for (text, expected) in [
            ("2024-05-20T10:30:00Z", "2024-05-20T10:30:00Z"),
            ("2024-05-20t10:30:00z", "2024-05-20T10:30:00Z"),
            ("2024-05-20T10:30:00.25Z", "2024-05-20T10:30:00.25Z"),
            ("2024-05-20T12:30:00+02:00", "2024-05-20T10:30:00Z"),
        ] {
            assert_eq!(parse_rfc3339(text).unwrap().to_string(), expected, "{text}");
        }
        for text in [
            "",
            "2024-05-20",
            "2024-05-20T10:30:00",
            "2024-05-20T10:30Z",
            "2024-05-20 10:30:00Z",
            "20240520T103000Z",
            "2024-05-20T10:30:00.Z",
            "2024-05-20T10:30:00+02",
            "2024-05-20T10:30:00+02:00[Europe/Berlin]",
            "2024-13-20T10:30:00Z",
            "2024-02-30T10:30:00Z",
            "+002024-05-20T10:30:00Z",
            "1716201000",
            "tomorrow",
            "2024-05-2öT10:30:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_is_shown_without_its_fraction() {
        let time = "2024-05-20T10:30:00.999999999Z".parse().unwrap();
        assert_eq!(whole_seconds(time).to_string(), "2024-05-20T10:30:00Z");
    }
}
