//! A linear classifier of intents: multinomial logistic regression on hashed n-grams, trained in memory.
//!
//! Small data is the rule (12-100 examples an intent), so: TF-IDF, unit length per kind of feature, L2, and a
//! temperature fitted on held-back folds, so that a probability may be compared with a threshold.
//! The same examples and seed give the same weights.

use super::features::{self, Features, KINDS};
use super::normalise::normalise;
use super::pinyin::toneless;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;

/// The label of utterances that are none of the hotline's business. Trained like any other when examples carry it.
pub const OUT_OF_SCOPE: &str = "oos";

/// Weight of each kind of feature (text, sound, concepts), relative to the others.
const KIND_WEIGHT: [f32; KINDS] = [1.0, 0.8, 1.1];
/// Passes over the examples.
const EPOCHS: usize = 30;
/// First step size of the gradient; falls as 1 / (1 + epoch / 8).
const STEP: f32 = 2.0;
/// L2 penalty, per example.
const PENALTY: f32 = 1e-3;
/// Probability given at once to the intent one of whose examples was said.
const KNOWN_SHARE: f32 = 0.98;
/// How often an example is shown with its concepts alone, or without them: so that neither kind of evidence is
/// trusted beyond its worth when the other is unknown.
const DROP_WORDS: f32 = 0.2;
const DROP_CONCEPTS: f32 = 0.4;
/// Folds held back in turn to fit the temperature; one is enough when there are many examples.
const FOLDS: usize = 4;
const MANY: usize = 1000;

/// A labelled utterance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The intent.
    pub label: String,
    /// What a caller says for it.
    pub text: String,
}

/// One reading of an utterance, as a recogniser gives several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading<'a> {
    /// The words; may be empty when only `pinyin` is known.
    pub text: &'a str,
    /// Toneless pinyin that was heard; empty: it is made from the text.
    pub pinyin: &'a [String],
    /// How much it counts, above 0.
    pub weight: f32,
}

impl<'a> Reading<'a> {
    /// A single certain reading.
    pub fn of(text: &'a str) -> Self {
        Reading { text, pinyin: &[], weight: 1.0 }
    }
}

/// A trained classifier. A value: share it behind an `Arc`.
#[derive(Debug, Clone, Default)]
pub struct Classifier {
    labels: Vec<String>,
    space: Space,
    weights: Weights,
    temperature: f32,
    known: Known,
}

/// The examples themselves: who says one word for word, or in homophones, is understood at once.
#[derive(Debug, Clone, Default)]
struct Known {
    /// By normalised text, and by toneless pinyin; `None` when two intents share it.
    by_text: HashMap<String, Option<usize>>,
    by_sound: HashMap<String, Option<usize>>,
}

impl Known {
    fn add(&mut self, text: &str, label: usize) {
        let text = normalise(text);
        let sound = toneless(&text).join(" ");
        for (map, key) in [(&mut self.by_text, text), (&mut self.by_sound, sound)] {
            map.entry(key).and_modify(|l| *l = l.filter(|l| *l == label)).or_insert(Some(label));
        }
    }

    fn find(&self, reading: &Reading) -> Option<usize> {
        let text = normalise(reading.text);
        if let Some(label) = self.by_text.get(&text).filter(|_| !text.is_empty()) {
            return *label;
        }
        let sound = if reading.pinyin.is_empty() { toneless(&text).join(" ") } else { reading.pinyin.join(" ") };
        // by sound only when all of it is hanzi and long enough to be no accident
        let plain = text.chars().all(|c| !c.is_ascii_alphanumeric()) && sound.contains(' ');
        self.by_sound.get(&sound).filter(|_| plain).copied().flatten()
    }
}

/// Which features are known, and how rare each is.
#[derive(Debug, Clone, Default)]
struct Space {
    index: HashMap<u64, u32>,
    idf: Vec<f32>,
}

/// One row of label scores for each feature, and a bias for each label.
#[derive(Debug, Clone, Default)]
struct Weights {
    labels: usize,
    rows: Vec<f32>,
    bias: Vec<f32>,
}

/// A sparse vector: (feature, value).
#[derive(Debug, Clone, Default)]
struct Vector {
    items: Vec<(u32, f32)>,
    /// How many of them are words and sounds; concepts follow.
    words: usize,
}

