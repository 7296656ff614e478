//! The algorithm numbers of the TCG registry that appear in evidence.
//!
//! A number is kept as it was found, also when nothing here knows it: what is allowed is decided
//! where it is checked, and a refusal can name what it refused.

use core::fmt;

/// A `TPM_ALG_ID`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Algorithm(pub u16);

impl Algorithm {
    pub const RSA: Self = Self(0x0001);
    pub const SHA1: Self = Self(0x0004);
    pub const SHA256: Self = Self(0x000b);
    pub const SHA384: Self = Self(0x000c);
    pub const SHA512: Self = Self(0x000d);
    pub const NULL: Self = Self(0x0010);
    pub const RSASSA: Self = Self(0x0014);
    pub const RSAES: Self = Self(0x0015);
    pub const RSAPSS: Self = Self(0x0016);
    pub const ECDSA: Self = Self(0x0018);
    pub const ECDAA: Self = Self(0x001a);
    pub const ECC: Self = Self(0x0023);
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::RSA => "RSA",
            Self::SHA1 => "SHA-1",
            Self::SHA256 => "SHA-256",
            Self::SHA384 => "SHA-384",
            Self::SHA512 => "SHA-512",
            Self::NULL => "none",
            Self::RSASSA => "RSASSA",
            Self::RSAES => "RSAES",
            Self::RSAPSS => "RSAPSS",
            Self::ECDSA => "ECDSA",
            Self::ECDAA => "ECDAA",
            Self::ECC => "ECC",
            Self(number) => return write!(f, "algorithm {number:#06x}"),
        };
        f.write_str(name)
    }
}

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
