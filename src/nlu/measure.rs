//! Measurements on the hotline's own examples (`flows.yaml`), where they are present.
//!
//! `cargo test --lib nlu::measure -- --nocapture` prints the figures.

use super::intent::{Classifier, Example, OUT_OF_SCOPE, Reading};
use super::policy::{Decision, Policy};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    flows: Vec<Group>,
    meta: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    id: String,
    train: Vec<String>,
    #[serde(default)]
    asr: Vec<String>,
}

/// The examples and the homophone variants of the flows and the out-of-scope class.
fn flows(open_only: bool) -> Option<(Vec<Example>, Vec<Example>)> {
    let found = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/design/flows.yaml")).ok();
    let Some(text) = found else {
        crate::skip::skipped("../shared/design/flows.yaml is not here, nothing was measured");
        return None;
    };
    let file: File = serde_saphyr::from_str(&text).expect("flows.yaml parses");
    // csat and outbound_care are answers to their own questions, not asked for at an open one
    let own_question = |g: &Group| !open_only || !matches!(g.id.as_str(), "csat" | "outbound_care");
    let groups: Vec<Group> = file
        .flows
        .into_iter()
        .chain(file.meta.into_iter().filter(|m| m.id == OUT_OF_SCOPE))
        .filter(own_question)
        .collect();
    let of = |g: &Group, t: &String| Example { label: g.id.clone(), text: t.clone() };
    let train = groups.iter().flat_map(|g| g.train.iter().map(|t| of(g, t))).collect();
    let asr = groups.iter().flat_map(|g| g.asr.iter().map(|t| of(g, t))).collect();
    Some((train, asr))
}

/// Figures of a labelled set.
#[derive(Default, Debug)]
struct Score {
    n: usize,
    top1: usize,
    top2: usize,
    acted: usize,
    acted_right: usize,
    clarified: usize,
    clarified_right: usize,
}

impl Score {
    fn add(&mut self, policy: &Policy, label: &str, candidates: &[(String, f32)]) {
        self.n += 1;
        self.top1 += usize::from(candidates.first().is_some_and(|c| c.0 == label));
        self.top2 += usize::from(candidates.iter().take(2).any(|c| c.0 == label));
        match policy.decide(candidates) {
            Decision::Act(l) => {
                self.acted += 1;
                self.acted_right += usize::from(l == label);
            }
            Decision::Clarify(a, b) => {
                self.clarified += 1;
                self.clarified_right += usize::from(a == label || b == label);
            }
            Decision::Reprompt => {}
        }
    }

    fn share(part: usize, of: usize) -> f32 {
        part as f32 / of.max(1) as f32
    }

    fn print(&self, name: &str) {
        eprintln!(
            "{name}: n {} top1 {:.3} top2 {:.3} | acts {:.3} right {:.3} | asks which {:.3} with the right one {:.3}",
            self.n,
            Score::share(self.top1, self.n),
            Score::share(self.top2, self.n),
            Score::share(self.acted, self.n),
            Score::share(self.acted_right, self.acted),
            Score::share(self.clarified, self.n),
            Score::share(self.clarified_right, self.clarified),
        );
    }
}

/// Label, text and candidates of an example.
type Held = (String, String, Vec<(String, f32)>);

/// Candidates for every example, from a classifier that did not see it (`folds` = number of examples: leave-one-out).
fn held_out(all: &[Example], folds: usize) -> Vec<Held> {
    let mut out = Vec::new();
    for fold in 0..folds {
        let part =
            |held: bool| all.iter().enumerate().filter(move |(i, _)| (i % folds == fold) == held).map(|(_, e)| e);
        let train: Vec<Example> = part(false).cloned().collect();
        let c = Classifier::train(&train, 1);
        out.extend(part(true).map(|e| (e.label.clone(), e.text.clone(), c.classify(&[Reading::of(&e.text)], None))));
    }
    out
}

#[test]
fn homophones_are_understood_and_acting_is_nearly_always_right() {
    let policy = Policy::default();
    for (name, open_only) in [("13 businesses + oos", true), ("15 flows + oos", false)] {
        let Some((train, asr)) = flows(open_only) else { return };
        let mut held = Score::default();
        for (label, text, candidates) in held_out(&train, 24) {
            if std::env::var_os("SHOW").is_some() && policy.decide(&candidates) != Decision::Act(label.clone()) {
                eprintln!("  {text} is {label}: {:.2?} {:?}", &candidates[..3], policy.decide(&candidates));
            }
            held.add(&policy, &label, &candidates);
        }
        held.print(&format!("{name}, held out (24 folds)"));
        let c = Classifier::train(&train, 1);
        let mut homophones = Score::default();
        for e in &asr {
            homophones.add(&policy, &e.label, &c.classify(&[Reading::of(&e.text)], None));
        }
        homophones.print(&format!("{name}, homophones"));
        if open_only {
            assert!(Score::share(held.acted_right, held.acted) >= 0.97, "{held:?}");
            assert!(Score::share(held.top1, held.n) >= 0.85, "{held:?}");
            assert!(Score::share(homophones.top1, homophones.n) >= 0.98, "{homophones:?}");
        }
    }
}

