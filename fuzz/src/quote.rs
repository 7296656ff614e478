//! Quotes: a strict parser, so what it accepts is what an encoder makes of the answer.

use governor_core::attest::{MAGIC, Quote, TYPE_QUOTE};

use crate::{evidence, put_sized};

/// What is accepted has one encoding.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(quote) = Quote::parse(bytes) else {
        return false;
    };
    assert_eq!(encode(&quote), bytes);
    assert!(quote.banks.len() <= 16 && quote.pcr_digest.len() <= 64);
    for bank in &quote.banks {
        if let Some(selection) = bank.selection() {
            let [a, b, c] = selection.octets();
            let padded = bank.octets.iter().copied().chain(core::iter::repeat(0));
            assert!(padded.take(4).eq([a, b, c, 0]), "{bank:?}");
        }
    }
    true
}

/// Quotes of one, two and no banks.
pub fn seeds() -> Vec<Vec<u8>> {
    let one = evidence::quote();
    let mut seeds = vec![one.clone()];
    if let Ok(quote) = Quote::parse(&one) {
        let mut two = quote.clone();
        two.banks.extend(quote.banks.clone());
        two.clock.safe = false;
        let mut none = quote;
        none.banks.clear();
        none.qualified_signer.clear();
        seeds.extend([encode(&two), encode(&none)]);
    }
    seeds
}

/// TPMS_ATTEST of the quote kind.
pub(crate) fn encode(quote: &Quote) -> Vec<u8> {
    let mut bytes = MAGIC.to_be_bytes().to_vec();
    bytes.extend(TYPE_QUOTE.to_be_bytes());
    put_sized(&mut bytes, &quote.qualified_signer);
    put_sized(&mut bytes, &quote.extra_data);
    bytes.extend(quote.clock.clock.to_be_bytes());
    bytes.extend(quote.clock.reset_count.to_be_bytes());
    bytes.extend(quote.clock.restart_count.to_be_bytes());
    bytes.push(u8::from(quote.clock.safe));
    bytes.extend(quote.firmware.to_be_bytes());
    bytes.extend((quote.banks.len() as u32).to_be_bytes());
    for bank in &quote.banks {
        bytes.extend(bank.hash.0.to_be_bytes());
        bytes.push(bank.octets.len() as u8);
        bytes.extend(&bank.octets);
    }
    put_sized(&mut bytes, &quote.pcr_digest);
    bytes
}
