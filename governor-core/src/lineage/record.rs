//! The records, as protobuf messages (proto3 wire format; field numbers are never reused).
//!
//! The messages are the same whoever writes them; `Entry` wraps each with its place and its clocks.
//! Anything untrusted is kept as bytes.

use prost::{Message, Oneof};

use super::{Lost, Reached, Start};

/// One record of the ledger.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// Layout of this message; 1.
    #[prost(uint32, tag = "1")]
    pub schema: u32,
    /// Position in the ledger, from 0.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// The kernel's boot id, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub boot_id: Vec<u8>,
    /// CLOCK_BOOTTIME nanoseconds.
    #[prost(uint64, tag = "4")]
    pub boot_ns: u64,
    /// Seconds since 1970, as the wall clock had it.
    #[prost(int64, tag = "5")]
    pub wall: i64,
    #[prost(
        oneof = "Kind",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 30, 31, 32, 33, 34, 35, 36, 37, 38, 40, 41"
    )]
    pub kind: Option<Kind>,
}

/// What happened.
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    #[prost(message, tag = "10")]
    Start(Start),
    #[prost(message, tag = "11")]
    PolicyLoaded(PolicyLoaded),
    #[prost(message, tag = "12")]
    PolicyRefused(PolicyRefused),
    #[prost(message, tag = "13")]
    Appraisal(Appraisal),
    #[prost(message, tag = "14")]
    TrustChange(TrustChange),
    #[prost(message, tag = "15")]
    Grant(Grant),
    #[prost(message, tag = "16")]
    Revocation(Revocation),
    #[prost(message, tag = "17")]
    Verdict(VerdictRecord),
    #[prost(message, tag = "18")]
    Gap(Gap),
    #[prost(message, tag = "19")]
    ModeChange(ModeChange),
    /// Effects that could not be carried out.
    #[prost(message, tag = "20")]
    Lost(Lost),
    #[prost(message, tag = "21")]
    Refusal(Refusal),
    /// The kernel counted something done to the gate.
    #[prost(message, tag = "30")]
    Signalled(Signalled),
    /// An operator cleared what locked the host.
    #[prost(message, tag = "31")]
    Unlocked(Unlocked),
    /// This ledger follows another that can be used no more. Always the first record, and the next ones where
    /// one has no room for everything.
    #[prost(message, tag = "32")]
    Begun(Box<Begun>),
    /// A workload did something more often than policy lets it, and was stopped.
    #[prost(message, tag = "33")]
    RiskMet(RiskMet),
    #[prost(message, tag = "34")]
    Held(Held),
    #[prost(message, tag = "35")]
    Resumed(Resumed),
    #[prost(message, tag = "36")]
    Disarmed(Disarmed),
    /// When a policy was put in force.
    #[prost(message, tag = "37")]
    Unlabelled(Unlabelled),
    /// Running copies that could not be stopped before were.
    #[prost(message, tag = "38")]
    Reached(Reached),
    #[prost(message, tag = "40")]
    GlassBroken(GlassBroken),
    #[prost(message, tag = "41")]
    GlassEnded(GlassEnded),
}

/// A signed policy was accepted. One of many names takes several of these, in one batch, which differ only in
/// the names that they list.
#[derive(Clone, PartialEq, Message)]
pub struct PolicyLoaded {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "2")]
    pub serial: u64,
    /// SHA-256 of its SHA256SUMS.
    #[prost(bytes = "vec", tag = "3")]
    pub digest: Vec<u8>,
    /// Fingerprints of the keys that signed it.
    #[prost(string, repeated, tag = "4")]
    pub signers: Vec<String>,
    /// Numbers of the zones that it has, given for as long as this ledger lives. Earlier versions list
    /// every zone that any policy had.
    #[prost(message, repeated, tag = "5")]
    pub zones: Vec<Named>,
    /// Numbers of its workloads, by `zone/workload`; as above.
    #[prost(message, repeated, tag = "6")]
    pub workloads: Vec<Named>,
    /// Who asked: uid of the caller; absent when the daemon reloaded what it had accepted before.
    #[prost(uint32, optional, tag = "7")]
    pub uid: Option<u32>,
}

