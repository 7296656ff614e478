//! The smallest guest probe: prints one line and ends with zero. Copy it to make another; every
//! `probe_*.rs` here is built and can be put into a guest by name.

fn main() {
    println!("hello from a probe");
}
