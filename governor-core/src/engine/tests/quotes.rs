//! The model's TPM: nonces, and answers to them.

use super::{
    super::*,
    model::{Host, LEASE, SECOND, evidence},
};
use crate::attest::Nonce;

impl Host {
    /// The nonce that was asked for, as it is issued.
    pub(super) fn issue(&mut self) -> Option<Input> {
        let (policy, epoch, at) = self.wanted.take()?;
        let challenge = Challenge {
            nonce: Nonce::new(*Digest::of(&self.issued.to_le_bytes()).bytes()),
            host: Digest::of(b"host"),
            policy,
            ledger_size: self.disk.head().size,
            ledger_head: Digest::of(b"head"),
            trips: 0,
        };
        self.issued += 1;
        self.outstanding = Some(challenge.clone());
        Some(Input::QuoteStarted {
            challenge: Box::new(challenge),
            epoch,
            at: BootTime(at),
        })
    }

    /// Issues the nonce that was asked for.
    pub(super) fn begin_quote(&mut self) -> bool {
        let started = self.issue();
        started.is_some_and(|input| self.feed(input).is_ok())
    }

    pub(super) fn answer_quote(&mut self, changed: bool) {
        let Some(challenge) = self.outstanding.take() else {
            return;
        };
        let at = self
            .engine
            .outstanding
            .as_ref()
            .filter(|outstanding| outstanding.challenge.nonce == challenge.nonce)
            .map(|outstanding| outstanding.at.0);
        // A challenge that a reload voided is answered by nobody.
        if changed && at.is_some() {
            self.convinced = 0;
        } else if !changed
            && let Some(at) = at
            && self.now < at + LEASE
        {
            self.convinced = self.convinced.max(at + LEASE);
        }
        let (nonce, evidence) = (challenge.nonce, Box::new(evidence(&challenge, changed)));
        self.feed(Input::EvidenceArrived { nonce, evidence })
            .unwrap();
    }

    pub(super) fn attest(&mut self, changed: bool) {
        assert!(self.begin_quote(), "no quote was asked for");
        self.answer_quote(changed);
    }

    /// Waits until a quote is due, and answers it.
    pub(super) fn attest_when_due(&mut self) {
        self.now += 11 * SECOND;
        self.feed(Input::Tick).unwrap();
        self.attest(false);
    }
}

#[test]
fn an_answer_to_a_challenge_that_was_given_up_says_nothing() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    assert!(host.begin_quote());
    let late = host.outstanding.take().unwrap();
    host.now += LEASE;
    host.feed(Input::Tick).unwrap();
    host.attest(false);
    let (nonce, evidence) = (late.nonce, Box::new(evidence(&late, false)));
    host.feed(Input::EvidenceArrived { nonce, evidence })
        .unwrap();
    assert_eq!(host.engine.trust().name(), "trusted");
}
