//! Recognition workers: utterances in (chunk by chunk, while the caller speaks), meanings out.
//!
//! A call always goes to the same worker, so its chunks stay in order without locks. A worker that is behind
//! refuses new utterances at the door: the caller is asked again or offered keys, and nothing piles up.

use super::shard::{ShardCommand, ShardHandle};
use super::time::now;
use crate::call::{CallInput, Heard};
use crate::clock::Mono;
use crate::dialplan::{FlowSet, Listen};
use crate::ids::{CallId, TurnId};
use crate::speech::{Grammar, Recognizer, RecognizerStream, Transcript};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Jobs a worker may have waiting (a job is at most 300 ms of sound).
const WORKER_QUEUE: usize = 512;
/// Grammars a worker keeps ready.
const GRAMMARS: usize = 64;
/// An utterance nobody ends is forgotten after this long.
const FORGET_MS: u64 = 60_000;

/// What a shard asks for.
pub enum Utterance {
    /// The caller begins to speak.
    Start {
        /// What the node can hear.
        listen: Arc<Listen>,
        /// The flows the call began with.
        flows: Arc<FlowSet>,
    },
    /// More of it.
    Audio(Vec<i16>),
    /// It is over.
    End,
    /// It is void.
    Cancel,
}

struct Job {
    call: CallId,
    turn: TurnId,
    shard: ShardHandle,
    asked: Mono,
    what: Utterance,
}

/// The workers' door. Cheap to clone.
#[derive(Clone)]
pub struct Inference {
    workers: Arc<[Sender<Job>]>,
}

impl Inference {
    /// Starts `workers` threads around a recogniser.
    pub fn start(recognizer: Arc<dyn Recognizer>, workers: usize) -> std::io::Result<Inference> {
        let mut doors = Vec::new();
        for n in 0..workers.max(1) {
            let (door, inbox) = bounded(WORKER_QUEUE);
            let recognizer = recognizer.clone();
            std::thread::Builder::new().name(format!("hear-{n}")).spawn(move || {
                super::time::give_way_to_media();
                Worker { recognizer, open: HashMap::new(), grammars: Grammars::default() }.work(&inbox);
            })?;
            doors.push(door);
        }
        Ok(Inference { workers: doors.into() })
    }

    /// Hands a job over, or says that the worker is too far behind.
    pub fn submit(&self, shard: &ShardHandle, call: CallId, turn: TurnId, what: Utterance) -> Result<(), &'static str> {
        let worker = (call.0.random() % self.workers.len() as u128) as usize;
        let job = Job { call, turn, shard: shard.clone(), asked: now(), what };
        self.workers[worker].try_send(job).map_err(|_| "the recogniser is too far behind")
    }

    /// Jobs waiting, over all workers.
    pub fn backlog(&self) -> usize {
        self.workers.iter().map(Sender::len).sum()
    }
}

struct Open {
    stream: Box<dyn RecognizerStream>,
    listen: Arc<Listen>,
    flows: Arc<FlowSet>,
    touched: Mono,
    failed: Option<String>,
}

struct Worker {
    recognizer: Arc<dyn Recognizer>,
    open: HashMap<(CallId, TurnId), Open>,
    grammars: Grammars,
}

/// What can be heard at the nodes that listened last: the same one for every caller, so that the recogniser makes it ready
/// once. What names a caller's own things is not kept.
#[derive(Default)]
struct Grammars(VecDeque<(Arc<FlowSet>, Arc<Listen>, Arc<Grammar>)>);

impl Grammars {
    fn of(&mut self, flows: &Arc<FlowSet>, listen: &Arc<Listen>) -> Arc<Grammar> {
        let same = |(f, l, _): &(Arc<FlowSet>, Arc<Listen>, Arc<Grammar>)| Arc::ptr_eq(f, flows) && l == listen;
        if let Some(at) = self.0.iter().position(same)
            && let Some(known) = self.0.remove(at)
        {
            let grammar = known.2.clone();
            self.0.push_front(known);
            return grammar;
        }
        let grammar = Arc::new(flows.grammar(listen));
        if !listen.secret {
            self.0.push_front((flows.clone(), listen.clone(), grammar.clone()));
            self.0.truncate(GRAMMARS);
        }
        grammar
    }
}

