//! The way to a person, and every way back.

use super::*;
use crate::dialplan::TransferResult;

fn dialling(warm: bool) -> Rig {
    let mut rig =
        Rig::new(vec![reply(&["正在为您转接"], Await::Transfer(order(warm))), reply(&["坐席忙"], listen(|_| {}))]);
    rig.pass(100);
    rig
}

fn stages(rig: &Rig) -> Vec<TransferStage> {
    let stage = |e: &&CallEvent| if let CallEvent::Transfer { stage, .. } = e { Some(*stage) } else { None };
    rig.events().iter().filter_map(stage).collect()
}

fn bridged() -> Rig {
    let mut rig = dialling(true);
    rig.handle(CallInput::SeatRinging);
    rig.pass(2000);
    rig.handle(CallInput::SeatAnswered);
    rig.pass(1200);
    assert!(rig.call.is_bridged());
    rig
}

#[test]
fn the_seat_hears_the_briefing_before_the_caller_is_joined() {
    let mut rig = dialling(true);
    assert_eq!(rig.spoken(), ["正在为您转接", "客户要改地址"], "the briefing is ordered before the seat answers");
    rig.handle(CallInput::SeatRinging);
    rig.pass(1000);
    rig.handle(CallInput::SeatAnswered);
    assert_eq!(rig.call.state(), State::Transferring(Stage::Briefing));
    rig.pass(900);
    assert!(!rig.call.is_bridged());
    rig.pass(200);
    assert!(rig.call.is_bridged());
    use TransferStage::{Bridged, Briefing, Dialling, Ringing};
    assert_eq!(stages(&rig), [Dialling, Ringing, Briefing, Bridged]);
}

#[test]
fn the_second_seat_hears_its_briefing_too() {
    let transfer = || reply(&[], Await::Transfer(order(true)));
    let mut rig = Rig::new(vec![transfer(), transfer()]);
    rig.handle(CallInput::SeatAnswered);
    rig.pass(500);
    rig.handle(CallInput::HungUp(Leg::Seat));
    rig.pass(3000);
    rig.handle(CallInput::SeatAnswered);
    rig.pass(900);
    assert_eq!(rig.call.state(), State::Transferring(Stage::Briefing), "not said to an empty room before");
    rig.pass(200);
    assert!(rig.call.is_bridged());
}

#[test]
fn a_cold_transfer_joins_at_once() {
    let mut rig = dialling(false);
    rig.handle(CallInput::SeatAnswered);
    rig.pass(60);
    assert!(rig.call.is_bridged());
    assert_eq!(rig.spoken(), ["正在为您转接"]);
}

#[test]
fn the_waiting_caller_is_never_in_silence_for_long() {
    let mut rig = dialling(true);
    rig.pass(1000);
    rig.handle(CallInput::SeatRinging);
    rig.pass(6000);
    rig.handle(CallInput::SeatAnswered);
    rig.pass(900);
    assert_eq!(rig.heard[20].pcm[0], 20 * 160 + 1, "the flow's words come before the ringback");
    let (mut quiet, mut longest) = (0, 0);
    for frame in &rig.heard {
        quiet = if frame.pcm.iter().any(|&s| s != 0) { 0 } else { quiet + 20 };
        longest = longest.max(quiet);
    }
    assert!(longest <= 4000, "{longest} ms: the pause of a ringback is four seconds");
}

#[test]
fn every_failure_comes_back_to_the_flow_by_its_name() {
    let cases = [
        (LegFailure::Busy, TransferResult::Busy),
        (LegFailure::NoAnswer, TransferResult::Timeout),
        (LegFailure::Nobody, TransferResult::Closed),
        (LegFailure::Failed(500), TransferResult::Timeout),
    ];
    for (failure, result) in cases {
        let mut rig = dialling(true);
        rig.handle(CallInput::SeatFailed(failure));
        assert_eq!(rig.last_told(), Some(Input::Transfer(result)));
        assert_eq!(rig.call.state(), State::Talking);
        assert_eq!(rig.count(|o| *o == CallOutput::Hangup(Leg::Seat)), 0, "that leg is gone by itself");
    }
}

#[test]
fn a_seat_that_rings_too_long_is_given_up() {
    let mut rig = dialling(true);
    rig.handle(CallInput::SeatRinging);
    rig.pass(7880);
    assert_eq!(rig.told().len(), 1);
    rig.pass(60);
    assert_eq!(rig.last_told(), Some(Input::Transfer(TransferResult::Timeout)));
    assert_eq!(rig.count(|o| *o == CallOutput::Hangup(Leg::Seat)), 1);
    // It answers all the same: nobody wants it any more.
    rig.handle(CallInput::SeatAnswered);
    assert_eq!(rig.count(|o| *o == CallOutput::Hangup(Leg::Seat)), 2);
    assert!(!rig.call.is_bridged());
}

