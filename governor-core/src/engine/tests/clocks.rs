//! Clocks that go wrong: sleep, a wall clock set back, a TPM that is reset. One set forward is in `ends`.

use super::{
    crash::walk,
    crash_policies::menu,
    model::{Host, *},
    trust::{reading, recovered, restarted, trusted, unlock},
};
use crate::{
    attest::{Quote, fixture::AttestDraft},
    engine::*,
    lineage::TpmClock,
};

fn tick(host: &mut Host, now: ClockReading) -> Vec<Effect> {
    let step = host.engine.handle(now, Input::Tick);
    let effects = step.effects.clone();
    let failed = host.perform(&step.next, step.effects).grant_failed;
    assert!(!failed);
    host.engine = step.next;
    effects
}

#[test]
fn sleep_ends_the_lease_at_once_and_stops_only_what_no_quote_vouches_for() {
    let mut host = trusted();
    // Longer than the lease: boot time goes on in sleep.
    host.now += 2 * LEASE;
    let slept = Span(2 * LEASE);
    let now = reading(&host, 0, slept);
    let effects = tick(&mut host, now);
    let asked = |effect: &Effect| matches!(effect, Effect::RequestQuote { .. });
    assert!(effects.iter().any(asked), "no quote was asked for");
    let stopped = |effect: &Effect| matches!(effect, Effect::Stop { .. });
    assert!(!effects.iter().any(stopped), "stopped before it was asked");
    assert!(!host.allows(b"p"));
    assert!(host.engine.trust().has(&Cause::Suspended));
    host.now += LEASE;
    let now = reading(&host, 0, slept);
    let effects = tick(&mut host, now);
    assert!(effects.iter().any(stopped), "nobody vouched for it");
}

#[test]
fn a_quote_after_sleep_brings_trust_back() {
    let mut host = trusted();
    host.now += 5 * SECOND;
    let now = reading(&host, 0, Span(200_000_000));
    tick(&mut host, now);
    assert!(!host.allows(b"p"));
    host.attest(false);
    assert!(host.allows(b"p"));
    host.now += SECOND;
    let now = reading(&host, 0, Span(250_000_000));
    tick(&mut host, now);
    assert!(host.allows(b"p"), "clocks are not read at one instant");
}

/// The next quote, of a TPM that was restarted by one sleep.
fn quote_after_sleep(host: &mut Host) {
    let genuine = AttestDraft::genuine();
    let clock = (
        genuine.clock + 1,
        genuine.reset_count,
        genuine.restart_count + 1,
    );
    quote(host, clock);
}

#[test]
fn a_daemon_that_starts_after_a_sleep_knows_of_it_until_a_quote_was_accepted() {
    let mut host = trusted();
    host.now += SECOND;
    host.slept = Span::seconds(1);
    host.feed(Input::Tick).unwrap();
    assert!(host.engine.trust().has(&Cause::Suspended));
    for _ in 0..2 {
        host.restart_with(recovered(&host));
        host.load(1, None).unwrap();
        assert!(host.engine.trust().has(&Cause::Suspended) && !host.allows(b"p"));
    }
    quote_after_sleep(&mut host);
    assert_eq!(host.engine.trust().name(), "trusted");
    assert!(host.allows(b"p"));
    host.restart_with(recovered(&host));
    host.load(1, None).unwrap();
    assert!(!host.engine.trust().has(&Cause::Suspended));
    assert!(host.allows(b"p"), "a restart is no sleep");
}

#[test]
fn sleep_while_no_daemon_ran_ends_the_lease_and_is_written_down() {
    let mut host = trusted();
    assert!(host.lease_holds());
    host.now += SECOND;
    host.slept = Span(200_000_000);
    host.restart_with(recovered(&host));
    assert!(!host.lease_holds() && !host.allows(b"p"));
    let detail = host.engine.trust().causes()[&Cause::Suspended].clone();
    assert_eq!(detail, "for 200 ms");
    let records = host.disk.records();
    let revoked =
        |kind: &Kind| matches!(kind, Kind::Revocation(r) if r.cause.contains("suspended"));
    assert!(records.iter().any(revoked));
    host.load(1, None).unwrap();
    assert!(!host.allows(b"p"));
    quote_after_sleep(&mut host);
    assert!(host.allows(b"p"));
}

#[test]
fn a_ledger_of_an_earlier_version_explains_no_restart_of_the_tpm() {
    let mut host = trusted();
    host.now += SECOND;
    host.slept = Span::seconds(1);
    let mut known = recovered(&host);
    assert_eq!(known.slept.take(), Some(Span(0)));
    host.restart_with(known);
    host.load(1, None).unwrap();
    quote_after_sleep(&mut host);
    assert!(host.engine.trust().has(&Cause::TpmReset));
}

#[test]
fn a_quote_that_comes_before_the_sleep_was_seen_is_made_again() {
    let mut host = trusted();
    host.now += 11 * SECOND;
    host.feed(Input::Tick).unwrap();
    assert!(host.begin_quote());
    let challenge = host.outstanding.take().unwrap();
    let draft = AttestDraft {
        restart_count: AttestDraft::genuine().restart_count + 1,
        ..AttestDraft::genuine()
    };
    let evidence = Box::new(evidence_of(&challenge, false, draft));
    host.now += SECOND;
    host.slept = Span::seconds(1);
    let nonce = challenge.nonce;
    host.feed(Input::EvidenceArrived { nonce, evidence })
        .unwrap();
    assert!(host.engine.trust().has(&Cause::Suspended));
    assert!(!host.engine.trust().has(&Cause::TpmReset) && !host.allows(b"p"));
    quote_after_sleep(&mut host);
    assert!(host.allows(b"p"));
}

