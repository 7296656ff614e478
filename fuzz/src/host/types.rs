//! The kernel's types, as BTF.

/// As `/sys/kernel/btf/vmlinux`.
pub fn check(bytes: &[u8]) -> bool {
    governor::fuzzing::types(bytes)
}

/// `struct s { int a; union { long b; char c[16]; }; }`, `void f(int, int)`, `enum e { x = 5 }` and
/// `typedef int btf_trace_t`.
pub fn seeds() -> Vec<Vec<u8>> {
    let strings = b"\0s\0a\0b\0c\0f\0int\0long\0char\0e\0x\0btf_trace_t\0";
    const fn kind(number: u32) -> u32 {
        number << 24
    }
    #[rustfmt::skip]
    let types: &[u32] = &[
        11, kind(1), 4, 32, // 1: int
        15, kind(1), 8, 64, // 2: long
        20, kind(1), 1, 8, // 3: char
        0, kind(3), 0, 3, 1, 16, // 4: char[16]
        0, kind(5) | 2, 16, 5, 2, 0, 7, 4, 0, // 5: union
        1, kind(4) | 2, 24, 3, 1, 0, 0, 5, 64, // 6: struct s
        0, kind(13) | 2, 0, 0, 1, 0, 1, // 7: its prototype
        9, kind(12), 7, // 8: f
        25, kind(6) | 1, 4, 27, 5, // 9: enum e
        29, kind(8), 1, // 10: btf_trace_t
    ];
    let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
    let (all, named) = (types.len() as u32, strings.len() as u32);
    let mut data = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, all, all, named] {
        data.extend(word.to_le_bytes());
    }
    data.extend(types);
    data.extend(strings);
    vec![data]
}
