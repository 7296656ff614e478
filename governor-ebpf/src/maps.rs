//! The maps, and the few ways in which the programs touch them.
//!
//! Values that user space may replace at any time are copied out word by word; a row's key is
//! copied last, so that an element reused during the copy shows another key and is refused by the
//! verdict.

use core::{arch::asm, ffi::c_void, ptr};

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, PerCpuArray, RingBuf},
    helpers::generated::bpf_map_lookup_elem,
    macros::btf_map,
};
use governor_common::{
    Event, Row, RowKey, Signal,
    facts::same,
    guard::{GUARD_WORDS, GuardWord, ListedKey, ProtectedKey},
    names::{
        CGROUP_ROWS, COUNT_SLOTS, EGRESS_ROWS, LISTED_ROWS, PROTECTED_ROWS, RING_BYTES, SCOPE_ZONE,
        TOMBSTONE_ROWS, ZONE_PATH_LEN, ZONE_PATH_ROWS,
    },
    net::{EgressKey, EgressRow},
    row::{ROLE_SOCKET, TombstoneKey},
    signal::{SIGNAL_ANY, SIGNAL_SLOTS},
    state::{WORDS, Word, is_edition},
};

/// The template of the table's inner map. The daemon makes each inner map as large as the rows it
/// holds; the kernel compares everything but the size.
///
/// The value is a row as plain words: Linux 6.1 takes a map that user space made without type
/// information for a different one if the template's value is a structure.
type Rows = HashMap<RowKey, [u64; ROW_WORDS], 1>;

