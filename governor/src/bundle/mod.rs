//! Policy directories on disk: reading, signing, and measuring files for sets.
//!
//! What a policy means and whether it is accepted is decided in `governor_core::policy`; here are
//! only the files. Nothing in a policy directory is followed out of it.

mod measure;
mod read;
mod sign;

pub use measure::{Empty, Measurement, measure, measure_open, measure_package, measure_tree};
pub use read::read;
pub(crate) use sign::private;
pub use sign::{Signed, sign};