/// A name and the number the kernel knows it by.
#[derive(Clone, PartialEq, Message)]
pub struct Named {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub number: u32,
    /// What running copies get once no policy names it any more, as the last policy that did said:
    /// 1 nothing, 2 frozen, 3 quarantined, 4 killed; 0: nobody said.
    #[prost(uint32, tag = "3")]
    pub on_revoke: u32,
    /// Of a zone: whether what runs there needs a lease, as the last policy that had it said: 1 it does not,
    /// or the zone is only observed, 2 it does; 0: nobody said, as of workloads and by earlier versions.
    #[prost(uint32, tag = "4")]
    pub leased: u32,
}

/// A policy was refused; nothing changed.
#[derive(Clone, PartialEq, Message)]
pub struct PolicyRefused {
    #[prost(string, tag = "1")]
    pub why: String,
    /// SHA-256 of the SHA256SUMS that was offered, if there was one.
    #[prost(bytes = "vec", tag = "2")]
    pub digest: Vec<u8>,
    #[prost(uint32, optional, tag = "3")]
    pub uid: Option<u32>,
}

/// A quote was appraised.
#[derive(Clone, PartialEq, Message)]
pub struct Appraisal {
    /// SHA-256 over the evidence as received.
    #[prost(bytes = "vec", tag = "1")]
    pub evidence: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub nonce: Vec<u8>,
    #[prost(bool, tag = "3")]
    pub accepted: bool,
    /// Why it was rejected.
    #[prost(string, tag = "4")]
    pub reason: String,
    /// End of the lease granted on it, CLOCK_BOOTTIME nanoseconds; 0: none.
    #[prost(uint64, tag = "5")]
    pub lease_deadline: u64,
    #[prost(uint64, tag = "6")]
    pub trips: u64,
    #[prost(uint64, tag = "7")]
    pub epoch: u64,
    /// Ledger size and head that the quote's extraData binds.
    #[prost(uint64, tag = "8")]
    pub ledger_size: u64,
    #[prost(bytes = "vec", tag = "9")]
    pub ledger_head: Vec<u8>,
    /// TPMS_ATTEST and TPMT_SIGNATURE as received, so that the appraisal can be made again.
    #[prost(bytes = "vec", tag = "10")]
    pub quote: Vec<u8>,
    #[prost(bytes = "vec", tag = "11")]
    pub signature: Vec<u8>,
    /// TPMT_PUBLIC of the attestation key.
    #[prost(bytes = "vec", tag = "12")]
    pub ak_public: Vec<u8>,
    /// The quoted registers: number and value, 33 bytes each.
    #[prost(bytes = "vec", tag = "13")]
    pub pcrs: Vec<u8>,
    /// The TPM's clock as the quote signs it, so that a restart goes on comparing.
    #[prost(message, optional, tag = "14")]
    pub clock: Option<TpmClock>,
    /// If it was accepted: how much of the boot time the host had slept through when that was last looked
    /// at before, nanoseconds. Absent: an earlier version wrote it.
    #[prost(uint64, optional, tag = "15")]
    pub slept: Option<u64>,
}

/// The TPM's clock at a quote.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TpmClock {
    /// Name of the key that signed; counters of two keys cannot be compared.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Milliseconds powered.
    #[prost(uint64, tag = "2")]
    pub clock: u64,
    #[prost(uint32, tag = "3")]
    pub resets: u32,
    #[prost(uint32, tag = "4")]
    pub restarts: u32,
    #[prost(bool, tag = "5")]
    pub safe: bool,
}

/// Trust moved.
#[derive(Clone, PartialEq, Message)]
pub struct TrustChange {
    #[prost(string, tag = "1")]
    pub from: String,
    #[prost(string, tag = "2")]
    pub to: String,
    #[prost(string, repeated, tag = "3")]
    pub reasons: Vec<String>,
}

