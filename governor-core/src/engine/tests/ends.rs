//! What is over by the clock.

use super::{model::*, trust::trusted};
use crate::engine::*;

#[test]
fn what_is_owed_to_the_ledger_is_owed_once_while_observing_waits_for_its_record() {
    let mut host = trusted();
    let (zone, span) = ("agents".into(), Span::seconds(5));
    host.feed(Input::Observe { zone, span, uid: 0 }).unwrap();
    host.full = true;
    let (target, reason) = (Target::Workload("helper".into()), "drill".into());
    host.feed(Input::Revoke {
        target,
        reason,
        uid: 0,
    })
    .unwrap();
    host.now += 6 * SECOND;
    for _ in 0..10 {
        host.feed(Input::Tick).unwrap();
    }
    assert_eq!(host.engine.owed_records.len(), 1);
}
