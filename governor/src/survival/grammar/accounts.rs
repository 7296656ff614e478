//! Accounts, and where their names are looked up: passwd(5), nsswitch.conf(5).

/// The account and shell of a line of `/etc/passwd`, if the account can log in.
pub(in crate::survival) fn login(line: &str) -> Option<(&str, &str)> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, _, _, _, _, shell] = fields.as_slice() else {
        return None;
    };
    let shell = if shell.is_empty() { "/bin/sh" } else { shell };
    let end = shell.rsplit('/').next().unwrap_or(shell);
    // A name that begins with a sign stands for accounts that are kept elsewhere.
    let account = !name.is_empty() && !name.starts_with(['+', '-']);
    let can = account && shell.starts_with('/') && !NO_SHELL.contains(&end);
    can.then_some((*name, shell))
}

/// The services that a line of `/etc/nsswitch.conf` names.
pub(in crate::survival) fn services(line: &str) -> Vec<&str> {
    let line = line.split('#').next().unwrap_or(line);
    let Some((_, listed)) = line.split_once(':') else {
        return Vec::new();
    };
    // What is in brackets says what to do after the service before it.
    let mut found = Vec::new();
    let mut inside = false;
    for part in listed.split_inclusive(['[', ']']) {
        let words = part.trim_end_matches(['[', ']']);
        if !inside {
            let plain = |word: &&str| {
                let mut bytes = word.bytes();
                bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            };
            found.extend(words.split_whitespace().filter(plain));
        }
        inside = part.ends_with('[') || (inside && !part.ends_with(']'));
    }
    found
}

/// Shells that let nobody in.
const NO_SHELL: &[&str] = &["nologin", "false", "sync", "true"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_can_log_in_has_a_shell() {
        assert_eq!(
            login("root:x:0:0:root:/root:/bin/bash"),
            Some(("root", "/bin/bash"))
        );
        assert_eq!(login("a:x:1:1::/:"), Some(("a", "/bin/sh")));
        for none in [
            "",
            "root:x:0:0:root:/root",
            "sshd:x:1:1::/run:/usr/sbin/nologin",
            "x:x:1:1::/:/bin/false",
            "x:x:1:1::/:bash",
            "+::::::",
            "a:x:1:1::/:/bin/sh:more",
        ] {
            assert_eq!(login(none), None, "{none}");
        }
    }

    #[test]
    fn services_stand_between_brackets() {
        let found = services("passwd: files [!UNAVAIL=return SUCCESS=merge] systemd# sss");
        assert_eq!(found, ["files", "systemd"]);
        assert_eq!(
            services("hosts:files[NOTFOUND=return]dns"),
            ["files", "dns"]
        );
        assert_eq!(services("db: ../../etc/x a/b"), [""; 0]);
        assert_eq!(services("# passwd: files"), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in ".*") {
            if let Some((name, shell)) = login(&line) {
                prop_assert!(!name.is_empty() && shell.starts_with('/'));
            }
            for service in services(&line) {
                prop_assert!(!service.is_empty() && !service.contains(['/', '.', '[', ' ']));
            }
        }

        #[test]
        fn services_come_out_as_they_went_in(
            names in prop::collection::vec("[a-z0-9_]{1,8}", 0..6),
            actions in prop::collection::vec("( |\\[[A-Z=a-z !]{0,9}\\])", 6),
        ) {
            let parts: Vec<String> = names.iter().zip(&actions).map(|(n, a)| format!("{n}{a}")).collect();
            let line = format!("passwd: {}", parts.join(" "));
            prop_assert_eq!(services(&line), names);
        }
    }
}