#[test]
fn a_seat_that_drops_in_the_briefing_brings_the_caller_back() {
    let mut rig = dialling(true);
    rig.handle(CallInput::SeatAnswered);
    rig.pass(200);
    rig.handle(CallInput::HungUp(Leg::Seat));
    assert_eq!(rig.last_told(), Some(Input::Transfer(TransferResult::Busy)));
    assert_eq!(rig.count(|o| matches!(o, CallOutput::Bridge(_))), 0);
}

#[test]
fn a_seat_that_hangs_up_returns_the_caller_for_the_survey() {
    let mut rig = bridged();
    rig.handle(CallInput::HungUp(Leg::Seat));
    assert_eq!(rig.last_told(), Some(Input::Transfer(TransferResult::Connected)));
    let bridges: Vec<_> = rig.out.iter().filter(|o| matches!(o, CallOutput::Bridge(_))).cloned().collect();
    assert_eq!(bridges, [CallOutput::Bridge(true), CallOutput::Bridge(false)]);
    assert_eq!(rig.call.phase(), Phase::Speaking);
}

#[test]
fn a_seat_that_hands_the_caller_on_leaves_and_the_next_one_is_called() {
    let mut rig = bridged();
    let wanted = TransferOrder { queue: "other".into(), ..order(false) };
    rig.handle(CallInput::HandOn(Box::new(wanted.clone())));
    let last: Vec<_> = rig.out.iter().filter(|o| !matches!(o, CallOutput::Event(_))).rev().take(8).cloned().collect();
    assert!(last.contains(&CallOutput::Bridge(false)) && last.contains(&CallOutput::Hangup(Leg::Seat)), "{last:?}");
    assert!(last.contains(&CallOutput::DialSeat { order: wanted }), "{last:?}");
    rig.handle(CallInput::SeatFailed(LegFailure::Busy));
    assert_eq!(rig.last_told(), Some(Input::Transfer(TransferResult::Busy)), "the flow has the caller back");
}

#[test]
fn a_caller_who_hangs_up_takes_the_seat_with_him_in_every_stage() {
    let ways: [fn() -> Rig; 3] = [
        || dialling(true),
        || {
            let mut rig = dialling(true);
            rig.handle(CallInput::SeatAnswered);
            rig
        },
        bridged,
    ];
    for way in ways {
        let mut rig = way();
        rig.handle(CallInput::HungUp(Leg::Caller));
        assert_eq!(rig.count(|o| *o == CallOutput::Hangup(Leg::Seat)), 1);
        assert_eq!(rig.count(|o| *o == CallOutput::Hangup(Leg::Caller)), 0);
        assert!(rig.call.is_finished() && rig.record().is_some());
    }
}

#[test]
fn a_waiting_caller_may_go_back_with_a_key() {
    let mut rig = dialling(true);
    rig.key('5');
    assert_eq!(rig.told().len(), 1);
    rig.key('*');
    assert_eq!(rig.last_told(), Some(Input::Transfer(TransferResult::Cancelled)));
    assert_eq!(rig.count(|o| *o == CallOutput::Hangup(Leg::Seat)), 1);
}

#[test]
fn asking_for_a_person_again_does_not_give_the_person_up() {
    let mut rig = dialling(true);
    rig.key('0');
    rig.handle(CallInput::SeatRinging);
    rig.keys("00");
    assert_eq!(rig.told().len(), 1);
    assert_eq!(rig.call.state(), State::Transferring(Stage::Ringing));
    assert_eq!(rig.count(|o| *o == CallOutput::Hangup(Leg::Seat)), 0);
}

#[test]
fn while_one_holds_the_other_hears_music() {
    let mut rig = bridged();
    rig.handle(CallInput::Hold { leg: Leg::Seat, held: true });
    assert!(!rig.call.is_bridged());
    let from = rig.heard.len();
    rig.pass(2000);
    assert!(rig.heard[from..].iter().filter(|f| f.rms() > 20.0).count() > 50);
    rig.handle(CallInput::Hold { leg: Leg::Seat, held: false });
    assert!(rig.call.is_bridged());
}

#[test]
fn time_with_a_seat_does_not_count_against_the_time_with_us() {
    let mut rig = bridged();
    let asks = rig.now;
    for _ in 0..60 {
        // The limit is 900 s; the two talk for 1200.
        rig.now = rig.now + Duration::from_secs(20);
        rig.pass(100);
    }
    assert!(rig.now.since(asks) > Duration::from_secs(1200) && rig.call.is_bridged());
    rig.handle(CallInput::HungUp(Leg::Seat));
    rig.pass(3000);
    assert_eq!(rig.call.state(), State::Talking);
}

#[test]
fn a_bridged_call_is_recorded_as_transferred() {
    let mut rig = bridged();
    rig.handle(CallInput::HungUp(Leg::Caller));
    let record = rig.record().unwrap();
    assert_eq!((record.outcome, record.bridged), (Outcome::Transferred, true));
}
