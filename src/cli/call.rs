//! `zongji call`: a caller to test with.

use super::{Context, out, setup};
use crate::server::phone::{Act, Phone, PhoneNews, PhoneSettings, Step, When};
use crate::server::switchboard::local_address;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// Whom to call, such as sip:400@127.0.0.1:5060.
    #[arg(value_parser = address)]
    uri: String,
    /// Say this WAV file when the prompt has ended (repeatable; steps run in the order given).
    #[arg(long, value_name = "FILE.wav")]
    say: Vec<PathBuf>,
    /// Press these keys when the prompt has ended (repeatable).
    #[arg(long, value_name = "KEYS", value_parser = keys)]
    key: Vec<String>,
    /// The next step interrupts the prompt this many milliseconds into it.
    #[arg(long, value_name = "MS")]
    interrupt: Vec<u32>,
    /// The next step comes this many milliseconds after the one before, whatever is heard.
    #[arg(long, value_name = "MS")]
    wait: Vec<u32>,
    /// Put the other side on hold for this many milliseconds.
    #[arg(long, value_name = "MS")]
    hold: Vec<u32>,
    /// Hang up this many milliseconds after the last step.
    #[arg(long, value_name = "MS")]
    hangup_after: Option<u32>,
    /// Write what is heard to this WAV file.
    #[arg(long, value_name = "FILE.wav")]
    record: Option<PathBuf>,
    /// Calling number.
    #[arg(long, default_value = "13800138000")]
    from: String,
    /// Local SIP address (default: the one that leads to whom is called).
    #[arg(long)]
    bind: Option<SocketAddr>,
    /// Longest call in seconds; without a step left it ends after 30 s by itself.
    #[arg(long, default_value_t = 120)]
    limit: u64,
}

/// A reader of `--json` always finds the outcome in the last line, also of a call that could not be placed.
pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let done = call(context, args);
    if let Err(error) = &done
        && context.json
    {
        out::json(&serde_json::json!({"event": "over", "code": null, "steps_done": 0, "error": format!("{error:#}")}));
    }
    done
}

fn call(context: &Context, args: Args) -> anyhow::Result<bool> {
    let script = script(std::env::args().skip(1), args.hangup_after)?;
    let steps = script.len();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let bind = args.bind.unwrap_or_else(|| towards(&args.uri));
    let mut settings = PhoneSettings::new(bind, &args.from);
    settings.limit_s = args.limit;
    let json = context.json;
    let result = runtime.block_on(async {
        let mut phone = Phone::start(settings).await?;
        setup::stop_on_signal(phone.stopper())?;
        let result = phone.call(&args.uri, script, &mut |news| tell(json, &news)).await;
        phone.agent().shutdown().await; // also after an error: the goodbye must be out before the process ends
        anyhow::Ok(result?)
    })?;
    if let Some(file) = &args.record {
        crate::server::sound::write(file, &result.heard).map_err(anyhow::Error::msg)?;
    }
    let complete = result.code == 200 && result.steps_done == steps;
    if !complete && !json {
        match result.code {
            408 => say!("nobody answered"),
            200 => say!("the call ended after {} of {steps} steps", result.steps_done),
            code => say!("the call was not answered: {code}"),
        }
    }
    Ok(complete)
}

/// An address of this machine from which the one to be called can be reached.
fn towards(uri: &str) -> SocketAddr {
    let host = uri.rsplit_once('@').map_or(uri, |(_, host)| host);
    let host = host.trim_start_matches("sip:").split([';', '?']).next().unwrap_or_default();
    let port = if host.rsplit_once(':').is_some_and(|(before, port)| !before.is_empty() && port.parse::<u16>().is_ok())
    {
        ""
    } else {
        ":5060"
    };
    let found = format!("{host}{port}").to_socket_addrs().ok().and_then(|mut all| all.next());
    let ip = found.map_or(std::net::IpAddr::from([127, 0, 0, 1]), |at| local_address(at.ip()));
    SocketAddr::new(ip, 0)
}

/// The steps in the order in which they were typed.
fn script(args: impl Iterator<Item = String>, hangup_after: Option<u32>) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut when = When::PromptEnd;
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg, None),
        };
        if !matches!(name.as_str(), "--say" | "--key" | "--interrupt" | "--wait" | "--hold") {
            continue;
        }
        let value = value.or_else(|| args.next()).unwrap_or_default();
        match name.as_str() {
            "--interrupt" => when = When::Into(value.parse()?),
            "--wait" => when = When::After(value.parse()?),
            "--say" => steps.push(Step { when: take(&mut when), act: say(Path::new(&value))? }),
            "--key" => steps.push(Step { when: take(&mut when), act: Act::Keys(value) }),
            _ => {
                steps.push(Step { when: take(&mut when), act: Act::Hold(true) });
                steps.push(Step { when: When::After(value.parse()?), act: Act::Hold(false) });
            }
        }
    }
    anyhow::ensure!(
        when == When::PromptEnd,
        "--interrupt and --wait say when the next step comes, and none follows: put --say or --key behind it"
    );
    if let Some(ms) = hangup_after {
        steps.push(Step { when: When::After(ms), act: Act::HangUp });
    }
    Ok(steps)
}