impl Worker {
    fn work(&mut self, inbox: &Receiver<Job>) {
        for job in inbox {
            let key = (job.call, job.turn);
            match job.what {
                Utterance::Start { ref listen, ref flows } => self.start(&job, listen.clone(), flows.clone()),
                Utterance::Audio(pcm) => self.feed(key, &pcm, job.asked),
                Utterance::End => self.end(&job),
                Utterance::Cancel => {
                    self.open.remove(&key);
                }
            }
            self.open.retain(|_, o| job.asked.ms_since(o.touched) < FORGET_MS);
        }
    }

    fn start(&mut self, job: &Job, listen: Arc<Listen>, flows: Arc<FlowSet>) {
        let grammars = &mut self.grammars;
        let opened = guarded(|| self.recognizer.open(grammars.of(&flows, &listen)).map_err(|e| e.to_string()));
        match opened {
            Ok(stream) => {
                let open = Open { stream, listen, flows, touched: job.asked, failed: None };
                self.open.insert((job.call, job.turn), open);
            }
            Err(why) => self.answer(job, Err(why), 0, 0),
        }
    }

    fn feed(&mut self, key: (CallId, TurnId), pcm: &[i16], at: Mono) {
        if let Some(open) = self.open.get_mut(&key)
            && open.failed.is_none()
        {
            open.touched = at;
            open.failed = guarded(|| open.stream.feed(pcm).map_err(|e| e.to_string())).err();
        }
    }

    fn end(&mut self, job: &Job) {
        let Some(mut open) = self.open.remove(&(job.call, job.turn)) else { return };
        let heard: Result<Transcript, String> = match open.failed.take() {
            Some(why) => Err(why),
            None => guarded(|| open.stream.finish().map_err(|e| e.to_string())),
        };
        let transcribed = now();
        let recognise_ms = transcribed.ms_since(job.asked) as u32;
        let meaning = heard.and_then(|t| {
            tracing::debug!(call = %job.call, node = %open.listen.node, accepted = t.accepted, readings = t.nbest.len(), "heard");
            guarded(|| Ok(open.flows.understand(&open.listen, &t)))
        });
        self.answer(job, meaning, recognise_ms, now().ms_since(transcribed) as u32);
    }

    fn answer(
        &self,
        job: &Job,
        result: Result<crate::dialplan::Understood, String>,
        recognise_ms: u32,
        understand_ms: u32,
    ) {
        let heard = Heard { result, engine: self.recognizer.name().into(), recognise_ms, understand_ms };
        job.shard
            .send_patiently(ShardCommand::Input { call: job.call, input: CallInput::Heard { turn: job.turn, heard } });
    }
}

/// A model that panics is a model that failed: the caller is asked again.
fn guarded<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Err("the recogniser broke on this utterance".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialplan::embedded;
    use crate::server::hotline::opening_question;

    #[test]
    fn what_a_node_hears_is_made_once_and_a_secret_is_not_kept() {
        let flows = Arc::new(FlowSet::compile(embedded()).expect("the shipped flows"));
        let other = Arc::new(FlowSet::compile(embedded()).expect("the shipped flows"));
        let opening = Arc::new(opening_question(&flows));
        let mut grammars = Grammars::default();
        let first = grammars.of(&flows, &opening);
        assert!(Arc::ptr_eq(&first, &grammars.of(&flows, &Arc::new((*opening).clone()))), "equal questions are one");
        assert!(!Arc::ptr_eq(&first, &grammars.of(&other, &opening)), "of its own flows");
        let secret = Arc::new(Listen { secret: true, ..(*opening).clone() });
        assert!(!Arc::ptr_eq(&grammars.of(&flows, &secret), &grammars.of(&flows, &secret)));
        for n in 0..200u32 {
            grammars.of(&flows, &Arc::new(Listen { no_input_ms: n, ..(*opening).clone() }));
        }
        assert_eq!(grammars.0.len(), GRAMMARS);
    }
}