impl Space {
    fn new(all: &[Features]) -> Space {
        let mut seen: HashMap<u64, u32> = HashMap::new();
        let mut order = Vec::new();
        for (h, _) in all.iter().flat_map(|f| f.kinds.iter().flatten()) {
            let n = seen.entry(*h).or_insert(0);
            if *n == 0 {
                order.push(*h);
            }
            *n += 1;
        }
        let total = all.len() as f32;
        let idf = order.iter().map(|h| ((1.0 + total) / (1.0 + seen[h] as f32)).ln() + 1.0).collect();
        let index = order.into_iter().enumerate().map(|(i, h)| (h, i as u32)).collect();
        Space { index, idf }
    }

    /// TF-IDF, unit length within each kind, kinds weighted.
    fn vector(&self, f: &Features) -> Vector {
        let mut out = Vec::new();
        let mut words = 0;
        for (kind, weight) in f.kinds.iter().zip(KIND_WEIGHT) {
            let from = out.len();
            words = from; // ends as the number of items before the last kind, the concepts
            let mut square = 0.0;
            for (h, n) in kind {
                // unknown features lengthen the vector too: an utterance of mostly new words must not look certain
                let known = self.index.get(h);
                let value = (1.0 + n.ln()) * known.map_or(1.0, |i| self.idf[*i as usize]);
                square += value * value;
                if let Some(i) = known {
                    out.push((*i, value));
                }
            }
            let scale = if square > 0.0 { weight / square.sqrt() } else { 0.0 };
            out[from..].iter_mut().for_each(|(_, v)| *v *= scale);
        }
        Vector { items: out, words }
    }
}

impl Weights {
    fn new(features: usize, labels: usize) -> Weights {
        Weights { labels, rows: vec![0.0; features * labels], bias: vec![0.0; labels] }
    }

    fn row(&self, feature: u32) -> &[f32] {
        &self.rows[feature as usize * self.labels..][..self.labels]
    }

    fn logits(&self, x: &Vector) -> Vec<f32> {
        let mut z = self.bias.clone();
        for (f, v) in &x.items {
            z.iter_mut().zip(self.row(*f)).for_each(|(z, w)| *z += v * w);
        }
        z
    }

    /// Stochastic gradient descent; the L2 penalty is applied as one shrinking factor, so a step costs only the
    /// features present.
    fn train(xs: &[(&Vector, usize)], features: usize, labels: usize, rng: &mut ChaCha8Rng) -> Weights {
        let mut w = Weights::new(features, labels);
        let mut order: Vec<usize> = (0..xs.len()).collect();
        let mut shrink = 1.0f32; // the true weight is rows × shrink
        for epoch in 0..EPOCHS {
            order.shuffle(rng);
            let step = STEP / (1.0 + epoch as f32 / 8.0);
            for &i in &order {
                let (x, label) = xs[i];
                let x = match rng.random::<f32>() {
                    r if r < DROP_WORDS => &x.items[x.words..],
                    r if r > 1.0 - DROP_CONCEPTS => &x.items[..x.words],
                    _ => &x.items[..],
                };
                let mut z = vec![0.0; labels];
                for (f, v) in x {
                    z.iter_mut().zip(w.row(*f)).for_each(|(z, w)| *z += v * w);
                }
                z.iter_mut().zip(&w.bias).for_each(|(z, b)| *z = *z * shrink + b);
                softmax(&mut z, 1.0);
                z[label] -= 1.0;
                shrink *= 1.0 - step * PENALTY;
                let back = step / shrink;
                for (f, v) in x {
                    let row = &mut w.rows[*f as usize * labels..][..labels];
                    row.iter_mut().zip(&z).for_each(|(r, g)| *r -= back * v * g);
                }
                w.bias.iter_mut().zip(&z).for_each(|(b, g)| *b -= 0.02 * step * g);
            }
        }
        w.rows.iter_mut().for_each(|r| *r *= shrink);
        w
    }
}

/// Turns scores into probabilities, in place.
fn softmax(z: &mut [f32], temperature: f32) {
    let top = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for v in z.iter_mut() {
        *v = ((*v - top) / temperature).exp();
        sum += *v;
    }
    z.iter_mut().for_each(|v| *v /= sum);
}

