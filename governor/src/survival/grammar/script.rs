//! What a script is started by: execve(2), "Interpreter scripts", and env(1).

/// As many bytes of a file as the kernel looks at.
pub(in crate::survival) const LOOKED_AT: usize = 256;

/// Who runs a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::survival) struct Started {
    pub(in crate::survival) interpreter: String,
    /// What `env` is told to look for.
    pub(in crate::survival) by_name: Option<String>,
}

/// Reads the beginning of a file; `None`: it is no script that the kernel would run.
pub(in crate::survival) fn read(beginning: &[u8]) -> Option<Started> {
    let line = beginning.get(..LOOKED_AT.min(beginning.len()))?;
    let line = line.strip_prefix(b"#!")?;
    let end = line.iter().position(|byte| matches!(byte, b'\n' | 0));
    let line = str::from_utf8(line.get(..end.unwrap_or(line.len()))?).ok()?;
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let interpreter = words.next()?;
    // Cut off by the limit, it could be the beginning of any name.
    if end.is_none() && beginning.len() >= LOOKED_AT && words.clone().next().is_none() {
        return None;
    }
    let env = interpreter.rsplit('/').next() == Some("env");
    let by_name = words.find(|word| env && !word.starts_with('-') && !word.contains('='));
    Some(Started {
        interpreter: interpreter.to_owned(),
        by_name: by_name.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn started(text: &str) -> Option<(String, Option<String>)> {
        read(text.as_bytes()).map(|found| (found.interpreter, found.by_name))
    }

    #[test]
    fn the_kernels_rules_are_ours() {
        let plain = |name: &str| Some((name.to_owned(), None));
        assert_eq!(started("#!/bin/sh\necho"), plain("/bin/sh"));
        assert_eq!(started("#! \t/usr/bin/perl -w\n"), plain("/usr/bin/perl"));
        assert_eq!(started("#!/bin/sh"), plain("/bin/sh"));
        let env = |name: &str| Some(("/usr/bin/env".to_owned(), Some(name.to_owned())));
        assert_eq!(started("#!/usr/bin/env python3\n"), env("python3"));
        assert_eq!(started("#!/usr/bin/env -S A=1 perl -w\n"), env("perl"));
        for none in ["", "#", "#!", "#!\n/bin/sh", "#!   \n", " #!/bin/sh"] {
            assert_eq!(started(none), None, "{none}");
        }
        assert_eq!(started(&format!("#!/{}", "a".repeat(300))), None);
    }

    proptest! {
        #[test]
        fn any_beginning_is_read(mut bytes in any::<Vec<u8>>(), long in any::<bool>()) {
            bytes.splice(0..0, *b"#!");
            if long {
                bytes.resize(400, b'x');
            }
            if let Some(found) = read(&bytes) {
                prop_assert!(!found.interpreter.is_empty() && found.interpreter.len() < LOOKED_AT);
            }
        }
    }
}
