//! `zongji seat`: a seat's phone to test with: registers, answers, speaks, hangs up.

use super::call::tell;
use super::{Context, setup};
use crate::server::phone::{Act, Phone, PhoneSettings, Step, When};
use crate::sip::Credential;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args)]
pub struct Args {
    /// The hotline's SIP address.
    #[arg(long, default_value = "127.0.0.1:5060")]
    server: SocketAddr,
    /// SIP user of the seat (see [[seat]] in the configuration).
    #[arg(long, default_value = "8001")]
    user: String,
    /// Its password.
    #[arg(long, default_value = "seat8001")]
    password: String,
    /// Say this WAV file when the briefing has ended.
    #[arg(long, value_name = "FILE.wav")]
    say: Option<PathBuf>,
    /// Ring this long before answering, in milliseconds.
    #[arg(long, default_value_t = 800)]
    ring: u64,
    /// Hang up this many milliseconds after the last word said, or after answering (0: never).
    #[arg(long, default_value_t = 0)]
    talk: u32,
    /// Wait this many seconds for a call.
    #[arg(long, default_value_t = 3600)]
    wait: u64,
    /// Write what is heard to this WAV file.
    #[arg(long, value_name = "FILE.wav")]
    record: Option<PathBuf>,
    /// Local SIP address.
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let mut script = Vec::new();
    if let Some(file) = &args.say {
        let pcm = crate::server::sound::read(file).map_err(anyhow::Error::msg)?;
        script.push(Step { when: When::PromptEnd, act: Act::Say(pcm, file.display().to_string()) });
    }
    if args.talk > 0 {
        script.push(Step { when: When::After(args.talk), act: Act::HangUp });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let json = context.json;
    let result = runtime.block_on(async {
        let mut phone = Phone::start(PhoneSettings::new(args.bind, &args.user)).await?;
        let credential = Credential { user: args.user.clone(), password: args.password.clone(), realm: None };
        let agent = phone.agent().clone();
        let stopped = phone.stopper();
        setup::stop_on_signal(stopped.clone())?;
        agent.register(args.server, &credential, 300).await.map_err(|e| {
            anyhow::anyhow!(
                "{} could not register at {}: {e}; is the hotline running there, and are user and password those of a \
                 [[seat]] of its configuration?",
                args.user,
                args.server
            )
        })?;
        if json {
            super::out::json(&serde_json::json!({"event": "registered", "user": args.user, "server": args.server}));
        } else {
            say!("{} is registered at {} and waits for calls", args.user, args.server);
        }
        let wait = Duration::from_secs(args.wait);
        let result = phone.answer(wait, args.ring, script, &mut |news| tell(json, &news)).await;
        // The hotline shall not ring a phone that is gone; and our goodbye must be out before the process ends.
        let _it_expires_anyway =
            tokio::time::timeout(Duration::from_secs(2), agent.register(args.server, &credential, 0)).await;
        agent.shutdown().await;
        anyhow::Ok((result?, stopped.is_cancelled()))
    })?;
    let (result, stopped) = result;
    if stopped && result.is_none() {
        return Ok(true);
    }
    let Some(result) = result else {
        anyhow::bail!("nobody called within {} s", args.wait);
    };
    if let Some(file) = &args.record {
        crate::server::sound::write(file, &result.heard).map_err(anyhow::Error::msg)?;
    }
    Ok(result.code == 200)
}
