//! The kernel's answers about sockets: netlink, and NETLINK_SOCK_DIAG in it.

/// Message by message.
pub fn check(bytes: &[u8]) -> bool {
    governor::fuzzing::sockets(bytes)
}

/// A socket with its cgroup, and the end of the list.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut socket = vec![2, 1, 0, 0];
    socket.extend([7; 48]);
    socket.extend([0; 16]);
    socket.extend(99_u32.to_ne_bytes());
    // An attribute that means nothing here, of an odd length, then the cgroup.
    socket.extend([5, 0, 8, 0, 1, 0, 0, 0]);
    socket.extend([12, 0, 21, 0]);
    socket.extend(4711_u64.to_ne_bytes());
    let one = message(20, &socket);
    vec![[one.clone(), message(3, &[0; 4])].concat(), one]
}

fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(1_u32.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
