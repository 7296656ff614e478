//! The records, as protobuf messages (proto3 wire format; field numbers are never reused).
//!
//! The messages are the same whoever writes them; `Entry` wraps each with its place and its clocks.
//! Anything untrusted is kept as bytes.

use prost::{Message, Oneof};

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
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21"
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
    /// An effect that could not be carried out.
    #[prost(message, tag = "20")]
    Lost(Lost),
    #[prost(message, tag = "21")]
    Refusal(Refusal),
}

/// The daemon started.
#[derive(Clone, PartialEq, Message)]
pub struct Start {
    #[prost(string, tag = "1")]
    pub version: String,
    /// `fresh`, `adopted` or `upgraded`: what it found pinned.
    #[prost(string, tag = "2")]
    pub gate: String,
    /// SHA-256 of the kernel object it carries.
    #[prost(bytes = "vec", tag = "3")]
    pub object: Vec<u8>,
}

/// A signed policy was accepted.
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
    /// Numbers given to zone names, for as long as this ledger lives.
    #[prost(message, repeated, tag = "5")]
    pub zones: Vec<Named>,
    /// Numbers given to `zone/workload` names.
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

/// An effect failed.
#[derive(Clone, PartialEq, Message)]
pub struct Lost {
    #[prost(string, tag = "1")]
    pub effect: String,
    #[prost(string, tag = "2")]
    pub error: String,
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