/// A table was put in force (this record was durable before it was).
#[derive(Clone, PartialEq, Message)]
pub struct Grant {
    /// SHA-256 over the rows, in order, as the kernel reads them.
    #[prost(bytes = "vec", tag = "1")]
    pub table: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub rows: u32,
    #[prost(uint32, tag = "3")]
    pub generation: u32,
    #[prost(bytes = "vec", tag = "4")]
    pub policy: Vec<u8>,
    #[prost(uint64, tag = "5")]
    pub epoch_attested: u64,
    #[prost(uint64, tag = "6")]
    pub epoch_policy: u64,
}

/// Authorizations were taken back (the kernel had done it before this was written).
#[derive(Clone, PartialEq, Message)]
pub struct Revocation {
    /// What was revoked, as the operator or the cause names it.
    #[prost(string, tag = "1")]
    pub target: String,
    #[prost(string, tag = "2")]
    pub cause: String,
    #[prost(message, repeated, tag = "3")]
    pub tombstones: Vec<TombstoneRecord>,
    #[prost(uint32, optional, tag = "4")]
    pub uid: Option<u32>,
}

/// A tombstone, durable for the life of the ledger.
#[derive(Clone, PartialEq, Message)]
pub struct TombstoneRecord {
    #[prost(uint32, tag = "1")]
    pub zone: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub digest: Vec<u8>,
}

/// A verdict of the kernel, with all it was made from.
#[derive(Clone, PartialEq, Message)]
pub struct VerdictRecord {
    /// The event's bytes as they left the ring.
    #[prost(bytes = "vec", tag = "1")]
    pub event: Vec<u8>,
}

/// Something that should stand here does not.
#[derive(Clone, PartialEq, Message)]
pub struct Gap {
    #[prost(string, tag = "1")]
    pub what: String,
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// A zone was relaxed or went back.
#[derive(Clone, PartialEq, Message)]
pub struct ModeChange {
    #[prost(string, tag = "1")]
    pub zone: String,
    #[prost(string, tag = "2")]
    pub mode: String,
    /// CLOCK_BOOTTIME nanoseconds at which it goes back; 0: it went back.
    #[prost(uint64, tag = "3")]
    pub until: u64,
    #[prost(uint32, optional, tag = "4")]
    pub uid: Option<u32>,
}

/// An operator asked for something that was not done.
#[derive(Clone, PartialEq, Message)]
pub struct Refusal {
    #[prost(string, tag = "1")]
    pub asked: String,
    #[prost(string, tag = "2")]
    pub why: String,
    #[prost(uint32, optional, tag = "3")]
    pub uid: Option<u32>,
}

/// Something done, or tried, to the gate itself.
#[derive(Clone, PartialEq, Message)]
pub struct Signalled {
    #[prost(string, tag = "1")]
    pub signal: String,
    /// How often since it was last written down.
    #[prost(uint64, tag = "2")]
    pub count: u64,
    /// It voided the lease.
    #[prost(bool, tag = "3")]
    pub alarm: bool,
}

/// The gate was taken down (this record was durable before it was).
#[derive(Clone, PartialEq, Message)]
pub struct Disarmed {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(uint32, optional, tag = "2")]
    pub uid: Option<u32>,
    /// The registers that were extended; none: no evidence was asked for since the gate was made.
    #[prost(uint32, repeated, tag = "3")]
    pub pcrs: Vec<u32>,
}

/// A lock that an operator ended.
#[derive(Clone, PartialEq, Message)]
pub struct Unlocked {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(uint32, optional, tag = "2")]
    pub uid: Option<u32>,
    /// The causes that it cleared, by code.
    #[prost(string, repeated, tag = "3")]
    pub cleared: Vec<String>,
}

