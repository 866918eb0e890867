//! Who calls, and the names by which a caller's saved addresses are known.

use crate::pii::Pii;

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// ULID text.
    pub id: String,
    /// Name as spoken to them.
    pub name: Pii,
    /// Served first.
    pub vip: bool,
    /// Spoken to slowly, in plain words.
    pub elder: bool,
}

/// An address a customer has saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The customer's name for it: `家里`, `公司`.
    pub label: String,
    /// The whole address.
    pub text: Pii,
}

/// Words that mean the same place as a label.
const ALIASES: &[(&[&str], &[&str])] = &[
    (&["家里", "家", "住处"], &["家里", "家", "我家", "住的地方"]),
    (&["公司", "单位"], &["公司", "单位", "我们公司", "上班的地方"]),
    (&["父母家", "爸妈家", "老家"], &["父母家", "爸妈家", "爸妈那里", "老家"]),
    (&["学校"], &["学校", "我们学校"]),
];

impl Address {
    /// Ways a caller may name this address, the label first, none twice: the label and its like, then the parts of the
    /// address that tell it apart (district, road, road with number). A recogniser's closed list is made from these.
    pub fn ways_to_say(&self) -> Vec<String> {
        let mut ways = vec![self.label.clone()];
        for (labels, says) in ALIASES {
            if labels.contains(&self.label.as_str()) {
                ways.extend(says.iter().map(|s| s.to_string()));
            }
        }
        ways.extend(parts_to_say(self.text.expose()));
        let mut seen = std::collections::BTreeSet::new();
        ways.retain(|w| !w.is_empty() && seen.insert(w.clone()));
        ways
    }
}

/// `北京市朝阳区建国路八十八号` -> `朝阳区`, `建国路`, `建国路八十八号`.
fn parts_to_say(text: &str) -> Vec<String> {
    let after_city = text.rsplit_once(['省', '市']).map_or(text, |(_, rest)| rest);
    let (district, rest) = match after_city.split_once(['区', '县']) {
        Some((name, rest)) if (1..=6).contains(&name.chars().count()) => {
            (&after_city[..after_city.len() - rest.len()], rest)
        }
        _ => ("", after_city),
    };
    let road = ["大街", "大道", "路", "街", "巷"]
        .iter()
        .filter_map(|end| rest.find(end).map(|at| at + end.len()))
        .min()
        .map_or("", |end| &rest[..end]);
    [district, road, rest].iter().filter(|p| p.chars().count() >= 2).map(|p| p.to_string()).collect()
}

/// A phone number as it is stored and compared: digits only, without China's country code or the long-distance zero
/// before a mobile number. `+86 138-0013-8000`, `008613800138000`, `013800138000` -> `13800138000`.
pub fn normalise_phone(number: &str) -> String {
    let number = number.trim();
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let national = if number.starts_with('+') {
        digits.strip_prefix("86").unwrap_or(&digits)
    } else if let Some(rest) = digits.strip_prefix("0086") {
        rest
    } else if digits.len() == 13 && digits.starts_with("861") {
        &digits[2..]
    } else {
        &digits
    };
    match national.strip_prefix('0') {
        Some(mobile) if mobile.len() == 11 && mobile.starts_with('1') && !mobile.starts_with("10") => {
            mobile.to_string()
        }
        _ => national.to_string(),
    }
}

/// The last four digits, or all of a shorter number.
pub fn phone_tail(number: &str) -> String {
    let n = normalise_phone(number);
    n[n.len().saturating_sub(4)..].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_of_writing_a_mobile_number_is_one_number() {
        for n in
            ["13800138000", "+8613800138000", "+86 138-0013-8000", "008613800138000", "8613800138000", "013800138000"]
        {
            assert_eq!(normalise_phone(n), "13800138000", "{n}");
        }
        assert_eq!(normalise_phone("01062345678"), "01062345678", "a Beijing landline keeps its area code");
        assert_eq!(normalise_phone("+14155550100"), "14155550100");
        assert_eq!(normalise_phone("anonymous"), "");
        assert_eq!(phone_tail("+8613800138000"), "8000");
        assert_eq!(phone_tail("12"), "12");
    }

    #[test]
    fn an_address_is_named_by_label_likeness_and_road() {
        let a = Address { label: "公司".into(), text: Pii::new("北京市朝阳区建国路八十八号") };
        let ways = a.ways_to_say();
        assert_eq!(ways[0], "公司");
        for w in ["单位", "朝阳区", "建国路", "建国路八十八号"] {
            assert!(ways.iter().any(|x| x == w), "{w} is missing from {ways:?}");
        }
        let home = Address { label: "家里".into(), text: Pii::new("北京市海淀区中关村大街五号") };
        assert!(home.ways_to_say().contains(&"中关村大街".to_string()));
        assert!(home.ways_to_say().iter().all(|w| !ways.contains(w)), "two addresses share no name");
    }

    proptest! {
        #[test]
        fn any_text_may_be_a_number_or_an_address(s in "\\PC{0,40}") {
            let n = normalise_phone(&s);
            prop_assert!(n.chars().all(|c| c.is_ascii_digit()));
            prop_assert!(phone_tail(&s).len() <= 4);
            let ways = Address { label: s.clone(), text: Pii::new(s) }.ways_to_say();
            let set: std::collections::BTreeSet<_> = ways.iter().collect();
            prop_assert_eq!(set.len(), ways.len());
        }
    }
}
