//! Prompts: placeholders, filters, variants; rendered twice, as spoken and as shown with personal data masked.

use super::expr::{ExprError, Path, Scope};
use super::language;
use super::model::PiiKind;
use super::problem::At;
use super::reply::Prompt;
use super::value::Value;
use crate::pii;
use crate::speech::Lang;

/// Longest rendered prompt in characters; what is longer is cut (a backend's data is not ours to trust).
const MAX_CHARS: usize = 400;

/// A filter of a placeholder (`{order.eta|date}`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Digit by digit: 3826 → 三八二六.
    Digits,
    /// Cents → 三百五十元; a value whose name ends in `_yuan` is in yuan.
    Money,
    /// `2026-11-22` → 十一月二十二号, 明天.
    Date,
    /// `14:30` → 下午两点三十分.
    Time,
    /// The last four digits of a number only; the ends of anything else.
    Mask,
    /// 张小明 → 张某某.
    MaskName,
    /// An address with pauses between its parts.
    Segments,
}

impl Filter {
    const ALL: [(&'static str, Filter); 7] = [
        ("digits", Filter::Digits),
        ("money", Filter::Money),
        ("date", Filter::Date),
        ("time", Filter::Time),
        ("mask", Filter::Mask),
        ("mask_name", Filter::MaskName),
        ("segments", Filter::Segments),
    ];

    fn parse(name: &str) -> Option<Filter> {
        Self::ALL.iter().find(|f| f.0 == name).map(|f| f.1)
    }
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// A value.
    Hole {
        /// Where it comes from.
        path: Path,
        /// How it is said.
        filter: Option<Filter>,
    },
}

impl Part {
    /// Its text, when it is no value.
    pub fn fixed(&self) -> Option<&str> {
        match self {
            Part::Text(t) => Some(t),
            Part::Hole { .. } => None,
        }
    }
}

/// One wording.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Wording {
    /// Where it stands.
    pub at: At,
    /// Its parts.
    pub parts: Vec<Part>,
}

impl Wording {
    /// Reads `text {path|filter} text`. `{{` is a brace.
    pub fn parse(source: &str) -> Result<Wording, ExprError> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut chars = source.char_indices().peekable();
        while let Some((i, c)) = chars.next() {
            let twice = chars.peek().is_some_and(|n| n.1 == c);
            if (c == '{' || c == '}') && twice {
                chars.next();
                text.push(c);
                continue;
            }
            let at = source[..i].chars().count();
            match c {
                '{' => {
                    let Some(len) = source[i..].find('}') else {
                        return Err(ExprError { at, what: "`{` has no `}`".into() });
                    };
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    parts.push(hole(&source[i + 1..i + len], at + 1)?);
                    while chars.next_if(|n| n.0 <= i + len).is_some() {}
                }
                '}' => return Err(ExprError { at, what: "`}` has no `{`".into() }),
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Wording { at: At::default(), parts })
    }

    /// Text without placeholders, as it is.
    pub fn literal(text: &str) -> Wording {
        Wording { at: At::default(), parts: vec![Part::Text(text.into())] }
    }

    /// Whether its fixed text can be read by an English voice.
    pub fn is_english(&self) -> bool {
        self.parts.iter().all(|p| !matches!(p, Part::Text(t) if t.chars().any(|c| c as u32 >= 0x2E80)))
    }

    /// Its paths and filters.
    pub fn holes(&self) -> impl Iterator<Item = (&Path, Option<Filter>)> {
        self.parts.iter().filter_map(|p| match p {
            Part::Hole { path, filter } => Some((path, *filter)),
            Part::Text(_) => None,
        })
    }

    /// Characters of its fixed text, each value counted as four.
    pub fn length(&self) -> usize {
        self.parts.iter().map(|p| if let Part::Text(t) = p { t.chars().count() } else { 4 }).sum()
    }
}

fn hole(inside: &str, at: usize) -> Result<Part, ExprError> {
    let (path, filter) = match inside.split_once('|') {
        Some((p, f)) => {
            let found = Filter::parse(f.trim());
            let Some(found) = found else {
                let known: Vec<&str> = Filter::ALL.iter().map(|f| f.0).collect();
                let what = format!("there is no filter `{}`; there are {}", f.trim(), known.join(", "));
                return Err(ExprError { at, what });
            };
            (p, Some(found))
        }
        None => (inside, None),
    };
    let path = Path::parse(path.trim()).map_err(|e| ExprError { at: at + e.at, what: e.what })?;
    Ok(Part::Hole { path, filter })
}

