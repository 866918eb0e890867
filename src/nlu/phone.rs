//! Mobile numbers: 11 digits that begin with 1 and 3..=9, said in any grouping.

use super::digits;

/// The mobile number in `text` (a leading 86 or 0086 removed); `None` when there is none.
pub fn parse(text: &str) -> Option<String> {
    if let Some(run) = digits::parse_len(text, 11, 15) {
        return clean(&run);
    }
    let all: String = digits::runs(text).concat();
    clean(&all)
}

/// The national form of a number, when it is a mobile number.
pub fn clean(digits: &str) -> Option<String> {
    let n =
        digits.strip_prefix("0086").or_else(|| digits.strip_prefix("86").filter(|n| n.len() == 11)).unwrap_or(digits);
    is_mobile(n).then(|| n.to_owned())
}

/// Whether this is a mainland mobile number: `1[3-9]` and nine more digits.
pub fn is_mobile(n: &str) -> bool {
    let b = n.as_bytes();
    b.len() == 11 && b[0] == b'1' && (b'3'..=b'9').contains(&b[1]) && b.iter().all(u8::is_ascii_digit)
}

/// The last four digits, when there are as many.
pub fn tail(n: &str) -> Option<&str> {
    (n.len() >= 4 && n.is_ascii()).then(|| &n[n.len() - 4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mobile_number_is_found_in_any_grouping() {
        for t in [
            "幺三八零零一三八零零零",
            "我的手机号是138 0013 8000",
            "一三八，零零一三，八零零零",
            "+86 13800138000",
            "一三八两个零一三八三个零",
        ] {
            assert_eq!(parse(t).as_deref(), Some("13800138000"), "{t}");
        }
        for t in ["三八二六", "12800138000", "", "二三八零零一三八零零零"] {
            assert_eq!(parse(t), None, "{t}");
        }
        assert_eq!(tail("13800138000"), Some("8000"));
        assert_eq!(tail("12"), None);
    }
}
