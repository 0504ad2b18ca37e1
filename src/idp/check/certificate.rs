//! When a certificate ends: the one thing of it that is read here (RFC 5280 section 4.1.2.5). Nothing is verified by it.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::{Date, Month, OffsetDateTime, Time};

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version stands in brackets of its own, and may be left out.
const VERSION: u8 = 0xa0;

/// The end of the first certificate of a PEM file; `None` where there is none, or one that cannot be read.
pub fn not_after(pem: &[u8]) -> Option<OffsetDateTime> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (certificate, _) = element(&der, SEQUENCE)?;
    let (mut body, _) = element(certificate, SEQUENCE)?;
    if body.first() == Some(&VERSION) {
        body = any(body)?.2;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        body = any(body)?.2;
    }
    let (validity, _) = element(body, SEQUENCE)?;
    let (tag, text, _) = any(any(validity)?.2)?;
    moment(tag, std::str::from_utf8(text).ok()?)
}

/// The first element of a DER text: its tag, what is in it, and what comes behind it.
fn any(text: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = text.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let (digits, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
        rest = behind;
        if digits.len() > 4 {
            return None;
        }
        digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit))
    };
    let (inside, behind) = rest.split_at_checked(length)?;
    Some((tag, inside, behind))
}

fn element(text: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    any(text).filter(|(found, ..)| *found == tag).map(|(_, inside, behind)| (inside, behind))
}

/// `YYMMDDHHMMSSZ`, whose years are 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn moment(tag: u8, text: &str) -> Option<OffsetDateTime> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: i32 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| rest[at..at + 2].parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(part(0)?).ok()?, part(2)?).ok()?;
    Some(date.with_time(Time::from_hms(part(4)?, part(6)?, part(8)?).ok()?).assume_utc())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----
MIIBbTCCAROgAwIBAgIULAyGEbJ+2R5dKlajbRjEKgfwaT8wCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBZzAeFw0yNjExMjcxNTU0MzRaFw0zNjExMjQxNTU0MzRaMAwx
CjAIBgNVBAMMAWcwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATkPY9Rd70CU1/2
NynQ/673u12cJvGbC6xyliRFlPe2lfCPeEdx3xQqySrTCCVejvnMQbpQHmjvYJKJ
50nqkFPeo1MwUTAdBgNVHQ4EFgQUd/fnO+A0k3uvYb49UPxt1VzHoY4wHwYDVR0j
BBgwFoAUd/fnO+A0k3uvYb49UPxt1VzHoY4wDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNIADBFAiBFsRvVHnGxrdB8Y8QV1YTsgD3Rp4j5Tx+C+IgZoKp8IgIh
AP/l8Ua9eZKxtQqjPFALJr2+zvfi38IQZv9hLPK+p1OW
-----END CERTIFICATE-----
";

    #[test]
    fn the_end_of_a_certificate_is_read() {
        assert_eq!(not_after(PEM.as_bytes()), Some(datetime!(2036-11-24 15:54:34 UTC)));
        assert_eq!(moment(UTC_TIME, "500101000000Z"), Some(datetime!(1950-01-01 00:00 UTC)));
        assert_eq!(moment(GENERALIZED_TIME, "20510101000000Z"), Some(datetime!(2051-01-01 00:00 UTC)));
    }

    #[test]
    fn what_is_none_is_nothing() {
        for text in ["", "261131000000Z", "2611270000Z", "26112700000xZ", "261127000000+0100"] {
            assert_eq!(moment(UTC_TIME, text), None, "{text}");
        }
        assert_eq!(not_after(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"), None);
        assert_eq!(not_after(b"nothing"), None);
        let der = CertificateDer::from_pem_slice(PEM.as_bytes()).unwrap();
        for end in 0..der.len() {
            assert!(any(&der[..end]).is_none(), "cut off at {end}");
        }
    }
}
