//! What goes through a codec comes out as it was, whole or with losses.

use super::super::detect::{power, tone_power};
use super::*;
use proptest::prelude::*;

/// Every codec of this build.
fn codings() -> Vec<Coding> {
    let all = [Coding::G711(Law::A), Coding::G711(Law::Mu), Coding::G722, Coding::G729, Coding::Opus];
    all.into_iter().filter(|c| c.is_built_in()).collect()
}

fn encoder(coding: Coding) -> Encoder {
    Encoder::new(coding, EncoderOptions { fec: true, dtx: false }).unwrap()
}

/// A voice-like sound: a pulse train of a slowly moving pitch with falling harmonics, louder and softer.
fn voice(seconds: f64) -> Vec<i16> {
    let n = (seconds * 8000.0) as usize;
    let mut phase = 0.0;
    (0..n)
        .map(|i| {
            let t = i as f64 / 8000.0;
            phase += std::f64::consts::TAU * (130.0 + 20.0 * (t * 2.0).sin()) / 8000.0;
            let loud = 0.6 + 0.4 * (t * 9.0).sin();
            (1..14).map(|h| (phase * f64::from(h)).sin() * 5000.0 / f64::from(h)).sum::<f64>() * loud
        })
        .map(|s| s as i16)
        .collect()
}

fn sine(hz: f64, n: usize) -> Vec<i16> {
    (0..n).map(|i| ((i as f64 * std::f64::consts::TAU * hz / 8000.0).sin() * 8000.0) as i16).collect()
}

/// Packets of `ms` each.
fn packets(coding: Coding, pcm: &[i16], ms: usize) -> Vec<Vec<u8>> {
    let mut encoder = encoder(coding);
    let mut packet = Vec::new();
    pcm.chunks_exact(ms * 8)
        .map(|frame| {
            packet.clear();
            assert!(encoder.encode(frame, &mut packet));
            packet.clone()
        })
        .collect()
}

fn decoded(coding: Coding, packets: &[Vec<u8>]) -> Vec<i16> {
    let mut decoder = Decoder::new(coding).unwrap();
    packets
        .iter()
        .flat_map(|packet| {
            let mut out = vec![0; coding.samples(packet).expect("a packet")];
            assert_eq!(decoder.decode(packet, &mut out), Decoded::Sound);
            out
        })
        .collect()
}

/// Decibels of the sound over what was added to it, at the delay of at most 30 ms that suits best.
fn clearness(said: &[i16], heard: &[i16]) -> f64 {
    let inside = 800..said.len() - 800;
    let best = (0..240).map(|late| {
        let (mut signal, mut noise) = (0.0, 0.0);
        for i in inside.clone() {
            let (a, b) = (f64::from(said[i]), f64::from(heard[i + late]));
            signal += a * a;
            noise += (a - b) * (a - b);
        }
        signal / noise
    });
    10.0 * best.fold(0.0, f64::max).log10()
}

/// How far the loudness of 40 ms is off in decibels, half of the time.
fn loudness_off(said: &[i16], heard: &[i16]) -> f32 {
    let db = |pcm: &[i16]| 10.0 * (power(pcm) + 1.0).log10();
    let pairs = said.chunks_exact(320).zip(heard.chunks_exact(320)).skip(5);
    let mut off: Vec<f32> = pairs.map(|(a, b)| (db(a) - db(b)).abs()).collect();
    off.sort_by(f32::total_cmp);
    off[off.len() / 2]
}

#[test]
fn a_voice_comes_out_as_it_went_in() {
    for coding in codings() {
        let said = voice(2.0);
        let heard = decoded(coding, &packets(coding, &said, 20));
        assert_eq!(heard.len(), said.len());
        let clear = clearness(&said, &heard);
        eprintln!("{coding:?}: {clear:.1} dB over its noise");
        // The codecs of 8 and 24 kbit/s keep what is heard, not the wave's shape; G.729 keeps none of it.
        let least = match coding {
            Coding::G711(_) => 35.0,
            Coding::G722 => 38.0,
            Coding::G729 => 0.0,
            Coding::Opus => 4.0,
        };
        assert!(clear > least, "{coding:?}: {clear} dB");
        let off = loudness_off(&said, &heard);
        eprintln!("{coding:?}: {off:.2} dB off in loudness");
        assert!(off < 2.0, "{coding:?}: {off} dB");
        let level = power(&heard[800..]) / power(&said[800..]);
        assert!((0.7..1.4).contains(&level), "{coding:?}: level {level}");
    }
}