/// For clap: what is no SIP address is a wrong call.
fn address(typed: &str) -> Result<String, String> {
    match typed.strip_prefix("sip:") {
        Some(rest) if !rest.is_empty() => Ok(typed.to_owned()),
        _ => Err("write it as sip:NUMBER@HOST or sip:NUMBER@HOST:PORT".into()),
    }
}

/// For clap: what is no key is a wrong call.
fn keys(typed: &str) -> Result<String, String> {
    match typed.chars().find(|k| !matches!(k, '0'..='9' | '*' | '#' | 'A'..='D')) {
        Some(wrong) => Err(format!("`{wrong}` is no key; give 0-9, *, # or A-D")),
        None if typed.is_empty() => Err("empty; give 0-9, *, # or A-D".into()),
        None => Ok(typed.to_owned()),
    }
}

fn take(when: &mut When) -> When {
    std::mem::replace(when, When::PromptEnd)
}

fn say(file: &Path) -> anyhow::Result<Act> {
    let pcm = crate::server::sound::read(file).map_err(anyhow::Error::msg)?;
    Ok(Act::Say(pcm, file.file_stem().unwrap_or_default().to_string_lossy().into_owned()))
}

/// Prints what a phone tells.
pub fn tell(json: bool, news: &PhoneNews) {
    if json {
        out::json(&as_json(news));
        return;
    }
    match news {
        PhoneNews::Ringing => say!("ringing"),
        PhoneNews::Answered(ms) => say!("answered after {ms} ms"),
        PhoneNews::PromptBegan => say!("they speak"),
        PhoneNews::PromptEnded(ms) => say!("they fell silent after {:.1} s", *ms as f64 / 1000.0),
        PhoneNews::Says(what) => say!("I say {what}"),
        PhoneNews::Presses(keys) => say!("I press {keys}"),
        PhoneNews::Hold(ok) => say!("hold {}", if *ok { "accepted" } else { "refused" }),
        PhoneNews::Over(r) => say!(
            "over: {} after {:.1} s, {} hung up",
            r.code,
            r.talked_ms as f64 / 1000.0,
            if r.by_them { "they" } else { "I" }
        ),
    }
}

fn as_json(news: &PhoneNews) -> serde_json::Value {
    use serde_json::json;
    match news {
        PhoneNews::Ringing => json!({"event": "ringing"}),
        PhoneNews::Answered(ms) => json!({"event": "answered", "ms": ms}),
        PhoneNews::PromptBegan => json!({"event": "prompt_began"}),
        PhoneNews::PromptEnded(ms) => json!({"event": "prompt_ended", "ms": ms}),
        PhoneNews::Says(what) => json!({"event": "says", "what": what}),
        PhoneNews::Presses(keys) => json!({"event": "presses", "keys": keys}),
        PhoneNews::Hold(ok) => json!({"event": "hold", "accepted": ok}),
        PhoneNews::Over(r) => json!({
            "event": "over", "code": r.code, "by": if r.by_them { "them" } else { "us" }, "talked_ms": r.talked_ms,
            "steps_done": r.steps_done,
            "packets_in": r.stats.as_ref().map(|s| s.packets_in), "packets_out": r.stats.as_ref().map(|s| s.packets_out),
            "lost": r.stats.as_ref().map(|s| s.lost), "jitter_ms": r.stats.as_ref().map(|s| s.jitter_ms),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_keep_the_order_in_which_they_were_typed() {
        let typed = ["call", "sip:400@h", "--key", "1", "--interrupt", "500", "--key=2#", "--hold", "1000"];
        let steps = script(typed.iter().map(|s| (*s).to_string()), Some(300)).unwrap();
        let whens: Vec<When> = steps.iter().map(|s| s.when).collect();
        use When::{After, Into, PromptEnd};
        assert_eq!(whens, [PromptEnd, Into(500), PromptEnd, After(1000), After(300)]);
        assert_eq!(steps[1].act, Act::Keys("2#".into()));
        assert_eq!(steps[4].act, Act::HangUp);
    }

    #[test]
    fn what_is_no_key_is_said_before_anybody_is_called() {
        let error = keys("1x").unwrap_err();
        assert!(error.contains('x') && error.contains("0-9"), "{error}");
        assert!(keys("").is_err() && keys("1*#A").is_ok());
    }
}
