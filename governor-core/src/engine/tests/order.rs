//! The order of effects that every step keeps: records before grants, and after revocations.

use super::super::Effect;

/// Records come before grants and after revocations, in every step.
pub(super) fn check_order(effects: &[Effect]) {
    check_denied_first(effects);
    for (position, effect) in effects.iter().enumerate() {
        let recorded_before = effects[..position]
            .iter()
            .any(|effect| matches!(effect, Effect::Append(_)));
        match effect {
            Effect::SetLease { .. } => assert!(recorded_before, "a lease before its record"),
            Effect::InstallTable(table) if !table.rows.is_empty() => {
                assert!(recorded_before, "a table before its record");
            }
            Effect::Thaw(_) => assert!(recorded_before, "work goes on before its record"),
            Effect::RaiseEpoch { .. }
            | Effect::AddTombstone(_)
            | Effect::Hold { .. }
            | Effect::Stop { .. } => {
                let recorded_after = effects[position..]
                    .iter()
                    .any(|effect| matches!(effect, Effect::Append(_)));
                let grants = effects.iter().any(Effect::grants);
                assert!(
                    recorded_after || grants || !recorded_before,
                    "a revocation's record first"
                );
            }
            Effect::Guard(_) => assert!(recorded_before, "a guard before its record"),
            Effect::TakeDown => assert!(recorded_before, "down before its record"),
            Effect::BreakGlass { .. } => assert!(recorded_before, "broken before its record"),
            Effect::ForgetBreakGlass => assert_eq!(effects[..position].len(), 0, "not alone"),
            Effect::KeepLock(_) => {
                let revoked_after = effects[position..].iter().any(Effect::revokes);
                assert!(!revoked_after, "the lock is kept before it is one");
            }
            Effect::ForgetLock => {
                let begun = |effect: &Effect| matches!(effect, Effect::BeginLedger(_));
                let begun = effects[..position].iter().any(begun);
                assert!(recorded_before || begun, "forgotten before its record");
            }
            Effect::InstallTable(_)
            | Effect::EndBreakGlass { .. }
            | Effect::Append(_)
            | Effect::AcknowledgeSignals(_)
            | Effect::BeginLedger(_)
            | Effect::KeepPolicy(_)
            | Effect::DropLease
            | Effect::MarkRevokedAll(_)
            | Effect::RemoveRows(_)
            | Effect::Bar { .. }
            | Effect::ExtendPcrs(_)
            | Effect::RequestQuote { .. } => {}
        }
    }
}

/// What is stopped is denied by then, so that nothing takes its place meanwhile.
fn check_denied_first(effects: &[Effect]) {
    let mut stopped = false;
    for effect in effects {
        stopped |= effect.stops();
        // What is given is not taken away before that.
        stopped &= !effect.grants() && !matches!(effect, Effect::BreakGlass { .. });
        let denies = effect.revokes() && !effect.stops();
        let names: Vec<_> = effects.iter().map(Effect::name).collect();
        assert!(
            !stopped || !denies,
            "`{}` is late: {names:?}",
            effect.name()
        );
    }
}
