//! Who may be the daemon, the canary, and taking the gate down.

use super::{
    super::*,
    model::{Host, clock},
    order::check_order,
    policies::signed_policy_edited,
    trust::trusted,
};
use crate::lineage::Kind;

fn disarm(host: &Host) -> Step {
    let reason = "moving".to_owned();
    host.engine.handle(
        clock(host.now),
        Input::Disarm {
            reason,
            quoted: None,
            uid: 0,
        },
    )
}

fn offer(host: &mut Host, serial: u64, daemons: &str) -> Result<String, Refused> {
    host.feed(Input::PolicyOffered {
        policy: signed_policy_edited(serial, |text| {
            let listing = format!("[governor]\nexec = [{daemons}]");
            text.replace("[governor]\nexec = []", &listing)
        }),
        users: BTreeMap::new(),
        uid: Some(0),
    })
}

#[test]
fn a_policy_never_leaves_the_daemon_out() {
    let mut host = trusted();
    let other = offer(&mut host, 5, "\"planner\"");
    assert!(matches!(other, Err(Refused::Denied(_))), "{other:?}");
    assert!(!host.kernel.armed);
    offer(&mut host, 6, "\"planner\", \"daemon\"").unwrap();
    assert!(host.kernel.armed);
    for daemons in ["", "\"planner\""] {
        let left_out = offer(&mut host, 7, daemons);
        assert!(matches!(left_out, Err(Refused::Denied(_))), "{left_out:?}");
    }
    // Also by the next daemon, which is told by the kernel.
    host.restart();
    let left_out = offer(&mut host, 7, "");
    assert!(matches!(left_out, Err(Refused::Denied(_))), "{left_out:?}");
    offer(&mut host, 7, "\"daemon\"").unwrap();
}

#[test]
fn the_gate_goes_only_after_a_register_says_so_and_the_record_is_kept() {
    let mut host = trusted();
    let step = disarm(&host);
    assert!(matches!(step.effects.as_slice(), [Effect::ExtendPcrs(pcrs)] if pcrs.all_last()));
    host.feed(Input::Disarm {
        reason: "moving".into(),
        quoted: None,
        uid: 0,
    })
    .unwrap();
    let again = host.engine.handle(
        clock(host.now),
        Input::Disarm {
            reason: "again".into(),
            quoted: None,
            uid: 0,
        },
    );
    assert!(again.answer.is_err(), "two at once");
    let step = host
        .engine
        .handle(clock(host.now), Input::PcrsExtended(Ok(())));
    check_order(&step.effects);
    let position = |which: &dyn Fn(&Effect) -> bool| step.effects.iter().position(which);
    let recorded = position(
        &|effect| matches!(effect, Effect::Append(kinds) if matches!(kinds.as_slice(), [Kind::Disarmed(_)])),
    );
    let down = position(&|effect| matches!(effect, Effect::TakeDown));
    let raised = position(&|effect| matches!(effect, Effect::RaiseEpoch { .. }));
    assert!(
        raised.is_some() && raised < recorded && recorded < down,
        "{:?}",
        step.effects
    );
}

#[test]
fn what_was_quoted_is_extended_whatever_policy_is_in_force() {
    let select = |pcrs: &[u8]| PcrSelection::new(pcrs.iter().copied()).unwrap();
    let extended = |host: &Host, quoted: Option<PcrSelection>| {
        let reason = "moving".to_owned();
        let input = Input::Disarm {
            reason,
            quoted,
            uid: 0,
        };
        let step = host.engine.handle(clock(host.now), input);
        let pcrs = step.effects.into_iter().find_map(|effect| {
            let Effect::ExtendPcrs(pcrs) = effect else {
                return None;
            };
            Some(pcrs)
        });
        (step.answer.is_ok(), pcrs)
    };
    let host = trusted();
    let own = host.engine.watched().unwrap().lasting();
    assert_eq!(extended(&host, None), (true, Some(own.clone())));
    let both = own.clone().union(select(&[3]));
    assert_eq!(extended(&host, Some(select(&[3]))), (true, Some(both)));
    // No policy at all: somebody took it away, or it does not verify any more.
    let without = Host::new();
    assert!(without.engine.watched().is_none());
    assert_eq!(extended(&without, None), (true, None));
    let before = Some(select(&[3, 14]));
    assert_eq!(extended(&without, before.clone()), (true, before));
    // By the ledger alone, as where an earlier version told the kernel nothing; in the boot that it is of.
    let mut adopted = trusted();
    adopted.restart_with(adopted.disk.recovered());
    assert!(adopted.engine.watched().is_none());
    assert_eq!(extended(&adopted, None), (true, Some(own)));
    let mut recovered = adopted.disk.recovered();
    recovered.quoted = recovered.quoted.map(|(quoted, _)| (quoted, vec![0; 16]));
    adopted.restart_with(recovered);
    assert_eq!(extended(&adopted, None), (true, None));
    // What can be reset says nothing.
    for host in [&host, &without] {
        assert_eq!(extended(host, Some(select(&[3, 16]))), (false, None));
    }
}

#[test]
fn a_register_that_cannot_be_extended_keeps_the_gate() {
    let mut host = trusted();
    host.feed(Input::Disarm {
        reason: "moving".into(),
        quoted: None,
        uid: 0,
    })
    .unwrap();
    assert!(host.extending.is_some());
    let step = host.engine.handle(
        clock(host.now),
        Input::PcrsExtended(Err("the TPM is gone".into())),
    );
    assert!(
        matches!(step.effects.as_slice(), [Effect::Append(kinds)] if matches!(kinds.as_slice(), [Kind::Refusal(_)])),
        "{:?}",
        step.effects
    );
    // Nobody asked: nothing happens.
    let step = step
        .next
        .handle(clock(host.now), Input::PcrsExtended(Ok(())));
    assert!(step.effects.is_empty(), "{:?}", step.effects);
}

#[test]
fn an_executed_canary_locks_and_a_silent_one_is_a_fault() {
    let mut host = trusted();
    host.feed(Input::CanaryPassed).unwrap();
    assert_eq!(host.engine.trust().name(), "locked");
    let mut host = trusted();
    host.feed(Input::CanarySilent("it says nothing".into()))
        .unwrap();
    assert!(host.engine.trust().has(&Cause::GateFault));
    assert_eq!(host.kernel.lease, None);
}
