//! What lint says of a policy and what loading it comes to.

use super::{model::Host, policies::signed_policy_edited, *};
use crate::policy::{self, RawBundle, Severity};

fn said(edit: impl Fn(String) -> String) -> (Vec<String>, Result<String, String>) {
    let policy = signed_policy_edited(1, edit);
    let found = lint(policy.policy(), "governed.slice");
    let loaded = Host::new().feed(Input::PolicyOffered {
        policy,
        users: BTreeMap::new(),
        uid: Some(0),
    });
    let errors = found.iter().filter(|one| one.severity == Severity::Error);
    assert_eq!(errors.count() == 0, loaded.is_ok(), "{found:?} {loaded:?}");
    let said = found.iter().map(ToString::to_string).collect();
    (said, loaded.map_err(Refused::into_reason))
}

#[test]
fn a_good_policy_is_not_complained_about() {
    assert_eq!(said(|text| text).0, [""; 0]);
}

#[test]
fn reference_values_that_cannot_be_read_are_an_error_at_their_place() {
    let (said, loaded) = said(|text| text.replace("\"reference.toml\"", "\"planner.sha256\""));
    let [error] = &said[..] else {
        panic!("{said:?}")
    };
    assert!(error.starts_with("planner.sha256:1:"), "{error}");
    assert!(error.contains(": error: "), "{error}");
    let why = loaded.expect_err("refused");
    assert!(why.contains("reading `planner.sha256`"), "{why}");
}

#[test]
fn values_that_trust_nobody_are_a_warning() {
    let (said, _) = said(|text| text.replace("pcrs = [0, 7]", "pcrs = [0, 4, 7, 14]"));
    assert_eq!(
        said,
        [
            "reference.toml:1:1: warning: PCRs 4,14 are quoted and have no value, so no host is trusted, \
          `governor attest baseline` writes what the host it runs on has now"
        ]
    );
}

#[test]
fn a_zone_outside_of_what_is_governed_is_an_error() {
    for cgroup in ["other.slice/x.slice", "governed.slice.d/x.slice"] {
        let (said, loaded) =
            said(|text| text.replace("governed.slice/governed-tools.slice", cgroup));
        let [error] = &said[..] else {
            panic!("{said:?}")
        };
        let words = format!(
            "policy.toml:1:1: error: zone `tools` has the cgroup `{cgroup}`, which is not below \
             `governed.slice`"
        );
        assert!(error.starts_with(&words), "{error}");
        assert!(loaded.expect_err("refused").contains(cgroup));
    }
}

/// Which kernel a policy is for is not lint's to say, so it is refused where it is loaded.
#[test]
fn opens_are_listed_only_where_the_kernel_asks_about_them() {
    let policy = |serial, place: &str| {
        signed_policy_edited(serial, |text| {
            text.replace(place, &format!("{place}opens = \"listed\"\n"))
        })
    };
    for place in ["[zone.tools]\n", "[workload.helper]\n"] {
        for how in [
            OpensJudged::Measured,
            OpensJudged::Recalled,
            OpensJudged::Never,
        ] {
            // Whoever loads it: an operator, or a daemon that starts on another kernel.
            for uid in [Some(0), None] {
                let mut host = Host::new();
                host.engine.host.opens_judged = how;
                let loaded = host.feed(Input::PolicyOffered {
                    policy: policy(1, place),
                    users: BTreeMap::new(),
                    uid,
                });
                assert_eq!(
                    loaded.is_ok(),
                    how != OpensJudged::Never,
                    "{place} {loaded:?}"
                );
                if let Err(refused) = loaded {
                    let why = refused.into_reason();
                    assert!(why.contains("workload `helper` opens only"), "{why}");
                }
            }
        }
    }
}

/// Programs are measured when they are executed, and what is listed anywhere with a path is found.
#[test]
fn what_no_set_says_the_place_of_is_never_known_ahead() {
    let said = |opens: &str, a_name: &str, b_name: &str| {
        let (p, a, b) = (Digest::of(b"p"), Digest::of(b"a"), Digest::of(b"b"));
        let text = format!(
            "[policy]\nformat = 1\nname = \"host\"\nserial = 1\nnot_before = 2026-01-01T00:00:00Z\n\
             not_after = 2027-01-01T00:00:00Z\n\
             [zone.z]\ncgroup = \"governed.slice/z.slice\"\nrequires = \"policy\"\n\
             [workload.w]\nzone = \"z\"\nexec = [\"p\"]\ndata = [\"a\"]\nlibraries = [\"a\", \"b\"]\n\
             started_by = [\"operator\"]\nuser = [\"1\"]\nopens = \"{opens}\"\n\
             [set]\np = \"p.sha256\"\na = \"a.sha256\"\nb = \"b.sha256\"\n"
        );
        let files = [
            ("policy.toml", text),
            ("p.sha256", format!("{p}  p\n")),
            ("a.sha256", format!("{a}  {a_name}\n")),
            ("b.sha256", format!("{b}  {b_name}\n{a}  a\n")),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.into_bytes()));
        let bundle = RawBundle::new(files.into()).expect("a bundle");
        let policy = policy::parse(&bundle).expect("a policy");
        let found = unknowable(&policy);
        assert!(found.iter().all(|one| one.severity == Severity::Warning));
        assert_eq!(lint(&policy, "governed.slice"), found);
        found
            .iter()
            .map(|one| one.message.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(said("listed", "/srv/a", "/srv/b"), [""; 0]);
    assert_eq!(said("any", "a", "b"), [""; 0]);
    let [one] = &said("listed", "/srv/a", "b")[..] else {
        panic!("one of two")
    };
    assert!(
        one.contains("workload `w`") && one.contains(" 1 are listed without"),
        "{one}"
    );
    let [both] = &said("listed", "a", "srv/b")[..] else {
        panic!("one complaint of both")
    };
    assert!(both.contains(" 2 are listed without"), "{both}");
}
