//! What the line doctor says: level, what was seen, what it means, what to do; in Chinese and in English.

use crate::cli::out;

/// The language of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Lang {
    /// 中文
    Zh,
    /// English
    En,
}

impl Lang {
    /// As the environment has it: English where it says so, else Chinese.
    pub fn of_environment() -> Lang {
        let set = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let locale = set("LC_ALL").or_else(|| set("LC_MESSAGES")).or_else(|| set("LANG")).unwrap_or_default();
        if locale.starts_with("en") { Lang::En } else { Lang::Zh }
    }
}

/// One text in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// 中文
    pub zh: String,
    /// English
    pub en: String,
}

impl Words {
    /// In this language.
    pub fn get(&self, lang: Lang) -> &str {
        match lang {
            Lang::Zh => &self.zh,
            Lang::En => &self.en,
        }
    }
}

/// Both languages, each a format string.
macro_rules! words {
    ($zh:literal, $en:literal $(,)?) => {
        $crate::cli::doctor::finding::Words { zh: format!($zh), en: format!($en) }
    };
}
pub(in crate::cli) use words;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, or works for some; or could not be looked at.
    Warn,
    /// Callers will notice.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A name that programs can ask for: stays the same in each language.
    pub check: &'static str,
    /// How bad.
    pub level: Level,
    /// What was seen.
    pub seen: Words,
    /// What that means; empty when all is well.
    pub means: Words,
    /// What to do; empty when there is nothing.
    pub todo: Words,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, seen: Words) -> Finding {
        Finding { check, level: Level::Ok, seen, means: Words::default(), todo: Words::default() }
    }

    /// Something to know.
    pub fn warn(check: &'static str, seen: Words, means: Words, todo: Words) -> Finding {
        Finding { check, level: Level::Warn, seen, means, todo }
    }

    /// Something to mend.
    pub fn error(check: &'static str, seen: Words, means: Words, todo: Words) -> Finding {
        Finding { check, level: Level::Error, seen, means, todo }
    }

    /// Prints it.
    pub fn tell(&self, json: bool, lang: Lang) {
        if json {
            let level = format!("{:?}", self.level).to_lowercase();
            out::json(&serde_json::json!({
                "check": self.check, "level": level, "seen": self.seen.get(lang), "means": self.means.get(lang),
                "do": self.todo.get(lang),
            }));
            return;
        }
        let mark = match (self.level, lang) {
            (Level::Ok, Lang::Zh) => "正常",
            (Level::Warn, Lang::Zh) => "注意",
            (Level::Error, Lang::Zh) => "故障",
            (Level::Ok, Lang::En) => "ok  ",
            (Level::Warn, Lang::En) => "note",
            (Level::Error, Lang::En) => "BAD ",
        };
        say!("{mark}  {:13} {}", self.check, self.seen.get(lang));
        let labels = match lang {
            Lang::Zh => ["说明", "处理"],
            Lang::En => ["means", "do"],
        };
        for (label, words) in labels.into_iter().zip([&self.means, &self.todo]) {
            if !words.get(lang).is_empty() {
                say!("        {label}: {}", words.get(lang));
            }
        }
    }
}

#[cfg(test)]
pub fn level_of(findings: &[Finding], check: &str) -> Level {
    let found = findings.iter().filter(|f| f.check == check).map(|f| f.level).max();
    found.unwrap_or_else(|| panic!("no {check} in {findings:#?}"))
}
