use super::*;
use proptest::prelude::*;

fn file() -> &'static Path {
    Path::new("zongji.toml")
}

fn problems(text: &str) -> Vec<String> {
    Config::parse(text, file()).expect_err("it is wrong").iter().map(ToString::to_string).collect()
}

fn repository_file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("it lies in the repository")
}

#[test]
fn the_example_file_says_what_the_defaults_are() {
    let text = repository_file("zongji.example.toml");
    assert_eq!(Config::parse(&text, file()), Ok(Config::default()));
    for section in ["sip", "rtp", "media", "http", "data", "models", "dialplans", "speech", "record", "limits"] {
        assert!(text.contains(&format!("[{section}]")), "{section} is not shown");
    }
}

#[test]
fn what_the_example_file_offers_in_comments_is_right_too() {
    let text = repository_file("zongji.example.toml");
    let is_setting = |l: &str| l.starts_with("[[") || l.split_once(" = ").is_some_and(|(k, _)| !k.contains(' '));
    let on: String =
        text.lines().map(|l| l.strip_prefix("# ").filter(|l| is_setting(l)).unwrap_or(l).to_string() + "\n").collect();
    let c = Config::parse(&on, file()).expect("every offer holds");
    assert_eq!((c.seats.len(), c.supervisors.len(), c.test_routes.len()), (1, 1, 1));
    assert_eq!(c.seats[0].skills, ["订单"]);
    assert!(
        c.models.dir.is_some()
            && c.models.whisper.is_some()
            && c.dialplans.dir.is_some()
            && c.sip.public_address.is_some()
    );
}

#[test]
fn the_bench_file_offers_the_numbers_the_load_tool_dials() {
    let c = Config::parse(&repository_file("benches/peer/zongji.toml"), file()).expect("it is right");
    for user in ["ivr", "rec", "barge", "echo", "bridge", "sig"] {
        let r = c.test_routes.iter().find(|r| r.user == user).expect(user);
        assert!(!r.vad && !r.recognise, "{user} listens for keys only");
    }
    let bridge = c.test_routes.iter().find(|r| r.kind == RouteKind::Bridge).expect("a bridge");
    assert_eq!(bridge.target.as_deref(), Some("sip:legb@127.0.0.1:5090"));
    assert!(*c.rtp.ports.end() < 30_000);
}

#[test]
fn an_empty_file_is_the_defaults_and_one_key_changes_one_thing() {
    assert_eq!(Config::parse("", file()), Ok(Config::default()));
    let c = Config::parse("[rtp]\nports = \"14000 - 19999\"\n[http]\nbind = \"off\"\n", file()).expect("right");
    assert_eq!(c.rtp.ports, 14_000..=19_999);
    assert_eq!(c.http.bind, None);
    assert_eq!(c.sip, Config::default().sip);
}

#[test]
fn every_problem_is_reported_at_once_where_it_stands() {
    let text = "[sip]\nbind = 5060\nmax_cals = 3\n\n[rtp]\nports = \"9-1\"\n[speech]\nrecogniser = \"bundle\"\nvad = \"on\"\n[data]\ndir = \"\"\n[telephony]\n";
    assert_eq!(
        problems(text),
        [
            "zongji.toml:2:8: sip.bind must be an address and port, such as \"0.0.0.0:5060\"",
            "zongji.toml:3:1: nobody knows the key sip.max_cals; did you mean max_calls?",
            "zongji.toml:6:9: rtp.ports must be a range of ports, such as \"20000-29999\"",
            "zongji.toml:8:14: speech.recogniser must be one of auto, bundled, whisper, none; did you mean bundled?",
            "zongji.toml:9:7: speech.vad must be true or false",
            "zongji.toml:11:7: data.dir must be a path in quotes",
            "zongji.toml:12:2: nobody knows the key telephony; known are sip, rtp, media, http, browser, data, models, dialplans, speech, record, trace, limits, seat, trunk, outbound, supervisor, notice, test_route",
        ]
    );
}

#[test]
fn broken_toml_is_shown_with_its_place() {
    let found = problems("[sip]\nmax_calls = \n[rtp\n");
    assert!(found[0].starts_with("zongji.toml:2:"), "{found:?}");
    assert!(found.iter().any(|p| p.starts_with("zongji.toml:3:")), "{found:?}");
    assert!(problems("[sip]\nmax_calls = 1\nmax_calls = 2\n")[0].contains("zongji.toml:3:1"));
}

