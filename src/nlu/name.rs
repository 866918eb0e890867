//! Is the name that was said the one on record? By sound: a recogniser cannot know which 张 or 章.

use super::pinyin::{fuzzy, toneless};

/// Words around a name that are no part of it.
const AROUND: &[&str] = &["我叫", "我是", "我姓", "名字是", "名字叫", "收件人是", "收货人是", "叫", "是", "姓"];
const TITLES: &[&str] = &["先生", "女士", "小姐", "太太", "同志", "老师"];

/// Whether `spoken` names the same person as `stored`: the whole name by fuzzy toneless pinyin
/// ("我叫张晓明" and 章小铭 agree; 张 alone does not).
pub fn same(spoken: &str, stored: &str) -> bool {
    let key = |t: &str| toneless(t).iter().map(|s| fuzzy(s)).collect::<Vec<_>>();
    let stored_key = key(strip(stored));
    if stored_key.is_empty() {
        let latin = |t: &str| t.chars().filter(|c| c.is_ascii_alphabetic()).collect::<String>().to_lowercase();
        let (a, b) = (latin(spoken), latin(stored));
        return !b.is_empty() && a == b;
    }
    key(strip(spoken)) == stored_key
        || key(spoken).windows(stored_key.len()).any(|w| stored_key.len() >= 2 && w == stored_key)
}

/// As [`same`], by pinyin that a recogniser heard.
pub fn same_pinyin(heard: &[String], stored: &str) -> bool {
    let stored_key: Vec<String> = toneless(strip(stored)).iter().map(|s| fuzzy(s)).collect();
    let heard: Vec<String> = heard.iter().map(|s| fuzzy(s)).collect();
    stored_key.len() >= 2 && heard.windows(stored_key.len()).any(|w| w == stored_key)
}

/// The name without what is said around it.
fn strip(text: &str) -> &str {
    let mut t = text.trim();
    for w in AROUND {
        t = t.strip_prefix(w).unwrap_or(t);
    }
    for w in TITLES {
        t = t.strip_suffix(w).unwrap_or(t);
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_by_sound() {
        for (spoken, stored) in [
            ("张小明", "张小明"),
            ("我叫章晓铭", "张小明"),
            ("收件人是李娜", "李娜"),
            ("李拉", "李娜"),
            ("陈静女士", "程晶"),
            ("名字叫王芳啊", "王芳"),
            ("John Smith", "john smith"),
        ] {
            assert!(same(spoken, stored), "{spoken} {stored}");
        }
        for (spoken, stored) in
            [("张", "张小明"), ("李四", "张三"), ("", "张三"), ("张三", ""), ("小明", "张小明"), ("john", "john smith")]
        {
            assert!(!same(spoken, stored), "{spoken} {stored}");
        }
        assert!(same_pinyin(&["wo".into(), "jiao".into(), "zhang".into(), "san".into()], "张三"));
        assert!(!same_pinyin(&["zhang".into()], "张三"));
    }
}
