use super::*;
use crate::sip::sanity::{Verdict, check};
use proptest::prelude::*;

const NUMBER: &str = "13800138000";

fn masked(text: &str) -> String {
    String::from_utf8(message(text.as_bytes())).unwrap()
}

/// A sound INVITE with a header more and a body.
fn invite(more: &str, body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "INVITE sip:400@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.7:5060;branch=z9hG4bKa7;rport=5060\r\n\
         From: \"A\" <sip:8001@192.0.2.9>;tag=t1\r\nTo: <sip:400@192.0.2.1>\r\nCall-ID: c7@203.0.113.7\r\n\
         CSeq: 1234567 INVITE\r\nContact: <sip:8001@203.0.113.7:5060>\r\nMax-Forwards: 70\r\n{more}{kind}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn what_names_nobody_stays_as_it_was() {
    let text = invite("Allow: INVITE, ACK\r\nUser-Agent: Phone/1.2.3\r\nSession-Expires: 1800;refresher=uac\r\n", "");
    assert_eq!(masked(&text), text.replace("\"A\"", "\"*\""));
}

#[test]
fn numbers_names_and_secrets_are_masked_where_they_stand() {
    for (given, wanted) in [
        ("From: \"张小明\" <sip:13800138000@h>;tag=1", "From: \"张**\" <sip:138****8000@h>;tag=1"),
        ("f: Zhang San <tel:+8613800138000>;tag=1", "f: Zha**** San <tel:+861****8000>;tag=1"),
        (
            "P-Asserted-Identity: <tel:13800138000>, \"13800138000\" <sip:+86-138-0013-8000@ims.example;user=phone>",
            "P-Asserted-Identity: <tel:138****8000>, \"138****8000\" <sip:+861****8000@ims.example;user=phone>",
        ),
        (
            "Diversion: <sip:%31%33800138000@h>;reason=unconditional",
            "Diversion: <sip:138****8000@h>;reason=unconditional",
        ),
        ("Contact: <sip:zhang.san:secret@h:5060>", "Contact: <sip:zha****.san:****@h:5060>"),
        (
            "Proxy-Authorization: Digest username=\"13800138000\", realm=\"r\", nonce=\"n\", uri=\"sip:13800138000@h\", response=\"6629fae49393a05397450978507c4ef1\", algorithm=MD5",
            "Proxy-Authorization: Digest username=\"138****8000\", realm=\"r\", nonce=\"n\", uri=\"sip:138****8000@h\", response=\"****\", algorithm=MD5",
        ),
        ("Authorization: Bearer abcdef", "Authorization: Bearer ****"),
        ("X-Auth-Token: abcdef", "X-Auth-Token: ****"),
        ("Identity: eyJhbGciOiJFUzI1NiJ9.eyJkZXN0Ijp7fX0.x;info=<https://c>", "Identity: ****"),
        ("X-Note: call (138) 0013-8000 back", "X-Note: call (138****8000 back"),
        ("Subject: 87654321", "Subject: 87****21"),
    ] {
        let shown = masked(&invite(&format!("{given}\r\n"), ""));
        let name = given.split(':').next().unwrap();
        let line = shown.lines().rfind(|l| l.starts_with(&format!("{name}:"))).unwrap();
        match name {
            "f" | "From" | "Contact" | "P-Asserted-Identity" if given.contains("Zhang") || given.contains("zhang") => {
                assert!(
                    !line.contains("Zhang San") && !line.contains("zhang.san") && !line.contains("secret"),
                    "{line}"
                );
                assert!(!line.contains(NUMBER), "{line}");
            }
            _ => assert_eq!(line, wanted),
        }
    }
}

