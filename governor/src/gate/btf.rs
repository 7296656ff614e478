//! The running kernel's type information: where fields are, and which hooks exist.
//!
//! Promises: an offset is returned only for a field that exists under that name with the size the
//! programs load; anything else is an error that names structure and field.
//! Reads `/sys/kernel/btf/vmlinux` once and looks names up in it by going through: a table of a hundred
//! thousand names would cost more memory than all else. Never guesses, never falls back to a built-in table.

use std::fs;

use super::GateError;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;

/// The kernel's types.
#[derive(Debug)]
pub(super) struct Types {
    data: Vec<u8>,
    strings: usize,
    /// Where each type starts in `data`; index 0 is `void`.
    starts: Vec<u32>,
}

impl Types {
    pub(super) fn of_running_kernel() -> Result<Self, GateError> {
        let data = fs::read(VMLINUX).map_err(|error| GateError::Read {
            path: VMLINUX.into(),
            error,
        })?;
        Self::parse(data)
            .ok_or_else(|| GateError::Btf(format!("`{VMLINUX}` is not readable as BTF")))
    }

    /// The offset of `field` (dots step into named structures) in `structure`.
    pub(super) fn offset(
        &self,
        structure: &str,
        field: &str,
        size: FieldSize,
    ) -> Result<u64, GateError> {
        let missing = || GateError::Btf(format!("this kernel has no field `{structure}.{field}`"));
        let mut id = self.find(STRUCT, structure).ok_or_else(missing)?;
        let mut bits = 0_u32;
        let mut left = MAX_MEMBERS;
        for part in field.split('.') {
            let member = self.member(id, part, 0, &mut left).ok_or_else(missing)?;
            bits = bits.checked_add(member.bits).ok_or_else(missing)?;
            id = member.type_id;
        }
        let actual = self.size(id, 0).ok_or_else(missing)?;
        let fits = match size {
            FieldSize::Exactly(expected) => actual == expected,
            FieldSize::AtLeast(least) => actual >= least,
        };
        if !fits || !bits.is_multiple_of(8) {
            return Err(GateError::Btf(format!(
                "field `{structure}.{field}` has {actual} bytes, which is not what the programs read ({size:?})"
            )));
        }
        Ok(u64::from(bits / 8))
    }

    /// The number of `name` in the enumeration `enumeration`.
    pub(super) fn enumerator(&self, enumeration: &str, name: &str) -> Result<u64, GateError> {
        let found = || {
            let header = self.header(self.find(ENUM, enumeration)?)?;
            (0..header.count as usize).find_map(|index| {
                let at = header.at + 12 + 8 * index;
                let named = self.is_named(word(&self.data, at)?, name.as_bytes());
                if named {
                    word(&self.data, at + 4)
                } else {
                    None
                }
            })
        };
        found().map(u64::from).ok_or_else(|| {
            GateError::Btf(format!(
                "this kernel has no `{name}` in `enum {enumeration}`"
            ))
        })
    }

    /// How many arguments the function takes; `None`: there is no such function.
    pub(super) fn arguments(&self, function: &str) -> Option<u32> {
        let id = self.find(FUNC, function)?;
        let prototype = self.header(self.header(id)?.size_or_type)?;
        (prototype.kind == FUNC_PROTO).then_some(prototype.count)
    }

    pub(super) fn has_tracepoint(&self, name: &str) -> bool {
        self.find(TYPEDEF, &format!("btf_trace_{name}")).is_some()
    }

    /// Whether a program at a security hook is called also while the same program runs on the same
    /// CPU: a kernel that leaves it out lets through whatever the second call was about. The functions
    /// that check for this got a suffix when programs at security hooks stopped using them.
    pub(super) fn runs_every_program(&self) -> bool {
        self.find(FUNC, "__bpf_prog_enter_sleepable_recur")
            .is_some()
    }

