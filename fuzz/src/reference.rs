//! Reference values: a closed grammar with a writer.

use governor_core::attest::{PCR_COUNT, ReferenceValues};

use crate::evidence;

/// What is accepted is the same when it is written again; what is refused is so at a place in the text.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    match ReferenceValues::parse(text) {
        Ok(values) => {
            let written = values.write();
            let again = ReferenceValues::parse(&written);
            assert_eq!(again.as_ref(), Ok(&values));
            assert_eq!(again.map(|values| values.write()), Ok(written));
            assert!((PCR_COUNT..=u8::MAX).all(|pcr| values.pcr(pcr).is_none()));
            true
        }
        Err(error) => {
            let lines: Vec<&str> = text.split('\n').collect();
            let line = error.line.checked_sub(1).and_then(|line| lines.get(line));
            assert!(
                line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&error.column)),
                "line {}, column {}",
                error.line,
                error.column
            );
            false
        }
    }
}

/// Values as they are written, and as somebody may write them.
pub fn seeds() -> Vec<Vec<u8>> {
    let written = evidence::reference().write();
    let inline = written
        .replace("[pcr]\n", "# registers\n[pcr]\n")
        .replace('"', "'");
    vec![written.into_bytes(), inline.into_bytes()]
}
