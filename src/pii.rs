//! Personal data that shows itself masked: `{}` and `{:?}` never print the value.

use std::fmt;

/// A piece of personal data. Only [`Pii::expose`] gives it in clear, so every use is easy to find.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pii(String);

impl Pii {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Pii(value.into())
    }

    /// The value in clear.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is anything inside.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Pii {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(&self.0))
    }
}

impl fmt::Debug for Pii {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(&self.0))
    }
}

/// `13800138000` -> `138****8000`; other values of 8 characters and more keep the first three and last
/// four; of two to seven keep the first; one character becomes `*`.
pub fn mask(value: &str) -> String {
    let chars: Vec<char> = value.chars().collect();
    match chars.len() {
        0 => String::new(),
        1 => "*".into(),
        2..=7 => {
            let mut s: String = chars[..1].iter().collect();
            s.extend(std::iter::repeat_n('*', chars.len() - 1));
            s
        }
        n => {
            let mut s: String = chars[..3].iter().collect();
            s.push_str("****");
            s.extend(&chars[n - 4..]);
            s
        }
    }
}

/// Fewest digits of a number that belongs to somebody: shorter ones are extensions and services (`400`, `8001`).
pub const SHORTEST_NUMBER: usize = 7;

/// A telephone number with its middle hidden: `13800138000` -> `138****8000`, a local one of 7 to 10 digits
/// `87654321` -> `87****21`. Shorter ones name an extension or a service and are not hidden. A `+` stays; whatever else
/// stands between the digits goes.
pub fn mask_number(value: &str) -> String {
    let digits: Vec<char> = value.chars().filter(|c| c.is_numeric()).collect();
    let (first, last) = match digits.len() {
        _ if value.contains("****") => return value.to_string(), // masked already
        n if n < SHORTEST_NUMBER => return value.to_string(),
        n if n < 11 => (2, 2),
        _ => (3, 4),
    };
    let mut masked = String::from(if value.starts_with('+') { "+" } else { "" });
    masked.extend(&digits[..first]);
    masked.push_str("****");
    masked.extend(&digits[digits.len() - last..]);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_hides_four_digits_whatever_stands_between_them_and_an_extension_none() {
        assert_eq!(mask_number("+86 138-0013-8000"), "+861****8000");
        assert_eq!(mask_number("13800138000"), "138****8000");
        assert_eq!(mask_number("87654321"), "87****21");
        assert_eq!((mask_number("8001").as_str(), mask_number("").as_str()), ("8001", ""));
        assert_eq!(mask_number("138****8000"), "138****8000");
    }

    #[test]
    fn a_phone_number_hides_its_middle_four_digits() {
        assert_eq!(mask("13800138000"), "138****8000");
        assert_eq!(format!("{} {:?}", Pii::new("张小明"), Pii::new("张小明")), "张** 张**");
        assert_eq!(mask(""), "");
    }
}
