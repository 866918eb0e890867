//! What is not speech: fax machines, music on hold.

use super::*;
use crate::audio::{Tone, ToneGenerator};

#[test]
fn a_fax_machine_hears_one_sentence_and_the_record_says_why_it_ended() {
    let mut rig = Rig::new(vec![reply(&["请说您要办的业务"], listen(|_| {}))]);
    let cng = Tone { hz: [1100.0, 0.0], amplitude: 3000.0, on_ms: 500, off_ms: 3000, repeats: true };
    let mut machine = ToneGenerator::new(cng);
    for n in 0..500 {
        rig.tick_with(machine.frame(n).pcm);
        if rig.record().is_some() {
            break;
        }
    }
    assert_eq!(rig.spoken().last().map(String::as_str), Some("您好，这是语音热线，不能接收传真，再见。"));
    let record = rig.record().expect("it ends by itself");
    assert_eq!(record.reason.cause, 88);
    assert!(record.reason.sentence.contains("fax machine"), "{}", record.reason.sentence);
    assert_eq!(rig.count(|o| *o == CallOutput::Hangup(Leg::Caller)), 1);
}

#[test]
fn a_caller_on_hold_hears_the_music_from_its_begin_until_the_seat_is_back() {
    let music: Arc<[i16]> = (0..1000).map(|n| 3000 + n).collect();
    let settings = CallSettings { answer_delay_ms: 0, hold_music: Some(music), ..CallSettings::default() };
    let mut rig = Rig::ringing(vec![reply(&[], Await::Transfer(order(false)))], settings);
    rig.timeout();
    rig.handle(CallInput::Established);
    rig.pass(3000);
    assert!(rig.heard.last().unwrap().pcm[0] >= 3000, "he waits with music");
    rig.handle(CallInput::SeatAnswered);
    rig.pass(2000);
    assert!(rig.call.is_bridged());
    rig.handle(CallInput::Hold { leg: Leg::Seat, held: true });
    rig.heard.clear();
    rig.pass(400);
    let heard: Vec<i16> = rig.heard.iter().flat_map(|f| f.pcm).collect();
    let played: Vec<i16> = (0..3200).map(|n| 3000 + n % 1000).collect();
    assert_eq!(heard, played, "without a gap, again and again");
    rig.handle(CallInput::Hold { leg: Leg::Seat, held: false });
    rig.pass(100);
    assert!(rig.call.is_bridged() && rig.heard.last().unwrap().pcm == [0; FRAME_SAMPLES]);
}