/// A set written after the word lists, in other words than the examples where possible; one author, so no proof.
const BLIND: &[(&str, &[&str])] = &[
    (
        "order_query",
        &[
            "我前两天拍的那个电饭锅怎么还不发",
            "麻烦看看我下单成功没有",
            "我在你们网上订的货到底出库了吗",
            "钱都付了怎么看不到订单",
            "我的东西啥时候能发出来",
            "帮忙看下我那笔交易",
            "我想知道我买的洗衣机备货没",
            "上个礼拜订的沙发有消息吗",
        ],
    ),
    (
        "logistics",
        &[
            "我的件到哪儿了",
            "派送员电话给我一下",
            "快递柜打不开拿不到件",
            "说是送到了可我没见着",
            "包裹一直停在武汉不动",
            "能让他今天给我送过来吗",
            "怎么还没送到家",
            "物流好几天没更新",
        ],
    ),
    (
        "refund",
        &[
            "这衣服太小了我想退",
            "把款给我退回来",
            "这个东西有毛病不要了",
            "钱啥时候退回来",
            "你们发错货了我要退",
            "能不能给我退了算了",
            "我后悔了不想买了",
            "退货流程怎么走",
        ],
    ),
    (
        "change_address",
        &[
            "我不在家能给我送到单位吗",
            "门牌号写错了",
            "送货地点能换一下吗",
            "我填的是老家的地址得改",
            "帮我把收件电话改一下",
            "改寄到我父母那边",
            "地址选错了咋办",
            "我想换个收货的地方",
        ],
    ),
    (
        "unbind",
        &[
            "手机号不用了想从账号里去掉",
            "怎么把这张卡从账户里删掉",
            "我想解除微信绑定",
            "换了新号码绑定怎么改",
            "绑定的银行卡怎么取消",
            "解绑手机",
            "我要把旧卡解除",
            "账号绑错人了",
        ],
    ),
    (
        "balance_bill",
        &[
            "我卡里还有多少",
            "上个月花了多少",
            "看看我欠多少钱",
            "怎么莫名其妙扣我三十块",
            "我的积分还剩多少",
            "把这个月账单发给我",
            "几号要还款",
            "查一下我的话费",
        ],
    ),
    (
        "appointment",
        &[
            "什么时候能来装空调",
            "帮我定个时间让师傅来",
            "我想换个日子上门",
            "后天有没有空来装",
            "这周末能上门吗",
            "把之前约的时间往后推一天",
            "预约一个保养",
            "师傅能改成下午来吗",
        ],
    ),
    (
        "repair",
        &[
            "洗衣机不转了",
            "电视没有图像",
            "网一直断",
            "热水器不出热水",
            "手机充不进去电",
            "机器报错了",
            "家里宽带连不上",
            "遥控器按了没反应",
        ],
    ),
    (
        "ticket_progress",
        &[
            "上回反映的事处理了吗",
            "我报的那个修有人管吗",
            "都两天了还没人跟我联系",
            "查一下我的工单到哪步了",
            "你们答应给我回话的呢",
            "之前提交的申请有没有通过",
            "上礼拜登记的问题解决没有",
            "那个单子处理得怎么样",
        ],
    ),
    (
        "complaint",
        &[
            "你们客服说话太难听了",
            "我要告你们欺骗消费者",
            "我要反映一个员工的问题",
            "服务态度实在太恶劣",
            "我对你们的服务很不满",
            "叫你们经理出来给个说法",
            "你们这是虚假宣传",
            "说好的赔偿没给我",
        ],
    ),
    (
        "product_inquiry",
        &[
            "现在买有没有打折",
            "这个冰箱保修多长时间",
            "可以开专票吗",
            "你们几点关门",
            "办会员多少钱",
            "有没有分期免息",
            "新款什么时候出",
            "邮费谁出",
        ],
    ),
    (
        "human",
        &[
            "我要跟真人说",
            "帮我转一下客服",
            "有没有活人",
            "让你们工作人员接电话",
            "给我接人工座席",
            "我不要机器人",
            "人工台",
            "找个能说话的人",
        ],
    ),
    (
        "loss_report",
        &[
            "我钱包丢了卡在里面",
            "银行卡被人偷了",
            "赶紧把我的卡冻住",
            "卡掉了怎么办",
            "有人盗刷我的卡",
            "我的卡找不到了先停了",
            "我要办理挂失",
            "账户被人登录了快锁上",
        ],
    ),
    (
        "oos",
        &[
            "明天会下雨吗",
            "给我放首歌",
            "你几岁了",
            "北京有多少人口",
            "附近哪里有加油站",
            "今天股市怎么样",
            "你喜欢吃什么",
            "帮我写首诗",
        ],
    ),
];

#[test]
fn other_words_for_the_same_business_are_mostly_understood() {
    let Some((train, _)) = flows(true) else { return };
    let c = Classifier::train(&train, 1);
    let policy = Policy::default();
    let mut s = Score::default();
    for (label, text) in BLIND.iter().flat_map(|(l, ts)| ts.iter().map(move |t| (*l, *t))) {
        let r = c.classify(&[Reading::of(text)], None);
        s.add(&policy, label, &r);
    }
    s.print("other words");
    assert!(Score::share(s.top1, s.n) >= 0.75, "{s:?}");
}