#[test]
fn a_daemon_killed_while_it_finds_a_sleep_leaves_no_more_than_there_was() {
    let mut host = Host::new();
    let (policy, users, uid) = (menu(1), BTreeMap::new(), Some(0));
    host.feed(Input::PolicyOffered { policy, users, uid })
        .unwrap();
    host.attest(false);
    assert!(host.allows(b"p"));
    host.slept = Span::seconds(1);
    walk(&host, &Input::Tick).unwrap();
    let mut cut = host.clone();
    cut.dies = Some(1);
    cut.feed(Input::Tick).unwrap();
    cut.dies = None;
    cut.restart_with(recovered(&cut));
    assert!(!cut.lease_holds());
}

#[test]
fn a_clock_set_back_within_the_bound_wins_nothing_and_beyond_it_locks() {
    let mut host = trusted();
    let until = |host: &Host| {
        let table = host.kernel.table.as_ref().unwrap();
        table.rows.iter().map(|row| row.not_after).max()
    };
    let end = until(&host);
    host.now += SECOND;
    let now = reading(&host, 59, Span(0));
    tick(&mut host, now);
    assert_eq!(host.engine.trust().name(), "trusted");
    let step = host.engine.handle(
        now,
        Input::Observe {
            zone: "agents".into(),
            span: Span::seconds(5),
            uid: 0,
        },
    );
    host.perform(&step.next, step.effects);
    let moved = until(&host).unwrap().abs_diff(end.unwrap());
    assert!(moved <= SECOND, "the end moved by {moved}");
    let now = reading(&host, 61, Span(0));
    tick(&mut host, now);
    assert!(host.engine.trust().has(&Cause::ClockStepped));
    assert!(!host.allows(b"p"));
    let now = reading(&host, 0, Span(0));
    tick(&mut host, now);
    assert_eq!(
        host.engine.trust().name(),
        "locked",
        "setting it right is not enough"
    );
}

#[test]
fn an_operator_takes_the_clock_as_it_stands() {
    let mut host = trusted();
    let now = reading(&host, 100, Span(0));
    tick(&mut host, now);
    let step = host.engine.handle(now, host.unlocking(0));
    assert!(step.answer.is_ok());
    host.perform(&step.next, step.effects);
    host.engine = step.next;
    tick(&mut host, now);
    assert!(!host.engine.trust().has(&Cause::ClockStepped));
    assert_eq!(host.engine.corrected(now), now);
}

fn quote(host: &mut Host, clock: (u64, u32, u32)) {
    host.now += 11 * SECOND;
    host.feed(Input::Tick).unwrap();
    assert!(host.begin_quote());
    let challenge = host.outstanding.take().unwrap();
    let draft = AttestDraft {
        clock: clock.0,
        reset_count: clock.1,
        restart_count: clock.2,
        ..AttestDraft::genuine()
    };
    let evidence = Box::new(evidence_of(&challenge, false, draft));
    let nonce = challenge.nonce;
    host.feed(Input::EvidenceArrived { nonce, evidence })
        .unwrap();
}

#[test]
fn a_tpm_reset_under_the_running_host_locks_until_a_reboot() {
    let mut host = trusted();
    let genuine = AttestDraft::genuine();
    let (clock, resets) = (genuine.clock + 1, genuine.reset_count + 1);
    quote(&mut host, (clock, resets, 0));
    assert!(host.engine.trust().has(&Cause::TpmReset));
    assert!(!host.allows(b"p"));
    unlock(&mut host).unwrap();
    quote(&mut host, (clock, resets, 0));
    assert!(
        host.engine.trust().has(&Cause::TpmReset),
        "unlocking does not make the registers good"
    );
    let known = recovered(&host);
    assert_eq!(
        known.tpm.map(|(tpm, _)| tpm.resets),
        Some(genuine.reset_count)
    );
}

#[test]
fn a_quote_older_than_one_that_was_accepted_is_rejected_also_by_the_next_daemon() {
    let mut host = trusted();
    let genuine = AttestDraft::genuine();
    let older = (
        genuine.clock - 1,
        genuine.reset_count,
        genuine.restart_count,
    );
    quote(&mut host, older);
    let code = Cause::EvidenceRejected("tpm-clock-backwards".into());
    assert!(host.engine.trust().has(&code));
    let mut host = trusted();
    let known = recovered(&host);
    let clock: Option<&TpmClock> = known.tpm.as_ref().map(|(tpm, _)| tpm);
    assert_eq!(clock.map(|clock| clock.clock), Some(genuine.clock));
    let step = restarted(&host, known);
    host.engine = step.next;
    host.load(1, None).unwrap();
    quote(&mut host, older);
    assert!(host.engine.trust().has(&code));
}

#[test]
fn an_appraisal_can_be_made_again_from_its_record() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    let is_appraisal = |kind: &Kind| matches!(kind, Kind::Appraisal(_));
    let Some(Kind::Appraisal(recorded)) = host.disk.records().into_iter().find(is_appraisal) else {
        panic!("no appraisal was recorded");
    };
    assert!(Quote::parse(&recorded.quote).is_ok());
    assert_eq!(recorded.pcrs.len(), 2 * 33);
    assert!(!recorded.signature.is_empty() && !recorded.ak_public.is_empty());
}
