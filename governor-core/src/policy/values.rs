//! The small languages inside strings: words, names, durations, users.
//!
//! Each has one spelling per meaning. Whatever could be read in two ways is refused, with the
//! spelling that is meant where it can be guessed.

use super::report::{Complaint, did_you_mean, quoted};
use crate::time::Span;

/// The value of a word out of a closed list.
pub(super) fn word<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, Complaint> {
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let complaint = Complaint::new(format!("unknown value {}", quoted(text)));
    let names = known.iter().map(|(name, _)| *name);
    Err(match did_you_mean(text, names.clone()) {
        Some(hint) => complaint.hint(hint),
        None => complaint.hint(format!(
            "use one of: {}",
            names.collect::<Vec<_>>().join(", ")
        )),
    })
}

/// `[a-z][a-z0-9-]{0,62}`.
pub(super) fn name(text: &str) -> Result<(), Complaint> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(plain)
    {
        return Ok(());
    }
    let complaint = Complaint::new(format!("{} is not a name", quoted(text)));
    Err(complaint.hint("use up to 63 of a-z, 0-9 and -, beginning with a letter"))
}

/// A number and a unit: `500ms`, `10s`, `30m`, `2h`. Never zero.
pub(super) fn duration(text: &str) -> Result<Span, Complaint> {
    let complaint = || {
        let complaint = Complaint::new(format!("{} is not a duration", quoted(text)));
        complaint.hint("write a number and one of ms, s, m, h, such as `10s`")
    };
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let nanos: u64 = match &text[digits..] {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(complaint()),
    };
    let number = text[..digits]
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(nanos));
    match number {
        None => Err(complaint()),
        Some(0) => Err(Complaint::new("duration is zero")),
        Some(nanos) => Ok(Span(nanos)),
    }
}

/// A user's name, or a number that can be one.
pub(super) fn user(text: &str) -> Result<(), Complaint> {
    let bad = || Complaint::new(format!("{} is not a user", quoted(text)));
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse::<u32>() {
            // The largest number means "no user" to the kernel.
            Ok(number) if number != u32::MAX => Ok(()),
            _ => Err(bad().hint("numbers go from 0 to 4294967294")),
        };
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.@$-".contains(c);
    if text.len() <= 256 && !text.starts_with('-') && text.chars().all(plain) {
        Ok(())
    } else {
        Err(bad().hint("write a login name or a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Span(500_000_000)));
        assert_eq!(duration("10s"), Ok(Span::seconds(10)));
        assert_eq!(duration("30m"), Ok(Span::seconds(1_800)));
        assert_eq!(duration("1h"), Ok(Span::seconds(3_600)));
        for bad in [
            "",
            "10",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "10 s",
            "1d",
            "99999999999999999999h",
            "5124096h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn users_and_names() {
        for good in ["agent", "0", "1000", "4294967294", "user@domain", "_apt"] {
            assert_eq!(user(good), Ok(()), "{good}");
        }
        for bad in ["", "4294967295", "99999999999", "a b", "a:b", "-x", "a\n"] {
            assert!(user(bad).is_err(), "{bad}");
        }
        assert!(name("a1-b").is_ok() && name(&"a".repeat(63)).is_ok());
        for bad in ["", "A", "1a", "-a", "a_b", "a.b", "é"] {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert!(name(&"a".repeat(64)).is_err());
    }
}
