//! Unix sockets outside the zone, as policies name them and the kernel is given them.

mod common;

use common::{edited, example_text, rows, with_text};
use governor_common::row::{ROLE_SOCKET, Row};
use governor_core::{digest::Digest, policy::Policy};

const SCRIPTS: &str = "scripts = []";
const FAMILIES: &str = "families = [\"inet\", \"inet6\"]";

/// The example, whose zone allows Unix sockets and whose workload names these.
fn naming(sockets: &str) -> Result<Policy, governor_core::policy::Diagnostics> {
    let text = example_text();
    assert!(text.contains(SCRIPTS) && text.contains(FAMILIES));
    let text = text.replacen(FAMILIES, "families = [\"inet\", \"inet6\", \"unix\"]", 1);
    with_text(&text.replacen(SCRIPTS, &format!("{SCRIPTS}\nsockets = {sockets}"), 1))
}

fn of_sockets(policy: &Policy) -> Vec<Row> {
    let all = rows(policy).into_iter();
    all.filter(|row| row.roles & ROLE_SOCKET != 0).collect()
}

#[test]
fn each_is_a_row_of_its_workload_and_of_nobody_else() {
    let policy = naming("[\"/run/systemd/notify\", \"/run/dbus/system_bus_socket\"]").unwrap();
    assert_eq!(policy.warnings(), []);
    let found = of_sockets(&policy);
    let mut digests: Vec<Digest> = ["/run/systemd/notify", "/run/dbus/system_bus_socket"]
        .map(|path| Digest::of(format!("governor unix socket v1\0{path}").as_bytes()))
        .into();
    digests.sort_unstable();
    let named: Vec<_> = found
        .iter()
        .map(|row| Digest::new(row.key.digest))
        .collect();
    assert_eq!(named, digests);
    for row in &found {
        assert_eq!(
            (row.key.scope, row.workload, row.roles),
            (1, 1, ROLE_SOCKET)
        );
    }
    // Nobody reaches anybody whom no policy names.
    assert_eq!(of_sockets(&naming("[]").unwrap()), []);
}

#[test]
fn a_path_is_spelled_in_one_way() {
    for (bad, said) in [
        ("", "is not an absolute path"),
        ("run/x", "is not an absolute path"),
        ("@name", "is not an absolute path"),
        ("/", "contains `.`, `..` or an empty component"),
        ("/run/x/", "contains `.`, `..` or an empty component"),
        ("//run/x", "contains `.`, `..` or an empty component"),
        ("/run/./x", "contains `.`, `..` or an empty component"),
        ("/run/../x", "contains `.`, `..` or an empty component"),
        ("/run/a\\u0000b", "contains a control character"),
        ("/run/a\\u001bb", "contains a control character"),
    ] {
        let refused = naming(&format!("[\"{bad}\"]")).unwrap_err().to_string();
        assert!(refused.contains(said), "{bad}: {refused}");
    }
    let longest = format!("/{}", "x".repeat(106));
    assert_eq!(
        of_sockets(&naming(&format!("[\"{longest}\"]")).unwrap()).len(),
        1
    );
    let refused = naming(&format!("[\"{longest}x\"]"))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is longer than 107 bytes"), "{refused}");
}

#[test]
fn what_has_no_effect_is_said_and_too_many_are_refused() {
    let warned = |policy: &Policy| -> Vec<String> {
        policy.warnings().iter().map(ToString::to_string).collect()
    };
    let twice = warned(&naming("[\"/run/x\", \"/run/x\"]").unwrap());
    assert!(
        matches!(&twice[..], [one] if one.contains("`/run/x` is listed twice")),
        "{twice:?}"
    );
    let link = warned(&naming("[\"/var/run/x\"]").unwrap());
    assert!(
        matches!(&link[..], [one] if one.contains("write `/run/x`")),
        "{link:?}"
    );
    let without = edited(SCRIPTS, "scripts = []\nsockets = [\"/run/x\"]").unwrap();
    let without = warned(&without);
    assert!(
        matches!(&without[..], [one] if one.contains("the zone allows no `unix` sockets")),
        "{without:?}"
    );
    let many = |count: usize| {
        let paths: Vec<String> = (0..count).map(|n| format!("\"/run/{n}\"")).collect();
        naming(&format!("[{}]", paths.join(", ")))
    };
    assert_eq!(of_sockets(&many(64).unwrap()).len(), 64);
    let refused = many(65).unwrap_err().to_string();
    assert!(refused.contains("more than 64 in `sockets`"), "{refused}");
}
