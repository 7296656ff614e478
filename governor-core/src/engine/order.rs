//! What a step denies it denies before it reaches for what runs.
//!
//! Promises: where a step takes away for several reasons, none of its denials waits for a stop, which takes as
//! long as what runs takes to be found. A denial moves ahead over stops and over records that let nothing go, and
//! over nothing else: what is granted or lifted before it is taken away after that.

use super::Effect;

/// The same effects, denials before stops.
pub(super) fn denied_first(effects: Vec<Effect>) -> Vec<Effect> {
    let mut ordered: Vec<Effect> = Vec::with_capacity(effects.len());
    // The first stop that a denial may still move ahead of.
    let mut stop = None;
    for effect in effects {
        if effect.stops() {
            stop = stop.or(Some(ordered.len()));
        } else if effect.revokes() {
            if let Some(at) = stop {
                ordered.insert(at, effect);
                stop = Some(at + 1);
                continue;
            }
        } else if !is_mere_record(&effect) {
            stop = None;
        }
        ordered.push(effect);
    }
    ordered
}

fn is_mere_record(effect: &Effect) -> bool {
    matches!(effect, Effect::Append(_)) && !effect.grants()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::OnRevoke;

    const STOP: Effect = Effect::Stop {
        zone: 1,
        workload: None,
        action: OnRevoke::Kill,
        barred: false,
    };

    fn names(effects: Vec<Effect>) -> Vec<&'static str> {
        denied_first(effects).iter().map(Effect::name).collect()
    }

    #[test]
    fn no_denial_waits_for_a_stop() {
        let record = Effect::Append(Vec::new());
        let all = vec![
            STOP,
            record,
            Effect::DropLease,
            Effect::MarkRevokedAll(true),
            STOP,
        ];
        let wanted = ["drop-lease", "mark-revoked-all", "stop", "append", "stop"];
        assert_eq!(names(all), wanted);
    }

    #[test]
    fn nothing_is_taken_away_before_it_is_given() {
        for given in [
            Effect::MarkRevokedAll(false),
            Effect::BreakGlass {
                until: crate::time::BootTime(9),
            },
        ] {
            let name = given.name();
            let all = vec![STOP, given, Effect::DropLease, STOP, Effect::DropLease];
            let wanted = ["stop", name, "drop-lease", "drop-lease", "stop"];
            assert_eq!(names(all), wanted);
        }
    }
}