impl Classifier {
    /// Trains on `examples`. Labels are kept in order of first appearance; no examples give a classifier that
    /// knows nothing.
    pub fn train(examples: &[Example], seed: u64) -> Classifier {
        let mut labels: Vec<String> = Vec::new();
        let mut ids: HashMap<&str, usize> = HashMap::new();
        let mut targets = Vec::with_capacity(examples.len());
        for e in examples {
            let id = *ids.entry(&e.label).or_insert_with(|| {
                labels.push(e.label.clone());
                labels.len() - 1
            });
            targets.push(id);
        }
        let mut known = Known::default();
        examples.iter().zip(&targets).for_each(|(e, t)| known.add(&e.text, *t));
        let features: Vec<Features> = examples.iter().map(|e| features::extract(&e.text, &[])).collect();
        let space = Space::new(&features);
        let vectors: Vec<Vector> = features.iter().map(|f| space.vector(f)).collect();
        let xs: Vec<(&Vector, usize)> = vectors.iter().zip(targets).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let temperature = calibrate(&xs, space.idf.len(), labels.len(), &mut rng);
        let weights = Weights::train(&xs, space.idf.len(), labels.len(), &mut rng);
        Classifier { labels, space, weights, temperature, known }
    }

    /// The labels it was trained on.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Labels with probabilities, best first. `scope` keeps only those labels (and [`OUT_OF_SCOPE`], when trained)
    /// and shares the probability among them. Several readings are averaged by weight. Empty when nothing was
    /// said or nothing is known.
    pub fn classify(&self, readings: &[Reading], scope: Option<&[String]>) -> Vec<(String, f32)> {
        let allowed: Vec<usize> = (0..self.labels.len())
            .filter(|i| scope.is_none_or(|s| s.contains(&self.labels[*i]) || self.labels[*i] == OUT_OF_SCOPE))
            .collect();
        let mut sum = vec![0.0f32; allowed.len()];
        let mut total = 0.0f32;
        for r in readings.iter().filter(|r| r.weight > 0.0) {
            let f = features::extract(r.text, r.pinyin);
            if f.kinds.iter().all(Vec::is_empty) {
                continue;
            }
            let z = self.weights.logits(&self.space.vector(&f));
            let mut p: Vec<f32> = allowed.iter().map(|i| z[*i]).collect();
            softmax(&mut p, self.temperature);
            if let Some(k) = self.known.find(r).and_then(|k| allowed.iter().position(|a| *a == k)) {
                p.iter_mut().for_each(|p| *p *= 1.0 - KNOWN_SHARE);
                p[k] += KNOWN_SHARE;
            }
            sum.iter_mut().zip(&p).for_each(|(s, p)| *s += p * r.weight);
            total += r.weight;
        }
        if total <= 0.0 {
            return Vec::new();
        }
        let mut out: Vec<(String, f32)> =
            allowed.iter().zip(sum).map(|(i, s)| (self.labels[*i].clone(), s / total)).collect();
        out.sort_by(|a, b| b.1.total_cmp(&a.1));
        out
    }
}

