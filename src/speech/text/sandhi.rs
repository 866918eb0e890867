//! Tone changes between neighbours: 3-3, 一 and 不.

/// A syllable on its way to the voice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    /// The hanzi; `None` for a Latin letter's name.
    pub hanzi: Option<char>,
    /// Toneless pinyin.
    pub base: &'static str,
    /// Dictionary tone before, spoken tone after [`apply`].
    pub tone: u8,
    /// Whether a word ends here.
    pub word_end: bool,
}

const DIGITS: &str = "零一二三四五六七八九幺〇两";
/// After these 一 names the number one (第一, 按一).
const ORDINAL_BEFORE: &str = "第初十周期";
/// Before these it does too (一月, 一号, 一楼).
const ORDINAL_AFTER: &str = "月日号楼";

/// Applies the tone changes of one phrase.
pub fn apply(s: &mut [Spoken]) {
    let tones: Vec<u8> = s.iter().map(|x| x.tone).collect();
    for i in 0..s.len() {
        match s[i].hanzi {
            Some('一') if s[i].base == "yi" => s[i].tone = one(s, &tones, i),
            Some('不') if s[i].tone == 4 && tones.get(i + 1) == Some(&4) => s[i].tone = 2,
            _ => {}
        }
    }
    third_tones(s);
}

/// The tone of 一 at `i`.
fn one(s: &[Spoken], tones: &[u8], i: usize) -> u8 {
    let before = i.checked_sub(1).and_then(|j| s[j].hanzi);
    let after = s.get(i + 1).and_then(|x| x.hanzi);
    let is = |c: Option<char>, set: &str| c.is_some_and(|c| set.contains(c));
    if i > 0 && before == after && !is(before, DIGITS) {
        return 5; // 看一看
    }
    let number = is(before, DIGITS) || is(before, ORDINAL_BEFORE) || is(after, DIGITS) || is(after, ORDINAL_AFTER);
    let last_of_word = s[i].word_end && is(before, "统唯万之单专");
    if number || last_of_word || is(before, "百千") && !is(after, "百千万亿") {
        return 1;
    }
    match tones.get(i + 1) {
        None => 1,
        Some(4 | 5) => 2, // 一个's neutral 个 was a fourth tone
        Some(_) => 4,
    }
}

/// In a row of third tones all but the last rise; a row of more than three is broken at the word border nearest to
/// its middle, as a speaker would.
fn third_tones(s: &mut [Spoken]) {
    let mut from = 0;
    while from < s.len() {
        let n = s[from..].iter().take_while(|x| x.tone == 3).count();
        row(&mut s[from..from + n]);
        from += n.max(1);
    }
}

fn row(s: &mut [Spoken]) {
    let n = s.len();
    let border = (1..n).filter(|i| s[i - 1].word_end).min_by_key(|i| (2 * i).abs_diff(n));
    match border.filter(|_| n > 3) {
        Some(b) => {
            row(&mut s[..b]);
            row(&mut s[b..]);
        }
        None => s.iter_mut().rev().skip(1).for_each(|x| x.tone = 2),
    }
}

#[cfg(test)]
mod tests {
    use super::super::phrases;

    fn tones(text: &str) -> String {
        phrases(text).iter().flat_map(|p| &p.syllables).map(|s| char::from(b'0' + s.tone)).collect()
    }

    #[test]
    fn one_and_not_follow_their_neighbour() {
        for (text, expected) in [
            ("一遍", "24"),
            ("一天", "41"),
            ("一年", "42"),
            ("一点", "43"),
            ("一个", "24"),
            ("第一个", "414"),
            ("按一", "41"),
            ("十一月", "214"),
            ("一二三一五", "14113"),
            ("二十一", "421"),
            ("一百", "43"),
            ("看一看", "454"),
            ("二零一零年", "42122"),
            ("统一处理", "3123"),
            ("不是", "24"),
            ("不行", "42"),
            ("不好", "43"),
        ] {
            assert_eq!(tones(text), expected, "{text}");
        }
    }

    #[test]
    fn third_tones_rise_before_third_tones() {
        for (text, expected) in
            [("你好", "23"), ("老李买", "223"), ("五把雨伞", "2323"), ("展览馆很好", "22323"), ("小姐您好", "3523")]
        {
            assert_eq!(tones(text), expected, "{text}");
        }
    }
}
