//! Text that others wrote, made safe to print.
//!
//! Promises: what comes out moves no cursor, starts no escape sequence, breaks no line and reverses
//! no reading order; every character taken out leaves a visible mark, so two different inputs do
//! not pass for the harmless one of them. Stripping twice changes nothing.

use std::borrow::Cow;

/// Stands where a character was taken out.
const MARK: char = '\u{fffd}';

/// `text` on one line, without control or invisible characters.
pub fn strip(text: &str) -> Cow<'_, str> {
    if text.chars().any(unprintable) {
        Cow::Owned(
            text.chars()
                .map(|c| if unprintable(c) { MARK } else { c })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

/// Like [`strip`], but lines stay lines. For messages of our own that quote others.
pub fn strip_lines(text: &str) -> String {
    text.split('\n').map(strip).collect::<Vec<_>>().join("\n")
}

/// A name as the kernel keeps it: bytes up to the first zero, in whatever encoding.
pub fn from_kernel(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    strip(&String::from_utf8_lossy(&bytes[..end])).into_owned()
}

/// Every string inside `value`, stripped: what `--json` prints is read by people too.
pub fn strip_json(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => {
            if let Cow::Owned(stripped) = strip(text) {
                *text = stripped;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(strip_json),
        Value::Object(fields) => fields.values_mut().for_each(strip_json),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// JSON that means the same, with the characters that [`strip`] takes out written as escapes. Line
/// breaks between values stay.
pub fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if unprintable(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn unprintable(c: char) -> bool {
    match c {
        // C0, DEL, C1.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => true,
        // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
        '\u{ad}' | '\u{61c}' | '\u{180e}' => true,
        // Zero width and direction marks; line and paragraph separators; embeddings and overrides.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        // Word joiner, invisible operators, isolates, deprecated format characters.
        '\u{2060}'..='\u{206f}' => true,
        // Byte order mark, interlinear annotation, tags.
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_tricks_are_taken_out() {
        assert_eq!(strip("/usr/bin/planner"), "/usr/bin/planner");
        assert_eq!(strip("a\x1b[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(
            strip("a\nb\tc\u{85}\u{9b}31m"),
            "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}31m"
        );
        assert_eq!(strip("x\u{202e}gpj.exe"), "x\u{fffd}gpj.exe");
        assert_eq!(
            strip("x\u{2066}y\u{2069}\u{2028}\u{2029}\u{200b}\u{feff}")
                .chars()
                .count(),
            8
        );
        assert_eq!(strip("größe 測試 🦀"), "größe 測試 🦀");
        assert_eq!(strip_lines("a\x07\nb"), "a\u{fffd}\nb");
    }

    #[test]
    fn kernel_names_end_at_zero() {
        assert_eq!(from_kernel(b"planner\0garbage\0"), "planner");
        assert_eq!(from_kernel(b"no zero"), "no zero");
        assert_eq!(from_kernel(b"\xff\x1b"), "\u{fffd}\u{fffd}");
    }

    proptest! {
        #[test]
        fn nothing_unprintable_is_left(text in any::<String>()) {
            let stripped = strip(&text);
            prop_assert!(!stripped.chars().any(char::is_control));
            prop_assert!(!stripped.chars().any(unprintable));
            prop_assert_eq!(stripped.chars().count(), text.chars().count());
            prop_assert_eq!(&strip(&stripped), &stripped);
        }

        #[test]
        fn bytes_never_panic(bytes in any::<Vec<u8>>()) {
            prop_assert!(!from_kernel(&bytes).chars().any(unprintable));
        }

        #[test]
        fn json_is_stripped_all_the_way_down(text in any::<String>()) {
            let mut value = serde_json::json!({"a": [text.clone(), {"b": text}], "c": 1});
            strip_json(&mut value);
            let printed = value.to_string();
            prop_assert!(!printed.chars().any(unprintable));
        }

        #[test]
        fn escaped_json_means_the_same(text in any::<String>()) {
            let text = format!("{text}\u{e0041}\u{202e}\u{7f}");
            let escaped = escape_json(&serde_json::to_string(&text).expect("JSON"));
            prop_assert!(!escaped.chars().any(unprintable));
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).expect("JSON"), text);
        }
    }
}
