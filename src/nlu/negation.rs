//! Whether what comes before a word takes it back: "不是公司", "不太满意", "不用转人工", "别送到公司".

/// Characters that may stand between the negation and what it negates.
const BETWEEN: &str = "太很怎么够是需要想必有上用打算再特别在送改寄换发到去往成给转接找";
/// How many of them.
const MOST: usize = 4;
/// Words whose last character negates nothing.
const NOT_NEGATING: [&str; 14] =
    ["要不", "何不", "莫不", "岂不", "特别", "分别", "区别", "性别", "级别", "个别", "类别", "送别", "识别", "辨别"];

/// Whether `before`, the text up to a word, ends with a negation of it. A question (要不要, 能不能) negates nothing.
pub fn negated(before: &str) -> bool {
    let before = before.trim_end();
    if before.is_ascii() {
        return before.ends_with("not") || before.ends_with("don't") || before.ends_with("no");
    }
    let mut head = before;
    for _ in 0..=MOST {
        if ends_with_negation(head, &before[head.len()..]) {
            return true;
        }
        let Some(last) = head.chars().next_back().filter(|c| BETWEEN.contains(*c)) else { return false };
        head = &head[..head.len() - last.len_utf8()];
    }
    false
}

fn ends_with_negation(head: &str, after: &str) -> bool {
    if NOT_NEGATING.iter().any(|w| head.ends_with(w)) {
        return false;
    }
    let mut back = head.chars().rev();
    let negation = back.next().is_some_and(|c| "不没别甭勿".contains(c));
    let asks = back.next().is_some_and(|c| after.starts_with(c));
    negation && !asks
}

#[cfg(test)]
mod tests {
    use super::negated;

    #[test]
    fn a_negation_reaches_its_word_over_what_may_stand_between() {
        for before in [
            "不",
            "不是",
            "不太",
            "不怎么",
            "不是很",
            "没有",
            "谈不上",
            "我不想",
            "先不",
            "不需要",
            "不要送到",
            "别再",
            "我不在",
        ] {
            assert!(negated(before), "{before}");
        }
        assert!(negated("do not") && negated("I don't"));
    }

    #[test]
    fn what_only_looks_like_one_negates_nothing() {
        for before in [
            "",
            "特别",
            "要不",
            "要不要",
            "是不是",
            "能不能",
            "有没有",
            "想不想",
            "地址不对改到",
            "我不在家送到",
            "不是家里是",
            "没发货",
            "not here, at",
        ] {
            assert!(!negated(before), "{before}");
        }
    }
}