#[test]
fn tones_keep_their_pitch_and_level_at_every_packet_length() {
    for coding in codings() {
        for ms in [10, 20, 40, 60] {
            for hz in [400.0, 1000.0, 2000.0] {
                let heard = decoded(coding, &packets(coding, &sine(hz, 9600), ms));
                let body = &heard[2400..];
                let (at, all) = (tone_power(body, hz as f32), power(body));
                assert!(at > 0.75 * all, "{coding:?} {ms} ms {hz} Hz: {at} of {all}");
                // G.729 codes speech: a lone tone may come out 3 dB off.
                assert!((0.5..2.0).contains(&(all / 32.0e6)), "{coding:?} {ms} ms {hz} Hz: {all}");
            }
        }
    }
}

#[test]
fn a_packet_has_the_size_and_length_its_standard_says() {
    let said = voice(1.0);
    for (coding, bytes) in [(Coding::G711(Law::A), 160), (Coding::G722, 160), (Coding::G729, 20)] {
        if coding.is_built_in() {
            assert!(packets(coding, &said, 20).iter().all(|p| p.len() == bytes), "{coding:?}");
        }
    }
    if Coding::Opus.is_built_in() {
        let opus = packets(Coding::Opus, &said, 20);
        let total: usize = opus.iter().map(Vec::len).sum();
        assert!((1500..4500).contains(&total), "{total} bytes a second");
        assert!(opus.iter().all(|p| Coding::Opus.samples(p) == Some(160)));
    }
    for coding in [Coding::G729, Coding::Opus] {
        assert_eq!(coding.samples(&[]), None);
    }
    assert_eq!(Coding::G729.samples(&[0; 11]), None);
    assert_eq!(Coding::G722.samples(&[0; 961]), None);
}

/// One packet in twenty is lost: what comes out goes on at the same loudness and without a click.
#[test]
fn at_5_percent_loss_opus_and_g729_go_on_without_holes_or_clicks() {
    for coding in [Coding::Opus, Coding::G729].into_iter().filter(|c| c.is_built_in()) {
        let said = voice(6.0);
        let packets = packets(coding, &said, 20);
        let whole = decoded(coding, &packets);
        let mut decoder = Decoder::new(coding).unwrap();
        let mut heard = Vec::new();
        let lost = |n: usize| n % 20 == 13;
        for (n, packet) in packets.iter().enumerate() {
            let mut out = [0; 160];
            if lost(n) {
                assert!(decoder.conceal(packets.get(n + 1).map(Vec::as_slice), &mut out));
            } else {
                assert_eq!(decoder.decode(packet, &mut out), Decoded::Sound);
            }
            heard.extend(out);
        }
        let steepest = |pcm: &[i16]| pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap();
        assert!(steepest(&heard) < 3 * steepest(&whole) / 2, "{coding:?} clicks: {}", steepest(&heard));
        for n in (0..packets.len()).filter(|&n| lost(n)) {
            let at = n * 160..n * 160 + 160;
            let kept = power(&heard[at.clone()]) / power(&whole[at]);
            assert!((0.1..4.0).contains(&kept), "{coding:?} packet {n}: loudness times {kept}");
        }
        let clear = clearness(&whole, &heard);
        eprintln!("{coding:?}: {clear:.1} dB like the sound without loss");
        assert!(clear > if coding == Coding::Opus { 15.0 } else { 2.0 }, "{coding:?}: {clear} dB");
    }
}

/// A copy in the next packet is better than a guess: what no guess can know is a sound that begins in the lost packet.
#[test]
fn a_beginning_that_is_lost_is_repaired_from_the_next_opus_packet() {
    if !Coding::Opus.is_built_in() {
        return crate::skip::skipped("built without opus");
    }
    let mut said = vec![0; 16_000];
    said.extend(voice(1.0));
    // The voice begins in packet 100; 101 is lost, where it has just become loud.
    let packets = packets(Coding::Opus, &said, 20);
    let heard = |repair: bool| {
        let mut decoder = Decoder::new(Coding::Opus).unwrap();
        let mut out = [0; 160];
        let mut lost = [0; 160];
        for (n, packet) in packets.iter().enumerate() {
            if n == 101 {
                decoder.conceal(packets.get(n + 1).filter(|_| repair).map(Vec::as_slice), &mut lost);
            } else {
                decoder.decode(packet, &mut out);
            }
        }
        lost
    };
    let whole = decoded(Coding::Opus, &packets);
    let off = |heard: &[i16]| {
        let wrong: Vec<i16> = heard.iter().zip(&whole[101 * 160..]).map(|(a, b)| a.saturating_sub(*b)).collect();
        power(&wrong)
    };
    let (repaired, guessed) = (off(&heard(true)), off(&heard(false)));
    assert!(repaired < guessed / 2.0, "off by {repaired} with the copy, {guessed} without");
}

