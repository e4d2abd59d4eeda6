//! A hash that is the same on every machine and in every release: FNV-1a over 64 bits with a final mix.
//!
//! It names things (a deployment, a version of the file) and protects nothing. It refuses to be used on secrets: the
//! names it makes are public.

/// 16 hexadecimal digits for `parts`; the borders between the parts count.
pub(super) fn name(parts: &[&str]) -> String {
    let mut hash = OFFSET;
    for part in parts {
        hash = fold(hash, part.as_bytes());
        hash = fold(hash, &[0xff]);
    }
    format!("{:016x}", mix(hash))
}

/// The first 12 hexadecimal digits for the bytes of a file.
pub fn digest(bytes: &[u8]) -> String {
    let mut digits = format!("{:016x}", mix(fold(OFFSET, bytes)));
    digits.truncate(12);
    digits
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// FNV's high bits are weak on short input; this is the finisher of SplitMix64.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_the_same_across_releases_and_respect_borders() {
        assert_eq!(name(&["glm-4.7", "openai/zai-org/glm-4.7"]), name(&["glm-4.7", "openai/zai-org/glm-4.7"]));
        assert_ne!(name(&["ab", "c"]), name(&["a", "bc"]));
        assert_eq!(digest(b"").len(), 12);
        assert_eq!(digest(b""), "f52a15e9a9b5");
    }
}
