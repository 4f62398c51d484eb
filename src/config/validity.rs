//! Until when a certificate is good (RFC 5280 §4.1.2.5).

use std::time::SystemTime;

use super::Certificate;

impl Certificate {
    /// When it expires; `None` if that cannot be read.
    pub fn expires(&self) -> Option<SystemTime> {
        not_after(self.loaded.cert.first()?)
    }
}

fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    let mut whole = Der(certificate);
    let mut signed = Der(whole.take(SEQUENCE)?);
    let mut fields = Der(signed.take(SEQUENCE)?);
    // Absent in version 1.
    let _ = fields.take(VERSION);
    fields.take(INTEGER)?; // serial number
    fields.take(SEQUENCE)?; // algorithm
    fields.take(SEQUENCE)?; // issuer
    let mut validity = Der(fields.take(SEQUENCE)?);
    let _not_before = validity.next()?;
    let (tag, time) = validity.next()?;
    let time = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let time = match tag {
        // Two digits of the year: 1950 to 2049.
        UTC_TIME if time.get(..2)? >= "50" => format!("19{time}"),
        UTC_TIME => format!("20{time}"),
        GENERALIZED_TIME => time.to_owned(),
        _ => return None,
    };
    let part = |from: usize| time.get(from..from + 2);
    let (year, month, day) = (time.get(..4)?, part(4)?, part(6)?);
    let (hour, minute, second) = (part(8)?, part(10)?, part(12)?);
    let written = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    humantime::parse_rfc3339(&written).ok()
}

/// What is left of an encoding (X.690).
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The next element if it has that tag.
    fn take(&mut self, tag: u8) -> Option<&'d [u8]> {
        (*self.0.first()? == tag).then_some(())?;
        self.next().map(|(_, content)| content)
    }

    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let add = |sum: usize, digit: &u8| sum << 8 | usize::from(*digit);
                (digits.iter().fold(0, add), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn until(year: i32) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["a.com".into()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 12, 31);
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn both_ways_to_write_a_time_are_read() {
        for (year, written) in [
            (2031, "2031-12-31T00:00:00Z"),
            (1999, "1999-12-31T00:00:00Z"),
            (4096, "4096-12-31T00:00:00Z"),
        ] {
            let time = not_after(&until(year)).unwrap();
            assert_eq!(humantime::format_rfc3339_seconds(time).to_string(), written);
        }
    }

    #[test]
    fn what_is_cut_off_says_nothing() {
        let whole = until(2031);
        for end in 0..whole.len() / 2 {
            let _ = not_after(&whole[..end]);
        }
        assert_eq!(not_after(&[]), None);
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0usize..300, byte: u8) {
            let mut bytes = until(2031);
            let place = at % bytes.len();
            bytes[place] = byte;
            let _ = not_after(&bytes);
        }
    }
}
