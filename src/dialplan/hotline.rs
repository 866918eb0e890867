//! `hotline.yaml`: what all flows of the hotline share.
//!
//! ```yaml
//! hotline: 1
//! name: 众吉商城客服
//! lang: zh                                              # or en: prompts that have an `en:` wording are spoken in it
//! greeting: "您好,…我是智能客服,本次通话将被录音。"   # said once; must give notice of the recording and of the machine
//! entry:
//!   prompt: "请问您要办什么业务?"                       # the opening question
//!   again: "请问还有什么可以帮您?"                      # after a business that ends with `return`
//!   retry: {nomatch: ["…"], noinput: ["…"]}             # one each, then the key menu, then a person
//!   menu: "查订单请按1,投诉请按2,人工请按0。"           # the key menu, spoken after two misses
//!   keys: {"1": order_query, "2": complaint, "0": human} # key → intent
//! retry: {nomatch: ["…"], noinput: ["…"]}               # for nodes that give none
//! wait_s: 6                                             # silence before "nobody there"
//! ring_s: 20                                            # how long a seat may ring
//! global: {human: "flow:human", emergency: "flow:emergency"}
//! person: {queue: 综合, skill: 综合}                    # the last resort, when a flow breaks
//! thresholds: {act: 0.62, margin: 0.40, clarify: 0.45, second: 0.06, confidence: 0.30}
//! queues: [综合]
//! skills: [综合]
//! categories: [投诉]
//! oos: [今天天气怎么样]                                  # what is said on hotlines but is no business of ours
//! texts: {sorry: "…"}                                   # the hotline's own sentences (see `Texts`)
//! tests: []
//! ```

use super::model::{FlowTest, Link, Retry, Spot};
use super::problem::At;
use super::prompt::Template;
use super::understood::Global;
use crate::speech::Lang;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What all flows share.
#[derive(Debug, Clone, PartialEq)]
pub struct Hotline {
    /// The file's name.
    pub file: String,
    /// Its text.
    pub source: Arc<str>,
    /// The company's name.
    pub name: String,
    /// The language spoken with callers (`lang: zh` or `en`; `zh` unless given).
    pub lang: Lang,
    /// Said once, when the call is answered.
    pub greeting: Template,
    /// The opening question.
    pub entry: Entry,
    /// Prompts after a miss for nodes that give none.
    pub retry: Retry,
    /// Silence before "nobody there", in milliseconds.
    pub wait_ms: u32,
    /// How long a seat may ring, in milliseconds.
    pub ring_ms: u32,
    /// Where global phrases lead when the flow says nothing.
    pub globals: BTreeMap<Global, Link>,
    /// Queue and skill of the last resort.
    pub person: (Spot, Option<Spot>),
    /// When to act, ask back, refuse.
    pub thresholds: Thresholds,
    /// Queues that exist.
    pub queues: Vec<String>,
    /// Skills that exist.
    pub skills: Vec<String>,
    /// Ticket categories that exist.
    pub categories: Vec<String>,
    /// What is out of scope.
    pub oos: Vec<Spot>,
    /// The hotline's own sentences.
    pub texts: Texts,
    /// Tests that span flows.
    pub tests: Vec<FlowTest>,
}

impl Hotline {
    /// Everything it says itself.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let entry = &self.entry;
        let own = [&self.greeting, &entry.prompt, &entry.again, &entry.menu].into_iter();
        own.chain(entry.retry.prompts()).chain(self.retry.prompts()).chain(self.texts.all())
    }
}

/// The opening question.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it stands.
    pub at: At,
    /// The question.
    pub prompt: Template,
    /// The question after a business is done.
    pub again: Template,
    /// After a first miss.
    pub retry: Retry,
    /// The key menu, spoken after two misses.
    pub menu: Template,
    /// Keys and the intents they stand for.
    pub keys: Vec<(char, Spot)>,
}

/// When the classifier's answer is acted on. All 0.0..=1.0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Act when the best score is at least this …
    pub act: f32,
    /// … and leads the second by this; otherwise ask which of the two.
    pub margin: f32,
    /// Least score of the two best together to ask which of them.
    pub clarify: f32,
    /// Least score of the second to be worth asking about.
    pub second: f32,
    /// A recogniser's reading below this is not used.
    pub confidence: f32,
}

impl Default for Thresholds {
    /// Measured on held-out examples of the shipped flows, by the classifier alone: it acts on 69 % and is right in 94 %
    /// of those, asks which of two on 15 %, and never acts on small talk. Higher ones are righter and ask more often.
    fn default() -> Self {
        Thresholds { act: 0.80, margin: 0.50, clarify: 0.45, second: 0.06, confidence: 0.30 }
    }
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident = $default:literal;)*) => {
        /// The hotline's own sentences; each may be given in `texts:`.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Texts { $($(#[$doc])* pub $name: Template,)* }

        impl Texts {
            /// Their names.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// All of them.
            pub fn all(&self) -> Vec<&Template> { vec![$(&self.$name),*] }

            /// The sentence of this name, to be replaced.
            pub fn get_mut(&mut self, name: &str) -> Option<&mut Template> {
                match name { $(stringify!($name) => Some(&mut self.$name),)* _ => None }
            }
        }

        impl Default for Texts {
            fn default() -> Self {
                Texts { $($name: Template::plain($default),)* }
            }
        }
    };
}

texts! {
    /// Before what a digression interrupted goes on.
    resume = "我们接着刚才的。";
    /// Asks whether a person is wanted, when the caller is angry.
    offer = "非常抱歉给您添麻烦了。要不要我马上给您转人工?";
    /// Said once to an angry caller whose answer was understood.
    hint = "抱歉让您着急了,您随时可以说转人工。";
    /// After the offer was declined.
    stay = "好的,我继续为您办理。";
    /// Before a hand-over that no flow asked for.
    handover = "我给您转人工同事处理,不用重复说,请稍等。";
    /// When a ticket could not be written.
    ticket_failed = "抱歉,系统没能登记成功。";
    /// When no seat could be had and no flow says what to do.
    no_seat = "抱歉,现在坐席都在忙,我为您登记回拨。";
    /// After a call-back was written down without a flow.
    callback = "已为您登记回拨,工单尾号{ticket.tail|digits},再见。";
    /// When even that failed.
    failed = "非常抱歉,系统暂时无法为您服务,请您稍后再拨。再见。";
    /// Asks which of two businesses was meant (`{a}`, `{b}`).
    clarify = "您是想{a},还是{b}?前一个请按1,后一个请按2。";
    /// Before a slower repetition.
    slower = "好的,我说慢一点。";
    /// Key hint of yes/no questions.
    yes_no_keys = "对请按1,不对请按2。";
    /// Key hint of digits.
    digit_keys = "请用电话按键输入,按井号结束。";
    /// Verification: last four digits of the buyer's phone.
    last4 = "为了您的账户安全,请说下单手机号的后四位,也可以按键输入。";
    /// Verification: the receiver's name.
    verify_name = "请说收件人的姓名,也可以按键输入实付金额的整数元,按井号结束。";
    /// Verification: a wrong answer, one more try.
    verify_again = "和登记的不一致,请再说一次。";
    /// Survey, when the node has no prompt.
    survey = "满意请说满意或按1,一般请按2,不满意请按3。";
    /// When nothing can be cancelled because nothing has begun.
    nothing = "好的。";
}
