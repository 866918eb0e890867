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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_number_hides_its_middle_four_digits() {
        assert_eq!(mask("13800138000"), "138****8000");
        assert_eq!(format!("{} {:?}", Pii::new("张小明"), Pii::new("张小明")), "张** 张**");
        assert_eq!(mask(""), "");
    }
}
