//! Dates and names of a certificate (RFC 5280 §4.1, DER: X.690), as far as `doctor` tells them.
//! TLS itself does not go through here.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::keys::validity::{element, time};

/// 2.5.29.17, subjectAltName.
const ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Valid from: Unix seconds.
    pub not_before_s: u64,
    /// Valid until: Unix seconds.
    pub not_after_s: u64,
    /// DNS names and addresses.
    pub names: Vec<String>,
}

/// `None` if it is not what a certificate looks like.
pub(super) fn read(der: &[u8]) -> Option<Facts> {
    let (_, certificate, _) = element(der)?;
    let (_, mut body, _) = element(certificate)?;
    if element(body)?.0 == 0xa0 {
        body = element(body)?.2;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        body = element(body)?.2;
    }
    let (_, validity, rest) = element(body)?;
    let (from_tag, from, until) = element(validity)?;
    let (until_tag, until, _) = element(until)?;
    let (not_before_s, not_after_s) = (time(from_tag, from)?, time(until_tag, until)?);
    Some(Facts { not_before_s, not_after_s, names: names(rest).unwrap_or_default() })
}

/// The subject, the key, then extensions in `[3]`.
fn names(mut rest: &[u8]) -> Option<Vec<String>> {
    let extensions = loop {
        let (tag, content, after) = element(rest)?;
        if tag == 0xa3 {
            break element(content)?.1;
        }
        rest = after;
    };
    let mut rest = extensions;
    loop {
        let (_, extension, after) = element(rest)?;
        let (_, id, mut value) = element(extension)?;
        if id == ALT_NAME {
            // An optional "critical" stands before the value.
            if element(value)?.0 == 0x01 {
                value = element(value)?.2;
            }
            return general_names(element(element(value)?.1)?.1);
        }
        rest = after;
    }
}

fn general_names(mut rest: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while !rest.is_empty() {
        let (tag, content, after) = element(rest)?;
        match (tag, content.len()) {
            (0x82, _) => names.push(String::from_utf8_lossy(content).into_owned()),
            (0x87, 4) => names.push(Ipv4Addr::from(<[u8; 4]>::try_from(content).ok()?).to_string()),
            (0x87, 16) => {
                names.push(Ipv6Addr::from(<[u8; 16]>::try_from(content).ok()?).to_string());
            }
            _ => {}
        }
        rest = after;
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn dates_and_names_are_those_that_were_put_in() {
        let names = ["chat.example", "127.0.0.1", "::1"].map(str::to_owned);
        let mut wanted = rcgen::CertificateParams::new(names.clone()).unwrap();
        wanted.not_before = rcgen::date_time_ymd(2024, 2, 29);
        wanted.not_after = rcgen::date_time_ymd(2051, 12, 31);
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let made = wanted.self_signed(&pair).unwrap();
        let facts = read(made.der()).unwrap();
        assert_eq!(facts.not_before_s as i64, wanted.not_before.unix_timestamp());
        assert_eq!(facts.not_after_s as i64, wanted.not_after.unix_timestamp());
        assert_eq!(facts.names, names);
        // Cut anywhere, it is refused or lacks names; nothing else happens.
        for length in 0..made.der().len() {
            read(&made.der()[..length]);
        }
    }
}
