//! What the daemon reads of its host: kernel, files, arguments. The parsers are private to the crate
//! that has them; what must hold of each stands beside it.

pub mod arguments;
pub mod files;
pub mod program;
pub mod sockets;
pub mod state;
pub mod types;