#[test]
fn keys_of_the_media_and_the_caller_are_crossed_out() {
    let sdp = "v=0\r\no=13800138000 1732723200 17 IN IP4 192.0.2.7\r\ns=13800138000\r\np=+86 138 0013 8000\r\n\
        c=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 8 101\r\na=rtpmap:8 PCMA/8000\r\n\
        a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4\r\n\
        a=ice-pwd:asd88fgpdd777uzjYhagZg\r\na=x-caller:13800138000\r\n";
    let shown = masked(&invite("", sdp));
    let body = shown.split("\r\n\r\n").nth(1).unwrap();
    for secret in [NUMBER, "WVNfX19", "asd88fgp", "138 0013"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    assert!(body.contains("inline:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx|2^20|1:4\r\n"), "{body}");
    assert!(body.contains("o=138****8000 1732723200 17 IN IP4 192.0.2.7\r\n"), "{body}");
    let session = crate::sdp::parse(body.as_bytes()).unwrap();
    assert_eq!(session.media[0].port, 40_000);
    assert!(shown.contains(&format!("Content-Length: {}\r\n", body.len())));
    let info = invite("", "").replace("INVITE", "INFO").replace(
        "Content-Length: 0\r\n\r\n",
        "Content-Type: application/dtmf-relay\r\nContent-Length: 25\r\n\r\nSignal= 7\r\nDuration=160\r\n\r\n",
    );
    assert!(masked(&info).ends_with("Signal=*\r\nDuration=160\r\n"), "{}", masked(&info));
    let text = invite("", "")
        .replace("INVITE", "MESSAGE")
        .replace("Content-Length: 0\r\n\r\n", "Content-Type: text/plain\r\nContent-Length: 9\r\n\r\nhello 密");
    assert!(!masked(&text).contains("hello"));
}

/// Places of a message in which somebody's number may stand, `#` for the number.
const PLACES: [&str; 26] = [
    "From: \"x\" <sip:#@h>;tag=1",
    "From: \"#\" <sip:a@h>;tag=1",
    "From: # <sip:a@h>;tag=1",
    "From: sip:#@h;tag=1",
    "From: <sip:a@h>;tag=#",
    "From: <sip:a@h;x=#>;tag=1",
    "To: \"tel #\" <tel:#;phone-context=+86>",
    "Contact: <sip:#@10.0.0.1:5060;transport=tcp>;q=0.5",
    "Contact: <sip:a@10.0.0.1>;+sip.instance=\"<urn:uuid:#>\"",
    "P-Asserted-Identity: \"#\" <sip:+#@ims.example>, <tel:#>",
    "Remote-Party-ID: \"#\" <sip:#@h>;party=calling",
    "Diversion: <sip:#@h>;reason=no-answer;counter=1",
    "History-Info: <sip:#@h?Reason=SIP%3Bcause%3D302>;index=1",
    "Refer-To: <sip:#@h?Replaces=#%40h>",
    "Call-ID: #@h",
    "Call-ID: a#b-1@10.0.0.7",
    "Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK#",
    "User-Agent: phone of #",
    "X-Caller: #",
    "X-#: yes",
    "Reason: Q.850;cause=16;text=\"# left\"",
    "Warning: 399 h \"#\"",
    "Authorization: Digest username=\"#\", realm=\"#\", nonce=\"n\", uri=\"sip:#@h\", response=\"s3cr3ts3cr3t\"",
    "Subject: +# and #",
    "Expires: #",
    "Not-So-Known: a=#;b=sip:#@h, tel:#",
];

fn written(number: &str, how: u8) -> String {
    match how {
        0 => number.to_string(),
        1 => format!("{}-{}", &number[..3], &number[3..]),
        2 => format!("{}.{}.{}", &number[..3], &number[3..7], &number[7..]),
        3 => number.chars().map(|c| format!("%3{c}")).collect(),
        _ => format!("+86{number}"),
    }
}

proptest! {
    #[test]
    fn no_number_survives_wherever_and_however_it_is_written(
        digits in "1[3-9][0-9]{9}", place in 0usize..PLACES.len(), how in 0u8..5, more in 0usize..PLACES.len(),
    ) {
        let planted = |at: usize| PLACES[at].replace('#', &written(&digits, how)) + "\r\n";
        let shown = masked(&invite(&(planted(place) + &planted(more)), ""));
        // However it was written: the row of its digits is gone.
        let plain: String = unescaped(&shown).chars().filter(|c| !matches!(c, '-' | '.' | ' ')).collect();
        prop_assert!(!plain.contains(&digits), "{shown}");
        prop_assert!(!shown.contains("s3cr3t"));
        prop_assert_eq!(masked(&shown), shown, "masking twice changes nothing");
    }

    #[test]
    fn a_masked_message_still_parses(
        digits in "1[3-9][0-9]{9}", place in 7usize..14, how in 0u8..5, name in "[a-z]{1,9}",
    ) {
        let number = written(&digits, how);
        let text = invite("", "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n")
            .replace("\"A\" <sip:8001@192.0.2.9>", &format!("\"{name}\" <sip:{number}@host{digits}.example>"))
            .replace("sip:400@192.0.2.1 SIP", &format!("sip:{number}@192.0.2.1 SIP"))
            .replace("z9hG4bKa7", &format!("z9hG4bK{digits}"))
            .replace("Contact: <sip:8001@203.0.113.7:5060>", PLACES[place].replace('#', &number).as_str());
        let before = Wire::parse(text.as_bytes()).unwrap();
        prop_assume!(check(&before) == Verdict::Ok);
        let shown = message(text.as_bytes());
        let after = Wire::parse(&shown).unwrap();
        prop_assert_eq!(check(&after), Verdict::Ok, "{}", String::from_utf8_lossy(&shown));
        prop_assert_eq!(after.body().len(), before.body().len());
        prop_assert!(crate::sdp::parse(after.body()).is_ok());
    }

    #[test]
    fn no_bytes_make_it_panic(data in proptest::collection::vec(any::<u8>(), 0..400), cut in 0usize..700) {
        message(&data);
        let text = invite("P-Asserted-Identity: \"a\\\"b <sip:%3%41@h>, tel:;\r\n", "v=0\r\na=crypto:inline:");
        let mut bytes = text.into_bytes();
        bytes.truncate(cut);
        bytes.extend(&data);
        message(&bytes);
    }
}
