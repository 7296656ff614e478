//! Names of the protocol's enums, for people and for `--json`, and how its values become JSON.
//!
//! Promises: enums are printed by name and bytes as hexadecimal; a number that this version does
//! not know is `unspecified`, never a guess.

use serde::Serializer;

use super::proto;

macro_rules! names {
    ($($function:ident: $name:ident { $($variant:ident = $text:literal),+ $(,)? })+) => {
        $(
            impl proto::$name {
                /// The name used in output.
                pub const fn name(self) -> &'static str {
                    match self {
                        Self::Unspecified => "unspecified",
                        $(Self::$variant => $text,)+
                    }
                }
            }

            pub(crate) fn $function<S: Serializer>(raw: &i32, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(proto::$name::try_from(*raw).unwrap_or_default().name())
            }
        )+
    };
}

names! {
    trust_state: TrustState {
        Unattested = "unattested", Trusted = "trusted", Degraded = "degraded", Locked = "locked",
    }
    enforcement_level: EnforcementLevel { Full = "full", Partial = "partial", None = "none" }
    hook_state: HookState { Proved = "proved", Attached = "attached", Missing = "missing" }
    zone_mode: ZoneMode { Enforce = "enforce", Observe = "observe", ObserveFor = "observe-for" }
    requires: Requires { Attestation = "attestation", Policy = "policy" }
    on_revoke: OnRevoke {
        Deny = "deny", Freeze = "freeze", Quarantine = "quarantine", Kill = "kill",
    }
    stop: Stop { Bar = "bar", Freeze = "freeze", Quarantine = "quarantine", Kill = "kill" }
    verdict: Verdict { Allow = "allow", Deny = "deny", WouldDeny = "would-deny" }
}

impl proto::Protocol {
    /// The name used in output and in policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

pub(crate) fn hex<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&::hex::encode(bytes))
}