#[test]
fn in_silence_opus_sends_next_to_nothing_and_the_listener_hears_silence() {
    if !Coding::Opus.is_built_in() {
        return crate::skip::skipped("built without opus");
    }
    let mut encoder = Encoder::new(Coding::Opus, EncoderOptions { fec: false, dtx: true }).unwrap();
    let mut decoder = Decoder::new(Coding::Opus).unwrap();
    let mut said = voice(1.0);
    said.extend([0; 16_000]);
    let (mut sent, mut heard) = (Vec::new(), Vec::new());
    for frame in said.chunks(160) {
        let (mut packet, mut out) = (Vec::new(), [0; 160]);
        let send = encoder.encode(frame, &mut packet);
        if send {
            decoder.decode(&packet, &mut out);
        } else {
            assert!(decoder.conceal(None, &mut out));
        }
        sent.push(send);
        heard.extend(out);
    }
    // Where it is faint for a moment a packet or two may be left out.
    assert!(sent[..50].iter().filter(|&&s| s).count() > 45, "a voice is sent: {sent:?}");
    let quiet = sent[50..].iter().filter(|&&s| s).count();
    assert!(quiet < 30, "{quiet} packets in two seconds of silence");
    assert!(power(&heard[20_000..]) < 100.0);
}

#[test]
fn a_g729_description_of_noise_sounds_until_speech_comes_again() {
    if !Coding::G729.is_built_in() {
        return crate::skip::skipped("built without g729");
    }
    let speech = packets(Coding::G729, &voice(1.0), 20);
    let mut decoder = Decoder::new(Coding::G729).unwrap();
    let mut out = [0; 160];
    for packet in &speech {
        decoder.decode(packet, &mut out);
    }
    // One frame of speech and one of noise; the energy index is the last five of the fifteen bits.
    let mut level = |energy: u8| {
        let mut last = speech[0][..10].to_vec();
        last.extend([0b0010_0000, energy << 1]);
        assert_eq!(Coding::G729.samples(&last), Some(160));
        assert_eq!(decoder.decode(&last, &mut out), Decoded::Noise);
        let mut noise = [0; 8000];
        assert!(decoder.conceal(None, &mut noise));
        power(&noise[4000..]).sqrt()
    };
    // Steps of 2 dB.
    let (faint, loud) = (level(10), level(15));
    assert!(faint > 1.0 && loud < 3000.0 && (2.0..5.0).contains(&(loud / faint)), "noise of {faint} and {loud}");
    assert_eq!(decoder.decode(&speech[0], &mut out), Decoded::Sound);
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(
        inputs in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 1..40),
    ) {
        for coding in codings() {
            let mut decoder = Decoder::new(coding).unwrap();
            let mut out = vec![0; LONGEST];
            for (payload, lost) in &inputs {
                if *lost {
                    let step = decoder.step();
                    decoder.conceal(Some(payload.as_slice()).filter(|p| coding.samples(p).is_some()), &mut out[..160 / step * step]);
                } else if let Some(samples) = coding.samples(payload) {
                    decoder.decode(payload, &mut out[..samples]);
                }
            }
        }
    }

    /// The bytes of codecs with a fixed frame are always a packet: their decoders must take every one of them.
    #[test]
    fn no_frames_make_a_decoder_panic(payload in prop::collection::vec(any::<u8>(), 960), sid in any::<[u8; 2]>()) {
        for coding in codings().into_iter().filter(|c| *c != Coding::Opus) {
            let mut decoder = Decoder::new(coding).unwrap();
            let mut out = vec![0; LONGEST];
            for packet in [&payload[..120], &payload[120..240], &[&payload[..20], &sid[..]].concat(), &payload[240..260]] {
                decoder.decode(packet, &mut out[..coding.samples(packet).unwrap_or(0)]);
            }
        }
    }

    /// Whatever is said, loud or noisy, can be encoded and decoded.
    #[test]
    fn no_sound_makes_an_encoder_panic(pcm in prop::collection::vec(any::<i16>(), 1600)) {
        for coding in codings() {
            let heard = decoded(coding, &packets(coding, &pcm, 20));
            prop_assert_eq!(heard.len(), pcm.len());
        }
    }
}

/// Tones of telephones under loss: an encoder whose tones make a decoder sing after a lost packet is no good.
#[test]
fn an_opus_tone_never_grows_loud_after_a_loss() {
    if !Coding::Opus.is_built_in() {
        return crate::skip::skipped("built without opus");
    }
    for hz in [350.0, 400.0, 450.0, 500.0, 620.0, 1000.0, 1200.0, 2100.0] {
        let packets = packets(Coding::Opus, &sine(hz, 160 * 300), 20);
        let mut decoder = Decoder::new(Coding::Opus).unwrap();
        for (n, packet) in packets.iter().enumerate() {
            let mut out = [0; 160];
            if n > 5 && n * 7919 % 20 == 3 {
                decoder.conceal(packets.get(n + 1).map(Vec::as_slice), &mut out);
            } else {
                decoder.decode(packet, &mut out);
            }
            let top = out.iter().map(|s| s.unsigned_abs()).max().unwrap();
            assert!(n < 6 || top < 16_500, "{hz} Hz: {top} in packet {n}");
        }
    }
}
