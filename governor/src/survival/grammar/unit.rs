//! What a unit of systemd starts: systemd.service(5), "Command lines".

/// The program of a line of a unit file.
pub(in crate::survival) fn program(line: &str) -> Option<&str> {
    let (key, value) = line.trim_start().split_once('=')?;
    if !key.trim_end().starts_with("Exec") {
        return None;
    }
    let word = value.split_whitespace().next()?;
    let word = word.trim_start_matches(['@', '-', ':', '+', '!', '|']);
    let word = word.trim_matches(['"', '\'']);
    // A specifier stands for what only systemd knows.
    (!word.is_empty() && !word.contains('%')).then_some(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_are_no_part_of_a_program() {
        assert_eq!(
            program("ExecStart=/usr/bin/governor daemon"),
            Some("/usr/bin/governor")
        );
        assert_eq!(
            program(" ExecStartPre = -!!/bin/mkdir -p /run/x"),
            Some("/bin/mkdir")
        );
        assert_eq!(program("ExecStart=sh -c x"), Some("sh"));
        for none in [
            "ExecStart=",
            "#ExecStart=/bin/x",
            "Environment=A=/bin/x",
            "ExecStart=/opt/%i",
            "",
        ] {
            assert_eq!(program(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in ".*") {
            prop_assert!(program(&line).is_none_or(|word| !word.is_empty()));
        }
    }
}