    /// The first type of that kind and name.
    fn find(&self, kind: u32, name: &str) -> Option<u32> {
        (1..u32::try_from(self.starts.len()).ok()?).find(|id| {
            self.header(*id).is_some_and(|header| {
                header.kind == kind && self.is_named(header.name, name.as_bytes())
            })
        })
    }

    fn is_named(&self, offset: u32, name: &[u8]) -> bool {
        self.data
            .get(self.strings + offset as usize..)
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    pub(super) fn parse(data: Vec<u8>) -> Option<Self> {
        if u16::from_le_bytes(data.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header = word(&data, 4)? as usize;
        let types = header + word(&data, 8)? as usize;
        let end = types + word(&data, 12)? as usize;
        let strings = header + word(&data, 16)? as usize;
        let mut this = Self {
            data,
            strings,
            starts: vec![0],
        };
        let mut at = types;
        while at < end {
            this.starts.push(u32::try_from(at).ok()?);
            let id = u32::try_from(this.starts.len() - 1).ok()?;
            at += 12 + this.header(id)?.trailing()?;
        }
        Some(this)
    }

    fn header(&self, id: u32) -> Option<Header> {
        let at = *self.starts.get(id as usize).filter(|at| **at != 0)? as usize;
        let info = word(&self.data, at + 4)?;
        Some(Header {
            at,
            name: word(&self.data, at)?,
            kind: (info >> 24) & 0x1f,
            bitfields: info >> 31 == 1,
            count: info & 0xffff,
            size_or_type: word(&self.data, at + 8)?,
        })
    }

    /// Nameless members are searched too. `left` counts down over a whole question: types that hold
    /// each other would otherwise be gone through once for each way there is through them.
    fn member(&self, id: u32, wanted: &str, depth: u32, left: &mut u32) -> Option<Member> {
        let header = self.header(self.strip(id)?)?;
        if !matches!(header.kind, STRUCT | UNION) || depth > MAX_DEPTH {
            return None;
        }
        for index in 0..header.count as usize {
            *left = left.checked_sub(1)?;
            let at = header.at + 12 + 12 * index;
            let type_id = word(&self.data, at + 4)?;
            let raw = word(&self.data, at + 8)?;
            let bits = if header.bitfields {
                raw & 0xff_ffff
            } else {
                raw
            };
            let name = self.name(word(&self.data, at)?)?;
            if name == wanted {
                let is_bitfield = header.bitfields && raw >> 24 != 0;
                return (!is_bitfield).then_some(Member { type_id, bits });
            }
            if name.is_empty()
                && let Some(inner) = self.member(type_id, wanted, depth + 1, left)
            {
                let bits = bits.checked_add(inner.bits)?;
                return Some(Member { bits, ..inner });
            }
        }
        None
    }

    /// Steps over typedefs and qualifiers.
    fn strip(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let header = self.header(id)?;
            if !matches!(
                header.kind,
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG
            ) {
                return Some(id);
            }
            id = header.size_or_type;
        }
        None
    }

    fn size(&self, id: u32, depth: u32) -> Option<u32> {
        let header = self.header(self.strip(id)?)?;
        match header.kind {
            PTR => Some(8),
            ARRAY if depth < MAX_DEPTH => {
                let element = self.size(word(&self.data, header.at + 12)?, depth + 1)?;
                element.checked_mul(word(&self.data, header.at + 20)?)
            }
            INT | STRUCT | UNION | ENUM | ENUM64 => Some(header.size_or_type),
            _ => None,
        }
    }

    fn name(&self, offset: u32) -> Option<&str> {
        let rest = self.data.get(self.strings + offset as usize..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    }
}

/// How large a field must be for the programs' load.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldSize {
    Exactly(u32),
    AtLeast(u32),
}

struct Header {
    at: usize,
    name: u32,
    kind: u32,
    bitfields: bool,
    count: u32,
    size_or_type: u32,
}

impl Header {
    /// Bytes that follow the header.
    fn trailing(&self) -> Option<usize> {
        let count = self.count as usize;
        match self.kind {
            INT | VAR | DECL_TAG => Some(4),
            ARRAY => Some(12),
            STRUCT | UNION | DATASEC | ENUM64 => Some(12 * count),
            ENUM | FUNC_PROTO => Some(8 * count),
            PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => Some(0),
            _ => None,
        }
    }
}

struct Member {
    type_id: u32,
    bits: u32,
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

const MAX_DEPTH: u32 = 16;
/// Members looked at for one question; the kernel's largest structure has a few hundred.
const MAX_MEMBERS: u32 = 100_000;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct s { int a; union { long b; char c[16]; }; }` and `void f(int, int)`.
    fn sample() -> Vec<u8> {
        let strings = b"\0s\0a\0b\0c\0f\0int\0long\0char\0";
        #[rustfmt::skip]
        let types: &[u32] = &[
            11, INT << 24, 4, 32, // 1: int
            15, INT << 24, 8, 64, // 2: long
            20, INT << 24, 1, 8, // 3: char
            0, ARRAY << 24, 0, 3, 1, 16, // 4: char[16]
            0, UNION << 24 | 2, 16, 5, 2, 0, 7, 4, 0, // 5: union
            1, STRUCT << 24 | 2, 24, 3, 1, 0, 0, 5, 64, // 6: struct s
            0, FUNC_PROTO << 24 | 2, 0, 0, 1, 0, 1, // 7: its prototype
            9, FUNC << 24, 7, // 8: f
        ];
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut data = vec![0x9f, 0xeb, 1, 0];
        for word in [
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ] {
            data.extend(word.to_le_bytes());
        }
        data.extend(types);
        data.extend(strings);
        data
    }

    #[test]
    fn fields_are_found_through_nameless_unions_and_sizes_are_checked() {
        let types = Types::parse(sample()).unwrap();
        assert_eq!(types.offset("s", "a", FieldSize::Exactly(4)).unwrap(), 0);
        assert_eq!(types.offset("s", "c", FieldSize::AtLeast(2)).unwrap(), 8);
        assert_eq!(types.arguments("f"), Some(2));
        assert_eq!(types.arguments("s"), None, "a structure is no function");
        let message = types
            .offset("s", "d", FieldSize::Exactly(8))
            .unwrap_err()
            .to_string();
        assert!(message.contains("`s.d`"), "{message}");
        assert!(types.offset("s", "a", FieldSize::Exactly(8)).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Types::parse(vec![0; 64]).is_none());
        assert!(Types::parse(sample()[..60].to_vec()).is_none());
    }

    #[test]
    fn an_offset_beyond_what_can_be_counted_is_none() {
        // Where the union stands in `s`, and where `c` stands in the union, in bits.
        let (union, c) = (24 + 4 * 35, 24 + 4 * 26);
        let mut data = sample();
        let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
        assert_eq!((word(union), word(c - 4)), (64, 4));
        data[union..union + 4].fill(0xff);
        data[c..c + 4].fill(0xff);
        let types = Types::parse(data).unwrap();
        assert!(types.offset("s", "c", FieldSize::AtLeast(1)).is_err());
        assert_eq!(types.offset("s", "a", FieldSize::Exactly(4)).unwrap(), 0);
    }

    #[test]
    fn types_that_hold_each_other_are_not_searched_for_ever() {
        let strings = b"\0s\0";
        // `struct s` with twenty nameless members, each of them `struct s`.
        let mut types = vec![1, STRUCT << 24 | 20, 0];
        types.extend([0, 1, 0].repeat(20));
        let length = 4 * types.len() as u32;
        let mut data = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, length, length, 3].into_iter().chain(types) {
            data.extend(word.to_le_bytes());
        }
        data.extend(strings);
        let types = Types::parse(data).unwrap();
        assert!(types.offset("s", "a", FieldSize::AtLeast(1)).is_err());
    }
}