/// The temperature under which probabilities on held-back examples fit best (least negative log likelihood).
fn calibrate(xs: &[(&Vector, usize)], features: usize, labels: usize, rng: &mut ChaCha8Rng) -> f32 {
    if xs.len() < 4 * FOLDS || labels < 2 {
        return 1.0;
    }
    let mut order: Vec<usize> = (0..xs.len()).collect();
    order.shuffle(rng);
    let mut held = Vec::new();
    for fold in 0..if xs.len() > MANY { 1 } else { FOLDS } {
        let part = |keep: bool| {
            order.iter().enumerate().filter(move |(k, _)| (k % FOLDS == fold) != keep).map(|(_, i)| xs[*i])
        };
        let train: Vec<_> = part(true).collect();
        let w = Weights::train(&train, features, labels, rng);
        held.extend(part(false).map(|(x, y)| (w.logits(x), y)));
    }
    let loss = |t: f32| -> f32 {
        held.iter()
            .map(|(z, y)| {
                let mut p = z.clone();
                softmax(&mut p, t);
                -p[*y].max(1e-9).ln()
            })
            .sum()
    };
    // golden section on log temperature, 0.1..=5
    let (mut a, mut b) = (0.1f32.ln(), 5.0f32.ln());
    for _ in 0..20 {
        let third = (b - a) * 0.381_966;
        if loss((a + third).exp()) < loss((b - third).exp()) {
            b -= third;
        } else {
            a += third;
        }
    }
    ((a + b) / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(pairs: &[(&str, &[&str])]) -> Vec<Example> {
        let of = |l: &str, t: &str| Example { label: l.into(), text: t.into() };
        pairs.iter().flat_map(|(l, ts)| ts.iter().map(move |t| of(l, t))).collect()
    }

    fn small() -> Vec<Example> {
        examples(&[
            (
                "order",
                &[
                    "我想查一下订单",
                    "查订单",
                    "我的订单到哪一步了",
                    "订单状态查询",
                    "帮我看看订单",
                    "我买的东西发货了没有",
                ],
            ),
            (
                "refund",
                &["我要退款", "申请退货退款", "怎么把钱退给我", "我不想要了退掉", "买错了能退吗", "退款什么时候到账"],
            ),
            ("repair", &["我要报修", "冰箱不制冷了", "机器坏了", "空调一直响", "维修怎么弄", "打不开机"]),
            ("oos", &["今天天气怎么样", "讲个笑话", "唱首歌", "你吃饭了吗", "世界杯谁赢了", "你几岁了"]),
        ])
    }

    #[test]
    fn the_same_seed_gives_the_same_answer() {
        let (a, b) = (Classifier::train(&small(), 7), Classifier::train(&small(), 7));
        assert_eq!(a.classify(&[Reading::of("我的订单呢")], None), b.classify(&[Reading::of("我的订单呢")], None));
    }

    #[test]
    fn unseen_words_and_homophones_find_their_intent() {
        let c = Classifier::train(&small(), 1);
        for (text, label) in
            [("查一下我的定单", "order"), ("我要腿款", "refund"), ("冰箱坏了要修", "repair"), ("明天天气怎么样", "oos")]
        {
            let r = c.classify(&[Reading::of(text)], None);
            assert_eq!(r[0].0, label, "{text} {r:?}");
            assert!((r.iter().map(|x| x.1).sum::<f32>() - 1.0).abs() < 1e-4);
        }
        let heard: Vec<String> = ["tui", "kuan"].map(String::from).to_vec();
        let r = c.classify(&[Reading { text: "", pinyin: &heard, weight: 1.0 }], None);
        assert_eq!(r[0].0, "refund");
    }

    #[test]
    fn english_is_told_apart_by_words_and_parts_of_words() {
        let c = Classifier::train(
            &examples(&[
                (
                    "order",
                    &[
                        "where is my order",
                        "I want to check my order status",
                        "track my purchase",
                        "has my package shipped yet",
                    ],
                ),
                (
                    "refund",
                    &["I want a refund", "I'd like to return this", "I want my money back", "you charged me twice"],
                ),
                ("human", &["talk to a person", "agent please", "get me a human", "customer service"]),
            ]),
            1,
        );
        for (text, label) in
            [("what is my orders status", "order"), ("refunding please", "refund"), ("a person please", "human")]
        {
            assert_eq!(c.classify(&[Reading::of(text)], None)[0].0, label, "{text}");
        }
    }

    #[test]
    fn an_example_said_word_for_word_or_in_homophones_is_certain() {
        let c = Classifier::train(&small(), 1);
        for text in ["机器坏了", "嗯，机器坏了", "鸡器坏了"] {
            let r = c.classify(&[Reading::of(text)], None);
            assert!(r[0].0 == "repair" && r[0].1 >= 0.98, "{text} {r:?}");
        }
    }

    #[test]
    fn a_scope_leaves_only_its_labels_and_out_of_scope() {
        let c = Classifier::train(&small(), 1);
        let r = c.classify(&[Reading::of("我要退款")], Some(&["order".to_owned()]));
        let mut names: Vec<_> = r.iter().map(|x| x.0.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["oos", "order"]);
    }

    #[test]
    fn several_readings_are_weighed() {
        let c = Classifier::train(&small(), 1);
        let r = |w: f32| {
            let both = [
                Reading { text: "我要退款", pinyin: &[], weight: w },
                Reading { text: "我要报修", pinyin: &[], weight: 1.0 - w },
            ];
            c.classify(&both, None)[0].0.clone()
        };
        assert_eq!(r(0.9), "refund");
        assert_eq!(r(0.1), "repair");
    }

    #[test]
    fn nothing_said_or_nothing_known_gives_no_candidates() {
        let c = Classifier::train(&small(), 1);
        assert!(c.classify(&[], None).is_empty());
        assert!(c.classify(&[Reading::of("，。")], None).is_empty());
        assert!(Classifier::train(&[], 1).classify(&[Reading::of("你好")], None).is_empty());
        assert!(Classifier::default().classify(&[Reading::of("你好")], None).is_empty());
    }
}