#[btf_map]
static TABLE: ArrayOfMaps<Rows, 1> = ArrayOfMaps::new();
#[btf_map]
static STATE: Array<u64, { WORDS as usize }> = Array::new();
#[btf_map]
static TRIPS: Array<u64, 1> = Array::new();
#[btf_map]
static SIGNALS: Array<u64, { SIGNAL_SLOTS as usize }> = Array::new();
/// User space alone writes and reads it; it is here so that it is made and pinned with the others.
#[btf_map]
static HANDLED: Array<u64, { SIGNAL_SLOTS as usize }> = Array::new();
#[btf_map]
static GUARD: Array<u64, { GUARD_WORDS as usize }> = Array::new();
#[btf_map]
static PROTECTED: HashMap<ProtectedKey, u32, { PROTECTED_ROWS as usize }> = HashMap::new();
#[btf_map]
static LISTED: HashMap<ListedKey, u32, { LISTED_ROWS as usize }> = HashMap::new();
#[btf_map]
static EXECS: Array<u64, 1> = Array::new();
#[btf_map]
static TOMBSTONES: HashMap<TombstoneKey, u64, { TOMBSTONE_ROWS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static CGROUPS: HashMap<u64, u32, { CGROUP_ROWS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static ZONE_PATHS: HashMap<[u8; ZONE_PATH_LEN], u32, { ZONE_PATH_ROWS as usize }> =
    HashMap::new();
#[btf_map]
pub(crate) static EGRESS: LpmTrie<EgressKey, EgressRow, { EGRESS_ROWS as usize }> = LpmTrie::new();
#[btf_map]
pub(crate) static DENIALS: RingBuf<Event, { RING_BYTES as usize }> = RingBuf::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, { RING_BYTES as usize }> = RingBuf::new();
#[btf_map]
static COUNTS: PerCpuArray<u64, { COUNT_SLOTS as usize }> = PerCpuArray::new();

/// The table in force. Taken once per verdict, so that a verdict sees one table whole.
#[derive(Clone, Copy)]
pub(crate) struct Table(*mut c_void);

impl Table {
    #[inline(always)]
    pub(crate) fn in_force() -> Option<Self> {
        TABLE
            .get(0)
            .map(|inner| Self(ptr::from_ref(inner).cast_mut().cast()))
    }

    /// Whether there is a row of `key`.
    #[inline(always)]
    pub(crate) fn has(self, key: &Key) -> bool {
        self.found(key).is_some()
    }

    /// Of the row that describes a zone; `None` when there is none.
    #[inline(always)]
    pub(crate) fn zone(self, zone: u32) -> Option<ZoneRow> {
        let row: *const Row = self.found(&Key::of_zone(zone))?.cast();
        // SAFETY: a map element.
        unsafe { ZoneRow::of(row, zone) }
    }

    /// The roles in the row of `key`; none when there is none, or another by now.
    #[inline(always)]
    fn roles(self, key: &Key) -> u32 {
        let Some(found) = self.found(key) else {
            return 0;
        };
        let row: *const Row = found.cast();
        // SAFETY: a map element, read word by word and the key last.
        let (roles, zone, scope) = unsafe {
            let roles = (&raw const (*row).roles).read_volatile();
            let zone = (&raw const (*row).key.zone).read_volatile();
            let scope = (&raw const (*row).key.scope).read_volatile();
            (roles, zone, scope)
        };
        let mut digest = [0; 4];
        // SAFETY: as above.
        let words: *const u64 = unsafe { (&raw const (*row).key.digest).cast() };
        copy_words(words, digest.as_mut_ptr(), 0, 4);
        if zone == key.zone && scope == key.scope && same(&digest, &key.digest) {
            roles
        } else {
            0
        }
    }

    /// The generation of the row of `key`, if that is a socket's.
    #[inline(always)]
    fn names(self, key: &Key) -> u32 {
        let Some(found) = self.found(key) else {
            return 0;
        };
        let row: *const Row = found.cast();
        // SAFETY: a map element. What is read before the key is that key's, or of none: see `roles`.
        let generation = unsafe { (&raw const (*row).generation).read_volatile() };
        if self.roles(key) & ROLE_SOCKET != 0 {
            generation
        } else {
            0
        }
    }

    /// Copies the row of `key` to `into`; leaves `into` alone when there is none.
    #[inline(always)]
    pub(crate) fn copy(self, key: &Key, into: *mut Row) {
        let Some(found) = self.found(key) else {
            return;
        };
        // Ascending from behind the key, then the key: a writer fills an element from its start.
        copy_words(found.cast(), into.cast(), KEY_WORDS, ROW_WORDS);
        copy_words(found.cast(), into.cast(), 0, KEY_WORDS);
    }

    #[inline(always)]
    fn found(self, key: &Key) -> Option<*const c_void> {
        // SAFETY: an inner map's pointer and a key of its type; the verifier checks both.
        let found = unsafe { bpf_map_lookup_elem(self.0, ptr::from_ref(key).cast_mut().cast()) };
        if found.is_null() {
            None
        } else {
            Some(found.cast_const())
        }
    }
}

/// What a verdict needs of a zone's own row.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ZoneRow {
    pub(crate) families: u64,
    pub(crate) observe_until: u64,
    pub(crate) mode: u32,
    pub(crate) class: u32,
    pub(crate) memory: u32,
}

impl ZoneRow {
    /// Read field by field, each whole, and the key last; `None` if the row is another.
    ///
    /// # Safety
    /// `row` is one, in a map or a copy.
    #[inline(always)]
    pub(crate) unsafe fn of(row: *const Row, zone: u32) -> Option<Self> {
        // SAFETY: as the caller says.
        let this = unsafe {
            Self {
                families: (&raw const (*row).families).read_volatile(),
                observe_until: (&raw const (*row).observe_until).read_volatile(),
                mode: (&raw const (*row).mode).read_volatile(),
                class: (&raw const (*row).class).read_volatile(),
                memory: (&raw const (*row).memory).read_volatile(),
            }
        };
        // SAFETY: as above.
        let (key_zone, scope) = unsafe {
            (
                (&raw const (*row).key.zone).read_volatile(),
                (&raw const (*row).key.scope).read_volatile(),
            )
        };
        if key_zone == zone && scope == SCOPE_ZONE {
            Some(this)
        } else {
            None
        }
    }
}

/// A row's key, and with a scope of zero a tombstone's: the digest in words, so that it is copied so.
#[repr(C)]
pub(crate) struct Key {
    pub(crate) zone: u32,
    pub(crate) scope: u32,
    pub(crate) digest: [u64; 4],
}

const _: () = assert!(size_of::<Key>() == size_of::<RowKey>());
const _: () = assert!(size_of::<Key>() == size_of::<TombstoneKey>());

impl Key {
    /// Of the row that describes the zone.
    #[inline(always)]
    pub(crate) const fn of_zone(zone: u32) -> Self {
        Self {
            zone,
            scope: SCOPE_ZONE,
            digest: [0; 4],
        }
    }
}

const KEY_WORDS: usize = size_of::<RowKey>() / 8;
const ROW_WORDS: usize = size_of::<Row>() / 8;

/// Word by word, each read whole. Both hold `end` aligned words.
#[inline(always)]
pub(crate) fn copy_words(from: *const u64, to: *mut u64, first: usize, end: usize) {
    let mut i = first;
    while i < end {
        // SAFETY: the callers hold it so, and the verifier checks both.
        unsafe { to.add(i).write(from.add(i).read_volatile()) };
        i += 1;
    }
}

/// One word of the state; `None` only if the map is not what it should be.
#[inline(always)]
pub(crate) fn state(word: Word) -> Option<u64> {
    // SAFETY: a map element, read whole.
    STATE
        .get(word as u32)
        .map(|value| unsafe { ptr::from_ref(value).read_volatile() })
}

/// The edition of table and tombstones; zero: one that nothing is kept of.
#[inline(always)]
pub(crate) fn edition() -> u64 {
    match state(Word::Edition) {
        Some(edition) if is_edition(edition) => edition,
        Some(_) | None => 0,
    }
}

/// The kernel's own alarm counter.
#[inline(always)]
pub(crate) fn trips() -> Option<u64> {
    // SAFETY: a map element, read whole.
    TRIPS
        .get(0)
        .map(|value| unsafe { ptr::from_ref(value).read_volatile() })
}

/// Raises the alarm counter: no lease that was granted holds any more.
#[inline(always)]
pub(crate) fn trip() {
    if let Some(word) = TRIPS.get(0) {
        fetch_add(ptr::from_ref(word).cast_mut(), 1);
    }
}

/// Counts a signal, and after it that there was one: whoever sees that finds the count.
#[inline(always)]
pub(crate) fn signal(signal: Signal) {
    for slot in [signal as u32, SIGNAL_ANY] {
        if let Some(word) = SIGNALS.get(slot) {
            fetch_add(ptr::from_ref(word).cast_mut(), 1);
        }
    }
}

/// One word of the guard's; zero also when the map is not what it should be.
#[inline(always)]
pub(crate) fn guard(word: GuardWord) -> u64 {
    match GUARD.get(word as u32) {
        // SAFETY: a map element, read whole.
        Some(value) => unsafe { ptr::from_ref(value).read_volatile() },
        None => 0,
    }
}

/// Stores one of the guard's words that the programs write.
#[inline(always)]
pub(crate) fn set_guard(word: GuardWord, value: u64) {
    if let Some(slot) = GUARD.get(word as u32) {
        // SAFETY: a map element, written whole.
        unsafe { ptr::from_ref(slot).cast_mut().write_volatile(value) };
    }
}

/// Whether an object is the gate's own, or one it leans on.
#[inline(always)]
pub(crate) fn protected(kind: u32, dev: u32, id: u64) -> bool {
    PROTECTED.get_ptr(&ProtectedKey { kind, dev, id }).is_some()
}

/// Which reload let a workload reach a socket of this name; zero: none did.
#[inline(always)]
pub(crate) fn names(zone: u32, workload: u32, name: &[u64; 4]) -> u32 {
    let key = Key {
        zone,
        scope: workload,
        digest: *name,
    };
    match Table::in_force() {
        Some(table) => table.names(&key),
        None => 0,
    }
}

/// Whether policy lists this content for the host itself.
#[inline(always)]
pub(crate) fn listed(kind: u32, digest: &[u8; 32]) -> bool {
    let key = ListedKey {
        kind,
        reserved: 0,
        digest: *digest,
    };
    LISTED.get_ptr(&key).is_some()
}

/// The zone bound to a cgroup's id; zero: none.
#[inline(always)]
pub(crate) fn zone_of(id: u64) -> u32 {
    match CGROUPS.get_ptr(&id) {
        // SAFETY: a map element, read whole.
        Some(zone) => unsafe { zone.read_volatile() },
        None => 0,
    }
}

/// Whether a tombstone stands on this content in this zone.
#[inline(always)]
pub(crate) fn tombstone(zone: u32, digest: &[u64; 4]) -> bool {
    let key = Key {
        zone,
        scope: 0,
        digest: *digest,
    };
    let key: *const TombstoneKey = ptr::from_ref(&key).cast();
    // SAFETY: as large as a tombstone's key and laid out alike.
    TOMBSTONES.get_ptr(unsafe { &*key }).is_some()
}

/// An execution's number: unique since boot, never zero, and kept over an upgrade of the programs.
#[inline(always)]
pub(crate) fn next_execution() -> Option<u64> {
    let word = EXECS.get(0)?;
    Some(fetch_add(ptr::from_ref(word).cast_mut(), 1) + 1)
}

/// Adds one to a counter.
#[inline(always)]
pub(crate) fn count(slot: u32) {
    if let Some(word) = COUNTS.get(slot) {
        // Atomic, for a sleepable program can be preempted between load and store.
        fetch_add(ptr::from_ref(word).cast_mut(), 1);
    }
}

/// Sets bits, as [`fetch_add`] adds.
#[inline(always)]
pub(crate) fn fetch_or(word: *mut u64, bits: u64) -> u64 {
    let mut value = bits;
    // SAFETY: one instruction on an aligned word of a map element.
    unsafe {
        asm!(
            "{value} = atomic_fetch_or((u64 *)({word} + 0), {value})",
            word = in(reg) word,
            value = inout(reg) value,
        );
    }
    value
}

/// Adds, whole and in order with everything around it; what was there before. The target has atomic
/// instructions, but `core` offers none for it.
#[inline(always)]
pub(crate) fn fetch_add(word: *mut u64, summand: u64) -> u64 {
    let mut value = summand;
    // SAFETY: one instruction on an aligned word of a map element.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
            word = in(reg) word,
            value = inout(reg) value,
        );
    }
    value
}
