//! What a policy says about the gate's own safety: who may be the daemon, and what may be loaded beside
//! it.
//!
//! Promises: a policy that would leave the daemon out, or an armed gate without one, is refused before
//! anything changes. Armed once, a gate stays armed: only taking it down ends that.

use std::collections::BTreeSet;

use super::{Effect, Engine};
use crate::{digest::Digest, policy::Policy};

/// Content that may stand beside the gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    pub daemon: BTreeSet<Digest>,
    pub libraries: BTreeSet<Digest>,
    pub modules: BTreeSet<Digest>,
    pub kexec: BTreeSet<Digest>,
}

impl Engine {
    /// Why the policy's `[governor]` table cannot be taken; nothing if it can.
    pub(super) fn unguarded(&self, policy: &Policy) -> Option<String> {
        let listed = &policy.governor().exec;
        let own = self.host.daemon;
        if listed.is_empty() {
            return self.armed.then(|| {
                format!(
                    "the gate is armed and the policy lists no daemon: list a set with the digest \
                     `{own}` in `exec` under [governor]"
                )
            });
        }
        (!listed.contains(&own)).then(|| {
            format!(
                "`exec` under [governor] does not list this daemon, which would be shut out of its own \
                 gate: add the digest `{own}` to one of its sets (`governor measure /usr/bin/governor`)"
            )
        })
    }

    /// Arms the guard with what the policy lists, if it lists a daemon.
    pub(super) fn guard(&mut self, policy: &Policy) -> Option<Effect> {
        let listed = policy.governor();
        if listed.exec.is_empty() {
            return None;
        }
        self.armed = true;
        Some(Effect::Guard(Box::new(Guard {
            daemon: listed.exec.clone(),
            libraries: listed.libraries.clone(),
            modules: listed.modules.clone(),
            kexec: listed.kexec.clone(),
        })))
    }
}
