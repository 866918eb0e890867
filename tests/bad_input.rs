//! What is wrong is said where it was made, and nothing else changes.

use crate::common::{self, ONE_ORDER, keys, root};
use rand::{Rng, RngExt, SeedableRng};
use std::net::UdpSocket;
use zongji::engines::EngineSettings;
use zongji::server::{Hotline, StartError};

/// A copy of the shipped dialplans in which one file is changed.
fn dialplans(file: &str, change: impl Fn(String) -> String) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("dialplans")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = if name.to_str() == Some(file) { change(text) } else { text };
        std::fs::write(copy.path().join(name), text).unwrap();
    }
    copy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_dialplan_changes_nothing_on_reload_and_names_its_place() {
    let running = common::start(|_| {}).await;
    let before = running.hotline.flow_set();
    let broken = dialplans("order_query.yaml", |t| {
        t.replace("then: {agree: save,", "then: {agree: nowhere,").replace("category: 催单", "category: 没有的类别")
    });
    match running.hotline.reload(broken.path()) {
        Err(StartError::Dialplan(problems)) => {
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(said.iter().any(|s| s.contains("nowhere") && s.contains("order_query.yaml:")), "{said:#?}");
            assert!(said.iter().any(|s| s.contains("没有的类别")), "every problem is listed: {said:#?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(running.hotline.flow_set(), before);
    let sound = dialplans("hotline.yaml", |t| t.replace("众吉商城智能客服为您服务", "众吉商城智能客服欢迎您"));
    let after = running.hotline.reload(sound.path()).unwrap();
    assert_ne!(after, before);
    assert_eq!(running.hotline.flow_set(), after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_cannot_be_loaded_is_named_and_keys_still_work() {
    let models = tempfile::tempdir().unwrap();
    for entry in walk(&root().join("models")) {
        let to = models.path().join(entry.strip_prefix(root().join("models")).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&entry, &to).unwrap();
        if to.extension().is_some_and(|e| e == "onnx") && to.display().to_string().contains("asr") {
            std::fs::write(&to, b"not a model").unwrap();
        }
    }
    let settings = EngineSettings { models: Some(models.path().into()), builtin: false, ..EngineSettings::default() };
    let engines = zongji::engines::load(&settings);
    assert!(engines.recognizer.is_none());
    assert!(engines.problems.iter().any(|p| p.contains(".onnx")), "the file is named: {:?}", engines.problems);
    let data = tempfile::tempdir().unwrap();
    let hotline = Hotline::start(common::settings(&data), common::flows(), engines).await.unwrap();
    let sip = hotline.sip_address();
    let running = common::Running::of(hotline, sip, data);
    running.call(ONE_ORDER, ["1", "1"].map(keys).to_vec()).await;
    running.settle().await;
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
    assert!(turns.iter().any(|t| t.node == "one" && t.by_keys && !t.reply.is_empty()), "{turns:?}");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_of_any_bytes_on_any_port_do_not_disturb_a_call() {
    let mut first = 0;
    let running = common::start(|s| first = *s.rtp_ports.start()).await;
    let sip = running.sip;
    let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
    let noise = std::thread::spawn(move || {
        // A stranger's address: only the host that a description names may be learned as a source.
        let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4475);
        let mut bytes = [0u8; 1500];
        let mut sent = 0u32;
        loop {
            for _ in 0..200 {
                let length = rng.random_range(0..bytes.len());
                rng.fill_bytes(&mut bytes[..length]);
                // Half of them look like RTP at first sight.
                if length > 12 && rng.random_bool(0.5) {
                    bytes[0] = 0x80;
                    bytes[1] = 8;
                }
                let port = if rng.random_bool(0.2) { sip.port() } else { first + rng.random_range(0..200) };
                sent += u32::from(socket.send_to(&bytes[..length], ("127.0.0.1", port)).is_ok());
            }
            // A breath, so that two cores can also run the call.
            if stopped.recv_timeout(std::time::Duration::from_millis(20)).is_ok() {
                break;
            }
        }
        sent
    });
    let result = running.call(ONE_ORDER, ["1", "1"].map(keys).to_vec()).await;
    let _ended_already = stop.send(());
    let sent = noise.join().unwrap();
    running.settle().await;
    assert_eq!(result.steps_done, 2);
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
    assert_eq!(turns.iter().filter(|t| t.by_keys).count(), 2, "{turns:?}");
    assert!(sent > 1000, "{sent}");
    let ignored = running.hotline.metrics();
    let counted = |name: &str| {
        let line = ignored.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
    };
    assert!(counted("zongji_rtp_ignored_total") > 0 && counted("zongji_sip_dropped_total") > 0, "{ignored}");
    assert_eq!(counted("zongji_call_panics_total"), 0);
}
