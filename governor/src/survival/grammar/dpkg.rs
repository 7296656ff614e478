//! dpkg's list of packages: deb-control(5), as dpkg writes it in `/var/lib/dpkg/status`.

use std::mem;

/// A package that is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::survival) struct Package {
    pub(in crate::survival) name: String,
    pub(in crate::survival) architecture: String,
    pub(in crate::survival) essential: bool,
    pub(in crate::survival) required: bool,
    installed: bool,
}

/// Takes lines, gives packages.
#[derive(Debug, Default)]
pub(in crate::survival) struct Status {
    open: Package,
}

impl Status {
    /// The package that this line ends, if it ends one.
    pub(in crate::survival) fn line(&mut self, line: &str) -> Option<Package> {
        if line.trim().is_empty() {
            return self.end();
        }
        // A line that goes on with the one before begins with a space and is no field.
        if line.starts_with([' ', '\t']) {
            return None;
        }
        let (field, value) = line.split_once(':')?;
        let value = value.trim();
        let package = &mut self.open;
        match field.to_ascii_lowercase().as_str() {
            "package" if is_name(value) => package.name = value.to_owned(),
            "architecture" if is_name(value) => package.architecture = value.to_owned(),
            "essential" => package.essential = value.eq_ignore_ascii_case("yes"),
            "priority" => package.required = value.eq_ignore_ascii_case("required"),
            // Wanted, error, state: only the state says what is on disk.
            "status" => package.installed = value.split(' ').nth(2) == Some("installed"),
            _ => {}
        }
        None
    }

    /// The package that the end of the file ends.
    pub(in crate::survival) fn end(&mut self) -> Option<Package> {
        let package = mem::take(&mut self.open);
        (package.installed && !package.name.is_empty()).then_some(package)
    }
}

/// What stands in a file name of dpkg's database.
fn is_name(value: &str) -> bool {
    let byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    !value.is_empty() && !value.starts_with('.') && value.len() < 128 && value.bytes().all(byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<Package> {
        let mut status = Status::default();
        let mut found: Vec<Package> = text.lines().filter_map(|l| status.line(l)).collect();
        found.extend(status.end());
        found
    }

    #[test]
    fn installed_packages_come_out_with_what_they_are() {
        let found = all(
            "Package: dash\nEssential: yes\nStatus: install ok installed\n\
            Priority: required\nArchitecture: amd64\nDescription: a shell\n Package: not-this\n\n\
            Package: gone\nStatus: deinstall ok config-files\n\n\
            Package: half\nStatus: install ok half-configured\n\n\
            Package: ../../x\nStatus: install ok installed\n\n\
            Package: apt\nStatus: install ok installed\nArchitecture: amd64",
        );
        let names: Vec<(&str, bool, bool)> = found
            .iter()
            .map(|p| (p.name.as_str(), p.essential, p.required))
            .collect();
        assert_eq!(names, [("dash", true, true), ("apt", false, false)]);
        assert_eq!(found[1].architecture, "amd64");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(?s).*") {
            for package in all(&text) {
                prop_assert!(is_name(&package.name));
            }
        }

        #[test]
        fn stanzas_are_told_apart(names in prop::collection::vec("[a-z][a-z0-9+.-]{1,9}", 0..8)) {
            let stanza = |name: &String| {
                format!("Package: {name}\nStatus: install ok installed\nDepends: a,\n b: c\n")
            };
            let text: Vec<String> = names.iter().map(stanza).collect();
            let found: Vec<String> = all(&text.join("\n")).into_iter().map(|p| p.name).collect();
            prop_assert_eq!(found, names);
        }
    }
}