/// A prompt with its variants.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Template {
    /// Where it stands.
    pub at: At,
    /// The ordinary wording.
    pub text: Wording,
    /// Simpler, for elderly callers.
    pub elder: Option<Wording>,
    /// For callers who are angry.
    pub angry: Option<Wording>,
    /// English.
    pub en: Option<Wording>,
    /// A recording that wins over synthesis.
    pub audio: Option<String>,
    /// Tone (`neutral`, `warm`, `apology`, `brisk`), for voices that have it.
    pub style: Option<String>,
    /// Speed, 1.0 normal.
    pub rate: f32,
}

impl Template {
    /// A template of fixed wording that is known to be sound.
    pub fn plain(source: &str) -> Template {
        let text = Wording::parse(source).unwrap_or_else(|_| Wording::literal(source));
        Template { text, rate: 1.0, ..Template::default() }
    }

    /// All wordings.
    pub fn wordings(&self) -> impl Iterator<Item = &Wording> {
        [Some(&self.text), self.elder.as_ref(), self.angry.as_ref(), self.en.as_ref()].into_iter().flatten()
    }
}

/// How the caller is to be spoken to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Voice {
    /// In English.
    pub english: bool,
    /// The caller is angry.
    pub angry: bool,
    /// The caller is elderly.
    pub elder: bool,
    /// Speed chosen by the caller, times the prompt's.
    pub rate: f32,
    /// Whether prompts may be interrupted.
    pub barge_in: bool,
    /// Today, for "明天".
    pub today: (i32, u8, u8),
}

/// What a set of flows knows of its slots.
pub trait Slots {
    /// Whether a slot holds personal data.
    fn is_personal(&self, slot: &str) -> bool;

    /// How a value of a slot is said, when callers say it otherwise than it is named.
    fn say(&self, slot: &str, value: &str) -> Option<&str>;
}

/// Renders a prompt. Names of missing values are added to `missing`.
pub fn render(
    template: &Template,
    voice: Voice,
    scope: &Scope,
    slots: &dyn Slots,
    missing: &mut Vec<String>,
) -> Prompt {
    let lang = if voice.english && template.en.is_some() { Lang::En } else { Lang::Zh };
    let wording = match template {
        Template { en: Some(w), .. } if voice.english => w,
        Template { angry: Some(w), .. } if voice.angry => w,
        Template { elder: Some(w), .. } if voice.elder => w,
        t => &t.text,
    };
    let (mut text, mut shown) = (String::new(), String::new());
    for part in &wording.parts {
        match part {
            Part::Text(t) => {
                text.push_str(t);
                shown.push_str(t);
            }
            Part::Hole { path, filter } => {
                let value = path.find(scope).unwrap_or(&Value::Null);
                if value.is_null() {
                    missing.push(path.to_string());
                    continue;
                }
                let plain = plain_text(value);
                let plain = path.slot().and_then(|s| slots.say(s, &plain)).map_or(plain.clone(), str::to_string);
                let filter = *filter;
                let said = Said { plain: &plain, cents: cents(path, value), filter, lang, today: voice.today };
                text.push_str(&said.spoken());
                shown.push_str(&visible(path, &said, slots));
            }
        }
    }
    let elder_rate = if voice.elder { 0.9 } else { 1.0 };
    Prompt {
        text: cut(text),
        shown: cut(shown),
        audio: template.audio.clone(),
        rate: (template.rate * voice.rate * elder_rate).clamp(0.5, 2.0),
        barge_in: voice.barge_in,
        lang,
    }
}

fn cut(s: String) -> String {
    if s.chars().count() <= MAX_CHARS { s } else { s.chars().take(MAX_CHARS).collect() }
}

/// A value as text: a record gives its `text`, else its `label` or `name`.
pub fn plain_text(v: &Value) -> String {
    match v {
        Value::Null => String::new(),
        Value::Bool(b) => if *b { "是" } else { "否" }.into(),
        Value::Int(n) => n.to_string(),
        Value::Num(n) => n.to_string(),
        Value::Text(s) => s.clone(),
        Value::List(l) => l.iter().map(plain_text).collect::<Vec<_>>().join("、"),
        Value::Map(_) => {
            ["text", "label", "name"].iter().find_map(|k| v.get(k).as_text()).map_or_else(String::new, str::to_string)
        }
    }
}