#[test]
fn settings_that_do_not_go_together_are_found() {
    let cases = [
        ("[sip]\nmax_calls = 3000\n", "need 12000 RTP ports"),
        ("[sip]\nbind = \"0.0.0.0:8080\"\n", "same port"),
        ("[sip]\nbind = \"0.0.0.0:20100\"\n", "holds the SIP port 20100"),
        ("[sip]\nnumbers = []\n", "nobody could call"),
        ("[sip]\npublic_address = \"0.0.0.0\"\n", "others can reach"),
        ("[speech]\nrecogniser = \"whisper\"\n", "names no ggml file"),
        ("[rtp]\nbind = \"::1\"\n", "both be IPv4"),
        ("[rtp]\nstun = \"example.com\"\n", "a host and a port"),
        ("[browser]\nturn = [\"turn:t.example:3478\"]\n", "needs browser.turn_secret"),
        ("[browser]\nstun = [\"turn:t.example:3478\"]\n", "STUN servers, such as"),
        ("[browser]\nstun = [\"stun:t.example\"]\n[http]\nbind = \"off\"\n", "told over HTTP"),
        ("[browser]\nturn_ttl_s = 5\n", "from 60 to 86400"),
        ("[[seat]]\nuser = \"a\"\n", "seat[0].password is missing"),
        ("[[seat]]\nuser = \"400\"\npassword = \"x\"\n", "'400' is used twice"),
        ("[[seat]]\nuser = \"a b\"\npassword = \"x\"\n", "cannot be the user part"),
        ("[[test_route]]\nuser = \"b\"\nkind = \"bridge\"\n", "needs a target"),
        ("[[test_route]]\nuser = \"b\"\nkind = \"echo\"\ntarget = \"sip:a@b\"\n", "only a bridge"),
        ("[[test_route]]\nuser = \"b\"\nkind = \"bridge\"\ntarget = \"tel:1\"\n", "a SIP address"),
        ("[[test_route]]\nuser = \"b\"\nkind = \"ivr\"\nrecognise = true\n", "needs vad"),
        (
            "[[trunk]]\nname = \"a\"\nservers = [\"sip:192.0.2.1\"]\ntransfer = \"refers\"\n",
            "one of bridge, refer; did you mean refer?",
        ),
        ("[[outbound]]\nrole = \"seats\"\nallow = [\"010\"]\n", "one of flow, seat; did you mean seat?"),
        ("seat = 3\n", "[[seat]]"),
        ("sip = 3\n", "a section: [sip]"),
        ("[limits]\nwork_queue = 5\n", "nobody knows the key limits.work_queue"),
        ("[limits]\nmax_call_s = 1\n", "from 10 to 86400"),
        ("[limits]\nworkers = 99999999999999999999\n", "from 0 to 256"),
    ];
    for (text, wanted) in cases {
        let found = problems(text);
        assert!(found.iter().any(|p| p.contains(wanted)), "{text:?} gives {found:?}");
    }
}

#[test]
fn a_password_is_not_printed_and_not_quoted_in_a_problem() {
    let c = Config::parse("[[seat]]\nuser = \"8001\"\npassword = \"hunter22hunter\"\n", file()).expect("right");
    assert!(!format!("{c:?}").contains("hunter"));
    assert_eq!(c.seats[0].password.expose(), "hunter22hunter");
    assert_eq!(c.seats[0].queues, ["*"]);
    let c = Config::parse("[browser]\nturn_secret = \"hunter22hunter\"\n", file()).expect("right");
    assert!(!format!("{c:?}").contains("hunter"));
    let found = problems("[[seat]]\nuser = \"8001\"\npassword = [\"hunter22hunter\"]\n").join("\n");
    assert!(!found.contains("hunter"), "{found}");
}

#[test]
fn a_missing_or_unreadable_file_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a folder");
    let e = Config::load(Some(&dir.path().join("no.toml"))).expect_err("missing");
    assert!(e[0].to_string().contains("no.toml: there is no such file"), "{}", e[0]);
    let binary = dir.path().join("bad.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0]).expect("written");
    assert!(Config::load(Some(&binary)).expect_err("binary")[0].what.contains("UTF-8"));
    assert!(Config::load(Some(dir.path())).expect_err("a folder")[0].what.contains("cannot be read"));
}

#[test]
fn settings_changed_by_hand_are_checked_like_a_file() {
    let mut c = Config::default().checked().expect("the defaults go together");
    c.sip.max_calls = 9_999;
    let found = c.checked().expect_err("too many calls");
    assert!(found[0].to_string().starts_with("settings: 9999 calls need"), "{}", found[0]);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\PC|\n){0,200}") {
        if let Err(found) = Config::parse(&text, file()) {
            prop_assert!(!found.is_empty());
        }
    }

    #[test]
    fn a_damaged_example_file_is_read_or_refused_with_a_place(at in 0usize..2000, byte in " -~") {
        let mut text = repository_file("zongji.example.toml");
        let at = text.floor_char_boundary(at.min(text.len() - 1));
        let end = text.ceil_char_boundary(at + 1);
        text.replace_range(at..end, &byte);
        if let Err(found) = Config::parse(&text, file()) {
            prop_assert!(!found.is_empty());
        }
    }
}

#[test]
fn codecs_are_taken_in_their_order_and_an_unknown_one_is_named() {
    let c = Config::parse("[media]\ncodecs = [\"g722\", \"PCMA\", \"PCMA\"]\ndtx = true\n", file()).expect("right");
    assert_eq!((c.media.codecs, c.media.dtx), (vec![Codec::G722, Codec::Pcma], true));
    let of = |list: &str| problems(&format!("[media]\ncodecs = {list}\n"));
    let unknown = of("[\"PCMA\", \"opsu\"]");
    assert!(unknown[0].contains("\"opsu\"; did you mean opus?") && unknown[0].contains("PCMU"), "{unknown:?}");
    for wrong in ["[]", "\"PCMA\"", "[8]"] {
        assert!(of(wrong)[0].contains("a list of codecs"), "{wrong}");
    }
    let built_in = |name: &str| Config::parse(&format!("[media]\ncodecs = [\"{name}\"]"), file()).is_ok();
    assert_eq!((built_in("opus"), built_in("G729")), (cfg!(feature = "opus"), cfg!(feature = "g729")));
}
