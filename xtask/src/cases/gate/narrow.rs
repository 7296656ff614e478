//! The smallest programs for an x86 of 32 bits, which make one system call and end.

/// It ends with that code.
pub(super) fn ending(code: u8) -> Vec<u8> {
    // mov ebx, code; mov eax, 1 (exit); int 0x80.
    let code = [0xbb, code, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0xcd, 0x80];
    program(&code)
}

/// It makes a call of 32 bits with these arguments, and ends with 0, or with the error's number. The first
/// argument is where the text lies, if there is one.
pub(super) fn calling(number: u32, arguments: [u32; 6], text: Option<&str>) -> Vec<u8> {
    let [mut ebx, ecx, edx, esi, edi, ebp] = arguments;
    if text.is_some() {
        ebx = CODE + CALL;
    }
    let mut code = Vec::new();
    // mov register, value.
    for (opcode, value) in [
        (0xb8, number),
        (0xbb, ebx),
        (0xb9, ecx),
        (0xba, edx),
        (0xbe, esi),
        (0xbf, edi),
        (0xbd, ebp),
    ] {
        code.push(opcode);
        code.extend(value.to_le_bytes());
    }
    code.extend([0xcd, 0x80]);
    // cmp eax, -4095; jae over; xor eax, eax; over: neg eax.
    code.extend([
        0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x02, 0x31, 0xc0, 0xf7, 0xd8,
    ]);
    // mov ebx, eax; mov eax, 1 (exit); int 0x80.
    code.extend([0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80]);
    code.resize(CALL as usize, 0x90);
    code.extend(text.unwrap_or_default().bytes());
    code.push(0);
    program(&code)
}

fn program(code: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x01\x01\x01".to_vec();
    bytes.resize(16, 0);
    let half = |bytes: &mut Vec<u8>, value: u16| bytes.extend(value.to_le_bytes());
    let word = |bytes: &mut Vec<u8>, value: u32| bytes.extend(value.to_le_bytes());
    // An executable, for the 386.
    half(&mut bytes, 2);
    half(&mut bytes, 3);
    for value in [1, CODE, 52, 0, 0] {
        word(&mut bytes, value);
    }
    // The header's size, one program header of its size, no sections.
    for value in [52, 32, 1, 0, 0, 0] {
        half(&mut bytes, value);
    }
    // All of it, to be read and executed.
    let whole = HEADERS + u32::try_from(code.len()).unwrap_or(0);
    for value in [1, 0, BASE, BASE, whole, whole, 5, 0x1000] {
        word(&mut bytes, value);
    }
    bytes.extend(code);
    bytes
}

/// Where the program is mapped, and where its code begins.
pub(super) const BASE: u32 = 0x0804_8000;
const HEADERS: u32 = 84;
const CODE: u32 = BASE + HEADERS;
/// How long the code is that makes a call.
const CALL: u32 = 64;
