//! What authentication loads and runs: pam.conf(5).

/// What a line of a file in `/etc/pam.d` leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::survival) enum Line {
    /// Another file, as written.
    Include(String),
    /// A module, and the program that it is told to run.
    Module {
        module: String,
        program: Option<String>,
    },
}

/// Reads a line, whose continuations are already joined to it.
pub(in crate::survival) fn line(line: &str) -> Option<Line> {
    let line = line.split('#').next().unwrap_or(line).trim();
    if let Some(file) = line.strip_prefix("@include") {
        let file = file.strip_prefix(char::is_whitespace)?.trim();
        return named(file).map(Line::Include);
    }
    let (kind, rest) = word(line)?;
    let kind = kind.strip_prefix('-').unwrap_or(kind).to_ascii_lowercase();
    if !["auth", "account", "password", "session"].contains(&kind.as_str()) {
        return None;
    }
    let (control, rest) = match rest.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => word(rest)?,
    };
    let (module, arguments) = word(rest.trim_start())?;
    if ["include", "substack"].contains(&control.to_ascii_lowercase().as_str()) {
        return named(module).map(Line::Include);
    }
    let runs = module.rsplit('/').next() == Some("pam_exec.so");
    let program = arguments
        .split_whitespace()
        .map(|word| word.trim_start_matches('['))
        .find(|word| runs && word.starts_with('/'))
        .map(|word| word.trim_end_matches(']').to_owned());
    Some(Line::Module {
        module: named(module)?,
        program,
    })
}

/// Joins lines that end in a backslash with the next.
#[derive(Debug, Default)]
pub(in crate::survival) struct Joined {
    open: String,
}

impl Joined {
    pub(in crate::survival) fn push(&mut self, line: &str) -> Option<String> {
        if let Some(part) = line.strip_suffix('\\') {
            // What goes on for ever is no line of a file that anything reads.
            if self.open.len() < MAX_JOINED {
                self.open.push_str(part);
                self.open.push(' ');
            }
            return None;
        }
        let mut whole = std::mem::take(&mut self.open);
        whole.push_str(line);
        Some(whole)
    }
}

const MAX_JOINED: usize = 64 << 10;

fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (!word.is_empty()).then(|| (word, rest.trim_start()))
}

fn named(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn module(name: &str, program: Option<&str>) -> Option<Line> {
        Some(Line::Module {
            module: name.into(),
            program: program.map(str::to_owned),
        })
    }

    #[test]
    fn lines_lead_to_modules_programs_and_files() {
        assert_eq!(
            line("auth required pam_unix.so nullok"),
            module("pam_unix.so", None)
        );
        assert_eq!(
            line("-session\toptional  pam_systemd.so # x"),
            module("pam_systemd.so", None)
        );
        assert_eq!(
            line("auth [success=1 default=ignore] pam_unix.so"),
            module("pam_unix.so", None)
        );
        assert_eq!(
            line("session optional pam_exec.so quiet log=/x /usr/bin/note a /b"),
            module("pam_exec.so", Some("/usr/bin/note"))
        );
        let include = |name: &str| Some(Line::Include(name.into()));
        assert_eq!(line("@include common-auth"), include("common-auth"));
        assert_eq!(line("auth substack /etc/x"), include("/etc/x"));
        assert_eq!(line("account include system"), include("system"));
        for none in [
            "",
            "# auth required x",
            "@includecommon",
            "auth",
            "auth required",
            "x y z",
            "auth [a b",
        ] {
            assert_eq!(line(none), None, "{none}");
        }
    }

    #[test]
    fn a_backslash_joins_lines() {
        let mut joined = Joined::default();
        assert_eq!(joined.push("auth required \\"), None);
        let whole = joined.push("pam_unix.so").expect("a line");
        assert_eq!(line(&whole), module("pam_unix.so", None));
        for _ in 0..100_000 {
            assert_eq!(joined.push("abcdefgh\\"), None);
        }
        assert!(joined.push("end").expect("a line").len() < 2 * MAX_JOINED);
    }

    proptest! {
        #[test]
        fn any_line_is_read(text in ".*") {
            let _read = line(&text);
        }

        #[test]
        fn a_module_is_found_whatever_stands_before_and_after(
            kind in "-?(auth|account|password|session)",
            control in "([a-hj-r]{1,9}|\\[[a-z= 0-9]{0,20}\\])",
            name in "(/[a-z/]{0,9})?pam_[a-z]{1,8}[.]so",
            rest in "[ a-z=]{0,20}",
        ) {
            prop_assume!(name != "pam_exec.so");
            let read = line(&format!("  {kind} \t{control}  {name} {rest}"));
            prop_assert_eq!(read, module(&name, None));
        }
    }
}