/// An amount of money in cents.
fn cents(path: &Path, value: &Value) -> Option<i64> {
    let amount = value.as_int()?;
    if path.last_name().ends_with("_yuan") { amount.checked_mul(100) } else { Some(amount) }
}

/// A value and how it is to be said.
struct Said<'a> {
    plain: &'a str,
    cents: Option<i64>,
    filter: Option<Filter>,
    lang: Lang,
    today: (i32, u8, u8),
}

impl Said<'_> {
    fn spoken(&self) -> String {
        if self.lang == Lang::En { self.in_english() } else { self.in_chinese() }
    }

    fn in_chinese(&self) -> String {
        let plain = self.plain;
        match self.filter {
            None => plain.to_string(),
            Some(Filter::Digits) => language::spell_digits(plain),
            Some(Filter::Money) => self.cents.map_or_else(|| plain.to_string(), language::spell_money),
            Some(Filter::Date) => language::spell_date(plain, self.today),
            Some(Filter::Time) => language::spell_time(plain),
            Some(Filter::Mask) => match tail_of(plain) {
                Some(tail) => format!("尾号{}", language::spell_digits(&tail)),
                None => pii::mask(plain).replace('*', "某"),
            },
            Some(Filter::MaskName) => pii::mask(plain).replace('*', "某"),
            Some(Filter::Segments) => language::address_segments(plain).join(","),
        }
    }

    /// The English voice reads figures by itself; names and addresses stay in the writing they have.
    fn in_english(&self) -> String {
        let plain = self.plain;
        let apart = |text: &str| text.chars().map(String::from).collect::<Vec<_>>().join(" ");
        match self.filter {
            None => plain.to_string(),
            Some(Filter::Digits) => apart(plain),
            Some(Filter::Money) => self.cents.map_or_else(|| plain.to_string(), language::english_money),
            Some(Filter::Date) => language::english_date(plain, self.today),
            Some(Filter::Time) => language::english_time(plain),
            Some(Filter::Mask) => match tail_of(plain) {
                Some(tail) => format!("ending {}", apart(&tail)),
                None => pii::mask(plain).replace('*', ""),
            },
            Some(Filter::MaskName) => pii::mask(plain).replace('*', ""),
            Some(Filter::Segments) => plain.to_string(),
        }
    }
}

/// The last four digits of a number that is long enough to hide the rest.
fn tail_of(plain: &str) -> Option<String> {
    let digits: Vec<char> = plain.chars().filter(char::is_ascii_digit).collect();
    (digits.len() >= 8).then(|| digits[digits.len() - 4..].iter().collect())
}

/// What kind of personal data a field of this path is by its name.
pub fn kind_by_name(path: &Path) -> PiiKind {
    match path.last_name() {
        "caller" | "phone" | "phone_tail" | "diverted_from" => PiiKind::Phone,
        "receiver" | "name" => PiiKind::Name,
        "address" | "addresses" => PiiKind::Address,
        "text" if path.to_string().contains("address") => PiiKind::Address,
        "card" => PiiKind::Bank,
        _ => PiiKind::None,
    }
}

/// Whether a path leads to personal data.
pub fn is_personal(path: &Path, slots: &dyn Slots) -> bool {
    path.slot().is_some_and(|s| slots.is_personal(s)) || kind_by_name(path) != PiiKind::None
}