/// What went before this ledger, and what of it goes on. Where there are several they differ only in names
/// and tombstones.
#[derive(Clone, PartialEq, Message)]
pub struct Begun {
    /// What was wrong with the old one.
    #[prost(string, tag = "1")]
    pub why: String,
    /// The last size and head that were known of it.
    #[prost(uint64, tag = "2")]
    pub size: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub head: Vec<u8>,
    /// Highest serial accepted, with its digest; 0: none known.
    #[prost(uint64, tag = "4")]
    pub serial: u64,
    #[prost(bytes = "vec", tag = "5")]
    pub policy: Vec<u8>,
    #[prost(message, repeated, tag = "6")]
    pub zones: Vec<Named>,
    #[prost(message, repeated, tag = "7")]
    pub workloads: Vec<Named>,
    #[prost(message, repeated, tag = "8")]
    pub tombstones: Vec<TombstoneRecord>,
    #[prost(bool, tag = "9")]
    pub revoked_all: bool,
    #[prost(uint32, tag = "10")]
    pub generation: u32,
    /// The highest numbers of zones and workloads that the kernel still held, whose names the old one
    /// may have taken with it.
    #[prost(uint32, tag = "11")]
    pub zones_taken: u32,
    #[prost(uint32, tag = "12")]
    pub workloads_taken: u32,
    /// There is a file beside it that keeps a lock of which no record can be written.
    #[prost(bool, tag = "13")]
    pub keeps_locks: bool,
}

/// A `[risk]` of the policy that a workload met.
#[derive(Clone, PartialEq, Message)]
pub struct RiskMet {
    #[prost(string, tag = "1")]
    pub risk: String,
    #[prost(uint32, tag = "2")]
    pub zone: u32,
    #[prost(uint32, tag = "3")]
    pub workload: u32,
    /// What was done to it: the strictest of zone, workload and risk.
    #[prost(string, tag = "4")]
    pub action: String,
    /// How many there were in how many nanoseconds.
    #[prost(uint64, tag = "5")]
    pub count: u64,
    #[prost(uint64, tag = "6")]
    pub within: u64,
}

/// Running copies were paused, quarantined or killed by hand (they were before this was written).
#[derive(Clone, PartialEq, Message)]
pub struct Held {
    /// What was held, as the operator names it.
    #[prost(string, tag = "1")]
    pub target: String,
    /// `pause`, `quarantine` or `kill`.
    #[prost(string, tag = "2")]
    pub grip: String,
    #[prost(string, tag = "3")]
    pub reason: String,
    #[prost(uint32, optional, tag = "4")]
    pub uid: Option<u32>,
}

/// What ran in a zone and carried no label: nobody had judged it there.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Unlabelled {
    /// Empty: below the governed slice, in no zone of the policy.
    #[prost(string, tag = "1")]
    pub zone: String,
    #[prost(uint32, tag = "2")]
    pub processes: u32,
    /// SHA-256 of what they run, each once, of those that could be read; at most 64.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub digests: Vec<Vec<u8>>,
    /// What policy says that is done to it, ordered before this record: `pause` or `kill`. Empty: nothing, or it
    /// was said before.
    #[prost(string, tag = "4")]
    pub grip: String,
}

/// Running copies may go on (this record was durable before they did).
#[derive(Clone, PartialEq, Message)]
pub struct Resumed {
    #[prost(string, tag = "1")]
    pub target: String,
    #[prost(string, tag = "2")]
    pub reason: String,
    /// Absent: trust returned, and policy says that this is enough.
    #[prost(uint32, optional, tag = "3")]
    pub uid: Option<u32>,
}

/// Somebody had denials lifted (this record was durable before they were, unless nothing could be made
/// durable).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GlassBroken {
    #[prost(string, tag = "1")]
    pub reason: String,
    /// CLOCK_BOOTTIME nanoseconds at which it ends.
    #[prost(uint64, tag = "2")]
    pub until: u64,
    /// Absent: only the kernel remembered it.
    #[prost(uint32, optional, tag = "3")]
    pub uid: Option<u32>,
    /// Fingerprint of the key that signed.
    #[prost(string, tag = "4")]
    pub key: String,
}

/// Denials are not lifted any more (they were not before this was written).
#[derive(Clone, PartialEq, Message)]
pub struct GlassEnded {
    #[prost(string, tag = "1")]
    pub why: String,
    /// CLOCK_BOOTTIME nanoseconds at which it ended, as the kernel keeps it; 0: not in this boot.
    #[prost(uint64, tag = "2")]
    pub at: u64,
    /// Absent: nobody had to ask.
    #[prost(uint32, optional, tag = "3")]
    pub uid: Option<u32>,
}
