//! Unix sockets: who is in the zone, and whom policy names.

use governor_common::{
    Facts, Label, Operation, Reason, Verdict, decide,
    names::{ZONE_HOST, ZONE_UNKNOWN},
    row::{MODE_OBSERVE, ROLE_SOCKET, ROLES},
};

use crate::{Case, STANDING, each_denies, fixture::*};

const ALLOWED: decide::Decision = (Verdict::Allow, Reason::Authorized);
const REFUSED: decide::Decision = (Verdict::Deny, Reason::UnlistedPeer);

#[test]
fn who_is_in_the_zone_or_named_is_reached_and_nobody_else() {
    for good in [named_peer(), neighbour()] {
        each_denies(good, decide::decide_peer, STANDING);
        each_denies(good, decide::decide_peer, FACTS);
    }
    let stranger = Facts {
        port: 0,
        ..neighbour()
    };
    assert_eq!(decide::decide_peer(&stranger), REFUSED);
    for zone in [ZONE + 1, ZONE_HOST, ZONE_UNKNOWN] {
        let other = Facts {
            port: zone,
            ..stranger
        };
        assert_eq!(decide::decide_peer(&other), REFUSED, "{zone}");
    }
    // A name alone, or anything but the one number that says it is listed, lists nothing.
    for listed in [0, 2, u32::MAX] {
        let named = Facts {
            destination_listed: listed,
            ..named_peer()
        };
        assert_eq!(decide::decide_peer(&named), REFUSED, "{listed}");
    }
    assert_eq!(ROLES & ROLE_SOCKET, 0, "no file is opened by its digest");
}

const FACTS: &[Case] = &[
    ("revoked", |f| f.tombstone = 1, Reason::Revoked),
    ("no zone", |f| f.zone_mode = 0, Reason::UnknownZone),
    (
        "another operation",
        |f| f.operation = Operation::Connect as u32,
        Reason::GateFault,
    ),
    (
        "nobody",
        |f| (f.zone, f.port) = (0, 0),
        Reason::NotAuthorized,
    ),
];

#[test]
fn no_label_is_no_work_and_observing_says_what_would_be_refused() {
    let stranger = Facts {
        port: 0,
        ..neighbour()
    };
    let before_it_is_work = Facts {
        label: Label::default(),
        ..stranger
    };
    assert_eq!(
        decide::decide_peer(&before_it_is_work),
        (Verdict::Allow, Reason::Unlabelled)
    );
    let observed = Facts {
        zone_mode: MODE_OBSERVE,
        zone_observe_until: NOW + 1,
        ..stranger
    };
    assert_eq!(
        decide::decide_peer(&observed),
        (Verdict::WouldDeny, Reason::UnlistedPeer)
    );
    assert_eq!(decide::decide_peer(&neighbour()), ALLOWED);
}