fn visible(path: &Path, said: &Said<'_>, slots: &dyn Slots) -> String {
    let plain = said.plain;
    let address = matches!(said.filter, Some(Filter::Segments)) || path.last_name() == "address";
    match said.filter {
        Some(Filter::Mask | Filter::MaskName) => pii::mask(plain),
        _ if address => {
            let head: String = plain.chars().take(6).collect();
            format!("{head}****")
        }
        _ if is_personal(path, slots) => pii::mask(plain),
        Some(Filter::Digits) => plain.to_string(),
        _ => said.spoken(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Slots with personal data, and none with names of its own.
    struct Known(&'static [&'static str]);

    impl Slots for Known {
        fn is_personal(&self, slot: &str) -> bool {
            self.0.contains(&slot)
        }

        fn say(&self, slot: &str, value: &str) -> Option<&str> {
            (slot == "bank" && value == "cmb").then_some("招商银行")
        }
    }

    fn voice() -> Voice {
        Voice { english: false, angry: false, elder: false, rate: 1.0, barge_in: true, today: (2026, 11, 20) }
    }

    fn scope() -> Scope {
        let order = Value::map([
            ("item", Value::text("双门冰箱")),
            ("tail", Value::text("3826")),
            ("eta", Value::text("2026-11-22")),
            ("receiver", Value::text("张小明")),
            ("price", Value::Int(35_050)),
        ]);
        let address = Value::map([("label", Value::text("公司")), ("text", Value::text("北京市朝阳区建国路88号"))]);
        let slots = Value::map([("new_address", address)]);
        let vars = [("order", order), ("slots", slots), ("caller", Value::text("13800138000"))];
        vars.map(|(k, v)| (k.to_string(), v)).into()
    }

    fn say(source: &str) -> (Prompt, Vec<String>) {
        let mut missing = Vec::new();
        let t = Template::plain(source);
        (render(&t, voice(), &scope(), &Known(&["new_address"]), &mut missing), missing)
    }

    #[test]
    fn a_value_of_a_list_is_said_as_callers_say_it() {
        let slots = Value::map([("bank", Value::text("cmb")), ("other", Value::text("cmb"))]);
        let scope: Scope = [("slots".to_string(), slots)].into();
        let t = Template::plain("{slots.bank},{slots.other}");
        let prompt = render(&t, voice(), &scope, &Known(&[]), &mut Vec::new());
        assert_eq!((prompt.text.as_str(), prompt.shown.as_str()), ("招商银行,cmb", "招商银行,cmb"));
    }

    #[test]
    fn values_are_spoken_in_full_and_shown_masked() {
        let (p, missing) =
            say("{order.item}尾号{order.tail|digits},{order.eta|date}到,收件人{order.receiver|mask_name}");
        assert_eq!(p.text, "双门冰箱尾号三八二六,后天到,收件人张某某");
        assert_eq!(p.shown, "双门冰箱尾号3826,后天到,收件人张**");
        assert!(missing.is_empty());
        let (p, _) = say("改到{slots.new_address|segments},来电{caller}");
        assert!(p.text.contains("建国路") && p.text.contains("13800138000"), "{}", p.text);
        assert!(!p.shown.contains("建国路") && p.shown.contains("138****8000"), "{}", p.shown);
    }

    #[test]
    fn a_missing_value_is_silent_and_reported() {
        let (p, missing) = say("好{nowhere.x|digits}的{{}}");
        assert_eq!((p.text.as_str(), missing), ("好的{}", vec!["nowhere.x".to_string()]));
    }

    #[test]
    fn the_variant_follows_the_caller() {
        let mut t = Template::plain("普通");
        t.angry = Some(Wording::parse("抱歉").unwrap());
        t.elder = Some(Wording::parse("慢").unwrap());
        t.en = Some(Wording::parse("plain").unwrap());
        let said = |v: Voice| render(&t, v, &scope(), &Known(&[]), &mut Vec::new());
        assert_eq!(said(voice()).text, "普通");
        let elder = said(Voice { elder: true, ..voice() });
        assert_eq!((elder.text.as_str(), elder.rate), ("慢", 0.9));
        assert_eq!(said(Voice { elder: true, angry: true, ..voice() }).text, "抱歉");
        let english = said(Voice { english: true, angry: true, ..voice() });
        assert_eq!((english.text.as_str(), english.lang), ("plain", Lang::En));
        assert_eq!(said(Voice { rate: 0.1, ..voice() }).rate, 0.5);
        let plain = Template::plain("普通");
        let chinese = render(&plain, Voice { english: true, ..voice() }, &scope(), &Known(&[]), &mut Vec::new());
        assert_eq!(chinese.lang, Lang::Zh, "a Chinese wording needs a Chinese voice");
    }

    #[test]
    fn errors_say_where() {
        for (source, at) in [("好{order.tail|digit}", 2), ("好{", 1), ("好}", 1), ("{a.}", 3), ("{}", 1)] {
            assert_eq!(Wording::parse(source).map_err(|e| e.at), Err(at), "{source}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(source in "[{}|a-z.\\[\\]0-9好]{0,40}") {
            let _ = Wording::parse(&source);
        }

        /// What a caller or a backend says never becomes part of the template.
        #[test]
        fn a_value_is_never_read_as_a_template(value in "\\PC{0,40}") {
            let scope: Scope = [("x".to_string(), Value::text(value.clone()))].into();
            let t = Template::plain("[{x}]");
            let p = render(&t, voice(), &scope, &Known(&[]), &mut Vec::new());
            prop_assert_eq!(p.text, format!("[{}]", value));
        }
    }
}
