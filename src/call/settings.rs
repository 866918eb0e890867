//! What a hotline may set about its calls. Every time here is a limit or a length; none may be infinite.

use crate::dialplan::{Pause, Prompt};
use crate::speech::Lang;
use std::sync::Arc;
use std::time::Duration;

/// Settings of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallSettings {
    /// Whether speech is listened to at all (off: keys only, no voice activity detection).
    pub speech: bool,
    /// Whether our own voice, come back from the caller's telephone, is told from the caller's.
    pub echo_guard: bool,
    /// From 180 to 200, in milliseconds.
    pub answer_delay_ms: u32,
    /// From 200 to its ACK (RFC 3261 section 13.3.1.4: 64 T1), in milliseconds.
    pub ack_limit_ms: u32,
    /// Longest time with us, in seconds; time with a seat does not count.
    pub max_call_s: u32,
    /// Longest time with a seat, in seconds.
    pub max_bridge_s: u32,
    /// Without one caller's frame for so long the call ends; 0: never.
    pub no_media_s: u32,
    /// Longest time the caller may hold us, in seconds.
    pub max_hold_s: u32,
    /// Silence before the first prompt, so that slow trunks do not clip its first syllable, in milliseconds.
    pub lead_in_ms: u32,
    /// A recogniser that has not answered by then has failed, in milliseconds from the utterance's end.
    pub recogniser_ms: u32,
    /// A prompt whose sound has not come by then is skipped, in milliseconds.
    pub prompt_wait_ms: u32,
    /// An action's own filler is spoken after this, in milliseconds.
    pub filler_ms: u32,
    /// The general filler is spoken after this, in milliseconds.
    pub slow_ms: u32,
    /// And again after this, in milliseconds.
    pub filler_again_ms: u32,
    /// A ticket must be written by then, in milliseconds.
    pub ticket_ms: u32,
    /// Longest briefing, in milliseconds.
    pub briefing_ms: u32,
    /// Longest time for the last words, in milliseconds.
    pub ending_ms: u32,
    /// Silence between the last word and BYE, so that the network delivers the word, in milliseconds.
    pub tail_ms: u32,
    /// Probability from which a frame is speech, 0.0..=1.0.
    pub vad_threshold: f32,
    /// Less voiced sound than this is a cough, in milliseconds.
    pub min_speech_ms: u32,
    /// Voiced sound that interrupts a prompt for good, in milliseconds.
    pub commit_ms: u32,
    /// A recording ends after this pause, in milliseconds.
    pub record_pause_ms: u32,
    /// A recording in which nobody speaks ends after this, in milliseconds.
    pub record_silence_ms: u32,
    /// Speed of every prompt, times its own: 1.0 as the voice was made.
    pub voice_rate: f32,
    /// Heard by who is held or waits for a seat, again and again (8 kHz); without it a chime, and the seat's ringing.
    pub hold_music: Option<Arc<[i16]>>,
    /// What the call says of itself.
    pub phrases: Phrases,
}

impl Default for CallSettings {
    fn default() -> Self {
        CallSettings {
            speech: true,
            echo_guard: false,
            answer_delay_ms: 200,
            ack_limit_ms: 32_000,
            max_call_s: 900,
            max_bridge_s: 7200,
            no_media_s: 30,
            max_hold_s: 300,
            lead_in_ms: 200,
            recogniser_ms: 5000,
            prompt_wait_ms: 3000,
            filler_ms: 400,
            slow_ms: 1500,
            filler_again_ms: 6000,
            ticket_ms: 5000,
            briefing_ms: 20_000,
            ending_ms: 60_000,
            tail_ms: 200,
            vad_threshold: 0.5,
            min_speech_ms: 100,
            commit_ms: 280,
            record_pause_ms: 2500,
            record_silence_ms: 8000,
            voice_rate: 1.2,
            hold_music: None,
            phrases: Phrases::default(),
        }
    }
}

/// What a call says when no flow says it. Chinese unless set.
#[derive(Debug, Clone, PartialEq)]
pub struct Phrases {
    /// The language they are written in.
    pub lang: Lang,
    /// While something takes long.
    pub filler: String,
    /// The recogniser failed.
    pub apology: String,
    /// A seat is being called and the flow said nothing.
    pub connecting: String,
    /// The call reached its limit.
    pub limit: String,
    /// The flow cannot go on.
    pub trouble: String,
    /// A fax machine calls.
    pub fax: String,
}

impl Default for Phrases {
    fn default() -> Self {
        Phrases {
            lang: Lang::Zh,
            filler: "请稍等，正在为您处理。".into(),
            apology: "抱歉，我没有听清，您也可以按键选择。".into(),
            connecting: "正在为您接通人工服务，请稍候，不想等待请按星号键。".into(),
            limit: "本次通话时间已到，感谢您的来电，再见。".into(),
            trouble: "抱歉，系统出了点问题，请稍后再拨，再见。".into(),
            fax: "您好，这是语音热线，不能接收传真，再见。".into(),
        }
    }
}

impl Phrases {
    /// Those of a language.
    pub fn of(lang: Lang) -> Self {
        match lang {
            Lang::Zh => Phrases::default(),
            Lang::En => Phrases::english(),
        }
    }

    fn english() -> Self {
        Phrases {
            lang: Lang::En,
            filler: "One moment, please.".into(),
            apology: "Sorry, I did not catch that. You can also use the keys.".into(),
            connecting: "Connecting you to a colleague. To stop waiting, press star.".into(),
            limit: "This call has reached its time limit. Thank you for calling. Goodbye.".into(),
            trouble: "Sorry, something went wrong on our side. Please call again later. Goodbye.".into(),
            fax: "This is a voice line and cannot take a fax. Goodbye.".into(),
        }
    }

    /// One of them as a prompt; `barge_in`: whether a key or speech may cut it short.
    pub(super) fn prompt(&self, text: &str, barge_in: bool) -> Prompt {
        Prompt { text: text.into(), shown: text.into(), audio: None, rate: 1.0, barge_in, lang: self.lang }
    }
}

/// The pause that ends an utterance of this class.
pub const fn pause_ms(pause: Pause) -> u32 {
    match pause {
        Pause::Short => 375,
        Pause::Normal => 600,
        Pause::Digits => 900,
        Pause::Long => 1000,
    }
}

/// Milliseconds as a duration.
pub(super) const fn ms(ms: u32) -> Duration {
    Duration::from_millis(ms as u64)
}

/// Seconds as a duration.
pub(super) const fn secs(s: u32) -> Duration {
    Duration::from_secs(s as u64)
}
