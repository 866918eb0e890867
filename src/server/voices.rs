//! Voice workers: prompts in, sound out, phrase by phrase, so that the first one plays while the next is made.

use super::shard::{ShardCommand, ShardHandle};
use crate::call::CallInput;
use crate::ids::{CallId, PromptId};
use crate::speech::{SpeechRequest, Synthesizer};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Prompts a worker may have waiting.
const WORKER_QUEUE: usize = 512;

struct Job {
    call: CallId,
    prompt: PromptId,
    request: SpeechRequest,
    shard: ShardHandle,
}

/// The workers' door. Cheap to clone.
#[derive(Clone)]
pub struct Voices {
    jobs: Sender<Job>,
}

impl Voices {
    /// Starts `workers` threads around a voice.
    pub fn start(voice: Arc<dyn Synthesizer>, workers: usize) -> std::io::Result<Voices> {
        let (jobs, inbox) = bounded::<Job>(WORKER_QUEUE);
        for n in 0..workers.max(1) {
            let (voice, inbox) = (voice.clone(), inbox.clone());
            std::thread::Builder::new().name(format!("say-{n}")).spawn(move || {
                super::time::give_way_to_media();
                work(voice.as_ref(), &inbox);
            })?;
        }
        Ok(Voices { jobs })
    }

    /// Asks for a prompt, or says that the voices are too far behind.
    pub fn submit(
        &self,
        shard: &ShardHandle,
        call: CallId,
        prompt: PromptId,
        request: SpeechRequest,
    ) -> Result<(), &'static str> {
        let job = Job { call, prompt, request, shard: shard.clone() };
        self.jobs.try_send(job).map_err(|_| "the voices are too far behind")
    }
}

fn work(voice: &dyn Synthesizer, inbox: &Receiver<Job>) {
    for Job { call, prompt, request, shard } in inbox {
        let made = catch_unwind(AssertUnwindSafe(|| {
            voice.speak(&request, &mut |pcm| {
                shard.send_patiently(ShardCommand::Input {
                    call,
                    input: CallInput::PromptAudio { prompt, pcm: pcm.into(), last: false },
                })
            })
        }));
        let input = match made {
            Ok(Ok(())) => CallInput::PromptAudio { prompt, pcm: Arc::from([]), last: true },
            Ok(Err(e)) => CallInput::PromptFailed { prompt, why: e.to_string() },
            Err(_) => CallInput::PromptFailed { prompt, why: "the voice broke on this text".into() },
        };
        shard.send_patiently(ShardCommand::Input { call, input });
    }
}
